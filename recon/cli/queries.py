"""Commands that only look: status, certificate, show, rejects, export."""

from __future__ import annotations

import re
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recon.cli.breaks import refuse_unprocessed, say_caveats
from recon.cli.certificates import say_certificate, say_completeness
from recon.cli.options import AsJson, AsOf, ConfigFile, Debug, KnownAt, Through, located, opened, with_config
from recon.cli.progress import Bar
from recon.cli.screen import amount, as_json, count, number, say, say_bounds, seen, table, warn
from recon.errors import WrongInput, WrongUsage

if TYPE_CHECKING:
    from recon.api import Reconciliation

WINDOWS_SHOWN = 20
ROWS_SHOWN = 20


def status(
    window: Annotated[str | None, typer.Argument(metavar="W", help="One window, with its files and certificate.")] = None,
    config: ConfigFile = None,
    json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Show the windows, what waits, and the watermark.

    Up to the watermark everything is closed and done. With a window: did it close, and does it tie? What was expected, what came, what
    was late, doubled or rejected; its files and its certificate. Exit status 1 where files are missing (SHORT), every row of a window was
    rejected, a window could not be processed, or the rules have changed.

    \b
    recon status
    recon status 2026-11-01T00:00Z
    """
    answer = opened(config).status(window, None if json else WINDOWS_SHOWN)
    if json:
        as_json(answer)
    elif window is None:
        _say_status(answer, with_config(config))
    else:
        _say_window(answer, with_config(config))
    return _status_of(answer, json) if window is None else _status_of_window(answer)


def _status_of(answer: dict[str, Any], json: bool) -> int:
    for caveat in answer["caveats"]:
        if caveat["wrong"]:
            warn(caveat["text"])
        elif not json and caveat["kind"] in ("conflicts", "rejected"):  # the others are in the lines above
            say(caveat["text"])
    return 0 if answer["ok"] else 1


def _status_of_window(answer: dict[str, Any]) -> int:
    """1 for a window that is short, does not tie, could not be processed, or of which no row could be read."""
    from recon.reading.caveats import without_window

    arrived, rejected, window = answer["received"]["rows"], answer["rejected"]["rows"], answer["window"]
    wrong = []
    if answer["short"]:
        wrong.append(f"SHORT: it was closed with {answer['received']['files']} of {answer['expected']['files']} expected files")
    if answer["quarantined"] is not None:
        wrong.append(f"it could not be processed: {without_window(answer['quarantined']['reason'], window)}")
    if answer["rules_changed"]:
        wrong.append("the rules changed: nothing is processed until 'recon rebuild'")
    if answer["ties"] is False:
        wrong.append("its certificate does not tie")
    if arrived and arrived == rejected:
        wrong.append(f"every row was rejected; 'recon rejects {window}' says why")
    for what in wrong:
        warn(f"window {window}: {what}")
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
        held = sum(answer["artifacts"].values())
        say(f"artifacts: {number(held)}")
        table(["status", "artifacts"], [(name, number(n)) for name, n in answer["artifacts"].items()], ["artifacts"])
        told = ", ".join(f"{number(held)} {what}" for what, held in answer["bytes"].items())
        say(f"bytes of part-files: {told}")
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


def certificate(
    window: Annotated[str, typer.Argument(metavar="W", help="The window.")],
    config: ConfigFile = None,
    json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Show a window's certificate, which adds up.

    In = accepted + duplicates + rejected, in rows and in money, per currency. Exit status 1 if it does not tie, or if the window is SHORT:
    closed with fewer files than expected.

    \b
    recon certificate 2026-11-01T00:00Z
    """
    found = opened(config).certificate(window)
    if found is None:
        raise WrongInput(f"window {window} has no certificate yet; 'recon status {window}' says what it waits for")
    if json:
        as_json(found)
    else:
        say_certificate(found)
    return 0 if found["ties"] and not found.get("short") else 1


def show(
    key: Annotated[list[str], typer.Argument(metavar="KEY", help="The key; one value for each of its columns.")],
    as_of: AsOf = None,
    through: Through = None,
    known_at: KnownAt = None,
    events: Annotated[bool, typer.Option("--events", help="With every event, its file and line.")] = False,
    index: Annotated[str, typer.Option("--index", metavar="INDEX", help="Look it up in: runs, or dynamodb.")] = "runs",
    config: ConfigFile = None,
    json: AsJson = False,
    debug: Debug = False,
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
    reconciliation = located(config)
    found = reconciliation.show(*key, as_of=as_of, through=through, known_at=known_at, events=events, index=index)
    if json:
        as_json(contracted(found))
    else:
        _say_artifact(reconciliation, found, known_at)


def contracted(found: dict[str, Any]) -> dict[str, Any]:
    """An artifact in the contract's shape. Duplicates and withdrawn windows are named only where there are any, currencies only where there
    are several."""
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

    def shown(name: str, value: object) -> object:
        return amount(value) if name in numbers else value

    values = [*found["measures"].items(), *found["derived"].items()]
    table(["", "value"], [(name, shown(name, value)) for name, value in values], ["value"])
    for currency, held in found.get("by_currency", {}).items():
        table([f"in {currency or 'no currency'}", "value"], [(name, shown(name, value)) for name, value in held.items()], ["value"])
    measures = list(found["measures"])
    columns = ["window", "revision", "events", "duplicates", *measures]
    rows = [
        [_named(part), part["revision"], number(part["events"]), number(part["duplicates"])]
        + [shown(name, part["measures"].get(name)) for name in measures]
        for part in found["contributions"]
    ]
    table(columns, rows, [name for name in columns if name in numbers or name in ("revision", "events", "duplicates")])
    if found["withdrawn"]:
        say()
        say(f"withdrawn, its events were taken back: {', '.join(found['withdrawn'])}")
    listed = [(part["window"], event) for part in found["contributions"] for event in part.get("event_list", ())]
    if listed:
        names = [name for name in listed[0][1] if name not in ("correction", "duplicate_of", "conflict")]
        columns_known = reconciliation.config.columns
        right = [name for name in names if name == "line" or (name in columns_known and columns_known[name].is_number)]
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


def _duplicate_of(event: dict[str, Any]) -> str | None:
    """The place of the event that counts instead."""
    if "duplicate_of" not in event:
        return None
    counting = event["duplicate_of"]
    place = f"{counting['window']}, {counting['file']}, line {counting['line']}"
    return f"CONFLICT, differs from {place}" if event["conflict"] else place


def _named(part: dict[str, Any]) -> str:
    """The window of a contribution, or those that are carried forward in one."""
    if "until" not in part:
        return str(part["window"])
    return f"{part['window']} to {part['until']}, {count(part['windows'], 'window')}"


def _reads_as_amount(value: object) -> bool:
    """Whether a derived value is laid out as a number. Its type is known to the rules only, which a look-up does not read."""
    return isinstance(value, int) or (isinstance(value, str) and re.fullmatch(r"-?\d+\.\d+", value) is not None)


def rejects(
    window: Annotated[str | None, typer.Argument(metavar="W", help="Of one window only.")] = None,
    config: ConfigFile = None,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show rejected rows, each with its file, line and reason.

    \b
    recon rejects
    recon rejects 2026-11-01T00:00Z --json
    """
    reconciliation = opened(config)
    rows = reconciliation.rejects(window)
    if not rows.num_rows:
        refuse_unprocessed(reconciliation, window)
    if json:
        as_json(rows.to_pylist())
        return
    if not rows.num_rows:
        say("no rejected rows" + (f" in window {window}" if window else ""))
        return
    say(count(rows.num_rows, "rejected row"))
    shown = rows.slice(0, ROWS_SHOWN).to_pylist()
    table(rows.column_names, [tuple(row.values()) for row in shown], ["line"])
    if rows.num_rows > ROWS_SHOWN:
        say()
        say(f"{number(rows.num_rows - ROWS_SHOWN)} more; --json has all")


def export(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="Its suffix names the format: csv, jsonl, parquet or xlsx; - writes csv to standard output."),
    ],
    as_of: AsOf = None,
    through: Through = None,
    known_at: KnownAt = None,
    config: ConfigFile = None,
    json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Write all artifacts to a file, one row each.

    Columns: key, status, measures, derived values, windows, first_window, last_window. Exit status 1, though the file is written, where
    files are missing, the rules have changed, or nothing has been processed yet; 'recon status' says what.

    \b
    recon export artifacts.xlsx
    recon export november.csv --as-of 2026-12-01T00:00Z
    recon export - | head
    """
    if file == "-" and json:
        raise WrongUsage("export: both - and --json write to standard output; name a file, or leave --json out")
    reconciliation = opened(config)
    if file == "-":
        _export_to_stdout(reconciliation, as_of, known_at, through)
        return say_caveats(reconciliation.caveats(), json, on_stdout=False)
    with Bar("export"):
        rows = reconciliation.export(file, as_of, known_at, through)
    found = reconciliation.caveats()
    if json:
        as_json({"file": file, "rows": rows, "caveats": [asdict(one) for one in found]})
    else:
        say(f"wrote {count(rows, 'artifact')} to {Path(file)}")
    return say_caveats(found, json)


def _export_to_stdout(reconciliation: Reconciliation, as_of: str | None, known_at: str | None, through: str | None) -> None:
    """CSV, by way of a private file: the answer is whole or there is none."""
    with tempfile.TemporaryDirectory(prefix="recon-") as folder:
        written = Path(folder) / "artifacts.csv"
        reconciliation.export(written, as_of, known_at, through)
        with written.open(encoding="utf-8", newline="") as lines:
            sys.stdout.writelines(lines)
