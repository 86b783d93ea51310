"""The Spark session of a run in Dagster starts only when there is work for it."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
from small_reconciliation import landed, made, run, window

import recon
from recon.config.settings import Engine
from recon.engines.spark import session


def test_a_run_without_work_for_spark_starts_no_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dagster_pyspark")
    made(tmp_path, hours=1).run()
    path = tmp_path / "orders.yaml"
    path.write_text(path.read_text() + "engine: {kind: spark, master: local}\n")
    started: list[Engine] = []

    def start(engine: Engine) -> None:
        started.append(engine)
        raise RuntimeError("a session is wanted")

    monkeypatch.setattr("pyspark.sql.SparkSession.getActiveSession", lambda: None)
    monkeypatch.setattr("pyspark.sql.SparkSession.Builder.getOrCreate", lambda self: start(opened.config.engine))
    monkeypatch.setattr(session, "_start", start)
    opened = recon.open(path)
    assert opened.config.engine.kind == "spark"
    with dg.DagsterInstance.ephemeral() as instance:
        for stage in ("reduce", "prefetch", "merge"):
            assert run(opened, {"dagster/partition": window(0)}, instance, stage).success
        assert started == []
        # And the test would notice it.
        landed(opened, 1)
        run(opened, {"dagster/partition": window(1)}, instance, "land")
        assert not run(opened, {"dagster/partition": window(1)}, instance, "reduce").success
        assert started != []
