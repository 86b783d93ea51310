"""One look at all aggregations: ends dead runs, evaluates, and claims what is due."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from recon.aggregations.definitions.read import Definitions
from recon.aggregations.preconditions.evaluate import Evaluation
from recon.aggregations.runs.monitor import end_dead
from recon.aggregations.runs.site import Aggregations
from recon.aggregations.runs.tracking import Run


@dataclass(frozen=True)
class Tick:
    """``claimed``: runs to carry out. ``waiting``: what is not due, and why. ``ended``: runs whose processes had died."""

    definitions: Definitions
    claimed: tuple[Run, ...]
    waiting: tuple[Evaluation, ...]
    ended: tuple[Run, ...]


def tick(
    site: Aggregations, only: Collection[str] | None = None, scope: str | None = None, now: datetime | None = None, worker: str = ""
) -> Tick:
    """Claims every scope that is due. ``only``: names of aggregations, default all; ``scope``: only this one."""
    ended = end_dead(site)
    definitions = site.definitions()
    wanted = [made for name, made in definitions.good.items() if only is None or name in only]
    evaluations = [found for found in site.evaluator.evaluate(wanted, now) if scope is None or found.scope == scope]
    due = [found for found in evaluations if found.due]
    waiting = [found for found in evaluations if not found.due]
    site.runs.note(waiting)
    claimed = [run for found in due if (run := site.runs.claim(found, worker)) is not None]
    return Tick(definitions, tuple(claimed), tuple(waiting), tuple(ended))
