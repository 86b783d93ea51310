"""Builds the Dagster definitions of all reconciliations: assets, checks, jobs, sensors, schedules and resources.

It opens no store and enumerates no windows.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from jobs.aggregations import aggregations_sensor
from jobs.arrivals import delivery_sensor
from jobs.asset_jobs import reconciliation_jobs
from jobs.configurations import Configurations, read_configurations
from jobs.incidents import incidents_sensor
from jobs.monitoring import monitoring_sensor
from jobs.quiet import Watch
from jobs.requests import requests_job, requests_sensor
from jobs.schedules import reconciliation_schedules, upkeep_job
from jobs.sensors import reconciliation_sensors
from recon.config import Config
from recon.intake.sources.folder import has_sources
from recon_assets.aggregation_checks import aggregation_checks
from recon_assets.aggregations import Known, aggregation_assets, known_aggregations
from recon_assets.assets import reconciliation_assets
from recon_assets.checks import reconciliation_checks
from recon_assets.intake import arrival_check, delivery_job, intake_assets, intake_names
from recon_assets.service import service_assets
from recon_assets.transformations import known_requests, transformation_assets, transformations_job
from resources.artifacts import Artifacts, artifacts_key
from resources.dagster_instance import configuration_path
from resources.database import SiteDatabase, database_key
from resources.json_console import set_up_logs
from resources.stores import ReconciliationStore, resource_key

_LOG = logging.getLogger(__name__)


def build_definitions(
    configuration: str | Path | None = None,
    *,
    owners: Sequence[str] | None = None,
    group: str | None = None,
    pool: str | None = None,
    **overrides: Any,
) -> dg.Definitions:
    """The definitions of all reconciliations of ``configuration``: a file, or a folder of such files; else $RECON_CONFIG, else
    recon.yaml in the working directory. They have no executor, so that they can be merged with definitions that have one.

    ``owners``, ``group``: of all assets, instead of ``team:<name>`` and ``<name>``. ``pool``: of all steps, instead of one for each
    stage of each reconciliation. ``overrides``: resources by key, such as ``orders_store``, that replace the usual ones.

    A file with a mistake disables only its own reconciliation; the asset <file>_configuration_error shows the mistake.
    Raises WrongUsage if there is no file."""
    set_up_logs()
    found = read_configurations(configuration_path(configuration))
    return _definitions(found, Labels(owners, group, pool), overrides)


@dataclass(frozen=True)
class Labels:
    """Owners and group of all assets, and the pool of all steps; None for those of each reconciliation."""

    owners: Sequence[str] | None
    group: str | None
    pool: str | None

    def put_on(self, spec: dg.AssetSpec) -> dg.AssetSpec:
        """The asset with these owners and this group."""
        return spec.replace_attributes(owners=list(self.owners or spec.owners), group_name=self.group or spec.group_name)


def _definitions(found: Configurations, labels: Labels, overrides: dict[str, Any]) -> dg.Definitions:
    stores = {resource_key(config.name): ReconciliationStore(config_file=str(config.path)) for config in found.good}
    tables = {artifacts_key(config.name): Artifacts(config_file=str(config.path)) for config in found.good}
    fed = [config for config in found.good if has_sources(config)]
    aggregated = [(config, known) for config in fed if not (known := known_aggregations(config)).empty]
    transformed = [(config, requests) for config in found.good if (requests := known_requests(config)).good or requests.broken]
    served = [config for config in found.good if config.service.owners]
    watches = {config.name: Watch(config.name) for config in found.good}
    databases = {database_key(config.name): SiteDatabase(config_file=str(config.path)) for config in fed}
    return dg.Definitions(
        assets=dg.map_asset_specs(
            labels.put_on,
            [
                *(asset for config in fed for asset in intake_assets(config, labels.pool)),
                *(
                    asset
                    for config in found.good
                    for asset in reconciliation_assets(config, intake_names(config)[-1:] if config in fed else (), labels.pool)
                ),
                *(asset for config, known in aggregated for asset in aggregation_assets(config, known, labels.pool)),
                *(asset for config, requests in transformed for asset in transformation_assets(config, requests, labels.pool)),
                *(asset for config in served for asset in service_assets(config)),
                *(_marker(file.stem, error, file) for file, error in found.broken.items()),
                *(marker for config, known in aggregated for marker in _aggregation_markers(config, known)),
                *(_marker(f"{config.name}_{name}", error) for config, requests in transformed for name, error in requests.broken.items()),
            ],
        ),
        asset_checks=[
            *(check for config in found.good for check in reconciliation_checks(config)),
            *(arrival_check(config) for config in fed),
            *(check for config, known in aggregated for check in aggregation_checks(config, known)),
        ],
        jobs=[
            *(job for config in found.good for job in (*reconciliation_jobs(config), upkeep_job(config, labels.pool))),
            *(delivery_job(config, labels.pool) for config in fed),
            *(transformations_job(config, requests) for config, requests in transformed if requests.good),
            *(requests_job(config) for config in served),
        ],
        sensors=[
            *(sensor for config in found.good for sensor in reconciliation_sensors(config, watches[config.name])),
            *(delivery_sensor(config) for config in fed),
            *(aggregations_sensor(config, known) for config, known in aggregated),
            *(requests_sensor(config) for config in served),
            *(incidents_sensor(config, watches[config.name]) for config in found.good if config.observability.webhook.on),
            *(monitoring_sensor(config, watches[config.name]) for config in found.good if config.observability.metrics.file),
        ],
        schedules=[schedule for config in found.good for schedule in reconciliation_schedules(config)],
        resources={**stores, **tables, **databases, **overrides},
    )


def _aggregation_markers(config: Config, known: Known) -> Iterator[dg.AssetSpec]:
    """One for each definition with a mistake, and one where the table of definitions could not be read."""
    for name, error in known.definitions.broken.items():
        yield _marker(f"{config.name}_{name}", error)
    if known.unread:
        error = f"the table 'aggregations' could not be read ({known.unread}); aggregations without a file are here after Reload"
        yield _marker(f"{config.name}_aggregations", error)


def _marker(name: str, error: str, file: Path | None = None) -> dg.AssetSpec:
    """An asset that shows the mistake in a configuration, or in an aggregation's definition; it cannot be materialized."""
    _LOG.warning("configuration error, %s is disabled: %s", name, error)
    return dg.AssetSpec(
        key=re.sub(r"[^A-Za-z0-9_]", "_", name) + "_configuration_error",
        description=error,
        group_name="configuration_errors",
        metadata={"error": error, **({} if file is None else {"file": dg.MetadataValue.path(str(file))})},
        tags={"recon/configuration_error": "true"},
    )
