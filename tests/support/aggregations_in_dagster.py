"""The franchise's site with an aggregation, and its sensor and runs in an instance of Dagster."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
from franchise import NAMES, arrive, made
from small_reconciliation import QUIET

import recon
from jobs.aggregations import aggregations_sensor
from jobs.build import build_definitions
from jobs.origin import remote_origin
from recon.aggregations.runs.site import Aggregations
from recon.aggregations.runs.tracking import Run
from recon.database.tables import AGGREGATION_RUNS
from recon.intake.sources.site import Intake
from recon_assets.aggregations import known_aggregations
from recon_assets.partitions import PARTITION
from resources.database import SiteDatabase
from resources.stores import ReconciliationStore

NAME = "daily_sales"
KEY = dg.AssetKey(["franchise", "aggregations", NAME])
DEFINITION = f"""
source: stores
expect: [{", ".join(NAMES)}]
filter: "code in (4, 5, 6)"
keys: [vendor, item, date]
measures:
  sale: {{sum: amount, where: "code = 4"}}
  tax: {{sum: amount, where: "code = 5"}}
  discount: {{sum: amount, where: "code = 6"}}
target: daily_sales
"""


def aggregated(folder: Path, definition: str = DEFINITION) -> Path:
    """The franchise's example with one aggregation, ``daily_sales``, and an empty inbox. Returns its folder."""
    site = made(folder)
    (site / "aggregations").mkdir(exist_ok=True)
    for file in (site / "aggregations").glob("*.yaml"):
        file.unlink()
    (site / "aggregations" / f"{NAME}.yaml").write_text(definition)
    return site


class Dagster:
    """The aggregations of a site in Dagster, as its daemon sees them."""

    def __init__(self, site: Path, instance: dg.DagsterInstance | None = None) -> None:
        self.folder, self.file = site, site / "recon.yaml"
        self.instance = instance or dg.DagsterInstance.ephemeral()
        self.config = recon.open(self.file).config
        self.cursor: str | None = None
        self.sensor = aggregations_sensor(self.config, known_aggregations(self.config))

    @cached_property
    def definitions(self) -> dg.Definitions:
        return build_definitions(self.file)

    @cached_property
    def aggregations(self) -> Aggregations:
        return Aggregations(Intake(self.config, "test"))

    @property
    def resources(self) -> dict[str, Any]:
        files = {"config_file": str(self.file)}
        return {"franchise_database": SiteDatabase(**files), "franchise_store": ReconciliationStore(**files)}

    def deliver(self, *names: str) -> None:
        """Files arrive, all unless some are named, and land."""
        arrive(self.folder, *names)
        recon.open(self.file).deliver(self.folder / "inbox")

    def tick(self) -> list[dg.RunRequest] | str:
        """The requests of a tick, or why there are none."""
        given: dict[str, Any] = {"instance": self.instance, "resources": self.resources, "definitions": self.definitions}
        with dg.build_sensor_context(**given, cursor=self.cursor) as context:
            answer = self.sensor.evaluate_tick(context)
        self.cursor = answer.cursor
        return list(answer.run_requests or ()) or str(answer.skip_message)

    def requested(self) -> dg.RunRequest:
        """The one request of a tick."""
        found = self.tick()
        assert isinstance(found, list), found
        (request,) = found
        return request

    def queued(self, request: dg.RunRequest, status: dg.DagsterRunStatus) -> dg.DagsterRun:
        """The run of Dagster that a request asks for, which has got this far and no further."""
        job = self.definitions.resolve_implicit_global_asset_job_def()
        given: dict[str, Any] = {"tags": dict(request.tags), "asset_selection": frozenset({KEY})}
        return self.instance.create_run_for_job(job, **given, status=status, remote_job_origin=remote_origin(job.name))

    def lapse(self) -> None:
        """The lease of the newest run has run out."""
        self._alter(lease_until=datetime.now(UTC) - timedelta(seconds=1))

    def wait(self) -> None:
        """The newest run ended long enough ago to be tried again."""
        self._alter(ended_at=datetime.now(UTC) - timedelta(hours=1))

    def _alter(self, **values: datetime) -> None:
        with self.aggregations.intake.database.write() as connection:
            connection.execute(AGGREGATION_RUNS.update().where(AGGREGATION_RUNS.c.id == self.runs()[0].id).values(**values))

    def launched(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        """The run of Dagster that a request starts."""
        partition = {PARTITION: request.partition_key} if request.partition_key else {}
        return self.executed({**request.tags, **partition})

    def executed(self, tags: Mapping[str, str]) -> dg.ExecuteInProcessResult:
        """The table is materialized, with its checks."""
        selection = dg.AssetSelection.assets(KEY) | dg.AssetSelection.checks_for_assets(KEY)
        job = dg.define_asset_job("chosen", selection=selection, executor_def=dg.in_process_executor)
        built = dg.Definitions.merge(self.definitions, dg.Definitions(jobs=[job])).resolve_job_def("chosen")
        return built.execute_in_process(instance=self.instance, tags=dict(tags), run_config=QUIET, raise_on_error=False)

    def runs(self) -> list[Run]:
        """The aggregation's runs, newest first."""
        return self.aggregations.runs.all(NAME)

    def metadata(self) -> dict[str, Any]:
        event = self.instance.get_latest_materialization_event(KEY)
        assert event is not None
        assert event.asset_materialization is not None
        return {name: value.value for name, value in event.asset_materialization.metadata.items()}

    def checks(self) -> dict[str, dg.AssetCheckEvaluation]:
        """The newest result of each check."""
        found = {}
        for key in self.definitions.resolve_asset_graph().get_check_keys_for_assets({KEY}):
            for record in self.instance.event_log_storage.get_asset_check_execution_history(key, limit=1):
                event = record.event.dagster_event if record.event else None
                if event is not None and isinstance(event.event_specific_data, dg.AssetCheckEvaluation):
                    found[key.name] = event.event_specific_data
        return found

    def observations(self) -> list[str]:
        """What was observed of the table, newest first."""
        records = self.instance.fetch_observations(KEY, limit=20).records
        return [str(record.asset_observation.description) for record in records if record.asset_observation]
