"""Why a scope is not due: each condition, since when it has not held, when it last held, and when a missing file last came."""

from __future__ import annotations

import json
from collections.abc import Iterable
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
_SPEAKS = (conditions.NOT_RUNNING, conditions.TRIES, conditions.FILES, conditions.ROWS, conditions.BYTES)
"""Conditions whose answers say what they are about."""


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


def in_words(reasons: Iterable[Reason], now: datetime) -> str:
    """What a scope waits for: "12 of 13 files: IL-911.tdf is missing since 06:00Z; it last came yesterday at 07:12Z"."""
    return "; ".join(_in_words(reason, now) for reason in reasons if not reason.answer.passes)


def _in_words(reason: Reason, now: datetime) -> str:
    since = f" since {clock(reason.since, now)}" if reason.since and reason.since < now else ""
    names = [] if len(reason.missing) == 1 else [f"{name} " for name in reason.missing]
    came = [f"last came {clock(at, now)}" if at else "has never come" for at in reason.missing.values()]
    last = ", ".join(f"{name}{when}" for name, when in zip(names or ["it "], came, strict=True)) if came else ""
    condition = "" if reason.answer.condition in _SPEAKS else f"{reason.answer.condition}: "
    return f"{condition}{reason.answer.why}{since}" + (f"; {last}" if last else "")


def clock(at: datetime, now: datetime) -> str:
    """A time as people say it: ``07:12Z``, ``yesterday at 07:12Z``, ``2026-11-01 07:12Z``."""
    days = (now.date() - at.date()).days
    return f"{at:%H:%MZ}" if days == 0 else f"yesterday at {at:%H:%MZ}" if days == 1 else f"{at:%Y-%m-%d %H:%MZ}"
