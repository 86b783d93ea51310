"""`recon duplicates` and `show --events`: every suppressed row with its file and line, and with the row that counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cases import case
from cli_calls import command
from daily_orders import DAYS, row, run, window

from recon.api import Reconciliation


def listed(r: Reconciliation, day: int | None = None) -> list[tuple[Any, ...]]:
    rows = r.duplicates(None if day is None else window(day)).to_pylist()
    place = ("window", "file", "line", "kind", "id", "counting_window", "counting_file", "counting_line")
    return [tuple(one[name] for name in place) for one in rows]


def begin(folder: Path) -> Reconciliation:
    r = case(folder, text=DAYS)
    run(r, (1, [row("1", "10.00"), row("2", "5.00"), row("1", "10.00"), row("9", "1.00"), row("9", "1.00", key="B")]))
    run(r, (30, [row("2", "5.00"), row("1", "12.00"), row("3", "7.00"), row("3", "8.00")]))
    run(r, (50, [row("1", "12.00", booked="2026-10-20T00:00:00Z")]))
    return r


FIRST, SECOND, THIRD = "d1-5-0-f.csv", "d30-4-0-f.csv", "d50-1-0-f.csv"
CONFLICTS = [
    (window(1), FIRST, 6, "two keys", "9", window(1), FIRST, 5),
    (window(30), SECOND, 3, "conflict", "1", window(1), FIRST, 2),
    (window(30), SECOND, 5, "conflict", "3", window(30), SECOND, 4),
    (window(50), THIRD, 2, "conflict", "1", window(1), FIRST, 2),
]
EQUAL = [(window(1), FIRST, 4, "duplicate", "1", window(1), FIRST, 2), (window(30), SECOND, 2, "duplicate", "2", window(1), FIRST, 3)]


def test_every_suppressed_row_is_listed_with_the_row_that_counts_and_conflicts_come_first(tmp_path: Path) -> None:
    r = begin(tmp_path)
    assert listed(r) == CONFLICTS + EQUAL
    for day in (1, 30, 50):
        assert listed(r, day) == [line for line in CONFLICTS + EQUAL if line[0] == window(day)]
    told = {line["window"]: line["differs"] for line in r.duplicates().to_pylist() if line["kind"] == "conflict" and line["id"] == "1"}
    assert told == {
        window(30): "amount: 12.00 ≠ 10.00",
        window(50): "booked_at: 2026-10-20 00:00:00+00 ≠ 2026-09-01 10:00:00+00; amount: 12.00 ≠ 10.00",
    }


def test_the_list_agrees_with_the_certificates(tmp_path: Path) -> None:
    r = begin(tmp_path)
    for day in (1, 30, 50):
        certificate = r.certificate(window(day))
        assert certificate is not None
        rows = listed(r, day)
        assert sum(line[3] != "two keys" for line in rows) == certificate["duplicates"]["rows"]
        conflicts = certificate["conflicts"]
        assert sum(line[3] == "conflict" for line in rows) == conflicts["within"] + sum(conflicts["earlier"].values())


def test_show_with_events_names_the_event_that_counts_and_whether_it_differs(tmp_path: Path) -> None:
    r = begin(tmp_path)
    events = [event for part in r.show("A", events=True)["contributions"] for event in part["event_list"]]
    held = [(event["file"], event["line"], event["counted"], event.get("duplicate_of"), event.get("conflict")) for event in events]
    counts = {"window": window(1), "file": FIRST, "line": 2}
    assert held == [
        (FIRST, 2, True, None, None),
        (FIRST, 3, True, None, None),
        (FIRST, 4, False, counts, False),
        (FIRST, 5, True, None, None),
        (SECOND, 2, False, {**counts, "line": 3}, False),
        (SECOND, 3, False, counts, True),
        (SECOND, 4, True, None, None),
        (SECOND, 5, False, {"window": window(30), "file": SECOND, "line": 4}, True),
        (THIRD, 2, False, counts, True),
    ]


def test_the_commands_tell_conflicts_loudly(tmp_path: Path) -> None:
    r = begin(tmp_path)
    done = command("duplicates", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("3 rows that differ from the row that counts; 1 row of an id that another key has; 2 rows equal")
    assert "amount: 12.00 ≠ 10.00" in done.stdout
    assert json.loads(command("duplicates", window(30), "--json", cwd=tmp_path).stdout) == r.duplicates(window(30)).to_pylist()
    unprocessed = command("duplicates", window(2), cwd=tmp_path)
    assert (unprocessed.returncode, unprocessed.stdout) == (1, "")
    assert f"window {window(2)} has not been processed yet" in unprocessed.stderr
    shown = command("show", "A", "--events", cwd=tmp_path).stdout
    assert f"CONFLICT, differs from {window(1)}, {FIRST}, line 2" in shown
    certificate = command("certificate", window(30), cwd=tmp_path).stdout
    assert "conflicts: 1 duplicate that differs from the row of this window that counts" in certificate
    assert f"conflicts: 1 row that differs from the row that counts, in window {window(1)}" in certificate
    assert f"recon duplicates {window(30)}" in certificate
    earlier = command("certificate", window(1), cwd=tmp_path).stdout
    assert f"conflicts: 1 row of window {window(30)} that differs from a row that counts here" in earlier
    assert "conflicts: 1 id under more than one key" in earlier


def test_one_id_from_two_sources_is_listed(tmp_path: Path) -> None:
    r = case(tmp_path, "same-id-from-two-sources")
    day = "2026-11-01T00:00Z"
    r.land([tmp_path / "erp.csv", tmp_path / "psp.csv"], day, close=True, again=True)
    r.run()
    (only,) = r.duplicates().to_pylist()
    assert (only["file"], only["line"], only["kind"], only["counting_file"], only["counting_line"]) == (
        "psp.csv",
        2,
        "conflict",
        "erp.csv",
        2,
    )
    assert only["differs"] == "event_type: PAYMENT ≠ INVOICE"
