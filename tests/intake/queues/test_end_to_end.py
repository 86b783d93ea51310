"""Records through the embedded queue, end to end: a poison record, its dead letter, and its way back."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from cli_calls import Call

from recon.database import Database
from recon.intake.queues.clean import clean
from recon.intake.queues.embedded import RecordQueues, drain, record_queues
from recon.intake.queues.finished import finished
from recon.intake.queues.parcels import Record, file_of

FILE = file_of("orders", "bank", "ab" * 32)


def upper(records: list[Record]) -> list[Record]:
    if any(one["city"] == "poison" for one in records):
        raise ValueError("no such city: poison")
    return [{**one, "city": (one["city"] or "").upper()} for one in records]


def batches(count: int, poison: int | None = None) -> list[pa.RecordBatch]:
    lines = range(2, count + 2)
    cities = ["poison" if line == poison else f"Köln {line}" for line in lines]
    return [pa.record_batch({"line": pa.array(lines, pa.int64()), "id": [str(line) for line in lines], "city": cities})]


def test_a_poison_record_holds_up_nothing_and_comes_back_edited(database: Database) -> None:
    queues: RecordQueues = record_queues(database, "orders")
    clean(queues.records, queues.store_queue, FILE, "a.csv", batches(1_234, poison=777))
    assert queues.records.counts(FILE).in_progress == 1_234
    assert drain(queues, lambda source: upper, again_s=0)
    counts = queues.records.counts(FILE)
    assert (counts.rows, counts.finished, counts.dead, counts.in_progress, counts.done) == (1_234, 1_233, 1, 0, True)
    (letter,) = queues.records.dead_letters("orders/")
    assert (letter.parcel.first, letter.parcel.count, letter.reason) == (777, 1, "ValueError: no such city: poison")
    assert queues.records.edit(letter.parcel, letter.parcel.records.replace("poison", "Bonn"), "the bank says so")
    (letter,) = queues.records.dead_letters("orders/")
    assert queues.records.redrive(letter.parcel, "edited")
    assert drain(queues, lambda source: upper, again_s=0)
    table = pa.Table.from_batches(finished(queues.records, FILE))
    assert table.column("line").to_pylist() == list(range(2, 1_236))
    assert table.column("city").to_pylist() == ["BONN" if line == 777 else f"KÖLN {line}" for line in range(2, 1_236)]
    assert [(one.what, one.reason, "poison" in (one.before or "")) for one in queues.records.actions(letter.parcel)] == [
        ("edit", "the bank says so", True),
        ("redrive", "edited", False),
    ]


def test_people_see_edit_redrive_and_discard_dead_letters(database: Database, tmp_path: Path, recon: Call) -> None:
    queues = record_queues(database, "orders")
    clean(queues.records, queues.store_queue, FILE, "a.csv", batches(20, poison=7))
    assert drain(queues, lambda source: upper, again_s=0)
    config = ("--config", str(tmp_path / "recon.yaml"))
    (letter,) = recon("dlq", "list", "--json", *config).json
    assert (letter["id"], letter["file"], letter["line"], letter["count"]) == ("bank:abababababab:7", "a.csv", 7, 1)
    assert "no such city: poison" in recon("dlq", "list", *config).out
    shown = recon("dlq", "show", letter["id"], *config).out
    assert "poison" in shown
    refused = recon("dlq", "edit", letter["id"], "--set", "town=Bonn", "--reason", "x", *config)
    assert (refused.status, "its columns are id, city" in refused.err) == (2, True)
    assert recon("dlq", "edit", letter["id"], "--set", "city=Bonn", "--reason", "the bank says so", *config).status == 0
    assert recon("dlq", "redrive", letter["id"], "--reason", "edited", *config).status == 0
    assert recon("dlq", "list", *config).out == "no dead letters\n"
    again = recon("dlq", "redrive", letter["id"], "--reason", "edited", *config)
    assert (again.status, "there is no dead letter" in again.err) == (2, True)
    assert drain(queues, lambda source: upper, again_s=0)
    assert queues.records.counts(FILE).finished == 20


def test_discarded_records_count_as_dead_and_can_still_be_shown(database: Database, tmp_path: Path, recon: Call) -> None:
    queues = record_queues(database, "orders")
    clean(queues.records, queues.store_queue, FILE, "a.csv", batches(20, poison=7))
    assert drain(queues, lambda source: upper, again_s=0)
    config = ("--config", str(tmp_path / "recon.yaml"))
    assert recon("dlq", "discard", "--all", "--reason", "a test record", "--json", *config).json == {"records": 1}
    assert recon("dlq", "list", "--json", *config).json == []
    shown = recon("dlq", "show", "bank:ab:7", "--json", *config).json
    assert (shown["state"], shown["records"][0]["city"]) == ("discarded", "poison")
    assert [(one["action"], one["reason"]) for one in shown["actions"]] == [("discard", "a test record")]
    counts = queues.records.counts(FILE)
    assert (counts.finished, counts.dead, counts.discarded, counts.done) == (19, 1, 1, True)
