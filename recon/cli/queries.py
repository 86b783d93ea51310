"""Commands that only read: status, certificate, show, export."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recon.cli.caveats import say_caveats, say_written
from recon.cli.certificates import say_certificate, say_completeness
from recon.cli.options import Common, Key, Moment, flat
from recon.cli.progress import Bar
from recon.cli.screen import amount, as_json, count, number, say, say_bounds, seen, table, warn
from recon.errors import WrongInput, WrongUsage

if TYPE_CHECKING:
    from recon.api import Reconciliation

WINDOWS_SHOWN = 20


@flat
def status(
    window: Annotated[str | None, typer.Argument(metavar="W", help="One window, with its files and certificate.")] = None,
    *,
    common: Common,
) -> int:
    """Show the windows, what waits, and the watermark.

    Every window up to the watermark is closed and done. With a window: whether it closed and whether it ties; what was expected,
    received, late, duplicate or rejected; its files and its certificate, and the received files that it lacks. Exit status 1 if files
    are missing (SHORT), every row of a window was rejected, a window could not be processed, a received file is rejected, or the rules
    have changed.

    \b
    recon status
    recon status 2026-11-01T00:00Z
    """
    answer = common.opened().status(window, None if common.json else WINDOWS_SHOWN)
    if common.json:
        as_json(answer)
    elif window is None:
        _say_status(answer, common.suffix)
    else:
        _say_window(answer, common.suffix)
    return _status_of(answer, common.json) if window is None else _status_of_window(answer)


def _status_of(answer: dict[str, Any], json: bool) -> int:
    for caveat in answer["caveats"]:
        if caveat["wrong"]:
            warn(caveat["text"])
        elif not json and caveat["kind"] in ("conflicts", "rejected", "files_open"):  # the others are in the lines above
            say(caveat["text"])
    return 0 if answer["ok"] else 1


def _status_of_window(answer: dict[str, Any]) -> int:
    """1 for a window that is short, does not tie, could not be processed, has every row rejected, or lacks a received or expected file."""
    from recon.reading.status import wrong_in

    wrong = wrong_in(answer)
    for what in wrong:
        warn(f"window {answer['window']}: {what}")
    return 1 if wrong else 0


def _say_status(answer: dict[str, Any], suffix: str) -> None:
    say(f"{answer['name']}, commit {number(answer['commit'])}, rules {answer['rules']}")
    upto = "(every window up to and including it is closed and done)"
    say(
        f"watermark: {answer['watermark']} {upto}"
        if answer["watermark"]
        else "watermark: none yet, the first window is not closed and done"
    )
    backlog = answer["backlog"]
    waiting = f"{count(len(backlog), 'closed window')}, from {backlog[0]}: recon run{suffix}" if backlog else "nothing"
    if answer["rules_now"] != answer["rules"]:
        waiting = "nothing can run until 'recon rebuild', since the rules changed"
    say(f"waiting for a run: {waiting}")
    if still_open := answer["open"]:
        named = ", ".join(still_open[:3]) + (" …" if len(still_open) > 3 else "")
        say(f"open, though they hold files: {named} ({number(len(still_open))}); close one with 'recon close W{suffix}'")
    if answer["artifacts"]:
        say(f"artifacts: {number(sum(answer['artifacts'].values()))}")
        table(["status", "artifacts"], [(name, number(n)) for name, n in answer["artifacts"].items()], ["artifacts"])
        say(f"bytes of part-files: {', '.join(f'{number(size)} {what}' for what, size in answer['bytes'].items())}")
        say_bounds(answer["bounds"])
    windows = answer["windows"]
    if not windows:
        say("no window holds anything yet")
        return
    figures = ("rows", "accepted", "duplicates", "rejected", "keys")
    if len(windows) > WINDOWS_SHOWN:
        hidden = number(len(windows) - WINDOWS_SHOWN)
        say()
        say(f"the newest {WINDOWS_SHOWN} of {count(len(windows), 'window')}; --json has the other {hidden}")
    rows = [
        [line[name] for name in ("window", "stage", "landed", "committed")]
        + [number(line[name]) if name in line else None for name in figures]
        for line in windows[-WINDOWS_SHOWN:]
    ]
    table(["window", "stage", "landed", "committed", *figures], rows, ["landed", "committed", *figures])


def _say_window(answer: dict[str, Any], suffix: str) -> None:
    say(f"window {answer['window']} until {answer['until']}: {answer['stage']}")
    say(answer["why"])
    for file in answer["not_landed"]["open"]:
        say(f"{file['file']} is {file['state']} and not landed yet" + (f": {file['reason']}" if file["reason"] else ""))
    if not answer["closed"] and (missing := answer["not_landed"]["missing"]):
        say(f"missing: {', '.join(missing)}")
    if answer["last_change"] is None:
        say(f"next: recon land FILE --window {answer['window']}{suffix}")
        return
    change = answer["last_change"]
    why = f" ({change['reason']})" if change["reason"] else ""
    say(f"revision {number(answer['landed_revision'])} landed, {number(answer['committed_revision'])} committed")
    say(f"last change: {change['cause']}{why} by {change['by']}, {change['time']}")
    if answer["files"]:
        rows = [(file["name"], number(file["bytes"]), file["digest"][:16]) for file in answer["files"]]
        table(["file", "bytes", "sha-256"], rows, ["bytes"])
    say()
    say_completeness(answer)
    say()
    if answer["certificate"] is not None:
        say_certificate(answer["certificate"])
    elif answer["quarantined"] is not None:
        say("no certificate yet; it waits for a corrected file")
    elif answer["closed"]:
        say(f"no certificate yet; next: recon {'rebuild' if answer['rules_changed'] else 'run'}{suffix}")
    else:
        say(f"no certificate yet; next: recon close {answer['window']}{suffix}")


@flat
def certificate(window: Annotated[str, typer.Argument(metavar="W", help="The window.")], common: Common) -> int:
    """Show a window's certificate: its rows and money.

    In = accepted + duplicates + rejected, in rows and in money, per currency. Exit status 1 if it does not tie, or if the window is SHORT:
    closed with fewer files than expected.

    \b
    recon certificate 2026-11-01T00:00Z
    """
    found = common.opened().certificate(window)
    if found is None:
        raise WrongInput(f"window {window} has no certificate yet; 'recon status {window}' says what it waits for")
    if common.json:
        as_json(found)
    else:
        say_certificate(found)
    return 0 if found["ties"] and not found.get("short") else 1


@flat
def show(
    key: Key,
    moment: Moment,
    events: Annotated[bool, typer.Option("--events", help="Also show every event, with its file and line.")] = False,
    index: Annotated[str, typer.Option("--index", metavar="INDEX", help="Where to look the key up: runs or dynamodb.")] = "runs",
    *,
    common: Common,
) -> None:
    """Show one artifact, by its key.

    Its status, measures and derived values, and what each window contributed.

    \b
    recon show A112
    recon show A112 --events
    recon show A112 --as-of 2026-12-01T00:00-05:00 --known-at 2026-12-05T09:00-05:00
    recon show A112 --through 2026-11-30T23:00Z
    recon show ACME INV-7        (a key of two columns)
    recon show A112 --index dynamodb
    recon show -- -7             (a key that begins with a dash)
    """
    reconciliation = common.located()
    found = reconciliation.show(*key, **asdict(moment), events=events, index=index)
    if common.json:
        as_json(contracted(found))
    else:
        _say_artifact(reconciliation, found, moment.known_at)


def contracted(found: dict[str, Any]) -> dict[str, Any]:
    """An artifact in the contract's shape: with duplicates and withdrawn windows if there are any, with currencies if there are several."""
    absent = set() if "by_currency" in found else {"currencies"}
    parts = [
        {name: value for name, value in part.items() if name not in absent and (name != "duplicates" or value)}
        for part in found["contributions"]
    ]
    shown = {name: value for name, value in found.items() if name not in absent and (name != "withdrawn" or value)}
    return shown | {"contributions": parts}


