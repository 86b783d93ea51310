"""The timeline: commits 1, 2, 3 …, each made visible by one conditional put; the state is their fold.

The protocol and what was rejected: docs/decisions/002-timeline.md.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import IntFlag
from typing import Any, NamedTuple

from recon.errors import Damaged, WrongUsage
from recon.state import checkpoints
from recon.storage import layout
from recon.storage.port import AlreadyExists, NotFound, ObjectStore
from recon.storage.sealing import SEAL, digest_of, sealed, unsealed


@dataclass(frozen=True)
class RunRef:
    """A run in a store: its path, its entries, and the bytes of the records in the part-files written with it, without their heads
    (0 for a merged tier)."""

    path: str
    entries: int
    part_bytes: int = 0

    def to_json(self) -> list[Any]:
        return [self.path, self.entries, self.part_bytes]


class Mark(IntFlag):
    """Faults of a committed window. The state holds them, so that showing them does not need all entries."""

    SHORT = 1
    """It was closed with fewer files than expected."""
    REJECTED = 2
    """At least one row was rejected, by the rules or by a source before its file landed."""
    ALL_REJECTED = 4
    """It holds rows, and every one was rejected."""
    CONFLICTS = 8
    """At least one duplicate differs from the row that counts, in the window or across windows, or one id has two keys."""


class CommittedWindow(NamedTuple):
    """A window in a state, which may hold 100,000 of them. ``commit``: the commit that changed it last, whose entry has its figures (see
    ``recon.state.committed``). ``folder``: of its reduced files. ``marks``: see ``Mark``."""

    revision: int
    commit: int
    closed: bool
    folder: str
    marks: int = 0

    def has(self, mark: Mark) -> bool:
        """Whether the window has this mark."""
        return bool(self.marks & mark)

    @staticmethod
    def of(figures: Mapping[str, Any], commit: int) -> CommittedWindow:
        """The window, from its figures in the entry of a commit."""
        arrived, rejected = (figures.get(name, {}).get("rows", 0) for name in ("arrived", "rejected"))
        marks = Mark.SHORT if figures.get("short") else Mark(0)
        marks |= Mark.REJECTED if rejected or figures.get("source_rejected") else Mark(0)
        marks |= Mark.ALL_REJECTED if rejected and rejected == arrived else Mark(0)
        conflicts = figures.get("conflicting") or figures.get("two_keys") or any(figures.get("conflicts", {}).values())
        marks |= Mark.CONFLICTS if conflicts else Mark(0)
        return CommittedWindow(figures["revision"], commit, figures["closed"], figures["folder"], int(marks))


@dataclass(frozen=True)
class Entry:
    """One commit as it is stored. ``windows``: name → revision, reduced folder, figures. ``recounted``: the same of windows outside
    the range whose duplicates changed. ``totals``: artifacts by status and other sums of the state. ``watermark``: the newest
    window up to which every window of the grid is committed and closed, "" where the commit does not change it. ``generation``: of a
    rebuild, the id and commit of a timeline whose state replaces the state before. ``dropped``: part-files without live records.
    ``swept``: attempts and paths that are removed after this commit.

    ``previous``: digest of the previous entry, "" in the first one; None in stores of format 3. ``made``: digest of the newest entry of
    ``generation``. ``digest``: of the bytes of this entry, which are stored with a seal."""

    kind: str
    writer: str
    rules: str
    windows: dict[str, dict[str, Any]] = field(default_factory=dict)
    recounted: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs_added: tuple[RunRef, ...] = ()
    runs_removed: tuple[str, ...] = ()
    totals: dict[str, Any] = field(default_factory=dict)
    watermark: str = ""
    generation: tuple[str, int] | None = None
    dropped: tuple[str, ...] = ()
    swept: tuple[str, ...] = ()
    number: int = 0
    time: str = ""
    previous: str | None = None
    made: str = ""
    digest: str = ""

    def to_json(self) -> bytes:
        body = {**self.__dict__, "runs_added": [run.to_json() for run in self.runs_added]}
        body.pop("digest")
        return sealed(body)

    @staticmethod
    def from_json(raw: bytes, check_seal: bool = True) -> Entry:
        """Raises ValueError, TypeError or KeyError where the bytes are no entry, or its seal does not fit."""
        body = unsealed(raw) if check_seal else {name: value for name, value in json.loads(raw).items() if name != SEAL}
        generation = body["generation"]
        added, removed = tuple(RunRef(*run) for run in body["runs_added"]), tuple(body["runs_removed"])
        read = {"runs_added": added, "runs_removed": removed, "generation": generation and (str(generation[0]), int(generation[1]))}
        return Entry(**{**body, **read, "dropped": tuple(body["dropped"]), "swept": tuple(body["swept"]), "digest": digest_of(raw)})


@dataclass(frozen=True)
class State:
    """The fold of the commits 1 … ``commit`` of the timeline in ``folder``. ``runs`` are newest first. ``rebuilt``: the commit of the last
    rebuild, 0 if there was none. ``digest``: of the newest entry, "" where the state was read from a checkpoint: see Timeline.digest."""

    commit: int = 0
    rules: str = ""
    time: str = ""
    runs: tuple[RunRef, ...] = ()
    windows: Mapping[str, CommittedWindow] = field(default_factory=dict)
    totals: Mapping[str, Any] = field(default_factory=dict)
    watermark: str = ""
    rebuilt: int = 0
    folder: str = layout.TIMELINE
    digest: str = field(default="", compare=False)

    def revision(self, window: str) -> int:
        """The committed revision of a window, 0 if there is none."""
        found = self.windows.get(window)
        return 0 if found is None else found.revision


class Fold:
    """A state to which commits are added in place, as copying 100,000 windows for each commit would be slow."""

    def __init__(self, state: State) -> None:
        self._state, self._windows = state, dict(state.windows)

    @property
    def commit(self) -> int:
        return self._state.commit

    @property
    def windows(self) -> Mapping[str, CommittedWindow]:
        """The windows after the newest commit that was added. The next commit changes this mapping."""
        return self._windows

    def add(self, entry: Entry, rebuilt: State | None = None) -> None:
        """Adds the next commit. ``rebuilt``: the state that its ``generation`` names."""
        state, added, runs = self._state, entry.runs_added, self._state.runs
        if rebuilt is not None:
            self._windows = {name: window._replace(commit=entry.number) for name, window in rebuilt.windows.items()}
            state, runs = replace(state, totals=rebuilt.totals, watermark=rebuilt.watermark, rebuilt=entry.number), rebuilt.runs
        for name, committed in (*entry.windows.items(), *entry.recounted.items()):
            self._windows[name] = CommittedWindow.of(committed, entry.number)
        self._state = replace(
            state,
            commit=entry.number,
            rules=entry.rules,
            time=entry.time,
            runs=_with(runs, added, set(entry.runs_removed)),
            totals=entry.totals or state.totals,
            watermark=entry.watermark or state.watermark,
            digest=entry.digest,
        )

    def add_checkpoint(self, checkpoint: checkpoints.Checkpoint) -> None:
        """Adds all commits up to the checkpoint's last; the state must be within its span."""
        self._windows.update((name, CommittedWindow(*columns)) for name, columns in checkpoint.windows().items())
        at = checkpoint.at
        self._state = replace(
            self._state,
            commit=at["commit"],
            rules=at["rules"],
            time=at["time"],
            runs=tuple(RunRef(*run) for run in at["runs"]),
            totals=at["totals"],
            watermark=at["watermark"],
            rebuilt=at["rebuilt"],
            digest="",
        )

    def checkpoint(self, place: checkpoints.Span) -> checkpoints.Checkpoint:
        """The checkpoint of the span ``place``, which ends at this commit."""
        state = self._state
        changed = {name: window for name, window in self._windows.items() if window.commit > place.since}
        at = {name: getattr(state, name) for name in ("commit", "rules", "time", "totals", "watermark", "rebuilt")}
        at["runs"] = [run.to_json() for run in state.runs]
        columns = tuple(zip(*changed.values(), strict=True)) or tuple(() for _ in CommittedWindow._fields)
        return checkpoints.Checkpoint(at, tuple(changed), columns)

    def state(self) -> State:
        """The state so far, as a copy that later commits do not change."""
        return replace(self._state, windows=dict(self._windows))


