"""Why a scope is not due: each condition, since when it has not held, when it last held, and when a missing file last came."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from recon.aggregations.preconditions import conditions
from recon.aggregations.preconditions.conditions import Answer
from recon.aggregations.preconditions.evaluate import Evaluation
from recon.aggregations.preconditions.snapshot import DELIVERED
from recon.database import Database
from recon.database.tables import AGGREGATION_EVALUATIONS, FILES

_EVALUATIONS_MAX = 1000
_NAMED_MAX = 20


@dataclass(frozen=True)
class Reason:
    """One condition of a scope. ``since``: when it was first seen not to hold, None where it holds. ``held``: when it was last seen to
    hold. ``missing``: missing file → when a file of that name last came, None for never."""

    answer: Answer
    since: datetime | None
    held: datetime | None
    missing: dict[str, datetime | None]

    def to_json(self) -> dict[str, Any]:
        return {
            "condition": self.answer.condition,
            "holds": self.answer.holds,
            "why": self.answer.why,
            "set_aside": self.answer.set_aside or None,
            "since": _written(self.since),
            "last_held": _written(self.held),
            "missing": {name: _written(at) for name, at in self.missing.items()},
        }


def _written(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="seconds")


def reasons(database: Database, reconciliation: str, evaluation: Evaluation) -> list[Reason]:
    """The conditions of a scope with their history, from the stored evaluations."""
    table = AGGREGATION_EVALUATIONS.c
    here = (table.reconciliation == reconciliation, table.aggregation == evaluation.definition.name, table.scope == evaluation.scope)
    query = sa.select(table.at, table.answers).where(*here).order_by(table.id.desc()).limit(_EVALUATIONS_MAX)
    with database.read() as connection:
        past = [(row.at, {one["condition"]: one["holds"] for one in json.loads(row.answers)}) for row in connection.execute(query)]
        return [
            Reason(
                answer,
                None if answer.holds else _since(past, answer.condition, evaluation.at),
                next((at for at, held in past if held.get(answer.condition)), None),
                {name: _last_came(connection, reconciliation, evaluation, name) for name in _missing(answer, evaluation)},
            )
            for answer in evaluation.answers
        ]


def _since(past: list[tuple[datetime, dict[str, bool]]], condition: str, now: datetime) -> datetime:
    """The earliest of the newest evaluations in a row in which the condition did not hold."""
    since = now
    for at, held in past:
        if held.get(condition, True):
            break
        since = at
    return since


def _missing(answer: Answer, evaluation: Evaluation) -> list[str]:
    if answer.condition != conditions.FILES or answer.holds:
        return []
    return list(evaluation.missing[:_NAMED_MAX])


def _last_came(connection: sa.Connection, reconciliation: str, evaluation: Evaluation, name: str) -> datetime | None:
    files = FILES.c
    here = (files.reconciliation == reconciliation, files.source == evaluation.definition.source.name, files.name == name)
    found: datetime | None = connection.scalar(sa.select(sa.func.max(DELIVERED)).where(*here))
    return found
