"""The timeline: commits 1, 2, 3 …, each made visible by one conditional put; the state is their fold.

The protocol and what was rejected: docs/decisions/002-timeline.md.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping
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
    """A run in a store: its path, its entries, and the bytes of the part-files written with it (0 for a merged tier)."""

    path: str
    entries: int
    part_bytes: int = 0

    def to_json(self) -> list[Any]:
        return [self.path, self.entries, self.part_bytes]


class Mark(IntFlag):
    """What keeps a committed window from being complete and readable; the state holds it, so that nobody has to read all entries."""

    SHORT = 1
    """It was closed with fewer files than expected."""
    REJECTED = 2
    """At least one row was rejected."""
    ALL_REJECTED = 4
    """It holds rows, and every one was rejected."""
    CONFLICTS = 8
    """At least one duplicate differs from the row that counts, in the window or across windows, or one id has two keys."""


class CommittedWindow(NamedTuple):
    """A window as the state holds it: small, since a state may hold 100,000 of them. ``commit``: the one that changed it last, whose
    entry has the figures (see ``committed_figures``). ``folder``: its stateless files. ``marks``: what is wrong with it, see
    ``Mark``."""

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
        """From a window's figures in the entry of a commit."""
        arrived, rejected = (figures.get(name, {}).get("rows", 0) for name in ("arrived", "rejected"))
        marks = Mark.SHORT if figures.get("short") else Mark(0)
        marks |= Mark.REJECTED if rejected else Mark(0)
        marks |= Mark.ALL_REJECTED if rejected and rejected == arrived else Mark(0)
        conflicts = figures.get("conflicting") or figures.get("two_keys") or any(figures.get("conflicts", {}).values())
        marks |= Mark.CONFLICTS if conflicts else Mark(0)
        return CommittedWindow(figures["revision"], commit, figures["closed"], figures["folder"], int(marks))


@dataclass(frozen=True)
class Entry:
    """One commit as it is stored. ``windows``: name → revision, stateless folder, figures. ``recounted``: the same of windows outside
    the range whose duplicates changed. ``totals``: artifacts by status and the like, of the whole state. ``watermark``: the newest
    window up to which every window of the grid is committed and closed, "" where the commit does not say. ``generation``: a timeline
    of its own (its id and commit) whose state takes the place of all that stood before: a rebuild. ``dropped``: part-files that hold
    nothing live any more. ``swept``: attempts and paths that are removed from now on.

    ``previous``: digest of the entry before, "" in the first one; None in entries of stores of format 3. ``made``: digest of the newest
    entry of ``generation``. ``digest``: of the bytes of this one, which are stored with a seal."""

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
        """Raises ValueError, TypeError or KeyError where it is no entry, or not the one that was written."""
        body = unsealed(raw) if check_seal else {name: value for name, value in json.loads(raw).items() if name != SEAL}
        generation = body["generation"]
        added, removed = tuple(RunRef(*run) for run in body["runs_added"]), tuple(body["runs_removed"])
        read = {"runs_added": added, "runs_removed": removed, "generation": generation and (str(generation[0]), int(generation[1]))}
        return Entry(**{**body, **read, "dropped": tuple(body["dropped"]), "swept": tuple(body["swept"]), "digest": digest_of(raw)})


@dataclass(frozen=True)
class State:
    """The fold of the commits 1 … ``commit`` of the timeline that lies in ``folder``. ``runs`` are newest first. ``rebuilt``: the commit
    of the last rebuild, 0 if there was none. ``digest``: of the newest entry, "" where the state was read from a checkpoint: see
    ``Timeline.digest``."""

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
        held = self.windows.get(window)
        return 0 if held is None else held.revision


class Fold:
    """A state that grows by one commit after the other, in place: a copy of 100,000 windows for each would be slow."""

    def __init__(self, state: State) -> None:
        self._state, self._windows = state, dict(state.windows)

    @property
    def commit(self) -> int:
        return self._state.commit

    @property
    def windows(self) -> Mapping[str, CommittedWindow]:
        """As they are after the newest commit that was added; changes with the next."""
        return self._windows

    def add(self, entry: Entry, rebuilt: State | None = None) -> None:
        """One more commit; ``rebuilt`` is the state that its ``generation`` names."""
        state, added, runs = self._state, entry.runs_added, self._state.runs
        if rebuilt is not None:
            self._windows = {name: held._replace(commit=entry.number) for name, held in rebuilt.windows.items()}
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

    def lay(self, checkpoint: checkpoints.Checkpoint) -> None:
        """All commits from one that the state has already to the checkpoint's own, at once."""
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
        """What the commits of the span of ``place``, which ends here, came to."""
        state = self._state
        changed = {name: held for name, held in self._windows.items() if held.commit > place.since}
        at = {name: getattr(state, name) for name in ("commit", "rules", "time", "totals", "watermark", "rebuilt")}
        at["runs"] = [run.to_json() for run in state.runs]
        columns = tuple(zip(*changed.values(), strict=True)) or tuple(() for _ in CommittedWindow._fields)
        return checkpoints.Checkpoint(at, tuple(changed), columns)

    def state(self) -> State:
        """The state so far; it does not change with what is added later."""
        return replace(self._state, windows=dict(self._windows))


def _with(runs: tuple[RunRef, ...], added: tuple[RunRef, ...], removed: set[str]) -> tuple[RunRef, ...]:
    """Newest first. What takes the place of removed runs stands where the newest of them stood, so that newer runs stay above it."""
    if not removed:
        return (*added, *runs)
    first = next((i for i, run in enumerate(runs) if run.path in removed), None)
    if first is None:
        raise Damaged(f"the timeline removes runs that do not stand: {', '.join(sorted(removed)[:3])}; run 'recon verify'")
    kept = [run for run in runs if run.path not in removed]
    return (*kept[:first], *added, *kept[first:])