def _with(runs: tuple[RunRef, ...], added: tuple[RunRef, ...], removed: set[str]) -> tuple[RunRef, ...]:
    """Newest first. Added runs take the position of the newest removed run, so that newer runs stay before them."""
    if not removed:
        return (*added, *runs)
    first = next((i for i, run in enumerate(runs) if run.path in removed), None)
    if first is None:
        raise Damaged(f"the timeline removes runs that are not in the state: {', '.join(sorted(removed)[:3])}; run 'recon verify'")
    kept = [run for run in runs if run.path not in removed]
    return (*kept[:first], *added, *kept[first:])


def _time_after(previous: str, now: datetime) -> str:
    """The time of the next commit: the later of now and the previous commit's plus 1 µs, since the clocks of two machines differ."""
    if previous:
        now = max(now, datetime.fromisoformat(previous) + timedelta(microseconds=1))
    return now.isoformat(timespec="microseconds")


class Timeline:
    """Reads and extends a timeline: the store's own, or that of a generation. It remembers the last state that it read. Any number of
    timelines may work on one store at once."""

    def __init__(self, store: ObjectStore, folder: str = layout.TIMELINE) -> None:
        self._store = store
        self.folder = folder
        self._seen = State(folder=folder)

    @property
    def seen(self) -> State:
        """The last state that was read or committed, without a request."""
        return self._seen

    def head(self) -> State:
        """The newest state, read from the last one on."""
        self._seen = self._onward(self._seen, None)
        return self._seen

    def at(self, commit: int) -> State:
        """The state as it was at ``commit`` ≤ head."""
        begin = self._seen if self._seen.commit <= commit else State(folder=self.folder)
        state = self._onward(begin, commit)
        if state.commit < commit:
            raise Damaged(f"{layout.commit(state.commit + 1, self.folder)}: the timeline has no such commit; the newest is {state.commit}")
        return state

    def entry(self, number: int) -> Entry | None:
        """The entry of a commit, None beyond the head. Raises Damaged."""
        path = layout.commit(number, self.folder)
        try:
            return Entry.from_json(self._store.get(path))
        except NotFound:
            return None
        except (ValueError, TypeError, KeyError) as error:
            raise Damaged(f"{path}: the timeline entry is damaged ({error}); restore it from a copy of the store") from None

    def digest(self, state: State) -> str:
        """The digest of the newest entry of ``state``, "" before the first commit. Raises Damaged where the entry is gone."""
        if state.digest or not state.commit:
            return state.digest
        path = layout.commit(state.commit, self.folder)
        try:
            return digest_of(self._store.get(path))
        except NotFound:
            raise Damaged(f"{path}: the timeline entry is gone; restore it from a copy of the store") from None

    def commit(self, entry: Entry, onto: State, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> State | None:
        """Puts ``entry`` as the commit after ``onto``, whose digest it names. Returns the new state, or None if another writer was first;
        the caller then starts over at the new head.

        Raises WrongUsage in a store whose 'recon copy' was not finished: commits of the source already follow."""
        entry = replace(entry, number=onto.commit + 1, time=_time_after(onto.time, now()))
        beyond = layout.commit(entry.number + 1, self.folder)
        if self._store.exists(beyond) and not self._store.exists(layout.commit(entry.number, self.folder)):
            raise WrongUsage(
                f"{beyond}: is ahead of the newest commit, {onto.commit}: 'recon copy' into this store was not finished; run it again, "
                f"or remove the entries from {entry.number + 1} on if its source is lost"
            )
        entry = replace(entry, previous=self.digest(onto))
        body = entry.to_json()
        try:
            self._store.put_new(layout.commit(entry.number, self.folder), [body])
            entry = replace(entry, digest=digest_of(body))
        except AlreadyExists:
            stored = self.entry(entry.number)
            # An entry with this writer's id: an earlier put succeeded and its reply was lost.
            if stored is None or stored.writer != entry.writer:
                return None
            entry = stored
        fold = Fold(onto)
        fold.add(entry, self._rebuilt(entry))
        self._seen = fold.state()
        self._write_checkpoints(fold)
        return self._seen

    def mend_checkpoints(self) -> int:
        """Writes the checkpoints that a killed writer left out. Returns how many."""
        listed = checkpoints.listed(self._store, self.folder)
        head = self.head().commit
        missing = [n for n in range(checkpoints.UNIT, head + 1, checkpoints.UNIT) if not set(checkpoints.due(n)) <= listed]
        for number in missing:
            self._write_checkpoints(Fold(self.at(number)))
        return len(missing)

    def _write_checkpoints(self, fold: Fold) -> None:
        for place in checkpoints.due(fold.commit):
            with contextlib.suppress(AlreadyExists):
                checkpoints.write(self._store, self.folder, place, fold.checkpoint(place))

    def _onward(self, state: State, target: int | None) -> State:
        """The state at ``target``, or the newest state, read from checkpoints as far as they go and then from entries."""
        # Listing the checkpoints does not pay for a few new entries.
        far = state.commit == 0 or (target is not None and target - state.commit > checkpoints.UNIT)
        listed = checkpoints.listed(self._store, self.folder) if far else set()
        fold: Fold | None = None
        while target is None or (fold or state).commit < target:
            at = (fold or state).commit
            if (place := checkpoints.furthest(listed, at, target)) is not None:
                listed.discard(place)
                with contextlib.suppress(Damaged, NotFound):  # a missing checkpoint only costs time
                    found = checkpoints.read(self._store, self.folder, place)
                    fold = fold or Fold(state)
                    fold.add_checkpoint(found)
                continue
            entry = self.entry(at + 1)
            if entry is None:
                break
            fold = fold or Fold(state)
            fold.add(entry, self._rebuilt(entry))
        return state if fold is None else fold.state()

    def _rebuilt(self, entry: Entry) -> State | None:
        if entry.generation is None:
            return None
        generation, commit = entry.generation
        return Timeline(self._store, layout.generation(generation)).at(commit)


def known_at(timeline: Timeline, instant: datetime) -> State:
    """The state at ``instant`` (with zone): that of the last commit at or before it.

    Raises WrongUsage before the first commit. Bisects over the commits, whose times never go back."""
    head = timeline.head()
    low, high = 0, head.commit
    while low < high:
        middle = (low + high + 1) // 2
        entry = timeline.entry(middle)
        if entry is not None and datetime.fromisoformat(entry.time) <= instant:
            low = middle
        else:
            high = middle - 1
    if low == 0:
        raise WrongUsage(f"--known-at {instant.isoformat()}: nothing was committed yet at that time")
    return timeline.at(low)
