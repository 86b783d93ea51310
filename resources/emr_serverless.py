"""Runs stages as jobs of EMR Serverless, started and followed through Dagster Pipes.

Pipes has no ranges of partitions, so the range is passed as extras. Its metadata are not used, since Dagster would attach them to every
partition.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import dagster as dg
from pydantic import Field

from recon.config import Config
from recon.errors import WrongUsage
from recon.remote import exchange
from recon.remote.emr.jobs import ENDED, Jobs, Script, asked_of, error_of_job
from recon.stages.request import DIGEST_LENGTH, Numbers, StageRequest, StageResult
from recon.stages.work import RunOnCluster, Work
from recon.storage import layout
from recon.storage.aws_calls import Pace, call, call_with_retries, client

PACE = Pace()
MESSAGES_S = 10.0
"""Seconds between two polls for messages, and between two uploads of them."""
_CLOSED = '{"__dagster_pipes_version": "0.1", "method": "closed", "params": null}'
"""Pipes' message that ends the stream."""


class EmrServerlessJobs(dg.ConfigurableResource[Any]):
    """Starts the jobs of one run.

    Recon's stages take application and role from ``engine`` in recon.yaml. For jobs of your own, name them here: ::

        import dagster as dg
        from recon_dagster import EmrServerlessJobs

        @dg.asset
        def daily_model(context: dg.AssetExecutionContext, jobs: EmrServerlessJobs) -> None:
            jobs.run("daily model", "s3://code/model.py", ["--day", "2026-11-01"], {"spark.executor.memory": "4g"}, context.log.info)

        jobs = EmrServerlessJobs(application_id="00f1r2o3m4e5x601", role="arn:aws:iam::123456789012:role/models")
        defs = dg.Definitions(assets=[daily_model], resources={"jobs": jobs})
    """

    application_id: str | None = Field(default=None, description="An application, for jobs of your own.")
    role: str | None = Field(default=None, description="The role of these jobs, by its ARN.")
    timeout_s: int = Field(default=43_200, ge=300, description="Seconds after which such a job is ended.")

    def run(
        self,
        name: str,
        entry_point: str,
        arguments: Sequence[str] = (),
        settings: Mapping[str, str] | None = None,
        tell: Callable[[str], None] = print,
    ) -> str:
        """Runs a Spark script and returns the job's id when it has succeeded. A job with these arguments that is still active, such as one
        of a run that was interrupted, is waited for instead. ``settings``: of Spark. ``tell`` receives lines of progress.

        Raises WrongUsage without ``application_id`` and ``role``, and the error of a job that did not succeed."""
        if self.application_id is None or self.role is None:
            raise WrongUsage("EmrServerlessJobs: application_id or role is missing; jobs of your own need both")
        jobs, asked = Jobs(self.application_id, PACE), [name, entry_point, *arguments, *(settings or {}).items()]
        digest, attempt = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:DIGEST_LENGTH], layout.new_attempt()
        if (found := jobs.find(digest)) is not None:
            tell(f"job {found.id} is the same and still active; waiting for that one")
            job = found.id
        else:
            script = Script(entry_point, arguments, settings or {})
            place = {"applicationId": self.application_id, "executionRoleArn": self.role}
            named = {"name": f"{name} {digest}-{attempt}", "clientToken": attempt, "executionTimeoutMinutes": self.timeout_s // 60}
            job = jobs.start({**place, **named, "jobDriver": script.driver()})
            tell(f"job {job} of application {self.application_id} is started")
        ended = jobs.wait(job)
        if ended["state"] != "SUCCESS":
            raise error_of_job(ended)
        return job

    def cluster(self, context: dg.AssetExecutionContext) -> RunOnCluster:
        """The function that runs a stage as a job and logs it in the run's log."""

        def carry_out(work: Work, asked: StageRequest) -> StageResult:
            return _carried_out(context, work, asked)

        return carry_out


def _carried_out(context: dg.AssetExecutionContext, work: Work, asked: StageRequest) -> StageResult:
    application = str(work.config.engine.application)
    jobs = Jobs(application, PACE)
    found = jobs.find(asked.digest(work.config))
    if found is not None:
        attempt = found.token[1]
        work.placed({"emr_application": application, "emr_job": found.id})
        context.log.info(f"job {found.id} is at {asked.stage} of {asked.first}..{asked.last} already; waiting for that one")
        ended = jobs.wait(found.id)
    else:
        attempt = exchange.put_request(work.store, work.config, asked)
        ended = _started(context, work, asked, jobs, attempt)
    _remove_messages(*_place_of_messages(work.config, attempt))
    result = exchange.read_result(work.store, attempt)
    if result is None:
        if ended.get("state") != "SUCCESS":
            exchange.remove(work.store, attempt)
            raise error_of_job(ended)
        result = StageResult()  # another run that waited for this job removed the result; the work itself is in the store
    exchange.remove(work.store, attempt)
    place: Numbers = {"emr_application": application, "emr_job": str(ended["jobRunId"])}
    return result.done_at(place)


def _started(context: dg.AssetExecutionContext, work: Work, asked: StageRequest, jobs: Jobs, attempt: str) -> Mapping[str, Any]:
    """Starts a job through Pipes and returns its last state. Pipes cancels it if this process is interrupted."""
    from dagster_aws.pipes import PipesEMRServerlessClient

    seen = _JobClient(jobs.client, work.placed)
    with _messages(work.config, attempt, seen) as reader:
        pipes = PipesEMRServerlessClient(client=seen, message_reader=reader, poll_interval=PACE.first)
        extras = {"store": work.config.location, "attempt": attempt}
        extras |= {"stage": asked.stage, "first": asked.first, "last": asked.last}
        try:
            # Dagster requires that the results are fetched; they are empty.
            pipes.run(context=context, start_job_run_params=_request(work, asked, attempt), extras=extras).get_results()
        except Exception:
            if not seen.job:
                exchange.remove(work.store, attempt)
                raise
            # Pipes raises for a failed job and for unreadable messages; the result, or the job's state, says how it ended.
    return jobs.wait(seen.job)


class _JobClient:
    """A client for Pipes that records the started job, retries calls, and raises Recon's errors.

    ``over``: no further messages will come, since the job has ended, will be cancelled, or was never started."""

    def __init__(self, jobs: Any, placed: Callable[[Numbers], None]) -> None:
        self._jobs, self._placed, self.job, self.over = jobs, placed, "", True

    def start_job_run(self, **asked: Any) -> Any:
        # Its clientToken makes the call idempotent.
        started = call_with_retries(PACE, self._jobs.start_job_run, **asked)
        self.job, self.over = started["jobRunId"], False
        self._placed({"emr_application": asked["applicationId"], "emr_job": self.job})
        return started

    def get_job_run(self, **asked: Any) -> Any:
        try:
            found = call_with_retries(PACE, self._jobs.get_job_run, **asked)
        except Exception:
            self.over = True
            raise
        self.over = found["jobRun"]["state"] in ENDED
        return found

    def cancel_job_run(self, **asked: Any) -> Any:
        self.over = True
        return call_with_retries(PACE.brief(), self._jobs.cancel_job_run, **asked)

    def get_dashboard_for_job_run(self, **asked: Any) -> Any:
        """No link: it contains a token that gives access to every reader of the log."""
        return "not shown, as it gives access to everyone who has it; get it by 'aws emr-serverless get-dashboard-for-job-run'"

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._jobs, name)
        return lambda **asked: call_with_retries(PACE, method, **asked)


