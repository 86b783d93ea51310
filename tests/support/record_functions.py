"""The record queue's functions, as they are deployed: the real zip under Lambda's runtime client, over SQS, DynamoDB and S3 on the
loopback. What calls it stands in for the event source mappings of infra/template.yaml.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import record_services
import seaweed
from lambda_runtime import Function, Lambda, running_lambda, unzipped
from ministack_server import Ministack

from recon.intake.queues import aws_handlers
from recon.intake.queues.aws_queue import SqsQueue
from recon.intake.queues.aws_store import DynamoRecordStore
from recon.intake.queues.port import DeadLetterQueue, Delivery
from recon.operations.packaging import lambda_zip

OWN = '''
def work(records):
    """The user's function: fails for poison."""
    done = [{**one, "result": "done " + one["id"]} for one in records]
    return [ValueError("poison: " + one["id"]) if one["kind"] == "poison" else result for one, result in zip(records, done)]
'''
STEPS = ("clean", "store", "pass_on", "process", "finish", "bury", "bury_unstored")


@dataclass
class Site:
    """The deployed functions by step, with what they work on."""

    account: Lambda
    functions: dict[str, Function]
    queues: dict[str, SqsQueue]
    store: DynamoRecordStore
    stream: record_services.Stream
    s3: Any

    def invoke(self, step: str, event: Any) -> Any:
        function = self.functions[step]
        invocation = self.account.invoke(function, json.dumps(event, default=str).encode())
        assert invocation.wait() == "answered", (invocation.answer, self.account.log_of(function))
        return invocation.answer

    def map(self, step: str, queue: DeadLetterQueue) -> int:
        """What an event source mapping of a queue does with a batch; how many messages failed, -1 if there were none."""
        deliveries = queue.receive(10)
        if not deliveries:
            return -1
        failed = self.invoke(step, {"Records": [sqs_record(one) for one in deliveries]})["batchItemFailures"]
        left = {one["itemIdentifier"] for one in failed}
        queue.delete([one for one in deliveries if one.id not in left])
        return len(left)

    def work(self, until_idle: int = 2) -> None:
        idle = 0
        while idle < until_idle:
            found = self.stream.take()
            if found:
                self.invoke("pass_on", {"Records": found})
            worked = [self.map(step, self.queues[step]) >= 0 for step in ("clean", "store", "process", "finish")]
            worked += [self.map("bury", self.queues[name].dead) >= 0 for name in ("process", "finish")]
            worked.append(self.map("bury_unstored", self.queues["store"].dead) >= 0)
            idle = 0 if found or any(worked) else idle + 1
            if idle:
                time.sleep(1.1)  # a message that failed is visible again after a second

    def logs(self) -> str:
        return "".join(self.account.log_of(one) for one in self.functions.values() if one.invocations)


def sqs_record(delivery: Delivery) -> dict[str, Any]:
    attributes = {"ApproximateReceiveCount": str(delivery.received)}
    return {"messageId": delivery.id, "receiptHandle": delivery.receipt, "attributes": attributes, "body": delivery.body}


def zipped(folder: Path) -> Path:
    """The unzipped code of the functions, with ``my_process.work``."""
    (folder / "my_process.py").write_text(OWN)
    assert lambda_zip.main(["--of", "records", "--with", str(folder / "my_process.py"), "--out", str(folder)]) == 0
    return unzipped(folder / "recon-records.zip", folder)


@contextmanager
def deployed(code: Path, aws: Ministack, dynamodb_endpoint: str, folder: Path, s3: Mapping[str, str] | None = None) -> Iterator[Site]:
    """The functions with new queues and a new table. ``s3``: the environment that leads to another S3 than ministack's."""
    client = record_services.dynamodb(dynamodb_endpoint)
    table = record_services.records_table(client)
    queues = {name: record_services.sqs_queue(aws.client("sqs"), 1) for name in aws_handlers.QUEUES}
    environment = {
        "AWS_ACCESS_KEY_ID": seaweed.KEY,
        "AWS_SECRET_ACCESS_KEY": seaweed.SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": aws.endpoint,
        "AWS_ENDPOINT_URL_DYNAMODB": dynamodb_endpoint,
        **(s3 or {}),
        aws_handlers.TABLE: table,
        aws_handlers.PROCESS: json.dumps({"bank": "my_process:work"}),
        **{variable: queues[name].url for name, variable in aws_handlers.QUEUES.items()},
    }
    with running_lambda(folder) as account:
        functions = {
            step: account.deploy(code, f"recon.intake.queues.aws_handlers.{step}", environment, timeout_s=120, at_once=1) for step in STEPS
        }
        stream = record_services.Stream(dynamodb_endpoint, table, queues["process"])
        yield Site(account, functions, queues, DynamoRecordStore(client, table), stream, aws.client("s3"))
