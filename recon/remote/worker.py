"""The cluster's side: carries out a requested stage with the cluster's Spark and puts the result into the store."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from recon.config import Config
from recon.config.observability import Observability
from recon.engines.select import engine_of
from recon.engines.spark.session import open_session
from recon.errors import ReconError, transient_kind
from recon.intake.manifests import manifest_of
from recon.remote.exchange import put_result, read_request
from recon.remote.transform_step import STAGE, carried_out
from recon.stages.pipeline import STAGES
from recon.stages.request import Numbers, StageRequest, StageResult
from recon.stages.work import Work
from recon.state.timeline import Timeline
from recon.storage.open import open_for, open_store
from recon.telemetry import logs

_LOG = logging.getLogger("recon.remote")
Tell = Callable[[str], None]


def carry_out(location: str, attempt: str, tell: Tell = lambda line: None) -> ReconError | None:
    """Carries out the request ``attempt`` of the store at ``location`` and puts its result. Returns the error that the result names.
    Raises errors that keep it from opening the store. ``tell``: receives progress lines for the caller's log."""
    store = open_store(location, Path.cwd())
    try:
        config, request = read_request(store, location, attempt)
    except ReconError as error:
        put_result(store, attempt, StageResult(error=error))
        return error
    tell(f"{request.stage} of {request.first}..{request.last}: begun")
    start = time.perf_counter()
    # Lineage is the caller's to report.
    here = replace(config, engine=config.engine.model_copy(update={"kind": "spark"}), observability=Observability())
    with logs.continued(request.log, stage=request.stage):
        result = _result(here, request, tell)
    put_result(open_for(here), attempt, result)
    tell(f"{request.stage} of {request.first}..{request.last}: {result.error or 'done'} after {time.perf_counter() - start:.1f} s")
    return result.error


def _result(config: Config, request: StageRequest, tell: Tell) -> StageResult:
    numbers: dict[str, Numbers] = {}
    work: Work | None = None
    try:
        store = open_for(config)
        work = Work(store, config, Timeline(store))
        start = time.perf_counter()
        open_session(config.engine)
        work.report.took("session", time.perf_counter() - start)
        if request.stage == STAGE:
            numbers[STAGE] = {"certificate": json.dumps(carried_out(store, config, request.manifest, tell))}
        else:
            _run_stage(work, request, numbers)
        error: ReconError | None = None
    except ReconError as failed:
        error = failed
    except Exception as failed:
        logs.unexpected(_LOG, request.stage, failed)
        error = _foreign(failed)
    return StageResult(numbers, asdict(work.report) if work else {}, error)


def _run_stage(work: Work, request: StageRequest, numbers: dict[str, Numbers]) -> None:
    grid = work.config.grid
    windows = list(grid.between(grid.parse(request.first), grid.parse(request.last)))
    if request.stage == "aggregate":
        manifest = manifest_of(f"the request to aggregate {request.first}", request.manifest.encode())
        for figures in engine_of(work.config).reduce(work.store, work.config, [manifest]):
            numbers[manifest.window] = {"keys": figures.keys}
        return
    if request.stage == "reduce":
        for result in STAGES["reduce"](work, windows):
            numbers[result.window] = result.numbers
        return
    prefetched = {result.window: result.numbers for result in STAGES["prefetch"](work, windows)}
    for result in STAGES["merge"](work, windows):
        if result.numbers:  # else the window was merged before
            ahead = {name.replace("range_", "prefetched_"): number for name, number in prefetched[result.window].items()}
            numbers[result.window] = {**{name: number for name, number in ahead.items() if name != "merged_before"}, **result.numbers}


def _foreign(error: Exception) -> ReconError:
    """An error of another library, without its text, which may quote an event."""
    name = type(error).__name__
    kind = transient_kind(error)
    if kind is None:
        return ReconError(f"unexpected {name}; see the traceback in the logs")
    return kind(f"{name} on the cluster; run it again")
