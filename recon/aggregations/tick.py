"""One look at all aggregations: ends dead runs, evaluates, and claims what is due; or one scope, for a person who asks."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from recon.aggregations.definitions.read import Definitions
from recon.aggregations.preconditions.conditions import TRIES
from recon.aggregations.preconditions.evaluate import Evaluation
from recon.aggregations.preconditions.why import in_words, reasons
from recon.aggregations.runs.monitor import end_dead
from recon.aggregations.runs.site import Aggregations
from recon.aggregations.runs.tracking import Run
from recon.errors import NotReady, TryAgain, WrongUsage


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


def ask(site: Aggregations, name: str, scope: str | None, by: str) -> Definitions:
    """Sets the count of failed tries aside, for one scope or all: a person asks for the run. ``by``: who asks. Returns the definitions.

    Raises WrongUsage for a definition that is disabled, or has a mistake."""
    definitions = site.definitions()
    for found in site.evaluator.evaluate([definitions.named(name)], known=definitions.good, scope=scope):
        if any(answer.condition == TRIES and not answer.passes for answer in found.answers):
            site.runs.override(name, found.scope, TRIES, "asked to run again", by)
    return definitions


def asked_run(site: Aggregations, name: str, scope: str, by: str, worker: str) -> Run:
    """The run of one scope for a person who asks: claimed where it is due, the completed one where nothing is new.

    Raises NotReady, which says what the scope waits for, WrongUsage as ``ask``, and TryAgain where another process was faster."""
    definitions = ask(site, name, scope, by)
    evaluated = site.evaluator.evaluate([definitions.named(name)], settled=True, known=definitions.good, scope=scope)
    if not evaluated:
        raise WrongUsage(f"{name}: it has no {scope} by its definition as it is now; press Reload")
    (found,) = evaluated
    if found.settled and found.past.completed is not None:
        return site.runs.get(found.past.completed["id"])
    if not found.due:
        site.runs.note([found])
        waits_for = in_words(reasons(site.intake.database, site.config.name, found), found.at)
        raise NotReady(f"{name}, {scope} waits: {waits_for}", [scope])
    run = site.runs.claim(found, worker)
    if run is None:
        raise TryAgain(f"{name}, {scope}: its files changed, or another run began, at this moment; try again")
    return run
