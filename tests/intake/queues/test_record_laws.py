"""The laws of the record queue: whatever dies, is throttled, comes twice or in another order, rows = finished + dead, and each record's
effect is there once.

Workers die before and after any call of a queue or a store; every call may be throttled; deliveries are repeated and shuffled.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

import pyarrow as pa
import pytest
import record_services
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ministack_server import Ministack

from recon.database import Database
from recon.errors import Throttled, TryAgain
from recon.intake.queues import steps
from recon.intake.queues.aws_store import DynamoRecordStore
from recon.intake.queues.clean import clean
from recon.intake.queues.parcels import Record, file_of, parcel_of, records_of
from recon.intake.queues.port import Delivery, Queue, RecordStore
from recon.intake.queues.sql_queue import SqlQueue
from recon.intake.queues.sql_store import SqlRecordStore

EXAMPLES = int(os.environ.get("RECON_LAW_EXAMPLES", "15"))
VISIBILITY_S = 60.0


class Killed(BaseException):
    """The worker's process is gone."""


@dataclass
class Weather:
    """What goes wrong: at each call one of "die before", "die after", "throttled", or nothing."""

    choose: random.Random
    kills: float
    throttles: float
    calm: bool = False

    def over(self, wrapped: Any) -> Any:
        return _Faulty(wrapped, self)

    def happens(self, share: float) -> bool:
        return not self.calm and self.choose.random() < share

    def dies(self) -> bool:
        return self.happens(self.kills)


class _Faulty:
    """A queue or a store whose every call may fail."""

    def __init__(self, wrapped: Any, weather: Weather) -> None:
        self._wrapped, self._weather = wrapped, weather

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._wrapped, name)
        if name == "dead":
            return _Faulty(found, self._weather)

        def call(*given: Any) -> Any:
            if self._weather.happens(self._weather.throttles):
                raise Throttled("too many requests")
            if self._weather.dies():
                raise Killed
            answer = found(*given)
            if self._weather.dies():
                raise Killed
            return answer

        return call


@dataclass
class Site:
    """A record queue under weather. ``later``: lets the visibility timeout pass. ``pump``: what the store's stream has is passed on."""

    store: RecordStore
    queues: dict[str, Queue]
    later: Callable[[], None]
    pump: Callable[[], object]
    weather: Weather
    called: Counter[str] = field(default_factory=Counter)

    def process(self, records: list[Record]) -> list[Any]:
        """The user's function: fails as a whole, or by record, for those that are poison."""
        self.called.update(str(one["id"]) for one in records)
        if self.weather.happens(self.weather.throttles):
            raise ConnectionError("the service is away")
        if any(one["kind"] == "deadly" for one in records):
            raise ValueError("deadly")
        return [ValueError("poison") if one["kind"] == "poison" else {"id": one["id"], "result": f"done {one['id']}"} for one in records]

    def step(self, name: str) -> bool:
        """One batch of a step by a worker that may die. False if there was nothing to do."""
        store, queue = self.weather.over(self.store), self.weather.over(self.queues[name.removeprefix("bury ")])
        finish = self.weather.over(self.queues["finish"])
        works: dict[str, steps.Step] = {
            "store": partial(steps.store_messages, store),
            "process": partial(steps.process_messages, store, finish, lambda source: self.process),
            "finish": partial(steps.finish_messages, store),
            "bury store": partial(steps.bury_unstored, store),
        }
        source = queue.dead if name.startswith("bury") else queue
        try:
            deliveries = source.receive(self.weather.choose.randint(1, 10))
            twice: list[Delivery] = deliveries * (2 if self.weather.happens(0.2) else 1)
            self.weather.choose.shuffle(twice)
            failed = works.get(name, partial(steps.bury_messages, store))(twice)
            source.delete([one for one in deliveries if one not in failed])
        except (Killed, TryAgain):
            return True
        return bool(deliveries)

    def clean(self, file: str, batches: list[pa.RecordBatch]) -> None:
        try:
            clean(self.weather.over(self.store), self.weather.over(self.queues["store"]), file, "a.csv", batches)
        except (Killed, TryAgain):
            return

    def settle(self) -> None:
        """Fair weather, until nothing is left to do."""
        self.weather.calm = True
        idle = 0
        while idle < 2:
            self.pump()
            worked = [self.step(name) for name in STEPS]
            idle = 0 if any(worked) else idle + 1
            self.later()


STEPS = ("store", "process", "finish", "bury store", "bury process", "bury finish")


