"""Record stores: SQL on SQLite and PostgreSQL, and DynamoDB, have one meaning."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pytest
import record_services

from recon.intake.queues.aws_store import DynamoRecordStore
from recon.intake.queues.parcels import Parcel, Records, file_of, parcel_of, parcels_of, records_of, result_of, split
from recon.intake.queues.port import Counts, Progress, Queue, RecordStore
from recon.intake.queues.sql_queue import SqlQueue
from recon.intake.queues.sql_store import SqlRecordStore

FILE, OTHER = file_of("orders", "bank", "ab" * 32), file_of("orders", "bank", "cd" * 32)


@dataclass
class Kind:
    """A new store and its process queue. ``pump``: passes on what the store's stream has."""

    store: RecordStore
    queue: Queue
    pump: Callable[[], object]

    def sent(self) -> list[Parcel]:
        """The parcels that are new on the process queue, by line."""
        self.pump()
        found = []
        while some := self.queue.receive(10):
            found += some
            self.queue.delete(some)
        return sorted((parcel_of(one.body) for one in found), key=lambda one: (one.file, one.first))


@pytest.fixture(params=["sqlite", "postgresql", "dynamodb"])
def kind(request: pytest.FixtureRequest) -> Kind:
    if request.param == "dynamodb":
        endpoint = request.getfixturevalue("dynamodb_endpoint")
        client = record_services.dynamodb(endpoint)
        table = record_services.records_table(client)
        queue = SqlQueue(request.getfixturevalue("database"), "orders/process")
        return Kind(DynamoRecordStore(client, table), queue, record_services.Stream(endpoint, table, queue).pump)
    database = request.getfixturevalue("database" if request.param == "sqlite" else "postgres_database")
    queue = SqlQueue(database, "orders/process")
    return Kind(SqlRecordStore(database, queue), queue, lambda: None)


def parcels(count: int, file: str = FILE, first: int = 2, at_once: int = 100) -> list[Parcel]:
    lines = range(first, first + count)
    found: list[Parcel] = []
    for start in range(0, count, at_once):
        part = tuple(lines[start : start + at_once])
        found += parcels_of(file, Records(("id", "city"), part, (tuple(map(str, part)), ("Köln",) * len(part))))
    return found


def result(parcel: Parcel, text: str = "done") -> Parcel:
    records = records_of(parcel)
    return result_of(parcel, records.lines, [{**row, "result": text} for row in records.rows()])


def counted(store: RecordStore, file: str = FILE) -> tuple[int, int, int, int, int]:
    """Rows, in progress, finished, dead, discarded."""
    counts: Counts = store.counts(file)
    assert counts.rows == counts.finished + counts.dead + counts.in_progress
    return (counts.rows, counts.in_progress, counts.finished, counts.dead, counts.discarded)


def begun(store: RecordStore, rows: int, file: str = FILE) -> None:
    assert store.begin(file, "a.csv") == Progress()
    store.advance(file, Progress(rows + 1, rows, True))


def test_the_cleaner_never_goes_back(kind: Kind) -> None:
    assert kind.store.begin(FILE, "a.csv") == Progress(0, 0, False)
    kind.store.advance(FILE, Progress(501, 500, False))
    kind.store.advance(FILE, Progress(301, 300, False))
    assert kind.store.begin(FILE, "again.csv") == Progress(501, 500, False)
    kind.store.advance(FILE, Progress(501, 500, True))
    kind.store.advance(FILE, Progress(601, 600, False))
    assert kind.store.begin(FILE, "a.csv") == Progress(501, 500, True)
    assert kind.store.begin(OTHER, "b.csv") == Progress()


def test_parcels_that_are_put_twice_open_once_and_bring_one_message(kind: Kind) -> None:
    begun(kind.store, 250)
    for _ in range(2):
        kind.store.put(parcels(250))
    assert kind.sent() == parcels(250)
    kind.store.put([parcels(250)[1], parcels(250)[1]])
    assert kind.sent() == []
    assert kind.store.are_open(parcels(250)) == [True] * 3
    assert counted(kind.store) == (250, 250, 0, 0, 0)


def test_of_two_results_the_first_counts(kind: Kind) -> None:
    begun(kind.store, 100)
    (parcel,) = parcels(100)
    kind.store.put([parcel])
    kind.store.finish([result(parcel, "first")])
    kind.store.finish([result(parcel, "second"), result(parcel, "third")])
    assert list(kind.store.results(FILE)) == [result(parcel, "first")]
    assert kind.store.result_names(FILE) == ["id", "city", "result"]
    assert kind.store.are_open([parcel]) == [False]
    assert counted(kind.store) == (100, 0, 100, 0, 0)


