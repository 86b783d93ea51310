"""A small pipeline of which each stage is at work under its own role of infra/template.yaml, and what IAM's rules say of a call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import dagster as dg
import pytest
from aggregation_site import run as aggregated
from aws_template import Stack, template
from iam import Call, why_not
from recorded_requests import ACCOUNT, REGION, Recorded
from sensor_ticks import Sensors
from small_reconciliation import HEADER, QUIET, YAML, landed, run, window

import recon
from jobs.build import build_definitions
from recon.aggregations.runs.site import Aggregations
from recon.cli import main
from recon.errors import WrongUsage
from recon.intake.sources.reconvert import reconvert
from recon.operations.upkeep import tidy
from recon.remote import exchange
from recon.remote.emr.logs import Logs
from recon.remote.emr.steps import Steps
from recon.serving.dynamodb import client_of
from recon.serving.sync import rebuild_table
from recon.serving.workers.dispatch import WorkerDispatch
from recon.serving.workers.launchers import Handle, LambdaFunction, Processes
from recon.serving.workers.worker import Event
from recon.stages.request import StageRequest, StageResult
from recon.state.timeline import Timeline
from recon.storage.aws_calls import Pace
from recon.storage.roles import STAGE_PROFILE, role_of
from recon_assets.partitions import range_tags
from resources.emr_serverless import _remove_messages

ROLES = {
    **{name: f"{name.capitalize()}Role" for name in ("land", "reduce", "prefetch", "merge", "index", "certify", "lookup", "upkeep")},
    "aggregate": "AggregateRole",
    "orchestrator": "OrchestratorRole",
    "pipeline": "PipelineRole",
    "index-worker": "IndexWorkerRole",
    "nodes": "EmrNodeRole",
    "emr": "EmrServiceRole",
}
STAGES = ("land", "reduce", "prefetch", "merge", "index", "certify")
PARTS = {"WorkerCodeKey": "recon-index-worker.zip", "EmrCluster": "long-running"}
TLS = {"aws:SecureTransport": "true", "s3:ObjectCreationOperation": "true"}
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/of-the-stack"
HOURS = 9
"""Windows, of which the sensors take the first. One commit each: with eight runs a tier falls due."""
LAST = f"2026-11-01T{HOURS:02}:00Z"
"""The window that the command line takes: the newest but for one whose totals do not tie."""


@dataclass(frozen=True)
class Rules:
    """The stack's roles and bucket policy: what IAM would say."""

    stack: Stack
    of_bucket: dict[str, Any]

    def judge(self, who: str, call: Call) -> str | None:
        call = self.of_key(call)
        return why_not(call, self.stack.roles[ROLES[who]], [self.of_bucket] if call.action.startswith("s3:") else [])

    def of_key(self, call: Call) -> Call:
        """The call with the stack's key, if it is one of KMS."""
        if not call.action.startswith("kms:"):
            return call
        return Call(call.action, f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{self.stack.ids['Key']}", call.context)

    def on(self, path: str) -> str:
        return f"arn:aws:s3:::{self.stack.ids['StoreBucket']}/recon/{path}"


@contextmanager
def _as(who: str) -> Iterator[None]:
    """What is done in the block is done under a role's profile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_PROFILE", f"recon-{who}")
        patch.setattr(boto3, "DEFAULT_SESSION", None)
        yield


def environment(patch: pytest.MonkeyPatch, folder: Path, s3: str, dynamodb: str, others: Mapping[str, str]) -> None:
    """A profile for each role, whose access key tells the proxy which one it is."""
    lines = [line for who in ROLES for line in (f"[profile recon-{who}]", f"aws_access_key_id = {who}", "aws_secret_access_key = secret")]
    (folder / "config").write_text("\n".join(lines) + "\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        patch.delenv(name, raising=False)
    for name, value in {
        "AWS_CONFIG_FILE": str(folder / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "none"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL_S3": s3,
        "AWS_ENDPOINT_URL_DYNAMODB": dynamodb,
        **{f"AWS_ENDPOINT_URL_{name}": url for name, url in others.items()},
        "RECON_CLOUDWATCH_STACK": "recon",
        "RECON_HEARTBEAT_S": "2",  # so that leases beat under each role
        STAGE_PROFILE: "recon-{stage}",
    }.items():
        patch.setenv(name, value)


def make_table(endpoint: str, table: str) -> None:
    """The table as the template has it."""
    properties = template()["Resources"]["IndexTable"]["Properties"]
    client = boto3.client("dynamodb", endpoint_url=endpoint, region_name=REGION, aws_access_key_id="test", aws_secret_access_key="testtest")
    client.create_table(TableName=table, **{name: properties[name] for name in ("BillingMode", "AttributeDefinitions", "KeySchema")})


def whole_life(folder: Path, store: str, table: str) -> None:
    path = folder / "orders.yaml"
    text = YAML.format(name="orders").replace("store: ./orders_data", f"store: {store}")
    path.write_text(text + f"index: {{kind: dynamodb, table: {table}}}\ncaps: {{windows: 1}}\n")
    with _as("land"):
        opened = recon.open(path)
        opened.store(create=True)
        landed(opened, 0)
    with dg.DagsterInstance.ephemeral() as instance, _as("orchestrator"):
        sensors = Sensors(recon.open(path), instance)
        assert not [run for run in sensors.until_nothing_starts() if run[3] is not None]
        sensors.tick("freshness")
        _later_windows(path, instance)
        upkeep = build_definitions(path).resolve_job_def("orders_upkeep")
        assert upkeep.execute_in_process(instance=instance, run_config=QUIET).success
    _command_line(path)
    _by_workers(path)
    _upkeep_later(path)
    _look(path, folder)
    with _as("pipeline"):
        whole = recon.open(path)
        whole.rebuild()
        whole.run()
    with _as("land"):
        _delivery(path)
    _aggregate(path)


def _delivery(path: Path) -> None:
    """A sender's file with a rejected row, received again by changed rules."""
    (path.parent / "sources").mkdir()
    source, inbox = path.parent / "sources" / "shop.yaml", path.parent / "inbox"
    columns = "".join(f"  {name}: {{required: true}}\n" for name in HEADER.strip().split(","))
    text = 'files: "shop_*.csv"\nwindow: {column: event_id, format: "%Y-%m-%dT%H"}\nformat: {kind: delimited, header: true}\ncolumns:\n'
    text += columns
    source.write_text(text)
    inbox.mkdir()
    (inbox / "shop_1.csv").write_text(f"{HEADER}A,2026-11-01T15,INVOICE,1.00,EUR\n,2026-11-01T15,INVOICE,1.00,EUR\n")
    (file,) = recon.open(path).deliver(inbox).files
    assert (file.state, file.rejected_rows) == ("landed", 1)
    source.write_text(text.replace("order_id: {required: true}", "order_id: {required: true, clean: lower}"))
    assert [file.name for file in reconvert(recon.open(path).intake(), "shop").changed] == ["shop_1.csv"]


def _later_windows(path: Path, instance: dg.DagsterInstance) -> None:
    """A correction; a window that goes into quarantine, as its declared total does not tie; and all others."""
    with _as("land"):
        opened = recon.open(path)
        landed(opened, 0, "A0,e0-1,INVOICE,12.00,EUR\n", replace="file-00.csv")
        bad = path.parent / "bad.csv"
        bad.write_text(f"{HEADER}X,bad,INVOICE,1.00,EUR\n")
        opened.land([bad], window(20), close=True, expect={"rows": 7})
        for hour in range(1, HOURS):
            landed(opened, hour)
    assert run(recon.open(path), range_tags(window(0), window(HOURS - 1)), instance).success
    assert not run(recon.open(path), range_tags(window(20), window(20)), instance, "reduce").success


def _command_line(path: Path) -> None:
    """What docs/deploy.md has a person type on Dagster's machine: its own role looks, each stage takes its own."""
    with _as("land"):
        landed(recon.open(path), HOURS)
    with _as("orchestrator"):
        for command in ("doctor", f"run --to {LAST}", "replay --reason again 2026-11-01T00:00Z", f"run --to {LAST}"):
            assert main([*command.split(), "--config", str(path)]) == 0, command


def on_a_cluster(folder: Path, who: str, stack: Stack) -> None:
    """What a process at a stage asks of EMR and of its logs, as recon.remote.emr does it, with a step that fails; and of the messages
    of a job of EMR Serverless."""
    pace = Pace(first=0.01, most=0.05, patience=5, logs=0)
    messages = f"emr/messages/{who}/pipes"
    with _as("nodes"):  # which write them in a run, as part of their logs
        s3 = boto3.client("s3")
        s3.put_object(Bucket=stack.outputs["LogBucketName"], Key=f"{messages}/1.json", Body=b"{}")
    with _as(who):
        opened = recon.open(folder / "orders.yaml")
        attempt = exchange.put_request(opened.store(), opened.config, StageRequest("reduce", "2026-11-01T00:00Z", "2026-11-01T00:00Z", {}))
        with _as("nodes"):
            at = opened.config.store
            exchange.read_request(recon.open(folder / "orders.yaml").store(), at, attempt)
            exchange.put_result(recon.open(folder / "orders.yaml").store(), attempt, StageResult({}, {}))
        steps = Steps(stack.outputs["ClusterId"], pace)
        step = steps.submit("reduce of nothing", ["bash", "-c", "exit 1"])
        assert not steps.wait(step, timedelta(minutes=1)).succeeded
        steps.cancel(step)
        steps.described()
        assert Logs.of_step(f"s3://{stack.outputs['LogBucketName']}/emr/", stack.outputs["ClusterId"], step).awaited(pace) == []
        assert exchange.read_result(opened.store(), attempt) is not None
        exchange.remove(opened.store(), attempt)
        _remove_messages(stack.outputs["LogBucketName"], messages)


def of_the_table(path: Path, who: str, stack: Stack) -> None:
    """A worker is invoked, which moto has not; and a table that nobody reads any more is removed."""
    event = Event("s3://ledger/recon", stack.outputs["Table"], 1, "a", "0" * 16)
    with _as(who):
        opened = recon.open(path)
        with suppress(WrongUsage):
            LambdaFunction(stack.outputs["WorkerFunction"]).start(event)
        client_of(opened.store(), opened.config).delete(f"{stack.outputs['Table']}-0123456789abcdef")


def in_the_name_of(rules: Rules, recorded: Recorded) -> None:
    """What services of AWS ask for with a role that they were given, as their documentation says: none of it is asked by code of ours. And
    what a delivery asks of the intake's queue, which has no server here."""
    logs, code = rules.stack.outputs["LogBucketName"], rules.stack.outputs["CodeBucketName"]
    ec2 = f"arn:aws:ec2:{REGION}:{ACCOUNT}"
    table = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{rules.stack.ids['IndexTable']}"
    for who, call in (
        *(
            ("land", Call(f"sqs:{one}", rules.stack.arn("IntakeQueue")))
            for one in ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes")
        ),
        ("orchestrator", Call("sqs:GetQueueAttributes", rules.stack.arn("IntakeQueue"))),
        *(
            (who, call)
            for who in ("index", "upkeep", "pipeline")
            for call in (
                Call("dynamodb:ImportTable", f"{table}-0123456789abcdef"),
                Call("dynamodb:DescribeImport", f"{table}-0123456789abcdef/import/01234"),
                Call("cloudwatch:DescribeAlarmsForMetric", f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:*"),
                Call("cloudwatch:PutMetricAlarm", f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:recon-TableWriteThrottlesAlarm-1-0123"),
                Call("logs:CreateLogGroup", f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws-dynamodb/imports"),
            )
        ),
        ("index-worker", Call("logs:PutLogEvents", rules.stack.arn("IndexWorkerLogs"))),
        ("index-worker", Call("sqs:SendMessage", rules.stack.arn("WorkerDeadLetters"))),
        ("index-worker", Call("kms:Decrypt", KEY, {"kms:ViaService": f"lambda.{REGION}.amazonaws.com"})),
        ("nodes", Call("s3:GetObject", f"arn:aws:s3:::{code}/spark/emr-bootstrap.sh", TLS)),
        ("nodes", Call("s3:ListBucket", f"arn:aws:s3:::{code}", TLS)),
        ("nodes", Call("s3:PutObject", f"arn:aws:s3:::{logs}/emr/j-1/steps/s-1/stderr.gz", TLS)),
        ("nodes", Call("s3:ListBucket", f"arn:aws:s3:::{logs}", {**TLS, "s3:prefix": "emr/j-1/"})),
        ("nodes", Call("kms:Decrypt", KEY)),
        ("emr", Call("ec2:RunInstances", f"{ec2}:subnet/subnet-1", {"ec2:Vpc": f"{ec2}:vpc/{rules.stack.vpc}"})),
        ("emr", Call("ec2:CreateSecurityGroup", f"{ec2}:vpc/{rules.stack.vpc}")),
        ("emr", Call("iam:PassRole", rules.stack.arn("EmrNodeRole"), {"iam:PassedToService": "ec2.amazonaws.com"})),
        ("emr", Call("kms:CreateGrant", KEY)),
    ):
        recorded.add(who, call)
        if (why := rules.judge(who, call)) is not None:
            recorded.refused.append(f"{who}: {why}")


class Beating(Processes):
    """Workers that beat after each update, so that there are beats to be removed at the end."""

    def start(self, event: Event) -> Handle:
        return super().start(replace(event, beat_s=0.001))


def _by_workers(path: Path) -> None:
    """A new table, filled by a worker in a process of its own, as a Lambda fills it."""
    with role_of("index"):
        opened = recon.open(path)
        store, tables = opened.store(), client_of(opened.store(), opened.config)
        workers = WorkerDispatch(store, opened.config, tables, launcher=Beating(more={"AWS_PROFILE": "recon-index-worker"}))
        assert rebuild_table(store, opened.config, Timeline(store), tables, workers).filled


def _upkeep_later(path: Path) -> None:
    """Compaction, whether due or not, and two sweeps, the second of which removes what the first has seen."""
    with role_of("upkeep"):
        opened = recon.open(path)
        opened.compact(always=True)
        store, later = opened.store(), datetime.now(UTC) + timedelta(days=3)
        for days in range(2):
            tidy(store, opened.config, Timeline(store).head(), later + timedelta(days=days))


def _aggregate(path: Path) -> None:
    """The received file of a source, aggregated into a DuckDB file."""
    (path.parent / "aggregations").mkdir()
    text = 'source: shop\nkeys: order_id\nmeasures: {lines: {count: "*"}}\ntarget: daily\n'
    (path.parent / "aggregations" / "daily.yaml").write_text(text)
    with role_of("aggregate"):
        _, (done,) = aggregated(Aggregations(recon.open(path).intake("test")))
        assert done.state == "completed", done.reason


def _look(path: Path, folder: Path) -> None:
    with _as("lookup"):
        reader = recon.open(path)
        reader.show("B", events=True)
        reader.show("B", index="dynamodb")
        reader.status()
        reader.status(window(1))
        reader.breaks()
        reader.rejects()
        reader.certificate(window(0))
        reader.export(folder / "all.csv")
        reader.bounds()
        assert reader.verify(full=True).ok
