"""Chooses the engine that a configuration names; the only module that knows all engines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recon.engines.port import Engine
from recon.errors import WrongUsage

if TYPE_CHECKING:
    from recon.config import Config


def engine_of(config: Config) -> Engine:
    """The engine that ``config`` names. Raises WrongUsage where what it needs is not installed."""
    if config.engine.kind == "spark":
        from recon.engines.spark.engine import Spark

        return Spark()
    if config.engine.elsewhere:
        raise WrongUsage(
            f"{config.path}: engine: kind: {config.engine.kind} is submitted to by runs of Dagster ('recon run', or the UI); for anything "
            "else call recon_spark.py on the cluster (docs/operations.md), or name another kind: any goes on from what another left"
        )
    from recon.engines.duckdb.engine import Embedded

    return Embedded()
