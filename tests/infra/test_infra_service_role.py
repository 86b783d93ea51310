"""Runs of Dagster that carry out requests of the service have the role ``ServiceRole``, and ask for nothing else.

A run is carried out on a real S3 server and moto's SQS, by a process under the orchestrator's profile, as a task on ECS is. A
proxy before each lets IAM's rules, as CloudFormation (moto) made them of the template, judge every request by the role that signed it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import dagster as dg
import pytest
import seaweed
import service_site
from aws_template import Stack, moto_server, moto_stack
from iam import Call, why_not
from recorded_requests import ACCOUNT, REGION, Recorded, proxy
from roles_at_work import KEY, Rules
from small_reconciliation import QUIET, failures

import recon
from jobs.build import build_definitions
from recon.service.site import Service
from recon.service.submissions import Submission
from recon.storage.roles import SERVICE, STAGE_PROFILE
from recon_assets.service import requests_key

ROLES = {SERVICE: "ServiceRole", "api": "ServiceApiRole", "orchestrator": "OrchestratorRole"}
QUEUES = ("ServiceQueue", "ServiceDeadLetters")


@pytest.fixture(scope="module")
def rules() -> Rules:
    parts = {"ServiceCodeKey": "recon-service.zip", "Database": "yes"}
    with pytest.MonkeyPatch.context() as patch, moto_stack(patch, network=True, **parts) as stack:
        return Rules(stack, stack.of_bucket("StoreBucket"))


@dataclass
class Site:
    """A service in the stack's bucket and queue. ``recorded``: what was asked, by role."""

    folder: Path
    recorded: Recorded

    @property
    def service(self) -> Service:
        return recon.open(self.folder / "recon.yaml").service()


def judged(rules: Rules, who: str, call: Call) -> str | None:
    of_bucket = [rules.of_bucket] if call.action.startswith("s3:") else []
    return why_not(rules.of_key(call), rules.stack.roles[ROLES[who]], of_bucket)


@pytest.fixture
def site(rules: Rules, seaweed_server: seaweed.Seaweed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    recorded, stack, credentials = Recorded(), rules.stack, (seaweed.KEY, seaweed.SECRET)

    def judge(who: str, call: Call) -> str | None:
        return judged(rules, who, call)

    with (
        moto_server() as moto,
        proxy(seaweed_server.endpoint, "s3", judge, KEY, credentials, recorded) as s3,
        proxy(moto, "sqs", judge, KEY, credentials, recorded) as sqs,
    ):
        client = seaweed_server.client()
        if stack.ids["StoreBucket"] not in [one["Name"] for one in client.list_buckets()["Buckets"]]:
            client.create_bucket(Bucket=stack.ids["StoreBucket"])
        url = _queues(stack, moto)
        _profiles(tmp_path, monkeypatch, {"S3": s3, "SQS": sqs, "STS": moto})
        monkeypatch.setenv("AWS_PROFILE", "recon-api")
        service_site.service_in(tmp_path, queue=url, results=f"s3://{stack.ids['StoreBucket']}/service")
        yield Site(tmp_path, recorded)


def _queues(stack: Stack, moto: str) -> str:
    """The service's queues of the stack, with their names, on a server. Returns the address of the first."""
    client = boto3.client("sqs", endpoint_url=moto, region_name=REGION, aws_access_key_id="test", aws_secret_access_key="test")
    names = [stack.ids[name].rpartition("/")[2] for name in QUEUES]
    client.create_queue(QueueName=names[1])
    policy = {"deadLetterTargetArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{names[1]}", "maxReceiveCount": 3}
    return str(client.create_queue(QueueName=names[0], Attributes={"RedrivePolicy": json.dumps(policy)})["QueueUrl"])


def _profiles(folder: Path, patch: pytest.MonkeyPatch, endpoints: dict[str, str]) -> None:
    """A profile for each role, whose access key tells the proxy which one it is."""
    lines = [line for who in ROLES for line in (f"[profile recon-{who}]", f"aws_access_key_id = {who}", "aws_secret_access_key = secret")]
    (folder / "config").write_text("\n".join(lines) + "\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        patch.delenv(name, raising=False)
    patch.setenv("AWS_CONFIG_FILE", str(folder / "config"))
    patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "none"))
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    patch.setenv("AWS_DEFAULT_REGION", REGION)
    patch.setenv("AWS_REGION", REGION)
    for name, url in endpoints.items():
        patch.setenv(f"AWS_ENDPOINT_URL_{name}", url)
    patch.setattr(boto3, "DEFAULT_SESSION", None)


