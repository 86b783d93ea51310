"""The queue and the record store that each test of the conformance suites gets, from each of their kinds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import postgres
import pytest
from dynamodb_local import dynamodb_local
from ministack_server import Ministack, ministack
from record_functions import zipped

from recon.config.load import load_place
from recon.database import Database, open_database
from recon.database import open as opening

YAML = """
name: orders
store: ./data
key: order_id
windows: {start: 2026-11-01T00:00Z, every: 1h}
measures: {lines: {count: "*"}}
"""


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ministack]:
    with ministack(tmp_path_factory.mktemp("ministack")) as running:
        yield running


@pytest.fixture(scope="session")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unzipped code of the record queue's functions."""
    return zipped(tmp_path_factory.mktemp("records"))


@pytest.fixture(scope="session")
def sqs(aws: Ministack) -> Any:
    return aws.client("sqs")


@pytest.fixture(scope="session")
def dynamodb_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with dynamodb_local(tmp_path_factory.mktemp("dynamodb")) as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    with postgres.server() as running:
        yield running


@pytest.fixture
def database(tmp_path: Path) -> Database:
    """A new SQLite database."""
    return _database(tmp_path, "")


@pytest.fixture
def postgres_database(tmp_path: Path, postgres_server: postgres.Server, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A new PostgreSQL database."""
    monkeypatch.setenv("RECON_TEST_PASSWORD", postgres_server.password)
    url = f"postgresql://{postgres_server.host}:{postgres_server.port}/{postgres.new_database(postgres_server)}"
    return _database(tmp_path, f"database: {{url: '{url}', user: {postgres_server.user}, secret: RECON_TEST_PASSWORD}}\n")


def _database(folder: Path, section: str) -> Database:
    opening._opened.cache_clear()
    path = folder / "recon.yaml"
    path.write_text(YAML + section)
    return open_database(load_place(path))
