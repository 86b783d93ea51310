"""A backend on the loopback, for the tests of lineage."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from loopback_http import Posts, posts

from recon.telemetry.lineage_backend import backend_of


@pytest.fixture
def backend() -> Iterator[Posts]:
    backend_of.cache_clear()
    with posts() as found:
        yield found
