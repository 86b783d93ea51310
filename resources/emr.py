"""Runs stages as steps of EMR, on a long-running cluster or on the run's own transient cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
from pydantic import PrivateAttr

from recon.config.settings import Engine
from recon.errors import ReconError
from recon.remote.emr import transient
from recon.remote.emr.steps import Steps
from recon.remote.emr.submit import run_step
from recon.stages.request import StageRequest, StageResult
from recon.stages.work import RunOnCluster, Work
from recon.storage.aws_calls import Pace, client

PACE = Pace()


class EmrSteps(dg.ConfigurableResource[Any]):
    """Submits the steps of one run. Starts nothing before a stage has work."""

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
