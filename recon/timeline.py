"""The timeline: commits 1, 2, 3 …, each made visible by one conditional put; the state is their fold.

Belongs here: entries, their fold, finding the head, committing. Does not belong here: what a merge or a compaction writes.
The protocol and what was rejected: docs/decisions/002-timeline.md.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from recon import layout
from recon.errors import Damaged
from recon.store import AlreadyExists, NotFound, ObjectStore

CHECKPOINT_EVERY = 50


@dataclass(frozen=True)
class RunRef:
    """A run in a store: its path, its entries, and the bytes of the part-files written with it (0 for a merged tier)."""

    path: str
    entries: int
    part_bytes: int = 0

    def to_json(self) -> list[Any]:
        return [self.path, self.entries, self.part_bytes]


@dataclass(frozen=True)
class Entry:
    """One commit as it is stored. ``windows``: name → revision, stateless folder, figures. ``recounted``: name → figures of windows
    outside the range whose duplicates changed. ``totals``: artifacts by status and additive measures of the whole state."""

    kind: str
    writer: str
    rules: str
    windows: dict[str, dict[str, Any]] = field(default_factory=dict)
    recounted: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs_added: tuple[RunRef, ...] = ()
    runs_removed: tuple[str, ...] = ()
    totals: dict[str, Any] = field(default_factory=dict)
    number: int = 0
    time: str = ""


@dataclass(frozen=True)
class State:
    """The fold of the commits 1 … ``commit``. ``runs`` are newest first; ``windows``: name → the latest figures, with the commit
    that last changed them (``commit``) and what it was (``cause``)."""

    commit: int = 0
    rules: str = ""
    time: str = ""
    runs: tuple[RunRef, ...] = ()
    windows: dict[str, dict[str, Any]] = field(default_factory=dict)
    totals: dict[str, Any] = field(default_factory=dict)

    def revision(self, window: str) -> int:
        """The committed revision of a window, 0 if there is none."""
        return int(self.windows[window]["revision"]) if window in self.windows else 0


def apply(state: State, entry: Entry) -> State:
    """The state after one more commit."""
    windows = dict(state.windows)
    for name, committed in entry.windows.items():
        windows[name] = {**committed, "commit": entry.number}
    for name, changed in entry.recounted.items():
        windows[name] = {**windows[name], **changed, "commit": entry.number}
    removed = set(entry.runs_removed)
    if removed:
        # A merged tier takes the place of the runs that it was made from, so that newer runs stay above it.
        first = next(i for i, run in enumerate(state.runs) if run.path in removed)
        kept = [run for run in state.runs if run.path not in removed]
        runs = (*kept[:first], *entry.runs_added, *kept[first:])
    else:
        runs = (*entry.runs_added, *state.runs)
    return State(entry.number, entry.rules, entry.time, tuple(runs), windows, entry.totals or state.totals)


class Timeline:
    """Reads and extends one store's timeline. Holds the last state that it saw; any number of them may work at once."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._seen = State()

    def head(self) -> State:
        """The newest state, read forward from what was last seen."""
        if self._seen.commit == 0:
            self._seen = self._newest_checkpoint()
        while (entry := self.entry(self._seen.commit + 1)) is not None:
            self._seen = apply(self._seen, entry)
        return self._seen

    def at(self, commit: int) -> State:
        """The state as it was at ``commit`` ≤ head."""
        state = self._newest_checkpoint(commit)
        while state.commit < commit:
            entry = self.entry(state.commit + 1)
            if entry is None:
                raise Damaged(f"{layout.commit(state.commit + 1)}: the timeline has no such commit; the newest is {state.commit}")
            state = apply(state, entry)
        return state

    def entry(self, number: int) -> Entry | None:
        """The entry of one commit, None beyond the head. Raises Damaged if it cannot be read."""
        path = layout.commit(number)
        try:
            raw = json.loads(self._store.get(path))
        except NotFound:
            return None
        except ValueError as error:
            raise Damaged(f"{path}: the timeline entry is damaged ({error}); restore it from a copy of the store") from None
        return Entry(
            **{
                **raw,
                "runs_added": tuple(RunRef(*run) for run in raw["runs_added"]),
                "runs_removed": tuple(raw["runs_removed"]),
            }
        )

    def commit(self, entry: Entry, onto: State, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> State | None:
        """Puts ``entry`` as the commit after ``onto``. Returns the new state, or None if another writer was first: start over then."""
        entry = replace(entry, number=onto.commit + 1, time=now().isoformat(timespec="microseconds"))
        body = {**entry.__dict__, "runs_added": [run.to_json() for run in entry.runs_added]}
        try:
            self._store.put_new(layout.commit(entry.number), [json.dumps(body, separators=(",", ":")).encode()])
        except AlreadyExists:
            standing = self.entry(entry.number)
            # One's own writer id means that an earlier put had succeeded and only its reply was lost.
            if standing is None or standing.writer != entry.writer:
                return None
            entry = standing
        state = apply(onto, entry)
        self._seen = state
        if entry.number % CHECKPOINT_EVERY == 0:
            self._write_checkpoint(state)
        return state

    def _write_checkpoint(self, state: State) -> None:
        body = {**state.__dict__, "runs": [run.to_json() for run in state.runs]}
        with contextlib.suppress(AlreadyExists):
            self._store.put_new(layout.checkpoint(state.commit), [json.dumps(body, separators=(",", ":")).encode()])

    def _newest_checkpoint(self, at_most: int | None = None) -> State:
        """The newest readable checkpoint; a damaged one costs time only."""
        names = [path for path in self._store.list(layout.CHECKPOINTS) if path.endswith(".json")]
        for path in reversed(names):
            if at_most is not None and int(path[len(layout.CHECKPOINTS) : -5]) > at_most:
                continue
            try:
                raw = json.loads(self._store.get(path))
                return State(**{**raw, "runs": tuple(RunRef(*run) for run in raw["runs"])})
            except (ValueError, TypeError, KeyError):
                continue
        return State()
