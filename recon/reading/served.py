"""Looks a key up through the index table, and falls back to the runs when the table may be stale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from recon.config import Place
from recon.config.key import key_asked
from recon.errors import Damaged, ReconError, WrongUsage
from recon.model.record import RecordAddress
from recon.reading.show import Lookup
from recon.serving import builds
from recon.serving.dynamodb import TableClient, TableGone
from recon.serving.items import commit_of
from recon.state.lookup import find_record, record_at
from recon.state.runs import open_run
from recon.state.runs.entries import RECORD_LENGTH_MAX_BYTES
from recon.state.timeline import State, Timeline
from recon.storage import layout
from recon.storage.hashing import hash_of, salt_of
from recon.storage.port import NotFound, ObjectStore

BEHIND_MAX = 200
"""Number of commits since the frontier whose runs are searched for a key; beyond that all runs are searched at once."""


@dataclass(frozen=True)
class Served:
    """The record of a key at ``state``, None if there is none. ``by``: ``dynamodb`` or ``runs``. ``why``: why the table did not answer."""

    record: dict[str, Any] | None
    state: State
    by: str
    why: str = ""


@dataclass
class Known:
    """The table that holds everything up to ``commit``; "" for none. While that commit is the newest, the table need not be checked again:
    whatever makes its answers stale, or removes the records they lead to, is a commit."""

    commit: int = -1
    table: str = ""


def find_served(store: ObjectStore, timeline: Timeline, key: str, tables: Callable[[], TableClient], known: Known | None = None) -> Served:
    """The newest record of a key, by the table if it agrees with the runs. If DynamoDB is unavailable, refuses or throttles, the reason is
    in ``why``; it is never raised. ``known``: kept by a caller that looks up many keys; while the state is the same, a look-up then reads
    only the next commit, the item and the record."""
    state, known = timeline.head(), known or Known()
    try:
        try:
            return _by_table(store, timeline, state, key, tables, known)
        except TableGone:
            if not known.table:
                raise
            known.table = ""  # another took its place, without a commit
            return _by_table(store, timeline, state, key, tables, known)
    except _NotServed as doubt:
        why = str(doubt)
    except (NotFound, Damaged) as error:
        why = f"where the table leads there is no sound record ({error})"
    except TableGone as error:
        why = str(error)
    except ReconError as error:
        why = f"the table does not answer ({error})"
    return Served(find_record(store, state, key), state, "runs", why)


def refuse_served(place: Place, index: str, known_at: str | None) -> None:
    """Raises WrongUsage for an index that is not configured, and for what the index table does not know."""
    if index != "dynamodb" or place.index.kind != "dynamodb":
        written = f"it has index: {{kind: {place.index.kind}}}"
        raise WrongUsage(f"--index {index}: {place.path.name} asks for no such index, {written}; known are runs and dynamodb")
    if known_at is not None:
        raise WrongUsage("--index dynamodb: the table knows the newest state only; leave it out with --known-at")


def show_served(lookup: Lookup, timeline: Timeline, tables: Callable[[], TableClient], known: Known) -> dict[str, Any]:
    """The artifact looked up through the table, with ``served_by`` and, if the table did not answer, ``served_why``. Raises WrongInput if
    the key is unknown."""
    key = key_asked(lookup.place, lookup.key)
    served = find_served(lookup.store, timeline, key, tables, known)
    why = {"served_why": served.why} if served.why else {}
    return lookup.shown(served.state, key, served.record) | {"served_by": served.by} | why


class _NotServed(Exception):
    """The table does not answer; the message is the reason."""


def _table(store: ObjectStore, timeline: Timeline, state: State, key: str, known: Known) -> str:
    """The table whose answer for this key agrees with ``state``."""
    if known.table and known.commit == state.commit:
        return known.table
    known.table = ""
    build = builds.current(store, state)
    if build is None:
        raise _NotServed("no table is full yet")
    frontier = builds.frontier(store, build)
    if frontier >= state.commit:
        known.commit, known.table = state.commit, build.table
    elif _came_since(store, timeline, state, frontier, key):
        raise _NotServed(f"the table is behind: it holds commits up to {frontier}, the newest is {state.commit}")
    return build.table


def _by_table(store: ObjectStore, timeline: Timeline, state: State, key: str, tables: Callable[[], TableClient], known: Known) -> Served:
    pointer = tables().get(_table(store, timeline, state, key, known), key)
    if pointer is None:
        raise _NotServed("the table has no item of this key")
    if pointer.is_tombstone:
        raise _NotServed("the table has a tombstone of this key")
    if commit_of(pointer.sequence) > state.commit:
        raise _NotServed(f"the table's item is of commit {commit_of(pointer.sequence)}, newer than {state.commit}")
    if not pointer.file.startswith(layout.STATE) or not 0 < pointer.length <= RECORD_LENGTH_MAX_BYTES or pointer.offset < 0:
        raise _NotServed("the table's item leads to no record")
    record = record_at(store, RecordAddress(pointer.file, pointer.offset, pointer.length, pointer.check))
    if record["key"] != key:
        raise _NotServed("the table's item leads to the record of another key")
    return Served(record, state, "dynamodb")


def _came_since(store: ObjectStore, timeline: Timeline, state: State, frontier: int, key: str) -> bool:
    """Whether a commit after the frontier may have written a record of this key's hash. False only if certain."""
    if state.commit - frontier > BEHIND_MAX:
        return True
    for number in range(frontier + 1, state.commit + 1):
        entry = timeline.entry(number)
        for run in entry.runs_added if entry and not entry.runs_removed else ():
            if open_run(store, run.path).find(*hash_of(key, salt_of(store))):
                return True
    return False