def _request(work: Work, asked: StageRequest, attempt: str) -> dict[str, Any]:
    """The arguments of StartJobRun."""
    config = work.config
    name = f"recon {config.name} {asked.stage} {asked.first}..{asked.last} {asked.digest(config)}-{attempt}"
    uploads = {"spark.emr-serverless.driverEnv.RECON_PIPES_S": f"{MESSAGES_S:g}"}
    return {**asked_of(config.engine, name, attempt, ["step"], uploads), "tags": {"recon": config.name}}


@contextmanager
def _messages(config: Config, attempt: str, seen: _JobClient) -> Iterator[Any]:
    """A reader of Pipes' messages from this attempt's own folder, which is deleted when the job is over."""
    from dagster_aws.pipes import PipesS3MessageReader
    from dagster_pipes import PipesBlobStoreMessageWriter

    bucket, folder = _place_of_messages(config, attempt)

    class Reader(PipesS3MessageReader):
        """Dagster's reader puts messages anywhere in the bucket, and waits ten seconds for further messages of a dead job."""

        @contextmanager
        def get_params(self) -> Iterator[dict[str, Any]]:
            yield {"bucket": bucket, "key_prefix": folder, PipesBlobStoreMessageWriter.INCLUDE_STDIO_IN_MESSAGES_KEY: False}

        def messages_are_readable(self, params: Any) -> bool:
            return seen.over or bool(super().messages_are_readable(params))

        def download_messages_chunk(self, index: int, params: Any) -> str | None:
            over = seen.over  # read before the download, so that messages from before the end are found
            return super().download_messages_chunk(index, params) or (_CLOSED if over else None)

    try:
        yield Reader(bucket=bucket, client=client("s3"), interval=MESSAGES_S)
    finally:
        _remove_messages(bucket, folder)


def _place_of_messages(config: Config, attempt: str) -> tuple[str, str]:
    """Bucket and prefix of an attempt's messages."""
    place = config.engine.messages or f"{config.store.rstrip('/')}/{layout.STEPS}"
    bucket, _, prefix = place.removeprefix("s3://").partition("/")
    return bucket, "/".join(filter(None, (prefix.rstrip("/"), attempt, "pipes")))


def _remove_messages(bucket: str, folder: str) -> None:
    s3 = client("s3")
    listed = call(s3.list_objects_v2, Bucket=bucket, Prefix=f"{folder}/")
    for found in listed.get("Contents", []):
        call(s3.delete_object, Bucket=bucket, Key=found["Key"])
