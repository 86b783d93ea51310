"""The queue of a service: names of requests on their way to a worker, in the database or in SQS."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, Protocol

import sqlalchemy as sa

from recon.errors import ReconError, WrongUsage
from recon.intake.queues.aws_queue import SqsQueue, called
from recon.intake.queues.port import DeadLetterQueue, Delivery
from recon.intake.queues.sql_queue import SqlQueue
from recon.storage.aws_calls import client

VISIBLE_AFTER_S = 30.0
"""When a message is received again whose worker died before it queued the request."""
ASK_S = 1.0
"""Between two questions to SQS where it had nothing: each has a price."""
AT_ONCE = 10


class Messages(Protocol):
    """What a service asks of its queue. Errors: TryAgain where it is away."""

    may_be_lost: bool
    """Whether a request may be stored whose message never comes."""

    def send_in(self, connection: sa.Connection, names: Sequence[str]) -> None:
        """Sends as part of the transaction that stores the requests, where the queue can."""
        ...

    def send_after(self, names: Sequence[str]) -> None:
        """Sends after this transaction, where the queue can do nothing else. Raises nothing: what is not sent now is sent again later."""
        ...

    def receive(self) -> list[Delivery]:
        """Some messages; none where there are none, or it is too early to ask again."""
        ...

    def delete(self, deliveries: Sequence[Delivery]) -> None: ...

    @property
    def dead(self) -> DeadLetterQueue:
        """Messages that were received three times, and never deleted."""
        ...


class EmbeddedMessages:
    """In the database of the requests: stored with them, or not at all."""

    may_be_lost = False

    def __init__(self, queue: SqlQueue) -> None:
        self._queue = queue

    def send_in(self, connection: sa.Connection, names: Sequence[str]) -> None:
        self._queue.send_in(connection, names)

    def send_after(self, names: Sequence[str]) -> None:
        pass

    def receive(self) -> list[Delivery]:
        return self._queue.receive(AT_ONCE) if self._queue.next_s() == 0.0 else []  # a read alone, where there is nothing

    def delete(self, deliveries: Sequence[Delivery]) -> None:
        self._queue.delete(deliveries)

    @property
    def dead(self) -> DeadLetterQueue:
        return self._queue.dead


class SqsMessages:
    """In SQS. ``url``: of a queue with a queue of dead letters behind it, as infra/template.yaml makes them."""

    may_be_lost = True

    def __init__(self, url: str) -> None:
        self._url, self._ask_at = url, 0.0

    @cached_property
    def _client(self) -> Any:
        return client("sqs")

    @cached_property
    def _queue(self) -> SqsQueue:
        return SqsQueue(self._client, self._url, self._url)

    def send_in(self, connection: sa.Connection, names: Sequence[str]) -> None:
        pass

    def send_after(self, names: Sequence[str]) -> None:
        with suppress(ReconError):
            self._queue.send(names)

    def receive(self) -> list[Delivery]:
        if time.monotonic() < self._ask_at:
            return []
        if not (found := self._queue.receive(AT_ONCE)):
            self._ask_at = time.monotonic() + ASK_S
        return found

    def delete(self, deliveries: Sequence[Delivery]) -> None:
        self._queue.delete(deliveries)

    @cached_property
    def dead(self) -> DeadLetterQueue:
        where = f"queue {self._url}"
        asked = {"QueueUrl": self._url, "AttributeNames": ["RedrivePolicy"]}
        policy = called(where, self._client, "get_queue_attributes", **asked).get("Attributes", {}).get("RedrivePolicy", "{}")
        name = str(json.loads(policy).get("deadLetterTargetArn", "")).rpartition(":")[2]
        if not name:
            raise WrongUsage(f"service.queue: {where} has no queue of dead letters; take the one of infra/template.yaml")
        return SqsQueue(self._client, self._url, called(where, self._client, "get_queue_url", QueueName=name)["QueueUrl"]).dead
