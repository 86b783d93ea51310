"""The processes and the prepared store of the tests that kill or suspend a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import crash_child as c
import pytest


@pytest.fixture(scope="module")
def server() -> Iterator[c.Server]:
    server = c.Server()
    yield server
    server.close()


@pytest.fixture(scope="module")
def base(server: c.Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prepared store: 7 windows done, a correction and a new window to do."""
    folder = tmp_path_factory.mktemp("prepared") / "base"
    server("make", folder=str(folder))
    return folder