def _say_artifact(reconciliation: Reconciliation, found: dict[str, Any], known_at: str | None) -> None:
    without = "no status: none of the conditions holds" if found["contributions"] else "no contributions left"
    say(f"{seen(found['key'])}  {found['status'] or without}")
    known = f", as known at {known_at}" if known_at else ""
    through = f", through window {found['through']}" if "through" in found else ""
    say(f"commit {number(found['commit'])}{through}{known}")
    if "served_by" in found:
        why = f": {found['served_why']}" if "served_why" in found else ""
        say(f"served by {found['served_by']}{why}")
    numbers = reconciliation.place.numbers | {name for name, value in found["derived"].items() if _reads_as_amount(value)}
    _say_values(found, numbers)
    _say_contributions(found, numbers)
    if found["withdrawn"]:
        say()
        say(f"withdrawn, its events were taken back: {', '.join(found['withdrawn'])}")
    if any(part.get("event_list") for part in found["contributions"]):
        _say_events(reconciliation, found)


def _cell(name: str, value: object, numbers: Collection[str]) -> object:
    return amount(value) if name in numbers else value


def _say_values(found: dict[str, Any], numbers: Collection[str]) -> None:
    """Measures and derived values, and the measures of each currency if there are several."""

    def values(heading: str, listed: Iterable[tuple[str, object]]) -> None:
        table([heading, "value"], [(name, _cell(name, value, numbers)) for name, value in listed], ["value"])

    values("", [*found["measures"].items(), *found["derived"].items()])
    for currency, measures in found.get("by_currency", {}).items():
        values(f"in {currency or 'no currency'}", measures.items())


