"""Records that a source's function works on one by one, from a file to its window; those that fail are dead letters, never lost."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

import recon
from recon.errors import WrongUsage
from recon.intake.queues import dead_letters
from recon.intake.queues.embedded import record_queues
from recon.intake.queues.whole import through_queue
from recon.intake.sources import records
from recon.intake.sources.reconvert import reconvert

RECON = """
name: payments
store: ./store
key: account
windows: {start: 2026-11-01T00:00Z, every: 1d}
events: {types: {amount: "decimal(18,2)"}}
measures: {total: {sum: amount}, lines: {count: "*"}}
"""
SOURCE = """
files: "payments_{day}.csv"
window: {part: day, format: "%Y%m%d"}
format: {kind: delimited, header: true}
columns: {number: {required: true}, amount: {type: "decimal(18,2)"}}
process: accounts:look_up
"""
FUNCTION = """
def look_up(records):
    return [
        ValueError("no account has this number") if record["number"].startswith("9") else {**record, "account": "A" + record["number"]}
        for record in records
    ]
"""
WINDOW = "2026-11-02T00:00Z"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(records, "through_queue", partial(through_queue, again_s=0.01))
    (tmp_path / "sources").mkdir()
    (tmp_path / "inbox").mkdir()
    (tmp_path / "recon.yaml").write_text(RECON)
    (tmp_path / "sources" / "payments.yaml").write_text(SOURCE)
    (tmp_path / "accounts.py").write_text(FUNCTION)
    rows = [f"{n},{n}.50" for n in range(1, 8)] + ["901,5.00", ",1.00", "8,x"]
    (tmp_path / "inbox" / "payments_20261102.csv").write_text("number,amount\n" + "\n".join(rows) + "\n")
    return tmp_path


def test_finished_records_land_with_what_the_function_added_and_the_dead_are_counted(site: Path) -> None:
    r = recon.open(site / "recon.yaml")
    (file,) = r.deliver(site / "inbox").files
    assert (file.state, file.rows, file.kept, file.rejected_rows, file.figures["dead"]) == ("landed", 10, 7, 3, 1)
    r.close(WINDOW)
    r.run()
    assert {row["key"]: str(row["total"]) for row in r.artifacts().to_pylist()} == {f"A{n}": f"{n}.50" for n in range(1, 8)}
    shown = r.show("A3", events=True)["contributions"][0]["event_list"]
    assert [(event["file"], event["line"]) for event in shown] == [("payments_20261102.csv.parquet", 4)]
    assert r.certificate(WINDOW)["files"][0]["origin"]["rejected"] == 3


def test_a_dead_letter_that_is_mended_lands_when_its_file_is_converted_again(site: Path) -> None:
    r = recon.open(site / "recon.yaml")
    r.deliver(site / "inbox")
    intake = r.intake()
    queues = record_queues(intake.database, "payments")
    (dead,) = dead_letters.listed(queues.records, "payments")
    assert [record["number"] for record in dead_letters.texts_of(dead)] == ["901"]
    assert "no account has this number" in dead.reason
    dead_letters.edit(queues.records, dead, {"number": "11"}, "the customer gave the right number")
    (dead,) = dead_letters.listed(queues.records, "payments")
    dead_letters.redrive(queues.records, dead, "corrected")
    assert [done.kept for done in reconvert(r.intake(), "payments").changed] == [8]
    r.close(WINDOW)
    r.run()
    assert str(r.show("A11")["measures"]["total"]) == "5.00"


def test_a_function_that_is_not_there_is_named_with_file_and_line(site: Path) -> None:
    (site / "sources" / "payments.yaml").write_text(SOURCE.replace("look_up", "look_down"))
    with pytest.raises(WrongUsage, match=r"payments\.yaml:6: process: .*look_down"):
        recon.open(site / "recon.yaml").deliver(site / "inbox")
