"""A day's report as metadata: the verdict, windows and breaks as tables, and open amounts as bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from recon.reading.day import PARTS, DayReport, bars_of

_BAR, _BARS_MAX, _ROWS_MAX = 24, 40, 300
_TEXT, _NUMBER = "string", "int"


def of_day(report: DayReport) -> dict[str, Any]:
    """What the UI shows of a day: see recon.reading.day."""
    wrong = [f"{window.window}: {what}" for window in report.windows for what in window.wrong]
    shown: dict[str, Any] = {
        "day": report.day,
        "verdict": report.verdict,
        "commit_of_report": report.commit,
        "windows": _table(
            {"window": _TEXT, "stage": _TEXT, "ties": _TEXT, "files": _NUMBER, **dict.fromkeys(PARTS, _NUMBER)}, _windows(report)
        ),
    }
    if wrong:
        shown["to_act_on"] = dg.MetadataValue.md("\n".join(f"- {what}" for what in wrong[:_BARS_MAX]))
    if report.breaks is not None:
        columns = {"status": _TEXT, "age": _TEXT, "artifacts": _NUMBER, "currency": _TEXT, "net": _TEXT, "gross": _TEXT}
        shown["breaks"] = _table(columns, _breaks(report.breaks))
        if bars := bars_of(report.breaks):
            shown["open_amounts"] = dg.MetadataValue.md("\n".join(map(_bar, bars[:_BARS_MAX])))
    return shown


def _windows(report: DayReport) -> list[dict[str, Any]]:
    ties = {True: "yes", False: "NO", None: ""}
    return [
        {
            "window": each.window,
            "stage": each.stage,
            "ties": ties[each.ties],
            "files": each.files,
            **{part: each.rows.get(part, 0) for part in PARTS},
        }
        for each in report.windows
    ]


def _breaks(breaks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "status": line["status"],
            "age": line["age"],
            "artifacts": line["artifacts"],
            "currency": currency,
            "net": sums["net"],
            "gross": sums["gross"],
        }
        for line in breaks
        for currency, sums in (line["amounts"] or {"": {"net": "", "gross": ""}}).items()
    ]


def _bar(bar: Mapping[str, Any]) -> str:
    filled = round(_BAR * bar["amount"] / bar["most"]) if bar["most"] else 0
    return f"- `{'█' * filled}{'░' * (_BAR - filled)}` {bar['label']}: {bar['amount']:,f}"


def _table(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> dg.TableMetadataValue:
    schema = dg.TableSchema([dg.TableColumn(name, kind) for name, kind in columns.items()])
    return dg.MetadataValue.table([dg.TableRecord(dict(row)) for row in rows[:_ROWS_MAX]], schema)
