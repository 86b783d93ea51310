"""Commands on aggregations: recon aggregation list, why, run, replay, files, sync."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from recon.cli.options import Common, flat
from recon.cli.progress import Bar
from recon.cli.screen import amount, as_json, count, number, say, table, warn
from recon.cli.sources import run_id
from recon.errors import ReconError, WrongUsage

if TYPE_CHECKING:
    from recon.aggregations.definitions.load import Definition
    from recon.aggregations.preconditions.evaluate import Evaluation
    from recon.aggregations.runs.site import Aggregations
    from recon.aggregations.runs.tracking import Run
    from recon.aggregations.tick import Look

app = typer.Typer(help="Tables of the warehouse, and what they wait for.", no_args_is_help=True)
Named = Annotated[str, typer.Argument(metavar="NAME", help="The aggregation.")]
InWindow = Annotated[str | None, typer.Option("--window", "-w", metavar="W", help="Only this window; 'all' for an aggregation of all.")]
RUNS_SHOWN = 20


def _opened(common: Common) -> Aggregations:
    from recon.aggregations.runs.site import Aggregations

    return Aggregations(common.opened().intake(run_id()))


@flat
def list_(
    runs: Annotated[bool, typer.Option("--runs", help="List the newest runs instead.")] = False,
    *,
    common: Common,
) -> int:
    """List the aggregations with their tables and last runs.

    Exit status 1 if a definition has a mistake.

    \b
    recon aggregation list
    recon aggregation list --runs
    """
    site = _opened(common)
    if runs:
        return _list_runs(site, common.json)
    found = site.definitions()
    rows = [_listed(site, name, made.section.target, made.section.per) for name, made in found.good.items()]
    if common.json:
        as_json({"aggregations": rows, "disabled": list(found.disabled), "broken": dict(found.broken)})
        return 1 if found.broken else 0
    if rows:
        cells = [(row["name"], row["target"], row["per"], row["last"] or "no run yet") for row in rows]
        table(("aggregation", "table", "per", "last run"), cells)
    elif not found.broken:
        say("no aggregations; describe one in aggregations/NAME.yaml, see docs/aggregations.md")
    for name in found.disabled:
        say(f"{name} is disabled")
    for reason in found.broken.values():
        warn(reason)
    return 1 if found.broken else 0


def _listed(site: Aggregations, name: str, target: str, per: str) -> dict[str, Any]:
    last = next(iter(site.runs.all(name, most=1)), None)
    outcome = f"run {last.id}, {last.scope}: {last.state}" + (f": {last.reason}" if last.reason else "") if last else None
    return {"name": name, "target": target, "per": per, "last": outcome}


def _list_runs(site: Aggregations, json: bool) -> int:
    found = site.runs.all(most=RUNS_SHOWN)
    if json:
        as_json([_run_json(run) for run in found])
        return 0
    cells = [(run.id, run.aggregation, run.scope, run.state, f"{run.claimed_at:%Y-%m-%d %H:%M:%SZ}", _outcome(run)) for run in found]
    table(("run", "aggregation", "scope", "state", "claimed", "outcome"), cells, ["run"])
    return 0


@flat
def why(name: Named, window: InWindow = None, *, common: Common) -> None:
    """Show what an aggregation waits for, since when.

    Each condition, down to the missing file, and when it last held.

    \b
    recon aggregation why daily_sales
    recon aggregation why daily_sales --window 2026-11-01T00:00Z
    """
    from recon.aggregations.preconditions.why import reasons

    site = _opened(common)
    definition = _definition(site, name)
    scope, known = _scope(site, window, name), site.definitions().good
    found = site.evaluator.evaluate([definition], settled=True, known=known, scope=scope)
    site.runs.note(one for one in found if not one.due and not one.settled)
    chosen = [one for one in found if scope is not None or not one.settled] or found[-1:]
    explained = [(one, reasons(site.intake.database, site.config.name, one)) for one in chosen]
    if common.json:
        as_json([{"scope": one.scope, "due": one.due, "conditions": [reason.to_json() for reason in each]} for one, each in explained])
        return
    if not explained:
        say(f"no file of source {definition.source.name} has landed yet")
    for one, each in explained:
        say(f"{name}, {one.scope}: {'due; next: recon aggregation run' if one.due else _state(one)}")
        for reason in () if one.settled else each:
            mark = "holds" if reason.answer.holds else "set aside" if reason.answer.set_aside else "waits"
            aside = f"; set aside by {reason.answer.set_aside}" if reason.answer.set_aside else ""
            since = f", since {reason.since:%Y-%m-%d %H:%MZ}" if reason.since else ""
            held = f", last held {reason.held:%Y-%m-%d %H:%MZ}" if reason.held and reason.since else ""
            say(f"  {mark:<9} {reason.answer.condition}: {reason.answer.why}{since}{held}{aside}")
            for file, at in reason.missing.items():
                say(f"            {file}: " + (f"last came {at:%Y-%m-%d %H:%MZ}" if at else "has never come"))


def _state(evaluation: Evaluation) -> str:
    return "done; nothing new" if evaluation.settled else "waiting"


@flat
def run(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="The aggregation; default: all.")] = None,
    window: InWindow = None,
    override: Annotated[
        str | None,
        typer.Option("--override", metavar="CONDITION", help="A condition to set aside, once, as 'why' names it, such as files."),
    ] = None,
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why it is set aside; kept with the run.")] = None,
    *,
    common: Common,
) -> int:
    """Run the aggregations that are due.

    One after the other, then those that waited for them.

    Exit status 1 if a run failed, or if NAME is waiting for something.

    \b
    recon aggregation run
    recon aggregation run daily_sales --window 2026-11-01T00:00Z --override files --reason "store 911 is closed today"
    """
    from recon.aggregations.tick import ask
    from recon.intake.manifests import operator
    from recon.intake.sources.deliver import deliver_breaks

    if (override is None) != (reason is None) or (override is not None and (name is None or window is None)):
        raise WrongUsage("--override needs NAME, --window and --reason: one condition is set aside for one scope, with the reason kept")
    site = _opened(common)
    scope = _scope(site, window, name)
    for file, why in deliver_breaks(site.intake).failed:
        warn(f"{file}: {why}")
    if name is not None:
        ask(site, name, scope, operator())
    if name is not None and scope is not None and override is not None and reason is not None:
        _check_condition(site, name, scope, override)
        site.runs.override(name, scope, override, reason, operator())
    found, done = _run_due(site, None if name is None else [name], scope)
    if common.json:
        waiting = [{"aggregation": one.definition.name, "scope": one.scope, "waits_for": one.waits_for} for one in found.waiting]
        as_json({"runs": [_run_json(one) for one in done], "waiting": waiting, "broken": dict(found.definitions.broken)})
    else:
        _say_runs(done)
        for one in found.waiting:
            say(f"{one.definition.name}, {one.scope} waits: {'; '.join(one.waits_for)}")
        if not done and not found.waiting:
            say("nothing new to aggregate")
    for broken in found.definitions.broken.values():
        warn(broken)
    failed = any(one.state != "completed" for one in done)
    return 1 if failed or found.definitions.broken or (name is not None and found.waiting) else 0


def _scope(site: Aggregations, window: str | None, name: str | None = None) -> str | None:
    """The scope that --window names; None for every one. Raises WrongUsage where the aggregation has no such scope."""
    from recon.aggregations.preconditions.snapshot import ALL
    from recon.model.windows import name_of

    if window is None:
        return None
    per = None if name is None else _definition(site, name).section.per
    if per is not None and (per == ALL) != (window == ALL):
        raise WrongUsage(
            f"--window {window}: {name} has one scope per {per}" if per != ALL else f"--window {window}: {name} has one scope, all"
        )
    return ALL if window == ALL else name_of(site.config.grid.parse(window, "--window"))


def _run_due(site: Aggregations, names: list[str] | None, scope: str | None) -> tuple[Look, list[Run]]:
    """Runs what is due, and then what is due because of that. Each run is claimed when it begins, so that its lease does not run out in a
    queue. Returns the last look, and the runs as they ended."""
    from recon.aggregations.tick import look

    done: list[Run] = []
    tried: set[str] = set()
    while True:
        found = look(site, names, scope)
        due = [one for one in found.due if one.definition.load_id(one.scope, one.versions) not in tried]
        if not due:
            return found, done
        for one in due:
            tried.add(one.definition.load_id(one.scope, one.versions))
            if (claimed := site.runs.claim(one, run_id())) is not None:
                done.append(_carried_out(site, claimed))


def _check_condition(site: Aggregations, name: str, window: str, condition: str) -> None:
    from recon.aggregations.preconditions.conditions import FIRM

    definitions = site.definitions().good
    (found,) = site.evaluator.evaluate([definitions[name]], settled=True, known=definitions, scope=window)
    known = [answer.condition for answer in found.answers if answer.condition not in FIRM]
    if condition not in known:
        raise WrongUsage(
            f"--override {condition}: {name} has no such condition that can be set aside; there are {', '.join(known) or 'none'}"
        )


def _carried_out(site: Aggregations, claimed: Run) -> Run:
    """Carries out a run and returns it as it ended; a failed one does not stop the others."""
    from recon.aggregations.runs.carry_out import carry_out

    with Bar("aggregate") as bar:
        try:
            return carry_out(site, claimed, run_id(), bar)
        except ReconError:
            return site.runs.get(claimed.id)


def _say_runs(runs: list[Run]) -> None:
    for one in runs:
        said = say if one.state == "completed" else warn
        said(f"{one.aggregation}, {one.scope}: run {one.id} {one.state}: {_outcome(one)}")


def _outcome(run: Run) -> str:
    if run.state != "completed":
        return run.reason
    figures = run.figures
    if figures.get("again"):
        return f"{figures['target']} had these {count(figures['rows'], 'row')} already; nothing changed"
    changed = ", ".join(f"{figures[name]} {name}" for name in ("inserted", "updated", "deleted") if figures.get(name)) or "nothing changed"
    totals = "; ".join(f"{name} {amount(value)}" for name, value in figures.get("totals", {}).items())
    return f"{count(figures['rows'], 'row')} in {figures['target']} ({changed})" + (f"; {totals}" if totals else "")


@flat
def replay(
    run: Annotated[int, typer.Argument(metavar="RUN", help="The run, by its number in 'recon aggregation list --runs'.")],
    *,
    common: Common,
) -> int:
    """Take the file versions of an earlier run again.

    They are aggregated by the definition of that run, and loaded. Then the next run takes what is there now.

    \b
    recon aggregation replay 17
    """
    from recon.aggregations.replay import replay

    site = _opened(common)
    done = _carried_out(site, replay(site, run, run_id()))
    if common.json:
        as_json(_run_json(done))
    else:
        _say_runs([done])
    return 0 if done.state == "completed" else 1


@flat
def files(
    name: Named,
    state: Annotated[
        Literal["claimed", "running", "completed", "failed", "cancelled"] | None,
        typer.Option("--state", help="Only files of runs in this state."),
    ] = None,
    window: InWindow = None,
    *,
    common: Common,
) -> None:
    """List the files behind an aggregation.

    By default those of the newest run of each scope.

    \b
    recon aggregation files daily_sales --state failed
    """
    site = _opened(common)
    newest: dict[str, Run] = {}
    for one in site.runs.all(name, _scope(site, window), state):
        newest.setdefault(one.scope, one)
    rows = [
        {"scope": one.scope, "run": one.id, "state": one.state, "file": file["name"], "id": file["id"], "rows": file["kept"]}
        for one in newest.values()
        for file in site.runs.files(one)
    ]
    if common.json:
        as_json(rows)
    elif rows:
        cells = [(row["scope"], row["run"], row["state"], row["id"], row["file"], number(row["rows"] or 0)) for row in rows]
        table(("scope", "run", "state", "id", "file", "rows"), cells, ["run", "id", "rows"])
    else:
        _definition(site, name)
        say("no runs" + (f" that are {state}" if state else ""))


@flat
def sync(
    preview: Annotated[bool, typer.Option("--preview", help="Only show the differences.")] = False,
    take: Annotated[
        Literal["file", "table"] | None, typer.Option("--take", help="What counts where a row of the table was edited by SQL.")
    ] = None,
    *,
    common: Common,
) -> int:
    """Write the definitions' files to their table.

    Shows how aggregations/*.yaml and the table 'aggregations' differ. Every run does this, too.

    Exit status 1 if a definition has a mistake, or a file and its row have both changed.

    \b
    recon aggregation sync --preview
    recon aggregation sync --take file
    """
    site = _opened(common)
    found = site.preview() if preview else site.definitions(take)
    if common.json:
        changes = [{"name": one.name, "action": one.action, "fields": {f: list(v) for f, v in one.fields.items()}} for one in found.changes]
        as_json({"changes": changes, "broken": dict(found.broken)})
        return 1 if found.broken else 0
    for change in found.changes:
        say(f"{change.name}: {_ACTIONS[change.action]}")
        for field, (there, here) in change.fields.items():
            say(f"  {field}: {there or '-'} → {here or '-'}")
    if not found.changes:
        say("the files and the table say the same")
    for reason in found.broken.values():
        warn(reason)
    return 1 if found.broken else 0


_ACTIONS = {
    "insert": "new in the files",
    "update": "changed in its file",
    "delete": "its file is gone",
    "keep": "edited in the table, which counts while the file is unchanged",
    "conflict": "both the file and the row in the table have changed",
}


def _definition(site: Aggregations, name: str) -> Definition:
    return site.definitions().named(name)


def _run_json(run: Run) -> dict[str, Any]:
    from recon.aggregations.preconditions.snapshot import split

    times = {name: at.isoformat() if (at := getattr(run, name)) else None for name in ("claimed_at", "started_at", "ended_at")}
    known = {name: getattr(run, name) for name in ("id", "aggregation", "scope", "state", "attempt", "replays", "worker", "reason", "load")}
    return {**known, **times, "versions": split(run.versions), "figures": dict(run.figures)}


COMMANDS = {"list": list_, "why": why, "run": run, "replay": replay, "files": files, "sync": sync}
