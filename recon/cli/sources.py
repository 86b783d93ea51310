"""Commands on sources and on the files received from them: recon source, recon files, and land --from."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recon.cli.options import Common, flat
from recon.cli.progress import Bar
from recon.cli.screen import as_json, count, number, say, table, warn
from recon.errors import TryAgain, WrongInput, WrongUsage

if TYPE_CHECKING:
    from recon.intake.sources.deliver import Delivered
    from recon.intake.sources.site import Intake
    from recon.intake.sources.tracking import Tracked

source_app = typer.Typer(help="Sources: how senders' files are cleaned.", no_args_is_help=True)
files_app = typer.Typer(help="Received files: what became of each.", no_args_is_help=True)
SHOWN_MAX = 20
Rejected = Annotated[list[str], typer.Argument(metavar="FILE", help="Rejected files, by number or name.")]


def run_id() -> str:
    """The id of this process's work, for the trace of a file."""
    return f"cli-{os.getpid()}"


@flat
def source_list(common: Common) -> int:
    """List the sources with their patterns and files. Exit status 2 if a source has a mistake.

    \b
    recon source list
    """
    intake = common.opened().intake(run_id())
    _list_sources(intake, common)
    return say_broken(intake.broken)


def _list_sources(intake: Intake, common: Common) -> None:
    rows: list[dict[str, Any]] = []
    for source in intake.sources.values():
        states = [file.state for file in intake.tracking.files(source=source.name)]
        counts = {state: states.count(state) for state in dict.fromkeys(states)}
        rows.append({"source": source.name, "files": list(source.section.files), "format": source.section.layout.kind, "received": counts})
    if common.json:
        as_json(rows)
        return
    if not rows and not intake.broken:
        say("no sources; describe one in sources/NAME.yaml, see docs/intake.md")
        return
    cells = [
        (row["source"], ", ".join(row["files"]), row["format"], ", ".join(f"{n} {state}" for state, n in row["received"].items()) or "none")
        for row in rows
    ]
    table(("source", "files", "format", "received"), cells)


@flat
def source_try(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file as a sender delivers it.")],
    name: Annotated[
        str | None, typer.Option("--source", metavar="NAME", help="The source; default: the one that the name matches.")
    ] = None,
    rows: Annotated[int, typer.Option("--rows", min=1, max=1000, help="How many rows to show.")] = 5,
    *,
    common: Common,
) -> int:
    """Show what a file would become: its first rows, the cleaning steps that fired, and its rejects. Writes nothing.

    Exit status 1 if the file would be rejected.

    \b
    recon source try IL-101.tdf
    """
    from recon.intake.sources.trial import attempt

    with Bar(f"try {file}"):
        tried = attempt(common.opened().intake(run_id()), Path(file), name, rows)
    if common.json:
        as_json(tried)
        return 1 if tried["fault"] else 0
    say(f"{file}: source {tried['source']}, window {tried['window'] or 'unknown'}, {count(tried['rows'], 'row')}")
    if tried["first"]:
        columns = list(tried["first"][0])
        table(columns, [[row[column] for column in columns] for row in tried["first"]])
    for column, steps in tried["changes"].items():
        say(f"cleaned {column}: " + ", ".join(f"{step} ({count(values, 'value')})" for step, values in steps.items()))
    for check, reported in tried["reported"].items():
        say(f"reported {check}: {count(reported['rows'], 'row')}, first {reported['first'][0]['place']}: {reported['first'][0]['message']}")
    for control in tried["controls"]:
        say(f"total {control['where']}: {control['what']} {control['declared']}, computed {control['computed']}")
    for reject in tried["rejects"]:
        say(f"would reject {reject['place']}: {reject['reason']}: {reject['raw'][:80]}")
    if tried["fault"]:
        warn(f"{file} would be rejected: {tried['fault']}")
        return 1
    say(f"{count(tried['kept'], 'row')} would land, {count(tried['rejected'], 'row')} would be rejected")
    return 0


