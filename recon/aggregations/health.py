"""Whether what an aggregation loaded is complete, and whether it is late: verdicts for people, beside the runs themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from recon.aggregations.definitions.load import Definition
from recon.aggregations.definitions.sections import ExpectedNumber
from recon.aggregations.preconditions.conditions import ATTEMPTS, CADENCE, TRIES
from recon.aggregations.preconditions.evaluate import Evaluation
from recon.aggregations.preconditions.snapshot import ALL
from recon.aggregations.runs.site import Aggregations
from recon.intake.sources.arrivals import expected_here
from recon.model.windows import Grid, name_of

_WINDOWS_MAX = 400


def incomplete(site: Aggregations, name: str) -> dict[str, str]:
    """Scope → which conditions were set aside for its last completed run, by what, so that its rows may lack some input."""
    found = {
        scope: "; ".join(f"{condition} set aside: {by}" for condition, by in conditions.items() if condition != TRIES)
        for scope, conditions in site.runs.set_aside(name).items()
    }
    return {scope: why for scope, why in found.items() if why}


def allowed(definition: Definition, otherwise: timedelta) -> timedelta:
    """How long after a window's end its rows may be missing: the definition's deadline, or when its source expects the files."""
    expect = definition.source.section.expect
    return definition.section.deadline or (expect.by if expect is not None and expect.by is not None else otherwise)


@dataclass(frozen=True)
class Overdue:
    """A scope that is not loaded though its time is over. ``since``: when that was, None for a scope without an end. ``state``: whether it
    waits for something, or is due, or a run is at work. ``loaded``: whether an earlier run has loaded other input. ``why``: in words."""

    scope: str
    since: datetime | None
    state: Literal["waits", "due", "runs"]
    loaded: bool
    why: str


def overdue(
    definition: Definition, evaluations: Iterable[Evaluation], there: Mapping[str, str], grace: timedelta, now: datetime
) -> dict[str, Overdue]:
    """Scope → why it is overdue, in order of scopes. ``evaluations``: of this definition and others. ``there``: windows with files of its
    source. ``grace``: as ``allowed`` says. Of the windows without files it looks at the newest."""
    grid, found = definition.config.grid, dict[str, Overdue]()
    for one in evaluations:
        if one.definition.name != definition.name or one.settled or _is_early(one) or not _is_over(grid, one, grace, now):
            continue
        state: Literal["waits", "due", "runs"] = "runs" if one.past.active else "due" if one.due else "waits"
        why = "; ".join(answer.why for answer in one.answers if not answer.passes) or "it is due, and no run has begun"
        found[one.scope] = Overdue(one.scope, _due_at(grid, one.scope, grace), state, one.past.completed is not None, why)
    for scope, why in _without_files(definition, there, grace, now).items():
        found.setdefault(scope, Overdue(scope, _due_at(grid, scope, grace), "waits", False, why))
    return dict(sorted(found.items()))


def late(
    definition: Definition, evaluations: Iterable[Evaluation], there: Mapping[str, str], grace: timedelta, now: datetime
) -> dict[str, str]:
    """Scope → what it waits for though its time is over, in order of scopes; without those that are due or at work. The arguments are those
    of ``overdue``."""
    found = overdue(definition, evaluations, there, grace, now)
    return {scope: one.why for scope, one in found.items() if one.state == "waits"}


@dataclass(frozen=True)
class Unloaded:
    """The scopes of an aggregation that are not settled. ``grace``: as ``allowed`` says."""

    definition: Definition
    grace: timedelta
    evaluations: tuple[Evaluation, ...]
    overdue: Mapping[str, Overdue]

    @property
    def by_state(self) -> dict[str, int]:
        """State → number of scopes; a scope that is late is in another state, too, or has no file."""
        running = sum(one.past.active for one in self.evaluations)
        due = sum(one.due for one in self.evaluations)
        return {"running": running, "due": due, "waiting": len(self.evaluations) - running - due, "late": len(self.overdue)}


def unloaded(site: Aggregations, now: datetime | None = None) -> tuple[list[Unloaded], Mapping[str, str]]:
    """What is not loaded of each aggregation, and the mistakes of those that are disabled by one. Nothing is written. ``now``: by default
    the database's clock."""
    definitions, at = site.preview(), site.runs.now() if now is None else now
    evaluations = site.evaluator.evaluate(definitions.good.values(), at, known=definitions.good)
    found = []
    for definition in definitions.good.values():
        own = tuple(one for one in evaluations if one.definition.name == definition.name)
        there, grace = site.evaluator.files.windows(definition.source.name), allowed(definition, site.config.freshness)
        found.append(Unloaded(definition, grace, own, overdue(definition, own, there, grace, at)))
    return found, definitions.broken


def _due_at(grid: Grid, scope: str, grace: timedelta) -> datetime | None:
    return None if scope == ALL else grid.after(grid.parse(scope)) + grace


def _is_early(evaluation: Evaluation) -> bool:
    """Whether it waits for nothing but its cadence, which the definition asks for."""
    waits_for = [answer.condition for answer in evaluation.answers if not answer.passes]
    return waits_for == [CADENCE]


def _is_over(grid: Grid, evaluation: Evaluation, grace: timedelta, now: datetime) -> bool:
    """A scope of all has no end: it is late when its run failed, or was cancelled, and is not tried again."""
    if (due_at := _due_at(grid, evaluation.scope, grace)) is not None:
        return now >= due_at
    newest, failed = evaluation.past.newest, any(answer.condition == TRIES and not answer.passes for answer in evaluation.answers)
    return failed and newest is not None and (newest["state"] == "cancelled" or newest["attempt"] >= ATTEMPTS)


def _without_files(definition: Definition, there: Mapping[str, str], grace: timedelta, now: datetime) -> dict[str, str]:
    """The windows in which files are expected by name, and none has come."""
    expect, grid = definition.section.expect, definition.config.grid
    if definition.section.per == ALL or isinstance(expect, ExpectedNumber) or not there:
        return {}
    last = grid.index(now)
    windows = map(grid.at, range(max(grid.index(grid.parse(min(there))), last - _WINDOWS_MAX), last + 1))
    over = {name_of(window): window for window in windows if now >= grid.after(window) + grace}
    always = all(entry.from_ is None and entry.until is None for entry in expect)
    found = {}
    for name in over.keys() - there.keys():
        if expected := len(expect) if always else sum(expected_here(entry, grid, over[name]) for entry in expect):
            found[name] = f"0 of {expected} files"
    return found
