"""EcsRunLauncher at work on moto's ECS, and what its calls are for IAM."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import boto3
import pytest
from aws_template import REGION, Nested
from iam import Call

ACCOUNT = "123456789012"


@contextmanager
def recorded_calls() -> Iterator[list[Call]]:
    """What clients that are made in the block ask of AWS, as IAM judges it."""
    made: list[Call] = []

    def note(params: Mapping[str, Any], model: Any, **_: Any) -> None:
        made.extend(as_calls(model.service_model.service_name, model.name, params))

    boto3.setup_default_session(region_name=REGION)
    session = boto3.DEFAULT_SESSION
    assert session is not None
    session.events.register("provide-client-params", note)
    try:
        yield made
    finally:
        boto3.DEFAULT_SESSION = None  # type: ignore[attr-defined]


def as_calls(service: str, operation: str, asked: Mapping[str, Any]) -> list[Call]:
    """Raises ValueError for an operation that is not known here."""
    ecs = f"arn:aws:ecs:{REGION}:{ACCOUNT}"
    match service, operation:
        case "ecs", "DescribeTaskDefinition":
            return [Call("ecs:DescribeTaskDefinition", "*")]
        case "ec2", "DescribeNetworkInterfaces":
            return [Call("ec2:DescribeNetworkInterfaces", "*")]
        case "ecs", "DescribeTasks" | "StopTask":
            tasks = asked["tasks"] if operation == "DescribeTasks" else [asked["task"]]
            return [Call(f"ecs:{operation}", task) for task in tasks]
        case "ecs", "RunTask":
            cluster, family = str(asked["cluster"]), str(asked["taskDefinition"]).rpartition("/")[2]
            family = family if ":" in family else f"{family}:1"
            tags = [Call("ecs:TagResource", f"{ecs}:task/{cluster.rpartition('/')[2]}/0", {"ecs:CreateAction": "RunTask"})]
            return [Call("ecs:RunTask", f"{ecs}:task-definition/{family}", {"ecs:cluster": cluster}), *(tags if asked.get("tags") else [])]
        case "logs", "GetLogEvents":
            return [Call("logs:GetLogEvents", f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{asked['logGroupName']}:log-stream:x")]
        case "s3", "HeadObject" | "GetObject":
            return [Call("s3:GetObject", f"arn:aws:s3:::{asked['Bucket']}/{asked['Key']}")]
        case "s3", "PutObject":
            return [Call("s3:PutObject", f"arn:aws:s3:::{asked['Bucket']}/{asked['Key']}")]
        case "s3", "ListObjects" | "ListObjectsV2":
            return [Call("s3:ListBucket", f"arn:aws:s3:::{asked['Bucket']}", {"s3:prefix": str(asked["Prefix"])})]
    raise ValueError(f"{service}:{operation}: not known here")


@contextmanager
def daemons_task(patch: pytest.MonkeyPatch, nested: Nested) -> Iterator[str]:
    """A task of the daemon on moto, whose metadata this process has as a container on Fargate has them. Gives its ARN."""
    ecs, ec2 = boto3.client("ecs", region_name=REGION), boto3.client("ec2", region_name=REGION)
    network = {"subnets": [ec2.describe_subnets()["Subnets"][0]["SubnetId"]], "securityGroups": [nested.ids["DaemonGroup"]]}
    (task,) = ecs.run_task(
        cluster=nested.outputs["ClusterName"],
        taskDefinition=nested.ids["DaemonTask"],
        launchType="FARGATE",
        networkConfiguration={"awsvpcConfiguration": network},
    )["tasks"]
    answers = {"/": {"Name": "daemon"}, "//task": {"Cluster": task["clusterArn"], "TaskARN": task["taskArn"]}}

    class Metadata(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(answers.get(self.path, answers.get("/" + self.path, {}))).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    patch.setenv("ECS_CONTAINER_METADATA_URI_V4", f"http://127.0.0.1:{server.server_port}")
    try:
        yield str(task["taskArn"])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
