"""Files whose records functions on AWS work on: started, followed and landed by deliveries, with the deployed zip, SQS, DynamoDB and S3."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import seaweed
from cli_calls import Answer, Call
from ministack_server import Ministack
from record_functions import OWN, Site, deployed

import recon as library
from jobs.arrivals import delivery_sensor
from recon.errors import WrongUsage
from recon.intake.queues.opening import send_file
from recon.intake.queues.parcels import records_of
from recon.intake.sources import records
from resources.database import SiteDatabase

RECON = """
name: NAME
store: STORE
key: id
windows: {start: 2026-11-01T00:00Z, every: 1d}
events: {types: {amount: "decimal(18,2)"}}
measures: {total: {sum: amount}, lines: {count: "*"}}
records: {table: TABLE, queue: "QUEUE"}
"""
SOURCE = """
files: "bank_{day}.csv"
inbox: ./inbox
window: {part: day, format: "%Y%m%d"}
format: {kind: delimited, header: true}
columns: {id: {required: true}, kind: text, amount: {type: "decimal(18,2)"}}
process: my_process:work
expect: {files: ["bank_{window:%Y%m%d}.csv"]}
"""
WINDOW = "2026-11-02T00:00Z"
ROWS = 1_200
POISON = {"17", "900"}


@dataclass
class Delivery:
    """A site whose records go through functions. ``at``: the functions with their queues."""

    folder: Path
    at: Site
    recon: Call

    @property
    def config(self) -> tuple[str, str]:
        return ("--config", str(self.folder / "recon.yaml"))

    def land(self) -> Answer:
        return self.recon("land", "--from", str(self.folder / "inbox"), *self.config)

    def tick(self, instance: dg.DagsterInstance) -> int | str:
        """How many runs the delivery sensor starts, or why none."""
        config = library.open(self.folder / "recon.yaml").config
        resources = {f"{config.name}_database": SiteDatabase(config_file=str(self.folder / "recon.yaml"))}
        with dg.build_sensor_context(instance=instance, resources=resources) as context:
            answer = delivery_sensor(config).evaluate_tick(context)
        return len(answer.run_requests) if answer.run_requests else str(answer.skip_message)

    def file(self) -> dict[str, Any]:
        (file,) = self.recon("files", "list", "--json", *self.config).json
        return dict(file)

    def waiting(self, queue: str) -> int:
        """Messages of a queue, received ones too."""
        at = self.at.queues[queue]
        told = at._client.get_queue_attributes(QueueUrl=at.url, AttributeNames=["All"])["Attributes"]
        return int(told["ApproximateNumberOfMessages"]) + int(told["ApproximateNumberOfMessagesNotVisible"])

    @property
    def name(self) -> str:
        """The file's name in the record store."""
        intake = library.open(self.folder / "recon.yaml").intake()
        (file,) = intake.tracking.files()
        return records.records_file(intake, intake.sources["bank"], file)

    def finished(self) -> list[int]:
        """The lines of all results, in order, each as often as it is there."""
        return [line for parcel in self.at.store.results(self.name) for line in records_of(parcel).lines]


@pytest.fixture(scope="module")
def s3() -> Iterator[seaweed.Seaweed]:
    with seaweed.server() as server:
        yield server


@pytest.fixture(scope="module")
def at(code: Path, aws: Ministack, dynamodb_endpoint: str, s3: seaweed.Seaweed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("records")
    with deployed(code, aws, dynamodb_endpoint, folder, {"AWS_ENDPOINT_URL_S3": s3.endpoint}) as made:
        yield made


@pytest.fixture
def delivery(
    at: Site, aws: Ministack, dynamodb_endpoint: str, s3: seaweed.Seaweed, tmp_path: Path, recon: Call, monkeypatch: pytest.MonkeyPatch
) -> Delivery:
    for name, value in {**s3.environment, "AWS_ENDPOINT_URL": aws.endpoint, "AWS_ENDPOINT_URL_DYNAMODB": dynamodb_endpoint}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "sources").mkdir()
    (tmp_path / "inbox").mkdir()
    (tmp_path / "my_process.py").write_text(OWN)
    (tmp_path / "sources" / "bank.yaml").write_text(SOURCE)
    rows = [f"{n},{'poison' if str(n) in POISON else 'fine'},{n}.50" for n in range(1, ROWS + 1)] + ["x,fine,no amount"]
    (tmp_path / "inbox" / "bank_20261102.csv").write_text("id,kind,amount\n" + "\n".join(rows) + "\n")
    bucket = s3.bucket()
    text = RECON.replace("NAME", bucket.replace("-", "_")).replace("STORE", f"s3://{bucket}/recon")
    (tmp_path / "recon.yaml").write_text(text.replace("TABLE", at.store._table).replace("QUEUE", at.queues["clean"].url))
    return Delivery(tmp_path, at, recon)


