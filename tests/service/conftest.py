"""The queue of the services that a test opens: in their database, or in SQS.

A module asks for both by ``pytestmark = pytest.mark.usefixtures("queue")``; without it the queue is in the database.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import record_services
import service_site
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
