"""Databases that tests of aggregations run on."""

from __future__ import annotations

from collections.abc import Iterator

import postgres
import pytest


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    with postgres.server() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The lines of recon.yaml that name a new database."""
    if request.param == "sqlite":
        return ""
    running = request.getfixturevalue("postgres_server")
    monkeypatch.setenv("RECON_TEST_PASSWORD", running.password)
    url = f"postgresql://{running.host}:{running.port}/{postgres.new_database(running)}"
    return f"database: {{url: '{url}', user: {running.user}, secret: RECON_TEST_PASSWORD}}\n"
