"""Where the services that a test opens have their queue and their tables.

A module asks for both queues, the embedded one and SQS, by ``pytestmark = pytest.mark.usefixtures("queue")``; without it the queue is in
the database. Tests that ask for ``database`` run on SQLite and on PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import postgres
import pytest
import record_services
import seaweed
import service_site
from emr_site import Site, emr_site
from ministack_server import Ministack, ministack

VISIBILITY_S = 1


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ministack]:
    with ministack(tmp_path_factory.mktemp("ministack")) as running:
        yield running


@pytest.fixture(params=["embedded", "sqs"])
def queue(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "sqs":
        request.getfixturevalue("sqs_queue")
    return str(request.param)


@pytest.fixture
def sqs_queue(aws: Ministack, monkeypatch: pytest.MonkeyPatch) -> record_services.SqsQueue:
    """A new queue in SQS, which services take that are opened from now on."""
    for name, value in aws.environment.items():
        monkeypatch.setenv(name, value)
    made = record_services.sqs_queue(aws.client("sqs"), VISIBILITY_S)
    monkeypatch.setitem(service_site.SETTINGS, "queue", made.url)
    return made


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    with postgres.server() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any] | None:
    """The section ``database`` of a new database; None is SQLite."""
    if request.param == "sqlite":
        return None
    running: postgres.Server = request.getfixturevalue("postgres_server")
    monkeypatch.setenv("RECON_TEST_PASSWORD", running.password)
    url = f"postgresql://{running.host}:{running.port}/{postgres.new_database(running)}"
    return {"url": url, "user": running.user, "secret": "RECON_TEST_PASSWORD"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, seaweed_server: seaweed.Seaweed) -> Iterator[Site]:
    """EMR's stand-in and S3."""
    with emr_site(tmp_path_factory.mktemp("emr"), seaweed_server) as there:
        yield there
