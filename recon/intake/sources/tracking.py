"""The state of every received file in the database: received → validated → converted → landed; or rejected, or superseded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import sqlalchemy as sa

from recon.database import Database
from recon.database.tables import DELIVERIES, FILE_RUNS, FILES
from recon.errors import WrongUsage

State = Literal["received", "validated", "converted", "landed", "rejected", "superseded", "discarded"]
OPEN: tuple[State, ...] = ("received", "validated", "converted")
"""The states of a file that is still to be processed."""
_ID_DIGITS = 9
"""More digits are a name; so the number fits each database's integer."""
STATES: tuple[State, ...] = (*OPEN, "landed", "rejected", "superseded", "discarded")


@dataclass(frozen=True)
class Tracked:
    """A received file; the fields are the columns of ``recon.database.tables.FILES``."""

    id: int
    reconciliation: str
    source: str
    name: str
    series: str
    version: int | None
    parent: str | None
    digest: str
    size: int
    window: str | None
    state: State
    received_at: datetime
    validated_at: datetime | None
    converted_at: datetime | None
    landed_at: datetime | None
    rejected_at: datetime | None
    superseded_at: datetime | None
    tries: int
    reason: str
    rows: int | None
    kept: int | None
    rejected_rows: int | None
    figures: Mapping[str, Any]
    rules: str
    landed_as: str | None
    landed_path: str | None
    landed_digest: str | None
    landings: int
    rejects: str | None
    delivered_at: datetime | None

    @property
    def shown(self) -> str:
        """The name with its archive."""
        return f"{self.parent}/{self.name}" if self.parent else self.name

    @property
    def order(self) -> tuple[int, int]:
        """Orders the versions of a series: by the version in the name, then by arrival."""
        return (self.version or 0, self.id)


def _tracked(row: Any) -> Tracked:
    return Tracked(**{**row._mapping, "figures": json.loads(row.figures)})


