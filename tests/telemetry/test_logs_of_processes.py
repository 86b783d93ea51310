"""Every kind of process that Recon consists of writes one JSON object per line, with the fields that it knows.

The daemon, the code server that it starts, and the workers of runs: tests/dagster/test_daemon_observability.py. Spark, and steps on EMR:
test_logs_in_spark.py. Processes of the index workers: test_logs.py.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import dagster as dg
import pytest
import service_site
from daemons import end_with_parent
from folders import ROOT
from loopback import free_port
from small_reconciliation import made

from jobs.build import build_definitions
from recon.intake.queues import aws_handlers
from recon.intake.queues.parcels import Parcel, file_of
from recon.intake.queues.port import Delivery
from recon.serving.workers import lambda_handler
from recon.telemetry import logs

BIN = Path(sys.executable).parent
ENTRYPOINT = ["sh", str(ROOT / "infra" / "docker" / "entrypoint.sh")]
PATIENCE_S = 120


def lines(*files: Path) -> list[dict[str, Any]]:
    """The lines of files, each of which must be a JSON object."""
    texts = [line for file in files for line in file.read_text().splitlines()]
    found = [json.loads(text) if text.startswith("{") else text for text in texts]
    assert [one for one in found if not isinstance(one, dict)] == []
    return found


@contextmanager
def started(folder: Path, name: str, command: Sequence[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose output and errors go into ``<name>.log``; ended by SIGTERM, as a container is."""
    path = os.pathsep.join([str(BIN), os.environ["PATH"]])
    every = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), logs.LOG: "json", **environment}
    with (folder / f"{name}.log").open("wb") as log:
        settings: dict[str, Any] = {"cwd": folder, "env": every, "stdout": log, "stderr": log, "start_new_session": True}
        process = subprocess.Popen(command, **settings, preexec_fn=end_with_parent)
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def wait_for(happened: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.2)


def answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=10) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def test_a_code_server_and_a_webserver_in_containers(tmp_path: Path) -> None:
    """By the entrypoint and the commands of the image, with the ports of this test."""
    opened, ports = made(tmp_path), (free_port(), free_port())
    home, workspace = tmp_path / "home", tmp_path / "workspace.yaml"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    workspace.write_text(f"load_from:\n  - grpc_server: {{host: 127.0.0.1, port: {ports[0]}, location_name: recon}}\n")
    environment = {"DAGSTER_HOME": str(home), "RECON_CONFIG": str(opened.config.path)}
    at = ["--host=127.0.0.1", f"--port={ports[0]}", "--module-name=recon_dagster.definitions", "--attribute=defs"]
    code = [*ENTRYPOINT, "dagster", "code-server", "start", *at, f"--working-directory={ROOT}", "--location-name=recon"]
    web = [*ENTRYPOINT, "dagster-webserver", "--host=127.0.0.1", f"--port={ports[1]}", f"--workspace={workspace}"]
    logged = {name: tmp_path / f"{name}.log" for name in ("code", "web")}
    with started(tmp_path, "code", code, environment):
        wait_for(lambda: "Started Dagster code server" in logged["code"].read_text(), "the code server")
        with started(tmp_path, "web", web, environment):
            wait_for(lambda: answers(f"http://127.0.0.1:{ports[1]}/server_info"), "the webserver")
    for name, file in logged.items():
        found = lines(file)
        assert {str(line.get("logger")).partition(".")[0] for line in found} == {"dagster" if name == "code" else "dagster-webserver"}


def submitted(folder: Path, text: str = "a,b\nx,1.10\n") -> tuple[Any, Any]:
    """A service with a request that waits."""
    service = service_site.service_in(folder)
    (folder / "in" / "sales.csv").write_text(text)
    one, _ = service.submit(service_site.holder(service), service_site.sums(f"{folder}/in/sales.csv"))
    return service, one


