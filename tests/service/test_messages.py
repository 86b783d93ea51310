"""Messages on their way to a worker: sent with the request or after it, sent again, received too often."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import record_services
import service_site as s
import sqlalchemy as sa
from emr_server import until

from recon.database.tables import REQUESTS
from recon.errors import TryAgain, WrongUsage
from recon.intake.queues.port import TRIES
from recon.service import messages
from recon.service.claims import LATE
from recon.service.submissions import Submission
from recon.service.worker import Worker


def _submitted(service: s.Service, folder: Path) -> Submission:
    (folder / "in" / "sales.csv").write_text("a,b\nx,1.10\ny,2.00\nx,0.05\n")
    return service.submit(s.holder(service), s.sums(f"{folder}/in/sales.csv"))[0]


def _work(service: s.Service) -> None:
    Worker(service, say=lambda line: None).work(for_s=60, idle_s=2.5)


def _later(service: s.Service, by: timedelta) -> None:
    """As if requests had been submitted, and their messages sent, earlier."""
    with service.database.write() as connection:
        for row in connection.execute(sa.select(REQUESTS)).all():
            values = {"received_at": row.received_at - by, "sent_at": row.sent_at - by}
            connection.execute(REQUESTS.update().where(REQUESTS.c.id == row.id).values(values))


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages of the embedded queue are visible again after a second, as those of the tests' SQS are."""
    monkeypatch.setattr("recon.service.site.VISIBLE_AFTER_S", 1.0)


@pytest.mark.usefixtures("queue", "soon")
def test_a_message_that_no_worker_could_queue_makes_its_request_dead_and_redrive_opens_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = s.service_in(tmp_path)
    one = _submitted(service, tmp_path)
    monkeypatch.setattr(messages, "ASK_S", 0.0)
    for _ in range(TRIES):  # workers that die with the message in hand
        found = until(service.queue.receive, "the message")
        assert [each.body for each in found] == [one.name]
    until(lambda: service.queue.receive() or _died(service, one), "its death", 30)
    dead = s.now(service, one)
    assert (dead.state, dead.problem, dead.tries) == ("dead", {"code": "may-pass"}, 0)
    assert "received three times" in dead.reason
    assert dead.expires_at is not None
    assert service.queue.dead.receive(10) == []
    service.requests.redrive(one.name, "the database is back")
    _work(service)
    assert s.now(service, one).state == "done"


def _died(service: s.Service, one: Submission) -> bool:
    Worker(service, say=lambda line: None)._bury()
    return s.now(service, one).state == "dead"


@pytest.mark.usefixtures("queue")
def test_a_dead_letter_of_a_request_that_is_further_changes_nothing(tmp_path: Path) -> None:
    service = s.service_in(tmp_path)
    one = _submitted(service, tmp_path)
    service.claims.arrived([one.name])
    service.claims.message_died([one.name, "0" * 32])
    assert s.now(service, one).state == "queued"


def test_a_request_whose_message_was_never_sent_is_stored_and_sent_again(
    tmp_path: Path, sqs_queue: record_services.SqsQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = s.service_in(tmp_path)

    def away(*_: Any) -> None:
        raise TryAgain("SQS is away")

    with monkeypatch.context() as patch:
        patch.setattr(messages.SqsQueue, "send", away)
        one = _submitted(service, tmp_path)
    assert s.now(service, one).state == "received"
    service.sweep()
    assert sqs_queue.receive(10) == []
    _later(service, LATE)
    _work(service)
    assert s.now(service, one).state == "done"


def test_a_name_is_sent_again_once_in_a_minute_whoever_asks(tmp_path: Path, sqs_queue: record_services.SqsQueue) -> None:
    service, other = s.service_in(tmp_path), s.service_in(tmp_path)
    names = {_submitted(service, tmp_path).name for _ in range(3)}
    assert service.claims.unsent() == []
    for _ in range(2):
        _later(service, LATE)
        assert set(service.claims.unsent()) == names
        assert [service.claims.unsent(), other.claims.unsent()] == [[], []]
    service.claims.arrived(list(names))
    _later(service, LATE)
    assert service.claims.unsent() == []


def test_the_embedded_queue_sends_nothing_again(tmp_path: Path) -> None:
    service = s.service_in(tmp_path)
    one = _submitted(service, tmp_path)
    _later(service, LATE)
    service.sweep()
    assert [each.body for each in service.queue.receive()] == [one.name]


def test_a_message_that_comes_twice_has_no_effect(tmp_path: Path, sqs_queue: record_services.SqsQueue) -> None:
    service = s.service_in(tmp_path)
    one = _submitted(service, tmp_path)
    sqs_queue.send([one.name])
    _work(service)
    assert (s.now(service, one).state, s.now(service, one).tries) == ("done", 1)
    assert [each.state for each in service.requests.events(one) if each.share is None] == ["received", "queued", "running"]


def test_a_queue_without_dead_letters_is_refused(tmp_path: Path, sqs_queue: record_services.SqsQueue, aws: Any) -> None:
    url = aws.client("sqs").create_queue(QueueName="plain")["QueueUrl"]
    with pytest.raises(WrongUsage, match=r"service\.queue: .*/plain has no queue of dead letters"):
        _work(s.service_in(tmp_path, queue=url))
