"""Runs stages as steps of EMR, on a long-running cluster or on the run's own transient cluster."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import dagster as dg
from pydantic import Field, PrivateAttr

from recon.config.settings import Engine
from recon.errors import ReconError, WrongUsage
from recon.remote.emr import transient
from recon.remote.emr.logs import Logs
from recon.remote.emr.steps import Steps
from recon.remote.emr.submit import failed, run_step
from recon.stages.request import DIGEST_LENGTH, StageRequest, StageResult
from recon.stages.work import RunOnCluster, Work
from recon.storage import layout
from recon.storage.aws_calls import Pace, client

PACE = Pace()


class EmrSteps(dg.ConfigurableResource[Any]):
    """Submits the steps of one run. Starts nothing before there is work.

    Recon's stages take their cluster from ``engine`` in recon.yaml. For steps of your own, name it here: ::

        import dagster as dg
        from recon_dagster import EmrSteps

        @dg.asset
        def daily_model(context: dg.AssetExecutionContext, emr: EmrSteps) -> None:
            emr.run("daily model", ["spark-submit", "s3://code/model.py", "--day", "2026-11-01"], context.log.info)

        defs = dg.Definitions(assets=[daily_model], resources={"emr": EmrSteps(cluster_id="j-2AXXXXXXGAPLF")})
    """

    cluster_id: str | None = Field(default=None, description="A running cluster, for steps of your own.")
    timeout_s: int = Field(default=43_200, ge=1, description="Seconds after which a step of your own is cancelled.")

    _own: str | None = PrivateAttr(default=None)
    """Id of the run's own cluster, once it is started."""

    def cluster(self, context: dg.AssetExecutionContext) -> RunOnCluster:
        """The function that runs a stage as a step and logs it in the run's log."""

        def carry_out(work: Work, asked: StageRequest) -> StageResult:
            cluster = self._cluster(work.config.engine, work.config.name, context)
            with notes_logged(context):
                answer = run_step(work, asked, Steps(cluster, PACE, context.log.info), context.log.info)
            return answer.done_at({"emr_console": _console(cluster)})

        return carry_out

    def run(self, name: str, command: Sequence[str], tell: Callable[[str], None] = print) -> str:
        """Runs a command on the cluster's primary instance and returns the step's id when it has succeeded. A step with this name and
        command that is still active, such as one of a run that was interrupted, is waited for instead. ``tell`` receives lines of progress.

        Raises WrongUsage without ``cluster_id``, and the error of a step that did not succeed; Cancelled, TimedOut and TryAgain among
        them."""
        if self.cluster_id is None:
            raise WrongUsage("EmrSteps: cluster_id is missing; name a running cluster, such as EmrSteps(cluster_id='j-…')")
        steps = Steps(self.cluster_id, PACE, tell)
        digest = hashlib.sha256(json.dumps([name, *command]).encode()).hexdigest()[:DIGEST_LENGTH]
        found = steps.find(digest)
        step = steps.submit(f"{name} {digest}-{layout.new_attempt()}", command) if found is None else found.id
        ended = steps.wait(step, timedelta(seconds=self.timeout_s))
        if ended.succeeded:
            return step
        cluster = steps.described()
        raise failed(ended, cluster, Logs.of_step(cluster.get("LogUri"), steps.cluster, step), steps, tell)

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Terminates the run's own cluster, however the run has ended."""
        own, self._own = self._own, None
        if own is None:
            return
        try:
            transient.end(own, PACE)
        except Exception as error:
            if context.log is not None:
                context.log.error(f"cluster {own} could not be terminated ({error}); terminate it, or it ends after engine.transient.idle")
            return
        if context.log is not None:
            context.log.info(f"cluster {own} is terminated")

    def _cluster(self, engine: Engine, name: str, context: dg.AssetExecutionContext) -> str:
        if engine.transient is None:
            assert engine.cluster is not None
            return engine.cluster
        if self._own is not None and not transient.alive(self._own, PACE):
            self._own = None  # it was lost; the next attempt of the stage starts another
        if self._own is None:
            self._own = transient.start(f"recon-{name}-{context.run.run_id}", engine, engine.transient)
            context.log.info(f"cluster {self._own} was started for this run")
        return self._own


@contextmanager
def notes_logged(context: dg.AssetExecutionContext) -> Iterator[None]:
    """Writes a failure's notes, which are the place of its logs and their last lines, into the run's log, also for a retried attempt."""
    try:
        yield
    except ReconError as error:
        for note in getattr(error, "__notes__", ()):
            context.log.error(note)
        raise


def _console(cluster: str) -> str:
    region = client("emr").meta.region_name
    return f"https://{region}.console.aws.amazon.com/emr/home?region={region}#/clusterDetails/{cluster}"
