"""Shares: what commits brought, in pieces that one worker loads into the index table."""

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
"""Runs that a share is compared with at most. It only spares updates."""


@dataclass(frozen=True)
class Share:
    """Rows ``first`` … ``end`` (not included) of a run, to be loaded into ``table``.

    ``share``: its name, unique in a table's life. ``sequence``: of all that it says. ``commit``: that brought it. ``attempt``: only entries
    that lead into part-files of this attempt, all where it is "". ``newer``: runs whose hashes are left out: they say something newer.
    ``fresh``: the table is new and nobody reads it, so items are put whatever stands there. Whoever gives such a share to several must be
    certain that each of them is over before the table is read."""

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
    """What a table lacks cannot be told commit by commit any more: it was swept, or a rebuild came. It is to be filled anew."""


@dataclass(frozen=True)
class _Brought:
    """A run that a commit brought, and what of it is new."""

    commit: int
    run: Run
    sequence: int
    attempt: str


def shares_of(store: ObjectStore, timeline: Timeline, table: str, after: int, until: int, at_most: int = SHARE_ENTRIES) -> Iterator[Share]:
    """What the commits ``after`` … ``until`` (the first not, the last included) changed of where records lie, in shares of ``at_most``
    entries. Raises RunsGone."""
    brought = [one for number in range(after + 1, until + 1) for one in _brought(store, timeline, number)]
    for one in brought:
        # Only merges: what a compaction's run holds beside what it moved is no news.
        newer = [other.run.path for other in brought if other.sequence > one.sequence and not other.attempt]
        for first, end in _cuts(one, at_most):
            name = f"{one.commit:012d}-{layout.run_name(one.run.path)}-{first}-{end}"
            yield Share(name, one.run.path, first, end, one.sequence, table, one.commit, one.attempt, tuple(newer[-NEWER_MAX:]))


def shares_to_fill(
    store: ObjectStore, timeline: Timeline, state: State, table: str, at_most: int = SHARE_ENTRIES, fresh: bool = True
) -> Iterator[Share]:
    """All that is live at ``state``, for a new table. Raises RunsGone."""
    added = _added(timeline, state)
    runs = [run.path for run in state.runs]
    for place, path in enumerate(runs):
        run = _open(store, path)
        for first in range(0, run.count, at_most):
            end = min(first + at_most, run.count)
            name = f"fill-{state.commit:012d}-{layout.run_name(path)}-{first}-{end}"
            at = added[path]
            yield Share(name, path, first, end, sequence(at), table, at, newer=tuple(runs[:place]), fresh=fresh)


def _brought(store: ObjectStore, timeline: Timeline, number: int) -> Iterator[_Brought]:
    entry = timeline.entry(number)
    if entry is None:
        raise Damaged(f"{layout.commit(number)}: the timeline entry is gone; restore it from a copy of the store")
    if entry.generation is not None:
        raise RunsGone(f"commit {number} is a rebuild")
    for ref in entry.runs_added:
        if not entry.runs_removed:
            yield _Brought(number, _open(store, ref.path), sequence(number), "")
        elif entry.kind == "compact":
            # Everything else in its run lies where it lay. Tiers change no place at all.
            yield _Brought(number, _open(store, ref.path), sequence(_position(timeline, number, entry), number), entry.writer)


def _position(timeline: Timeline, number: int, entry: Entry) -> int:
    """The newest commit that added one of the runs that a compaction removed: what was merged since stands above it."""
    removed = set(entry.runs_removed)
    for earlier in range(number - 1, 0, -1):
        found = timeline.entry(earlier)
        if found is None or found.generation is not None or removed & {run.path for run in found.runs_added}:
            return earlier
    raise Damaged(f"{layout.commit(number)}: it removes runs that no commit added; run 'recon verify'")


def _added(timeline: Timeline, state: State) -> dict[str, int]:
    """Run of a state → the commit since which it stands. A run that stands now has stood without a break, so that is found by bisection."""
    found: dict[str, int] = {}

    def between(low: int, high: int, runs: Sequence[str]) -> None:
        """``runs`` do not stand at ``low`` and do at ``high``."""
        if high - low == 1 or not runs:
            found.update(dict.fromkeys(runs, high))
            return
        middle = (low + high) // 2
        standing = {run.path for run in timeline.at(middle).runs}
        between(low, middle, [run for run in runs if run in standing])
        between(middle, high, [run for run in runs if run not in standing])

    between(state.rebuilt - 1 if state.rebuilt else 0, state.commit, [run.path for run in state.runs])
    return found


def _cuts(brought: _Brought, at_most: int) -> Iterator[tuple[int, int]]:
    """Rows of a run in pieces, each with at most so many entries that count."""
    run = brought.run
    if not brought.attempt:
        yield from ((first, min(first + at_most, run.count)) for first in range(0, run.count, at_most))
        return
    wanted = np.array([layout.attempt_of(path) == brought.attempt for path in run.part_files], bool)
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
