"""One Dagster run over a range in this process, with the figures that it attached."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from dagster._core.utils import make_new_run_id

from jobs.asset_jobs import EVERYTHING
from jobs.in_process import _definitions, _Executor
from recon.config import Config
from recon_assets.partitions import range_tags, window_of, windows_asked


@dataclass(frozen=True)
class RangeRun:
    """``failed``: asset → error in one line. ``metadata``: asset → window → figures."""

    run_id: str
    failed: dict[str, str]
    metadata: dict[str, dict[str, dict[str, Any]]]

    def raise_failure(self) -> None:
        assert not self.failed, self.failed


def materialize_range(config: Config, first: str, last: str, instance: dg.DagsterInstance) -> RangeRun:
    """All stages over the windows from ``first`` to ``last``. Raises WrongUsage, before there is a run, for a range that cannot be."""
    windows_asked(config.grid, range_tags(first, last), datetime.now(UTC))
    run_id = make_new_run_id()
    failed = _Executor(config, instance, _definitions(config)).execute(first, last, EVERYTHING, run_id)
    metadata: dict[str, dict[str, dict[str, Any]]] = {}
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION):
        event = entry.dagster_event
        if event is not None and event.asset_key and event.partition:
            figures = {name: value.value for name, value in event.step_materialization_data.materialization.metadata.items()}
            metadata.setdefault(event.asset_key.path[-1], {})[window_of(config.grid, event.partition)] = figures
    return RangeRun(run_id, failed, metadata)
