"""The record queue's functions, as they are deployed: the real zip under Lambda's runtime client, over SQS, DynamoDB and S3 on the
loopback. The test stands in for the event source mappings of infra/template.yaml.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import record_services
import seaweed
from lambda_runtime import Function, Lambda, running_lambda, unzipped
from ministack_server import Ministack

from recon.intake.queues import aws_handlers
from recon.intake.queues.aws_queue import SqsQueue
from recon.intake.queues.aws_store import DynamoRecordStore
from recon.intake.queues.parcels import file_of, records_of
from recon.intake.queues.port import DeadLetterQueue, Delivery
from recon.operations.packaging import lambda_zip

OWN = '''
def work(records):
    """The user's function: fails for poison."""
    done = [{"id": one["id"], "result": "done " + one["id"]} for one in records]
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


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("records")
    (folder / "my_process.py").write_text(OWN)
    assert lambda_zip.main(["--of", "records", "--with", str(folder / "my_process.py"), "--out", str(folder)]) == 0
    return unzipped(folder / "recon-records.zip", folder)


@pytest.fixture
def site(code: Path, aws: Ministack, dynamodb_endpoint: str, tmp_path: Path) -> Iterator[Site]:
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
        aws_handlers.TABLE: table,
        aws_handlers.PROCESS: json.dumps({"bank": "my_process:work"}),
        **{variable: queues[name]._url for name, variable in aws_handlers.QUEUES.items()},
    }
    with running_lambda(tmp_path) as account:
        functions = {
            step: account.deploy(code, f"recon.intake.queues.aws_handlers.{step}", environment, timeout_s=120, at_once=1) for step in STEPS
        }
        stream = record_services.Stream(dynamodb_endpoint, table, queues["process"])
        yield Site(account, functions, queues, DynamoRecordStore(client, table), stream, aws.client("s3"))


def landed(site: Site, count: int, poison: set[int]) -> str:
    """A clean file in S3, announced on the clean queue; its name in the store."""
    lines = range(2, count + 2)
    kinds = ["poison" if line in poison else "Köln" for line in lines]
    table = pa.table({"recon.line": pa.array(lines, pa.int64()), "id": [str(line) for line in lines], "kind": kinds})
    bucket, path = "clean-files", "orders/a.parquet"
    site.s3.create_bucket(Bucket=bucket)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=700)
    site.s3.put_object(Bucket=bucket, Key=path, Body=sink.getvalue().to_pybytes())
    file = file_of("orders", "bank", "ab" * 32)
    site.queues["clean"].send([json.dumps({"file": file, "name": "a.csv", "clean": f"s3://{bucket}/{path}"})])
    return file


def test_the_real_zip_takes_a_file_through_all_steps(site: Site) -> None:
    poison = {2, 1_000, 1_601}
    file = landed(site, 1_600, poison)
    site.functions["clean"].told_s = [59.0, 59.0]  # less than it takes to go on: each of the first two hands over to the next
    site.work()
    counts = site.store.counts(file)
    assert (counts.rows, counts.finished, counts.dead, counts.in_progress) == (1_600, 1_597, 3, 0)
    assert len(site.functions["clean"].invocations) == 3
    lines = [line for parcel in site.store.results(file) for line in records_of(parcel).lines]
    assert lines == [line for line in range(2, 1_602) if line not in poison]
    letters = list(site.store.dead_letters("orders/bank/"))
    assert [(one.parcel.first, one.reason, one.name) for one in letters] == [
        (line, f"ValueError: poison: {line}", "a.csv") for line in sorted(poison)
    ]
    logs = site.logs()
    assert "lines 2 to 501: split, ValueError" in logs
    assert "poison" not in logs
    assert "K\\u00f6ln" not in logs
    assert max(map(len, logs.splitlines())) < 1_024


def test_a_function_that_is_not_configured_fails_and_nothing_is_lost(site: Site) -> None:
    file = file_of("orders", "stranger", "cd" * 32)
    site.store.begin(file, "b.csv")
    assert site.invoke("pass_on", {"Records": []}) == {"batchItemFailures": []}
    with pytest.raises(AssertionError, match="RECON_PROCESS: source stranger has no function"):
        site.invoke("process", {"Records": [sqs_record(Delivery("1", "r", 1, json.dumps(HEAD | {"file": file}) + "\n" + RECORDS))]})


HEAD = {"first": 2, "last": 2, "count": 1, "round": 0}
RECORDS = json.dumps({"names": ["id"], "lines": [2], "columns": [["1"]]})


def test_the_zip_is_small_enough_and_holds_only_what_the_functions_import(code: Path) -> None:
    tops = {one.name.split("-")[0] for one in code.iterdir()}
    assert tops - {"pyarrow.libs"} == {"recon", "pyarrow", "tenacity", "my_process.py"}
    assert sum(one.stat().st_size for one in code.rglob("*") if one.is_file()) < 150e6


def test_a_module_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lambda_zip.main(["--of", "records", "--with", str(tmp_path / "gone.py"), "--out", str(tmp_path)]) == 2
    assert "gone.py: no such file or folder" in capsys.readouterr().err
