"""Ticks of the sensors that keep a store up to date."""

from __future__ import annotations

import dagster as dg
from small_reconciliation import QUIET

from jobs.asset_jobs import SENSED
from jobs.build import build_definitions
from recon.api import Reconciliation
from recon_assets.retries import FAILURE_TAG
from resources.stores import ReconciliationStore

STAGES = ("reduce", "merge", "index", "certify")


class Sensors:
    """Ticks as the daemon does them, each sensor with its cursor."""

    def __init__(self, opened: Reconciliation, instance: dg.DagsterInstance) -> None:
        self.opened, self.instance = opened, instance
        self.cursors: dict[str, str | None] = {}

    def tick(self, stage: str) -> dg.RunRequest | str:
        built = build_definitions(self.opened.config.path)
        (sensor,) = [one for one in built.sensors or () if one.name == f"orders_{stage}_sensor"]
        assert isinstance(sensor, dg.SensorDefinition)
        stores = {"orders_store": ReconciliationStore(config_file=str(self.opened.config.path))}
        with dg.build_sensor_context(instance=self.instance, resources=stores, cursor=self.cursors.get(stage)) as context:
            answer = sensor.evaluate_tick(context)
        self.cursors[stage] = answer.cursor or self.cursors.get(stage)
        (request,) = answer.run_requests or (None,)
        return request or str(answer.skip_message)

    def launched(self, stage: str, request: object) -> dg.ExecuteInProcessResult:
        assert isinstance(request, dg.RunRequest), request
        job = build_definitions(self.opened.config.path).resolve_job_def(f"orders_{SENSED[stage]}")
        return job.execute_in_process(instance=self.instance, tags=dict(request.tags), run_config=QUIET, raise_on_error=False)

    def until_nothing_starts(self) -> list[tuple[str, str, str, str | None]]:
        """(stage, first, last, kind of failure) of all runs, and the ticks' last words in ``said``."""
        runs, self.said = [], dict[str, str]()
        while len(self.said) < len(STAGES):
            for stage in STAGES:
                answer = self.tick(stage)
                if isinstance(answer, str):
                    self.said[stage] = answer
                    continue
                self.said = {}
                run = self.instance.get_run_by_id(self.launched(stage, answer).run_id)
                assert run is not None
                runs.append((stage, *asked(answer), run.tags.get(FAILURE_TAG)))
                assert len(runs) < 40, runs
        return runs


def asked(request: object) -> tuple[str, str]:
    assert isinstance(request, dg.RunRequest), request
    return request.tags["dagster/asset_partition_range_start"], request.tags["dagster/asset_partition_range_end"]