@flat
def source_reconvert(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The source whose rules have changed.")],
    window: Annotated[str | None, typer.Option("--window", "-w", metavar="W", help="Only files of this window.")] = None,
    *,
    common: Common,
) -> int:
    """Convert the landed files of a source again, from the bytes as received, by its rules as they are now.

    A file whose clean rows change replaces its earlier version in the window. The next run counts the difference.

    \b
    recon source reconvert stores
    """
    from recon.intake.sources.reconvert import reconvert

    with Bar(f"reconvert {name}") as bar:
        done = reconvert(common.opened().intake(run_id()), name, window, bar)
    if common.json:
        as_json({"changed": [_row(file) for file in done.changed], "same": done.same, "failed": done.failed})
    else:
        for file in done.changed:
            say(f"{file.shown}: {number(file.kept or 0)} of {count(file.rows or 0, 'row')} in window {file.window}, replaced")
        say(
            f"{count(len(done.changed), 'file')} changed, {done.same} unchanged"
            + (f"; next: recon run{common.suffix}" if done.changed else "")
        )
    for shown, reason in done.failed:
        warn(f"{shown}: {reason}")
    return 1 if done.failed else 0


@flat
def files_list(
    source: Annotated[str | None, typer.Option("--source", metavar="NAME", help="Only files of this source.")] = None,
    state: Annotated[str | None, typer.Option("--state", metavar="STATE", help="Only files in this state, such as rejected.")] = None,
    window: Annotated[str | None, typer.Option("--window", "-w", metavar="W", help="Only files of this window.")] = None,
    *,
    common: Common,
) -> None:
    """List the received files with their state, rows and window.

    \b
    recon files list
    recon files list --state rejected
    """
    from recon.intake.sources.tracking import STATES

    if state is not None and state not in STATES:
        raise WrongUsage(f"--state {state}: there are {', '.join(STATES)}")
    chosen = {"source": source, "state": state, "window": window}
    found = common.opened().intake(run_id()).tracking.files(**{name: value for name, value in chosen.items() if value is not None})
    if common.json:
        as_json([_row(file) for file in found])
        return
    if not found:
        say("no such files")
        return
    cells = [
        (str(file.id), file.shown, file.source, file.state, file.window, file.rows, file.kept, file.rejected_rows, file.reason or None)
        for file in found
    ]
    shown = [[None if cell is None else number(cell) if isinstance(cell, int) else cell for cell in row] for row in cells]
    table(
        ("file", "name", "source", "state", "window", "rows", "landed", "rejected", "reason"), shown, ("file", "rows", "landed", "rejected")
    )


@flat
def files_show(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Its number, or its name where only one file has it.")],
    line: Annotated[int | None, typer.Option("--line", metavar="N", help="The original text of the row in this line.")] = None,
    *,
    common: Common,
) -> None:
    """Show one received file: the time of each state, the runs that worked on it, what was cleaned, and its rejected rows.

    \b
    recon files show IL-311.tdf
    recon files show 12 --line 3
    """
    from recon.intake.sources.details import details, original

    intake = common.opened().intake(run_id())
    tracked = intake.tracking.file(file)
    if line is not None:
        text = original(intake, tracked, line)
        if common.json:
            as_json({"file": tracked.shown, "line": line, "raw": text})
        else:
            say(text)
        return
    found = details(intake, tracked)
    if common.json:
        as_json(found)
        return
    _say_details(tracked, found)


@flat
def files_retry(
    files: Rejected,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; the file keeps it.")] = "",
    *,
    common: Common,
) -> int:
    """Take rejected or discarded files up again, after their source's rules, or whatever failed, were corrected.

    \b
    recon files retry IL-311.tdf --reason "the drop rule was missing"
    """
    from recon.intake.sources.deliver import Delivered, process_open

    intake, found = common.opened().intake(run_id()), Delivered()
    for named in files:
        tracked = intake.tracking.file(named)
        if tracked.state not in ("rejected", "discarded"):
            raise WrongUsage(f"{tracked.shown}: its state is {tracked.state}; only a rejected or discarded file is retried")
        intake.tracking.retried(tracked, reason)
    with Bar("retry") as bar:
        process_open(intake, found, bar)
    return say_delivered(found, common)


