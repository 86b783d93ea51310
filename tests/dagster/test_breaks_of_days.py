"""Breaks of business days in Dagster: the sensor of arrivals makes their files, and the tables that take them are downstream of the
certificates."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
from breaks_of_days import DAY, FIRST, land, site
from small_reconciliation import QUIET

from jobs.arrivals import delivery_sensor
from jobs.build import build_definitions
from recon_assets.partitions import PARTITION
from resources.database import SiteDatabase


def test_a_certified_day_starts_a_delivery_and_its_breaks_are_loaded(tmp_path: Path) -> None:
    r = site(tmp_path)
    config = tmp_path / "recon.yaml"
    definitions = build_definitions(config)
    table = dg.AssetKey(["orders", "aggregations", "breaks"])
    (spec,) = [spec for spec in definitions.resolve_all_asset_specs() if spec.key == table]
    assert [dep.asset_key.path[-1] for dep in spec.deps] == ["window_certificates"]
    instance, sensor = dg.DagsterInstance.ephemeral(), delivery_sensor(r.config)

    def tick() -> list[dg.RunRequest]:
        resources = {"orders_database": SiteDatabase(config_file=str(config))}
        with dg.build_sensor_context(instance=instance, resources=resources) as context:
            return list(sensor.evaluate_tick(context).run_requests or [])

    land(r, range(1), FIRST)
    r.run()
    assert not tick(), "half of the day's windows are certified"
    land(r, range(1, 2), FIRST)
    r.run()
    assert len(tick()) == 1
    deliver, job = (definitions.resolve_job_def(name) for name in ("orders_deliver", "__ASSET_JOB"))
    assert deliver.execute_in_process(instance=instance, run_config=QUIET).success
    assert not tick()
    assert job.execute_in_process(instance=instance, asset_selection=[table], tags={PARTITION: DAY}, run_config=QUIET).success
    event = instance.get_latest_materialization_event(table)
    assert event is not None
    assert event.asset_materialization is not None
    assert event.asset_materialization.metadata["dagster/row_count"].value == 1
