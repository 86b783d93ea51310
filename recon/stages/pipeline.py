"""The whole way for everything that is closed and not yet done: reduce, pre-fetch, merge, index, certify, range by range."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Protocol

from recon.config import Config
from recon.engines.blame import blaming, quarantined
from recon.engines.select import engine_of
from recon.errors import WrongInput
from recon.intake.batches import Manifest
from recon.metering import prices
from recon.model.progress import Progress, silent, spanned
from recon.planning import quarantine
from recon.planning.due import _closed_first, due
from recon.planning.ranges import capped, ranges, size_of_reduced
from recon.serving.sync import is_kept, keep
from recon.stages.certify import certify
from recon.stages.commit import Merged
from recon.stages.mending import mend_replayed
from recon.stages.merge import merge_windows
from recon.stages.reduce import reduce_ahead, reduce_windows
from recon.stages.report import RunReport
from recon.stages.work import Work
from recon.state.certificates import note_certified, uncertified
from recon.state.compaction import compact_in_run
from recon.state.reduced import Figures
from recon.state.tiers import index_runs
from recon.state.timeline import State, Timeline, committed_figures
from recon.storage.port import ObjectStore


class Way(Protocol):
    """How ranges are carried out: by plain calls (``Direct``), or each as a run of Dagster (jobs.in_process)."""

    def process(self, work: Work, block: Sequence[Manifest]) -> None:
        """All stages over consecutive windows. What is bad goes into the report; the others are done without it."""

    def certify(self, work: Work, windows: Sequence[str]) -> None:
        """Certificates for windows that are committed."""


class Direct:
    """Plain calls in this process, without Dagster: for notebooks, other programs, Lambda and EMR."""

    def process(self, work: Work, block: Sequence[Manifest]) -> None:
        _run_range(work.store, work.config, work.timeline, block, work.report, work.progress)

    def certify(self, work: Work, windows: Sequence[str]) -> None:
        with work.report.timed("certify", work.store):
            work.report.certificates += len(certify(work.store, work.config, work.timeline.head(), windows))


def run(
    store: ObjectStore,
    config: Config,
    first: datetime | None = None,
    last: datetime | None = None,
    progress: Progress = silent,
    way: Way | None = None,
) -> RunReport:
    """Processes everything that is closed and not yet done. A bad window is left out and named; the others go on without it."""
    work, way = Work(store, config, Timeline(store), progress=progress), way or Direct()
    with work.report.whole(store):
        _run(work, way, first, last)
    report = work.report
    report.prices = prices.of_run(report.requests, report.rows, report.keys, report.written, config.prices)
    return report


def _run(work: Work, way: Way, first: datetime | None, last: datetime | None) -> None:
    store, config, state, report = work.store, work.config, work.head(), work.report
    todo = due(store, config, state, first, last)
    if config.closing.files is not None or config.closing.deadline is not None:
        todo = _closed_first(store, config, state, todo, first, last)
    report.open += todo.open
    report.bad |= todo.bad
    if isinstance(way, Direct):  # else the reduce stage mends, which may write there
        _mend(work, state, todo.ready)
    for block in ranges(config, (one for one in todo.ready if one.window not in report.bad)):
        way.process(work, block)
    with report.timed("certify", store):
        late = uncertified(store, config, work.timeline.head())
    if late:
        way.certify(work, late)
    with report.timed("certify", store):
        note_certified(store, config, work.timeline.head())
    if not is_kept(store, config, work.timeline):  # DynamoDB was away, or the section 'index' is new
        with report.timed("index", store):
            keep(store, config, work.timeline)


def _mend(work: Work, state: State, manifests: Iterable[Manifest]) -> None:
    """Mends the windows that are replayed before any merge: that of another window may need their files, too."""
    for manifest in manifests:
        try:
            mend_replayed(work.store, work.config, state, [manifest])
        except WrongInput as error:
            work.report.bad[manifest.window] = str(error)


def _run_range(
    store: ObjectStore,
    config: Config,
    timeline: Timeline,
    block: Sequence[Manifest],
    report: RunReport,
    progress: Progress,
) -> None:
    named = spanned([manifest.window for manifest in block])
    reduced: list[Figures] = []
    with report.timed("reduce", store):
        reduce_ahead(store, config, block)
        for number, manifest in enumerate(block):
            progress("reduce", named, number / len(block))
            try:
                with blaming(store, [manifest.window], "reduced"):
                    reduced += reduce_windows(store, config, [manifest])
            except WrongInput as error:
                _leave_out(store, config, report, manifest.window, manifest.revision, error)
    for part in capped(config, reduced, size_of_reduced):
        _merge_range(store, config, timeline, part, report, progress)


def _leave_out(store: ObjectStore, config: Config, report: RunReport, window: str, revision: int, error: WrongInput) -> None:
    report.bad[window] = str(error)
    if quarantined(error):
        quarantine.put(store, config.grid.parse(window), window, revision, config.rules_version, str(error))


def _merge_range(
    store: ObjectStore,
    config: Config,
    timeline: Timeline,
    reduced: Sequence[Figures],
    report: RunReport,
    progress: Progress,
) -> None:
    """From pre-fetch to certificates for reduced windows. A range that cannot be merged is halved until the bad window is alone, so that
    it does not hold up the others."""
    todo = [list(reduced)]
    while todo:
        part = todo.pop(0)
        try:
            with blaming(store, [figures.window for figures in part], "merged"):
                merged = _merged(store, config, timeline, part, report, progress)
        except WrongInput as error:
            if len(part) == 1:
                _leave_out(store, config, report, part[0].window, part[0].revision, error)
            else:
                todo = [part[: len(part) // 2], part[len(part) // 2 :], *todo]
            continue
        _visible(store, config, timeline, part, merged, report, progress)


def _merged(
    store: ObjectStore,
    config: Config,
    timeline: Timeline,
    reduced: Sequence[Figures],
    report: RunReport,
    progress: Progress,
) -> Merged:
    named = spanned([figures.window for figures in reduced])
    with report.timed("prefetch", store):
        progress("pre-fetch", named, 0)
        prefetched = engine_of(config).prefetch(store, config, timeline.head(), reduced)
    try:
        with report.timed("merge", store):
            return merge_windows(store, config, timeline, reduced, prefetched, lambda share: progress("merge", named, share))
    finally:
        store.delete(prefetched.path)


def _visible(
    store: ObjectStore,
    config: Config,
    timeline: Timeline,
    reduced: Sequence[Figures],
    merged: Merged,
    report: RunReport,
    progress: Progress,
) -> None:
    """Index, report and certificates of what was merged."""
    named = spanned([figures.window for figures in reduced])
    with report.timed("index", store):
        progress("index", named, 0)
        compact_in_run(store, config, timeline)
        index_runs(store, config, timeline)
    if merged.commit is None:
        return
    state = timeline.head()
    report.add(merged, reduced, committed_figures(store, state, merged.windows))
    with report.timed("certify", store):
        progress("certify", named, 0)
        report.certificates += len(certify(store, config, state, [*merged.windows, *merged.recounted]))
    with report.timed("index", store):
        keep(store, config, timeline)
