"""Whether what an aggregation loaded is complete, and whether it is late: verdicts for people, beside the runs themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from recon.aggregations.definitions.load import Definition
from recon.aggregations.definitions.sections import ExpectedNumber
from recon.aggregations.preconditions.conditions import TRIES
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


def late(
    definition: Definition, waiting: Iterable[Evaluation], there: Mapping[str, str], grace: timedelta, now: datetime
) -> dict[str, str]:
    """Scope → why it is not loaded though its time is over, in order of scopes. ``waiting``: evaluations that are not due. ``there``:
    windows with files of its source. ``grace``: as ``allowed`` says. Of the windows without files it looks at the newest."""
    own = [one for one in waiting if one.definition.name == definition.name and not one.settled and not one.past.active]
    found = {
        one.scope: "; ".join(answer.why for answer in one.answers if not answer.passes)
        for one in own
        if _is_over(definition.config.grid, one, grace, now)
    }
    return dict(sorted({**found, **_without_files(definition, there, grace, now)}.items()))


def _is_over(grid: Grid, evaluation: Evaluation, grace: timedelta, now: datetime) -> bool:
    """A scope of all has no end: it is late when its run failed and is not tried again."""
    if evaluation.scope != ALL:
        return now >= grid.after(grid.parse(evaluation.scope)) + grace
    return any(answer.condition == TRIES and not answer.passes for answer in evaluation.answers)


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
