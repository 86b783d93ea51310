"""Runs in this process, in the same instance that the UI shows.

Belongs here: materializing a range of windows as one Dagster run. Does not belong here: deciding which windows are due.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from jobs.build import everything_job
from recon.config import Config
from recon.errors import WrongInput
from recon_assets.grid import range_tags, windows_asked

# The caller tells what happened; the run's own log is in the UI.
_SILENT = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True)
class RangeRun:
    """One Dagster run over a range. ``failed``: the stage's asset → its error in one line; empty where all went well."""

    run_id: str
    first: str
    last: str
    failed: dict[str, str]
    metadata: dict[str, dict[str, dict[str, Any]]]
    """Asset → window → the figures that were attached."""

    def raise_failure(self) -> None:
        """Raises WrongInput with the first failure, naming the run; returns where there is none."""
        for asset, error in self.failed.items():
            raise WrongInput(f"{self.first}..{self.last}: {asset}: {error} (Dagster run {self.run_id})")


def materialize_range(config: Config, first: str, last: str, instance: dg.DagsterInstance, **overrides: Any) -> RangeRun:
    """Runs all stages over the windows from ``first`` to ``last`` in process, in one run with the range's tags.

    Nothing is raised where a stage fails: what it did before stands, and the failure is in the result. Raises WrongUsage, before
    there is a run, for a range off the grid, reversed or in the future: Dagster would spend minutes on the keys of a long one."""
    windows_asked(config.grid, range_tags(first, last), datetime.now(UTC))
    result = everything_job(config, **overrides).execute_in_process(
        instance=instance, tags=range_tags(first, last), run_config=_SILENT, raise_on_error=False
    )
    failed: dict[str, str] = {}
    metadata: dict[str, dict[str, dict[str, Any]]] = {}
    for event in result.all_events:
        if event.is_step_failure:
            failed[str(event.step_key)] = _one_line(event)
        elif event.is_step_materialization and event.asset_key and event.partition:
            shown = {name: value.value for name, value in event.step_materialization_data.materialization.metadata.items()}
            metadata.setdefault(event.asset_key.path[-1], {})[event.partition] = shown
    return RangeRun(result.run_id, first, last, failed, metadata)


def _one_line(event: dg.DagsterEvent) -> str:
    told = event.step_failure_data
    if told.user_failure_data and told.user_failure_data.description:
        return told.user_failure_data.description
    error = told.error.cause or told.error if told.error else None
    return error.message.strip().splitlines()[0] if error else "failed without a message"