def the_file(kinds: list[str], batch: int) -> list[pa.RecordBatch]:
    """Records from line 2 on, in batches of some size."""
    rows = [{"line": number + 2, "id": str(number + 2), "kind": kind} for number, kind in enumerate(kinds)]
    return [pa.RecordBatch.from_pylist(rows[start : start + batch], schema=SCHEMA) for start in range(0, len(rows), batch)]


SCHEMA = pa.schema([("line", pa.int64()), ("id", pa.string()), ("kind", pa.string())])


def live_through(site: Site, files: dict[str, list[str]], rounds: int) -> None:
    """Cleaners and workers at random, counting all the while; then fair weather."""
    choose = site.weather.choose
    for _ in range(rounds):
        file = choose.choice(list(files))
        site.clean(file, the_file(files[file], choose.randint(1, 700)))
        for _ in range(choose.randint(5, 60)):
            site.step(choose.choice(STEPS))
            if choose.random() < 0.3:
                site.pump()
            if choose.random() < 0.2:
                site.later()
        for one in files:
            counts = site.store.counts(one)
            assert min(counts.open, counts.finished, counts.dead, counts.in_progress) >= 0
            assert counts.rows == counts.finished + counts.dead + counts.in_progress <= len(files[one])
    site.weather.calm = True
    for file, kinds in files.items():
        site.clean(file, the_file(kinds, 700))
    site.settle()


def check(site: Site, files: dict[str, list[str]], only_poison: bool = False) -> None:
    """Every record is finished or dead, once."""
    for file, kinds in files.items():
        counts = site.store.counts(file)
        assert (counts.rows, counts.in_progress, counts.done) == (len(kinds), 0, True)
        results = list(finished_lines(site.store, file))
        dead = [line for letter in site.store.dead_letters(file) for line in records_of(letter.parcel).lines]
        assert sorted([line for line, _ in results] + dead) == list(range(2, len(kinds) + 2))
        assert all(text == f"done {line}" for line, text in results)
        assert (len(results), len(dead)) == (counts.finished, counts.dead)
        bad = {number + 2 for number, kind in enumerate(kinds) if kind != "fine"}
        assert bad <= set(dead)
        if only_poison:
            assert bad == set(dead)


def finished_lines(store: RecordStore, file: str) -> Iterator[tuple[int, str | None]]:
    for parcel in store.results(file):
        records = records_of(parcel)
        yield from zip(records.lines, (row["result"] for row in records.rows()), strict=True)


def redrive_all(site: Site, prefix: str = "orders/") -> None:
    for letter in list(site.store.dead_letters(prefix)):
        assert site.store.redrive(letter.parcel, "again")
    site.settle()


_numbers = count()
kinds = st.lists(st.tuples(st.sampled_from(["fine", "fine", "fine", "poison", "deadly"]), st.integers(1, 400)), min_size=1, max_size=6)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parts=st.lists(kinds, min_size=1, max_size=2),
    seed=st.integers(0, 2**32),
    kills=st.sampled_from([0.0, 0.02, 0.1, 0.3]),
    throttles=st.sampled_from([0.0, 0.05, 0.3]),
)
def test_rows_are_finished_or_dead_once_whatever_happens(
    database: Database, parts: list[list[tuple[str, int]]], seed: int, kills: float, throttles: float
) -> None:
    files, example = {}, next(_numbers)
    for number, runs in enumerate(parts):
        rows = [kind for kind, many in runs for kind in [kind] * (many if kind == "fine" else min(many, 3))]
        files[file_of("orders", "bank", f"{example:032x}{number:032x}")] = rows
    now = [1_000_000.0]
    queues = {name: SqlQueue(database, f"{example}/{name}", VISIBILITY_S, lambda: now[0]) for name in ("store", "process", "finish")}

    def later() -> None:
        now[0] += VISIBILITY_S + 1

    weather = Weather(random.Random(seed), kills, throttles)
    site = Site(SqlRecordStore(database, queues["process"]), queues, later, lambda: None, weather)
    live_through(site, files, 6)
    check(site, files)
    redrive_all(site, f"orders/bank/{example:032x}")
    check(site, files, only_poison=True)


@pytest.mark.parametrize("kind", ["poison", "deadly"])
def test_without_faults_only_poison_dies_and_neighbours_are_processed_within_a_few_calls(database: Database, kind: str) -> None:
    file = file_of("orders", "bank", "ab" * 32)
    rows = ["fine"] * 2_000
    for line in (0, 777, 1_999):
        rows[line] = kind
    queues = {name: SqlQueue(database, f"orders/{name}", 0) for name in ("store", "process", "finish")}
    site = Site(SqlRecordStore(database, queues["process"]), queues, lambda: None, lambda: None, Weather(random.Random(1), 0, 0, True))
    site.clean(file, the_file(rows, 333))
    site.settle()
    check(site, {file: rows}, only_poison=True)
    assert max(site.called.values()) <= 14, "halving finds a record of 500 in nine calls"


