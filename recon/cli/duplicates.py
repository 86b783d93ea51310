"""The command ``duplicates``: suppressed rows, each with the row that counts."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from recon.cli.breaks import refuse_unprocessed
from recon.cli.options import AsJson, ConfigFile, Debug, opened
from recon.cli.screen import as_json, count, number, say, table

ROWS_SHOWN = 20


def duplicates(
    window: Annotated[str | None, typer.Argument(metavar="W", help="Of one window only.")] = None,
    config: ConfigFile = None,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show duplicates, each with the row that counts.

    Conflicts come first: rows that differ from the row of the same event that counts, in the same window or an earlier one. An id that
    stands under two keys of a window is listed as well, though both its rows count.

    \b
    recon duplicates
    recon duplicates 2026-11-01T00:00Z --json
    """
    reconciliation = opened(config)
    rows: list[dict[str, Any]] = reconciliation.duplicates(window).to_pylist()
    if not rows:
        refuse_unprocessed(reconciliation, window)
    if json:
        as_json(rows)
        return
    if not rows:
        say("no duplicates" + (f" in window {window}" if window else ""))
        return
    kinds = {kind: sum(row["kind"] == kind for row in rows) for kind in ("conflict", "two keys", "duplicate")}
    told = [
        f"{count(kinds['conflict'], 'row')} that {'differs' if kinds['conflict'] == 1 else 'differ'} from the row that counts",
        f"{count(kinds['two keys'], 'row')} of an id that another key has",
        f"{count(kinds['duplicate'], 'row')} equal to the row that counts",
    ]
    say("; ".join(text for text, found in zip(told, kinds.values(), strict=True) if found))
    lines = [
        [row["window"], row["file"], row["line"], row["kind"], row["key"], row["id"], _counting(row), row["differs"] or None]
        for row in rows[:ROWS_SHOWN]
    ]
    table(["window", "file", "line", "kind", "key", "id", "the row that counts", "differs"], lines, ["line"])
    if len(rows) > ROWS_SHOWN:
        say()
        say(f"{number(len(rows) - ROWS_SHOWN)} more; --json has all")


def _counting(row: dict[str, Any]) -> str:
    where = "" if row["counting_window"] == row["window"] else f"{row['counting_window']}, "
    return f"{where}{row['counting_file']}, line {row['counting_line']}"
