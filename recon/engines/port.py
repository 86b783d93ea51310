"""The port of an engine, which carries out reduce, pre-fetch and merge: windows and figures in, figures out.

All engines give equal artifacts for equal input, byte for byte, and continue from the state of any other engine; one suite
(tests/engines/test_engines.py) tests all of them. The choice of engine is not part of the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from recon.model.conflicts import Pairs
from recon.model.totals import Totals

if TYPE_CHECKING:
    import pyarrow as pa

    from recon.config import Config
    from recon.engines.prefetched import Prefetched
    from recon.intake.manifests import Manifest
    from recon.state.reduced import Figures
    from recon.state.timeline import RunRef, State
    from recon.storage.port import ObjectStore


@dataclass(frozen=True)
class Written:
    """The result of a merge. ``slices``: figures of each slice, without its records; ``run``: the run of all part-files, None where nothing
    changed; ``superseded``: bytes of the existing records that new ones replace."""

    slices: list[Slice]
    run: RunRef | None
    superseded: int


@dataclass(frozen=True)
class MergeTask:
    """What a merge works on. ``state``: the commit is made onto it. ``todo``: figures of the windows' new revisions. ``prefetched``: is
    used where it matches the state; keys that later commits touched are read again. ``writer``: names the attempt in the store."""

    state: State
    todo: tuple[Figures, ...]
    prefetched: Prefetched | None
    writer: str

    @property
    def place(self) -> str:
        """For messages: ``the merge of W1, W2: ``."""
        return f"the merge of {', '.join(figures.window for figures in self.todo)}: "


class Engine(Protocol):
    """An engine writes to the store under names that no other attempt has; nothing is visible before the caller's commit."""

    def reduce(self, store: ObjectStore, config: Config, manifests: Sequence[Manifest]) -> Iterator[Figures]:
        """Yields one Figures per manifest, in order. Raises WrongInput at the first bad window; the windows before it stay reduced."""
        ...

    def prefetch(self, store: ObjectStore, config: Config, state: State, range_figures: Sequence[Figures]) -> Prefetched:
        """Writes one file of the existing records of the keys that the range touches, as of ``state``, in order of hash."""
        ...

    def merge(self, store: ObjectStore, config: Config, task: MergeTask, progress: Callable[[float], None]) -> Written:
        """Writes part-files and their run, for a commit onto the task's state. ``progress`` gets the share that is done, from 0 to 1."""
        ...


@dataclass(frozen=True)
class Sources:
    """Local Parquet files by window name: artifacts of the range's new revisions; artifacts and events of every window before the
    merge; events of every window after it."""

    artifacts: Mapping[str, Path]
    artifacts_old: Mapping[str, Path]
    events_new: Mapping[str, Path]
    events_old: Mapping[str, Path]


@dataclass(frozen=True)
class Moved:
    """Events of a window that became suppressed, less those that stopped being so: totals and additive measures."""

    totals: Totals
    measures: dict[str, str | int]


@dataclass(frozen=True)
class Recount:
    """Change in the contributions of a window outside the range: rows counted and additive measures."""

    rows: int
    measures: dict[str, str | int]


@dataclass(frozen=True)
class Slice:
    """The result of merging one slice. ``records``: hi, lo, length (bytes) and record (its words), in order of hash."""

    records: pa.Table
    statuses: dict[str, int]
    """Change in the number of artifacts by status."""
    counted: dict[str, Totals]
    """Per window of the range: rows counted in the contributions after the merge."""
    suppressed: dict[str, int]
    measures: dict[str, dict[str, str | int]]
    moved: dict[str, Moved] = field(default_factory=dict)
    recounted: dict[str, Recount] = field(default_factory=dict)
    """Windows outside the range: changes in the records, which must tie with ``moved``."""
    conflicts_before: Pairs = field(default_factory=dict)
    conflicts: Pairs = field(default_factory=dict)
    """Suppressed rows that differ from the row that counts, before and after the merge, per pair of windows that it can change."""