def test_a_finished_parcel_that_is_put_again_stays_finished_and_is_not_sent(kind: Kind) -> None:
    begun(kind.store, 100)
    (parcel,) = parcels(100)
    kind.store.put([parcel])
    kind.store.finish([result(parcel)])
    assert kind.sent() == [parcel], "what processing wrote is not passed on"
    kind.store.put([parcel])
    assert kind.sent() == []
    assert counted(kind.store) == (100, 0, 100, 0, 0)


@pytest.mark.parametrize("at", [(), (0,), (99,), (5, 6, 50)])
def test_a_parcel_is_split_once_and_each_part_is_sent(kind: Kind, at: Sequence[int]) -> None:
    begun(kind.store, 100)
    (parcel,) = parcels(100)
    kind.store.put([parcel])
    assert kind.sent() == [parcel]
    parts = split(parcel, at)
    assert [one.count for one in parts] == {(): [50, 50], (0,): [1, 99], (99,): [99, 1], (5, 6, 50): [5, 1, 1, 43, 1, 49]}[tuple(at)]
    assert kind.store.split(parcel, parts)
    assert not kind.store.split(parcel, parts)
    assert kind.sent() == parts
    assert kind.store.are_open([parcel, *parts]) == [False, *(True for _ in parts)]
    kind.store.finish([result(parcel)])
    kind.store.bury(parcel, "late")
    kind.store.put([parcel])
    assert counted(kind.store) == (100, 100, 0, 0, 0), "the whole takes no effect any more"
    kind.store.finish([result(one) for one in parts])
    assert counted(kind.store) == (100, 0, 100, 0, 0)
    lines = [line for one in kind.store.results(FILE) for line in records_of(one).lines]
    assert lines == list(range(2, 102))
    assert kind.sent() == []


def test_a_dead_parcel_has_the_last_reason_and_comes_back_in_the_next_round(kind: Kind) -> None:
    begun(kind.store, 1)
    (parcel,) = parcels(1)
    kind.store.put([parcel])
    kind.store.note(parcel, "first")
    kind.store.note(parcel, "second")
    kind.store.bury(parcel, "nobody knows")
    kind.store.bury(parcel, "again")
    (letter,) = kind.store.dead_letters("orders/bank/")
    assert (letter.parcel, letter.name, letter.reason, letter.discarded) == (parcel, "a.csv", "second", False)
    assert counted(kind.store) == (1, 0, 0, 1, 0)
    assert kind.sent() == [parcel]
    assert kind.store.redrive(parcel, "the service is back")
    assert not kind.store.redrive(parcel, "twice")
    later = replace(parcel, round=1)
    assert kind.sent() == [later]
    assert kind.store.are_open([parcel, later]) == [False, True]
    kind.store.finish([result(parcel, "late")])
    assert counted(kind.store) == (1, 1, 0, 0, 0)
    kind.store.finish([result(later)])
    assert counted(kind.store) == (1, 0, 1, 0, 0)
    assert list(kind.store.dead_letters("orders/")) == []
    assert [(one.what, one.reason) for one in kind.store.actions(parcel)] == [("redrive", "the service is back")]


def test_a_result_that_comes_after_the_burial_of_its_round_counts(kind: Kind) -> None:
    begun(kind.store, 100)
    (parcel,) = parcels(100)
    kind.store.put([parcel])
    kind.store.bury(parcel, "its message was not deleted")
    (letter,) = kind.store.dead_letters("orders/")
    assert letter.reason == "its message was not deleted"
    kind.store.finish([result(parcel)])
    assert counted(kind.store) == (100, 0, 100, 0, 0)
    assert list(kind.store.dead_letters("orders/")) == []


def test_an_edited_record_keeps_its_first_text_and_its_reason(kind: Kind) -> None:
    begun(kind.store, 1)
    (parcel,) = parcels(1)
    kind.store.put([parcel])
    assert not kind.store.edit(parcel, parcel.records, "it is open")
    kind.store.note(parcel, "no such city")
    kind.store.bury(parcel, "")
    kind.sent()
    changed = parcel.records.replace("K\\u00f6ln", "Bonn")
    assert changed != parcel.records
    assert kind.store.edit(parcel, changed, "the bank says so")
    kind.store.finish([result(parcel)])
    (letter,) = kind.store.dead_letters("orders/")
    assert (letter.parcel, letter.reason) == (replace(parcel, round=1, records=changed), "no such city")
    assert kind.sent() == [], "it is not open"
    assert kind.store.redrive(letter.parcel, "edited")
    (sent,) = kind.sent()
    assert (sent.round, json.loads(sent.records)["columns"][1]) == (2, ["Bonn"])
    assert [(one.what, one.reason, one.before) for one in kind.store.actions(parcel)] == [
        ("edit", "the bank says so", parcel.records),
        ("redrive", "edited", None),
    ]