def _say_contributions(found: dict[str, Any], numbers: Collection[str]) -> None:
    measures = list(found["measures"])
    columns = ["window", "revision", "events", "duplicates", *measures]
    rows = [
        [_span(part), part["revision"], number(part["events"]), number(part["duplicates"])]
        + [_cell(name, part["measures"].get(name), numbers) for name in measures]
        for part in found["contributions"]
    ]
    table(columns, rows, [name for name in columns if name in numbers or name in ("revision", "events", "duplicates")])


def _say_events(reconciliation: Reconciliation, found: dict[str, Any]) -> None:
    listed = [(part["window"], event) for part in found["contributions"] for event in part.get("event_list", ())]
    names = [name for name in listed[0][1] if name not in ("correction", "duplicate_of", "conflict")]
    types = reconciliation.config.columns
    right = [name for name in names if name == "line" or (name in types and types[name].is_number)]
    rows = [[window, *(event.get(name) for name in names)] for window, event in listed]
    if any("duplicate_of" in event for _, event in listed):
        for row, (_, event) in zip(rows, listed, strict=True):
            row.append(_duplicate_of(event))
        names.append("duplicate of")
    if any("correction" in event for _, event in listed):
        for row, (_, event) in zip(rows, listed, strict=True):
            row += [event.get("correction", {}).get(name) for name in ("by", "reason")]
        names += ["corrected by", "because"]
    table(["window", *names], rows, right)


def _duplicate_of(event: Mapping[str, Any]) -> str | None:
    """The place of the event that counts instead."""
    if "duplicate_of" not in event:
        return None
    counting = event["duplicate_of"]
    place = f"{counting['window']}, {counting['file']}, line {counting['line']}"
    return f"CONFLICT, differs from {place}" if event["conflict"] else place


def _span(part: Mapping[str, Any]) -> str:
    """The window of a contribution, or the first and last window of a block that is carried forward."""
    if "until" not in part:
        return str(part["window"])
    return f"{part['window']} to {part['until']}, {count(part['windows'], 'window')}"


def _reads_as_amount(value: object) -> bool:
    """Whether a derived value looks like a number. Only the rules know its type, and a look-up does not read them."""
    return isinstance(value, int) or (isinstance(value, str) and re.fullmatch(r"-?\d+\.\d+", value) is not None)


@flat
def export(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="A csv, jsonl, parquet or xlsx file, by its suffix; - writes csv to standard output."),
    ],
    moment: Moment,
    common: Common,
) -> int:
    """Write all artifacts to a file, one row each.

    Columns: key, status, measures, derived values, windows, first_window, last_window. The file is written, but the exit status is 1, if
    files are missing, the rules have changed, or nothing has been processed yet; 'recon status' shows which.

    \b
    recon export artifacts.xlsx
    recon export november.csv --as-of 2026-12-01T00:00Z
    recon export - | head
    """
    if file == "-" and common.json:
        raise WrongUsage("export: both - and --json write to standard output; name a file, or leave --json out")
    reconciliation = common.opened()
    if file == "-":
        _export_to_stdout(reconciliation, moment)
        return say_caveats(reconciliation.caveats(), json=False, on_stdout=False)
    with Bar("export"):
        rows = reconciliation.export(file, moment.as_of, moment.known_at, moment.through)
    return say_written(file, rows, "artifact", reconciliation.caveats(), common.json)


def _export_to_stdout(reconciliation: Reconciliation, moment: Moment) -> None:
    """Writes CSV by way of a private file, so that standard output gets all rows or none."""
    with tempfile.TemporaryDirectory(prefix="recon-") as folder:
        written = Path(folder) / "artifacts.csv"
        reconciliation.export(written, moment.as_of, moment.known_at, moment.through)
        with written.open(encoding="utf-8", newline="") as lines:
            sys.stdout.writelines(lines)
