"""Sweeping: removes objects that nothing needs, after a commit that lists them.

Protocol and rejected alternatives: docs/decisions/007-compaction-and-sweeping.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from recon.config import Config
from recon.state import reachable, reduced
from recon.state.timeline import Entry, Fold, State, Timeline
from recon.storage import frontiers, layout
from recon.storage.port import AlreadyExists, ObjectStore

_UNUSED, _HISTORY = "unused", "history"


@dataclass(frozen=True)
class Swept:
    """The numbers of objects that one sweep removed: below ``state/``, unfinished reductions, generations, and revisions beyond
    ``retention.history``. ``waiting``: unneeded objects within ``retention.grace``."""

    commit: int | None = None
    state: int = 0
    reductions: int = 0
    generations: int = 0
    revisions: int = 0
    waiting: int = 0


def sweep(store: ObjectStore, config: Config, timeline: Timeline, now: datetime, served: Callable[[], set[str]]) -> Swept:
    """Removes objects that two sweeps at least ``retention.grace`` apart found unneeded, and revisions beyond ``retention.history``.
    ``served`` returns the paths that index tables need; it is called again for every new head."""
    # A machine whose clock was ahead may have noted a time in the future.
    grace, seen = config.retention.grace, {path: min(at, now) for path, at in _seen(store).items()}
    while True:
        state = timeline.head()
        generations, making = _generations(store, timeline, state, now - grace)
        unused = _unused(store, state, making, served())
        revisions, walked = _beyond_history(store, config, timeline, state, making, now)
        named = _named_since(timeline, state, min(seen.values(), default=now))
        first = {path: _first_seen(path, seen, named, now) for path in unused}
        old = [path for path, at in first.items() if now - at >= grace and path in seen]
        listed = (*old, *generations, *revisions)
        if not listed:
            _note(store, first, walked, now)
            return Swept(waiting=len(first))
        entry = Entry("sweep", layout.new_attempt(), state.rules, totals=dict(state.totals), swept=listed)
        committed = timeline.commit(entry, onto=state)
        if committed is not None:
            break
    reductions = [path for path in old if path.startswith(layout.STATELESS)]
    for path in old:
        if path in reductions:
            _fence_and_remove(store, path)
        else:
            store.delete(path)
    for folder in (*generations, *revisions):
        # The figures go first, since they mark a reduction as finished: readers find all of it or nothing.
        for path in sorted(store.list(folder), key=lambda path: not path.endswith(f"/{reduced.FIGURES}")):
            store.delete(path)
    _note(store, {path: at for path, at in first.items() if path not in set(old)}, walked, now)
    waiting = len(first) - len(old)
    return Swept(committed.commit, len(old) - len(reductions), len(reductions), len(generations), len(revisions), waiting)


def _unused(store: ObjectStore, state: State, making: Iterable[State], served: set[str]) -> list[str]:
    """Objects below ``state/`` that neither the head, nor a running rebuild (``making``), nor the index table (``served``) needs, and
    folders of unfinished reductions, and of runs of aggregations."""
    used = served.union(*(reachable.needed(store, needing) for needing in (state, *making)))
    found = [path for path in store.list(layout.STATE) if path not in used]
    folders: dict[str, bool] = {}
    for path in store.list(layout.STATELESS):
        folder, _, name = path.rpartition("/")
        folders[folder] = folders.get(folder, False) or name == reduced.FIGURES
    live = reachable.folders(state).union(*map(reachable.folders, making))
    # What a run of an aggregation has reduced is needed by its process only.
    unneeded = (folder for folder, finished in folders.items() if not finished or folder.startswith(layout.AGGREGATED))
    return found + [f"{folder}/" for folder in unneeded if f"{folder}/" not in live]


def _generations(store: ObjectStore, timeline: Timeline, state: State, before: datetime) -> tuple[list[str], list[State]]:
    """The open generations: the folders of those without a commit since ``before``, which were given up, and the states of the others."""
    given_up, making = [], []
    for found in reachable.open_generations(store, timeline, state):
        head = Timeline(store, layout.generation(found.generation)).head()
        newest = head.time or found.time
        if newest and datetime.fromisoformat(newest) >= before:
            making.append(head)
        else:
            given_up.append(f"{layout.GENERATIONS}{found.generation}/")
    return given_up, making


def _beyond_history(
    store: ObjectStore, config: Config, timeline: Timeline, state: State, making: Iterable[State], now: datetime
) -> tuple[list[str], int]:
    """Unneeded reduced folders that were superseded longer ago than ``retention.history``, and the commit up to which that was checked."""
    if config.retention.history is None:
        return [], 0
    number, _ = frontiers.read(store, _HISTORY)
    fold = Fold(timeline.at(number))
    gone: list[str] = []
    while fold.commit < state.commit:
        entry = timeline.entry(fold.commit + 1)
        if entry is None or now - datetime.fromisoformat(entry.time) < config.retention.history:
            break
        rebuilt = None if entry.generation is None else Timeline(store, layout.generation(entry.generation[0])).at(entry.generation[1])
        changed = fold.windows if rebuilt is not None else entry.windows
        gone += [fold.windows[name].folder for name in changed if name in fold.windows]
        fold.add(entry, rebuilt)
    live = reachable.folders(state).union(*map(reachable.folders, making))
    return [folder for folder in dict.fromkeys(gone) if folder not in live], fold.commit


def _named_since(timeline: Timeline, state: State, since: datetime) -> dict[str, str]:
    """Attempt → the time of the newest commit since ``since`` that added it to the state, or dropped it."""
    found: dict[str, str] = {}
    for number in range(state.commit, 0, -1):
        entry = timeline.entry(number)
        if entry is None or datetime.fromisoformat(entry.time) < since - timedelta(minutes=10):
            return found
        runs = [*(run.path for run in entry.runs_added), *entry.runs_removed, *entry.dropped]
        for attempt in {entry.writer, *(layout.attempt_of(path) for path in runs)}:
            found.setdefault(attempt, entry.time)
    return found


def _first_seen(path: str, seen: dict[str, datetime], named: dict[str, str], now: datetime) -> datetime:
    """Since when an object is unneeded. The time starts again at a commit that names it, as readers may use that commit's state."""
    at = seen.get(path, now)
    return now if named.get(layout.attempt_of(path), "") > at.isoformat() else at


def _seen(store: ObjectStore) -> dict[str, datetime]:
    """Path of an unneeded object → the time of the first sweep that found it."""
    _, value = frontiers.read(store, _UNUSED)
    return {str(path): datetime.fromisoformat(at) for path, at in (value or {}).items()}


def _note(store: ObjectStore, first: dict[str, datetime], walked: int, now: datetime) -> None:
    frontiers.renew(store, _UNUSED, {path: at.isoformat() for path, at in first.items()})
    if walked:
        frontiers.advance(store, _HISTORY, walked)


def _fence_and_remove(store: ObjectStore, folder: str) -> None:
    """Removes an unfinished reduction. SWEPT is put in place of its figures first, so that a process still at work cannot finish it and
    starts over. A reduction that was finished meanwhile stays, unless a run of an aggregation left it."""
    if folder.startswith(layout.AGGREGATED):
        for path in list(store.list(folder)):
            store.delete(path)
        return
    try:
        store.put_new(folder + reduced.FIGURES, [reduced.SWEPT])
    except AlreadyExists:
        if store.get(folder + reduced.FIGURES) != reduced.SWEPT:
            return
    for path in list(store.list(folder)):
        if path != folder + reduced.FIGURES:
            store.delete(path)
