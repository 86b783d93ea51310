"""The command line: what each command answers."""

from __future__ import annotations

import json
import re
import shutil
import time
from decimal import Decimal
from pathlib import Path

import pytest
from cli_calls import COMMANDS, FIRST, GROUPS, SECOND, Call


def test_help_lists_every_command_in_one_line_each(recon: Call) -> None:
    answer = recon("--help")
    assert answer.status == 0
    listed = answer.out.split("Commands:\n")[1].split("\n\n")[0].splitlines()
    assert [line.split()[0] for line in listed] == [*COMMANDS, *GROUPS]
    assert all(line.endswith(".") and not line.endswith("...") for line in listed)


def test_without_a_command_the_help_is_shown(recon: Call) -> None:
    assert recon().out == recon("--help").out


@pytest.mark.parametrize("command", [*COMMANDS, *(f"{group} {command}" for group, members in GROUPS.items() for command in members)])
def test_the_help_of_each_command_has_an_example_and_takes_json(recon: Call, command: str) -> None:
    answer = recon(*command.split(), "--help")
    assert f"\n  recon {command}" in answer.out
    assert "--json" in answer.out
    assert "--debug" in answer.out
    assert not re.search(r"[{}<>]|\[\[", answer.out.split("Options:")[0].replace("<window>", "")), answer.out
    assert ("--config" in answer.out) == (command not in ("demo", "init", "generate"))


def test_the_version_is_told(recon: Call) -> None:
    assert recon("--version").out == "recon 0.1.0\n"


def test_show_json_is_exactly_the_contract(recon: Call, here: Path) -> None:
    assert recon("show", "A112", "--json").json == {
        "key": "A112",
        "status": "MATCHED",
        "commit": 1,
        "measures": {"billed": "25.00", "paid": "25.00", "lines": 3},
        "derived": {"balance": "0.00"},
        "contributions": [
            {"window": FIRST, "revision": 1, "measures": {"billed": "25.00", "paid": "10.00", "lines": 2}, "events": 2},
            {"window": SECOND, "revision": 1, "measures": {"billed": None, "paid": "15.00", "lines": 1}, "events": 1},
        ],
    }


def test_show_gives_people_money_as_it_is(recon: Call, here: Path) -> None:
    answer = recon("show", "B242")
    assert answer.status == 0
    assert answer.out.startswith("B242  BREAK\ncommit 1\n")
    for value in ("50.00", "48.55", "1.45"):
        assert value in answer.out


def test_show_as_of_a_window_knows_nothing_of_later_ones(recon: Call, here: Path) -> None:
    answer = recon("show", "A112", "--through", FIRST, "--json").json
    assert (answer["status"], answer["through"], answer["as_of"]) == ("BREAK", FIRST, SECOND)
    assert [part["window"] for part in answer["contributions"]] == [FIRST]
    assert ", through window 2026-11-01T00:00Z" in recon("show", "A112", "--as-of", SECOND).out


def test_show_with_events_names_file_and_line(recon: Call, here: Path) -> None:
    parts = recon("show", "A112", "--events", "--json").json["contributions"]
    events = [event for part in parts for event in part["event_list"]]
    assert {(event["file"], event["line"], event["amount"]) for event in events} == {
        ("orders-0000.csv", 2, "25.00"),
        ("orders-0000.csv", 6, "10.00"),
        ("payments-0100.jsonl", 1, "15.00"),
    }
    assert "payments-0100.jsonl" in recon("show", "A112", "--events").out


def test_show_known_at_names_the_commit_of_then(recon: Call, own: Path) -> None:
    recon("unland", "payments-0100.jsonl", "--window", SECOND, "--reason", "wrong bank")
    then = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 1))
    while time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()) <= then:
        time.sleep(0.1)
    assert recon("run").status == 0
    assert recon("show", "B243", "--json").json["commit"] == 2
    before = recon("show", "B243", "--known-at", then, "--json").json
    assert (before["commit"], before["status"]) == (1, "MATCHED")


def test_status_tells_commit_watermark_artifacts_and_windows(recon: Call, here: Path) -> None:
    told = recon("status", "--json").json
    assert (told["commit"], told["watermark"], told["backlog"]) == (1, SECOND, [])
    assert told["artifacts"] == {"BREAK": 1, "MATCHED": 2, "UNPAID": 1}
    out = recon("status").out
    assert f"watermark: {SECOND}" in out
    assert "waiting for a run: nothing" in out
    assert "MATCHED" in out


def test_status_shows_the_newest_twenty_windows_and_says_how_many_more(recon: Call, fresh: Path) -> None:
    for hour in range(24):
        recon("close", f"2026-11-01T{hour:02d}:00Z")
    out = recon("status").out
    assert "the newest 20 of 24 windows; --json has the other 4" in out
    assert "2026-11-01T03:00Z   ready" not in out
    assert "2026-11-01T04:00Z   ready" in out
    assert len(recon("status", "--json").json["windows"]) == 24


