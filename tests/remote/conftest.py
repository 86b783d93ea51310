"""One site for a module's tests: EMR's stand-in, S3, and what starts jobs there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import seaweed
from emr_site import Site, emr_site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, seaweed_server: seaweed.Seaweed) -> Iterator[Site]:
    with emr_site(tmp_path_factory.mktemp("emr"), seaweed_server) as there:
        yield there
