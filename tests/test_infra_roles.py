"""What each stage asks of AWS is allowed by its role in infra/template.yaml, and nothing of another stage's.

A small pipeline runs on a real S3 server and DynamoDB Local, each stage under its role's profile, through a proxy that lets IAM's rules judge
every request before it passes. What they are is what CloudFormation (moto) made of the template.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import dagster as dg
import pytest
import seaweed
from dagster_store import QUIET, YAML, landed, window
from dynamodb_local import CREDENTIALS, dynamodb_local
from iam import Call, why_not
from recording import ACCOUNT, REGION, Judge, Recorded, proxy
from stack import Stack, moto_stack, template
from test_dagster_sensor import Sensors

import recon
from jobs.build import build_definitions
from recon.api import Reconciliation
from recon.errors import WrongUsage
from recon.timeline import Timeline
from recon.upkeep import tidy
from resources.roles import STAGE_PROFILE, role_of

ROLES = {
    **{name: f"{name.capitalize()}Role" for name in ("land", "reduce", "prefetch", "merge", "index", "certify", "lookup", "upkeep")},
    "orchestrator": "OrchestratorRole",
    "pipeline": "PipelineRole",
}
STAGES = ("land", "reduce", "prefetch", "merge", "index", "certify")
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/of-the-stack"
HOURS = 3


@dataclass(frozen=True)
class Rules:
    """The stack's roles and bucket policy: what IAM would say."""

    stack: Stack
    of_bucket: dict[str, Any]

    def judge(self, who: str, call: Call) -> str | None:
        if call.action.startswith("kms:"):
            call = Call(call.action, f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{self.stack.ids['Key']}", call.context)
        return why_not(call, self.stack.roles[ROLES[who]], [self.of_bucket] if call.action.startswith("s3:") else [])

    def on(self, path: str) -> str:
        return f"arn:aws:s3:::{self.stack.ids['StoreBucket']}/recon/{path}"


@pytest.fixture(scope="module")
def rules() -> Iterator[Rules]:
    with pytest.MonkeyPatch.context() as patch, moto_stack(patch) as stack:
        found = Rules(stack, stack.of_bucket("StoreBucket"))
    yield found


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
        pytest.MonkeyPatch.context() as patch,
    ):
        _environment(patch, folder, s3_proxy, dynamodb_proxy)
        bucket, table = rules.stack.ids["StoreBucket"], rules.stack.ids["IndexTable"]
        s3.client().create_bucket(Bucket=bucket)
        _make_table(dynamodb, table)
        _whole_life(folder, f"s3://{bucket}/recon", table)
        yield found


def _environment(patch: pytest.MonkeyPatch, folder: Path, s3: str, dynamodb: str) -> None:
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
        STAGE_PROFILE: "recon-{stage}",
    }.items():
        patch.setenv(name, value)


def _make_table(endpoint: str, table: str) -> None:
    """The table as the template has it."""
    properties = template()["Resources"]["IndexTable"]["Properties"]
    client = boto3.client("dynamodb", endpoint_url=endpoint, region_name=REGION, aws_access_key_id="test", aws_secret_access_key="testtest")
    client.create_table(TableName=table, **{name: properties[name] for name in ("BillingMode", "AttributeDefinitions", "KeySchema")})


def _whole_life(folder: Path, store: str, table: str) -> None:
    text = YAML.format(name="orders").replace("store: ./orders_data", f"store: {store}")
    path = folder / "orders.yaml"
    path.write_text(text + f"index: {{kind: dynamodb, table: {table}}}\nretention: {{grace: 1d}}\n")
    with _as("land"):
        opened = recon.open(path)
        opened.store(create=True)
        for hour in range(HOURS):
            landed(opened, hour)
    with dg.DagsterInstance.ephemeral() as instance, _as("orchestrator"):
        sensors = Sensors(opened, instance)
        _through(sensors)
        for hour in range(HOURS, HOURS + 4):  # one commit each, so that tiers of runs fall due
            with _as("land"):
                _landed_more(path, hour)
            _through(sensors)
        sensors.tick("freshness")
        upkeep = build_definitions(path).resolve_job_def("orders_upkeep")
        assert upkeep.execute_in_process(instance=instance, run_config=QUIET).success
    _upkeep_later(path)
    _look(path, folder)
    with _as("pipeline"):
        whole = recon.open(path)
        whole.rebuild()
        whole.run()


def _landed_more(path: Path, hour: int) -> None:
    opened = recon.open(path)
    if hour == HOURS:
        landed(opened, 0, "A0,e0-1,INVOICE,12.00,EUR\n", replace="file-00.csv")
    if hour == HOURS + 1:  # its declared total does not tie: it goes into quarantine
        file = path.parent / "bad.csv"
        file.write_text("order_id,event_id,event_type,amount,currency\nX,bad,INVOICE,1.00,EUR\n")
        opened.land([file], window(20), close=True, expect={"rows": 7})
    landed(opened, hour)


def _through(sensors: Sensors) -> None:
    failed = [run for run in sensors.until_nothing_starts() if run[3] is not None and run[1] != window(20)]
    assert not failed, failed


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
        reader.status()
        reader.status(window(1))
        reader.breaks()
        reader.rejects()
        reader.certificate(window(0))
        reader.export(folder / "all.csv")
        reader.bounds()
        assert not reader.verify(full=True).problems


def test_each_stage_asks_for_nothing_that_its_role_does_not_allow(recorded: Recorded) -> None:
    assert sorted(set(recorded.refused)) == []


def test_each_stage_was_at_work_under_its_own_role(recorded: Recorded) -> None:
    assert set(recorded.made) == set(ROLES)