def test_status_and_certificate_of_a_window_add_up_per_currency(recon: Call, here: Path) -> None:
    certificate = recon("certificate", FIRST, "--json").json
    assert certificate["ties"] is True
    assert certificate["in"]["amount"] == {"EUR": "124.25", "USD": "154.90"}
    for out in (recon("certificate", FIRST).out, recon("status", FIRST).out):
        rows = {line.split("  ")[0]: line.split()[1:] for line in out.splitlines()}
        assert rows["rows"] == ["6", "5", "0", "1", "ties"]
        assert rows["amount EUR"][1:] == ["124.25", "124.25", "0.00", "0.00", "ties", "*"]
    assert "orders-0000.csv" in recon("status", FIRST).out
    assert recon("status", FIRST, "--json").json["certificate"] == certificate


def test_breaks_are_counted_by_status_and_age_and_listed(recon: Call, here: Path) -> None:
    told = recon("breaks", "--json").json
    assert [(line["status"], line["artifacts"]) for line in told["summary"]] == [("BREAK", 1), ("UNPAID", 1)]
    assert [(row["key"], row["balance"]) for row in told["breaks"]] == [("B242", "1.45"), ("A113", "119.90")]
    out = recon("breaks").out
    assert out.startswith("2 breaks\n")
    assert "A113" in out


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet", "xlsx"])
def test_artifacts_and_breaks_are_written_in_the_format_of_the_suffix(recon: Call, here: Path, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"all.{suffix}"
    note = f"note: window {FIRST} holds rejected rows, which count in no artifact; 'recon rejects' lists them"
    assert recon("export", str(file)).out.splitlines() == [f"wrote 4 artifacts to {file}", note]
    assert file.stat().st_size > 0
    assert recon("breaks", str(tmp_path / f"b.{suffix}"), "--json").json["rows"] == 2


def test_export_to_standard_output_is_the_csv_file(recon: Call, here: Path, tmp_path: Path) -> None:
    recon("export", "all.csv")
    assert recon("export", "-").out == (here / "all.csv").read_text()
    refused = recon("export", "-", "--json")
    assert refused.status == 2
    assert refused.line == "export: both - and --json write to standard output; name a file, or leave --json out"


def test_export_as_of_a_window_has_what_was_then(recon: Call, here: Path, tmp_path: Path) -> None:
    file = tmp_path / "then.csv"
    recon("export", str(file), "--through", FIRST)
    assert "MATCHED" not in file.read_text()


def test_rejects_name_file_line_and_reason(recon: Call, here: Path) -> None:
    (row,) = recon("rejects", "--json").json
    assert (row["window"], row["file"], row["line"]) == (FIRST, "odd.csv", 2)
    assert "TBC" in row["reason"]
    assert "odd.csv" in recon("rejects").out
    assert recon("rejects", SECOND).out == f"no rejected rows in window {SECOND}\n"


def test_the_same_file_landed_twice_says_so_and_changes_nothing(recon: Call, own: Path) -> None:
    answer = recon("land", "events/orders-0000.csv", "--window", FIRST)
    assert answer.status == 0
    assert answer.out.startswith("orders-0000.csv: the same file has landed already; no rows added\n")
    told = recon("land", "events/orders-0000.csv", "--window", FIRST, "--json").json
    assert (told["revision"], told["added"]) == (1, [])
    assert told["already"] == [{"file": "orders-0000.csv", "as": "orders-0000.csv"}]
    assert recon("run").out == "nothing to do: everything that is closed is done\n"


def test_run_says_what_it_did_and_names_open_windows_that_hold_files(recon: Call, fresh: Path) -> None:
    assert "next, when it is complete: recon close" in recon("land", "events/orders-0000.csv", "-w", FIRST).out
    out = recon("run").out
    assert "nothing to do" in out
    assert f"still open: {FIRST} holds files; when it is complete, close it with 'recon close {FIRST}'" in out
    assert recon("close", FIRST).status == 0
    assert recon("close", FIRST).out == f"window {FIRST} was closed already; nothing changed\n"
    out = recon("run").out
    assert f"processed 1 window: {FIRST}\n" in out
    assert "rows: 5 in = 5 accepted + 0 duplicates + 0 rejected\n" in out
    assert "4 keys touched, 4 artifacts written" in out
    assert "1 commit (1), 1 certificate\n" in out


def test_run_leaves_out_a_bad_window_names_it_and_does_the_others(recon: Call, fresh: Path) -> None:
    recon("land", "events/orders-0000.csv", "-w", FIRST, "--close", "--expect", "rows=99")
    recon("land", "events/payments-0100.jsonl", "-w", SECOND, "--close")
    answer = recon("run")
    assert answer.status == 1
    assert FIRST in answer.line
    assert "rows 99 ≠ 5" in answer.line
    assert f"processed 1 window: {SECOND}" in answer.out


def test_declared_control_totals_that_hold_go_through(recon: Call, fresh: Path) -> None:
    expect = ("rows=5", "amount:USD=154.90", "amount:EUR=124.25")
    options = [part for text in expect for part in ("--expect", text)]
    landed = recon("land", "events/orders-0000.csv", "-w", FIRST, "--close", *options, "--json").json
    assert landed["files"][0]["expect"] == {"rows": 5, "amount": {"USD": "154.90", "EUR": "124.25"}}
    assert recon("run").status == 0


def test_replay_of_a_range_changes_nothing_but_the_revision(recon: Call, own: Path) -> None:
    marked = recon("replay", f"{FIRST}..{SECOND}", "--json").json
    assert [(line["window"], line["revision"]) for line in marked] == [(FIRST, 2), (SECOND, 2)]
    report = recon("run", "--json").json
    assert (report["windows"], report["written"]) == ([FIRST, SECOND], 0)


def test_unland_takes_a_file_back_and_replace_puts_another_in_its_place(recon: Call, own: Path) -> None:
    assert recon("unland", "odd.csv", "-w", FIRST, "--reason", "not ours").status == 0
    assert [file["name"] for file in recon("status", FIRST, "--json").json["files"]] == ["orders-0000.csv"]
    (own / "fixed.jsonl").write_bytes((own / "events" / "payments-0100.jsonl").read_bytes().replace(b"48.55", b"50.00"))
    out = recon("land", "fixed.jsonl", "-w", SECOND, "--replace", "payments-0100.jsonl").out
    assert "landed fixed.jsonl" in out
    assert "in place of payments-0100.jsonl" in out
    assert recon("run").status == 0
    assert recon("show", "B242", "--json").json["status"] == "MATCHED"
    assert recon("rejects").out == "no rejected rows\n"


def test_verify_proves_the_store_and_fails_where_a_byte_was_flipped(recon: Call, own: Path) -> None:
    assert recon("verify").status == 0
    assert recon("verify", "--full", "--json").json["ok"] is True
    part = next((own / "data" / "state").glob("*/part-0000.words"))
    part.chmod(0o644)
    whole = part.read_bytes()
    part.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    answer = recon("verify")
    assert answer.status == 1
    assert all(line.startswith("recon: ") for line in answer.err.splitlines())


def test_init_writes_a_folder_whose_next_steps_work_and_overwrites_nothing(
    recon: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = recon("init", "my orders", "--json").json
    assert told["next"][0] == "cd 'my orders'"
    (tmp_path / "my orders" / "recon.yaml").write_text("name: mine\n")
    answer = recon("init", "my orders")
    assert answer.status == 2
    assert "recon.yaml: is there already" in answer.line
    assert (tmp_path / "my orders" / "recon.yaml").read_text() == "name: mine\n"


def test_the_demo_tells_its_story_and_starts_afresh_in_its_own_folder(recon: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    answer = recon("demo")
    assert answer.status == 0, answer.err
    assert "36 of them MATCHED" in answer.out
    assert "5 windows, 112 events, 4 commits" in answer.out
    assert "cd demo" in answer.out
    assert ("export PATH=" in answer.out) is (shutil.which("recon") is None)
    (tmp_path / "demo" / "mine.txt").write_text("kept")
    told = recon("demo", "--json").json
    assert (told["commit"], told["artifacts"]["MATCHED"]) == (4, 36)
    whole = {part: Decimal(told["totals"][part]["amount"]["EUR"]) for part in told["totals"]}
    assert whole["in"] == whole["accepted"] + whole["duplicates"] + whole["rejected"]
    assert (tmp_path / "demo" / "mine.txt").read_text() == "kept"


def test_the_demo_refuses_a_folder_that_is_not_its_own(recon: Call, here: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").write_text("x")
    answer = recon("demo", str(tmp_path / "other"))
    assert answer.status == 2
    assert "no earlier demo; name a new folder" in answer.line
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["x"]
    assert recon("demo", str(tmp_path / "other" / "x")).status == 2


def test_generated_events_run_to_their_known_answers(recon: Call, tmp_path: Path) -> None:
    out = tmp_path / "made"
    arguments = ("--events", "300", "--keys", "50", "--windows", "2", "--seed", "7")
    answers = recon("generate", *arguments, "--out", str(out), "--json").json
    config = ("--config", str(out / "recon.yaml"))
    for window, files in json.loads((out / "files.json").read_text()).items():
        assert recon("land", *(str(out / file) for file in files), "-w", window, "--close", *config).status == 0
    report = recon("run", "--json", *config).json
    for part in ("accepted", "duplicates", "rejected"):
        assert report[part] == answers["totals"][part]
    told = recon("status", "--json", *config).json
    assert told["artifacts"] == {name: n for name, n in answers["artifacts"]["by_status"].items() if n}
    assert recon("generate", *arguments, "--out", str(out)).status == 2


def test_the_configuration_is_found_by_option_here_or_by_environment(
    recon: Call, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert recon("status", "--config", str(made / "recon.yaml")).status == 0
    monkeypatch.setenv("RECON_CONFIG", str(made / "recon.yaml"))
    assert recon("status", "--json").json["name"] == "orders"
    (tmp_path / "recon.yaml").write_text("name: [")
    assert recon("status").status == 2  # the file here comes first
