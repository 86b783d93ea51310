"""Which index table stands, how far it has come, and which fillings were begun: as the store knows it.

A filling has a number and a table name of its own, never used again. Whether its table stands or was given up is one object, created
once: so a filler that was suspended cannot bring back a table that others have given up.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel

from recon.errors import Damaged
from recon.state.runs import open_run
from recon.state.timeline import State, Timeline
from recon.storage import documents, frontiers, layout, numbered
from recon.storage.port import AlreadyExists, NotFound, ObjectStore


@dataclass(frozen=True)
class Filling:
    """A table that was begun to be filled. ``commit``: of the state that it is filled from. ``generation``: the commit of the rebuild that
    it belongs to, 0 before the first. ``owner``: stands in the table itself."""

    number: int
    table: str
    generation: int
    commit: int
    owner: str
    time: str


class _Outcome(BaseModel):
    outcome: str
    time: str


def begun(store: ObjectStore) -> list[Filling]:
    """All that are known, the newest first."""
    found = (_read(store, number) for number in _numbers(store))
    return [one for one in found if one is not None]


def standing(store: ObjectStore, state: State) -> Filling | None:
    """The table that stands for the generation of ``state``, None where none is full yet."""
    newest = next(kept(store), None)
    return newest if newest is not None and newest.generation == state.rebuilt else None


def kept(store: ObjectStore) -> Iterator[Filling]:
    """Those that were filled, of any generation, the newest first."""
    for number in _numbers(store):
        if (outcome(store, number) or ("", ""))[0] == "stands" and (found := _read(store, number)) is not None:
            yield found


def begin(store: ObjectStore, table: str, state: State) -> Filling:
    """A new filling, in a table ``table``; only the very first has that name alone."""

    def put() -> Filling:
        number, attempt = next(iter(_numbers(store)), 0) + 1, layout.new_attempt()
        name = table if number == 1 else f"{table}-{attempt}"
        made = Filling(number, name, state.rebuilt, state.commit, attempt, datetime.now(UTC).isoformat(timespec="seconds"))
        documents.put(store, layout.serving_table_begun(number), made)
        return made

    return numbered.put_next(put)


def outcome(store: ObjectStore, number: int) -> tuple[str, str] | None:
    """``stands`` or ``given up``, and since when; None while it is being filled."""
    try:
        body = documents.read(store, layout.serving_table_outcome(number), _Outcome, "delete it, then run 'recon index rebuild'")
    except NotFound:
        return None
    return body.outcome, body.time


def decide(store: ObjectStore, filling: Filling, what: str) -> bool:
    """Whether a filling came to ``what`` (``stands``, ``given up``): now, or already before."""
    body = {"outcome": what, "time": datetime.now(UTC).isoformat(timespec="seconds")}
    with suppress(AlreadyExists):
        documents.put(store, layout.serving_table_outcome(filling.number), body)
    decided = outcome(store, filling.number)
    return decided is not None and decided[0] == what


def frontier(store: ObjectStore, filling: Filling) -> int:
    """The commit up to which all is in the table."""
    return max(filling.commit, frontiers.read(store, _frontier(filling))[0])


def advance(store: ObjectStore, filling: Filling, commit: int) -> None:
    frontiers.advance(store, _frontier(filling), commit)


def retire(store: ObjectStore, state: State) -> None:
    """Notes of the tables of earlier generations that a rebuild has come, for clients that do not read the timeline."""
    for filling in kept(store):
        if filling.generation < state.rebuilt:
            with suppress(AlreadyExists):
                store.put_new(layout.serving_table_retired(filling.number), [b""])


def forget(store: ObjectStore, filling: Filling) -> None:
    """Removes what the store knows of a filling whose table is gone, but for its outcome: that keeps its number from being used again, and
    whoever was suspended while filling it from deciding otherwise. With it go the plans of its workers; no other table has its name."""
    plans = store.list(layout.plans(filling.table))
    for path in [*plans, *store.list(layout.frontier(_frontier(filling))), layout.serving_table_begun(filling.number)]:
        store.delete(path)


def figures(store: ObjectStore, state: State) -> dict[str, Any]:
    """How the table stands at ``state``, and what is under way."""
    stands = standing(store, state)
    return {
        "table": stands and stands.table,
        "commit": frontier(store, stands) if stands else None,
        "newest_commit": state.commit,
        "filled_at": stands and stands.time,
        "filling": [one.table for one in begun(store) if outcome(store, one.number) is None],
        "given_up": [one.table for one in kept(store) if one != stands],
    }


def needed(store: ObjectStore, timeline: Timeline) -> set[str]:
    """Runs and part-files that pointers in tables lead to, or that are yet to be loaded into them."""
    found: set[str] = set()
    newest = next(kept(store), None)
    for filling in begun(store):
        if filling == newest or outcome(store, filling.number) is None:
            found |= _needed_from(store, timeline, frontier(store, filling))
    return found


def _needed_from(store: ObjectStore, timeline: Timeline, commit: int) -> set[str]:
    runs = [run.path for run in timeline.at(commit).runs]
    for number in range(commit + 1, timeline.head().commit + 1):
        entry = timeline.entry(number)
        if entry is None or entry.generation is not None:
            break  # what came then is no longer for these tables
        runs += [run.path for run in entry.runs_added]
    found: set[str] = set()
    for path in runs:
        with suppress(NotFound):  # swept while the section 'index' asked for no table
            found |= {path, *open_run(store, path).part_files}
    return found


def _frontier(filling: Filling) -> str:
    return f"table-{filling.number:06d}"


def _numbers(store: ObjectStore) -> list[int]:
    found = {path.removeprefix(layout.SERVING_TABLES).partition("/")[0] for path in store.list(layout.SERVING_TABLES)}
    return sorted((int(number) for number in found if number.isdigit()), reverse=True)


def _read(store: ObjectStore, number: int) -> Filling | None:
    """None for one that is being forgotten just now, or cannot be read: it is passed over, and a table is filled anew."""
    try:
        return documents.read(store, layout.serving_table_begun(number), Filling, "run 'recon index rebuild'")
    except (NotFound, Damaged):
        return None
