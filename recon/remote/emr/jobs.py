"""Jobs of an application of EMR Serverless: start, find again, wait, cancel. With Dagster Pipes around them: resources.emr_serverless."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Any

from recon.config.settings import Engine
from recon.errors import Cancelled, ReconError
from recon.remote.emr.failures import error_of
from recon.remote.emr.steps import EmrStep
from recon.remote.emr.submit import SCRIPT, ZIP
from recon.storage.aws_calls import Pace, call_with_retries, client

ENDED = ("SUCCESS", "FAILED", "CANCELLED")
_ACTIVE = ("SUBMITTED", "PENDING", "SCHEDULED", "RUNNING", "QUEUED")


class Jobs:
    """The jobs of one application."""

    def __init__(self, application: str, pace: Pace | None = None) -> None:
        self.application, self.pace = application, pace or Pace()
        self.client = client("emr-serverless")

    def find(self, digest: str) -> EmrStep | None:
        """A running job whose request has this digest, also one of another submitter."""
        more: dict[str, Any] = {}
        while True:
            page = call_with_retries(self.pace, self.client.list_job_runs, applicationId=self.application, states=list(_ACTIVE), **more)
            for job in page["jobRuns"]:
                found = EmrStep(job["id"], str(job.get("name", "")), job["state"])
                if found.token[0] == digest:
                    return found
            if not page.get("nextToken"):
                return None
            more["nextToken"] = page["nextToken"]

    def start(self, asked: Mapping[str, Any]) -> str:
        """Starts a job, once however often it is sent: its ``clientToken`` makes the call idempotent. Returns its id."""
        return str(call_with_retries(self.pace, self.client.start_job_run, **asked)["jobRunId"])

    def look(self, job: str) -> Mapping[str, Any]:
        """The job as GetJobRun returns it."""
        found: Mapping[str, Any] = call_with_retries(self.pace, self.client.get_job_run, applicationId=self.application, jobRunId=job)[
            "jobRun"
        ]
        return found

    def wait(self, job: str) -> Mapping[str, Any]:
        """Waits for a job, which another process may have started, and returns its last state. Cancels it if this process is
        interrupted."""
        tries = count(1)
        try:
            while True:
                run = self.look(job)
                if run["state"] in ENDED:
                    return run
                self.pace.wait(next(tries))
        except BaseException as error:
            if not isinstance(error, Exception):
                with suppress(Exception):  # keep the interruption, not another error
                    self.cancel(job, self.pace.brief())
            raise

    def cancel(self, job: str, pace: Pace | None = None) -> None:
        """Requests the end of a job; it ends a little later."""
        call_with_retries(pace or self.pace, self.client.cancel_job_run, applicationId=self.application, jobRunId=job)


@dataclass(frozen=True)
class Script:
    """A script for Spark in S3, its arguments, and settings of Spark."""

    entry_point: str
    arguments: Sequence[str]
    settings: Mapping[str, str]

    def driver(self) -> dict[str, Any]:
        """The ``jobDriver`` of StartJobRun."""
        settings = " ".join(f"--conf {name}={_quoted(value)}" for name, value in self.settings.items())
        submit = {"entryPoint": self.entry_point, "entryPointArguments": list(self.arguments), "sparkSubmitParameters": settings}
        return {"sparkSubmit": {name: value for name, value in submit.items() if value}}  # AWS refuses empty texts


def asked_of(engine: Engine, name: str, attempt: str, arguments: Sequence[str], more: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The arguments of StartJobRun. ``arguments``: of ``recon_spark.py``; ``more``: further settings of Spark."""
    settings = {**engine.settings, "spark.submit.pyFiles": f"{engine.package}/{ZIP}", **(more or {})}
    return {
        "applicationId": engine.application,
        "executionRoleArn": engine.role,
        "name": name,
        "clientToken": attempt,
        "executionTimeoutMinutes": max(5, int(engine.timeout.total_seconds() // 60)),
        "jobDriver": Script(f"{engine.package}/{SCRIPT}", arguments, settings).driver(),
    }


def error_of_job(run: Mapping[str, Any]) -> ReconError:
    """The error of a job without result."""
    what, details = f"job {run['jobRunId']} of application {run['applicationId']}", str(run.get("stateDetails", ""))
    if run["state"] == "CANCELLED":
        return Cancelled(f"{what} was cancelled; no partial work is visible; run the same again when it may run")
    return error_of(what, {"State": "FAILED", "FailureDetails": {"Message": details}}, {}, [])


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' if any(sign in value for sign in " \"'\\") else value
