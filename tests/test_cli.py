"""The command line: what each command answers, and that each mistake is one clear line with the right exit status."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recon.cli import main
from recon.cli.files import declared_totals
from recon.cli.progress import Bar
from recon.cli.screen import amount, plain
from recon.demo import write_sample
from recon.errors import WrongUsage

FIRST, SECOND, EMPTY = "2026-11-01T00:00Z", "2026-11-01T01:00Z", "2026-11-01T09:00Z"
COMMANDS = [
    *("demo", "init", "generate", "land", "unland", "close", "correct", "run", "replay", "repair", "verify", "rebuild", "compact"),
    *("status", "certificate", "show", "breaks", "rejects", "export"),
]
HEADER = "event_id,order_id,event_type,amount,currency,booked_at\n"


@dataclass(frozen=True)
class Answer:
    """What one call said. ``line``: the only line on stderr."""

    status: int
    out: str
    err: str

    @property
    def line(self) -> str:
        assert self.err.endswith("\n")
        assert self.err.count("\n") == 1, self.err
        assert self.err.startswith("recon: ")
        return self.err[len("recon: ") : -1]

    @property
    def json(self) -> Any:
        assert self.err == ""
        return json.loads(self.out)


Call = Callable[..., Answer]


@pytest.fixture
def recon(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Calls a command in this process."""
    monkeypatch.delenv("RECON_CONFIG", raising=False)
    monkeypatch.delenv("RECON_DEBUG", raising=False)

    def call(*arguments: str) -> Answer:
        capsys.readouterr()
        status = main(arguments)
        return Answer(status, *capsys.readouterr())

    return call


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample, landed and run: A112 and B243 MATCHED, A113 UNPAID, B242 a BREAK; and one rejected row."""
    folder = tmp_path_factory.mktemp("made") / "orders"
    write_sample(folder)
    config = ("--config", str(folder / "recon.yaml"))
    odd = folder / "events" / "odd.csv"
    odd.write_text(HEADER + "X1,A114,INVOICE,TBC,USD,2026-11-01T00:05:00Z\n")
    files = [str(folder / "events" / "orders-0000.csv"), str(odd)]
    assert main(["land", *files, "--window", FIRST, "--close", *config]) == 0
    payments = str(folder / "events" / "payments-0100.jsonl")
    assert main(["land", payments, "--window", SECOND, "--close", *config]) == 0
    assert main(["run", *config]) == 0
    return folder


@pytest.fixture
def here(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shared store, to look at."""
    monkeypatch.chdir(made)
    return made


@pytest.fixture
def own(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, to change."""
    folder = tmp_path / "own"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The sample's files without a store."""
    folder = tmp_path / "fresh"
    write_sample(folder)
    monkeypatch.chdir(folder)
    return folder


def manifests_and_commits(folder: Path) -> list[Path]:
    return sorted([*folder.glob("data/events/*/manifests/*"), *folder.glob("data/timeline/*")])


def shell(*arguments: str | bytes, cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "recon.cli", *arguments], cwd=cwd, capture_output=True, text=True, check=False, **options)


# What each command answers


def test_help_lists_every_command_in_one_line_each(recon: Call) -> None:
    answer = recon("--help")
    assert answer.status == 0
    listed = answer.out.split("Commands:\n")[1].split("\n\n")[0].splitlines()
    assert [line.split()[0] for line in listed] == COMMANDS
    assert all(line.endswith(".") and not line.endswith("...") for line in listed)


def test_without_a_command_the_help_is_shown(recon: Call) -> None:
    assert recon().out == recon("--help").out


@pytest.mark.parametrize(
    "command",
    COMMANDS,
)
def test_the_help_of_each_command_has_an_example_and_takes_json(recon: Call, command: str) -> None:
    answer = recon(command, "--help")
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
    answer = recon("show", "A112", "--as-of", FIRST, "--json").json
    assert (answer["status"], answer["as_of"]) == ("BREAK", FIRST)
    assert [part["window"] for part in answer["contributions"]] == [FIRST]
    assert ", as of 2026-11-01T00:00Z" in recon("show", "A112", "--as-of", FIRST).out


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
        assert rows["amount EUR"][1:] == ["124.25", "124.25", "0.00", "0.00", "ties"]
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
    assert recon("export", str(file)).out == f"wrote 4 artifacts to {file}\n"
    assert file.stat().st_size > 0
    assert recon("breaks", str(tmp_path / f"b.{suffix}"), "--json").json["rows"] == 2


