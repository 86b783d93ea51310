"""The runs of aggregations as an evaluation needs them: the newest and the last completed one of each scope."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from recon.database.tables import AGGREGATION_OVERRIDES, AGGREGATION_RUNS

ACTIVE = ("claimed", "running")


@dataclass(frozen=True)
class Past:
    """What happened in a scope. ``newest``: the newest run, ``completed``: the last completed one; each as columns of
    ``recon.database.tables.AGGREGATION_RUNS``, None where there is none."""

    newest: Mapping[str, Any] | None = None
    completed: Mapping[str, Any] | None = None

    @property
    def active(self) -> bool:
        """Whether a run is claimed or running."""
        return self.newest is not None and self.newest["state"] in ACTIVE


@dataclass(frozen=True)
class Override:
    """A condition that a person set aside for the next run of a scope."""

    number: int
    condition: str
    reason: str
    by: str
    at: datetime


_READ = ("id", "aggregation", "scope", "state", "load", "attempt", "ended_at", "versions", "reason", "worker", "claimed_at")
_NUMBERS_MAX = 500
"""Runs that a statement names; for more it reads all."""


@dataclass
class Pasts:
    """What happened in all scopes of one reconciliation. It may be kept from one transaction to the next: runs that completed are not read
    again."""

    reconciliation: str
    _completed: dict[int, Mapping[str, Any]] = field(default_factory=dict)

    def look(self, connection: sa.Connection) -> dict[tuple[str, str], Past]:
        """(aggregation, scope) → what happened, in two statements."""
        runs = AGGREGATION_RUNS.c
        completed = sa.func.max(sa.case((runs.state == "completed", runs.id)))
        newest = sa.select(runs.aggregation, runs.scope, sa.func.max(runs.id), completed).where(runs.reconciliation == self.reconciliation)
        numbers = {
            (name, scope): found for name, scope, *found in connection.execute(newest.group_by(runs.aggregation, runs.scope)).fetchall()
        }
        wanted = {number for found in numbers.values() for number in found if number is not None}
        read = self._read(connection, wanted - self._completed.keys())
        rows = {**{number: self._completed[number] for number in wanted & self._completed.keys()}, **read}
        self._completed = {number: row for number, row in rows.items() if row["state"] == "completed"}
        return {key: Past(rows[last], None if done is None else rows[done]) for key, (last, done) in numbers.items()}

    def _read(self, connection: sa.Connection, numbers: set[int]) -> dict[int, Mapping[str, Any]]:
        columns = sa.select(*(AGGREGATION_RUNS.c[name] for name in _READ)).where(AGGREGATION_RUNS.c.reconciliation == self.reconciliation)
        if len(numbers) <= _NUMBERS_MAX:
            columns = columns.where(AGGREGATION_RUNS.c.id.in_(numbers))
        found = connection.execute(columns).fetchall() if numbers else ()
        return {row.id: dict(row._mapping) for row in found if row.id in numbers}


def overrides(connection: sa.Connection, reconciliation: str) -> dict[tuple[str, str], list[Override]]:
    """(aggregation, scope) → the overrides that no run has used."""
    table = AGGREGATION_OVERRIDES.c
    found: dict[tuple[str, str], list[Override]] = {}
    query = sa.select(AGGREGATION_OVERRIDES).where(table.reconciliation == reconciliation, table.run.is_(None)).order_by(table.id)
    for row in connection.execute(query):
        found.setdefault((row.aggregation, row.scope), []).append(Override(row.id, row.condition, row.reason, row.by, row.at))
    return found
