"""The port behind which an engine carries out reduce, pre-fetch and merge: windows and figures in, figures out.

Belongs here: what every engine must do, and which one a configuration names. Does not belong here: the order of a stage, its ties and its
commit, which stand above the port (recon.reduce, recon.prefetch, recon.merge) and are the same whatever is below.

All engines give equal artifacts for equal input, to the byte, and go on from whatever state another has left: one suite
(tests/test_engines.py) holds each to it. None of them is part of the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from recon.errors import WrongUsage

if TYPE_CHECKING:
    from recon.config import Config
    from recon.engines.duckdb.merging import Slice
    from recon.intake.batches import Manifest
    from recon.prefetch import Prefetched
    from recon.state.reduced import Figures
    from recon.state.timeline import RunRef, State, Timeline
    from recon.storage.port import ObjectStore


@dataclass(frozen=True)
class Written:
    """What the part-files of one merge came to: figures of each slice, without its records; the run of all part-files, None where nothing
    changed; and the bytes of standing records that it supersedes."""

    slices: list[Slice]
    run: RunRef | None
    superseded: int


class Engine(Protocol):
    """What carries out the stages. Everything is written to the store, under names that no other attempt has; nothing is visible before
    the caller's commit."""

    def reduce(self, store: ObjectStore, config: Config, manifests: Sequence[Manifest]) -> Iterator[Figures]:
        """One Figures per manifest, in order. Raises WrongInput at the first window that is bad; those before it stay reduced."""
        ...

    def prefetch(self, store: ObjectStore, config: Config, state: State, range_figures: Sequence[Figures]) -> Prefetched:
        """The standing records of the keys that the range touches, as of ``state``, in one file in order of hash."""
        ...

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
        """Part-files and their run, for a commit onto ``state``. ``prefetched`` is read as far as it is right for that state."""
        ...


def engine_of(config: Config) -> Engine:
    """The engine that ``config`` names. Raises WrongUsage where what it needs is not installed."""
    if config.engine.kind == "spark":
        from recon.engines.spark.engine import Spark

        return Spark()
    if config.engine.elsewhere:
        raise WrongUsage(
            f"{config.path}: engine: kind: {config.engine.kind} is submitted to by runs of Dagster ('recon run', or the UI); for anything "
            "else call recon_spark.py on the cluster (docs/operations.md), or name another kind: any goes on from what another left"
        )
    from recon.engines.duckdb.engine import Embedded

    return Embedded()
