"""Runs a stage of a range as one EMR step: puts the request, submits the step or finds it again, waits, reads the result."""

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


def run_step(work: Work, request: StageRequest, steps: Steps, tell: Tell) -> StageResult:
    """The result. Raises the error of a step that left no result; the error of a result is in the result."""
    step, attempt = _submitted(work, request, steps, tell)
    work.placed({"emr_cluster": steps.cluster, "emr_step": step})
    ended = steps.wait(step, work.config.engine.timeout)
    result = exchange.read_result(work.store, attempt)
    cluster = steps.described()
    logs = Logs.of_step(cluster.get("LogUri"), steps.cluster, step)
    place: Numbers = {"emr_cluster": steps.cluster, "emr_step": step, **({"emr_logs": logs.folder} if logs else {})}
    if result is None:
        if not ended.succeeded:
            exchange.remove(work.store, attempt)
            raise failed(ended, cluster, logs, steps, tell)
        result = StageResult()  # another caller has read and removed it; the stage's output is in the store
    exchange.remove(work.store, attempt)
    if result.error is not None and logs is not None:
        result.error.add_note(f"logs: {logs.folder}")
    return result.done_at(place)


def _submitted(work: Work, request: StageRequest, steps: Steps, tell: Tell) -> tuple[str, str]:
    """Id and attempt of the step: an active step with the same request, else a new one."""
    config, digest = work.config, request.digest(work.config)
    if (found := steps.find(digest)) is not None:
        tell(f"step {found.id} on {steps.cluster} is at {request.stage} of {request.first}..{request.last} already; waiting for that one")
        return found.id, found.token[1]
    attempt = exchange.put_request(work.store, config, request)
    name = f"recon {config.name} {request.stage} {request.first}..{request.last} {digest}-{attempt}"
    try:
        step = steps.submit(name, command(config.engine, config.location, attempt))
    except WrongUsage as error:
        exchange.remove(work.store, attempt)
        raise _of_a_gone_cluster(config.engine, steps) or error from None
    except Exception:
        exchange.remove(work.store, attempt)
        raise
    tell(f"step {step} on {steps.cluster}: submitted for {request.stage} of {request.first}..{request.last}")
    return step, attempt


def command(engine: Engine, store: str, attempt: str) -> list[str]:
    """The step's command. The driver runs on the primary instance: its exit status and stderr are the step's, and it ends with the step."""
    settings = [word for name, value in engine.settings.items() for word in ("--conf", f"{name}={value}")]
    library = ["--py-files", f"{engine.package}/{ZIP}", f"{engine.package}/{SCRIPT}"]
    return ["spark-submit", "--deploy-mode", "client", *settings, *library, "step", "--store", store, "--attempt", attempt]


def _of_a_gone_cluster(engine: Engine, steps: Steps) -> ReconError | None:
    """Why the cluster is gone, if that is why it refused a step. A run starts another cluster in place of its own, but not in place of the
    one that the configuration names."""
    try:
        status = steps.described()["Status"]
    except ReconError:
        return None
    if status["State"] not in GONE:
        return None
    error = cluster_error(f"no step was submitted to {steps.cluster}", status)
    return error if engine.transient else WrongUsage(f"{error}; engine.cluster: name one that runs")


def failed(ended: Ended, cluster: Mapping[str, Any], logs: Logs | None, steps: Steps, tell: Tell) -> ReconError:
    """The error of a step without result, with the place of its logs and their last lines as a note."""
    lines: list[str] = []
    if logs is not None and ended.status["State"] == "FAILED":
        tell(f"step {ended.step} on {steps.cluster} left no answer; waiting for its logs in {logs.folder}")
        lines = logs.awaited(steps.pace)
    error = error_of(f"step {ended.step} on {steps.cluster}", ended.status, cluster["Status"], lines)
    if logs is not None:
        error.add_note("\n".join([f"logs: {logs.folder}", *lines]))
    return error
