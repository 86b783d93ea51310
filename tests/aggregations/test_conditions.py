"""Each condition of an aggregation: when it holds, and what it says where it does not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import aggregation_site as s
import pytest
from aggregation_site import DAILY, NEXT, NOON, WINDOW, answers, evaluated, land, made, run

from recon.model.windows import day_begin

NAMES = DAILY + "expect: [a.csv, {name: b.csv, until: 2026-11-02}, {name: c.csv, from: 2026-11-02}]\n"


def test_a_scope_without_files_waits_for_them_and_names_them(tmp_path: Path) -> None:
    site = made(tmp_path, {"daily": NAMES})
    found = evaluated(site)
    assert not found.due
    assert answers(found)["new input"] == (False, "no file has landed")
    assert answers(found)["files"] == (False, "0 of 2 files: a.csv, b.csv are missing")


def test_a_shop_that_closes_or_opens_is_expected_by_date(tmp_path: Path) -> None:
    site = made(tmp_path, {"daily": NAMES})
    for window in (WINDOW, NEXT):
        land(site, "a.csv", window=window)
    assert answers(evaluated(site))["files"] == (False, "1 of 2 files: b.csv is missing")
    assert answers(evaluated(site, scope=NEXT))["files"] == (False, "1 of 2 files: c.csv is missing")
    land(site, "b.csv")
    land(site, "c.csv", window=NEXT)
    assert evaluated(site).due
    assert evaluated(site, scope=NEXT).due, "b.csv has closed and holds up nothing"


def test_a_number_of_files_is_the_least_number(tmp_path: Path) -> None:
    site = made(tmp_path, {"daily": DAILY + "expect: 2\n"})
    land(site, "a.csv")
    assert answers(evaluated(site))["files"] == (False, "1 of 2 files")
    land(site, "b.csv")
    land(site, "c.csv")
    assert answers(evaluated(site))["files"] == (True, "3 of 2 files")


def test_a_day_on_which_no_file_is_expected_is_never_complete(tmp_path: Path) -> None:
    site = made(tmp_path, {"daily": DAILY + "expect: [{name: a.csv, from: 2027-01-01}]\n"})
    land(site)
    assert answers(evaluated(site))["files"] == (False, "no file is expected on this day")


def test_any_new_file_is_new_input_or_all_of_them(tmp_path: Path) -> None:
    site = made(tmp_path, {"daily": DAILY, "whole": DAILY.replace("daily", "whole") + "input: all\n"})
    land(site, "a.csv")
    land(site, "b.csv")
    assert [one.state for one in run(site)[1]] == ["completed", "completed"]
    assert answers(evaluated(site))["new input"] == (False, "the same files as in run 1")
    land(site, "a.csv", [("A", "4", "2.00")])
    assert answers(evaluated(site))["new input"] == (True, "1 new file since run 1: a.csv")
    assert answers(evaluated(site, "whole"))["new input"] == (False, "1 new file since run 2, but not yet anew: b.csv")
    land(site, "b.csv", [("B", "4", "2.00")])
    assert answers(evaluated(site, "whole"))["new input"] == (True, "2 new files since run 2: a.csv, b.csv")


def test_new_input_is_told_by_versions_not_by_times(tmp_path: Path) -> None:
    site = made(tmp_path)
    land(site, "a.csv")
    run(site)
    land(site, "b.csv", at=NOON - timedelta(days=400))  # a clock that goes back
    assert answers(evaluated(site))["new input"] == (True, "1 new file since run 1: b.csv")
    run(site)
    s.reconvert(site, "a.csv", [("A", "4", "9.00")])
    assert answers(evaluated(site))["new input"] == (True, "1 new file since run 2: a.csv")


def test_files_that_are_taken_back_are_new_input_and_all_of_them_wait_for_a_person(tmp_path: Path) -> None:
    site = made(tmp_path)
    land(site, "a.csv")
    land(site, "b.csv", [("B", "4", "2.00")])
    run(site)
    s.take_back(site, "b.csv")
    assert answers(evaluated(site))["new input"] == (True, "1 file less than in run 1")
    run(site)
    assert [row[0] for row in s.table_rows(site)] == ["A"]
    s.take_back(site, "a.csv")
    found, _ = run(site)
    (waiting,) = found.waiting
    assert answers(waiting)["new input"] == (True, "1 file of run 2 taken back")
    assert waiting.waits_for == ["files: 0 of 1 files"]
    site.runs.override("daily", WINDOW, "files", "the shop never opened", "ann")
    (done,) = run(site)[1]
    assert (done.state, done.figures["deleted"], done.figures["rows"]) == ("completed", 1, 0)
    assert s.table_rows(site) == []
    found, done = run(site)
    assert not found.waiting, "it is done"
    assert not done


def test_a_changed_definition_aggregates_the_same_files_again(tmp_path: Path) -> None:
    site = made(tmp_path)
    land(site, "a.csv", [("A", "4", "1.00"), ("A", "13", "5.00")])
    run(site)
    s.define(tmp_path, "daily", DAILY + 'filter: "code <> 13"\n')
    assert answers(evaluated(site))["new input"] == (True, "the definition changed since run 1")
    run(site)
    assert [str(value) for value in s.table_rows(site)[0]] == ["A", "1.00", "1"]
    s.define(tmp_path, "daily", DAILY + 'filter: "code <> 13"\nleast_rows: 1\n')
    assert answers(evaluated(site))["new input"][0] is False, "what it waits for changes no row"


def test_least_rows_and_bytes(tmp_path: Path) -> None:
    site = made(tmp_path, {"daily": DAILY + "least_rows: 3\nleast_bytes: 1KB\n"})
    land(site, "a.csv", [("A", "4", "1.00")] * 2)
    found = answers(evaluated(site))
    assert found["rows"] == (False, "2 of at least 3 rows")
    assert found["bytes"] == (False, "100 of at least 1,000 bytes")
    for number in range(9):
        land(site, f"b{number}.csv")
    found = answers(evaluated(site))
    assert (found["rows"][0], found["bytes"][0]) == (True, True)


NEED = DAILY + "needs: {source: items, since: SINCE}\ntime_zone: America/Chicago\n"
NOW = datetime(2026, 11, 3, 5, 59, tzinfo=UTC)  # one minute to midnight in Chicago, of the 2nd


@pytest.mark.parametrize(
    ("since", "came", "holds"),
    [
        ("ever", datetime(2020, 1, 1, tzinfo=UTC), True),
        ("today", datetime(2026, 11, 2, 5, 59, tzinfo=UTC), False),
        ("today", datetime(2026, 11, 2, 6, 0, tzinfo=UTC), True),
        ("window", datetime(2026, 10, 31, 4, 59, tzinfo=UTC), False),  # the window begins on 31 October in Chicago, in summer time
        ("window", datetime(2026, 10, 31, 5, 0, tzinfo=UTC), True),
    ],
)
def test_reference_data_is_needed_since_the_business_day_began(tmp_path: Path, since: str, came: datetime, holds: bool) -> None:
    site = made(tmp_path, {"daily": NEED.replace("SINCE", since)})
    land(site)
    assert answers(evaluated(site, now=NOW))["needs items"] == (False, "a file of items has never landed")
    land(site, "items1.csv", source="items", at=came)
    assert answers(evaluated(site, now=NOW))["needs items"][0] is holds


def test_reference_data_that_comes_again_unchanged_is_fresh(tmp_path: Path) -> None:
    site = made(tmp_path, {"daily": NEED.replace("SINCE", "today")})
    land(site)
    land(site, "items1.csv", source="items", at=NOW - timedelta(days=2))
    assert not evaluated(site, now=NOW).due
    s.deliver_again(site, "items1.csv", NOW - timedelta(hours=1))
    assert answers(evaluated(site, now=NOW))["needs items"] == (
        True,
        "items1.csv last came at 2026-11-03T04:59Z, the business day began at 2026-11-02T06:00Z",
    )


def test_only_files_of_a_name_are_needed(tmp_path: Path) -> None:
    site = made(tmp_path, {"daily": DAILY + 'needs: {source: items, files: "items-{day}.csv"}\n'})
    land(site)
    land(site, "items1.csv", source="items")
    assert answers(evaluated(site))["needs items"] == (False, "items-{day}.csv of items has never landed")
    land(site, "items-1.csv", source="items")
    assert evaluated(site).due


@pytest.mark.parametrize(
    ("now", "zone", "begin"),
    [
        ("2026-03-08T09:00Z", "America/New_York", "2026-03-08T05:00Z"),  # clocks go forward
        ("2026-11-01T09:00Z", "America/New_York", "2026-11-01T04:00Z"),  # clocks go back
        ("2026-03-29T00:30Z", "Asia/Beirut", "2026-03-28T22:00Z"),  # midnight itself is skipped
        ("2026-11-01T05:30Z", "America/Havana", "2026-11-01T04:00Z"),  # midnight occurs twice; this is after the second
        ("2011-12-31T00:00Z", "Pacific/Apia", "2011-12-30T10:00Z"),  # the day before does not exist there
        ("2026-11-01T09:00Z", None, "2026-11-01T00:00Z"),
    ],
)
def test_a_business_day_begins_at_its_first_midnight(now: str, zone: str | None, begin: str) -> None:
    assert day_begin(datetime.fromisoformat(now), zone) == datetime.fromisoformat(begin)


def test_a_needed_aggregation_has_aggregated_what_is_there(tmp_path: Path) -> None:
    more = DAILY.replace("target: daily", "target: report") + "needs: {aggregation: daily}\n"
    site = made(tmp_path, {"daily": DAILY, "report": more})
    land(site)
    assert answers(evaluated(site, "report"))["needs daily"] == (False, f"daily: {WINDOW}: no run has completed")
    assert [one.aggregation for one in run(site)[1]] == ["daily"]
    assert [one.aggregation for one in run(site)[1]] == ["report"]
    land(site, "b.csv")
    assert answers(evaluated(site, "report"))["needs daily"] == (False, f"daily: {WINDOW}: it has new input since run 1")
    (claimed,) = s.tick(site).claimed
    assert answers(evaluated(site, "report"))["needs daily"] == (False, f"daily: {WINDOW}: run {claimed.id} is claimed")


def test_an_aggregation_of_all_needs_every_window_of_another(tmp_path: Path) -> None:
    every = DAILY.replace("target: daily", "target: every") + "per: all\nneeds: {aggregation: daily}\n"
    after = DAILY.replace("target: daily", "target: after") + "needs: {aggregation: every}\n"
    site = made(tmp_path, {"daily": DAILY, "every": every, "after": after})
    land(site, "a.csv")
    land(site, "b.csv", [("B", "4", "1.00")], window=NEXT)
    assert answers(evaluated(site, "every", "all"))["needs daily"][1].count("no run has completed") == 2
    assert [(one.aggregation, one.scope) for one in run(site)[1]] == [("daily", WINDOW), ("daily", NEXT)]
    assert [(one.aggregation, one.scope) for one in run(site)[1]] == [("every", "all")]
    assert [(one.aggregation, one.scope) for one in run(site)[1]] == [("after", WINDOW), ("after", NEXT)]


def test_a_deadline_sets_missing_files_aside_but_not_all_of_them(tmp_path: Path) -> None:
    site = made(tmp_path, {"daily": NAMES + "deadline: 6h\n"})
    land(site, "a.csv")
    end = datetime(2026, 11, 2, 6, tzinfo=UTC)
    assert not evaluated(site, now=end - timedelta(seconds=1)).due
    found = evaluated(site, now=end)
    assert found.due
    (files,) = [answer for answer in found.answers if answer.condition == "files"]
    assert (files.holds, files.set_aside) == (False, "the deadline 2026-11-02T06:00Z has passed")
    assert files.why == "1 of 2 files: b.csv is missing", "it is named all the same"
    s.take_back(site, "a.csv")
    assert not evaluated(site, now=end).due


def test_a_person_sets_one_condition_aside_once_and_the_run_says_who_and_why(tmp_path: Path) -> None:
    site = made(tmp_path, {"daily": NAMES + "least_rows: 2\n"})
    land(site, "a.csv", [("A", "4", "1.00")] * 2)
    site.runs.override("daily", WINDOW, "files", "b is shut", "ann")
    site.runs.override("daily", NEXT, "files", "another scope", "ann")
    (done,) = run(site)[1]
    assert done.state == "completed"
    (stored,) = [one for one in s.stored_answers(site) if one["id"] == done.evaluation]
    assert stored["answers"]["files"]["set_aside"] == "ann: b is shut"
    land(site, "a.csv", [("A", "4", "3.00")] * 2)
    assert not evaluated(site).due, "it counted once"


def test_nobody_sets_aside_that_a_run_is_at_work_or_that_nothing_is_new(tmp_path: Path) -> None:
    site = made(tmp_path)
    land(site)
    s.tick(site)
    for condition in ("not running", "new input"):
        site.runs.override("daily", WINDOW, condition, "hurry", "ann")
    assert answers(evaluated(site))["not running"][0] is False
    assert not s.tick(site).claimed


def test_a_run_that_fails_is_tried_three_times_with_longer_waits_then_it_waits_for_input_or_a_person(tmp_path: Path) -> None:
    site = made(tmp_path)
    land(site, "a.csv", [("A", "4", "no amount")])
    for attempt, wait in ((1, 1), (2, 2)):
        (done,) = run(site)[1]
        assert (done.state, done.attempt) == ("failed", attempt)
        assert "no amount" in done.reason
        assert done.ended_at is not None
        again = done.ended_at + timedelta(minutes=wait)
        assert not evaluated(site, now=again - timedelta(seconds=1)).due
        s.edit(site, "UPDATE aggregation_runs SET ended_at = :at", at=(done.ended_at - timedelta(minutes=wait)).isoformat())
    (done,) = run(site)[1]
    assert (done.id, done.attempt) == (3, 3)
    late = answers(evaluated(site, now=NOW + timedelta(days=900)))["tries"]
    assert late[0] is False
    assert "run 3 failed, attempt 3 of 3" in late[1]
    assert "it waits for new input, or for 'recon aggregation run daily'" in late[1]
    site.runs.override("daily", WINDOW, "tries", "asked to run again", "ann")
    (done,) = run(site)[1]
    assert (done.id, done.attempt) == (4, 4)
    assert not s.tick(site).claimed, "a person asked once"
    land(site, "a.csv", [("A", "4", "1.00")])
    (done,) = run(site)[1]
    assert (done.state, done.attempt) == ("completed", 1)


def test_files_of_other_names_are_not_its_input(tmp_path: Path) -> None:
    site = made(tmp_path, {"daily": DAILY + 'files: "north-{shop}.csv"\n'})
    land(site, "south-1.csv")
    assert answers(evaluated(site))["new input"] == (False, "no file has landed")
    land(site, "north-1.csv")
    (done,) = run(site)[1]
    assert (done.versions, done.state) == ("2", "completed")
    land(site, "south-2.csv")
    assert not run(site)[1]


def test_one_scope_of_all_windows(tmp_path: Path) -> None:
    site = made(tmp_path, {"daily": DAILY + "per: all\n"})
    land(site, "a.csv")
    land(site, "b.csv", window=NEXT)
    (done,) = run(site)[1]
    assert (done.scope, done.versions) == ("all", "1,2")
    assert [str(value) for value in s.table_rows(site)[0]] == ["A", "2.00", "2"]
    assert not run(site)[1]


def test_a_cadence_keeps_runs_apart_and_takes_what_came_meanwhile_at_once(tmp_path: Path) -> None:
    site = made(tmp_path, {"daily": DAILY + "cadence: 1h\n"})
    land(site, "a.csv")
    assert answers(evaluated(site))["cadence"] == (True, "no run has completed")
    (done,) = run(site)[1]
    assert done.ended_at is not None
    for name in ("b.csv", "c.csv"):
        land(site, name, [(name, "4", "1.00")])
    again = done.ended_at + timedelta(hours=1)
    assert answers(evaluated(site, now=again - timedelta(seconds=1)))["cadence"] == (
        False,
        f"run 1 has completed; the next may begin at {again:%Y-%m-%dT%H:%M:%SZ}",
    )
    (after,) = run(site, now=again)[1]
    assert (after.versions, after.state) == ("1,2,3", "completed")


def test_every_field_together(tmp_path: Path) -> None:
    fields = [
        *("enabled: true", "files: '{shop}.csv'", "per: window", "expect: [a.csv, {name: b.csv, until: 2027-01-01}]", "input: all"),
        *("least_rows: 2", "least_bytes: 1KB", "needs: [{source: items, files: 'items*.csv', since: ever}]", "criteria: select true"),
        *("time_zone: America/Chicago", "deadline: 6h", "cadence: 1h", "engine: duckdb", "filter: code = 4"),
    ]
    site = made(tmp_path, {"daily": DAILY + "\n".join(fields) + "\n"})
    for name in "abcdefghijkl":
        land(site, f"{name}.csv")
    assert not evaluated(site).due
    land(site, "items1.csv", source="items")
    (done,) = run(site)[1]
    assert (done.state, done.figures["rows_used"]) == ("completed", 12), done.reason