def _time_after(previous: str, now: datetime) -> str:
    """The time of the next commit: the later of now and the previous commit's plus 1 µs, since the clocks of two machines differ."""
    if previous:
        now = max(now, datetime.fromisoformat(previous) + timedelta(microseconds=1))
    return now.isoformat(timespec="microseconds")


class Timeline:
    """Reads and extends a timeline: the store's own, or that of a generation in the making. Holds the last state that it saw; any
    number of them may work at once."""

    def __init__(self, store: ObjectStore, folder: str = layout.TIMELINE) -> None:
        self._store = store
        self.folder = folder
        self._seen = State(folder=folder)

    def head(self) -> State:
        """The newest state, read forward from what was last seen."""
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
        """The entry of one commit, None beyond the head. Raises Damaged if it cannot be read."""
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
        """Puts ``entry`` as the commit after ``onto``, whose digest it names. Returns the new state, or None if another writer was first:
        start over then.

        Raises WrongUsage in a copy whose update was not finished: what is put there now would be followed by another store's commits."""
        entry = replace(entry, number=onto.commit + 1, time=_time_after(onto.time, now()))
        beyond = layout.commit(entry.number + 1, self.folder)
        if self._store.exists(beyond) and not self._store.exists(layout.commit(entry.number, self.folder)):
            raise WrongUsage(
                f"{beyond}: lies ahead of the newest commit, {onto.commit}: 'recon copy' into this store was not finished; run it again, "
                f"or remove the entries from {entry.number + 1} on if its source is lost"
            )
        entry = replace(entry, previous=self.digest(onto))
        body = entry.to_json()
        try:
            self._store.put_new(layout.commit(entry.number, self.folder), [body])
            entry = replace(entry, digest=digest_of(body))
        except AlreadyExists:
            standing = self.entry(entry.number)
            # One's own writer id means that an earlier put had succeeded and only its reply was lost.
            if standing is None or standing.writer != entry.writer:
                return None
            entry = standing
        fold = Fold(onto)
        fold.add(entry, self._rebuilt(entry))
        self._seen = fold.state()
        self._write_checkpoints(fold)
        return self._seen

    def mend_checkpoints(self) -> int:
        """Writes the checkpoints that a died writer did not come to. Returns how many."""
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
        """The state at ``target``, or the newest, by the fewest objects: checkpoints as far as there are any, then entries."""
        # A reader that was here a moment ago finds the next few entries without a list of the checkpoints.
        far = state.commit == 0 or (target is not None and target - state.commit > checkpoints.UNIT)
        listed = checkpoints.listed(self._store, self.folder) if far else set()
        fold: Fold | None = None
        while target is None or (fold or state).commit < target:
            at = (fold or state).commit
            if (place := checkpoints.furthest(listed, at, target)) is not None:
                listed.discard(place)
                with contextlib.suppress(Damaged, NotFound):  # it costs time only
                    found = checkpoints.read(self._store, self.folder, place)
                    fold = fold or Fold(state)
                    fold.lay(found)
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


OF_COMMIT = ("commit", "entry", "time", "rules")
"""What a window's figures name of their commit: its number, the digest of its entry, its time, and its rules."""


def of_commit(entry: Entry) -> dict[str, Any]:
    """The members that OF_COMMIT names."""
    return dict(zip(OF_COMMIT, (entry.number, entry.digest, entry.time, entry.rules), strict=True))


def committed_figures(store: ObjectStore, state: State, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Window → its figures as the commit that changed it last has them, with what OF_COMMIT names of that commit; names that the state does
    not hold are left out. Reads one entry for all windows of one commit."""
    timeline = Timeline(store, state.folder)
    by_commit: dict[int, list[str]] = {}
    for name in names:
        if (held := state.windows.get(name)) is not None:
            by_commit.setdefault(held.commit, []).append(name)
    found: dict[str, dict[str, Any]] = {}
    for commit, changed in by_commit.items():
        found |= _figures_of(store, timeline, commit, changed)
    return {name: found[name] for held in by_commit.values() for name in held}


def _figures_of(store: ObjectStore, timeline: Timeline, commit: int, names: list[str]) -> dict[str, dict[str, Any]]:
    entry = timeline.entry(commit)
    if entry is None:
        raise Damaged(f"{layout.commit(commit, timeline.folder)}: the timeline entry is gone; restore it from a copy of the store")
    held = {**entry.windows, **entry.recounted}
    if entry.generation is not None:
        held = {**rebuilt_figures(store, entry, [name for name in names if name not in held]), **held}
    try:
        return {name: {**held[name], **of_commit(entry)} for name in names}
    except KeyError as missing:
        raise Damaged(f"{layout.commit(commit, timeline.folder)}: it says nothing of window {missing}; run 'recon verify'") from None


def rebuilt_figures(store: ObjectStore, entry: Entry, names: Iterable[str] | None = None) -> dict[str, dict[str, Any]]:
    """Window → its figures (of all without ``names``) in the generation that an entry switches to; that is what changed them."""
    if entry.generation is None:
        return {}
    generation, at = entry.generation
    state = Timeline(store, layout.generation(generation)).at(at)
    found = committed_figures(store, state, state.windows if names is None else names)
    changed = {**of_commit(entry), "cause": "rebuild", "reason": f"by the rules {entry.rules}"}
    return {name: {**figures, **changed} for name, figures in found.items()}


def known_at(timeline: Timeline, instant: datetime) -> State:
    """The state that readers saw at ``instant`` (with zone): that of the last commit at or before it.

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
