"""Commands that list the rows that were set aside: rejects, duplicates."""

from __future__ import annotations

from typing import Any

from recon.cli.caveats import refuse_unprocessed
from recon.cli.options import Common, OnlyWindow, flat
from recon.cli.screen import as_json, count, number, say, table

ROWS_SHOWN = 20


@flat
def rejects(common: Common, window: OnlyWindow = None) -> None:
    """Show rejected rows, each with its file, line and reason.

    \b
    recon rejects
    recon rejects 2026-11-01T00:00Z --json
    """
    rows = _listed("rejects", common, window)
    if rows:
        say(count(len(rows), "rejected row"))
        _say_first(list(rows[0]), [tuple(row.values()) for row in rows])


@flat
def duplicates(common: Common, window: OnlyWindow = None) -> None:
    """Show duplicates, each with the row that counts.

    Conflicts come first: rows that differ from the row of the same event that counts, in the same window or an earlier one. An id that
    two keys of a window have is listed too, although both rows count.

    \b
    recon duplicates
    recon duplicates 2026-11-01T00:00Z --json
    """
    rows = _listed("duplicates", common, window)
    if not rows:
        return
    kinds = {kind: sum(row["kind"] == kind for row in rows) for kind in ("conflict", "two keys", "duplicate")}
    texts = (
        f"{count(kinds['conflict'], 'row')} that {'differs' if kinds['conflict'] == 1 else 'differ'} from the row that counts",
        f"{count(kinds['two keys'], 'row')} of an id that another key has",
        f"{count(kinds['duplicate'], 'row')} equal to the row that counts",
    )
    say("; ".join(text for text, found in zip(texts, kinds.values(), strict=True) if found))
    columns = ["window", "file", "line", "kind", "key", "id"]
    lines = [(*(row[name] for name in columns), _counting(row), row["differs"] or None) for row in rows]
    _say_first([*columns, "the row that counts", "differs"], lines)


def _listed(what: str, common: Common, window: str | None) -> list[dict[str, Any]]:
    """The rows to show; empty if they were printed as JSON, or if "no rows" was printed. ``what``: the method that reads them."""
    reconciliation = common.opened()
    rows: list[dict[str, Any]] = getattr(reconciliation, what)(window).to_pylist()
    if not rows:
        refuse_unprocessed(reconciliation, window)
    if common.json:
        as_json(rows)
        return []
    if not rows:
        name = {"rejects": "rejected rows"}.get(what, what)
        say(f"no {name}" + (f" in window {window}" if window else ""))
    return rows


def _say_first(columns: list[str], rows: list[tuple[Any, ...]]) -> None:
    table(columns, rows[:ROWS_SHOWN], ["line"])
    if len(rows) > ROWS_SHOWN:
        say()
        say(f"{number(len(rows) - ROWS_SHOWN)} more; --json has all")


def _counting(row: dict[str, Any]) -> str:
    where = "" if row["counting_window"] == row["window"] else f"{row['counting_window']}, "
    return f"{where}{row['counting_file']}, line {row['counting_line']}"
