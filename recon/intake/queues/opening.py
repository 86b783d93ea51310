"""Opens the record store of a configuration: in the database, or in DynamoDB where ``records.table`` names a table."""

from __future__ import annotations

import json
from typing import Any

from recon.config.model import Place
from recon.config.secrets import ReadSecret, boto3_secret
from recon.errors import WrongUsage
from recon.intake.queues.port import RecordStore


def open_records(place: Place, read_secret: ReadSecret = boto3_secret) -> RecordStore:
    """What became of the records of a reconciliation. Raises WrongUsage where the database or a library is missing."""
    if place.records.table is None:
        from recon.database import open_database
        from recon.intake.queues.embedded import record_queues

        return record_queues(open_database(place, read_secret), place.name).records
    from recon.intake.queues.aws_store import DynamoRecordStore

    return DynamoRecordStore(_client("dynamodb"), place.records.table)


def send_file(place: Place, file: str, name: str, location: str) -> None:
    """Has the functions on AWS take a clean file through the queue; twice has the effect of once. ``location``: of the Parquet file in S3,
    ``s3://bucket/key``. Raises WrongUsage for a file that is elsewhere: the functions could not read it."""
    from recon.intake.queues.aws_queue import SqsQueue

    if place.records.queue is None:
        raise WrongUsage(f"{place.path}: records.queue is not set; name the stack's output RecordsQueueUrl")
    if not location.startswith("s3://"):
        raise WrongUsage(f"{place.path}: store: {place.store}: the functions behind records.queue read files in S3; name a store in S3")
    queue = SqsQueue(_client("sqs"), place.records.queue, place.records.queue)
    queue.send([json.dumps({"file": file, "name": name, "clean": location})])


def _client(service: str) -> Any:
    try:
        import boto3
    except ImportError:
        raise WrongUsage("records on AWS need the aws extra: pip install 'dagster-recon[aws]'") from None
    return boto3.client(service)
