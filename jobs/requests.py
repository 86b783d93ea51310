"""The sensor that starts runs for requests of the transformation service: one run drains the small ones, each large one has a run."""

import time
from datetime import UTC, datetime, timedelta

import dagster as dg

from jobs.in_flight import UNFINISHED
from jobs.next_block import seconds_of
from jobs.sensors import TICK, TICK_S, at_start
from recon.api import Reconciliation
from recon.config import Config
from recon.errors import ReconError
from recon.service.submissions import Submission
from recon_assets.service import requests_key

REQUEST_TAG = "recon/request"
LANE_TAG = "recon/lane"
_SLACK = timedelta(minutes=2)
"""Beyond the time of its lane, after which a run that has not ended is taken for dead. Its requests are queued again by their lease."""


def requests_job(config: Config) -> dg.JobDefinition:
    """``<name>_requests``."""
    return dg.define_asset_job(  # type: ignore[return-value]
        f"{config.name}_requests",
        dg.AssetSelection.assets(requests_key(config)),
        description="Carries out requests of the transformation service: the small ones that wait, or one large one.",
        executor_def=dg.in_process_executor,
        tags={"recon/reconciliation": config.name},
    )


def requests_sensor(config: Config) -> dg.SensorDefinition:
    """``<name>_requests_sensor``."""
    job = f"{config.name}_requests"

    @dg.sensor(
        name=f"{config.name}_requests_sensor",
        job_name=job,
        minimum_interval_seconds=seconds_of(TICK, TICK_S),
        default_status=at_start(),
        description="Starts a run for the small requests of the transformation service that wait, and one for each large one.",
    )
    def evaluate(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        try:
            requests = Reconciliation(config.path).service().requests
            small, large = requests.waiting("small", 1), requests.waiting("large")
        except ReconError as error:
            return dg.SkipReason(str(error))
        found = _runs(config, job, context.instance, small, large)
        if not found:
            return dg.SkipReason("the requests that wait have their runs, or wait for a place" if small or large else "no requests wait")
        return dg.SensorResult(run_requests=found)

    return evaluate


def _runs(config: Config, job: str, instance: dg.DagsterInstance, small: list[Submission], large: list[Submission]) -> list[dg.RunRequest]:
    """The runs to start: at most as many for large requests as there are places."""
    service = config.service
    found: list[dg.RunRequest] = []
    if small and not _in_flight(instance, job, {LANE_TAG: "small"}, service.small.time):
        found.append(dg.RunRequest(run_key=f"{job}:small:{time.time_ns()}", tags={LANE_TAG: "small"}))
    places = service.at_once - service.kept_for_small - _in_flight(instance, job, {LANE_TAG: "large"}, service.large.time)
    for one in large:
        if places > 0 and not _in_flight(instance, job, {REQUEST_TAG: one.name}, service.large.time):
            places -= 1
            key = f"{job}:{one.name}:{time.time_ns()}"
            run_config = {"ops": {requests_key(config).to_python_identifier(): {"config": {"only": one.name}}}}
            found.append(dg.RunRequest(run_key=key, run_config=run_config, tags={LANE_TAG: "large", REQUEST_TAG: one.name}))
    return found


def _in_flight(instance: dg.DagsterInstance, job: str, tags: dict[str, str], limit: timedelta) -> int:
    """Runs that are queued or at work, and not for longer than they may be."""
    since = datetime.now(UTC) - limit - _SLACK
    return instance.get_runs_count(dg.RunsFilter(job_name=job, tags=tags, statuses=UNFINISHED, created_after=since))
