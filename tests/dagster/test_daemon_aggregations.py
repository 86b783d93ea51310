"""A real daemon: twelve of thirteen files wait with a reason, the thirteenth starts a run that loads the table."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from aggregations_in_dagster import KEY, Dagster, aggregated
from franchise import NAMES, WINDOW
from webserver import asked, served, waited_for

import recon
from resources.dagster_instance import open_instance

SENSOR = {"repositoryName": "__repository__", "repositoryLocationName": "recon", "sensorName": "franchise_aggregations_sensor"}
_START = "mutation($sensor: SensorSelector!) { startSensor(sensorSelector: $sensor) { __typename ... on PythonError { message } } }"
_TICKS = """query($sensor: SensorSelector!) { sensorOrError(sensorSelector: $sensor) {
  ... on Sensor { sensorState { ticks(limit: 1) { status skipReason error { message } } } } } }"""


def last_tick(address: str) -> str:
    """Why the last tick started nothing."""
    ticks = asked(address, _TICKS, sensor=SENSOR)["sensorOrError"]["sensorState"]["ticks"]
    assert not any(tick["error"] for tick in ticks), ticks
    return str(ticks[0]["skipReason"] or "") if ticks else ""


def test_a_daemon_waits_for_the_thirteenth_file_and_loads_the_table_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECON_TICK_S", "1")
    dagster = Dagster(aggregated(tmp_path))
    dagster.deliver(*NAMES[:-1])
    opened = recon.open(dagster.file)
    with served(opened, sensors=False) as address:
        assert asked(address, _START, sensor=SENSOR)["startSensor"]["__typename"] == "Sensor"
        waited_for("a reason", lambda: "12 of 13 files: IL-911.tdf is missing" in last_tick(address))
        dagster.deliver(NAMES[-1])
        waited_for("a run", lambda: [run.state for run in dagster.runs()] == ["completed"])
        waited_for("nothing more to do", lambda: last_tick(address) == "nothing new to aggregate")
    with duckdb.connect(str(dagster.folder / "warehouse.duckdb"), read_only=True) as connection:
        assert connection.execute("SELECT count(*), sum(sale) FROM daily_sales").fetchall() == [(38, 11550)]
    with open_instance(dagster.file) as instance:
        assert instance.get_materialized_partitions(KEY) == {WINDOW}
        (run,) = instance.get_runs()
        assert run.run_id == dagster.runs()[0].worker
        assert run.tags["recon/windows"] == WINDOW
