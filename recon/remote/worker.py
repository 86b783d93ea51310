"""What a cluster does when it is asked: one stage of a range, on the Spark that it has, and the answer into the store."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from recon.config import Config
from recon.engines.spark.session import open_session
from recon.errors import ReconError, passing
from recon.remote.exchange import answer, read_asked
from recon.stages.pipeline import STAGES
from recon.stages.request import Numbers, StageRequest, StageResult
from recon.stages.work import Work
from recon.state.timeline import Timeline
from recon.storage.open import open_for, open_store

Tell = Callable[[str], None]


def carry_out(location: str, attempt: str, tell: Tell = lambda line: None) -> ReconError | None:
    """Does what was asked under ``attempt`` in the store at ``location``, and answers. Returns what it failed with, after it has answered
    so. Raises what kept it from knowing what was asked. ``tell``: a line now and then for whoever waits."""
    told_to = open_store(location, Path.cwd())
    try:
        config, asked = read_asked(told_to, location, attempt)
    except ReconError as error:
        answer(told_to, attempt, StageResult(error=error))
        return error
    tell(f"{asked.stage} of {asked.first}..{asked.last}: begun")
    start = time.perf_counter()
    here = replace(config, engine=config.engine.model_copy(update={"kind": "spark"}))
    done = _done(here, asked)
    answer(open_for(here), attempt, done)
    tell(f"{asked.stage} of {asked.first}..{asked.last}: {done.error or 'done'} after {time.perf_counter() - start:.1f} s")
    return done.error


def _done(config: Config, asked: StageRequest) -> StageResult:
    numbers: dict[str, Numbers] = {}
    work: Work | None = None
    try:
        store = open_for(config)
        work = Work(store, config, Timeline(store))
        start = time.perf_counter()
        open_session(config.engine)
        work.report.took("session", time.perf_counter() - start)
        _stage(work, asked, numbers)
        error: ReconError | None = None
    except ReconError as failed:
        error = failed
    except Exception as failed:
        traceback.print_exc(file=sys.stderr)
        error = _foreign(failed)
    return StageResult(numbers, asdict(work.report) if work else {}, error)


def _stage(work: Work, asked: StageRequest, numbers: dict[str, Numbers]) -> None:
    grid = work.config.grid
    windows = list(grid.between(grid.parse(asked.first), grid.parse(asked.last)))
    if asked.stage == "reduce":
        for result in STAGES["reduce"](work, windows):
            numbers[result.window] = result.numbers
        return
    prefetched = {result.window: result.numbers for result in STAGES["prefetch"](work, windows)}
    for result in STAGES["merge"](work, windows):
        if result.numbers:  # else it was merged before
            ahead = {name.replace("range_", "prefetched_"): number for name, number in prefetched[result.window].items()}
            numbers[result.window] = {**{name: number for name, number in ahead.items() if name != "merged_before"}, **result.numbers}


def _foreign(error: Exception) -> ReconError:
    """An error of another library, without its text: that may quote an event."""
    kind = passing(error) or ReconError
    told = type(error).__name__
    return kind(
        f"{told}, which nobody foresaw; see the traceback in the logs" if kind is ReconError else f"{told} on the cluster; run it again"
    )
