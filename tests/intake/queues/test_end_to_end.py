"""Records through the embedded queue, end to end: a poison record, its dead letter, and its way back."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import record_services
from cli_calls import Call

from recon.config.load import load_place
from recon.database import Database
from recon.errors import WrongUsage
from recon.intake.files.parquet import LINE
from recon.intake.queues import opening
from recon.intake.queues.aws_store import DynamoRecordStore
from recon.intake.queues.clean import clean
from recon.intake.queues.embedded import RecordQueues, drain, record_queues
from recon.intake.queues.finished import finished
from recon.intake.queues.parcels import Record, Records, file_of, parcels_of
from recon.intake.queues.whole import through_queue

YAML = """
name: orders
store: ./data
key: order_id
windows: {start: 2026-11-01T00:00Z, every: 1h}
measures: {lines: {count: "*"}}
"""
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
    assert table.column(LINE).to_pylist() == list(range(2, 1_236))
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


def test_a_clean_file_goes_through_and_comes_out_as_one(database: Database, tmp_path: Path) -> None:
    table = pa.Table.from_batches(batches(1_234, poison=777)).rename_columns([LINE, "id", "city"])
    table = table.replace_schema_metadata({"recon.source": "bank"})
    pq.write_table(table, tmp_path / "a.csv.parquet", row_group_size=300)
    queues = record_queues(database, "orders")
    for _ in range(2):  # the second time nothing is left to do
        counts = through_queue(
            queues, FILE, tmp_path / "a.csv.parquet", tmp_path / "out.parquet", lambda source: {"bank": upper}[source], again_s=0
        )
        assert (counts.rows, counts.finished, counts.dead, counts.done) == (1_234, 1_233, 1, True)
    out = pq.read_table(tmp_path / "out.parquet")
    assert out.schema.metadata == {b"recon.source": b"bank"}
    assert out.column_names == [LINE, "id", "city"]
    assert out.column(LINE).to_pylist() == [line for line in range(2, 1_236) if line != 777]
    assert out.column("city")[0].as_py() == "K\u00d6LN 2"


def test_a_file_of_which_every_record_dies_comes_out_empty(database: Database, tmp_path: Path) -> None:
    table = pa.Table.from_batches(batches(3)).rename_columns([LINE, "id", "city"])
    pq.write_table(table, tmp_path / "a.parquet")

    def never(records: list[Record]) -> list[Record]:
        raise ValueError("never")

    counts = through_queue(
        record_queues(database, "orders"), FILE, tmp_path / "a.parquet", tmp_path / "out.parquet", lambda source: never, 0
    )
    assert (counts.finished, counts.dead, counts.done) == (0, 3, True)
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 0


def test_dead_letters_in_dynamodb_are_worked_on_by_the_same_commands(
    dynamodb_endpoint: str, tmp_path: Path, recon: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = record_services.dynamodb(dynamodb_endpoint)
    table = record_services.records_table(client)
    monkeypatch.setattr(opening, "_client", lambda service: client)
    path = tmp_path / "recon.yaml"
    path.write_text(YAML + f"records: {{table: {table}, queue: 'https://sqs.example/1/clean'}}\n")
    store = opening.open_records(load_place(path))
    assert isinstance(store, DynamoRecordStore)
    store.begin(FILE, "a.csv")
    (parcel,) = parcels_of(FILE, Records(("id", "city"), (7,), (["7"], ["poison"])))
    store.put([parcel])
    store.note(parcel, "no such city")
    store.bury(parcel, "")
    config = ("--config", str(path))
    (letter,) = recon("dlq", "list", "--json", *config).json
    assert (letter["id"], letter["reason"]) == ("bank:abababababab:7", "no such city")
    assert recon("dlq", "edit", letter["id"], "--set", "city=Bonn", "--reason", "the bank says so", *config).status == 0
    shown = recon("dlq", "show", letter["id"], "--json", *config).json
    assert (shown["records"][0]["city"], shown["actions"][0]["before"]["city"]) == ("Bonn", "poison")
    assert recon("dlq", "redrive", "--all", "--reason", "edited", "--json", *config).json == {"records": 1}
    assert recon("dlq", "list", "--json", *config).json == []


def test_a_table_needs_its_queue(tmp_path: Path) -> None:
    path = tmp_path / "recon.yaml"
    path.write_text(YAML + "records: {table: orders}\n")
    with pytest.raises(WrongUsage, match="records: name both table and queue, or neither"):
        load_place(path)
