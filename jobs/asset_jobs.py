"""The jobs of a reconciliation: one per stage, those that sensors start, and one for all stages."""

from __future__ import annotations

from typing import Any

import dagster as dg

from recon.config import Config
from recon_assets.assets import STAGE_ASSETS, asset_key, stage_tag

EVERYTHING = "everything"
SENSED = {"reduce": "land_and_reduce", "merge": "prefetch_and_merge", "index": "index", "certify": "certify"}
"""Stage of a sensor → the job that it starts. Pre-fetch and merge are one run: only the next merge can use a pre-fetched file, and a second
run would take longer to start than both stages take."""


def job_name(config: Config, stage: str = EVERYTHING) -> str:
    """``orders_merge``, ``orders_everything``."""
    return f"{config.name}_{stage}"


def stages_of(stage: str) -> tuple[str, ...]:
    """The stages of the job that a stage's sensor starts."""
    return {"reduce": ("land", "reduce"), "merge": ("prefetch", "merge")}.get(stage, (stage,))


def reconciliation_jobs(config: Config) -> list[Any]:
    """The jobs ``<name>_land`` … ``<name>_certify`` with one asset each, the jobs of sensors with two, and ``<name>_everything``."""
    each = [
        _job(config, spec.stage, [asset_key(config.name, spec.name)], f"The stage {spec.stage} over a range of windows.")
        for spec in STAGE_ASSETS
    ]
    both = [
        _job(
            config,
            stage,
            [_key(config, part) for part in stages_of(stage)],
            f"The stages {' and '.join(stages_of(stage))} in one run.",
            job,
        )
        for stage, job in SENSED.items()
        if len(stages_of(stage)) > 1
    ]
    keys = [asset_key(config.name, spec.name) for spec in STAGE_ASSETS]
    return [*each, *both, _job(config, EVERYTHING, keys, "All stages over a range of windows, from landed files to certificates.")]


def _key(config: Config, stage: str) -> dg.AssetKey:
    return next(asset_key(config.name, spec.name) for spec in STAGE_ASSETS if spec.stage == stage)


def _job(config: Config, stage: str, keys: list[dg.AssetKey], description: str, name: str = "") -> Any:
    return dg.define_asset_job(
        job_name(config, name or stage),
        selection=dg.AssetSelection.assets(*keys),
        description=description,
        tags={"recon/reconciliation": config.name, **stage_tag(config.name, stage)},
        executor_def=dg.in_process_executor,
    )
