"""The UI as a person sees it, in a real browser: the figures of a window, and a backfill that finishes."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from range_runs import materialize_range
from small_reconciliation import made, window
from webserver import PATIENCE_S, backfilled, served, waited_for

from recon_assets.assets import STAGE_ASSETS
from resources.dagster_instance import open_instance

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None and os.environ.get("CI") != "true", reason="no Chromium; as root 'make browser' installs it"),
]


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the UI over a reconciliation ``orders`` of two windows that one run has taken through all stages."""
    opened = made(tmp_path_factory.mktemp("ui"), hours=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        with open_instance(opened.config.path) as instance:
            materialize_range(opened.config, window(0), window(1), instance).raise_failure()
        with served(opened, sensors=False) as address:
            yield address


def seen(address: str, profile: Path) -> str:
    """The page as it stands in a headless Chromium once its scripts have had 20 seconds of the page's own time."""
    assert CHROMIUM, "no Chromium; as root 'make browser' installs it"
    quiet = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"]
    options = ["--headless", "--no-sandbox", "--disable-gpu", *quiet, f"--user-data-dir={profile}", "--window-size=1600,1000"]
    command = [CHROMIUM, *options, "--virtual-time-budget=20000", "--dump-dom", address]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False).stdout


def page_showing(address: str, profile: Path, *texts: str) -> str:
    """The page, looked at again until it shows all of ``texts``."""

    def shown() -> str:
        page = seen(address, profile)
        return page if all(text in page for text in texts) else ""

    return str(waited_for(f"{address} to show {texts}", shown))


def test_a_person_sees_the_figures_of_a_window_and_a_backfill_finish(ui: str, tmp_path: Path) -> None:
    certificates = f"{ui}/assets/orders/window_certificates?view=partitions&partition={window(1)}"
    page = page_showing(certificates, tmp_path / "profile", "amount EUR", "amount USD", "Materialized")
    assert "Join the Dagster community" not in page
    keys = [{"path": ["orders", spec.name]} for spec in STAGE_ASSETS]
    backfill, status = backfilled(ui, keys, [window(0), window(1)])
    assert status == "COMPLETED_SUCCESS"
    page_showing(f"{ui}/runs/b/{backfill}", tmp_path / "profile", "Succeeded", "100% completed")
