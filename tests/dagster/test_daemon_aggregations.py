"""A real daemon: files wait with a reason, a run is killed, another terminated in Dagster, and a person has the last."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest
from aggregations_in_dagster import KEY, Dagster, aggregated
from franchise import NAMES, WINDOW
from webserver import asked, backfilled, served, waited_for

import recon
from resources.dagster_instance import open_instance

SENSOR = {"repositoryName": "__repository__", "repositoryLocationName": "recon", "sensorName": "franchise_aggregations_sensor"}
_START = "mutation($sensor: SensorSelector!) { startSensor(sensorSelector: $sensor) { __typename ... on PythonError { message } } }"
_TERMINATE = "mutation($run: String!) { terminateRun(runId: $run) { __typename ... on TerminateRunFailure { message } } }"
_TICKS = """query($sensor: SensorSelector!) { sensorOrError(sensorSelector: $sensor) {
  ... on Sensor { sensorState { ticks(limit: 1) { status skipReason error { message } } } } } }"""


def last_tick(address: str) -> str:
    """Why the last tick started nothing."""
    ticks = asked(address, _TICKS, sensor=SENSOR)["sensorOrError"]["sensorState"]["ticks"]
    assert not any(tick["error"] for tick in ticks), ticks
    return str(ticks[0]["skipReason"] or "") if ticks else ""


@contextmanager
def locked(dagster: Dagster) -> Iterator[None]:
    """A block in which no other process can open the warehouse, so that a run waits before it loads."""
    with duckdb.connect(str(dagster.folder / "warehouse.duckdb")):
        yield


def at_work(dagster: Dagster, number: int) -> tuple[str, int]:
    """The run of Dagster that carries out a run, and its process, once it has computed what it will load."""

    def found() -> str:
        run = dagster.runs()[0] if dagster.runs() else None
        return run.worker if run is not None and run.id == number and run.state == "running" and run.figures else ""

    run_id = str(waited_for(f"run {number} to load", found))
    with open_instance(dagster.file) as instance:
        (pid,) = {event.message.split("(pid: ")[1].split(")")[0] for event in instance.all_logs(run_id) if "(pid: " in str(event.message)}
        return run_id, int(pid)


def state(dagster: Dagster, number: int) -> str:
    return dagster.aggregations.runs.get(number).state


@pytest.mark.soak
def test_a_daemon_waits_for_the_last_file_and_mends_a_kill_and_a_cancellation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECON_TICK_S", "1")
    dagster = Dagster(aggregated(tmp_path))
    dagster.deliver(*NAMES[:-1])
    with served(recon.open(dagster.file), sensors=False) as address:
        assert asked(address, _START, sensor=SENSOR)["startSensor"]["__typename"] == "Sensor"
        waited_for("a reason", lambda: "12 of 13 files: IL-911.tdf is missing" in last_tick(address))
        with locked(dagster):
            dagster.deliver(NAMES[-1])
            _, pid = at_work(dagster, 1)
            os.kill(pid, signal.SIGKILL)
        waited_for("the killed run to end", lambda: state(dagster, 1) == "failed")
        with locked(dagster):
            dagster.wait()
            run_id, _ = at_work(dagster, 2)
            assert asked(address, _TERMINATE, run=run_id)["terminateRun"]["__typename"] == "TerminateRunSuccess"
            waited_for("the terminated run to end", lambda: state(dagster, 2) == "cancelled")
        waited_for("a reason", lambda: "run 2 was cancelled" in last_tick(address))
        _, status = backfilled(address, [{"path": KEY.path}], [WINDOW])
        assert (status, state(dagster, 3)) == ("COMPLETED_SUCCESS", "completed")
        waited_for("nothing more to do", lambda: last_tick(address) == "nothing new to aggregate")
    with duckdb.connect(str(dagster.folder / "warehouse.duckdb"), read_only=True) as connection:
        assert connection.execute("SELECT count(*), sum(sale) FROM daily_sales").fetchall() == [(38, 11550)]
    with open_instance(dagster.file) as instance:
        assert instance.get_materialized_partitions(KEY) == {WINDOW}
        assert [run.status.value for run in instance.get_runs()] == ["SUCCESS", "CANCELED", "FAILURE"]
