"""recon serve with its worker: submitted, waited for, collected; it ends with all that it started."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import web_site as w
from cli_calls import command
from folders import ROOT
from loopback import free_port, listens, running
from service_site import service_in


def test_a_request_from_its_file_to_its_result(tmp_path: Path) -> None:
    with w.served(tmp_path) as served, served.client() as client:
        upload = client.post("/v1/uploads", params={"name": "sales.csv"}, content=b"a,b\nx,1.10\ny,2.00\nx,0.05\n")
        assert upload.status_code == 201
        answer = client.post("/v1/requests", content=w.sums(upload.json()["path"]), headers={"Content-Type": "application/json"})
        assert answer.status_code == 202
        assert answer.headers["location"] == f"/v1/requests/{answer.json()['name']}"
        done = w.ended(client, answer.json()["name"])
        assert (done["state"], done["problem"], done["place_in_queue"], done["cancelling"]) == ("done", None, None, False)
        assert {one["name"] for one in done["results"]} == {"sums.csv", "certificate.json"}
        link = client.get(next(one["link"] for one in done["results"] if one["name"] == "sums.csv"))
        assert link.status_code == 302
        with served.anyone() as anyone:
            result = anyone.get(link.headers["location"])
        assert (result.status_code, result.content) == (200, b"a,total\nx,1.15\ny,2.00\n")
        assert result.headers["content-disposition"] == 'attachment; filename="sums.csv"'
        assert result.headers["x-content-type-options"] == "nosniff"
        states = [one["state"] for one in client.get(done["links"]["events"]).json()["items"]]
        assert states[0] == "received"
        assert states[-1] == "done"
        failed = client.post(
            "/v1/requests",
            content=w.sums("upload:" + upload.json()["name"]).replace(b'"b"}', b'"c"}'),
            headers={"Content-Type": "application/json"},
        )
        found = w.ended(client, failed.json()["name"])
        assert (found["state"], found["problem"]["code"], found["problem"]["operation"]) == ("failed", "wrong-request", 1)


@contextmanager
def started(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[bytes], w.Served]]:
    """``recon serve`` whose end the test sees."""
    service, port = service_in(folder), free_port()
    command = [sys.executable, "-m", "recon.cli", "serve", "--port", str(port), "--config", folder / "recon.yaml", *options]
    with running(command, folder, lambda: listens(port)) as process:
        yield process, w.Served(f"http://127.0.0.1:{port}", folder, service)


def worker_of(process: subprocess.Popen[bytes]) -> psutil.Process:
    """The worker beside a server, once it is there."""
    end = time.monotonic() + w.WAIT_S
    while not (found := [one for one in psutil.Process(process.pid).children() if "work" in one.cmdline()]):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found[0]


def test_a_server_that_is_told_to_end_ends_its_worker_first(tmp_path: Path) -> None:
    with started(tmp_path) as (process, served), served.client() as client:
        worker = worker_of(process)
        w.ended(client, w.submitted(client, tmp_path).json()["name"])
        below = worker.children(recursive=True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(w.WAIT_S) == 0
        assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE
        # The process that requests are forked from ends once it sees that the worker is gone, and has no request any more.
        assert psutil.wait_procs(below, w.WAIT_S)[1] == []
        with pytest.raises(OSError, match="refused"):
            listens(int(served.url.rpartition(":")[2]))


@pytest.mark.skipif(sys.platform != "linux", reason="the system tells the worker on Linux only")
def test_a_server_that_is_killed_leaves_no_worker(tmp_path: Path) -> None:
    with started(tmp_path) as (process, served):
        worker = worker_of(process)
        with served.client() as client:  # the worker has come so far that it judges signals
            w.ended(client, w.submitted(client, tmp_path).json()["name"])
        process.kill()
        worker.wait(w.WAIT_S)


def test_a_worker_that_died_is_started_again(tmp_path: Path) -> None:
    with started(tmp_path) as (process, served), served.client() as client:
        first = worker_of(process)
        first.kill()
        first.wait(w.WAIT_S)
        assert w.ended(client, w.submitted(client, tmp_path).json()["name"])["state"] == "done"
        assert worker_of(process).pid != first.pid


def test_without_a_worker_requests_wait(tmp_path: Path) -> None:
    with started(tmp_path, "--no-work") as (process, served), served.client() as client:
        name = w.submitted(client, tmp_path).json()["name"]
        assert psutil.Process(process.pid).children() == []
        assert client.get(f"/v1/requests/{name}").json()["place_in_queue"] == 1


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    service_in(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        found = command("serve", "--port", port, cwd=tmp_path)
    assert found.returncode == 2
    assert found.stderr == f"recon: --host 127.0.0.1 --port {port}: Address already in use\n"


def test_an_audit_log_that_cannot_be_written(tmp_path: Path) -> None:
    service_in(tmp_path, audit=".")
    found = command("serve", cwd=tmp_path)
    assert found.returncode == 2
    assert found.stderr.startswith("recon: service.audit: ")


def test_without_its_extra_the_next_step_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service_in(tmp_path)
    for name in [name for name in sys.modules if name.startswith("recon.web")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    found = command("serve", cwd=tmp_path)
    assert (found.returncode, found.stderr) == (2, "recon: uvicorn is not installed; next: pip install 'dagster-recon[service]'\n")


def test_only_this_room_needs_fastapi() -> None:
    """Look-ups on the command line start fast, and the library runs where no server is installed."""
    uses = {
        str(path.relative_to(ROOT))
        for folder in ("recon", "recon_assets", "recon_dagster", "resources", "jobs")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"^\s*(?:from|import) (?:fastapi|starlette|uvicorn|h11)\b", path.read_text(), re.MULTILINE)
    }
    assert uses
    assert all(path.startswith("recon/web/") for path in uses)
    code = "import sys, recon.cli.app; sys.exit(bool({'fastapi', 'starlette', 'recon.web.app'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
