"""The command that shows what is not matched: breaks; and what keeps an answer from being the whole truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recon.cli.options import AsJson, AsOf, ConfigFile, Debug, KnownAt, Through, opened, with_config
from recon.cli.progress import Bar
from recon.cli.screen import amount, as_json, count, number, say, table, warn
from recon.errors import WrongInput, WrongUsage
from recon.model.windows import name_of

if TYPE_CHECKING:
    from recon.api import Reconciliation
    from recon.reading.caveats import Caveat

ROWS_SHOWN = 20


def breaks(
    file: Annotated[str | None, typer.Argument(metavar="FILE", help="Write all of them: csv, jsonl, parquet or xlsx.")] = None,
    status: Annotated[list[str] | None, typer.Option("--status", metavar="S", help="Of this status only; may be repeated.")] = None,
    age: Annotated[int | None, typer.Option("--age", metavar="DAYS", min=0, help="At least so many days old.")] = None,
    minimum: Annotated[str | None, typer.Option("--min", metavar="AMOUNT", help="Of at least this amount, owed or overpaid.")] = None,
    sort: Annotated[
        str | None, typer.Option("--sort", metavar="COLUMN", help="In order of a column: largest number first, texts from A to Z.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="List at most so many; sums are of all.")] = None,
    as_of: AsOf = None,
    through: Through = None,
    known_at: KnownAt = None,
    config: ConfigFile = None,
    json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Show what is not matched, by status and age.

    With sums of money where the currency of an amount is known. The age of a break runs from the time of its first event, or from the
    start of its first window where events have no time, to now or to --as-of. Exit status 1 where files are missing, the rules have
    changed, or nothing has been processed yet.

    \b
    recon breaks
    recon breaks --status UNPAID --age 30 --min 100 --sort balance
    recon breaks breaks.xlsx --as-of 2026-12-01T00:00Z
    """
    from recon.reading.breaks import Chosen

    reconciliation = opened(config)
    chosen = Chosen(_known_statuses(reconciliation, status or []), age, minimum, sort, limit)
    moment = {"as_of": as_of, "through": through, "known_at": known_at}
    found = reconciliation.caveats()
    if file is not None:
        with Bar("breaks"):
            rows = reconciliation.export_breaks(file, chosen, **moment)
        if json:
            as_json({"file": file, "rows": rows, "caveats": [asdict(one) for one in found]})
        else:
            say(f"wrote {count(rows, 'break')} to {Path(file)}")
        return say_caveats(found, json)
    # The summary is of all of them: a limit shortens the list, never the sums.
    summary, listed = reconciliation.breaks_summary(replace(chosen, limit=None), **moment), reconciliation.breaks(chosen, **moment)
    if json:
        as_json({"summary": summary, "breaks": listed.to_pylist(), "caveats": [asdict(one) for one in found]})
    elif summary:
        _say_summary(summary, reconciliation.config.events.currency is not None)
        _say_breaks(listed, limit or ROWS_SHOWN, sum(line["artifacts"] for line in summary), with_config(config))
    else:
        _say_none(reconciliation, found, chosen != Chosen(), moment)
    return say_caveats(found, json)


def say_caveats(found: Sequence[Caveat], json: bool, on_stdout: bool = True) -> int:
    """What keeps an answer from being the whole truth: what is wrong on stderr, the rest with the answer. Returns the exit status.
    ``on_stdout``: false where standard output holds nothing but rows."""
    for one in found:
        if one.wrong or one.kind == "nothing_processed" or not on_stdout:
            warn(one.text)
        elif not json:
            say(f"note: {one.text}")
    return 1 if any(one.wrong or one.kind == "nothing_processed" for one in found) else 0


def refuse_unprocessed(reconciliation: Reconciliation, window: str | None) -> None:
    """Raises WrongInput where a list is empty because nothing, or not the window that is asked for, has been processed yet."""
    processed = reconciliation.state().windows
    if not processed:
        raise WrongInput("no window has been processed yet; 'recon status' says what waits")
    if window is not None and name_of(reconciliation.config.grid.parse(window)) not in processed:
        raise WrongInput(f"window {window} has not been processed yet; 'recon status {window}' says what it waits for")


def _known_statuses(reconciliation: Reconciliation, given: Sequence[str]) -> tuple[str, ...]:
    """The statuses that are asked for. Raises WrongUsage for one that no artifact can have."""
    known = {*(item.name for item in reconciliation.config.status), *reconciliation.state().totals.get("statuses", {})}
    for name in given:
        if name not in known:
            raise WrongUsage(f"--status {name}: no artifact can have this status; there are {', '.join(sorted(known))}")
    return tuple(given)


def _say_none(reconciliation: Reconciliation, found: Sequence[Caveat], filtered: bool, moment: dict[str, str | None]) -> None:
    """No breaks: everything is matched only where nothing is missing, unreadable, in conflict or not done yet."""
    artifacts = sum(reconciliation.state().totals.get("statuses", {}).values())
    if not artifacts:
        say("no artifact yet: nothing can be matched or unmatched")
    elif filtered or any(moment.values()):
        say("no breaks of this kind")
    elif found:
        say(f"no breaks among the {count(artifacts, 'artifact')} so far")
    else:
        say(f"no breaks: everything is matched ({count(artifacts, 'artifact')})")


def _say_summary(summary: Sequence[dict[str, Any]], currencies_known: bool) -> None:
    say(f"{count(sum(line['artifacts'] for line in summary), 'break')}")
    rows = []
    for line in summary:
        amounts = line["amounts"] or {"": {"net": None, "gross": None}}
        for place, (currency, sums) in enumerate(amounts.items()):
            first = (line["status"], line["age"], number(line["artifacts"])) if place == 0 else ("", "", "")
            rows.append((*first, currency, amount(sums["net"]), amount(sums["gross"])))
    if not any(line["amounts"] for line in summary):
        table(["status", "age", "artifacts"], [row[:3] for row in rows], ["artifacts"])
        if currencies_known:
            say("no sums of money: each of these breaks is of more than one currency; 'recon show KEY' has them by currency")
        else:
            say("no sums of money: nothing says of which currency an amount is; name its column under 'events.currency' in recon.yaml")
        return
    table(["status", "age", "artifacts", "currency", "net", "gross"], rows, ["artifacts", "net", "gross"])


def _say_breaks(listed: Any, shown: int, total: int, suffix: str) -> None:
    names = [name for name in listed.column_names if name not in ("windows", "last_window", "since")]
    numeric = [name for name in names if name not in ("key", "status", "first_window") and _is_number(listed, name)]
    rows = listed.select(names).slice(0, shown).to_pylist()
    table(names, [[amount(row[n]) if n in numeric else row[n] for n in names] for row in rows], numeric)
    if total > shown:
        say()
        say(f"{number(total - shown)} more: recon breaks breaks.xlsx{suffix}")


def _is_number(listed: Any, name: str) -> bool:
    kind = str(listed.schema.field(name).type)
    return kind.startswith(("decimal", "int", "uint"))
