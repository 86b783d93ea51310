"""A server of DynamoDB for a module's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from dynamodb_local import dynamodb_local, environment

from recon.serving.dynamodb import TableClient, open_client


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TableClient]:
    """A client of a server of this module's own."""
    with dynamodb_local(tmp_path_factory.mktemp("dynamodb")) as endpoint, environment(endpoint):
        yield open_client(requests_at_once=4)


@pytest.fixture
def runs_leave_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs do not touch the table by themselves; ``kept`` does."""
    monkeypatch.setattr("recon.stages.index.sync", lambda *a: None)