def test_every_single_fault_at_every_call_loses_nothing(database: Database) -> None:
    """One worker after the other dies at the first, second, third … call, before it or after it."""
    rows = ["fine", "poison", "fine", "deadly", "fine"]
    for number in range(60):
        for before in (True, False):
            name = f"{number}-{before}"
            file = file_of("orders", "bank", f"{number:032x}{int(before):032x}")
            now = [0.0]
            queues = {
                step: SqlQueue(database, f"{name}/{step}", VISIBILITY_S, lambda now=now: now[0]) for step in ("store", "process", "finish")
            }

            def later(now: list[float] = now) -> None:
                now[0] += VISIBILITY_S + 1

            weather = _DiesAt(number, before)
            site = Site(SqlRecordStore(database, queues["process"]), queues, later, lambda: None, weather)
            for _ in range(3):
                site.clean(file, the_file(rows, 2))
                for step in STEPS:
                    site.step(step)
                later()
            site.settle()
            check(site, {file: rows}, only_poison=True)
        if not weather.died:
            break
    else:
        pytest.fail("there are more calls than were tried")
    assert number > 20


class _DiesAt(Weather):
    """Dies at one call alone, before it or after it."""

    def __init__(self, call: int, before: bool) -> None:
        super().__init__(random.Random(0), 0, 0)
        self._left = 2 * call + (0 if before else 1)

    def dies(self) -> bool:
        self._left -= 0 if self.calm else 1
        return self._left == -1 and not self.calm

    @property
    def died(self) -> bool:
        return self._left < 0


def test_a_message_whose_failure_cannot_be_noted_comes_again(database: Database) -> None:
    """The store is throttled at the very calls that a failing record needs: its message is not done."""
    file = file_of("orders", "bank", "ab" * 32)
    queues = {name: SqlQueue(database, f"orders/{name}", 0) for name in ("store", "process", "finish")}
    site = Site(SqlRecordStore(database, queues["process"]), queues, lambda: None, lambda: None, Weather(random.Random(1), 0, 0, True))
    rows = ["fine", "poison", "deadly"]
    site.clean(file, the_file(rows, 10))
    site.step("store")
    for name in ("split", "note"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SqlRecordStore, name, _throttled)
            site.step("process")
        assert queues["process"].next_s() == 0, f"{name}: the message is still there"
        site.step("process")
    site.settle()
    check(site, {file: rows}, only_poison=True)


def _throttled(*_: object) -> None:
    raise Throttled("too many requests")


@pytest.mark.parametrize("seed", range(1, 2 + EXAMPLES // 50))
def test_the_same_holds_for_sqs_and_dynamodb(aws: Ministack, dynamodb_endpoint: str, seed: int) -> None:
    client = record_services.dynamodb(dynamodb_endpoint)
    table = record_services.records_table(client)
    queues: dict[str, Queue] = {name: record_services.sqs_queue(aws.client("sqs"), 0) for name in ("store", "process", "finish")}
    stream = record_services.Stream(dynamodb_endpoint, table, queues["process"])
    choose = random.Random(seed)
    throttled = record_services.Throttling(client, choose)
    site = Site(DynamoRecordStore(throttled, table), queues, lambda: None, stream.pump, Weather(choose, 0.05, 0.05))
    rows = [choose.choices(["fine", "poison", "deadly"], [0.995, 0.003, 0.002])[0] for _ in range(1_100)]
    file = file_of("orders", "bank", f"{seed:064x}")
    live_through(site, {file: rows}, 4)
    check(site, {file: rows})
    assert throttled.refused > 0
    redrive_all(site)
    check(site, {file: rows}, only_poison=True)
    updates = [kind for event, kind in stream.events if event != "INSERT"]
    assert "in" not in updates, "parcels are never changed, so that nothing feeds back"


def test_a_message_is_a_parcel_of_at_most_500_records(database: Database) -> None:
    queue = SqlQueue(database, "orders/store")
    clean(SqlRecordStore(database, queue), queue, file_of("orders", "bank", "ab" * 32), "a.csv", the_file(["fine"] * 1_201, 7))
    parcels = [parcel_of(one.body) for one in queue.receive(10)]
    assert [(one.first, one.last, one.count) for one in parcels] == [(2, 501, 500), (502, 1001, 500), (1002, 1202, 201)]
