"""The steps as Lambda functions, one handler each; infra/template.yaml wires them.

    clean         messages {"file", "name", "clean": "s3://…"}: a clean Parquet file → the store queue
    store         the store queue → opened parcels
    pass_on       INSERTs of the table's stream → the process queue
    process       the process queue → the user's function → the finish queue
    finish        the finish queue → results
    bury          dead letters of the process and finish queues → dead parcels
    bury_unstored dead letters of the store queue → dead parcels

A handler of a queue answers with the messages that failed, and Lambda deletes the others. RECON_PROCESS is JSON, source → module:function;
the other variables name the table and the queues. A log line has a parcel's place and an outcome, never a text.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from recon.errors import WrongUsage
from recon.intake.queues import steps
from recon.intake.queues.aws_queue import SqsQueue
from recon.intake.queues.aws_store import DynamoRecordStore, parcel_inserted
from recon.intake.queues.clean import clean as clean_file
from recon.intake.queues.port import Delivery, Process
from recon.telemetry import logs

if TYPE_CHECKING:
    import pyarrow as pa

TABLE, PROCESS = "RECON_RECORDS_TABLE", "RECON_PROCESS"
QUEUES = {name: f"RECON_{name.upper()}_QUEUE" for name in ("clean", "store", "process", "finish")}
_SCRATCH = Path("/tmp")  # noqa: S108 - the only folder that a function may write to
steps.LOG.setLevel(logging.INFO)
logs.set_up()


class Context(Protocol):
    """Of one invocation, as Lambda gives it."""

    def get_remaining_time_in_millis(self) -> int: ...


def clean(event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Sends files' records to the store queue. A file that needs more time than is left goes on in the next invocation."""

    def work(deliveries: Sequence[Delivery]) -> list[Delivery]:
        for delivery in deliveries:
            asked = json.loads(delivery.body)
            path = _downloaded(asked["clean"])
            try:
                begun = _records().begin(asked["file"], asked["name"])
                batches = clean_batches(path, begun.line)
                progress = clean_file(_records(), _queue("store"), asked["file"], asked["name"], batches, lambda: _left_s(context))
            finally:
                path.unlink()
            steps.LOG.info(
                "clean: %s: %s records, %s", asked["file"][:-52], progress.rows, "all" if progress.complete else "to be continued"
            )
            if not progress.complete:
                _queue("clean").send([delivery.body])
        return []

    return _answered(work, event)


def store(event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Opens parcels."""
    return _answered(partial(steps.store_messages, _records()), event)


def pass_on(event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Sends opened parcels to the process queue. What it raises makes Lambda hand it the same batch again."""
    parcels = [parcel_inserted(one["dynamodb"]["NewImage"]) for one in event["Records"] if one["eventName"] == "INSERT"]
    _queue("process").send([one.body() for one in parcels if one is not None])
    return {"batchItemFailures": []}


def process(event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Calls the user's function."""
    return _answered(partial(steps.process_messages, _records(), _queue("finish"), process_of), event)


def finish(event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Stores results."""
    return _answered(partial(steps.finish_messages, _records()), event)


def bury(event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Makes parcels of dead letters dead."""
    return _answered(partial(steps.bury_messages, _records()), event)


def bury_unstored(event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Stores parcels that could not be stored, dead."""
    return _answered(partial(steps.bury_unstored, _records()), event)


def process_of(source: str) -> Process:
    """The function of a source. Raises WrongUsage if there is none."""
    name = json.loads(os.environ.get(PROCESS, "{}")).get(source)
    if name is None:
        raise WrongUsage(f'{PROCESS}: source {source} has no function; write it as JSON, such as {{"{source}": "module:function"}}')
    module, _, function = name.partition(":")
    found: Process = getattr(importlib.import_module(module), function)
    return found


def clean_batches(path: Path, after: int) -> Iterator[pa.RecordBatch]:
    """The row groups of a clean file that have lines after ``after``. The first column is the line."""
    from recon.storage import parquet

    with parquet.open_file(path) as file:
        for number in range(file.metadata.num_row_groups):
            statistics = file.metadata.row_group(number).column(0).statistics
            if statistics is None or not statistics.has_min_max or statistics.max > after:
                yield from file.iter_batches(row_groups=[number])


def _answered(step: Callable[[Sequence[Delivery]], list[Delivery]], event: Mapping[str, Any]) -> dict[str, Any]:
    """Carries a step out on the messages of an event; the answer names those that failed."""
    deliveries = [
        Delivery(one["messageId"], one["receiptHandle"], int(one["attributes"]["ApproximateReceiveCount"]), one["body"])
        for one in event["Records"]
    ]
    attempt = max((one.received for one in deliveries), default=1)
    queue = event["Records"][0].get("eventSourceARN", "").rpartition(":")[2] if deliveries else None
    with logs.logged_with(stage=queue, attempt=attempt, reconciliation=_reconciliation(deliveries)):
        failed = step(deliveries)
        if logs.on():
            steps.LOG.info("%d messages, %d failed", len(deliveries), len(failed))
    return {"batchItemFailures": [{"itemIdentifier": one.id} for one in failed]}


def _reconciliation(deliveries: Sequence[Delivery]) -> str | None:
    """The reconciliation that all messages are of, for logs. The first line of each is JSON that names its file."""
    found = set[str]()
    for one in deliveries:
        with suppress(ValueError, AttributeError):
            found.add(str(json.loads(one.body.partition("\n")[0]).get("file", "")).partition("/")[0])
    return found.pop() or None if len(found) == 1 else None


def _left_s(context: Context) -> float:
    return context.get_remaining_time_in_millis() / 1000


def _downloaded(location: str) -> Path:
    place = urlsplit(location)
    path = _SCRATCH / f"clean-{os.getpid()}.parquet"
    _client("s3").download_file(place.netloc, place.path.lstrip("/"), str(path))
    return path


@cache
def _records() -> DynamoRecordStore:
    return DynamoRecordStore(_client("dynamodb"), _named(TABLE))


@cache
def _queue(name: str) -> SqsQueue:
    """The queue of a step. Handlers never read dead letters by themselves."""
    url = _named(QUEUES[name])
    return SqsQueue(_client("sqs"), url, url)


@cache
def _client(service: str) -> Any:
    import boto3

    return boto3.client(service)


def _named(variable: str) -> str:
    value = os.environ.get(variable)
    if not value:
        raise WrongUsage(f"{variable} is not set; infra/template.yaml sets it for each function of the record queue")
    return value
