"""Queues: the embedded one on SQLite and PostgreSQL, and SQS, have one meaning."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import record_services

from recon.intake.queues.port import TRIES, Delivery, Queue
from recon.intake.queues.sql_queue import SqlQueue

VISIBILITY_S = 1


@dataclass
class Kind:
    """A new queue, and how its visibility timeout passes."""

    queue: Queue
    wait: Callable[[], None]


@pytest.fixture(params=["sqlite", "postgresql", "sqs"])
def kind(request: pytest.FixtureRequest) -> Kind:
    if request.param == "sqs":
        queue = record_services.sqs_queue(request.getfixturevalue("sqs"), VISIBILITY_S)
        return Kind(queue, lambda: time.sleep(VISIBILITY_S + 0.1))
    now = [1_000_000.0]
    database = request.getfixturevalue("database" if request.param == "sqlite" else "postgres_database")

    def later() -> None:
        now[0] += VISIBILITY_S + 0.1

    return Kind(SqlQueue(database, "orders/process", VISIBILITY_S, lambda: now[0]), later)


def taken(queue: Queue, count: int = 10) -> list[Delivery]:
    """What is visible, at most ``count`` messages a call."""
    found: list[Delivery] = []
    while some := queue.receive(count):
        found += some
    return found


def test_each_message_is_received_once_with_its_body(kind: Kind) -> None:
    bodies = [f"{number} Köln \u2028 \u20ac" for number in range(23)]
    kind.queue.send(bodies)
    found = taken(kind.queue)
    assert sorted(one.body for one in found) == sorted(bodies)
    assert {one.received for one in found} == {1}
    assert len({one.id for one in found}) == 23


def test_a_receive_gives_at_most_what_is_asked_for_and_ten(kind: Kind) -> None:
    kind.queue.send([str(number) for number in range(15)])
    assert 1 <= len(kind.queue.receive(3)) <= 3
    assert len(kind.queue.receive(10)) <= 10


def test_large_messages_are_sent_in_batches_that_fit(kind: Kind) -> None:
    bodies = [f"{number}" * 240_000 for number in range(9)]
    kind.queue.send(bodies)
    assert sorted(one.body for one in taken(kind.queue)) == bodies


def test_a_message_that_is_not_deleted_comes_again_after_the_visibility_timeout(kind: Kind) -> None:
    kind.queue.send(["a", "b"])
    first = taken(kind.queue)
    assert taken(kind.queue) == []
    kind.queue.delete([one for one in first if one.body == "a"])
    kind.wait()
    (again,) = taken(kind.queue)
    assert (again.body, again.received) == ("b", 2)


def test_a_released_message_comes_again_at_once(kind: Kind) -> None:
    kind.queue.send(["a"])
    kind.queue.release(taken(kind.queue), 0)
    assert [(one.body, one.received) for one in taken(kind.queue)] == [("a", 2)]


def test_a_receipt_grows_stale_when_the_message_is_delivered_again(kind: Kind) -> None:
    kind.queue.send(["a"])
    first = taken(kind.queue)
    kind.wait()
    second = taken(kind.queue)
    assert len(second) == 1
    kind.queue.delete(first)
    kind.wait()
    assert [one.received for one in taken(kind.queue)] == [3], "only the newest delivery deletes"
    kind.queue.delete(second)


def test_a_message_received_three_times_is_a_dead_letter(kind: Kind) -> None:
    kind.queue.send(["poison", "fine"])
    for number in range(1, TRIES + 1):
        found = taken(kind.queue)
        assert {one.received for one in found if one.body == "poison"} == {number}
        kind.queue.delete([one for one in found if one.body == "fine"])
        kind.wait()
    assert taken(kind.queue) == []
    (dead,) = kind.queue.dead.receive(10)
    assert dead.body == "poison"
    kind.queue.dead.delete([dead])
    kind.wait()
    assert kind.queue.dead.receive(10) == []


def test_queues_do_not_mix(kind: Kind, request: pytest.FixtureRequest) -> None:
    other = (
        SqlQueue(kind.queue._database, "orders/finish")
        if isinstance(kind.queue, SqlQueue)
        else record_services.sqs_queue(request.getfixturevalue("sqs"), VISIBILITY_S)
    )
    kind.queue.send(["a"])
    assert other.receive(10) == []
    assert [one.body for one in kind.queue.receive(10)] == ["a"]


def test_nothing_to_do_is_no_call(kind: Kind) -> None:
    kind.queue.send([])
    kind.queue.delete([])
    kind.queue.release([], 0)
    assert kind.queue.receive(10) == []
