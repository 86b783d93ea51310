"""A backend on the loopback, for the tests of lineage; and JSON logs in this process."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from dagster import _loggers
from dagster._core.definitions import instigation_logger
from loopback_http import Posts, posts

from recon.telemetry import logs
from recon.telemetry.lineage_backend import backend_of


@pytest.fixture
def backend() -> Iterator[Posts]:
    backend_of.cache_clear()
    with posts() as found:
        yield found


@pytest.fixture
def json_logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """RECON_LOG=json in this process, until the end of the test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr(_loggers, "colored_console_logger", _loggers.colored_console_logger)
    monkeypatch.setattr(instigation_logger, "create_console_logger", instigation_logger.create_console_logger)
    monkeypatch.setenv(logs.LOG, "json")
    yield
    for handler in root.handlers[:]:
        root.removeHandler(handler)
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level)