def test_export_as_of_a_window_has_what_was_then(recon: Call, here: Path, tmp_path: Path) -> None:
    file = tmp_path / "then.csv"
    recon("export", str(file), "--as-of", FIRST)
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
    assert answer.out.startswith("orders-0000.csv: the same file has landed already; nothing added\n")
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
    part = next((own / "data" / "state").glob("*/part-0000.jsonl"))
    part.chmod(0o644)
    part.write_bytes(part.read_bytes().replace(b"MATCHED", b"MATCHEE", 1))
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


# Mistakes: one line on stderr, nothing on stdout, the status of the contract

MISTAKES: list[tuple[int, str, Sequence[str]]] = [
    (2, "recon status --help", ["status", "--bogus"]),
    (2, "No such command", ["nonsense"]),
    (2, "Missing argument 'KEY'", ["show"]),
    (2, "Missing option '--reason'", ["unland", "orders-0000.csv", "-w", FIRST]),
    (2, "Invalid value for '--events'", ["generate", "--events", "x", "--keys", "1", "--windows", "1", "--out", "o"]),
    (2, "the nearest is 2026-11-01T01:00Z", ["land", "events/orders-0000.csv", "-w", "2026-11-01T00:59Z"]),
    (2, "before the first window", ["close", "2026-10-31T00:00Z"]),
    (2, "is not a time; write it as", ["status", "yesterday"]),
    (2, "has no zone", ["show", "A112", "--as-of", "2026-11-01T00:00"]),
    (2, "the nearest is 2026-11-01T01:00Z", ["show", "A112", "--as-of", "2026-11-01T00:59Z"]),
    (2, "nothing was committed yet", ["show", "A112", "--known-at", "2020-01-01T00:00Z"]),
    (1, "has not begun yet", ["land", "events/orders-0000.csv", "-w", "2999-01-01T00:00Z"]),
    (2, "nowhere.csv: there is no such file", ["land", "nowhere.csv", "-w", FIRST]),
    (2, "bank.csv: window 2026-11-01T00:00Z holds no file", ["unland", "bank.csv", "-w", FIRST, "--reason", "x"]),
    (2, "holds no file", ["land", "recon.csv", "-w", FIRST, "--replace", "gone.csv"]),
    (2, "say why", ["unland", "orders-0000.csv", "-w", FIRST, "--reason", " "]),
    (2, "nothing has landed there", ["replay", f"{EMPTY}..2026-11-02T00:00Z"]),
    (2, "ends before it begins", ["replay", f"{SECOND}..{FIRST}"]),
    (2, "write a window, or a range", ["replay", f"{FIRST}.."]),
    (2, "--from: 'yesterday' is not a time", ["run", "--from", "yesterday"]),
    (2, "--to: 2026-11-01T00:30Z is not on the grid", ["run", "--to", "2026-11-01T00:30Z"]),
    (2, "events: this is a folder; name the files in it", ["land", "events", "-w", FIRST]),
    (2, "events: this is a folder; name the file in it, such as", ["status", "--config", "events"]),
    (2, "swap them", ["run", "--from", SECOND, "--to", FIRST]),
    (1, "no certificate yet", ["certificate", EMPTY]),
    (1, "NOPE: no artifact has this key", ["show", "NOPE"]),
    (2, "the key is order_id", ["show", "A112", "B242"]),
    (2, "use .csv, .jsonl, .parquet or .xlsx", ["export", "out.docx"]),
    (2, "does not exist; make it first", ["export", "no/such/out.csv"]),
    (2, "'tax' is no total under 'control'", ["land", "recon.csv", "-w", FIRST, "--expect", "tax=1"]),
    (2, "write CONTROL=VALUE", ["land", "recon.csv", "-w", FIRST, "--expect", "rows"]),
    (2, "nope.yaml: no such file", ["status", "--config", "nope.yaml"]),
]


