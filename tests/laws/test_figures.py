"""What a certificate tells of rows that are not refused: unreadable amounts, what no measure counts, times outside the window."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cases import case
from cli_calls import command
from daily_orders import EVENTS

DAY = "2026-11-01T00:00Z"


def test_rejected_rows_without_a_readable_amount_are_told_wherever_the_totals_are(tmp_path: Path) -> None:
    r = case(tmp_path, "excel-amounts")
    r.land([tmp_path / "excel.csv"], DAY, close=True, again=True)
    r.run()
    certificate = r.certificate(DAY)
    assert certificate is not None
    assert certificate["ties"]
    assert (certificate["rejected"]["rows"], certificate["unreadable"]) == (9, {"amount": 9})
    screen = command("certificate", DAY, cwd=tmp_path).stdout
    assert "9 rejected rows have no readable amount" in screen
    lines = [line for line in screen.splitlines() if line.startswith("amount ")]
    assert lines
    assert all(line.endswith("ties *") for line in lines)
    assert screen.count("* 9 rejected rows have no readable amount") == 1
    assert "9 rejected rows have no readable amount" in command("status", DAY, cwd=tmp_path).stdout


WHERES = (
    EVENTS.replace("2026-09", "2024-11")
    + """\
measures:
  billed: {sum: amount, where: "event_type = 'INVOICE'"}
  paid: {sum: amount, where: "event_type = 'PAYMENT'"}
  lines: {count: "*"}
"""
)


def landed(folder: Path, rows: list[tuple[str, str]], text: str = WHERES) -> dict[str, Any]:
    """The certificate of a window with events of these (type, time)."""
    r = case(folder, text=text)
    lines = [f"{number},A,{kind},1.00,{booked}" for number, (kind, booked) in enumerate(rows)]
    (folder / "rows.csv").write_text("\n".join(["event_id,order_id,event_type,amount,booked_at", *lines]) + "\n")
    r.land([folder / "rows.csv"], DAY, close=True, again=True)
    r.run()
    assert r.verify(full=True).ok
    certificate = r.certificate(DAY)
    assert certificate is not None
    assert certificate["accepted"]["rows"] == len(rows)
    found: dict[str, Any] = certificate["unusual"]
    return found


IN_TIME = "2026-11-01T10:00:00Z"


def test_event_types_that_no_measure_counts_are_counted_by_type(tmp_path: Path) -> None:
    kinds = ["INVOICE", "PAYMENT", "REFUND", "FEE", "REFUND", "", "invoice"]
    found = landed(tmp_path, [(kind, IN_TIME) for kind in kinds])
    assert found == {"uncounted": {"rows": 5, "values": {"REFUND": 2, "FEE": 1, "invoice": 1, "null": 1}}}
    told = "5 events that no measure's condition takes: REFUND (2), FEE (1), invoice (1), null (1)"
    assert told in command("certificate", DAY, cwd=tmp_path).stdout
    assert told in command("status", DAY, cwd=tmp_path).stdout


def test_of_very_many_values_only_some_are_listed(tmp_path: Path) -> None:
    found = landed(tmp_path, [(f"T{number:02d}", IN_TIME) for number in range(30)])
    assert found["uncounted"]["rows"] == 30
    assert list(found["uncounted"]["values"]) == [f"T{number:02d}" for number in range(20)]
    assert "others (10)" in command("certificate", DAY, cwd=tmp_path).stdout


def test_where_a_measure_takes_everything_or_nothing_is_unusual_nothing_is_told(tmp_path: Path) -> None:
    assert landed(tmp_path / "usual", [("INVOICE", IN_TIME)]) == {}
    text = WHERES.replace(", where: \"event_type = 'INVOICE'\"", "").replace(", where: \"event_type = 'PAYMENT'\"", "")
    assert landed(tmp_path / "all", [("REFUND", IN_TIME)], text) == {}


def test_events_dated_after_the_window_or_years_before_it_are_counted_by_day(tmp_path: Path) -> None:
    times = [
        "2026-11-02T00:00:00Z",
        "2206-01-01T00:00:00Z",
        "2026-11-01T23:59:59.999999Z",
        "2025-10-31T00:00:00Z",
        "2025-10-30T23:59:59Z",
        "",
    ]
    found = landed(tmp_path, [("INVOICE", time) for time in times])
    assert found == {
        "after": {"rows": 2, "values": {"2026-11-02": 1, "2206-01-01": 1}},
        "before": {"rows": 1, "values": {"2025-10-30": 1}},
    }
    screen = command("certificate", DAY, cwd=tmp_path).stdout
    assert "2 events dated after the window's end: 2026-11-02 (1), 2206-01-01 (1)" in screen
    assert "1 event dated more than a year before the window: 2025-10-30 (1)" in screen
