"""Amazon's own DynamoDB Local for tests, in memory, on a free port of the loopback.

Its licence lets anybody use it and nobody hand it on, so `make services` fetches it; where it is not there tests are skipped by name.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from loopback import free_port, listens, running

from recon.engines.spark.java import find_java
from recon.errors import WrongUsage

FOLDER = Path(sys.prefix) / "share" / "dynamodb-local"
ENABLE = "make services"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "testtest"}
REGION = {"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}


def skip_without(why: str) -> None:
    """Skips the test by name; where a skip would go unseen (CI=true) it fails."""
    if os.environ.get("CI", "").lower() in ("true", "1"):
        pytest.fail(f"DynamoDB Local: {why}: {ENABLE}")
    pytest.skip(f"DynamoDB Local: {why}: {ENABLE}")


@contextmanager
def dynamodb_local(folder: Path) -> Iterator[str]:
    """The address of a fresh server that forgets all at the end of the block. ``folder``: for its log."""
    jar = FOLDER / "DynamoDBLocal.jar"
    if not jar.is_file():
        skip_without(f"{jar} is not there")
    try:
        java = find_java().home / "bin" / "java"
    except WrongUsage as error:
        skip_without(str(error))
    port = free_port()
    options = [f"-Djava.library.path={FOLDER / 'DynamoDBLocal_lib'}", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    serve = ["-port", str(port), "-inMemory", "-sharedDb", "-disableTelemetry"]
    with running([java, *options, "-jar", jar, *serve], folder, lambda: listens(port)):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def environment(endpoint: str) -> Iterator[None]:
    """What leads clients of this process, and of those that it starts, to a server."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**CREDENTIALS, **REGION, "AWS_ENDPOINT_URL_DYNAMODB": endpoint}.items():
            patch.setenv(name, value)
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
            patch.delenv(name, raising=False)
        yield
