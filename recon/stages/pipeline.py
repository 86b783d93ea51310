"""Takes every window that is due through the six stages, and leaves bad windows out."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Protocol

from recon.config import Config
from recon.engines.blame import isolated
from recon.errors import ReconError, TryAgain, WrongInput
from recon.intake.manifests import Manifest
from recon.metering import prices
from recon.model.progress import Progress, silent
from recon.planning.due import due_after_closing
from recon.planning.ranges import Size, blocks, capped, ranges
from recon.stages.certify import certify
from recon.stages.index import index, index_late
from recon.stages.land import land
from recon.stages.mending import mend_replayed
from recon.stages.merge import merge
from recon.stages.observed import Stage, observed
from recon.stages.prefetch import prefetch
from recon.stages.reduce import reduce
from recon.stages.report import RunReport
from recon.stages.work import Work
from recon.state.certificates import note_certified, uncertified
from recon.state.timeline import State, Timeline
from recon.storage.port import ObjectStore
from recon.telemetry import logs

_CALLS: Mapping[str, Stage] = {
    "land": land,
    "reduce": reduce,
    "prefetch": prefetch,
    "merge": merge,
    "index": index,
    "certify": certify,
}
STAGES: Mapping[str, Stage] = {name: observed(name, stage) for name, stage in _CALLS.items()}
"""The stages in order, by name. Each may be repeated: it finds what is done in the store, and changes nothing."""


class CarryOut(Protocol):
    """Carries out stages, by name and in order, over windows, by name and in order of time. Raises the error of the stage that failed.

    ``consecutive``: takes only windows that follow each other, such as a Dagster run, which is given a first and a last window."""

    consecutive: bool

    def __call__(self, work: Work, windows: Sequence[str], stages: Sequence[str]) -> None: ...


class PlainCalls:
    """Calls the stages in this process, without Dagster: for notebooks, other programs, Lambda and EMR."""

    consecutive = False

    def __call__(self, work: Work, windows: Sequence[str], stages: Sequence[str]) -> None:
        for stage in stages:
            for _ in STAGES[stage](work, [work.config.grid.parse(window) for window in windows]):
                pass


def run(
    store: ObjectStore,
    config: Config,
    first: datetime | None = None,
    last: datetime | None = None,
    progress: Progress = silent,
    carry_out: CarryOut | None = None,
) -> RunReport:
    """Processes every window from ``first`` to ``last`` that is closed and not committed. Bad windows are left out and named in the
    report; the others are processed without them."""
    work = Work(store, config, Timeline(store), progress=progress)
    in_run = logs.logged_with(run=logs.fields().get("run") or str(uuid.uuid4()), reconciliation=config.name)
    with in_run, work.report.whole(store):
        _run(work, carry_out or PlainCalls(), first, last)
    report = work.report
    report.prices = prices.of_run(report.requests, report.rows, report.keys, report.written, config.prices)
    return report


def _run(work: Work, carry_out: CarryOut, first: datetime | None, last: datetime | None) -> None:
    state, report = work.head(), work.report
    todo = due_after_closing(work.store, work.config, state, first, last)
    report.open += todo.open
    report.bad |= todo.bad
    _mend(work, state, todo.ready)
    try:
        for block in ranges(work.config, (manifest for manifest in todo.ready if manifest.window not in report.bad)):
            process(work, [manifest.window for manifest in block], carry_out)
    except TryAgain:
        # What is committed is certified all the same: DynamoDB, for example, may be away for hours.
        with suppress(ReconError):
            _certify_late(work, carry_out)
        raise
    _certify_late(work, carry_out)
    index_late(work)


def process(work: Work, block: Sequence[str], carry_out: CarryOut) -> None:
    """Takes a block of windows through all stages. A bad window is left out, and the others are carried out without it. Where an error
    does not show which window is bad, the block is halved until one window is left.

    Raises errors that are not the fault of a window, and WrongInput where a single window fails but no stage has left it out."""
    todo = [list(block)]
    while todo:
        part = todo.pop(0)
        try:
            carry_out(work, part, tuple(STAGES))
        except WrongInput as error:
            good = [window for window in part if window not in work.report.bad]
            if not isolated(error) or (len(part) == 1 and good):
                raise
            todo = [*(_cut(work.config, good, carry_out) if len(good) < len(part) else _halves(part)), *todo]


def _halves(windows: Sequence[str]) -> list[list[str]]:
    middle = len(windows) // 2
    return [list(windows[:middle]), list(windows[middle:])]


def _cut(config: Config, windows: Sequence[str], carry_out: CarryOut) -> Iterator[list[str]]:
    """Blocks of windows within the caps, as ``carry_out`` takes them."""
    return blocks(config, windows, str) if carry_out.consecutive else capped(config, windows, lambda window: Size())


def _mend(work: Work, state: State, manifests: Iterable[Manifest]) -> None:
    """Restores the reduced files of replayed windows before any merge: the merge of another window may need them, too."""
    if work.config.engine.elsewhere:
        return  # only a cluster can reduce; it reads what is there
    for manifest in manifests:
        try:
            mend_replayed(work.store, work.config, state, [manifest])
        except WrongInput as error:
            work.report.bad[manifest.window] = str(error)


def _certify_late(work: Work, carry_out: CarryOut) -> None:
    """Certificates of the windows that an earlier run, or this one, has committed but not certified."""
    with work.report.timed("certify", work.store):
        late = uncertified(work.store, work.config, work.timeline.head())
    for block in _cut(work.config, late, carry_out):
        carry_out(work, block, ("certify",))
    with work.report.timed("certify", work.store):
        note_certified(work.store, work.config, work.timeline.head())
