"""What is late, and what was loaded though an input was missing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import aggregation_site as s
import pytest
from aggregation_site import DAILY, NEXT, WINDOW, define, land, made, opened, run

import recon.aggregations.runs.carry_out as carrying
from recon.aggregations.health import allowed, incomplete, late
from recon.aggregations.runs.site import Aggregations
from recon.database.tables import AGGREGATION_RUNS

TWO = f"{DAILY}expect: [a.csv, b.csv]\n"
LATER = datetime(2026, 11, 2, 5, tzinfo=UTC)
"""Five hours after the end of the first window."""


def found_late(site: Aggregations, now: datetime = LATER, grace: timedelta = timedelta(hours=4)) -> dict[str, str]:
    definition = s.definition(site)
    waiting = [one for one in site.evaluator.evaluate([definition], now) if not one.due]
    return late(definition, waiting, site.evaluator.files.windows("sales"), grace, now)


def test_a_window_that_waits_is_late_once_its_time_is_over_and_says_what_it_waits_for(tmp_path: Path) -> None:
    site = made(tmp_path, {"daily": TWO})
    land(site)
    assert found_late(site, grace=timedelta(hours=6)) == {}
    assert found_late(site) == {WINDOW: "1 of 2 files: b.csv is missing"}
    land(site, "b.csv")
    assert found_late(site) == {}, "it is due"
    run(site)
    assert found_late(site) == {}


def test_a_window_that_waits_for_its_cadence_alone_is_not_late(tmp_path: Path) -> None:
    site = made(tmp_path, {"daily": f"{DAILY}cadence: 7d\nexpect: [{{name: a.csv, until: 2026-11-02}}]\n"})
    land(site)
    run(site)
    land(site, rows=(("A", "4", "2.00"),))
    (waiting,) = site.evaluator.evaluate([s.definition(site)], site.runs.now())
    assert [answer.condition for answer in waiting.answers if not answer.passes] == ["cadence"]
    assert found_late(site, site.runs.now(), timedelta(days=-40_000)) == {}


def test_a_window_without_any_file_is_late_on_the_days_on_which_one_is_expected(tmp_path: Path) -> None:
    site = made(tmp_path, {"daily": f"{DAILY}expect: [{{name: a.csv, until: 2026-11-04}}]\n"})
    now = datetime(2026, 11, 6, tzinfo=UTC)
    assert found_late(site, now) == {}, "nothing has ever come"
    land(site)
    run(site)
    assert found_late(site, now) == {NEXT: "0 of 1 files", "2026-11-03T00:00Z": "0 of 1 files"}


def test_a_window_without_a_file_is_not_late_where_only_a_number_is_expected(tmp_path: Path) -> None:
    site = made(tmp_path)
    land(site)
    run(site)
    assert found_late(site, datetime(2026, 11, 6, tzinfo=UTC)) == {}


def test_an_aggregation_of_all_windows_is_late_when_its_last_try_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(carrying, "compute", broken)
    site = made(tmp_path, {"daily": f"{DAILY}per: all\n"})
    land(site)
    for attempt in (1, 2, 3):
        run(site)
        assert s.evaluated(site, scope="all").past.newest["attempt"] == attempt  # type: ignore[index]
        with site.intake.database.write() as connection:
            connection.execute(AGGREGATION_RUNS.update().values(ended_at=datetime(2026, 11, 1, tzinfo=UTC)))
    assert "attempt 3 of 3" in found_late(site)["all"]


def test_the_time_is_that_of_the_deadline_else_of_the_source_else_the_freshness(tmp_path: Path) -> None:
    site = made(tmp_path)
    assert allowed(s.definition(site), timedelta(hours=3)) == timedelta(hours=3)
    sales = tmp_path / "sources" / "sales.yaml"
    sales.write_text(f"{sales.read_text()}expect: {{files: [a.csv], by: 2h}}\n")
    assert allowed(s.definition(opened(tmp_path)), timedelta(hours=3)) == timedelta(hours=2)
    define(tmp_path, "daily", f"{DAILY}deadline: 1h\n")
    assert allowed(s.definition(opened(tmp_path)), timedelta(hours=3)) == timedelta(hours=1)


def test_a_scope_is_incomplete_while_its_last_run_had_a_condition_set_aside(tmp_path: Path) -> None:
    site = made(tmp_path, {"daily": TWO})
    land(site)
    site.runs.override("daily", WINDOW, "files", "the shop is closed", "marta")
    run(site)
    assert incomplete(site, "daily") == {WINDOW: "files set aside: marta: the shop is closed"}
    land(site, "b.csv")
    run(site)
    assert incomplete(site, "daily") == {}


def test_a_run_that_a_person_asked_for_again_is_not_incomplete(tmp_path: Path) -> None:
    site = made(tmp_path)
    land(site)
    site.runs.override("daily", WINDOW, "tries", "asked to run again", "marta")
    run(site)
    assert incomplete(site, "daily") == {}
