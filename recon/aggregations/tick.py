"""One look at all aggregations: ends dead runs, evaluates, and claims what is due."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from recon.aggregations.definitions.load import Definition
from recon.aggregations.definitions.read import Definitions
from recon.aggregations.preconditions.conditions import TRIES
from recon.aggregations.preconditions.evaluate import Evaluation
from recon.aggregations.runs.monitor import end_dead
from recon.aggregations.runs.site import Aggregations
from recon.aggregations.runs.tracking import Run


@dataclass(frozen=True)
class Look:
    """``due``: what may be claimed. ``waiting``: what is not due, and why; ``changed``: those of them that waited for something else
    before. ``ended``: runs whose processes had died."""

    definitions: Definitions
    due: tuple[Evaluation, ...]
    waiting: tuple[Evaluation, ...]
    changed: tuple[Evaluation, ...]
    ended: tuple[Run, ...]


@dataclass(frozen=True)
class Tick:
    """``claimed``: runs to carry out. ``waiting``: what is not due, and why. ``ended``: runs whose processes had died."""

    definitions: Definitions
    claimed: tuple[Run, ...]
    waiting: tuple[Evaluation, ...]
    ended: tuple[Run, ...]


def look(site: Aggregations, only: Collection[str] | None = None, scope: str | None = None, now: datetime | None = None) -> Look:
    """Evaluates without claiming. ``only``: names of aggregations, default all; ``scope``: only this one."""
    ended = end_dead(site)
    definitions = site.definitions()
    wanted = [made for name, made in definitions.good.items() if only is None or name in only]
    evaluations = site.evaluator.evaluate(wanted, now, known=definitions.good, scope=scope)
    waiting = tuple(found for found in evaluations if not found.due)
    changed = tuple(site.runs.note(waiting))
    return Look(definitions, tuple(found for found in evaluations if found.due), waiting, changed, tuple(ended))


def tick(
    site: Aggregations, only: Collection[str] | None = None, scope: str | None = None, now: datetime | None = None, worker: str = ""
) -> Tick:
    """Claims every scope that is due; the arguments are those of ``look``."""
    found = look(site, only, scope, now)
    claimed = [run for one in found.due if (run := site.runs.claim(one, worker)) is not None]
    return Tick(found.definitions, tuple(claimed), found.waiting, found.ended)


def ask(site: Aggregations, definition: Definition, scope: str | None, by: str) -> None:
    """Sets the count of failed tries aside, for one scope or all: a person asks for the run. ``by``: who asks."""
    for found in site.evaluator.evaluate([definition]):
        refused = any(answer.condition == TRIES and not answer.passes for answer in found.answers)
        if refused and scope in (None, found.scope):
            site.runs.override(definition.name, found.scope, TRIES, "asked to run again", by)
