"""A warehouse of each kind for each test of the suite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import postgres
import pytest
import warehouses
from redshift_data import RedshiftData, redshift_data


@pytest.fixture
def aws_environment(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Gives the environment an address of the Data API."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    return lambda url: monkeypatch.setenv("AWS_ENDPOINT_URL_REDSHIFT_DATA", url)


@pytest.fixture(scope="session")
def suites_database(postgres_server: postgres.Server) -> str:
    """The database of all tests here, one after another."""
    return postgres.new_database(postgres_server)


@pytest.fixture
def empty_database(postgres_server: postgres.Server, suites_database: str) -> str:
    return postgres.emptied(postgres_server, suites_database)


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    folder = tmp_path / "staging"
    folder.mkdir()
    return folder


@pytest.fixture
def api(
    postgres_server: postgres.Server, empty_database: str, staging: Path, aws_environment: Callable[[str], None]
) -> Iterator[RedshiftData]:
    with redshift_data(postgres_server, warehouses.from_folder(staging), empty_database) as running:
        aws_environment(running.url)
        yield running


@pytest.fixture(params=warehouses.KINDS)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> warehouses.Site:
    """A new, empty warehouse."""
    if request.param == "duckdb":
        return warehouses.duckdb_site(tmp_path)
    if request.param == "postgresql":
        return warehouses.postgresql_site(request.getfixturevalue("postgres_server"), request.getfixturevalue("empty_database"))
    return warehouses.redshift_site(request.getfixturevalue("api"), request.getfixturevalue("staging"))
