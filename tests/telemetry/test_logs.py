"""JSON logs: one line per record, with run, reconciliation, stage, windows and attempt, in every process that takes part."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from folders import ROOT
from hypothesis import given
from hypothesis import strategies as st
from small_reconciliation import landed, made, window
from worker_child import Table
from worker_processes import coordinator, planned, processes

from recon.cli import main
from recon.config import Config
from recon.engines.spark import tasks
from recon.errors import WrongUsage
from recon.remote.exchange import put_request, read_request
from recon.serving.workers.worker import Event, event_of
from recon.stages.request import StageRequest
from recon.storage.local import LocalStore
from recon.storage.port import ObjectStore
from recon.telemetry import logs
from recon_assets.partitions import range_tags


def lines(text: str) -> list[dict[str, Any]]:
    """The lines, each of which must be JSON."""
    return [json.loads(line) for line in text.splitlines()]


@given(
    message=st.text(),
    fields=st.dictionaries(st.sampled_from(["run", "window", "stage"]), st.text(min_size=1), max_size=3),
    error=st.none() | st.text(),
)
def test_a_record_is_one_line_of_json_whatever_it_says_and_quotes_no_exception(
    message: str, fields: dict[str, str], error: str | None
) -> None:
    """Law."""
    record = logging.LogRecord("recon.x", logging.WARNING, __file__, 1, "%s", (message,), None)
    if error is not None:
        try:
            raise ValueError("the event " + error)
        except ValueError as raised:
            record.exc_info = (ValueError, raised, raised.__traceback__)
    with logs.logged_with(**fields):
        text = logs.JsonLines().format(record)
    assert "\n" not in text
    line = json.loads(text)
    assert {name: line[name] for name in fields} == fields
    assert (line["level"], line["logger"]) == ("WARNING", "recon.x")
    assert line.get("error") == (None if error is None else "ValueError")
    assert "the event " not in text or "the event " in message
    assert logs.fields() == {}


def test_a_secret_of_the_environment_is_in_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDERS_PASSWORD", "correct-horse")
    record = logging.LogRecord("recon.x", logging.INFO, __file__, 1, "login with correct-horse failed", (), None)
    assert json.loads(logs.JsonLines().format(record))["message"] == "login with […] failed"


def test_recon_run_as_a_process_logs_each_stage_with_its_run_and_windows(tmp_path: Path) -> None:
    opened = made(tmp_path, hours=2)
    command = [sys.executable, "-m", "recon.cli", "run", "--config", str(opened.config.path), "--json"]
    environment = {**os.environ, logs.LOG: "json", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert json.loads(ended.stdout)["windows"] == [window(0), window(1)]
    found = [line for line in lines(ended.stderr) if line["logger"] == "recon.stages"]
    assert [line["message"].partition(":")[0] for line in found] == [
        f"{stage} {what}" for stage in ("land", "reduce", "prefetch", "merge", "index", "certify") for what in ("begun", "done")
    ]
    for line in found:
        assert line["reconciliation"] == "orders"
        assert line["window"] == f"{window(0)}..{window(1)}"
        assert line["stage"] == line["message"].split()[0]
        assert line["attempt"] == 1
        assert line["job"] == "orders_everything"
    assert len({line["run"] for line in found}) == 1


@pytest.mark.usefixtures("json_logs")
def test_plain_calls_and_mistakes_of_the_command_line_are_logged(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    opened = made(tmp_path, hours=1)
    logs.set_up()
    opened.run()
    found = lines(capfd.readouterr().err)
    assert {line["run"] for line in found} != {None}
    assert next(line["message"] for line in found if line["stage"] == "merge") == "merge begun"
    assert main(["show", "nobody", "--config", str(opened.config.path)]) == 1
    (line,) = lines(capfd.readouterr().err)
    assert (line["level"], line["logger"]) == ("ERROR", "recon.cli")
    assert "nobody" in line["message"]


@pytest.mark.usefixtures("json_logs")
def test_a_run_of_dagster_logs_json_and_a_failure_without_what_it_quotes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = made(tmp_path, hours=1)

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("cannot read 'order A112'")

    monkeypatch.setattr("recon.stages.reduce.reduce_windows", broken)
    with dg.DagsterInstance.ephemeral() as instance:
        from jobs.build import build_definitions

        job = build_definitions(opened.config.path).resolve_job_def("orders_reduce")
        result = job.execute_in_process(instance=instance, tags=range_tags(window(0), window(0)), raise_on_error=False)
    assert not result.success
    found = lines(capfd.readouterr().err)
    (failed,) = [line for line in found if line["level"] == "ERROR" and line["logger"] == "recon.stages"]
    assert failed["message"].startswith("reduce failed: ")
    assert "A112" not in failed["message"]
    assert (failed["run"], failed["window"], failed["attempt"]) == (result.run_id, window(0), 1)
    of_dagster = [line for line in found if line["logger"] == "dagster"]
    assert {line["run"] for line in of_dagster} == {result.run_id}
    assert any("RUN_FAILURE" in json.dumps(line) or "failed" in line["message"] for line in of_dagster)


@pytest.mark.usefixtures("json_logs")
def test_worker_processes_log_with_the_run_that_started_them(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    store = LocalStore(tmp_path / "store")
    Table(tmp_path / "table.db")
    with logs.logged_with(run="r-1", reconciliation="orders", window=window(0)):
        worked = coordinator(store, planned(store, 2), processes(tmp_path)).run()
    assert worked.shares == 2
    found = [line for line in lines(capfd.readouterr().err) if line["logger"] == "recon.workers"]
    assert {line["share"] for line in found} == {"s0", "s1"}
    assert {(line["run"], line["reconciliation"], line["window"]) for line in found} == {("r-1", "orders", window(0))}
    assert all(len(line["attempt"]) == 16 for line in found)


def test_an_event_has_no_logs_where_they_are_text_and_takes_no_other_fields() -> None:
    event = Event("s3://b/p", "orders", 1, "s0", "0" * 16)
    assert "log" not in json.loads(event.to_json())
    environment = {"RECON_STORE": "s3://b/p", "RECON_TABLE": "orders"}
    assert event_of(json.loads(event.to_json()), environment) == event
    with pytest.raises(WrongUsage, match="event: expected"):
        event_of({**json.loads(event.to_json()), "log": "json"}, environment)
    with logs.continued({"run": "r", "message": "forged", "level": "forged"}):
        assert logs.fields() == {"run": "r"}


def part_of(store: ObjectStore, config: Config, item: int) -> int:
    logging.getLogger("recon.x").info("part %d", item)
    return item


@pytest.mark.usefixtures("json_logs")
def test_tasks_of_spark_and_steps_of_a_cluster_continue_with_the_fields(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = made(tmp_path)
    landed(opened, 0)
    with logs.logged_with(run="r-2", reconciliation="orders", window=window(0), attempt=2):
        carried = logs.carried()
        attempt = put_request(opened.store(), opened.config, StageRequest("reduce", window(0), window(0), {window(0): 1}))
    monkeypatch.delenv(logs.LOG)  # as on the cluster, whose environment is another
    _, request = read_request(opened.store(), opened.config.location, attempt)
    assert request.log == carried
    assert list(tasks._logged("reduce", request.log, partial(tasks._carry_out, opened.config, part_of, None), [7])) == [7]
    part, done = lines(capfd.readouterr().err)
    assert (part["message"], done["message"]) == ("part 7", "reduce: a part is done")
    for line in (part, done):
        assert (line["run"], line["reconciliation"], line["window"], line["attempt"]) == ("r-2", "orders", window(0), 2)


def test_another_value_is_refused_with_the_variable(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(logs.LOG, "jsonl")
    assert main(["status"]) == 2
    assert capsys.readouterr().err == "recon: RECON_LOG: 'jsonl' is neither 'json' nor 'text'\n"
