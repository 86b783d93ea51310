"""A store whose records are JSON lines: commands refuse them in one line, and a rebuild makes them again from the landed events.

``data/store-of-format-4.tar.gz`` was made by Recon at the last commit before records became words, by its command line: first.csv (invoices
of A1, A2 and A3) landed, closed and run, then second.csv (payments of A1 and A2). The archive has recon.yaml and the store.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import pytest
from cli_calls import FIRST, SECOND, Call

from recon.storage import layout
from recon.storage.open import FORMAT

ARCHIVE = Path(__file__).parents[1] / "data" / "store-of-format-4.tar.gz"
THIRD = "2026-11-01T02:00Z"
LINE = (
    ".jsonl: its records are JSON lines of an earlier version of Recon; run 'recon rebuild', which makes them again from the landed events"
)


@pytest.fixture
def earlier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The store, with a third window that is landed and not yet run."""
    folder = tmp_path / "earlier"
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    monkeypatch.chdir(folder)
    (folder / "third.csv").write_text("order_id,event_id,event_type,amount,booked_at\nA9,6,INVOICE,1.00,2026-11-01T02:10:00Z\n")
    return folder


def part_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("data/state/*/part-*"))


COMMANDS = (
    *("show A1", "show A1 --events", f"show A1 --through {FIRST}", "breaks", "export all.csv"),
    *("run", "compact", "compact --always", "verify", "verify --full", "copy ../copied", "correct A1 --event amount=1.00 --reason wrong"),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_what_needs_records_says_in_one_line_what_to_do_and_changes_nothing(recon: Call, earlier: Path, command: str) -> None:
    recon("land", "third.csv", "--window", THIRD, "--close")
    answer = recon(*command.split())
    assert answer.status == 2
    assert answer.line.endswith(LINE)
    assert part_files(earlier) == ["part-0000.jsonl"] * 2
    assert not list(earlier.glob("data/stateless/2026-11-01T02*")), "nor is the third window reduced"


def test_a_rebuild_makes_the_records_again_and_everything_goes_on_from_there(recon: Call, earlier: Path) -> None:
    previewed = json.loads(recon("rebuild", "--preview", "--json").out)
    assert (previewed["changed"], previewed["appear"], previewed["vanish"]) == (0, 0, 0)
    assert recon("rebuild").status == 0
    assert part_files(earlier).count("part-0000.jsonl") == 2, "until they are swept"
    shown = json.loads(recon("show", "A2", "--json").out)
    assert (shown["status"], shown["measures"], shown["derived"]) == (
        "OPEN",
        {"billed": "20.50", "paid": "15.50", "latest": "PAYMENT"},
        {"balance": "5.00"},
    )
    assert [part["window"] for part in shown["contributions"]] == [FIRST, SECOND]
    assert recon("verify", "--full").status == 0
    assert json.loads((earlier / "data" / layout.STORE).read_text())["format"] == 4, "a store keeps its number"

    recon("land", "third.csv", "--window", THIRD, "--close")
    assert recon("run").status == 0
    assert json.loads(recon("show", "A9", "--json").out)["status"] == "OPEN"
    assert recon("verify", "--full").status == 0
    assert recon("copy", "../copied").status == 0


def test_what_was_known_before_the_rebuild_is_answered_from_the_stateless_files(recon: Call, earlier: Path) -> None:
    recon("rebuild")
    known = json.loads(Path(f"data/{layout.commit(1)}").read_text())["time"]
    shown = json.loads(recon("show", "A2", "--known-at", known, "--json").out)
    assert (shown["status"], shown["measures"]["paid"]) == ("OPEN", None)
    assert recon("export", "then.csv", "--known-at", known).status == 0
    assert Path("then.csv").read_text().count("\n") == 4


def test_new_stores_have_a_format_that_earlier_versions_refuse(recon: Call, earlier: Path) -> None:
    shutil.rmtree("data")
    recon("land", "third.csv", "--window", THIRD, "--close")
    assert json.loads(Path("data", layout.STORE).read_text())["format"] == FORMAT == 5
