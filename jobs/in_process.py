"""Runs in this process, in the same instance that the UI shows: what ``recon run`` and ``recon demo`` do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import dagster as dg
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.events import RunFailureReason
from dagster._core.execution.api import execute_run
from dagster._core.execution.build_resources import wrap_resources_for_execution
from dagster._core.utils import make_new_run_id

from jobs.asset_jobs import EVERYTHING, job_name, reconciliation_jobs
from jobs.in_flight import InFlight, take_over
from jobs.origin import code_origin, remote_origin
from recon.config import Config
from recon.errors import ReconError, WrongInput, transient_kind
from recon.stages.work import Work
from recon_assets.assets import reconciliation_assets
from recon_assets.checks import reconciliation_checks
from recon_assets.partitions import chosen_tags, range_tags, window_of, windows_asked
from recon_assets.retries import ATTENDED_TAG
from recon_assets.stage_lease import at_work
from resources.dagster_instance import storage_errors_in_one_line
from resources.stores import OpenStore, ReconciliationStore, resource_key

_ATTENDED = {ATTENDED_TAG: "true", "dagster/max_retries": "0"}
"""The person who gave the command is told what failed; the daemon must not start a second run beside the next one."""
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


def materialize_range(
    config: Config, first: str, last: str, instance: dg.DagsterInstance, stage: str = EVERYTHING, **overrides: Any
) -> RangeRun:
    """Runs ``stage`` (all of them, if none is named) over the windows from ``first`` to ``last`` in process, in one run with the
    range's tags. ``overrides``: resources by key that take the place of the usual ones.

    Nothing is raised where a stage fails: what it did before stands, and the failure is in the result. Raises WrongUsage, before
    there is a run, for a range off the grid, reversed or in the future: Dagster would spend minutes on the keys of a long one."""
    windows_asked(config.grid, range_tags(first, last), datetime.now(UTC))
    return _executed(_definitions(config, overrides), config, first, last, instance, stage, make_new_run_id())


class InProcess:
    """Carries out stages as Dagster runs (a recon.stages.pipeline.CarryOut).

    While such a run lives, it holds a lease of its own beside those of its stages: the next sensor or ``recon run`` marks a killed run as
    failed in Dagster."""

    consecutive = True

    def __init__(self, config: Config, instance: dg.DagsterInstance) -> None:
        self._config, self._instance = config, instance

    @cached_property
    def _definitions(self) -> dg.Definitions:
        return _definitions(self._config, {})

    def __call__(self, work: Work, windows: Sequence[str], stages: Sequence[str]) -> None:
        """One Dagster run of all stages, or of a single one, over consecutive windows. Raises the error of the stage that failed."""
        if len(stages) > 1:
            take_over(self._instance, work.store, EVERYTHING, InFlight())
        failure = self._run(work, windows[0], windows[-1], EVERYTHING if len(stages) > 1 else stages[0])
        if failure is not None:
            raise failure

    def _run(self, work: Work, first: str, last: str, stage: str) -> Exception | None:
        """Returns the error of the stage that failed."""
        work.errors.clear()
        run_id = make_new_run_id()
        with storage_errors_in_one_line(self._config.path), at_work(work.store, EVERYTHING, run_id):
            opened = {resource_key(self._config.name): OpenStore(work)}
            done = _executed(self._definitions, self._config, first, last, self._instance, stage, run_id, opened, _ATTENDED)
        if not done.failed:
            return None
        told = "; ".join(f"{asset}: {error}" for asset, error in done.failed.items())
        if not work.errors:
            return WrongInput(f"{first}..{last}: {told} (Dagster run {run_id})")
        error = work.errors[-1]
        kind = transient_kind(error)
        return kind(f"{told}; run it again") if kind is not None and not isinstance(error, ReconError) else error


def _definitions(config: Config, overrides: dict[str, Any]) -> dg.Definitions:
    """What runs in process need: no sensors, no schedules."""
    store = {resource_key(config.name): ReconciliationStore(config_file=str(config.path))}
    return dg.Definitions(
        assets=reconciliation_assets(config),
        asset_checks=reconciliation_checks(config),
        jobs=reconciliation_jobs(config),
        resources={**store, **overrides},
        executor=dg.in_process_executor,
    )


def _executed(
    definitions: dg.Definitions,
    config: Config,
    first: str,
    last: str,
    instance: dg.DagsterInstance,
    stage: str,
    run_id: str,
    resources: dict[str, Any] | None = None,
    tags: dict[str, str] | None = None,
) -> RangeRun:
    """Raises KeyboardInterrupt where the run was interrupted."""
    job = definitions.resolve_job_def(job_name(config, stage))
    # `execute_in_process` would do the same, but its runs belong to no code location.
    run = instance.create_run_for_job(
        job,
        run_id=run_id,
        run_config=_SILENT,
        tags={**job.run_tags, **chosen_tags(config.grid, first, last), **(tags or {})},
        remote_job_origin=remote_origin(job.name),
        job_code_origin=code_origin(job.name),
    )
    here = job.as_ephemeral_job(resource_defs=wrap_resources_for_execution(resources or {}), input_values={})
    result = execute_run(InMemoryJob(here), run, instance)
    failed: dict[str, str] = {}
    metadata: dict[str, dict[str, dict[str, Any]]] = {}
    for event in result.all_events:
        if event.is_job_failure and event.job_failure_data.failure_reason is RunFailureReason.UNEXPECTED_TERMINATION:
            raise KeyboardInterrupt  # Dagster has turned it into an event
        if event.is_step_failure:
            failed[str(event.step_key)] = _one_line(event)
        elif event.is_step_materialization and event.asset_key and event.partition:
            shown = {name: value.value for name, value in event.step_materialization_data.materialization.metadata.items()}
            metadata.setdefault(event.asset_key.path[-1], {})[window_of(config.grid, event.partition)] = shown
    if not result.success and not failed:
        failed["run"] = "it did not come to its stages; see its log in the UI"
    return RangeRun(result.run_id, first, last, failed, metadata)


def _one_line(event: dg.DagsterEvent) -> str:
    told = event.step_failure_data
    if told.user_failure_data and told.user_failure_data.description:
        return told.user_failure_data.description
    error = told.error.cause or told.error if told.error else None
    return error.message.strip().splitlines()[0] if error else "failed without a message"