@pytest.mark.parametrize(("status", "text", "arguments"), MISTAKES, ids=[" ".join(m[2])[:60] for m in MISTAKES])
def test_a_mistake_is_one_line_and_changes_nothing(recon: Call, here: Path, status: int, text: str, arguments: Sequence[str]) -> None:
    (here / "recon.csv").write_text(HEADER + "X9,A119,INVOICE,1.00,USD,2026-11-01T00:05:00Z\n")
    before = manifests_and_commits(here)
    answer = recon(*arguments)
    assert (answer.status, answer.out) == (status, ""), answer.err
    assert text in answer.line
    assert manifests_and_commits(here) == before


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("empty.csv", b"", "empty.csv: the file is empty"),
        ("x.docx", b"x", "x.docx"),
        ("not.parquet", b"a,b\n1,2\n", "not.parquet"),
        ("cut.csv.gz", b"\x1f\x8b\x08\x00\x00\x00", "cut.csv.gz"),
        ("other.csv", b"a,b\n1,2\n", "other.csv"),
    ],
)
def test_a_file_that_cannot_be_read_as_its_name_says_is_refused_when_landed(
    recon: Call, here: Path, name: str, content: bytes, text: str
) -> None:
    (here / name).write_bytes(content)
    before = manifests_and_commits(here)
    answer = recon("land", name, "-w", FIRST)
    assert answer.status in (1, 2)
    assert text in answer.line
    assert manifests_and_commits(here) == before


def test_without_a_configuration_the_way_out_is_named(recon: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    answer = recon("status")
    assert answer.status == 2
    assert "recon.yaml: no such file" in answer.line
    assert "recon init DIR" in answer.line


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("name: orders", "name: [orders", "recon.yaml:"),
        ("every: 1h", "every: 7h", "windows.every"),
        ("sum: amount, where", "summ: amount, where", "measures.billed"),
        ("balance = 0", "balnce = 0", "status"),
    ],
)
def test_a_wrong_configuration_names_file_and_field(recon: Call, fresh: Path, old: str, new: str, text: str) -> None:
    written = (fresh / "recon.yaml").read_text()
    assert old in written
    (fresh / "recon.yaml").write_text(written.replace(old, new, 1))
    answer = recon("status")
    assert answer.status == 2
    assert "recon.yaml" in answer.line
    assert text in answer.line


def test_before_anything_landed_status_says_what_to_do_first(recon: Call, fresh: Path) -> None:
    answer = recon("status")
    assert answer.status == 2
    assert "recon land FILE --window W" in answer.line
    assert not (fresh / "data").exists()


def test_a_foreign_folder_is_never_taken_for_a_store(recon: Call, fresh: Path) -> None:
    (fresh / "data").mkdir()
    (fresh / "data" / "thesis.txt").write_text("mine")
    answer = recon("land", "events/orders-0000.csv", "-w", FIRST)
    assert answer.status == 2
    assert "not a store" in answer.line
    assert "thesis.txt" in os.listdir(fresh / "data")
    assert not (fresh / "data" / "events").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '"x"', '{"format": 99}', '{"format": 1, "name": "others"}'])
def test_a_store_that_is_damaged_newer_or_anothers_is_told_in_one_line(recon: Call, own: Path, text: str) -> None:
    (own / "data" / "store.json").chmod(0o644)
    (own / "data" / "store.json").write_text(text)
    answer = recon("status")
    assert answer.status in (1, 2)
    assert "this is a bug" not in answer.line
    assert "store" in answer.line


