"""The embedded engine behind the port: one DuckDB in this process.

Belongs here: nothing but the port's methods. Does not belong here: queries, which are beside this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from recon import merge, prefetch, reduce
from recon.config import Config
from recon.engines.port import Written
from recon.intake.batches import Manifest
from recon.prefetch import Prefetched
from recon.state.reduced import Figures
from recon.state.timeline import State, Timeline
from recon.storage.port import ObjectStore


class Embedded:
    """See recon.engines.port.Engine."""

    def reduce(self, store: ObjectStore, config: Config, manifests: Sequence[Manifest]) -> Iterator[Figures]:
        for manifest in manifests:
            yield reduce.reduce_window(store, config, manifest)

    def prefetch(self, store: ObjectStore, config: Config, state: State, range_figures: Sequence[Figures]) -> Prefetched:
        return prefetch.prefetch(store, state, range_figures)

    def merge(
        self,
        store: ObjectStore,
        config: Config,
        timeline: Timeline,
        state: State,
        todo: Sequence[Figures],
        prefetched: Prefetched | None,
        writer: str,
        progress: Callable[[float], None],
    ) -> Written:
        return merge.merge_here(store, config, timeline, state, todo, prefetched, writer, progress)
