"""What a run asks of EMR where it starts clusters of its own, and of EMR Serverless: allowed by the roles, and all that the policies
say.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import boto3
import pytest
from aws_template import Stack, moto_stack
from emr_server import emr_server
from iam import Call, matches, why_not
from recorded_requests import ACCOUNT, REGION, Recorded, proxy

from recon.config.settings import Engine, Fleet, Fleets, Transient
from recon.remote.emr import transient
from recon.remote.emr.steps import Steps
from recon.storage.aws_calls import Pace, client

PACE = Pace(first=0.01, most=0.05, patience=5, logs=0)
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/of-the-stack"
FLEET = Fleet(types=("m7g.xlarge",), on_demand=1)
SUBMITTING = ("ReduceRole", "PrefetchRole", "MergeRole", "AggregateRole", "PipelineRole")


@contextmanager
def asked_of_emr(folder: Path, stack: Stack, role: str) -> Iterator[Recorded]:
    """In the block EMR and EMR Serverless are a stand-in, before which the role's policies judge each request."""
    found, submit = Recorded(), folder / "bin" / "spark-submit"
    submit.parent.mkdir()
    submit.write_text("#!/bin/sh\n")
    submit.chmod(0o755)
    with emr_server(folder / role, {"PATH": f"{submit.parent}:/usr/bin:/bin"}) as emr, pytest.MonkeyPatch.context() as patch:

        def judge(who: str, call: Call) -> str | None:
            return why_not(call, stack.roles[role])

        credentials = ("test", "testtest")
        with (
            proxy(emr.url, "elasticmapreduce", judge, KEY, credentials, found) as clusters,
            proxy(emr.url, "emr-serverless", judge, KEY, credentials, found) as jobs,
        ):
            for name, value in {
                "AWS_ENDPOINT_URL_EMR": clusters,
                "AWS_ENDPOINT_URL_EMR_SERVERLESS": jobs,
                "AWS_ACCESS_KEY_ID": role,
                "AWS_SECRET_ACCESS_KEY": "secret",
                "AWS_REGION": REGION,
                "AWS_DEFAULT_REGION": REGION,
            }.items():
                patch.setenv(name, value)
            patch.delenv("AWS_PROFILE", raising=False)
            patch.setattr(boto3, "DEFAULT_SESSION", None)
            yield found


def not_judged(stack: Stack, policy: str, role: str, calls: list[Call]) -> list[str]:
    """Names of the policy's statements, as the role has them, that are about none of the calls."""
    (document,) = [one for one in stack.roles[role] if {s["Sid"] for s in one["Statement"]} == stack.sids(policy)]
    return [str(one["Sid"]) for one in document["Statement"] if not matches(one, calls)]


@pytest.fixture(scope="module")
def stack() -> Stack:
    with pytest.MonkeyPatch.context() as patch, moto_stack(patch, network=True, EmrCluster="transient", EmrServerless="yes") as made:
        return made


@pytest.mark.parametrize("role", SUBMITTING)
def test_a_stage_may_start_a_cluster_of_its_own_give_it_steps_and_end_it(stack: Stack, role: str, tmp_path: Path) -> None:
    service, node = stack.outputs["EmrServiceRoleName"], stack.outputs["EmrNodeProfileName"]
    settings = Transient(
        release="emr-spark-8.0.0",
        fleets=Fleets(primary=FLEET, core=FLEET),
        service_role=service,
        instance_profile=node,
        subnets=("subnet-1",),
        idle=timedelta(minutes=10),
        steps_at_once=4,
        tags={"for-use-with-amazon-emr-managed-policies": "true"},
    )
    with asked_of_emr(tmp_path, stack, role) as recorded:
        engine = Engine(kind="emr", package="/p", transient=settings)
        cluster = transient.start("recon orders", engine, settings)
        steps = Steps(cluster, PACE)
        step = steps.submit("reduce of nothing", ["true"])
        assert steps.wait(step, timedelta(minutes=1)).succeeded
        steps.cancel(step)
        assert transient.alive(cluster, PACE)
        transient.end(cluster, PACE)
    assert recorded.refused == []
    passed = [  # what EMR asks in the name of who starts a cluster
        Call("iam:PassRole", stack.arn("EmrServiceRole"), {"iam:PassedToService": "elasticmapreduce.amazonaws.com"}),
        Call("iam:PassRole", stack.arn("EmrNodeRole"), {"iam:PassedToService": "ec2.amazonaws.com"}),
    ]
    assert [why for call in passed if (why := why_not(call, stack.roles[role]))] == []
    assert not_judged(stack, "StartClustersPolicy", role, [*recorded.of(role), *passed]) == []


def test_clusters_of_others_are_not_touched(stack: Stack) -> None:
    cluster = f"arn:aws:elasticmapreduce:{REGION}:{ACCOUNT}:cluster/j-OTHER"
    for action in ("AddJobFlowSteps", "TerminateJobFlows", "DescribeCluster"):
        assert why_not(Call(f"elasticmapreduce:{action}", cluster), stack.roles["MergeRole"]) is not None


@pytest.mark.parametrize("role", SUBMITTING)
def test_a_stage_may_start_watch_and_cancel_jobs(stack: Stack, role: str, tmp_path: Path) -> None:
    application = stack.outputs["ServerlessApplicationId"]
    with asked_of_emr(tmp_path, stack, role) as recorded:
        jobs = client("emr-serverless")
        driver = {"sparkSubmit": {"entryPoint": "/usr/bin/true", "entryPointArguments": [], "sparkSubmitParameters": "--conf a=b"}}
        how = {"clientToken": "a", "name": "recon orders", "executionTimeoutMinutes": 5, "tags": {"recon": "orders"}}
        started = jobs.start_job_run(applicationId=application, executionRoleArn=stack.arn("EngineRole"), jobDriver=driver, **how)
        jobs.get_job_run(applicationId=application, jobRunId=started["jobRunId"])
        jobs.list_job_runs(applicationId=application)
        jobs.cancel_job_run(applicationId=application, jobRunId=started["jobRunId"])
    assert recorded.refused == []
    passed = Call("iam:PassRole", stack.arn("EngineRole"), {"iam:PassedToService": "emr-serverless.amazonaws.com"})
    assert why_not(passed, stack.roles[role]) is None
    assert not_judged(stack, "StartJobsPolicy", role, [*recorded.of(role), passed]) == []


def test_a_job_may_do_what_a_node_of_a_cluster_may(stack: Stack) -> None:
    """Which is judged by what the stages ask, see test_infra_roles. Only the policies for disks differ, which jobs have not."""

    def sids(role: str) -> set[str]:
        return {one["Sid"] for policy in stack.roles[role] for one in policy["Statement"]}

    assert sids("EngineRole") == sids("EmrNodeRole") - {"Disks"}