def test_an_unexpected_failure_is_one_line_that_says_how_to_see_more(recon: Call, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise ZeroDivisionError("by nothing\nat all")

    monkeypatch.setattr("recon.api.Reconciliation.status", broken)
    answer = recon("status")
    assert answer.status == 1
    bug = "this is a bug; run again with --debug for the traceback"
    assert answer.line == f"ZeroDivisionError: by nothing\\nat all: {bug}"
    monkeypatch.setenv("RECON_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        main(["status"])


def test_debug_is_an_option_of_every_command(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setenv("RECON_DEBUG", "")
    monkeypatch.setattr("recon.api.Reconciliation.status", broken)
    with pytest.raises(ZeroDivisionError):
        main(["status", "--debug"])


def test_an_interruption_says_that_nothing_is_half_done(recon: Call, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("recon.api.Reconciliation.status", interrupted)
    answer = recon("status")
    assert (answer.status, answer.out) == (130, "")
    assert answer.line == "interrupted; nothing half-done is visible, run it again to go on"


# Hostile text


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A store whose keys are what should not be a key."""
    folder = tmp_path_factory.mktemp("hostile")
    write_sample(folder)
    keys = ["😀", "it's", 'say "x"', "two\nlines", "[bold]red[/bold]", "-7", "--json", "a\x1b[31mb", "../../etc", " "]
    keys += ["100%", "{x}", "naïve", "👩‍👩‍👧"]
    events = [
        {"event_id": f"E{n}", "order_id": key, "event_type": "INVOICE", "amount": "1.00", "currency": "EUR"} for n, key in enumerate(keys)
    ]
    lines = [json.dumps({**event, "booked_at": "2026-11-01T00:01:00Z"}) for event in events]
    (folder / "keys.jsonl").write_text("\n".join(lines) + "\n")
    config = ["--config", str(folder / "recon.yaml")]
    assert main(["land", str(folder / "keys.jsonl"), "-w", FIRST, "--close", *config]) == 0
    assert main(["run", *config]) == 0
    return folder, keys


def test_any_text_can_be_a_key_and_comes_back_as_it_is(
    recon: Call, hostile: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, keys = hostile
    monkeypatch.chdir(folder)
    found = recon("breaks", "--json").json["breaks"]
    stored = {row["key"] for row in found}
    for key in keys:
        if key in stored:
            assert recon("show", "--json", "--", key).json["key"] == key
            shown = recon("show", "--", key)
            assert shown.status == 0
            assert "\x1b" not in shown.out
            assert shown.out.splitlines()[0] == f"{plain(key)}  UNPAID"
        else:  # a key that intake does not take is rejected with a reason, not lost
            assert any(json.loads(row["raw"])["order_id"] == key for row in recon("rejects", "--json").json)
    assert len(stored) >= len(keys) - 2


def test_a_key_of_several_columns_is_given_as_several_values(recon: Call, fresh: Path) -> None:
    text = (fresh / "recon.yaml").read_text().replace("key: order_id", "key: [order_id, currency]")
    (fresh / "recon.yaml").write_text(text)
    recon("land", "events/orders-0000.csv", "-w", FIRST, "--close")
    recon("run")
    found = recon("show", "A112", "USD", "--json").json
    assert found["measures"]["billed"] == "25.00"
    assert recon("show", found["key"], "--json").json == found


@pytest.mark.parametrize("name", ["a b'c\".csv", "-x.csv", "😀.csv", "new\nline.csv", "%s{0}.csv", "[red].csv", "a\x1bb.csv"])
def test_any_name_of_a_file_can_be_landed_told_and_taken_back(recon: Call, fresh: Path, name: str) -> None:
    (fresh / name).write_bytes((fresh / "events" / "orders-0000.csv").read_bytes())
    landed = recon("land", "-w", FIRST, "--", name)
    assert landed.status == 0, landed.err
    assert f"landed {plain(name)} (" in landed.out
    assert "\x1b" not in recon("status", FIRST).out
    assert recon("unland", "-w", FIRST, "--reason", "x", "--json", "--", name).json["files"] == []


def test_a_name_that_is_no_text_is_refused_by_its_name(fresh: Path) -> None:
    name = b"\xff.csv"
    (fresh / "x").write_bytes((fresh / "events" / "orders-0000.csv").read_bytes())
    os.rename(fresh / "x", os.fsencode(fresh) + b"/" + name)
    landed = shell("land", name, "-w", FIRST, "--json", cwd=fresh)
    assert (landed.returncode, landed.stdout) == (2, "")
    assert landed.stderr == "recon: \\udcff.csv: the name is not UTF-8 text; rename the file\n"


@given(st.text())
def test_text_on_a_screen_never_moves_the_cursor_or_breaks_the_line(text: str) -> None:
    shown = plain(text)
    assert all(c.isprintable() or c == "\u200d" for c in shown)
    assert len(shown.splitlines()) <= 1
    assert not text.isprintable() or shown == text


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30))
def test_an_amount_is_shown_exactly(value: Decimal) -> None:
    shown = amount(str(value))
    assert Decimal(shown.replace(",", "")) == value
    assert "E" not in shown.upper()


@pytest.mark.parametrize(
    "text", ["rows=1.5", "rows=-1", "rows:EUR=1", "net=abc", "net=NaN", "net=", "amount=1", "net:EUR=1", "=3", "tax=3"]
)
def test_a_control_total_that_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(WrongUsage, match="--expect"):
        declared_totals([text], {"rows": None, "amount": "currency", "net": None})


@pytest.mark.parametrize("texts", [["rows=1", "rows=2"], ["net=1", "net=2"], ["amount:EUR=1", "amount:EUR=1"]])
def test_a_control_total_is_declared_once(texts: list[str]) -> None:
    with pytest.raises(WrongUsage, match="declared before"):
        declared_totals(texts, {"rows": None, "amount": "currency", "net": None})


# From the shell


def test_exit_statuses_and_single_lines_reach_the_shell(here: Path) -> None:
    good = shell("status", "--json", cwd=here)
    assert (good.returncode, good.stderr) == (0, "")
    assert json.loads(good.stdout)["commit"] == 1
    unknown = shell("show", "NOPE", cwd=here)
    assert (unknown.returncode, unknown.stdout, unknown.stderr.count("\n")) == (1, "", 1)
    wrong = shell("show", cwd=here)
    assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1)


def test_off_a_terminal_there_are_no_colours_no_bars_and_no_folded_tables(here: Path) -> None:
    done = shell("show", "A112", "--events", cwd=here, env={**os.environ, "COLUMNS": "40"})
    assert "\x1b" not in done.stdout + done.stderr
    assert any("orders-0000.csv" in line and "2026-11-01T00:04:10" in line for line in done.stdout.splitlines())


def test_a_reader_that_goes_away_is_no_failure_worth_a_word(here: Path) -> None:
    command = [sys.executable, "-m", "recon.cli", "show", "A112"]
    with subprocess.Popen(command, cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_help_and_look_ups_load_no_engine(here: Path) -> None:
    heavy = ("duckdb", "pyarrow", "pandas", "dagster", "sqlglot", "recon.vocabulary.parse", "numpy", "pydantic", "yaml", "rich")
    code = (
        "import sys; from recon.cli import main; main(sys.argv[1:]); "
        f"print(*[name for name in {heavy} if name in sys.modules], file=sys.stderr)"
    )
    loaded = {"--help": "\n", "show A112": "numpy pydantic yaml rich\n", "show A112 --json": "numpy pydantic yaml\n"}
    for arguments, names in loaded.items():
        done = subprocess.run([sys.executable, "-c", code, *arguments.split()], cwd=here, capture_output=True, text=True, check=True)
        assert done.stderr == names


def test_ctrl_c_ends_a_command_with_one_line(here: Path) -> None:
    code = (
        "import os, signal, sys, recon.api; from recon.cli import main\n"
        "recon.api.Reconciliation.status = lambda *a: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.exit(main(['status']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=here, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (128 + signal.SIGINT, 1)


def test_a_bar_is_drawn_on_a_terminal_after_its_delay_and_never_off_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recon.cli.progress.SHOWN_AFTER_S", 0.05)

    def work() -> str:
        with Bar("run") as bar:
            bar("reduce", FIRST, 0.5)
            time.sleep(0.3)
            bar("merge", FIRST, 1.0)
        return capsys.readouterr().err

    assert work() == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert "reduce 2026-11-01T00:00Z" in work()
