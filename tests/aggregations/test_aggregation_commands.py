"""The commands on aggregations: what they print, their JSON, their exit statuses."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import aggregation_site as s
import pytest
from aggregation_site import DAILY, NEXT, WINDOW, land, made, opened
from cli_calls import Answer, Call

from recon.aggregations.runs import carry_out as carrying
from recon.aggregations.tick import tick
from recon.errors import WrongInput

EXPECT = DAILY + "expect: [a.csv, b.csv]\n"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> s.Aggregations:
    found = made(tmp_path, {"daily": EXPECT})
    monkeypatch.chdir(tmp_path)
    return found


def lines(answer: Answer) -> list[str]:
    """What was printed, without the times of today."""
    return [re.sub(r"\d{4}-\d{2}-\d{2} \d{2}:\d{2}(:\d{2})?Z", "TIME", line.rstrip()) for line in answer.out.splitlines()]


def test_run_prints_what_it_loaded_and_what_waits(site: s.Aggregations, recon: Call) -> None:
    land(site, "a.csv", [("A", "4", "1234.50")])
    waits = recon("aggregation", "run", "daily")
    assert (waits.status, waits.out) == (1, f"daily, {WINDOW} waits: files: 1 of 2 files: b.csv is missing\n")
    assert recon("aggregation", "run").status == 0, "no aggregation was asked for by name"
    land(site, "b.csv", [("B", "4", "1.00")])
    done = recon("aggregation", "run", "daily")
    assert (done.status, done.err) == (0, "")
    assert done.out == f"daily, {WINDOW}: run 1 completed: 2 rows in daily (2 inserted); total 1,235.50; lines 2\n"
    assert recon("aggregation", "run", "daily").out == "nothing new to aggregate\n"
    land(site, "b.csv", [("C", "4", "1.00")])
    assert "run 2 completed: 2 rows in daily (1 inserted, 1 deleted)" in recon("aggregation", "run").out


def test_run_as_json(site: s.Aggregations, recon: Call) -> None:
    land(site, "a.csv")
    land(site, "a.csv", window=NEXT)
    land(site, "b.csv", [("B", "4", "1.00")])
    answer = recon("aggregation", "run", "--json")
    found = answer.json
    assert answer.status == 0
    assert [(one["id"], one["state"], one["versions"], one["figures"]["rows"]) for one in found["runs"]] == [
        (1, "completed", ["1", "3"], 2)
    ]
    assert found["waiting"] == [{"aggregation": "daily", "scope": NEXT, "waits_for": ["files: 1 of 2 files: b.csv is missing"]}]
    assert found["broken"] == {}


def test_run_goes_on_with_what_waited_for_a_run(site: s.Aggregations, recon: Call, tmp_path: Path) -> None:
    s.define(tmp_path, "after", DAILY.replace("target: daily", "target: after") + "needs: {aggregation: daily}\n")
    land(site, "a.csv")
    land(site, "b.csv", [("B", "4", "1.00")])
    printed = recon("aggregation", "run").out.splitlines()
    assert [line.partition(":")[0] for line in printed] == ["daily, 2026-11-01T00", "after, 2026-11-01T00"]


def test_a_run_that_fails_is_told_on_stderr_and_the_others_go_on(site: s.Aggregations, recon: Call) -> None:
    land(site, "a.csv", [("A", "4", "much")])
    land(site, "b.csv")
    for name in ("a.csv", "b.csv"):
        land(site, name, [(name, "4", "1.00")], window=NEXT)
    answer = recon("aggregation", "run")
    assert answer.status == 1
    assert answer.err.startswith(f"recon: daily, {WINDOW}: run 1 failed: ")
    assert "'much'" in answer.err
    assert f"daily, {NEXT}: run 2 completed" in answer.out
    assert f"daily, {WINDOW} waits: tries: run 1 failed, attempt 1 of 3" in answer.out
    listed = recon("aggregation", "files", "daily", "--state", "failed")
    assert [line.split() for line in listed.out.splitlines()[3:]] == [
        [WINDOW, "1", "failed", "1", "a.csv", "1"],
        [WINDOW, "1", "failed", "2", "b.csv", "1"],
    ]
    assert recon("aggregation", "files", "daily", "--state", "cancelled").out == "no runs that are cancelled\n"
    (row, _) = recon("aggregation", "files", "daily", "--state", "failed", "--json").json
    assert row == {"scope": WINDOW, "run": 1, "state": "failed", "file": "a.csv", "id": 1, "rows": 1}


def test_a_person_who_asks_tries_again_at_once(site: s.Aggregations, recon: Call) -> None:
    land(site, "a.csv", [("A", "4", "much")])
    land(site, "b.csv")
    for attempt in (1, 2, 3, 4):
        recon("aggregation", "run", "daily")
        assert opened(site.config.path.parent).runs.get(attempt).attempt == attempt
    assert recon("aggregation", "run").out.startswith(f"daily, {WINDOW} waits: tries: run 4 failed, attempt 4 of 3")


def test_an_override_sets_one_condition_aside_for_one_scope(site: s.Aggregations, recon: Call) -> None:
    land(site, "a.csv")
    land(site, "a.csv", window=NEXT)
    arguments = ("aggregation", "run", "daily", "--window", WINDOW, "--override", "files", "--reason", "b is shut")
    done = recon(*arguments)
    assert done.status == 0
    assert "run 1 completed" in done.out
    assert recon("aggregation", "run", "daily").status == 1, "the other scope waits"
    assert recon("aggregation", "run", "daily", "--override", "files").status == 2
    wrong = recon("aggregation", "run", "daily", "--window", NEXT, "--override", "rows", "--reason", "x")
    assert wrong.line == "--override rows: daily has no such condition that can be set aside; there are tries, files"
    for firm in ("not running", "new input"):
        assert recon("aggregation", "run", "daily", "--window", NEXT, "--override", firm, "--reason", "x").status == 2


@pytest.mark.parametrize(
    ("window", "line"),
    [
        ("all", "--window all: daily has one scope per window"),
        ("2026-11-01T03:00Z", "--window: 2026-11-01T03:00Z is not on the grid of windows; the nearest is 2026-11-01T00:00Z"),
        ("soon", "--window"),
    ],
)
def test_a_window_that_is_none_is_named(site: s.Aggregations, recon: Call, window: str, line: str) -> None:
    for command in ("run", "why"):
        answer = recon("aggregation", command, "daily", "--window", window)
        assert answer.status == 2
        assert answer.line.startswith(line)


# ---- why -------------------------------------------------------------------------------------------------------------


def test_why_says_what_is_missing_since_when_and_when_it_last_came(site: s.Aggregations, recon: Call) -> None:
    land(site, "b.csv", window=WINDOW, at=datetime(2026, 11, 1, 7, 12, tzinfo=UTC))
    land(site, "a.csv", window=NEXT)
    first = datetime(2026, 11, 2, 6, tzinfo=UTC)
    tick(site, now=first)
    tick(site, now=first + timedelta(hours=1))
    found = recon("aggregation", "why", "daily", "--window", NEXT)
    assert found.status == 0
    assert found.out.splitlines() == [
        f"daily, {NEXT}: waiting",
        "  holds     not running: no run is at work",
        "  holds     tries: this input has not failed",
        "  holds     new input: 1 file, and no run has completed",
        "  waits     files: 1 of 2 files: b.csv is missing, since 2026-11-02 06:00Z",
        "            b.csv: last came 2026-11-01 07:12Z",
    ]
    (answer,) = recon("aggregation", "why", "daily", "--window", NEXT, "--json").json
    (files,) = [one for one in answer["conditions"] if one["condition"] == "files"]
    assert (answer["scope"], answer["due"], files["holds"]) == (NEXT, False, False)
    assert files["since"] == "2026-11-02T06:00:00+00:00"
    assert files["missing"] == {"b.csv": "2026-11-01T07:12:00+00:00"}
    assert files["last_held"] is None


def test_why_says_when_a_condition_last_held(site: s.Aggregations, recon: Call) -> None:
    for name in ("a.csv", "b.csv"):
        land(site, name)
    then = datetime(2026, 11, 1, 10, tzinfo=UTC)
    s.run(site, now=then)
    s.take_back(site, "b.csv")
    tick(site, now=then + timedelta(hours=5))
    found = lines(recon("aggregation", "why", "daily"))
    assert "  waits     files: 1 of 2 files: b.csv is missing, since TIME, last held TIME" in found
    (answer,) = recon("aggregation", "why", "daily", "--json").json
    (files,) = [one for one in answer["conditions"] if one["condition"] == "files"]
    assert (files["since"], files["last_held"]) == ("2026-11-01T15:00:00+00:00", "2026-11-01T10:00:00+00:00")


def test_why_of_a_window_without_files_names_all_that_are_missing(site: s.Aggregations, recon: Call) -> None:
    assert recon("aggregation", "why", "daily").out == "no file of source sales has landed yet\n"
    found = recon("aggregation", "why", "daily", "--window", "2026-11-09T00:00Z").out
    assert "files: 0 of 2 files: a.csv, b.csv are missing" in found
    assert "a.csv: has never come" in found


def test_a_shop_that_never_sends_is_named_in_every_answer(site: s.Aggregations, recon: Call) -> None:
    for day in (1, 2, 3):
        window = f"2026-11-0{day}T00:00Z"
        land(site, "a.csv", window=window)
        assert "b.csv: has never come" in recon("aggregation", "why", "daily", "--window", window).out
    assert recon("aggregation", "why", "daily").out.count("b.csv is missing") == 3


def test_why_of_what_is_done_is_due_or_is_at_work(site: s.Aggregations, recon: Call) -> None:
    land(site, "a.csv")
    land(site, "b.csv", [("B", "4", "1.00")])
    assert recon("aggregation", "why", "daily").out.splitlines()[0] == f"daily, {WINDOW}: due; next: recon aggregation run"
    (claimed,) = tick(site, worker="node-7").claimed
    assert "  waits     not running: run 1 is claimed by node-7, since TIME" in lines(recon("aggregation", "why", "daily"))[1]
    carrying.carry_out(site, claimed, "node-7")
    assert recon("aggregation", "why", "daily").out == f"daily, {WINDOW}: done; nothing new\n"


# ---- the others ------------------------------------------------------------------------------------------------------


def test_list_names_tables_last_runs_and_mistakes(site: s.Aggregations, recon: Call, tmp_path: Path) -> None:
    assert [line.split() for line in recon("aggregation", "list").out.splitlines()[3:]] == [
        ["daily", "daily", "window", "no", "run", "yet"]
    ]
    s.define(tmp_path, "off", DAILY.replace("target: daily", "target: off") + "enabled: false\n")
    s.define(tmp_path, "wrong", DAILY.replace("keys: shop", "keys: store"))
    land(site, "a.csv")
    land(site, "b.csv", [("B", "4", "1.00")])
    recon("aggregation", "run")
    answer = recon("aggregation", "list")
    assert answer.status == 1
    assert f"run 1, {WINDOW}: completed" in answer.out
    assert "off is disabled" in answer.out
    assert answer.err.startswith("recon: ")
    assert "wrong.yaml:2: keys: the source sales has no column 'store'" in answer.err
    listed = recon("aggregation", "list", "--runs").out
    assert "2 rows in daily (2 inserted); total 2.00; lines 2" in listed


def test_list_as_json(site: s.Aggregations, recon: Call) -> None:
    assert recon("aggregation", "list", "--json").json == {
        "aggregations": [{"name": "daily", "target": "daily", "per": "window", "last": None}],
        "disabled": [],
        "broken": {},
    }
    assert recon("aggregation", "list", "--runs", "--json").json == []


def test_replay_takes_the_files_of_a_run_again(site: s.Aggregations, recon: Call) -> None:
    land(site, "a.csv")
    land(site, "b.csv", [("B", "4", "1.00")])
    recon("aggregation", "run")
    answer = recon("aggregation", "replay", "1")
    assert (answer.status, answer.out) == (0, f"daily, {WINDOW}: run 2 completed: 2 rows in daily (nothing changed); total 2.00; lines 2\n")
    assert recon("aggregation", "replay", "1", "--json").json["replays"] == 1
    assert recon("aggregation", "replay", "77").line == "there is no run 77; 'recon aggregation list --runs' has them"
    with patch.object(carrying, "compute", side_effect=WrongInput("no luck")):
        failed = recon("aggregation", "replay", "1")
    assert (failed.status, failed.line) == (1, f"daily, {WINDOW}: run 4 failed: no luck")


def test_sync_shows_differences_and_writes_them_unless_it_only_previews(site: s.Aggregations, recon: Call, tmp_path: Path) -> None:
    assert recon("aggregation", "sync", "--preview").out.splitlines()[0] == "daily: new in the files"
    assert recon("aggregation", "sync", "--preview", "--json").json["changes"][0]["action"] == "insert"
    recon("aggregation", "sync")
    assert recon("aggregation", "sync").out == "the files and the table say the same\n"
    s.edit(site, "UPDATE aggregations SET least_rows = 7")
    kept = recon("aggregation", "sync")
    assert (kept.status, kept.out) == (
        0,
        "daily: edited in the table, which counts while the file is unchanged\n  least_rows: 7 → -\n",
    )
    s.define(tmp_path, "daily", EXPECT + "least_rows: 9\n")
    conflict = recon("aggregation", "sync")
    assert conflict.status == 1
    assert conflict.out.splitlines() == ["daily: both the file and the row in the table have changed", "  least_rows: 7 → 9"]
    assert "--take file or --take table decides" in conflict.line
    assert recon("aggregation", "sync", "--take", "file").status == 0
    assert s.definition(site).section.least_rows == 9


@pytest.mark.parametrize("arguments", [("why", "daili"), ("run", "daili"), ("files", "daili")])
def test_an_unknown_name_is_answered_by_those_there_are(site: s.Aggregations, recon: Call, arguments: tuple[str, ...]) -> None:
    answer = recon("aggregation", *arguments)
    assert (answer.status, answer.line) == (2, "there is no aggregation 'daili'; there are daily")


def test_a_disabled_one_and_a_wrong_one_say_so(site: s.Aggregations, recon: Call, tmp_path: Path) -> None:
    s.define(tmp_path, "daily", EXPECT + "enabled: false\n")
    assert recon("aggregation", "why", "daily").line == "daily is disabled; write enabled: true"
    s.define(tmp_path, "daily", EXPECT + "enabled: maybe\n")
    assert "daily.yaml:6: enabled" in recon("aggregation", "run", "daily").line
