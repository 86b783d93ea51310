"""Steps of an EMR cluster: submit, find again, wait, cancel.

Protocol: docs/decisions/015-emr.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import Any

from recon.errors import ConnectionLost, ReconError, TimedOut, TryAgain, WrongUsage
from recon.storage.aws_calls import Pace, call, call_with_retries, client

ACTIVE_MAX = 256
"""Pending and running steps that a cluster accepts."""
NAME_LENGTH_MAX, ARGUMENTS_LENGTH_MAX = 256, 10_240
INTERRUPT, KILL = "SEND_INTERRUPT", "TERMINATE_PROCESS"
"""How a step is cancelled: Spark ends its session by itself, or the process of a hanging step is killed."""
_ACTIVE = ["PENDING", "RUNNING", "CANCEL_PENDING"]
ENDED = ("COMPLETED", "CANCELLED", "FAILED", "INTERRUPTED")

Tell = Callable[[str], None]


class Full(TryAgain):
    """A cluster has as many steps as it takes."""


@dataclass(frozen=True)
class EmrStep:
    """A submitted step. Its name ends in ``token``: the digest of its request, and its attempt id."""

    id: str
    name: str
    state: str

    @property
    def token(self) -> tuple[str, str]:
        digest, _, attempt = self.name.rpartition(" ")[2].partition("-")
        return digest, attempt


@dataclass(frozen=True)
class Ended:
    """A step that has ended. ``status``: as DescribeStep returns it."""

    step: str
    status: dict[str, Any]

    @property
    def succeeded(self) -> bool:
        return bool(self.status["State"] == "COMPLETED")


class Steps:
    """The steps of one cluster. ``tell``: receives progress lines for the caller's log."""

    def __init__(self, cluster: str, pace: Pace | None = None, tell: Tell = lambda line: None) -> None:
        self.cluster, self.pace = cluster, pace or Pace()
        self._client, self._tell = client("emr"), tell

    def find(self, digest: str) -> EmrStep | None:
        """The newest active step whose request has this digest, also one by another submitter."""
        return next((step for step in self._listed(_ACTIVE) if step.state != "CANCEL_PENDING" and step.token[0] == digest), None)

    def submit(self, name: str, arguments: Sequence[str], waits: bool = True) -> str:
        """Submits a step that runs a command on the primary instance, once the cluster has room. Returns its id. Without ``waits`` it
        raises Full where there is no room.

        ``name`` must be unique: it identifies the step if the reply to the submission is lost."""
        if len(name) > NAME_LENGTH_MAX or sum(map(len, arguments)) > ARGUMENTS_LENGTH_MAX:
            raise WrongUsage(
                f"step {name[:80]!r}: EMR takes names up to {NAME_LENGTH_MAX} characters, and arguments up to {ARGUMENTS_LENGTH_MAX} "
                "in all; shorten engine.settings"
            )
        jar = {"Jar": "command-runner.jar", "Args": list(arguments)}
        step = {"Name": name, "ActionOnFailure": "CONTINUE", "HadoopJarStep": jar}
        end, tries = time.monotonic() + self.pace.patience, count(1)
        while True:
            self._await_room(waits)
            try:
                return str(call(self._client.add_job_flow_steps, JobFlowId=self.cluster, Steps=[step])["StepIds"][0])
            except ReconError as error:
                if _no_room(error) and not waits:
                    raise Full(f"{self.cluster} took another step in place of this one: it has as many as it takes") from None
                if not _no_room(error) and (isinstance(error, WrongUsage) or time.monotonic() >= end):
                    raise
                lost = isinstance(error, (ConnectionLost, TimedOut))
            self.pace.wait(next(tries), growth=2)
            if lost and (found := next((step for step in self._listed([]) if step.name == name), None)) is not None:
                return found.id

    def wait(self, step: str, timeout: timedelta) -> Ended:
        """Returns when the step has ended. Cancels it if it runs longer than ``timeout`` (raises TimedOut), and if the caller is
        interrupted. If EMR does not answer for long, the step goes on, and the next caller with the same request finds it again."""
        state, since, tries = "", time.monotonic(), count(1)
        try:
            while True:
                status = self.look(step)
                if status["State"] != state:
                    state, since = status["State"], time.monotonic()
                    self._tell(f"step {step} on {self.cluster}: {state}")
                if state in ENDED:
                    return Ended(step, status)
                if state == "RUNNING" and time.monotonic() - since > timeout.total_seconds():
                    self.cancel(step, KILL)
                    raise TimedOut(f"step {step} on {self.cluster} ran for longer than engine.timeout, {timeout}; it was cancelled")
                self.pace.wait(next(tries))
        except BaseException as error:
            if not isinstance(error, Exception):
                self._cancel_at_last(step)
            raise

    def look(self, step: str) -> dict[str, Any]:
        """The status of a step as DescribeStep returns it."""
        found: dict[str, Any] = call_with_retries(self.pace, self._client.describe_step, ClusterId=self.cluster, StepId=step)
        return dict(found["Step"]["Status"])

    def cancel(self, step: str, how: str = INTERRUPT, pace: Pace | None = None) -> None:
        """Requests the end of a step; it ends a little later."""
        cancel = self._client.cancel_steps
        call_with_retries(pace or self.pace, cancel, ClusterId=self.cluster, StepIds=[step], StepCancellationOption=how)

    def described(self) -> dict[str, Any]:
        """The cluster as DescribeCluster returns it."""
        found: dict[str, Any] = call_with_retries(self.pace, self._client.describe_cluster, ClusterId=self.cluster)["Cluster"]
        return found

    def _cancel_at_last(self, step: str) -> None:
        """For a caller that is about to end: waits only briefly and raises nothing, so that the caller's own error is not replaced."""
        self._tell(f"step {step} on {self.cluster}: cancelled, since its run is")
        with suppress(Exception):
            self.cancel(step, pace=self.pace.brief())

    def _await_room(self, waits: bool) -> None:
        for tries in count(1):
            if (active := sum(1 for _ in self._listed(_ACTIVE))) < ACTIVE_MAX:
                return
            if not waits:
                raise Full(f"{self.cluster} has {active} steps pending and running, as many as it takes")
            if tries == 1:
                self._tell(f"{self.cluster} has {active} steps pending and running, as many as it takes; waiting for room")
            self.pace.wait(tries)

    def _listed(self, states: Sequence[str]) -> Iterator[EmrStep]:
        """Steps in these states, or in any state, newest first, page by page."""
        more: dict[str, Any] = {"StepStates": list(states)} if states else {}
        while True:
            page = call_with_retries(self.pace, self._client.list_steps, ClusterId=self.cluster, **more)
            yield from (EmrStep(step["Id"], step["Name"], step["Status"]["State"]) for step in page.get("Steps", []))
            if not page.get("Marker"):
                return
            more["Marker"] = page["Marker"]


def _no_room(error: ReconError) -> bool:
    """Whether EMR refused the step because another caller took the last place."""
    return "Maximum number of active steps" in str(error)