def test_a_delivery_starts_a_file_through_the_queue_and_a_later_one_lands_it(delivery: Delivery) -> None:
    first, second = delivery.land(), delivery.land()
    assert (first.status, second.status) == (3, 3)
    for said in (first, second):
        assert "bank_20261102.csv: not landed yet: its records are on their way to the queue" in said.out
    assert delivery.waiting("clean") == 1, "it is started once"
    assert delivery.at.map("clean", delivery.at.queues["clean"]) == 0
    assert delivery.land().status == 3
    file = delivery.file()
    assert (file["state"], file["window"], file["rows"]) == ("converted", WINDOW, ROWS + 1)
    assert file["reason"] == "1,200 of 1,200 records are in progress; run the same again; 'recon dlq resend' where their messages were lost"
    status = delivery.recon("status", *delivery.config)
    assert "the file bank_20261102.csv is received and not landed yet" in status.out
    with dg.DagsterInstance.ephemeral() as instance:
        assert "bank_20261102.csv: 1,200 of 1,200 records are in progress" in str(delivery.tick(instance))
        delivery.at.work()
        assert delivery.tick(instance) == 1
    last = delivery.land()
    assert (last.status, last.err) == (0, "")
    assert f"window {WINDOW} is closed" in last.out
    file = delivery.file()
    assert (file["state"], file["kept"], file["rejected_rows"], file["reason"]) == ("landed", ROWS - 2, 3, "")
    r = library.open(delivery.folder / "recon.yaml")
    r.run()
    expected = {str(n): Decimal(f"{n}.50") for n in range(1, ROWS + 1) if str(n) not in POISON}
    assert {row["key"]: row["total"] for row in r.artifacts().to_pylist()} == expected
    assert delivery.land().out == "no new files\n"
    assert r.verify().problems == []


def test_lost_messages_are_sent_again_and_every_record_is_finished_once(delivery: Delivery) -> None:
    at = delivery.at
    assert delivery.land().status == 3
    lose_all(at, "clean")
    said = delivery.recon("dlq", "resend", "--reason", "the clean queue was purged", "--json", *delivery.config)
    assert said.json == {"reopened": 0, "stored": 0, "begun": 1, "failed": {}}
    assert at.map("clean", at.queues["clean"]) == 0
    (one, *_) = at.queues["store"].receive(1)
    at.queues["store"].delete([one])  # lost before it was stored
    while at.map("store", at.queues["store"]) >= 0:
        pass
    at.invoke("pass_on", {"Records": at.stream.take()})
    at.map("process", at.queues["process"])
    at.invoke("pass_on", {"Records": at.stream.take()})
    for name in ("store", "process", "finish"):
        lose_all(at, name)
    assert at.store.counts(delivery.name).in_progress > 0, "nothing brings them back by itself"
    said = delivery.recon("dlq", "resend", "--source", "bank", "--reason", "the queues were purged", *delivery.config)
    assert said.status == 0
    assert "stored that had not arrived" in said.out
    at.work()
    assert delivery.land().status == 0
    assert delivery.finished() == [n + 1 for n in range(1, ROWS + 1) if str(n) not in POISON]
    assert delivery.recon("dlq", "resend", "--reason", "again", *delivery.config).out == "no record is in progress\n"


def lose_all(at: Site, name: str) -> None:
    """Purges a queue, messages that are invisible too."""
    queue = at.queues[name]
    queue._client.purge_queue(QueueUrl=queue.url)


def test_the_functions_cannot_read_a_store_in_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "recon.yaml"
    path.write_text(
        RECON.replace("NAME", "orders")
        .replace("STORE", "./store")
        .replace("TABLE", "table")
        .replace("QUEUE", "https://sqs.example/1/clean")
    )
    with pytest.raises(WrongUsage, match="name a store in S3"):
        send_file(library.open(path).config, "orders/bank/ab", "a.csv", "./store/clean/a.parquet")
