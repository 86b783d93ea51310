"""What each stage asks of AWS is allowed by its role in infra/template.yaml, and nothing of another stage's.

A small pipeline runs on a real S3 server and DynamoDB Local, each stage under its role's profile, through a proxy that lets IAM's rules
judge every request before it passes. The policies are those that CloudFormation (moto) made of the template.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import dagster as dg
import pytest
import seaweed
from aws_template import Stack, moto_server, moto_stack, template
from dynamodb_local import CREDENTIALS, dynamodb_local
from emr_server import EmrCluster, emr_server
from iam import Call, matches, why_not
from recorded_requests import ACCOUNT, REGION, Judge, Recorded, proxy
from sensor_ticks import Sensors
from small_reconciliation import HEADER, QUIET, YAML, landed, run, window

import recon
from jobs.build import build_definitions
from recon.cli import main
from recon.errors import WrongUsage
from recon.operations.upkeep import tidy
from recon.remote import exchange
from recon.remote.emr.calls import Pace
from recon.remote.emr.logs import Logs
from recon.remote.emr.steps import Steps
from recon.serving.dynamodb import client_of
from recon.serving.sync import rebuild_table
from recon.serving.workers.dispatch import WorkerDispatch
from recon.serving.workers.launchers import Handle, LambdaFunction, Processes
from recon.serving.workers.worker import Event
from recon.stages.request import StageRequest, StageResult
from recon.state.timeline import Timeline
from recon.storage.roles import STAGE_PROFILE, role_of
from recon_assets.partitions import range_tags
from resources.emr_serverless import _remove_messages

ROLES = {
    **{name: f"{name.capitalize()}Role" for name in ("land", "reduce", "prefetch", "merge", "index", "certify", "lookup", "upkeep")},
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


@pytest.fixture(scope="module")
def rules() -> Rules:
    with pytest.MonkeyPatch.context() as patch, moto_stack(patch, network=True, **PARTS) as stack:
        return Rules(stack, stack.of_bucket("StoreBucket"))


@contextmanager
def _as(who: str) -> Iterator[None]:
    """What is done in the block is done under a role's profile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_PROFILE", f"recon-{who}")
        patch.setattr(boto3, "DEFAULT_SESSION", None)
        yield


