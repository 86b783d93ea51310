"""The runs in the database: claimed → running → completed, failed or cancelled."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from recon.aggregations.definitions.load import Definition
from recon.aggregations.definitions.sections import written
from recon.aggregations.preconditions.evaluate import Evaluation
from recon.aggregations.preconditions.history import ACTIVE, Past, Pasts
from recon.aggregations.preconditions.snapshot import joined, split, version
from recon.database import Database
from recon.database.tables import AGGREGATION_EVALUATIONS, AGGREGATION_OVERRIDES, AGGREGATION_RUNS, FILES
from recon.errors import WrongUsage

State = Literal["claimed", "running", "completed", "failed", "cancelled"]
STATES: tuple[State, ...] = ("claimed", "running", "completed", "failed", "cancelled")
LEASE = timedelta(seconds=60)
"""A run without a sign of life for longer counts as dead."""


@dataclass(frozen=True)
class Run:
    """A run; the fields are the columns of ``recon.database.tables.AGGREGATION_RUNS``."""

    id: int
    reconciliation: str
    aggregation: str
    scope: str
    evaluation: int
    replays: int | None
    attempt: int
    state: State
    worker: str
    lease_until: datetime
    claimed_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    reason: str
    versions: str
    definition: Mapping[str, Any]
    load: str
    figures: Mapping[str, Any]


def _run(row: Any) -> Run:
    return Run(**{**row._mapping, "definition": json.loads(row.definition), "figures": json.loads(row.figures)})


class Runs:
    """The evaluations and runs of one reconciliation."""

    def __init__(self, database: Database, reconciliation: str) -> None:
        self.database, self.reconciliation = database, reconciliation
        self._noted: dict[tuple[str, str], str] = {}

    def note(self, evaluations: Iterable[Evaluation]) -> list[Evaluation]:
        """Stores the evaluations whose answers differ from the last stored ones of their scopes, and returns these."""
        new = [one for one in evaluations if self._noted.get((one.definition.name, one.scope)) != one.stored]
        if not new:
            return []
        stored = []
        with self.database.write() as connection:
            for one in new:
                if self._last_answers(connection, one) != one.stored:
                    self._insert(connection, one)
                    stored.append(one)
        self._noted |= {(one.definition.name, one.scope): one.stored for one in new}
        return stored

    def claim(self, evaluation: Evaluation, worker: str = "", replays: int | None = None) -> Run | None:
        """Stores the evaluation and a run that no other process has. None where the files changed since, or another run began."""
        try:
            with self.database.write() as connection:
                self._one_at_a_time(connection)
                if replays is None and self._versions(connection, evaluation) != evaluation.versions:
                    return None
                newest, seen = self._newest(connection, evaluation.definition.name, evaluation.scope), evaluation.past.newest
                if (newest and (newest.id, newest.state)) != (seen and (seen["id"], seen["state"])):
                    return None
                run = self._claim(connection, evaluation, newest, worker, replays)
                self._noted.pop((run.aggregation, run.scope), None)
                used = [one.number for one in evaluation.overrides]
                connection.execute(AGGREGATION_OVERRIDES.update().where(AGGREGATION_OVERRIDES.c.id.in_(used)).values(run=run.id))
                return run
        except IntegrityError:
            return None  # the index of active runs

    def _claim(self, connection: sa.Connection, evaluation: Evaluation, newest: Run | None, worker: str, replays: int | None) -> Run:
        load = evaluation.definition.load_id(evaluation.scope, evaluation.versions)
        again = newest is not None and newest.state in ("failed", "cancelled") and newest.load == load
        now = self.database.clock(connection)
        values = {
            **self._here(evaluation),
            "evaluation": self._insert(connection, evaluation),
            "replays": replays,
            "attempt": newest.attempt + 1 if again and newest is not None else 1,
            "state": "claimed",
            "worker": worker,
            "lease_until": now + LEASE,
            "claimed_at": now,
            "versions": evaluation.versions,
            "definition": json.dumps(written(evaluation.definition.section)),
            "load": load,
        }
        number = connection.execute(AGGREGATION_RUNS.insert().values(values)).inserted_primary_key[0]  # type: ignore[index]
        return self._read(connection, number)

    def start(self, run: Run, worker: str) -> Run:
        """Begins a claimed run. Raises WrongUsage where it is not claimed any more."""
        with self.database.write() as connection:
            now = self.database.clock(connection)
            change = {"state": "running", "worker": worker, "started_at": now, "lease_until": now + LEASE}
            if not self._change(connection, run, ("claimed",), change):
                raise WrongUsage(f"run {run.id} of {run.aggregation} is {self._read(connection, run.id).state}; it cannot be begun")
            return self._read(connection, run.id)

    def beat(self, run: Run) -> bool:
        """Extends the lease of a run at work. False where it was ended meanwhile."""
        with self.database.write() as connection:
            until = self.database.clock(connection) + LEASE
            return self._change(connection, run, ACTIVE, {"lease_until": until})

    def prepare(self, run: Run, figures: Mapping[str, Any]) -> bool:
        """Notes what a run will load, before it does. False where the run was ended meanwhile: it must not load."""
        with self.database.write() as connection:
            change = {"figures": json.dumps(figures), "lease_until": self.database.clock(connection) + LEASE}
            return self._change(connection, run, ("running",), change)

    def end(self, run: Run, state: State, reason: str = "", figures: Mapping[str, Any] | None = None, overdue: bool = False) -> Run:
        """Ends an active run; one that was ended already stays as it is, but for one that was given up as failed and has loaded all the
        same. ``overdue``: only if its lease has still run out. Returns it."""
        with self.database.write() as connection:
            now = self.database.clock(connection)
            change: dict[str, Any] = {"state": state, "ended_at": now, "reason": reason}
            if figures is not None:
                change["figures"] = json.dumps(figures)
            late = (AGGREGATION_RUNS.c.lease_until < now,) if overdue else ()
            self._change(connection, run, (*ACTIVE, "failed") if state == "completed" else ACTIVE, change, *late)
            return self._read(connection, run.id)

    def past(self, aggregation: str, scope: str) -> Past:
        """What happened in a scope."""
        with self.database.read() as connection:
            return Pasts(self.reconciliation).look(connection).get((aggregation, scope), Past())

    def now(self) -> datetime:
        """The database's time."""
        with self.database.read() as connection:
            return self.database.clock(connection)

    def active(self) -> list[Run]:
        """The runs that are claimed or running, oldest first."""
        with self.database.read() as connection:
            return self._active(connection)

    def overdue(self) -> list[Run]:
        """The active runs whose lease has run out."""
        with self.database.read() as connection:
            now = self.database.clock(connection)
            return self._active(connection, AGGREGATION_RUNS.c.lease_until < now)

    def _active(self, connection: sa.Connection, *where: sa.ColumnElement[bool]) -> list[Run]:
        here = (AGGREGATION_RUNS.c.reconciliation == self.reconciliation, AGGREGATION_RUNS.c.state.in_(ACTIVE), *where)
        return [_run(row) for row in connection.execute(sa.select(AGGREGATION_RUNS).where(*here).order_by(AGGREGATION_RUNS.c.id))]

    def get(self, number: int) -> Run:
        """A run by its number. Raises WrongUsage."""
        with self.database.read() as connection:
            return self._read(connection, number)

    def all(self, aggregation: str | None = None, scope: str | None = None, state: str | None = None, most: int = 1000) -> list[Run]:
        """The newest runs, newest first."""
        given = {"aggregation": aggregation, "scope": scope, "state": state}
        where = [AGGREGATION_RUNS.c[name] == value for name, value in given.items() if value is not None]
        query = sa.select(AGGREGATION_RUNS).where(AGGREGATION_RUNS.c.reconciliation == self.reconciliation, *where)
        with self.database.read() as connection:
            return [_run(row) for row in connection.execute(query.order_by(AGGREGATION_RUNS.c.id.desc()).limit(most))]

    def after(self, number: int, others: Collection[int] = (), most: int = 500) -> list[Run]:
        """The newest runs after a number, and those with the numbers ``others``, oldest first."""
        table = AGGREGATION_RUNS.c
        wanted = sa.or_(table.id > number, table.id.in_(others))
        query = sa.select(AGGREGATION_RUNS).where(table.reconciliation == self.reconciliation, wanted)
        with self.database.read() as connection:
            return [_run(row) for row in connection.execute(query.order_by(table.id.desc()).limit(most))][::-1]

    def answers(self, run: Run) -> list[dict[str, Any]]:
        """The answers of the evaluation that a run was claimed by: condition, holds, why, set_aside."""
        return self._answers_of([run.evaluation])[run.evaluation]

    def set_aside(self, aggregation: str) -> dict[str, dict[str, str]]:
        """Scope → condition → who set it aside and why, of the last completed run of each scope; scopes where nothing was are left out."""
        table = AGGREGATION_RUNS.c
        here = (table.reconciliation == self.reconciliation, table.aggregation == aggregation, table.state == "completed")
        last = sa.select(sa.func.max(table.id)).where(*here).group_by(table.scope)
        with self.database.read() as connection:
            found = connection.execute(sa.select(table.scope, table.evaluation).where(table.id.in_(last)).order_by(table.scope)).all()
        answers = self._answers_of([row.evaluation for row in found])
        named = {row.scope: {one["condition"]: one["set_aside"] for one in answers[row.evaluation] if one["set_aside"]} for row in found}
        return {scope: conditions for scope, conditions in named.items() if conditions}

    def _answers_of(self, evaluations: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
        table, found = AGGREGATION_EVALUATIONS.c, dict[int, list[dict[str, Any]]]()
        with self.database.read() as connection:
            for at in range(0, len(evaluations), 500):
                query = sa.select(table.id, table.answers).where(table.id.in_(evaluations[at : at + 500]))
                found |= {row.id: json.loads(row.answers) for row in connection.execute(query)}
        return found

    def override(self, aggregation: str, scope: str, condition: str, reason: str, by: str) -> None:
        """Sets a condition aside for the next run of a scope."""
        values = {"reconciliation": self.reconciliation, "aggregation": aggregation, "scope": scope, "condition": condition}
        with self.database.write() as connection:
            now = self.database.clock(connection)
            connection.execute(AGGREGATION_OVERRIDES.insert().values(**values, reason=reason, by=by, at=now))

    def files(self, run: Run) -> list[Mapping[str, Any]]:
        """The rows of ``files`` that a run's versions are of, in order of their numbers."""
        numbers = [int(one.partition(".")[0]) for one in split(run.versions)]
        found: list[Mapping[str, Any]] = []
        with self.database.read() as connection:
            for at in range(0, len(numbers), 500):
                query = sa.select(FILES).where(FILES.c.id.in_(numbers[at : at + 500]))
                found += [dict(row._mapping) for row in connection.execute(query)]
        return sorted(found, key=lambda row: int(row["id"]))

    def _here(self, evaluation: Evaluation) -> dict[str, str]:
        return {"reconciliation": self.reconciliation, "aggregation": evaluation.definition.name, "scope": evaluation.scope}

    def _insert(self, connection: sa.Connection, evaluation: Evaluation) -> int:
        values = {**self._here(evaluation), "at": evaluation.at, "due": evaluation.due, "answers": evaluation.stored}
        values |= {"versions": evaluation.versions, "rules": evaluation.definition.rules}
        number: int = connection.execute(AGGREGATION_EVALUATIONS.insert().values(values)).inserted_primary_key[0]  # type: ignore[index]
        return number

    def _last_answers(self, connection: sa.Connection, evaluation: Evaluation) -> str | None:
        table = AGGREGATION_EVALUATIONS.c
        where = [table[name] == value for name, value in self._here(evaluation).items()]
        found: str | None = connection.scalar(sa.select(table.answers).where(*where).order_by(table.id.desc()).limit(1))
        return found

    def _one_at_a_time(self, connection: sa.Connection) -> None:
        """On PostgreSQL, claims wait for each other: between a look at the newest run and the insert nobody else claims."""
        if not self.database.is_sqlite:  # its write lock does the same
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext(f"aggregations {self.reconciliation}"))))

    def _versions(self, connection: sa.Connection, evaluation: Evaluation) -> str:
        """The versions of a scope as they are now."""
        definition: Definition = evaluation.definition
        files = FILES.c
        where = [files.reconciliation == self.reconciliation, files.state == "landed", files.source == definition.source.name]
        if definition.section.per == "window":
            where.append(files.window == evaluation.scope)
        rows = connection.execute(sa.select(files.id, files.landings, files.name).where(*where, files.window.is_not(None)))
        return joined(version(row.id, row.landings) for row in rows if definition.takes(row.name))

    def _newest(self, connection: sa.Connection, aggregation: str, scope: str) -> Run | None:
        table = AGGREGATION_RUNS.c
        here = (table.reconciliation == self.reconciliation, table.aggregation == aggregation, table.scope == scope)
        row = connection.execute(sa.select(AGGREGATION_RUNS).where(*here).order_by(table.id.desc()).limit(1)).first()
        return None if row is None else _run(row)

    def _change(
        self, connection: sa.Connection, run: Run, states: Iterable[str], change: Mapping[str, Any], *conditions: sa.ColumnElement[bool]
    ) -> bool:
        where = (AGGREGATION_RUNS.c.id == run.id, AGGREGATION_RUNS.c.state.in_(list(states)), *conditions)
        return bool(connection.execute(AGGREGATION_RUNS.update().where(*where).values(change)).rowcount)

    def _read(self, connection: sa.Connection, number: int) -> Run:
        here = (AGGREGATION_RUNS.c.id == number, AGGREGATION_RUNS.c.reconciliation == self.reconciliation)
        row = connection.execute(sa.select(AGGREGATION_RUNS).where(*here)).first()
        if row is None:
            raise WrongUsage(f"there is no run {number}; 'recon aggregation list --runs' has them")
        return _run(row)
