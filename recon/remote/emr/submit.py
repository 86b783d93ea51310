"""A stage of a range as one step on a cluster: asked in the store, submitted or found again, waited for, its answer read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recon.config.settings import Engine
from recon.errors import ReconError, WrongUsage
from recon.remote import exchange
from recon.remote.emr.failures import GONE, cluster_error, error_of
from recon.remote.emr.logs import Logs
from recon.remote.emr.steps import Ended, Steps, Tell
from recon.stages.request import Numbers, StageRequest, StageResult
from recon.stages.work import Work

ZIP, SCRIPT = "recon-spark.zip", "recon_spark.py"


def run_step(work: Work, asked: StageRequest, steps: Steps, tell: Tell) -> StageResult:
    """What came of it. Raises the error of a step that did not answer; the one that it answered with is in the answer."""
    step, attempt = _submitted(work, asked, steps, tell)
    ended = steps.wait(step, work.config.engine.timeout)
    told = exchange.read_answer(work.store, attempt)
    cluster = steps.described()
    logs = Logs.of_step(cluster.get("LogUri"), steps.cluster, step)
    place: Numbers = {"emr_cluster": steps.cluster, "emr_step": step, **({"emr_logs": logs.folder} if logs else {})}
    if told is None:
        if not ended.succeeded:
            exchange.forget(work.store, attempt)
            raise _failed(ended, cluster, logs, steps, tell)
        told = StageResult()  # somebody else who waited for the same step has read and removed it; the work itself is in the store
    exchange.forget(work.store, attempt)
    if told.error is not None and logs is not None:
        told.error.add_note(f"logs: {logs.folder}")
    return told.done_at(place)


def _submitted(work: Work, asked: StageRequest, steps: Steps, tell: Tell) -> tuple[str, str]:
    """Id and attempt of the step: one that is at the very same work already, else a new one."""
    config, digest = work.config, asked.digest(work.config)
    if (found := steps.find(digest)) is not None:
        tell(f"step {found.id} on {steps.cluster} is at {asked.stage} of {asked.first}..{asked.last} already; waiting for that one")
        return found.id, found.token[1]
    attempt = exchange.ask(work.store, config, asked)
    name = f"recon {config.name} {asked.stage} {asked.first}..{asked.last} {digest}-{attempt}"
    try:
        step = steps.submit(name, command(config.engine, config.location, attempt))
    except WrongUsage as error:
        exchange.forget(work.store, attempt)
        raise _of_a_gone_cluster(config.engine, steps) or error from None
    except Exception:
        exchange.forget(work.store, attempt)
        raise
    tell(f"step {step} on {steps.cluster}: submitted for {asked.stage} of {asked.first}..{asked.last}")
    return step, attempt


def command(engine: Engine, store: str, attempt: str) -> list[str]:
    """What the step runs. The driver runs on the primary instance: its exit status and its stderr are the step's, and it ends with it."""
    settings = [word for name, value in engine.settings.items() for word in ("--conf", f"{name}={value}")]
    library = ["--py-files", f"{engine.package}/{ZIP}", f"{engine.package}/{SCRIPT}"]
    return ["spark-submit", "--deploy-mode", "client", *settings, *library, "step", "--store", store, "--attempt", attempt]


def _of_a_gone_cluster(engine: Engine, steps: Steps) -> ReconError | None:
    """Where steps are refused since their cluster is gone: why it is. One of the run's own is followed by another; one that the
    configuration names is not."""
    try:
        status = steps.described()["Status"]
    except ReconError:
        return None
    if status["State"] not in GONE:
        return None
    error = cluster_error(f"no step was submitted to {steps.cluster}", status)
    return error if engine.transient else WrongUsage(f"{error}; engine.cluster: name one that runs")


def _failed(ended: Ended, cluster: Mapping[str, Any], logs: Logs | None, steps: Steps, tell: Tell) -> ReconError:
    lines: list[str] = []
    if logs is not None and ended.status["State"] == "FAILED":
        tell(f"step {ended.step} on {steps.cluster} left no answer; waiting for its logs in {logs.folder}")
        lines = logs.awaited(steps.pace)
    error = error_of(f"step {ended.step} on {steps.cluster}", ended.status, cluster["Status"], lines)
    if logs is not None:
        error.add_note("\n".join([f"logs: {logs.folder}", *lines]))
    return error
