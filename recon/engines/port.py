"""The port behind which an engine carries out reduce, pre-fetch and merge: windows and figures in, figures out.

All engines give equal artifacts for equal input, to the byte, and go on from whatever state another has left: one suite
(tests/engines/test_engines.py) holds each to it. None of them is part of the rules.
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
    """What the part-files of one merge came to: figures of each slice, without its records; the run of all part-files, None where nothing
    changed; and the bytes of existing records that it supersedes."""

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
    """What carries out the stages. Everything is written to the store, under names that no other attempt has; nothing is visible before
    the caller's commit."""

    def reduce(self, store: ObjectStore, config: Config, manifests: Sequence[Manifest]) -> Iterator[Figures]:
        """One Figures per manifest, in order. Raises WrongInput at the first window that is bad; those before it stay reduced."""
        ...

    def prefetch(self, store: ObjectStore, config: Config, state: State, range_figures: Sequence[Figures]) -> Prefetched:
        """The existing records of the keys that the range touches, as of ``state``, in one file in order of hash."""
        ...

    def merge(self, store: ObjectStore, config: Config, task: MergeTask, progress: Callable[[float], None]) -> Written:
        """Writes part-files and their run, for a commit onto the task's state. ``progress`` gets the share that is done, from 0 to 1."""
        ...


@dataclass(frozen=True)
class Sources:
    """Local Parquet files by window name: artifacts of the range's new revisions; artifacts and events of every window as it stood
    before, and events as it will stand."""

    artifacts: Mapping[str, Path]
    artifacts_old: Mapping[str, Path]
    events_new: Mapping[str, Path]
    events_old: Mapping[str, Path]


@dataclass(frozen=True)
class Moved:
    """Events of one window that became suppressed (less those that no longer are): totals and additive measures."""

    totals: Totals
    measures: dict[str, str | int]


@dataclass(frozen=True)
class Recount:
    """Change in what the contributions of a window outside the range come to: rows counted and additive measures."""

    rows: int
    measures: dict[str, str | int]


@dataclass(frozen=True)
class Slice:
    """What the merge of one slice came to. ``records``: hi, lo, length (bytes), check and record (JSON line), in order of hash."""

    records: pa.Table
    statuses: dict[str, int]
    """Change in the number of artifacts by status."""
    counted: dict[str, Totals]
    """Per window of the range: rows counted in the contributions as they will stand."""
    suppressed: dict[str, int]
    measures: dict[str, dict[str, str | int]]
    moved: dict[str, Moved] = field(default_factory=dict)
    recounted: dict[str, Recount] = field(default_factory=dict)
    """Windows outside the range: what changed in the records, which must tie with ``moved``."""
    conflicts_before: Pairs = field(default_factory=dict)
    conflicts: Pairs = field(default_factory=dict)
    """Suppressed rows that differ from the row that counts, before and after: of all pairs of windows that the merge can change."""
