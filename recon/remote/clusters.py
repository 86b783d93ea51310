"""Where a configuration's engine runs steps that need no Dagster: a cluster of EMR, or an application of EMR Serverless."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from recon.config import Config
from recon.errors import ReconError, WrongUsage
from recon.remote.emr import transient
from recon.remote.emr.jobs import ENDED as JOB_ENDED
from recon.remote.emr.jobs import Jobs, asked_of, error_of_job
from recon.remote.emr.logs import Logs
from recon.remote.emr.steps import ENDED, EmrStep, Ended, Steps, Tell
from recon.remote.emr.submit import command, failed
from recon.storage.aws_calls import Pace

PACE = Pace()
"""Of questions to AWS."""


class Cluster(Protocol):
    """What runs steps."""

    @property
    def place(self) -> str:
        """The id of the cluster or of the application."""
        ...

    def find(self, digest: str) -> EmrStep | None:
        """A step that is waiting or running, whose request has this digest."""
        ...

    def submit(self, name: str, attempt: str) -> str:
        """Submits a step for a request in the store, and returns its id."""
        ...

    def has_ended(self, step: str) -> bool: ...

    def wait(self, step: str) -> None:
        """Returns when a step has ended. Cancels it if this process is interrupted."""
        ...

    def why_failed(self, step: str) -> ReconError | None:
        """The error of a step that has ended and left no result; None of one that succeeded."""
        ...

    def cancel(self, step: str) -> None: ...


def cluster_of(config: Config, place: str, tell: Tell = lambda line: None, waits: bool = True) -> Cluster:
    """``place``: the id of a cluster that was started for a request, else "". ``waits``: for room, where a cluster is full.
    Raises WrongUsage for an engine that runs in this process."""
    engine = config.engine
    match engine.kind:
        case "emr":
            return _Emr(config, Steps(place or str(engine.cluster), PACE, tell), tell, waits)
        case "emr_serverless":
            return _Serverless(config, Jobs(str(engine.application), PACE))
        case _:
            raise WrongUsage(f"{config.path}: engine: kind: {engine.kind} has no cluster; write kind: emr or emr_serverless")


def start_if_transient(config: Config, name: str) -> str:
    """The id of a cluster that is started for one request; "" where the configuration names one that runs."""
    return "" if config.engine.transient is None else transient.start(f"recon-{config.name}-{name}", config.engine, config.engine.transient)


def end_started(place: str) -> None:
    """Terminates a cluster that was started for one request."""
    transient.end(place, PACE)


@dataclass(frozen=True)
class _Emr:
    config: Config
    steps: Steps
    tell: Tell
    waits: bool

    @property
    def place(self) -> str:
        return self.steps.cluster

    def find(self, digest: str) -> EmrStep | None:
        return self.steps.find(digest)

    def submit(self, name: str, attempt: str) -> str:
        return self.steps.submit(name, command(self.config.engine, self.config.location, attempt), self.waits)

    def has_ended(self, step: str) -> bool:
        return self.steps.look(step)["State"] in ENDED

    def wait(self, step: str) -> None:
        self.steps.wait(step, self.config.engine.timeout)

    def why_failed(self, step: str) -> ReconError | None:
        ended = Ended(step, self.steps.look(step))
        if ended.succeeded:
            return None
        cluster = self.steps.described()
        return failed(ended, cluster, Logs.of_step(cluster.get("LogUri"), self.place, step), self.steps, self.tell)

    def cancel(self, step: str) -> None:
        self.steps.cancel(step)


@dataclass(frozen=True)
class _Serverless:
    config: Config
    jobs: Jobs

    @property
    def place(self) -> str:
        return self.jobs.application

    def find(self, digest: str) -> EmrStep | None:
        return self.jobs.find(digest)

    def submit(self, name: str, attempt: str) -> str:
        arguments = ["step", "--store", self.config.location, "--attempt", attempt]
        return self.jobs.start({**asked_of(self.config.engine, name, attempt, arguments), "tags": {"recon": self.config.name}})

    def has_ended(self, step: str) -> bool:
        return self.jobs.look(step)["state"] in JOB_ENDED

    def wait(self, step: str) -> None:
        self.jobs.wait(step)

    def why_failed(self, step: str) -> ReconError | None:
        run = self.jobs.look(step)
        return None if run["state"] == "SUCCESS" else error_of_job(run)

    def cancel(self, step: str) -> None:
        self.jobs.cancel(step)
