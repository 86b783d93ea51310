"""A real webserver with its daemon over a small reconciliation, and GraphQL requests as the UI makes them."""

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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from daemons import PATH, end_with_parent
from folders import ROOT
from loopback import free_port

from recon.api import Reconciliation

PATIENCE_S = 300
LOG_CHARS = 8000
"""Of the end of a server's log, in the error of a request that fails."""
_logs: dict[str, Path] = {}
"""Address of a server → its log, with those of its webserver, daemon, code server and runs."""
_LAUNCH = """mutation($given: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $given) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
_STATUS = "query($id: String!) { partitionBackfillOrError(backfillId: $id) { __typename ... on PartitionBackfill { status } } }"


@contextmanager
def served(opened: Reconciliation, sensors: bool = True) -> Iterator[str]:
    """The address of ``dagster dev`` over the reconciliation. It ends with the block, or with this process."""
    folder, port = opened.config.path.parent, free_port()
    address, log_file = f"http://127.0.0.1:{port}", folder / "ui.log"
    _logs[address] = log_file
    (folder / ".dagster").mkdir(exist_ok=True)
    shutil.copy(ROOT / "dagster.yaml", folder / ".dagster")
    options = ["-m", "dagster", "dev", "--workspace", str(ROOT / "workspace.yaml"), "--port", str(port)]
    home = {"DAGSTER_HOME": str(folder / ".dagster"), "RECON_CONFIG": str(opened.config.path), "PYTHONPATH": PATH}
    home["RECON_SENSORS"] = "running" if sensors else "stopped"
    with log_file.open("w") as log:
        settings: dict[str, Any] = {"env": os.environ | home, "cwd": folder, "stdout": log, "stderr": subprocess.STDOUT}
        server = subprocess.Popen([sys.executable, *options], **settings, start_new_session=True, preexec_fn=end_with_parent)
        try:
            waited_for(f"the UI on port {port}", lambda: server.poll() is not None or _answers(address))
            assert server.poll() is None, f"dagster dev ended with status {server.returncode}\n{_end_of_log(address)}"
            yield address
        finally:
            del _logs[address]
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)  # with its children; asked politely they take up to 20 s
            server.wait()


def waited_for(what: str, happened: Callable[[], Any]) -> Any:
    """Asks again until the answer is true. Fails, saying for what it has waited in vain."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if answer := happened():
            return answer
        time.sleep(0.5)
    logs = "\n".join(map(_end_of_log, _logs))
    raise AssertionError(f"waited {PATIENCE_S} s in vain for {what}\n{logs}")


def asked(address: str, query: str, **variables: Any) -> Any:
    """One GraphQL request, as the UI itself makes it. An error shows the end of the server's log."""
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(f"{address}/graphql", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)["data"]
    except OSError as error:
        if address in _logs:
            error.add_note(_end_of_log(address))
        raise


def backfilled(address: str, keys: list[dict[str, Any]], windows: list[str]) -> tuple[str, str]:
    """Launches a backfill as the UI's button does. Returns its id and, once it is over, its status."""
    launched = asked(address, _LAUNCH, given={"assetSelection": keys, "partitionNames": windows})["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    backfill = str(launched["backfillId"])

    def finished() -> str:
        status = str(asked(address, _STATUS, id=backfill)["partitionBackfillOrError"]["status"])
        return status if status.startswith(("COMPLETED", "FAILED", "CANCELED")) else ""

    return backfill, waited_for("the backfill to finish", finished)


def _end_of_log(address: str) -> str:
    return f"log of dagster dev at {address}:\n{_logs[address].read_text(errors='replace')[-LOG_CHARS:]}"


def _answers(address: str) -> bool:
    try:
        found = asked(address, "{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }")
    except (urllib.error.URLError, ConnectionError):
        return False
    return bool(found["repositoriesOrError"].get("nodes"))
