"""The record store in SQL. A parcel that becomes open and its message to the process queue are one transaction."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from recon.database import Database
from recon.database.tables import RECORD_ACTIONS as ACTIONS
from recon.database.tables import RECORD_FILES as FILES
from recon.database.tables import RECORD_PARCELS as PARCELS
from recon.intake.queues.parcels import Parcel, names_of
from recon.intake.queues.port import Action, Counts, DeadLetter, Progress
from recon.intake.queues.sql_queue import SqlQueue

_PLACE = ("file", "first", "last", "count", "round")
_READ_AT_ONCE = 50
"""Parcels read in one query: their texts are in memory."""


class SqlRecordStore:
    """Records of all sources of a database. ``queue``: to the process step, of the same database."""

    def __init__(self, database: Database, queue: SqlQueue) -> None:
        self._database, self._queue = database, queue

    # ---- files ----

    def begin(self, file: str, name: str) -> Progress:
        with self._database.write() as connection:
            row = {"file": file, "name": name, "began_at": datetime.now(UTC)}
            connection.execute(self._insert(FILES).values(**row).on_conflict_do_nothing())
            found = connection.execute(sa.select(FILES).where(FILES.c.file == file)).one()
        return Progress(found.cleaned_to, found.rows, found.cleaned)

    def started(self, file: str) -> bool:
        with self._database.read() as connection:
            return connection.execute(sa.select(FILES.c.file).where(FILES.c.file == file)).first() is not None

    def advance(self, file: str, progress: Progress) -> None:
        values = {"cleaned_to": progress.line, "rows": progress.rows, "cleaned": progress.complete}
        older = sa.and_(FILES.c.file == file, FILES.c.cleaned == sa.false(), FILES.c.cleaned_to <= progress.line)
        with self._database.write() as connection:
            connection.execute(FILES.update().where(older).values(**values))

    def counts(self, file: str) -> Counts:
        def total(*states: str) -> sa.ColumnElement[Any]:
            found = sa.func.coalesce(sa.func.sum(sa.case((PARCELS.c.state.in_(states), PARCELS.c.count), else_=0)), 0)
            return sa.cast(found, sa.BigInteger)

        states = [total("open"), total("finished"), total("dead", "discarded"), total("discarded")]
        joined = FILES.outerjoin(PARCELS, PARCELS.c.file == FILES.c.file)
        query = sa.select(FILES.c.rows, FILES.c.cleaned, *states).select_from(joined).where(FILES.c.file == file)
        with self._database.read() as connection:
            found = connection.execute(query.group_by(FILES.c.file, FILES.c.rows, FILES.c.cleaned)).one_or_none()
        if found is None:
            return Counts(0, False, 0, 0, 0, 0)
        rows, cleaned, opened, done, dead, discarded = found
        return Counts(max(rows, opened + done + dead), cleaned, opened, done, dead, discarded)

    # ---- parcels ----

    def put(self, parcels: Sequence[Parcel]) -> None:
        with self._database.write() as connection:
            opened = []
            for one in parcels:
                row = {**_row(one, "dead" if one.refused else "open"), "reason": one.refused}
                inserted = connection.execute(self._insert(PARCELS).values(**row).on_conflict_do_nothing()).rowcount
                opened += [one] if inserted and not one.refused else []
            self._send(connection, opened)

    def are_open(self, parcels: Sequence[Parcel]) -> list[bool]:
        columns = [PARCELS.c[name] for name in _PLACE]
        mine = sa.or_(*(sa.and_(PARCELS.c.file == one.file, PARCELS.c.first == one.first) for one in parcels))
        with self._database.read() as connection:
            found = {tuple(row) for row in connection.execute(sa.select(*columns).where(mine, PARCELS.c.state == "open"))}
        return [_place(one) in found for one in parcels]

    def split(self, parcel: Parcel, parts: Sequence[Parcel]) -> bool:
        with self._database.write() as connection:
            if not connection.execute(PARCELS.delete().where(_just(parcel, "open"))).rowcount:
                return False
            connection.execute(PARCELS.insert(), [_row(one, "open") for one in parts])
            self._send(connection, parts)
        return True

    def note(self, parcel: Parcel, reason: str) -> None:
        self._update(parcel, ("open",), reason=reason)

    def finish(self, results: Sequence[Parcel]) -> None:
        with self._database.write() as connection:
            for one in results:
                names = json.dumps(names_of(one))
                values = {"state": "finished", "names": names, "records": one.records, "changed_at": datetime.now(UTC), "reason": ""}
                connection.execute(PARCELS.update().where(_just(one, "open", "dead")).values(**values))

    def bury(self, parcel: Parcel, reason: str) -> None:
        last = sa.case((PARCELS.c.reason == "", reason), else_=PARCELS.c.reason)
        self._update(parcel, ("open",), state="dead", reason=last)

    # ---- lost messages ----

    def stored_firsts(self, file: str) -> set[int]:
        with self._database.read() as connection:
            return set(connection.scalars(sa.select(PARCELS.c.first).where(PARCELS.c.file == file)))

    def open_parcels(self, file: str) -> Iterator[Parcel]:
        return self._in_state(file, "open")

    def reopen(self, parcel: Parcel, reason: str) -> bool:
        later = replace(parcel, round=parcel.round + 1)
        return self._act(parcel, Action("resend", reason, datetime.now(UTC)), {"round": later.round}, later, state="open")

    # ---- results ----

    def results(self, file: str) -> Iterator[Parcel]:
        return self._in_state(file, "finished")

    def _in_state(self, file: str, state: str) -> Iterator[Parcel]:
        after = -1
        while True:
            mine = sa.and_(PARCELS.c.file == file, PARCELS.c.first > after, PARCELS.c.state == state)
            with self._database.read() as connection:
                found = connection.execute(sa.select(PARCELS).where(mine).order_by(PARCELS.c.first).limit(_READ_AT_ONCE)).all()
            if not found:
                return
            yield from (_parcel(row) for row in found)
            after = found[-1].first

    def result_names(self, file: str) -> list[str]:
        mine = sa.and_(PARCELS.c.file == file, PARCELS.c.state == "finished")
        query = sa.select(PARCELS.c.names).where(mine).group_by(PARCELS.c.names).order_by(sa.func.min(PARCELS.c.first))
        with self._database.read() as connection:
            return list(dict.fromkeys(name for names in connection.scalars(query) for name in json.loads(names)))

    # ---- dead letters ----

    def dead_letters(self, prefix: str, discarded: bool = False) -> Iterator[DeadLetter]:
        states = ("dead", "discarded") if discarded else ("dead",)
        after: tuple[str, int] = ("", -1)
        while True:
            mine = sa.and_(PARCELS.c.state.in_(states), PARCELS.c.file.startswith(prefix, autoescape=True))
            later = sa.tuple_(PARCELS.c.file, PARCELS.c.first) > after
            query = sa.select(PARCELS, FILES.c.name).join(FILES, FILES.c.file == PARCELS.c.file).where(mine, later)
            with self._database.read() as connection:
                found = connection.execute(query.order_by(PARCELS.c.file, PARCELS.c.first).limit(_READ_AT_ONCE)).all()
            if not found:
                return
            for row in found:
                yield DeadLetter(_parcel(row), row.name, row.reason, row.changed_at, row.state == "discarded")
            after = (found[-1].file, found[-1].first)

    def actions(self, parcel: Parcel) -> list[Action]:
        mine = sa.and_(ACTIONS.c.file == parcel.file, ACTIONS.c.first == parcel.first)
        with self._database.read() as connection:
            found = connection.execute(sa.select(ACTIONS).where(mine).order_by(ACTIONS.c.id)).all()
        return [Action(row.action, row.reason, row.at, row.before) for row in found]

    def edit(self, parcel: Parcel, records: str, reason: str) -> bool:
        values = {"records": records, "round": parcel.round + 1, "reason": PARCELS.c.reason}
        return self._act(parcel, Action("edit", reason, datetime.now(UTC), parcel.records), values)

    def redrive(self, parcel: Parcel, reason: str) -> bool:
        values = {"state": "open", "round": parcel.round + 1, "reason": ""}
        return self._act(parcel, Action("redrive", reason, datetime.now(UTC)), values, replace(parcel, round=parcel.round + 1))

    def discard(self, parcel: Parcel, reason: str) -> bool:
        return self._act(parcel, Action("discard", reason, datetime.now(UTC)), {"state": "discarded"})

    def _act(self, parcel: Parcel, action: Action, values: Mapping[str, Any], opened: Parcel | None = None, state: str = "dead") -> bool:
        with self._database.write() as connection:
            changed = PARCELS.update().where(_just(parcel, state)).values(changed_at=action.at, **values)
            if not connection.execute(changed).rowcount:
                return False
            row = {"file": parcel.file, "first": parcel.first, "action": action.what, "reason": action.reason, "at": action.at}
            connection.execute(ACTIONS.insert().values(**row, before=action.before))
            self._send(connection, [opened] if opened else [])
        return True

    # ---- statements ----

    def _update(self, parcel: Parcel, states: Sequence[str], **values: Any) -> None:
        with self._database.write() as connection:
            connection.execute(PARCELS.update().where(_just(parcel, *states)).values(changed_at=datetime.now(UTC), **values))

    def _send(self, connection: sa.Connection, opened: Sequence[Parcel]) -> None:
        if opened:
            self._queue.send_in(connection, [one.body() for one in opened])

    def _insert(self, table: sa.Table) -> Any:
        """An insert that can do nothing on conflict, which SQLAlchemy has per dialect."""
        return (sqlite.insert if self._database.is_sqlite else postgresql.insert)(table)


def _place(parcel: Parcel) -> tuple[str, int, int, int, int]:
    return (parcel.file, parcel.first, parcel.last, parcel.count, parcel.round)


def _just(parcel: Parcel, *states: str) -> sa.ColumnElement[bool]:
    """The row of a parcel with these lines, in this round and one of the states."""
    return sa.and_(PARCELS.c.state.in_(states), *(PARCELS.c[name] == getattr(parcel, name) for name in _PLACE))


def _row(parcel: Parcel, state: str) -> dict[str, Any]:
    return {**dict(zip(_PLACE, _place(parcel), strict=True)), "state": state, "changed_at": datetime.now(UTC), "records": parcel.records}


def _parcel(row: Any) -> Parcel:
    return Parcel(row.file, row.first, row.last, row.count, row.round, row.records)
