"""Executes Dagster runs in this process, for ``recon run`` and ``recon demo``, in the instance that the UI shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from recon_assets.partitions import chosen_tags
from recon_assets.retries import ATTENDED_TAG
from recon_assets.stage_lease import at_work
from resources.artifacts import Artifacts, artifacts_key
from resources.dagster_instance import storage_errors_in_one_line
from resources.json_console import set_up_logs
from resources.stores import OpenStore, ReconciliationStore, resource_key

_ATTENDED = {ATTENDED_TAG: "true", "dagster/max_retries": "0"}
"""The command reports failures to its caller; the daemon must not retry the run meanwhile."""
# The command reports what happened; the run's own log is in the UI.
_SILENT = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class InProcess:
    """Carries out stages as Dagster runs (see recon.stages.pipeline.CarryOut).

    Each run holds a lease of its own besides those of its stages, so that the next sensor or ``recon run`` marks a killed run as failed."""

    consecutive = True

    def __init__(self, config: Config, instance: dg.DagsterInstance) -> None:
        self._config, self._instance = config, instance

    @cached_property
    def _executor(self) -> _Executor:
        return _Executor(self._config, self._instance, _definitions(self._config))

    def __call__(self, work: Work, windows: Sequence[str], stages: Sequence[str]) -> None:
        """Executes one Dagster run of all stages, or of one, over consecutive windows. Raises the error of the stage that failed."""
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
            failed = self._executor.execute(first, last, stage, run_id, opened, _ATTENDED)
        if not failed:
            return None
        message = "; ".join(f"{asset}: {error}" for asset, error in failed.items())
        if not work.errors:
            return WrongInput(f"{first}..{last}: {message} (Dagster run {run_id})")
        error = work.errors[-1]
        kind = transient_kind(error)
        return kind(f"{message}; run it again") if kind is not None and not isinstance(error, ReconError) else error


def _definitions(config: Config) -> dg.Definitions:
    """The definitions for runs in this process: no sensors, no schedules."""
    set_up_logs()
    return dg.Definitions(
        assets=reconciliation_assets(config),
        asset_checks=reconciliation_checks(config),
        jobs=reconciliation_jobs(config),
        resources={
            resource_key(config.name): ReconciliationStore(config_file=str(config.path)),
            artifacts_key(config.name): Artifacts(config_file=str(config.path)),  # so that the job is the one that the UI has
        },
        executor=dg.in_process_executor,
    )


@dataclass(frozen=True)
class _Executor:
    """Executes runs of a reconciliation's jobs in this process."""

    config: Config
    instance: dg.DagsterInstance
    definitions: dg.Definitions

    def execute(
        self,
        first: str,
        last: str,
        stage: str,
        run_id: str,
        resources: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> dict[str, str]:
        """Executes one run. Returns asset → error in one line, empty after success. ``resources``: replace those of the definitions.

        Raises KeyboardInterrupt if the run was interrupted."""
        job = self.definitions.resolve_job_def(job_name(self.config, stage))
        # `execute_in_process` would do the same, but its runs belong to no code location.
        run = self.instance.create_run_for_job(
            job,
            run_id=run_id,
            run_config=_SILENT,
            tags={**job.run_tags, **chosen_tags(self.config.grid, first, last), **(tags or {})},
            remote_job_origin=remote_origin(job.name),
            job_code_origin=code_origin(job.name),
        )
        here = job.as_ephemeral_job(resource_defs=wrap_resources_for_execution(dict(resources or {})), input_values={})
        result = execute_run(InMemoryJob(here), run, self.instance)
        failed: dict[str, str] = {}
        for event in result.all_events:
            if event.is_job_failure and event.job_failure_data.failure_reason is RunFailureReason.UNEXPECTED_TERMINATION:
                raise KeyboardInterrupt  # which Dagster turned into an event
            if event.is_step_failure:
                failed[str(event.step_key)] = _one_line(event)
        if not result.success and not failed:
            failed["run"] = "it did not come to its stages; see its log in the UI"
        return failed


def _one_line(event: dg.DagsterEvent) -> str:
    failure = event.step_failure_data
    if failure.user_failure_data and failure.user_failure_data.description:
        return failure.user_failure_data.description
    error = failure.error.cause or failure.error if failure.error else None
    return error.message.strip().splitlines()[0] if error else "failed without a message"