def test_the_web_server_its_worker_and_the_processes_of_requests(tmp_path: Path) -> None:
    service, one = submitted(tmp_path)
    command = [sys.executable, "-m", "recon.cli", "serve", "--port", "0", "--config", str(tmp_path / "recon.yaml")]
    with started(tmp_path, "serve", command, {}):
        wait_for(lambda: bool(service_site.now(service, one).ended), "the request")
    found = lines(tmp_path / "serve.log")
    assert next(line for line in found if line["logger"] == "recon.web")["message"].startswith("listening on http://127.0.0.1:")
    worker = [line for line in found if line["logger"] == "recon.worker" and "request" in line]
    assert [line["message"] for line in worker] == [f"request {one.name}: done"]
    process = [line for line in found if line["logger"] == "recon.requests"]
    assert [line["message"] for line in process] == ["begun", "done"]
    for line in (*worker, *process):
        assert (line["reconciliation"], line["request"], line["attempt"]) == ("orders", one.name, 1)
    assert any("finishing what runs" in line["message"] for line in found)


@pytest.mark.usefixtures("json_logs")
def test_a_run_that_carries_requests_out_has_their_lines_with_its_own_id(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, one = submitted(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    job = build_definitions(tmp_path / "recon.yaml").resolve_job_def("orders_requests")
    with dg.DagsterInstance.ephemeral() as instance:
        key = {"orders__service__requests": {"config": {"only": one.name}}}
        result = job.execute_in_process(instance=instance, run_config={"ops": key}, raise_on_error=False)
    assert result.success
    found = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert {line["run"] for line in found if "run" in line} == {result.run_id}
    process = [line for line in found if line["logger"] == "recon.requests"]
    assert [line["message"] for line in process] == ["begun", "done"]
    for line in process:
        assert (line["run"], line["request"], line["reconciliation"]) == (result.run_id, one.name, "orders")
    assert f"request {one.name}: done" in [line["message"] for line in found if line["logger"] == "dagster"]


@pytest.mark.usefixtures("json_logs")
def test_the_functions_of_the_record_queue(capfd: pytest.CaptureFixture[str]) -> None:
    logs.set_up()
    body = Parcel(file_of("orders", "bank", "0" * 64), 1, 2, 2, 0, "{}").body()
    record = {"messageId": "m", "receiptHandle": "r", "attributes": {"ApproximateReceiveCount": "2"}, "body": body}
    record["eventSourceARN"] = "arn:aws:sqs:us-east-1:123456789012:recon-process"

    def step(deliveries: Sequence[Delivery]) -> list[Delivery]:
        return list(deliveries)

    assert aws_handlers._answered(step, {"Records": [record]}) == {"batchItemFailures": [{"itemIdentifier": "m"}]}
    (line,) = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert (line["reconciliation"], line["stage"], line["attempt"]) == ("orders", "recon-process", 2)
    assert line["message"] == "1 messages, 1 failed"


@pytest.mark.usefixtures("json_logs")
def test_the_function_of_index_workers_refuses_an_event(capfd: pytest.CaptureFixture[str]) -> None:
    assert lambda_handler.handler({"store": "s3://other"}, None)["outcome"] == "refused"  # type: ignore[arg-type]
    out, err = capfd.readouterr()
    (line,) = [json.loads(line) for line in err.splitlines()]
    assert (out, line["level"], line["logger"]) == ("", "ERROR", "recon.workers")
    assert line["message"].startswith("refused or cut short: ")


def test_the_ui_starts_dagster_with_json_where_recon_writes_it(tmp_path: Path) -> None:
    """``dagster dev`` is replaced by a program that shows its arguments."""
    opened = made(tmp_path)
    program = (
        "import os, sys; os.execv = lambda path, words: print(os.environ['DAGSTER_CLI_API_GRPC_LOG_FORMAT'], *words[1:])\n"
        f"from jobs.ui import main; main([{str(opened.config.path)!r}])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), logs.LOG: "json"}
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True, cwd=tmp_path)
    assert ended.stdout.split()[:2] == ["json", "dev"]
    assert ended.stdout.split()[-2:] == ["--log-format", "json"]
    (line,) = [json.loads(line) for line in ended.stderr.splitlines()]
    assert str(opened.config.path) in line["message"]
