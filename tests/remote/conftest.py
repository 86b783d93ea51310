"""One site for a module's tests: EMR's stand-in, S3, and what starts jobs there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from emr_site import Site, emr_site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with emr_site(tmp_path_factory.mktemp("emr")) as there:
        yield there