class Tracking:
    """The received files of one reconciliation."""

    def __init__(self, database: Database, reconciliation: str) -> None:
        self.database, self.reconciliation = database, reconciliation

    def add(self, fields: Mapping[str, Any], run: str) -> tuple[Tracked, bool]:
        """Tracks a received file. A file of the same source, name and bytes is tracked already: it is returned, with False, and the time of
        this delivery is noted."""
        same = [FILES.c[name] == fields[name] for name in ("source", "name", "digest")]
        with self.database.write() as connection:
            if not self.database.is_sqlite:  # two processes that receive the same file: the second waits for the first
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext(self.reconciliation))))
            known = connection.execute(sa.select(FILES).where(FILES.c.reconciliation == self.reconciliation, *same)).first()
            if known is not None:
                connection.execute(FILES.update().where(FILES.c.id == known.id).values(delivered_at=datetime.now(UTC)))
                return _tracked(known), False
            values = {**fields, "reconciliation": self.reconciliation, "state": "received", "received_at": datetime.now(UTC)}
            number = connection.execute(FILES.insert().values(values)).inserted_primary_key[0]  # type: ignore[index]
            self._note_run(connection, number, run, "received")
            return _tracked(connection.execute(sa.select(FILES).where(FILES.c.id == number)).one()), True

    def move(self, file: Tracked, state: State, run: str, **fields: Any) -> Tracked:
        """Moves a file to a state, with the time and the run. Does nothing where another process has moved it on meanwhile, and returns the
        file as it is then."""
        if "figures" in fields:
            fields["figures"] = json.dumps(fields["figures"])
        if state in ("landed", "superseded", "rejected"):
            fields.setdefault("tries", 0 if state != "rejected" else file.tries)
        change = {"state": state, f"{state}_at": datetime.now(UTC), **fields}
        with self.database.write() as connection:
            connection.execute(FILES.update().where(FILES.c.id == file.id, FILES.c.state == file.state).values(change))
            self._note_run(connection, file.id, run, state)
            return _tracked(connection.execute(sa.select(FILES).where(FILES.c.id == file.id)).one())

    def failed(self, file: Tracked, reason: str) -> Tracked:
        """Counts a try that failed for a reason which may pass."""
        with self.database.write() as connection:
            connection.execute(FILES.update().where(FILES.c.id == file.id).values(tries=FILES.c.tries + 1, reason=reason))
            return _tracked(connection.execute(sa.select(FILES).where(FILES.c.id == file.id)).one())

    def noted(self, file: Tracked, reason: str) -> Tracked:
        """Notes what a file waits for."""
        with self.database.write() as connection:
            connection.execute(FILES.update().where(FILES.c.id == file.id).values(reason=reason))
            return _tracked(connection.execute(sa.select(FILES).where(FILES.c.id == file.id)).one())

    def retried(self, file: Tracked, reason: str) -> Tracked:
        """Takes a file up again from the beginning. ``reason``: why it was rejected, kept beside what happens next."""
        times = ("validated_at", "converted_at", "landed_at", "rejected_at")
        back = {"state": "received", "tries": 0, "reason": reason, **dict.fromkeys(times)}
        with self.database.write() as connection:
            connection.execute(FILES.update().where(FILES.c.id == file.id, FILES.c.state == file.state).values(back))
            return _tracked(connection.execute(sa.select(FILES).where(FILES.c.id == file.id)).one())

    def discard(self, file: Tracked, reason: str) -> None:
        """Gives a rejected file up. Its bytes and rejected rows are kept."""
        change = {"state": "discarded", "reason": f"discarded: {reason}; {file.reason}" if file.reason else f"discarded: {reason}"}
        with self.database.write() as connection:
            connection.execute(FILES.update().where(FILES.c.id == file.id, FILES.c.state == "rejected").values(change))

    def take_back(self, window: str, landed_as: str, reason: str) -> None:
        """Notes that a landed file was taken back out of its window: it is rejected. Changes nothing where no source's file landed so."""
        change = {"state": "rejected", "rejected_at": datetime.now(UTC), "reason": f"taken back out of {window}: {reason}"}
        here = {"reconciliation": self.reconciliation, "window": window, "landed_as": landed_as, "state": "landed"}
        with self.database.write() as connection:
            connection.execute(FILES.update().where(*(FILES.c[name] == value for name, value in here.items())).values(change))

    def files(self, **equal: Any) -> list[Tracked]:
        """The files whose columns have these values (a tuple: one of them), in order of arrival."""
        conditions = [FILES.c[name].in_(value) if isinstance(value, tuple) else FILES.c[name] == value for name, value in equal.items()]
        query = sa.select(FILES).where(FILES.c.reconciliation == self.reconciliation, *conditions).order_by(FILES.c.id)
        with self.database.read() as connection:
            return [_tracked(row) for row in connection.execute(query)]

    def is_empty(self) -> bool:
        """Whether no file was ever received."""
        with self.database.read() as connection:
            return connection.execute(sa.select(FILES.c.id).where(FILES.c.reconciliation == self.reconciliation).limit(1)).first() is None

    def uncorrected(self) -> list[Tracked]:
        """The rejected files of which no later file of the same source and series ever landed in their window, in order of arrival; without
        those that were taken back out of a window. A file whose window nobody knows is corrected by none."""
        later = FILES.alias()
        alike = [later.c[name] == FILES.c[name] for name in ("reconciliation", "source", "series", "window")]
        corrects = sa.or_(later.c.landed_at.is_not(None), later.c.state == "superseded")
        landed = sa.exists().where(*alike, later.c.id > FILES.c.id, corrects)
        mine = (FILES.c.reconciliation == self.reconciliation, FILES.c.state == "rejected", FILES.c.landed_at.is_(None))
        with self.database.read() as connection:
            return [_tracked(row) for row in connection.execute(sa.select(FILES).where(*mine, ~landed).order_by(FILES.c.id))]

    def landed_names(self, window: str) -> set[tuple[str, str]]:
        """(source, name) of the files that have landed in a window."""
        here = (FILES.c.reconciliation == self.reconciliation, FILES.c.window == window, FILES.c.state == "landed")
        with self.database.read() as connection:
            return {(row.source, row.name) for row in connection.execute(sa.select(FILES.c.source, FILES.c.name).where(*here))}

    def first_window(self) -> str | None:
        """The earliest window of a received file; None without files."""
        with self.database.read() as connection:
            found: str | None = connection.scalar(
                sa.select(sa.func.min(FILES.c.window)).where(FILES.c.reconciliation == self.reconciliation)
            )
            return found

    def file(self, named: str) -> Tracked:
        """A file by its number, or by its name where one file has it. Raises WrongUsage."""
        found = self.files(id=int(named)) if named.isdecimal() and len(named) <= _ID_DIGITS else self.files(name=named)
        if len(found) == 1:
            return found[0]
        if not found:
            raise WrongUsage(f"{named}: no received file has this number or name; 'recon files' lists them")
        raise WrongUsage(f"{named}: received {len(found)} times; name one by its number: {', '.join(str(file.id) for file in found)}")

    def runs(self, file: Tracked) -> list[dict[str, Any]]:
        """The runs that worked on a file: run, step, at; in order of time."""
        query = sa.select(FILE_RUNS).where(FILE_RUNS.c.file == file.id).order_by(FILE_RUNS.c.at)
        with self.database.read() as connection:
            return [{"run": row.run, "step": row.step, "at": row.at} for row in connection.execute(query)]

    def delivered(self, place: str) -> str | None:
        """The stamp of what was last received from a place."""
        query = sa.select(DELIVERIES.c.stamp).where(DELIVERIES.c.reconciliation == self.reconciliation, DELIVERIES.c.place == place)
        with self.database.read() as connection:
            found: str | None = connection.scalar(query)
            return found

    def stamps(self) -> dict[str, str]:
        """Place → stamp of all deliveries."""
        query = sa.select(DELIVERIES.c.place, DELIVERIES.c.stamp).where(DELIVERIES.c.reconciliation == self.reconciliation)
        with self.database.read() as connection:
            return {row.place: row.stamp for row in connection.execute(query)}

    def digests(self) -> dict[str, str]:
        """Place → digest of what was last received from it."""
        query = sa.select(DELIVERIES.c.place, DELIVERIES.c.digest).where(DELIVERIES.c.reconciliation == self.reconciliation)
        with self.database.read() as connection:
            return {row.place: row.digest for row in connection.execute(query)}

    def note_delivery(self, place: str, stamp: str, digest: str) -> None:
        """Notes what was received from a place."""
        values = {"stamp": stamp, "digest": digest, "at": datetime.now(UTC)}
        here = (DELIVERIES.c.reconciliation == self.reconciliation, DELIVERIES.c.place == place)
        with self.database.write() as connection:
            if not connection.execute(DELIVERIES.update().where(*here).values(values)).rowcount:
                connection.execute(DELIVERIES.insert().values(reconciliation=self.reconciliation, place=place, **values))

    def _note_run(self, connection: sa.Connection, file: int, run: str, step: str) -> None:
        key = {"file": file, "run": run, "step": step}
        noted = connection.execute(sa.select(FILE_RUNS.c.file).where(*(FILE_RUNS.c[name] == value for name, value in key.items()))).first()
        if noted is None:
            connection.execute(FILE_RUNS.insert().values(**key, at=datetime.now(UTC)))


def by_window(files: Iterable[Tracked]) -> dict[str, list[Tracked]]:
    """Window → its files, in order of the windows."""
    found: dict[str, list[Tracked]] = {}
    for file in files:
        if file.window is not None:
            found.setdefault(file.window, []).append(file)
    return dict(sorted(found.items()))