@flat
def files_discard(
    files: Rejected,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; the file keeps it.")],
    *,
    common: Common,
) -> None:
    """Give rejected files up, such as a file that was no delivery. They are kept, and no command reports them any more.

    \b
    recon files discard IL-311.tdf --reason "sent by mistake; the sender knows"
    """
    tracking = common.opened().intake(run_id()).tracking
    chosen = [tracking.file(named) for named in files]
    for tracked in chosen:
        if tracked.state != "rejected":
            raise WrongUsage(f"{tracked.shown}: its state is {tracked.state}; only a rejected file is discarded")
    for tracked in chosen:
        tracking.discard(tracked, reason)
    if common.json:
        as_json([_row(tracking.file(str(tracked.id))) for tracked in chosen])
    else:
        say(f"{count(len(chosen), 'file')} discarded; 'recon files retry FILE' takes one up again")


def _say_details(tracked: Tracked, found: Mapping[str, Any]) -> None:
    """Prints all of a received file."""
    say(f"file {tracked.id}, {tracked.shown}, source {tracked.source}: {tracked.state}" + (f": {tracked.reason}" if tracked.reason else ""))
    say(f"{count(tracked.size, 'byte')}, sha256 {tracked.digest}")
    if tracked.window:
        say(f"window {tracked.window}" + (f", landed as {tracked.landed_as}" if tracked.landed_as else ""))
    if tracked.rows is not None:
        rows = f"{count(tracked.rows, 'row')} = {number(tracked.kept or 0)} landed + {number(tracked.rejected_rows or 0)} rejected"
        say(
            rows
            if tracked.state == "landed"
            else f"{count(tracked.rows, 'row')}, {number(tracked.rejected_rows or 0)} rejected by a rule or check"
        )
    for state, at in found["times"].items():
        say(f"  {state:<11} {at:%Y-%m-%dT%H:%M:%SZ}")
    for column, steps in found["figures"].get("changes", {}).items():
        say(f"cleaned {column}: " + ", ".join(f"{step} ({count(values, 'value')})" for step, values in steps.items()))
    for check, reported in found["figures"].get("reported", {}).items():
        first = reported["first"][0]
        say(f"reported {check}: {count(reported['rows'], 'row')}, first {first['place']}: {first['message']}")
    for run in found["runs"]:
        say(f"  {run['step']:<11} by run {run['run']}")
    if found["rejects"]:
        table(("place", "reason", "row"), [(row["place"], row["reason"], row["raw"][:80]) for row in found["rejects"][:SHOWN_MAX]])
        if len(found["rejects"]) > SHOWN_MAX:
            say(f"… {number(len(found['rejects']) - SHOWN_MAX)} more; all of them with --json")


def deliver(inbox: str, common: Common) -> int:
    """What ``recon land --from`` does."""
    from recon.intake.sources.deliver import deliver as deliver_from

    with Bar(f"land {inbox}") as bar:
        found = deliver_from(common.opened().intake(run_id()), inbox, bar)
    return say_delivered(found, common)


