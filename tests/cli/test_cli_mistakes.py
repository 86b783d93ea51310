"""The command line: each mistake is one line on stderr, nothing on stdout, with the exit status of the contract."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from cli_calls import EMPTY, FIRST, HEADER, SECOND, Call, manifests_and_commits

from recon.cli import main

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
    (2, "the nearest end of a window is 2026-11-01T01:00Z", ["show", "A112", "--as-of", "2026-11-01T00:59Z"]),
    (2, "is in the future", ["show", "A112", "--as-of", "2999-01-01T00:00Z"]),
    (2, "is in the future", ["export", "x.csv", "--through", "2999-01-01T00:00Z"]),
    (2, "is in the future", ["breaks", "--known-at", "2999-01-01T00:00Z"]),
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


def test_a_group_without_a_command_shows_its_help(recon: Call, tmp_path: Path) -> None:
    answer = recon("files")
    assert (answer.status, answer.out) == (2, "")
    assert answer.err.startswith("Usage: recon files [OPTIONS] COMMAND")
    assert "\n  list     List the received files" in answer.err
