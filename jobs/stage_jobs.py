"""Jobs of a reconciliation: one a stage, and one over all stages.

Belongs here: which assets a job takes. Does not belong here: when it starts (jobs.sensors) and what it does (recon_assets).
"""

from __future__ import annotations

from typing import Any

import dagster as dg

from recon.config import Config
from recon_assets.assets import STAGE_ASSETS, asset_key, stage_tag

EVERYTHING = "everything"


def job_name(config: Config, stage: str = EVERYTHING) -> str:
    """``orders_merge``, ``orders_everything``."""
    return f"{config.name}_{stage}"


def reconciliation_jobs(config: Config) -> list[Any]:
    """``<name>_land`` … ``<name>_certify``, each with its asset alone, and ``<name>_everything``."""
    each = [
        _job(config, spec.stage, [asset_key(config.name, spec.name)], f"The stage {spec.stage} over a range of windows.")
        for spec in STAGE_ASSETS
    ]
    keys = [asset_key(config.name, spec.name) for spec in STAGE_ASSETS]
    return [*each, _job(config, EVERYTHING, keys, "All stages over a range of windows, from landed files to certificates.")]


def _job(config: Config, stage: str, keys: list[dg.AssetKey], description: str) -> Any:
    return dg.define_asset_job(
        job_name(config, stage),
        selection=dg.AssetSelection.assets(*keys),
        description=description,
        tags={"recon/reconciliation": config.name, **stage_tag(config.name, stage)},
        executor_def=dg.in_process_executor,
    )
