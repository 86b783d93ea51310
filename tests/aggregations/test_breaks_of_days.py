"""Breaks as the input of an aggregation: those of a business day are loaded when its windows are certified, and again when they change."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from breaks_of_days import DAILY, DAY, FIRST, NEW_YORK, NEXT, RECON, land, site
from cli_calls import command

from recon.config.load import load_config
from recon.intake.sources.deliver import deliver, deliver_breaks
from recon.intake.sources.load import load_sources
from recon.model.windows import name_of


def table(folder: Path) -> list[tuple[object, ...]]:
    with duckdb.connect(str(folder / "warehouse.duckdb"), read_only=True) as connection:
        return connection.execute(
            'SELECT day::VARCHAR, shop, "order", status, open, breaks, oldest FROM breaks_by_day ORDER BY ALL'
        ).fetchall()


def ran(folder: Path) -> dict[str, Any]:
    """What 'recon aggregation run' says."""
    done = command("aggregation", "run", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_breaks_of_a_day_are_loaded_once_its_twenty_four_windows_are_certified(tmp_path: Path) -> None:
    r = site(tmp_path, RECON, "breaks: {per: day, time_zone: America/New_York}\n")
    last = "2026-11-02T04:00Z"
    land(r, range(23), FIRST)
    r.run()
    found = ran(tmp_path)
    assert not found["runs"]
    assert found["waiting"] == [
        {
            "aggregation": "breaks",
            "scope": NEW_YORK,
            "waits_for": ["new input: no file has landed", f"files: 0 of 1 files: 23 of 24 windows are certified: {last} is not"],
        }
    ]
    land(r, range(23, 24), {})
    r.run()
    assert [run["state"] for run in ran(tmp_path)["runs"]] == ["completed"]
    assert table(tmp_path) == [("2026-11-01", "A", "1", "UNPAID", Decimal("10.00"), 1, 1)]
    assert ran(tmp_path) == {"runs": [], "waiting": [], "broken": {}}


def test_a_later_payment_changes_the_breaks_of_the_days_from_then_on(tmp_path: Path) -> None:
    r = site(tmp_path)
    land(r, range(4), FIRST)
    r.run()
    ran(tmp_path)
    assert [(row[0], row[4]) for row in table(tmp_path)] == [("2026-11-01", Decimal("10.00")), ("2026-11-02", Decimal("10.00"))]
    path = tmp_path / "late.csv"
    path.write_text("shop,order,id,kind,amount\nA,1,a4,P,4.00\n")
    r.land([path], NEXT)
    r.run()
    assert len(ran(tmp_path)["runs"]) == 1, "the day before does not change"
    assert [(row[0], row[4]) for row in table(tmp_path)] == [("2026-11-01", Decimal("10.00")), ("2026-11-02", Decimal("6.00"))]
    path.write_text("shop,order,id,kind,amount\nA,1,a5,P,6.00\nA,1,a4,P,4.00\n")
    r.land([path], NEXT, replace="late.csv")
    r.run()
    ran(tmp_path)
    assert [(row[0], row[4]) for row in table(tmp_path)] == [("2026-11-01", Decimal("10.00"))], "a day without breaks has no row"
    assert r.breaks(through=name_of(r.config.grid.at(1))).to_pylist()[0]["open"] == Decimal("10.00")
    assert not r.breaks(through=name_of(r.config.grid.at(3))).num_rows
    states = [(file.window, file.state) for file in r.intake().tracking.files(source="day_breaks")]
    assert states == [(DAY, "landed"), (NEXT, "superseded"), (NEXT, "superseded"), (NEXT, "landed")]


def test_a_state_that_comes_back_is_loaded_again(tmp_path: Path) -> None:
    """The same rows as two files earlier are a new file: the newest state counts, not the newest bytes."""
    r = site(tmp_path)
    land(r, range(2), FIRST)
    r.run()
    ran(tmp_path)
    path = tmp_path / "late.csv"
    path.write_text("shop,order,id,kind,amount\nA,1,a4,P,4.00\n")
    r.land([path], DAY)
    r.run()
    ran(tmp_path)
    assert table(tmp_path)[0][4] == Decimal("6.00")
    r.unland("late.csv", DAY, "not ours")
    r.run()
    ran(tmp_path)
    assert table(tmp_path)[0][4] == Decimal("10.00")


def test_nobody_can_send_a_file_of_breaks(tmp_path: Path) -> None:
    r = site(tmp_path)
    land(r, range(2), FIRST)
    r.run()
    assert [file.state for file in deliver_breaks(r.intake()).files] == ["landed"]
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "day_breaks-20261101T0000+0000-999.parquet").write_bytes(b"PAR1")
    found = deliver(r.intake(), str(inbox))
    assert (found.files, found.unknown) == ([], ["day_breaks-20261101T0000+0000-999.parquet"])


def test_a_window_that_does_not_tie_gives_no_breaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from recon.reading import results

    r = site(tmp_path)
    land(r, range(2), FIRST)
    r.run()
    monkeypatch.setattr(results, "read_certificate", lambda store, window: {"ties": False})
    found = deliver_breaks(r.intake())
    assert not found.files
    assert "does not tie, so no breaks are made of 2026-11-01" in found.failed[0][1]


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("breaks: {per: hour}\n", "day_breaks.yaml:1: breaks.per"),
        ("breaks: {per: day, time_zone: Mars}\n", "Mars"),
        ("breaks: {per: day, since: yesterday}\n", "'yesterday' is no day"),
        ("breaks: {per: day}\nfiles: x.csv\n", "files"),
    ],
)
def test_a_mistake_names_its_place(tmp_path: Path, written: str, says: str) -> None:
    site(tmp_path)
    (tmp_path / "sources/day_breaks.yaml").write_text(written)
    assert says in str(load_sources(load_config(tmp_path / "recon.yaml")).broken["day_breaks"])


def test_a_key_column_with_the_name_of_another_column_is_refused(tmp_path: Path) -> None:
    site(tmp_path)
    (tmp_path / "recon.yaml").write_text(RECON.replace("[shop, order]", "[shop, day]"))
    broken = load_sources(load_config(tmp_path / "recon.yaml")).broken["day_breaks"]
    assert "would have the column 'day' twice" in str(broken)


def test_days_before_since_are_left_out(tmp_path: Path) -> None:
    r = site(tmp_path)
    (tmp_path / "sources/day_breaks.yaml").write_text(DAILY.replace("}", ", since: 2026-11-02}"))
    land(r, range(4), FIRST)
    r.run()
    assert [file.window for file in deliver_breaks(r.intake()).files] == [NEXT]


def test_a_window_that_is_committed_but_not_certified_keeps_its_day_and_later_ones_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recon.reading import results

    r = site(tmp_path)
    land(r, range(4), FIRST)
    r.run()
    monkeypatch.setattr(results, "uncertified", lambda store, config, state: [DAY])
    intake = r.intake()
    assert not deliver_breaks(intake).files
    assert intake.waiting(intake.source("day_breaks")) == {
        DAY: f"1 of 2 windows are certified: {DAY} is not",
        NEXT: f"the earlier window {DAY} changed, and has no new certificate yet",
    }