@pytest.fixture(scope="module")
def recorded(rules: Rules, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    """Every stage done once at least, with corrections, a bad file, compaction, sweeping, a rebuild, look-ups."""
    folder, found = tmp_path_factory.mktemp("roles"), Recorded()
    judge: Judge = rules.judge
    with (
        seaweed.server() as s3,
        dynamodb_local(folder) as dynamodb,
        proxy(s3.endpoint, "s3", judge, KEY, (seaweed.KEY, seaweed.SECRET), found) as s3_proxy,
        proxy(dynamodb, "dynamodb", judge, KEY, tuple(CREDENTIALS.values()), found) as dynamodb_proxy,
        moto_server() as moto,
        proxy(moto, "lambda", judge, KEY, (seaweed.KEY, seaweed.SECRET), found) as lambda_proxy,
        proxy(moto, "monitoring", judge, KEY, (seaweed.KEY, seaweed.SECRET), found) as cloudwatch_proxy,
        emr_server(folder / "emr", {"PATH": "/usr/bin:/bin"}) as emr,
        proxy(emr.url, "elasticmapreduce", judge, KEY, (seaweed.KEY, seaweed.SECRET), found) as emr_proxy,
        pytest.MonkeyPatch.context() as patch,
    ):
        others = {"STS": moto, "LAMBDA": lambda_proxy, "CLOUDWATCH": cloudwatch_proxy, "EMR": emr_proxy}
        _environment(patch, folder, s3_proxy, dynamodb_proxy, others)
        bucket, table = rules.stack.ids["StoreBucket"], rules.stack.ids["IndexTable"]
        logs = rules.stack.outputs["LogBucketName"]
        for name in (bucket, logs):
            s3.client().create_bucket(Bucket=name)
        _make_table(dynamodb, table)
        _whole_life(folder, f"s3://{bucket}/recon", table)
        emr.clusters[rules.stack.outputs["ClusterId"]] = EmrCluster(rules.stack.outputs["ClusterId"], {}, 10, f"s3://{logs}/emr/")
        for who in ("reduce", "prefetch", "merge", "pipeline"):
            _on_a_cluster(folder, who, rules.stack)
        for who in ("index", "upkeep", "pipeline"):
            _of_the_table(folder / "orders.yaml", who, rules.stack)
        _in_the_name_of(rules, found)
        yield found


def _environment(patch: pytest.MonkeyPatch, folder: Path, s3: str, dynamodb: str, others: Mapping[str, str]) -> None:
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


def _make_table(endpoint: str, table: str) -> None:
    """The table as the template has it."""
    properties = template()["Resources"]["IndexTable"]["Properties"]
    client = boto3.client("dynamodb", endpoint_url=endpoint, region_name=REGION, aws_access_key_id="test", aws_secret_access_key="testtest")
    client.create_table(TableName=table, **{name: properties[name] for name in ("BillingMode", "AttributeDefinitions", "KeySchema")})


def _whole_life(folder: Path, store: str, table: str) -> None:
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


def _on_a_cluster(folder: Path, who: str, stack: Stack) -> None:
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


def _of_the_table(path: Path, who: str, stack: Stack) -> None:
    """A worker is invoked, which moto has not; and a table that nobody reads any more is removed."""
    event = Event("s3://ledger/recon", stack.outputs["Table"], 1, "a", "0" * 16)
    with _as(who):
        opened = recon.open(path)
        with suppress(WrongUsage):
            LambdaFunction(stack.outputs["WorkerFunction"]).start(event)
        client_of(opened.store(), opened.config).delete(f"{stack.outputs['Table']}-0123456789abcdef")


def _in_the_name_of(rules: Rules, recorded: Recorded) -> None:
    """What services of AWS ask for with a role that they were given, as their documentation says: none of it is asked by code of ours."""
    logs, code = rules.stack.outputs["LogBucketName"], rules.stack.outputs["CodeBucketName"]
    ec2 = f"arn:aws:ec2:{REGION}:{ACCOUNT}"
    for who, call in (
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


def test_each_stage_asks_for_nothing_that_its_role_does_not_allow(recorded: Recorded) -> None:
    assert sorted(set(recorded.refused)) == []


def test_each_stage_was_at_work_under_its_own_role(recorded: Recorded) -> None:
    assert set(recorded.made) == set(ROLES)


def test_the_scenario_reaches_what_the_rules_are_about(recorded: Recorded) -> None:
    """Else nothing refused would say nothing."""
    done = {who: {(call.action, _folder(call)) for call in calls.values()} for who, calls in recorded.made.items()}
    assert ("s3:DeleteObject", "state") in done["upkeep"]
    assert ("s3:DeleteObject", "prefetched") in done["merge"]
    assert ("s3:PutObject", "quarantine") in done["reduce"]
    assert {("s3:PutObject", "timeline"), ("s3:PutObject", "state"), ("dynamodb:UpdateItem", "table")} <= done["index"]
    assert ("dynamodb:BatchWriteItem", "table") in done["index"]
    assert {("dynamodb:UpdateItem", "table"), ("s3:PutObject", "shares"), ("s3:GetObject", "state")} <= done["index-worker"]
    assert ("dynamodb:GetItem", "table") in done["lookup"]
    assert ("dynamodb:CreateTable", "table") in done["pipeline"] | done["upkeep"] | done["index"]
    assert ("kms:GenerateDataKey", "key") in done["reduce"]
    assert any("s3:prefix" not in call.context for call in recorded.of("merge") if call.action == "s3:ListBucket")  # of a 404


def _folder(call: Call) -> str:
    """The first folder below the store's prefix; of another bucket ``elsewhere``; ``table``, ``key`` or the service's name of others."""
    kind = call.action.partition(":")[0]
    if kind != "s3":
        return {"dynamodb": "table", "kms": "key"}.get(kind, kind)
    if not _of_the_store(call):
        return "elsewhere"
    return [*call.resource.split("/", 2), "", ""][2].partition("/")[0]


def test_every_statement_of_every_role_is_judged_by_a_call_that_was_made(rules: Rules, recorded: Recorded) -> None:
    """By a call of some role that has the statement. The nodes of a cluster do what the stages of the engine do."""
    assert set(rules.stack.roles) == set(ROLES.values())
    judged: dict[str, bool] = {}
    for who, role in ROLES.items():
        doing = ("nodes", "reduce", "prefetch", "merge") if who == "nodes" else (who,)
        calls = [rules.of_key(call) for one in doing for call in recorded.of(one)]
        for policy in rules.stack.roles[role]:
            for statement in policy["Statement"]:
                name = f"{statement['Sid']} {json.dumps(statement, sort_keys=True)}"
                judged[name] = judged.get(name, False) or matches(statement, calls)
    assert [name for name, done in judged.items() if not done] == []


def _of_the_store(call: Call) -> bool:
    return call.resource.startswith("arn:aws:s3:::recon-storebucket-")


ALSO = {
    # What a stage may change without having done so here: Spark's pieces, orders of things that only now and then happen.
    "land": {"leases", "frontiers", "clock", "corrections"},
    "reduce": {"state", "stateless"},
    "prefetch": {"state", "cache"},
    "merge": {"quarantine", "state"},
    "index": {"shares", "leases", "frontiers"},
    "certify": {"frontiers"},
    "upkeep": {
        "certificates",
        "clock",
        "frontiers",
        "generations",
        "landings",
        "leases",
        "prefetched",
        "serving",
        "shares",
        "stateless",
        "state",
        "timeline",
        "steps",
    },
    "orchestrator": {"clock", "events", "landings", "frontiers", "leases"},
}
"""Role → folders in which it may put or delete besides those where it did."""
FOLDERS = (
    *("cache", "certificates", "clock", "corrections", "events", "frontiers", "generations", "indexed", "landings", "leases"),
    *("prefetched", "quarantine", "rules", "serving", "shares", "state", "stateless", "steps", "timeline"),
)


@pytest.mark.parametrize("who", [*STAGES, "index-worker", "upkeep", "orchestrator", "lookup"])
def test_what_one_stage_may_change_is_denied_to_the_others(rules: Rules, recorded: Recorded, who: str) -> None:
    """The same puts and deletes that were recorded, asked by a role that did none of that kind in their folder."""
    own = {(call.action, _folder(call)) for call in recorded.of(who)}
    wrong = []
    for call in _changes(recorded):
        folder = _folder(call)
        if (call.action, folder) not in own and folder not in ALSO.get(who, set()) and rules.judge(who, call) is None:
            wrong.append(f"{who} is allowed {call}")
    assert wrong == []


def _changes(recorded: Recorded) -> list[Call]:
    made = [one for calls in recorded.made.values() for one in calls.values() if one.action in ("s3:PutObject", "s3:DeleteObject")]
    return [one for one in made if _of_the_store(one)]


@pytest.mark.parametrize("who", sorted(ROLES))
def test_no_role_changes_a_folder_that_the_store_does_not_have(rules: Rules, who: str) -> None:
    for action in ("s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion"):
        if who == "pipeline" and action == "s3:PutObject":
            continue  # it may put anything below its prefix
        assert rules.judge(who, _put(rules, "elsewhere/x", action)) is not None
        assert rules.judge(who, _put(rules, "../orders/timeline/x", action)) is not None


REFUSED = [
    ("reduce", "s3:PutObject", "timeline/000000000001.json"),
    ("reduce", "s3:PutObject", "state/0123456789abcdef/part-0000.words"),
    ("reduce", "s3:DeleteObject", "stateless/2026-11-01T0000Z/000001-a-b/figures.json"),
    ("merge", "s3:DeleteObject", "stateless/2026-11-01T0000Z/000001-a-b/figures.json"),
    ("reduce", "s3:PutObject", "events/2026-11-01T0000Z/manifests/000002.json"),
    ("prefetch", "s3:PutObject", "state/0123456789abcdef/part-0000.words"),
    ("prefetch", "s3:PutObject", "timeline/000000000001.json"),
    ("merge", "s3:DeleteObject", "events/2026-11-01T0000Z/files/a-b/file.csv"),
    ("merge", "s3:DeleteObject", "state/0123456789abcdef/part-0000.words"),
    ("merge", "s3:DeleteObject", "state/0123456789abcdef/merge.run"),
    ("merge", "s3:PutObject", "certificates/2026-11-01T0000Z/000001.json"),
    ("merge", "s3:PutObject", "stateless/2026-11-01T0000Z/000001-a-b/figures.json"),
    ("index", "s3:DeleteObject", "state/0123456789abcdef/tier.run"),
    ("index", "s3:PutObject", "stateless/2026-11-01T0000Z/000001-a-b/figures.json"),
    ("certify", "s3:PutObject", "timeline/000000000001.json"),
    ("certify", "s3:DeleteObject", "certificates/2026-11-01T0000Z/000001.json"),
    ("land", "s3:PutObject", "stateless/2026-11-01T0000Z/000001-a-b/figures.json"),
    ("land", "s3:GetObject", "state/0123456789abcdef/part-0000.words"),
    ("orchestrator", "s3:PutObject", "timeline/000000000001.json"),
    ("orchestrator", "s3:GetObject", "events/2026-11-01T0000Z/files/a-b/file.csv"),
    ("orchestrator", "s3:GetObject", "state/0123456789abcdef/part-0000.words"),
    ("lookup", "s3:PutObject", "frontiers/landed/000000000001.json"),
    ("index-worker", "s3:PutObject", "state/0123456789abcdef/part-0000.words"),
    ("index-worker", "s3:PutObject", "timeline/000000000001.json"),
    ("index-worker", "s3:GetObject", "events/2026-11-01T0000Z/files/a-b/file.csv"),
    ("nodes", "s3:PutObject", "certificates/2026-11-01T0000Z/000001.json"),
    ("nodes", "s3:DeleteObject", "state/0123456789abcdef/part-0000.words"),
    ("nodes", "s3:PutObject", "events/2026-11-01T0000Z/manifests/000002.json"),
    *[(who, "s3:DeleteObject", "timeline/000000000001.json") for who in ROLES],
    *[(who, "s3:DeleteObject", "certificates/2026-11-01T0000Z/000001.json") for who in ROLES],
    *[(who, "s3:DeleteObject", "events/2026-11-01T0000Z/manifests/000001.json") for who in ROLES],
    *[(who, "s3:DeleteObjectVersion", "state/0123456789abcdef/part-0000.words") for who in ROLES],
]


@pytest.mark.parametrize(("who", "action", "path"), REFUSED)
def test_refused(rules: Rules, who: str, action: str, path: str) -> None:
    assert rules.judge(who, _put(rules, path, action)) is not None


def _put(rules: Rules, path: str, action: str = "s3:PutObject", condition: str | None = "*") -> Call:
    """As the store asks: whole, and only if there is nothing of that name."""
    of_put = {"s3:ObjectCreationOperation": "true", **({"s3:if-none-match": condition} if condition else {})}
    return Call(action, rules.on(path), {"aws:SecureTransport": "true", **(of_put if action == "s3:PutObject" else {})})


@pytest.mark.parametrize(
    ("who", "path"), [("merge", "timeline/000000000001.json"), ("certify", "certificates/2026-11-01T0000Z/000001.json")]
)
def test_history_is_put_only_where_nothing_stands(rules: Rules, who: str, path: str) -> None:
    assert rules.judge(who, _put(rules, path)) is None
    assert "HistoryIsNeverOverwritten" in str(rules.judge(who, _put(rules, path, condition=None)))


def test_nothing_passes_without_tls(rules: Rules, recorded: Recorded) -> None:
    for who in ROLES:
        for call in recorded.of(who):
            if call.action.startswith("s3:") and _of_the_store(call):
                plain = Call(call.action, call.resource, {**call.context, "aws:SecureTransport": "false"})
                assert "OnlyByTls" in str(rules.judge(who, plain))


def test_the_tables_of_others_and_the_stacks_own_are_safe(rules: Rules) -> None:
    table = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{rules.stack.ids['IndexTable']}"
    assert rules.judge("index", Call("dynamodb:DeleteTable", f"{table}-0123456789abcdef")) is None
    for who in ROLES:
        assert rules.judge(who, Call("dynamodb:DeleteTable", table)) is not None
        for action in ("UpdateItem", "CreateTable", "GetItem"):
            assert rules.judge(who, Call(f"dynamodb:{action}", f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/another")) is not None
    for who in ("land", "reduce", "prefetch", "merge", "certify", "orchestrator"):
        assert rules.judge(who, Call("dynamodb:UpdateItem", table)) is not None
    assert rules.judge("lookup", Call("dynamodb:UpdateItem", table)) is not None


def test_only_those_who_keep_the_index_start_workers(rules: Rules) -> None:
    invoke = Call("lambda:InvokeFunction", f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{rules.stack.outputs['WorkerFunction']}")
    assert {who for who in ROLES if rules.judge(who, invoke) is None} == {"index", "upkeep", "pipeline"}


def test_the_nodes_of_a_cluster_may_do_what_the_engines_stages_did(rules: Rules, recorded: Recorded) -> None:
    """A step is one of these stages, carried out there: all but what the process does that submits it, which has the lease, too."""
    for who in ("reduce", "prefetch", "merge"):
        done = [call for call in recorded.of(who) if _of_the_store(call) and not re.search("/leases/|/steps/", str(call))]
        refused = [why for call in done if (why := rules.judge("nodes", call))]
        assert refused == []
    assert rules.judge("nodes", _put(rules, "steps/0123456789abcdef/answer.json")) is None
    assert (
        rules.judge("nodes", Call("s3:GetObject", rules.on("steps/0123456789abcdef/asked.json"), {"aws:SecureTransport": "true"})) is None
    )


@pytest.mark.parametrize("who", ["reduce", "prefetch", "merge", "pipeline"])
def test_who_is_at_a_stage_of_the_engine_may_submit_it(rules: Rules, who: str) -> None:
    cluster = f"arn:aws:elasticmapreduce:{REGION}:{ACCOUNT}:cluster/{rules.stack.outputs['ClusterId']}"
    for action in ("AddJobFlowSteps", "DescribeStep", "ListSteps", "CancelSteps", "DescribeCluster"):
        assert rules.judge(who, Call(f"elasticmapreduce:{action}", cluster)) is None
        assert rules.judge(who, Call(f"elasticmapreduce:{action}", cluster + "X")) is not None
        assert rules.judge("certify", Call(f"elasticmapreduce:{action}", cluster)) is not None
    assert rules.judge(who, Call("elasticmapreduce:TerminateJobFlows", cluster)) is not None
    assert rules.judge(who, _put(rules, "steps/0123456789abcdef/asked.json")) is None


def test_keys_are_used_through_s3_only(rules: Rules) -> None:
    through = Call("kms:Decrypt", KEY, {"kms:ViaService": f"s3.{REGION}.amazonaws.com"})
    assert rules.judge("reduce", through) is None
    assert rules.judge("reduce", Call("kms:Decrypt", KEY)) is not None
    assert rules.judge("reduce", Call("kms:ScheduleKeyDeletion", KEY, dict(through.context))) is not None


def test_a_stage_has_its_profile_only_while_it_is_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", STAGE_PROFILE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_PROFILE", "whoever")
    with role_of("reduce"):
        assert os.environ["AWS_PROFILE"] == "whoever"  # nothing is asked for
    monkeypatch.setenv(STAGE_PROFILE, "recon-{stage}")
    asked = []

    def fails() -> None:
        with role_of("reduce"):
            asked.append(os.environ["AWS_PROFILE"])
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert asked == ["recon-reduce"]
    assert os.environ["AWS_PROFILE"] == "whoever"


def test_a_profile_that_would_have_no_effect_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STAGE_PROFILE, "recon")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    with pytest.raises(WrongUsage, match="the same for all stages"), role_of("reduce"):
        pass
    monkeypatch.setenv(STAGE_PROFILE, "recon-{stage}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA")
    with pytest.raises(WrongUsage, match="overrides any profile"), role_of("reduce"):
        pass
