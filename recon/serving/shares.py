"""Shares: the changes of commits, cut into pieces that one worker each loads into the index table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from recon.errors import Damaged, ReconError
from recon.serving.items import sequence
from recon.state.runs import Run, open_run
from recon.state.timeline import Entry, State, Timeline
from recon.storage import layout
from recon.storage.port import NotFound, ObjectStore

SHARE_ENTRIES = 100_000
_CHUNK = 1 << 20
NEWER_MAX = 64
"""Newer runs that a share is compared with at most. The comparison only saves updates."""


@dataclass(frozen=True)
class Share:
    """Rows ``first`` … ``end`` (not included) of a run, to be loaded into ``table``.

    ``share``: its name, unique in a table's life. ``sequence``: of all its pointers. ``commit``: that added the run. ``attempt``: only
    entries that point into part-files of this attempt, or all if it is "". ``newer``: runs whose hashes are left out, because they have
    newer pointers. ``fresh``: the table is new and not read yet, so items are put unconditionally. Whoever gives such a share to several
    workers must make sure that all of them have ended before the table is read."""

    share: str
    run: str
    first: int
    end: int
    sequence: int
    table: str
    commit: int
    attempt: str = ""
    newer: tuple[str, ...] = ()
    fresh: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(body: dict[str, Any]) -> Share:
        return Share(**{**body, "newer": tuple(body["newer"])})


class RunsGone(ReconError):
    """The commits that a table lacks cannot be loaded any more: their runs were swept, or a rebuild followed. The table must be rebuilt."""


@dataclass(frozen=True)
class _AddedRun:
    """A run that a commit added, and which of its entries are new."""

    commit: int
    run: Run
    sequence: int
    attempt: str


def shares_of(store: ObjectStore, timeline: Timeline, table: str, after: int, until: int, at_most: int = SHARE_ENTRIES) -> Iterator[Share]:
    """The changes of places by the commits after ``after`` up to ``until``, in shares of ``at_most`` entries. Raises RunsGone."""
    added = [run for number in range(after + 1, until + 1) for run in _added_runs(store, timeline, number)]
    for one in added:
        # Only merges: of a compaction's run only the moved entries are new.
        newer = [other.run.path for other in added if other.sequence > one.sequence and not other.attempt]
        for first, end in _cuts(one, at_most):
            name = f"{one.commit:012d}-{layout.run_name(one.run.path)}-{first}-{end}"
            yield Share(name, one.run.path, first, end, one.sequence, table, one.commit, one.attempt, tuple(newer[-NEWER_MAX:]))


def shares_to_fill(
    store: ObjectStore, timeline: Timeline, state: State, table: str, at_most: int = SHARE_ENTRIES, fresh: bool = True
) -> Iterator[Share]:
    """All live entries of ``state``, for a new table. Raises RunsGone."""
    added = _added(timeline, state)
    runs = [run.path for run in state.runs]
    for place, path in enumerate(runs):
        run = _open(store, path)
        for first in range(0, run.count, at_most):
            end = min(first + at_most, run.count)
            name = f"fill-{state.commit:012d}-{layout.run_name(path)}-{first}-{end}"
            at = added[path]
            yield Share(name, path, first, end, sequence(at), table, at, newer=tuple(runs[:place]), fresh=fresh)


def _added_runs(store: ObjectStore, timeline: Timeline, number: int) -> Iterator[_AddedRun]:
    entry = timeline.entry(number)
    if entry is None:
        raise Damaged(f"{layout.commit(number)}: the timeline entry is gone; restore it from a copy of the store")
    if entry.generation is not None:
        raise RunsGone(f"commit {number} is a rebuild")
    for ref in entry.runs_added:
        if not entry.runs_removed:
            yield _AddedRun(number, _open(store, ref.path), sequence(number), "")
        elif entry.kind == "compact":
            # Other entries of its run have not moved. Tiers move no record at all.
            yield _AddedRun(number, _open(store, ref.path), sequence(_position(timeline, number, entry), number), entry.writer)


def _position(timeline: Timeline, number: int, entry: Entry) -> int:
    """The newest commit that added one of the runs that a compaction removed: later merges come after it."""
    removed = set(entry.runs_removed)
    for earlier in range(number - 1, 0, -1):
        found = timeline.entry(earlier)
        if found is None or found.generation is not None or removed & {run.path for run in found.runs_added}:
            return earlier
    raise Damaged(f"{layout.commit(number)}: it removes runs that no commit added; run 'recon verify'")


def _added(timeline: Timeline, state: State) -> dict[str, int]:
    """Run of a state → the commit that added it. A run is in every state since then, so bisection finds the commit."""
    found: dict[str, int] = {}

    def between(low: int, high: int, runs: Sequence[str]) -> None:
        """``runs`` are in the state at ``high``, but not in the one at ``low``."""
        if high - low == 1 or not runs:
            found.update(dict.fromkeys(runs, high))
            return
        middle = (low + high) // 2
        there = {run.path for run in timeline.at(middle).runs}
        between(low, middle, [run for run in runs if run in there])
        between(middle, high, [run for run in runs if run not in there])

    between(state.rebuilt - 1 if state.rebuilt else 0, state.commit, [run.path for run in state.runs])
    return found


def _cuts(added: _AddedRun, at_most: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows of a run, each with at most ``at_most`` entries that count."""
    run = added.run
    if not added.attempt:
        yield from ((first, min(first + at_most, run.count)) for first in range(0, run.count, at_most))
        return
    wanted = np.array([layout.attempt_of(path) == added.attempt for path in run.part_files], bool)
    begins, seen = [], 0
    for start in range(0, run.count, _CHUNK):
        rows = start + np.flatnonzero(wanted[run.column("file", start, min(start + _CHUNK, run.count))])
        begins += rows[(seen + np.arange(len(rows))) % at_most == 0].tolist()
        seen += len(rows)
    yield from pairwise([*begins, run.count])


def _open(store: ObjectStore, path: str) -> Run:
    try:
        return open_run(store, path)
    except NotFound:
        raise RunsGone(f"{path} was swept") from None
