"""The command that shows what is not matched: breaks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recon.cli.caveats import say_caveats, say_written
from recon.cli.options import Common, Moment, flat
from recon.cli.progress import Bar
from recon.cli.quick_imports import load_no_pandas
from recon.cli.screen import amount, as_json, count, number, say, table

if TYPE_CHECKING:
    from recon.api import Reconciliation
    from recon.reading.caveats import Caveat

ROWS_SHOWN = 20


@dataclass(frozen=True)
class Selection:
    """The options that select and order breaks."""

    status: Annotated[list[str] | None, typer.Option("--status", metavar="S", help="Only breaks of this status; may be repeated.")] = None
    age: Annotated[int | None, typer.Option("--age", metavar="DAYS", min=0, help="Only breaks that are at least this old.")] = None
    minimum: Annotated[
        str | None, typer.Option("--min", metavar="AMOUNT", help="Only breaks of at least this amount, owed or overpaid.")
    ] = None
    sort: Annotated[
        str | None, typer.Option("--sort", metavar="COLUMN", help="Order by a column: largest number first, texts from A to Z.")
    ] = None
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="List at most N breaks; sums are of all.")] = None


@flat
def breaks(
    selection: Selection,
    moment: Moment,
    common: Common,
    file: Annotated[str | None, typer.Argument(metavar="FILE", help="Write all breaks to a csv, jsonl, parquet or xlsx file.")] = None,
) -> int:
    """Show what is not matched, by status and age.

    With sums of money if the currency of an amount is known. The age of a break runs from the time of its first event, or from the
    start of its first window if events have no time, to now or to --as-of. Exit status 1 if files are missing, the rules have
    changed, or nothing has been processed yet.

    \b
    recon breaks
    recon breaks --status UNPAID --age 30 --min 100 --sort balance
    recon breaks breaks.xlsx --as-of 2026-12-01T00:00Z
    """
    load_no_pandas()
    from recon.reading.breaks import Chosen

    reconciliation = common.opened()
    chosen = Chosen(tuple(selection.status or ()), selection.age, selection.minimum, selection.sort, selection.limit)
    found = reconciliation.caveats()
    if file is not None:
        with Bar("breaks"):
            rows = reconciliation.export_breaks(file, chosen, **asdict(moment))
        return say_written(file, rows, "break", found, common.json)
    listed, summary = reconciliation.breaks_and_summary(chosen, **asdict(moment))
    if common.json:
        as_json({"summary": summary, "breaks": listed.to_pylist(), "caveats": [asdict(caveat) for caveat in found]})
    elif summary:
        _say_summary(summary, reconciliation.config.events.currency is not None)
        _say_breaks(listed, selection.limit or ROWS_SHOWN, sum(line["artifacts"] for line in summary), common.suffix)
    else:
        _say_none(reconciliation, found, chosen != Chosen() or moment != Moment())
    return say_caveats(found, common.json)


def _say_none(reconciliation: Reconciliation, found: Sequence[Caveat], filtered: bool) -> None:
    """Without breaks, everything is matched only if nothing is missing, unreadable, in conflict or not done yet."""
    artifacts = sum(reconciliation.state().totals.get("statuses", {}).values())
    if not artifacts:
        say("no artifact yet: nothing can be matched or unmatched")
    elif filtered:
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
