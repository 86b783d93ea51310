"""Builds of the index table, as the store records them: which table is current, the commit it has reached, and builds in progress.

A build has a number and a table name of its own, which are never used again. Its outcome is one object, created once: a process that was
suspended during a build cannot switch to a table that another process has given up.
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
class TableBuild:
    """A build of an index table. ``commit``: of the state that the table is filled from. ``generation``: the commit of the rebuild that
    the table belongs to, 0 before the first rebuild. ``owner``: an id that the table itself contains, too."""

    number: int
    table: str
    generation: int
    commit: int
    owner: str
    time: str


class _Outcome(BaseModel):
    outcome: str
    time: str


def all_builds(store: ObjectStore) -> list[TableBuild]:
    """All builds, newest first."""
    return [build for number in _numbers(store) if (build := _read(store, number)) is not None]


def current(store: ObjectStore, state: State) -> TableBuild | None:
    """The build whose table answers for the generation of ``state``; None until one is complete."""
    newest = next(completed(store), None)
    return newest if newest is not None and newest.generation == state.rebuilt else None


def completed(store: ObjectStore) -> Iterator[TableBuild]:
    """Completed builds of any generation, newest first."""
    for number in _numbers(store):
        if (outcome(store, number) or ("", ""))[0] == "stands" and (found := _read(store, number)) is not None:
            yield found


def begin(store: ObjectStore, table: str, state: State) -> TableBuild:
    """Begins a build. The first one's table is called ``table``; later names end in an id."""

    def put() -> TableBuild:
        number, attempt = next(iter(_numbers(store)), 0) + 1, layout.new_attempt()
        name = table if number == 1 else f"{table}-{attempt}"
        made = TableBuild(number, name, state.rebuilt, state.commit, attempt, datetime.now(UTC).isoformat(timespec="seconds"))
        documents.put(store, layout.serving_table_begun(number), made)
        return made

    return numbered.put_next(put)


def outcome(store: ObjectStore, number: int) -> tuple[str, str] | None:
    """``stands`` (the build is complete) or ``given up``, and since when; None while the build is in progress."""
    try:
        body = documents.read(store, layout.serving_table_outcome(number), _Outcome, "delete it, then run 'recon index rebuild'")
    except NotFound:
        return None
    return body.outcome, body.time


def decide(store: ObjectStore, build: TableBuild, what: str) -> bool:
    """Decides a build's outcome: ``stands`` or ``given up``. Returns whether this is the outcome, now or from before."""
    body = {"outcome": what, "time": datetime.now(UTC).isoformat(timespec="seconds")}
    with suppress(AlreadyExists):
        documents.put(store, layout.serving_table_outcome(build.number), body)
    decided = outcome(store, build.number)
    return decided is not None and decided[0] == what


def frontier(store: ObjectStore, build: TableBuild) -> int:
    """The commit up to which the table is complete."""
    return max(build.commit, frontiers.read(store, _frontier(build))[0])


def advance(store: ObjectStore, build: TableBuild, commit: int) -> None:
    frontiers.advance(store, _frontier(build), commit)


def retire(store: ObjectStore, state: State) -> None:
    """Marks the tables of generations before a rebuild as retired, for clients that do not read the timeline."""
    for build in completed(store):
        if build.generation < state.rebuilt:
            with suppress(AlreadyExists):
                store.put_new(layout.serving_table_retired(build.number), [b""])


def forget(store: ObjectStore, build: TableBuild) -> None:
    """Removes the records of a build whose table is deleted, with the plans of its workers. The outcome stays: it keeps the number from
    being used again, and a suspended process from deciding otherwise."""
    plans = store.list(layout.plans(build.table))
    for path in [*plans, *store.list(layout.frontier(_frontier(build))), layout.serving_table_begun(build.number)]:
        store.delete(path)


def figures(store: ObjectStore, state: State) -> dict[str, Any]:
    """The current table at ``state``, the commit it has reached, and builds in progress or given up."""
    build = current(store, state)
    return {
        "table": build and build.table,
        "commit": frontier(store, build) if build else None,
        "newest_commit": state.commit,
        "filled_at": build and build.time,
        "filling": [other.table for other in all_builds(store) if outcome(store, other.number) is None],
        "given_up": [other.table for other in completed(store) if other != build],
    }


def needed(store: ObjectStore, timeline: Timeline) -> set[str]:
    """Runs and part-files that items of tables point to, or that are still to be loaded into tables."""
    found: set[str] = set()
    newest = next(completed(store), None)
    for build in all_builds(store):
        if build == newest or outcome(store, build.number) is None:
            found |= _needed_from(store, timeline, frontier(store, build))
    return found


def _needed_from(store: ObjectStore, timeline: Timeline, commit: int) -> set[str]:
    runs = [run.path for run in timeline.at(commit).runs]
    for number in range(commit + 1, timeline.head().commit + 1):
        entry = timeline.entry(number)
        if entry is None or entry.generation is not None:
            break  # later commits belong to the tables of another generation
        runs += [run.path for run in entry.runs_added]
    found: set[str] = set()
    for path in runs:
        with suppress(NotFound):  # swept while the configuration asked for no table
            found |= {path, *open_run(store, path).part_files}
    return found


def _frontier(build: TableBuild) -> str:
    return f"table-{build.number:06d}"


def _numbers(store: ObjectStore) -> list[int]:
    found = {path.removeprefix(layout.SERVING_TABLES).partition("/")[0] for path in store.list(layout.SERVING_TABLES)}
    return sorted((int(number) for number in found if number.isdigit()), reverse=True)


def _read(store: ObjectStore, number: int) -> TableBuild | None:
    """None for a build that is being removed, or cannot be read: it is skipped, and another table is built."""
    try:
        return documents.read(store, layout.serving_table_begun(number), TableBuild, "run 'recon index rebuild'")
    except (NotFound, Damaged):
        return None