def _submitted(site: Site) -> Submission:
    """A request of an upload, as the function of the API takes it."""
    service = site.service
    who = service_site.holder(service)
    upload = service.uploads.add(who, "sales.csv", [b"a,b\n", b"x,1.10\n", b"x,0.05\n"])
    return service.submit(who, service_site.sums(f"upload:{upload.name}"))[0]


def _run(site: Site, patch: pytest.MonkeyPatch, one: Submission, stage_profile: str) -> dg.ExecuteInProcessResult:
    """A run of Dagster for the request, in a process of the orchestrator."""
    patch.setenv("AWS_PROFILE", "recon-orchestrator")
    patch.setenv(STAGE_PROFILE, stage_profile)
    patch.setattr(boto3, "DEFAULT_SESSION", None)
    definitions = build_definitions(site.folder / "recon.yaml")
    key = requests_key(recon.open(site.folder / "recon.yaml").config).to_python_identifier()
    config: dict[str, Any] = {**QUIET, "ops": {key: {"config": {"only": one.name}}}}
    with dg.DagsterInstance.ephemeral() as instance:
        job = definitions.resolve_job_def("orders_requests")
        return job.execute_in_process(instance=instance, run_config=config, raise_on_error=False)


def test_a_run_carries_requests_out_under_the_role_of_the_service(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    one = _submitted(site)
    assert _run(site, monkeypatch, one, "recon-{stage}").success
    monkeypatch.setenv("AWS_PROFILE", f"recon-{SERVICE}")
    done = service_site.now(site.service, one)
    assert (done.state, done.reason) == ("done", "")
    assert site.recorded.refused == []
    assert set(site.recorded.made) == {"api", SERVICE}, "the orchestrator itself asks for nothing of it"
    actions = {call.action for call in site.recorded.of(SERVICE)}
    assert {"sqs:ReceiveMessage", "sqs:DeleteMessage", "s3:GetObject", "s3:PutObject", "kms:GenerateDataKey"} <= actions
    objects = {call.resource.partition("/")[2] for call in site.recorded.of(SERVICE) if call.action in ("s3:PutObject", "s3:DeleteObject")}
    assert objects
    assert all(path.startswith("service/") for path in objects)


def test_a_machine_without_the_profile_says_so_and_the_request_stays(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    one = _submitted(site)
    result = _run(site, monkeypatch, one, "other-{stage}")
    assert not result.success
    (why,) = failures(result)
    assert why.startswith("RECON_STAGE_PROFILE: there is no profile 'other-service' in AWS's configuration")
    assert service_site.now(site.service, one).state == "received"


def test_the_orchestrator_may_not_do_what_such_a_run_does(rules: Rules) -> None:
    """Else a role of its own would separate nothing."""
    bucket = f"arn:aws:s3:::{rules.stack.ids['StoreBucket']}"
    for call in (
        *(Call(f"s3:{action}", f"{bucket}/service/results/a/b.csv") for action in ("GetObject", "PutObject", "DeleteObject")),
        *(Call(f"sqs:{action}", rules.stack.arn("ServiceQueue")) for action in ("ReceiveMessage", "DeleteMessage", "SendMessage")),
    ):
        assert judged(rules, "orchestrator", call) is not None, call
        assert judged(rules, SERVICE, call) is None, call


@pytest.mark.parametrize("path", ["timeline/000000000001.json", "events/x/files/a.csv", "stateless/a/figures.json", "landings/1"])
def test_the_service_writes_nothing_of_the_pipeline(rules: Rules, path: str) -> None:
    assert judged(rules, SERVICE, Call("s3:PutObject", rules.on(path), {"aws:SecureTransport": "true"})) is not None
    assert judged(rules, SERVICE, Call("s3:DeleteObject", rules.on(path), {"aws:SecureTransport": "true"})) is not None
