"""The distributed engine behind the port: Spark, local, on a standalone cluster or on EMR.

What runs in tasks and what on the driver, and why: docs/decisions/010-spark.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from recon.config import Config
from recon.engines.port import MergeTask, Written
from recon.engines.prefetched import Prefetched
from recon.engines.spark import merge, reduce
from recon.intake.manifests import Manifest
from recon.state.reduced import Figures
from recon.state.timeline import State
from recon.storage.port import ObjectStore


class Spark:
    """See recon.engines.port.Engine."""

    def reduce(self, store: ObjectStore, config: Config, manifests: Sequence[Manifest]) -> Iterator[Figures]:
        return reduce.reduce_range(store, config, manifests)

    def prefetch(self, store: ObjectStore, config: Config, state: State, range_figures: Sequence[Figures]) -> Prefetched:
        return merge.prefetch_range(store, config, state, range_figures)

    def merge(self, store: ObjectStore, config: Config, task: MergeTask, progress: Callable[[float], None]) -> Written:
        written = merge.merge_range(store, config, task)
        progress(1)
        return written