def test_a_discarded_parcel_counts_as_dead_and_can_be_listed(kind: Kind) -> None:
    begun(kind.store, 2)
    for parcel in parcels(2, at_once=1):
        kind.store.put([parcel])
        kind.store.bury(parcel, "why")
    assert kind.store.discard(parcels(1)[0], "a test record")
    assert not kind.store.redrive(parcels(1)[0], "too late")
    assert counted(kind.store) == (2, 0, 0, 2, 1)
    assert [one.parcel.first for one in kind.store.dead_letters("orders/")] == [3]
    assert [(one.parcel.first, one.discarded) for one in kind.store.dead_letters("orders/", True)] == [(2, True), (3, False)]
    kind.store.finish([result(parcels(1)[0])])
    assert counted(kind.store) == (2, 0, 0, 2, 1)


def test_a_record_that_is_too_large_is_dead_at_once(kind: Kind) -> None:
    begun(kind.store, 3)
    texts = ("a", "x" * 300_000, "b")
    found = list(parcels_of(FILE, Records(("id",), (2, 3, 4), (texts,))))
    for _ in range(2):
        kind.store.put(found)
    assert [one.first for one in kind.sent()] == [2, 4]
    (letter,) = kind.store.dead_letters("orders/")
    assert (letter.parcel.first, "too large" in letter.reason) == (3, True)
    assert counted(kind.store) == (3, 2, 0, 1, 0)


def test_files_do_not_mix(kind: Kind) -> None:
    begun(kind.store, 100)
    begun(kind.store, 50, OTHER)
    kind.store.put([*parcels(100), *parcels(50, OTHER)])
    kind.store.finish([result(one) for one in parcels(100)])
    kind.store.bury(parcels(50, OTHER)[0], "why")
    assert counted(kind.store) == (100, 0, 100, 0, 0)
    assert counted(kind.store, OTHER) == (50, 0, 0, 50, 0)
    assert [one.parcel.file for one in kind.store.dead_letters("orders/bank/cd")] == [OTHER]
    assert list(kind.store.dead_letters("orders/bank/ab")) == []
    assert counted(kind.store, file_of("orders", "bank", "ef" * 32)) == (0, 0, 0, 0, 0)


def test_many_parcels_come_back_in_order(kind: Kind) -> None:
    begun(kind.store, 130)
    many = parcels(130, at_once=1)
    kind.store.put(many)
    kind.store.finish([result(one) for one in reversed(many)])
    assert [one.first for one in kind.store.results(FILE)] == list(range(2, 132))
    assert kind.sent() == many


def test_a_file_is_started_when_it_is_registered(kind: Kind) -> None:
    assert not kind.store.started(FILE)
    kind.store.begin(FILE, "a.csv")
    assert (kind.store.started(FILE), kind.store.started(OTHER)) == (True, False)


def test_an_open_parcel_is_sent_again_in_a_new_round_and_its_old_message_takes_no_effect(kind: Kind) -> None:
    begun(kind.store, 300)
    first, second, third = parcels(300)
    kind.store.put([first, second, third])
    kind.store.split(second, split(second, (7,)))
    kind.store.finish([result(first)])
    kind.sent()
    still_open = list(kind.store.open_parcels(FILE))
    assert still_open == [*split(second, (7,)), third]
    assert [kind.store.reopen(one, "the queue was purged") for one in [first, second, *still_open]] == [
        False,
        False,
        True,
        True,
        True,
        True,
    ]
    later = [replace(one, round=1) for one in still_open]
    assert kind.sent() == later
    assert list(kind.store.open_parcels(FILE)) == later
    kind.store.finish([result(one, "old") for one in still_open])
    kind.store.bury(third, "old")
    assert counted(kind.store) == (300, 200, 100, 0, 0)
    kind.store.finish([result(one, "new") for one in later])
    assert counted(kind.store) == (300, 0, 300, 0, 0)
    assert not kind.store.reopen(later[0], "too late")
    assert list(kind.store.open_parcels(FILE)) == []
    assert [(one.what, one.reason) for one in kind.store.actions(third)] == [("resend", "the queue was purged")]


def test_the_store_knows_which_parcels_have_arrived_whatever_became_of_them(kind: Kind) -> None:
    first, second, third, fourth = parcels(400)
    too_large = replace(fourth, refused="the record is too large")
    assert kind.store.stored_firsts(FILE) == set()
    kind.store.put([first, second, too_large])
    kind.store.finish([result(first)])
    kind.store.split(second, split(second, (0, 1)))
    assert kind.store.stored_firsts(FILE) >= {first.first, second.first, fourth.first}
    assert third.first not in kind.store.stored_firsts(FILE)
    kind.store.put([third])
    assert third.first in kind.store.stored_firsts(FILE)