def say_delivered(found: Delivered, common: Common) -> int:
    """Prints what became of delivered files. Returns 2 where a source has a mistake, 1 where a file was rejected or failed or a source is
    stopped, 3 where functions on AWS still work on records or a file is still being written."""
    rejected = found.not_landed
    if common.json:
        as_json(
            {
                "files": [_row(file) for file in found.files],
                "again": [file.shown for file in found.again],
                "unknown": found.unknown,
                "closed": found.closed,
                "missing": {window: [arrival.name for arrival in missing] for window, missing in found.open.items()},
                "failed": dict(found.failed),
                "changing": dict(found.changing),
                "rejected": [_row(file) for file in rejected],
                "stopped": {source: file.id for source, file in found.stopped.items()},
                "broken": {source: str(error) for source, error in found.broken.items()},
            }
        )
    else:
        _say_delivered(found, common)
    for file in rejected:
        warn(f"{file.shown}: {'rejected earlier' if file in found.rejected else 'rejected'}: {_why_and_next(file)}")
    for name, file in found.stopped.items():
        warn(
            f"source {name} is stopped by {file.shown}, file {file.id}: its other files wait until that is corrected, retried, or discarded"
        )
    for name, reason in (*found.failed, *found.changing):
        warn(f"{name}: {reason}")
    for name in found.unknown:
        warn(f"{name}: no source's pattern matches this name; see 'recon source list'")
    if found.broken:
        return say_broken(found.broken)
    if rejected or found.failed or found.stopped:
        return WrongInput.exit_status
    return TryAgain.exit_status if found.waiting or found.changing else 0


def say_broken(broken: Mapping[str, WrongUsage]) -> int:
    """Prints what is wrong with sources. Returns 2 where something is."""
    for error in broken.values():
        warn(f"{error}; this source takes no file until then")
    return WrongUsage.exit_status if broken else 0


def _why_and_next(file: Tracked) -> str:
    """Why a file was rejected, and what can be done."""
    reason = file.reason.removeprefix(f"{file.shown}: ")
    rows = f"'recon files show {file.id}' has the rows, " if file.rejects else ""
    return f"{reason}; {rows}'recon files retry {file.id}' takes it up again, 'recon files discard {file.id}' gives it up"


def _say_delivered(found: Delivered, common: Common) -> None:
    landed = [file for file in found.files if file.state == "landed"]
    superseded = [file for file in found.files if file.state == "superseded"]
    rows, kept = sum(file.rows or 0 for file in landed), sum(file.kept or 0 for file in landed)
    if landed:
        say(f"{count(len(landed), 'file')} landed: {count(rows, 'row')} = {number(kept)} landed + {number(rows - kept)} rejected")
    elif not (found.files or found.again or found.failed or found.changing):
        say("no new files" + (f"; {count(len(found.rejected), 'file')} of the inbox rejected earlier" if found.rejected else ""))
    for file in landed:
        for check, reported in file.figures.get("reported", {}).items():
            first = reported["first"][0]
            say(f"{file.shown}: reported, {check}: {count(reported['rows'], 'row')}, first {first['place']}: {first['message']}")
        if file.rejected_rows:
            say(f"{file.shown}: {count(file.rejected_rows, 'row')} rejected: {'; '.join(list(file.figures['reasons'])[:3])}")
    for file in found.waiting:
        say(f"{file.shown}: not landed yet: {file.reason}")
    for file in superseded:
        say(f"{file.shown}: superseded, {file.reason}")
    if found.again:
        say(f"{count(len(found.again), 'file')} received before; nothing changed")
    for window in found.closed:
        say(f"window {window} is closed: every expected file is here; next: recon run{common.suffix}")
    for window, missing in found.open.items():
        if missing:
            names = ", ".join(arrival.missing for arrival in missing[:5]) + (" …" if len(missing) > 5 else "")
            say(f"window {window} is open: {count(len(missing), 'expected file')} missing: {names}")
        elif any(file.window == window and file.state == "landed" for file in found.files):
            say(f"window {window} has landed files; next, when it is complete: recon close {shlex.quote(window)}{common.suffix}")


def _row(file: Tracked) -> dict[str, Any]:
    """A tracked file as JSON."""
    return {name: value for name, value in vars(file).items() if name not in ("reconciliation", "figures", "rejects")}


SOURCE_COMMANDS = {"list": source_list, "try": source_try, "reconvert": source_reconvert}
FILES_COMMANDS = {"list": files_list, "show": files_show, "retry": files_retry, "discard": files_discard}
