"""The UI as a person sees it, in a real browser: the figures of a window, and a backfill that finishes.

Belongs here: what must be *seen*. Does not belong here: what the definitions hold (test_dagster_definitions) and what runs do
(test_assets).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dagster_store import made, window

from jobs.running import materialize_range
from jobs.ui import free_port
from recon_assets.assets import STAGE_ASSETS
from resources.instance import open_instance

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
PATIENCE_S = 300
LAUNCH = """mutation($given: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $given) {
  __typename ... on LaunchBackfillSuccess { backfillId } } }"""
STATUS = "query($id: String!) { partitionBackfillOrError(backfillId: $id) { __typename ... on PartitionBackfill { status } } }"

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
        port = free_port(3100)
        log = (opened.config.path.parent / "ui.log").open("w+")
        options = ["-m", "dagster", "dev", "--workspace", str(ROOT / "workspace.yaml"), "--port", str(port)]
        home = {"DAGSTER_HOME": str(opened.config.path.parent / ".dagster"), "RECON_CONFIG": str(opened.config.path)}
        server = subprocess.Popen(
            [sys.executable, *options],
            env=os.environ | home,
            cwd=opened.config.path.parent,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            waited_for(f"the UI on port {port}", lambda: _answers(f"http://127.0.0.1:{port}"))
            yield f"http://127.0.0.1:{port}"
        finally:
            server.send_signal(signal.SIGINT)  # dagster dev ends its children then
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
            log.close()


def waited_for(what: str, happened: Any) -> Any:
    """Asks again until the answer is true. Fails, saying for what it has waited in vain."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if answer := happened():
            return answer
        time.sleep(0.5)
    raise AssertionError(f"waited {PATIENCE_S} s in vain for {what}")


def _answers(address: str) -> bool:
    try:
        found = asked(address, "{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }")
    except (urllib.error.URLError, ConnectionError):
        return False
    return bool(found["repositoriesOrError"].get("nodes"))


def asked(address: str, query: str, **variables: Any) -> Any:
    """One GraphQL request, as the UI itself makes it."""
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(f"{address}/graphql", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)["data"]


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
    launched = asked(ui, LAUNCH, given={"assetSelection": keys, "partitionNames": [window(0), window(1)]})["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess"
    backfill = launched["backfillId"]

    def finished() -> str:
        status = str(asked(ui, STATUS, id=backfill)["partitionBackfillOrError"]["status"])
        return status if status.startswith(("COMPLETED", "FAILED", "CANCELED")) else ""

    assert waited_for("the backfill to finish", finished) == "COMPLETED_SUCCESS"
    page_showing(f"{ui}/runs/b/{backfill}", tmp_path / "profile", "Succeeded", "100% completed")
