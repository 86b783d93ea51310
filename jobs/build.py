"""Builds the Dagster definitions of all reconciliations: assets, checks, jobs, sensors, schedules and resources.

It opens no store and enumerates no windows.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import dagster as dg

from jobs.arrivals import delivery_sensor, has_sources
from jobs.asset_jobs import reconciliation_jobs
from jobs.configurations import Configurations, read_configurations
from jobs.schedules import reconciliation_schedules, upkeep_job
from jobs.sensors import reconciliation_sensors
from recon_assets.assets import reconciliation_assets
from recon_assets.checks import reconciliation_checks
from recon_assets.intake import arrival_check, delivery_job, intake_assets, intake_names
from resources.dagster_instance import configuration_path
from resources.database import SiteDatabase, database_key
from resources.stores import ReconciliationStore, resource_key

_LOG = logging.getLogger(__name__)


def build_definitions(configuration: str | Path | None = None, **overrides: Any) -> dg.Definitions:
    """The definitions of all reconciliations of ``configuration``: a file, or a folder of such files; else $RECON_CONFIG, else
    recon.yaml in the working directory. ``overrides``: resources by key, such as ``orders_store``, that replace the usual ones.

    A file with a mistake disables only its own reconciliation; the asset <file>_configuration_error shows the mistake.
    Raises WrongUsage if there is no file."""
    found = read_configurations(configuration_path(configuration))
    return _definitions(found, overrides)


def _definitions(found: Configurations, overrides: dict[str, Any]) -> dg.Definitions:
    stores = {resource_key(config.name): ReconciliationStore(config_file=str(config.path)) for config in found.good}
    fed = [config for config in found.good if has_sources(config)]
    databases = {database_key(config.name): SiteDatabase(config_file=str(config.path)) for config in fed}
    return dg.Definitions(
        assets=[
            *(asset for config in fed for asset in intake_assets(config)),
            *(
                asset
                for config in found.good
                for asset in reconciliation_assets(config, intake_names(config)[-1:] if config in fed else ())
            ),
            *(_marker(file, error) for file, error in found.broken.items()),
        ],
        asset_checks=[
            *(check for config in found.good for check in reconciliation_checks(config)),
            *(arrival_check(config) for config in fed),
        ],
        jobs=[
            *(job for config in found.good for job in (*reconciliation_jobs(config), upkeep_job(config))),
            *(delivery_job(config) for config in fed),
        ],
        sensors=[
            *(sensor for config in found.good for sensor in reconciliation_sensors(config)),
            *(delivery_sensor(config) for config in fed),
        ],
        schedules=[schedule for config in found.good for schedule in reconciliation_schedules(config)],
        resources={**stores, **databases, **overrides},
        # Backfills from the UI use the implicit job, which takes its executor from here.
        executor=dg.in_process_executor,
    )


def _marker(file: Path, error: str) -> dg.AssetSpec:
    """An asset that shows the mistake in a configuration file; it cannot be materialized."""
    _LOG.warning("configuration error, this reconciliation is disabled: %s", error)
    return dg.AssetSpec(
        key=re.sub(r"[^A-Za-z0-9_]", "_", file.stem) + "_configuration_error",
        description=error,
        group_name="configuration_errors",
        metadata={"error": error, "file": dg.MetadataValue.path(str(file))},
        tags={"recon/configuration_error": "true"},
    )
