"""The runs of aggregations as an evaluation needs them: the newest and the last completed one of each scope."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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


def pasts(connection: sa.Connection, reconciliation: str) -> dict[tuple[str, str], Past]:
    """(aggregation, scope) → what happened, in two statements."""
    newest = _newest(connection, reconciliation, AGGREGATION_RUNS.c.reconciliation == reconciliation)
    completed = _newest(connection, reconciliation, AGGREGATION_RUNS.c.state == "completed")
    return {key: Past(run, completed.get(key)) for key, run in newest.items()}


def _newest(connection: sa.Connection, reconciliation: str, condition: Any) -> dict[tuple[str, str], Mapping[str, Any]]:
    here = AGGREGATION_RUNS.c.reconciliation == reconciliation
    last = sa.select(sa.func.max(AGGREGATION_RUNS.c.id)).where(here, condition)
    last = last.group_by(AGGREGATION_RUNS.c.aggregation, AGGREGATION_RUNS.c.scope)
    query = sa.select(*(AGGREGATION_RUNS.c[name] for name in _READ)).where(AGGREGATION_RUNS.c.id.in_(last))
    return {(row.aggregation, row.scope): dict(row._mapping) for row in connection.execute(query)}


def overrides(connection: sa.Connection, reconciliation: str) -> dict[tuple[str, str], list[Override]]:
    """(aggregation, scope) → the overrides that no run has used."""
    table = AGGREGATION_OVERRIDES.c
    found: dict[tuple[str, str], list[Override]] = {}
    query = sa.select(AGGREGATION_OVERRIDES).where(table.reconciliation == reconciliation, table.run.is_(None)).order_by(table.id)
    for row in connection.execute(query):
        found.setdefault((row.aggregation, row.scope), []).append(Override(row.id, row.condition, row.reason, row.by, row.at))
    return found
