"""ministack for tests: AWS's services in one process, of which Lambda runs functions as processes of this machine, without Docker.

Its own runtime stands in for Lambda's (lambda_runtime.py has the true one): it calls the handler in a process that it keeps warm,
ends that at the function's timeout, and tries an asynchronous event again as the function's configuration says. Functions run by this
Python, which finds what the zip holds before what is installed.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import seaweed
from loopback import free_port, listens, running

ROLE = f"arn:aws:iam::{seaweed.ACCOUNT}:role/index-worker"


@dataclass(frozen=True)
class Ministack:
    """Where it listens."""

    port: int
    log: Path

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> Mapping[str, str]:
        """Leads boto3 there."""
        known = {"AWS_ACCESS_KEY_ID": seaweed.KEY, "AWS_SECRET_ACCESS_KEY": seaweed.SECRET}
        return {**known, "AWS_ENDPOINT_URL": self.endpoint, "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}

    def client(self, service: str) -> Any:
        import boto3

        known = {"aws_access_key_id": seaweed.KEY, "aws_secret_access_key": seaweed.SECRET, "region_name": "us-east-1"}
        return boto3.client(service, endpoint_url=self.endpoint, **known)

    def deploy(self, zipped: Path, handler: str, environment: Mapping[str, str], timeout_s: int = 60) -> str:
        """A function of the zip, invoked again by nobody but the coordinator, as infra/template.yaml has it; its name."""
        name, client = f"recon-{uuid.uuid4().hex[:12]}", self.client("lambda")
        client.create_function(
            FunctionName=name,
            Runtime=f"python3.{sys.version_info.minor}",
            Role=ROLE,
            Handler=handler,
            Code={"ZipFile": zipped.read_bytes()},
            Timeout=timeout_s,
            MemorySize=512,
            Environment={"Variables": dict(environment)},
        )
        client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
        client.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0)
        return name


@contextmanager
def ministack(folder: Path) -> Iterator[Ministack]:
    """A fresh server that forgets all at the end of the block; so do the functions. ``folder``: for its log."""
    port = free_port()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTHONPATH"))}
    own = {
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "LAMBDA_EXECUTOR": "local",
        "IOT_MTLS_ENABLED": "0",  # it and the next would listen on fixed ports
        "SFTP_ENABLED": "0",
        "AWS_SECRET_ACCESS_KEY": seaweed.SECRET,  # handed on to functions
        "TMPDIR": str(folder),
    }
    command = Path(sys.executable).with_name("ministack")
    with running([command], folder, lambda: listens(port), {**kept, **own}):
        yield Ministack(port, folder / "ministack.log")
