"""The whole way for everything that is closed and not yet done: reduce, pre-fetch, merge, index, certify, range by range.

Belongs here: what is due, in which ranges, and what to do with a window that is bad. Does not belong here: any stage's work.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from recon import landings, quarantine
from recon.batches import Manifest, read_manifest
from recon.certify import certify, note_certified, uncertified
from recon.closing import close_due, past_deadline, processed
from recon.config import Config
from recon.errors import Damaged, WrongInput
from recon.index import index_runs
from recon.merge import merge_windows, refuse_other_rules
from recon.prefetch import prefetch
from recon.reduce import reduce_windows
from recon.stateless import Figures
from recon.store import ObjectStore
from recon.timeline import State, Timeline, committed_figures


class Progress(Protocol):
    """Told how far a run is; ``share`` counts up to 1 within a stage of a range."""

    def __call__(self, stage: str, windows: str, share: float) -> None: ...


def silent(stage: str, windows: str, share: float) -> None:
    """No progress."""


@dataclass
class RunReport:
    """What a run did. ``bad``: window → why it was left out. ``open``: windows that hold files but are still open."""

    windows: list[str] = field(default_factory=list)
    commits: list[int] = field(default_factory=list)
    rows: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    keys: int = 0
    written: int = 0
    bytes: int = 0
    recounted: list[str] = field(default_factory=list)
    certificates: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    bad: dict[str, str] = field(default_factory=dict)
    open: list[str] = field(default_factory=list)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start


@dataclass(frozen=True)
class Due:
    """What is to be done: manifests of closed windows whose revision is not committed, and open windows that hold files."""

    ready: tuple[Manifest, ...]
    open: tuple[str, ...]


def due(
    store: ObjectStore,
    config: Config,
    state: State,
    first: datetime | None = None,
    last: datetime | None = None,
    windows: Collection[str] | None = None,
) -> Due:
    """Windows from ``first`` to ``last`` (both included) that hold something newer than the timeline, in order of time.

    ``windows``: the only names to look at (as ``landings.follow`` gives them); without it all notes of landings are listed, which needs
    no clock to be right."""
    ready, still_open = [], []
    for name in _newer(store, state) if windows is None else sorted(windows):
        window = config.grid.parse(name)
        if (first and window < first) or (last and window > last):
            continue
        manifest = read_manifest(store, window)
        if manifest is None or manifest.revision <= state.revision(name):
            continue  # only noted so far, or done meanwhile
        if processed(config, state, manifest):
            ready.append(manifest)
        elif manifest.files:
            still_open.append(name)
    return Due(tuple(ready), tuple(still_open))


def _newer(store: ObjectStore, state: State) -> Iterator[str]:
    return (name for name, revision in landings.since(store)[0].items() if revision > state.revision(name))


def ranges(config: Config, manifests: Sequence[Manifest]) -> Iterator[list[Manifest]]:
    """Blocks of consecutive windows, at most ``config.max_windows`` long."""
    block: list[Manifest] = []
    for manifest in manifests:
        follows = block and config.grid.parse(manifest.window) - config.grid.parse(block[-1].window) == config.grid.every
        if block and (not follows or len(block) >= config.max_windows):
            yield block
            block = []
        block.append(manifest)
    if block:
        yield block


def run(
    store: ObjectStore,
    config: Config,
    first: datetime | None = None,
    last: datetime | None = None,
    progress: Progress = silent,
) -> RunReport:
    """Processes everything that is closed and not yet done. A bad window is left out and named; the others go on without it."""
    timeline = Timeline(store)
    state = timeline.head()
    refuse_other_rules(config, state)
    todo = due(store, config, state, first, last)
    if config.closing.files is not None or config.closing.deadline is not None:
        todo = _closed_first(store, config, state, todo, first, last)
    report = RunReport(open=list(todo.open))
    for block in ranges(config, todo.ready):
        _run_range(store, config, timeline, block, report, progress)
    with report.timed("certify"):
        state = timeline.head()
        report.certificates += len(certify(store, config, state, uncertified(store, config, state)))
        note_certified(store, config, state)
    return report


def _closed_first(store: ObjectStore, config: Config, state: State, todo: Due, first: datetime | None, last: datetime | None) -> Due:
    """Closes what is due to be closed; what is to be done then."""
    now = datetime.now(UTC)
    still_open = {*todo.open, *(manifest.window for manifest in todo.ready if not manifest.closed)}
    for name in past_deadline(config, state, now):
        if last and config.grid.parse(name) > last:
            break
        if not (first and config.grid.parse(name) < first):
            still_open.add(name)
    closed = close_due(store, config, now, sorted(still_open))
    return due(store, config, state, first, last) if closed else todo


def _run_range(
    store: ObjectStore,
    config: Config,
    timeline: Timeline,
    block: Sequence[Manifest],
    report: RunReport,
    progress: Progress,
) -> None:
    named = block[0].window if len(block) == 1 else f"{block[0].window}..{block[-1].window}"
    reduced: list[Figures] = []
    with report.timed("reduce"):
        for number, manifest in enumerate(block):
            progress("reduce", named, number / len(block))
            try:
                reduced += reduce_windows(store, config, [manifest])
            except WrongInput as error:
                _leave_out(store, config, report, manifest.window, manifest.revision, error)
    if reduced:
        _merge_range(store, config, timeline, reduced, report, progress)


def _leave_out(store: ObjectStore, config: Config, report: RunReport, window: str, revision: int, error: WrongInput) -> None:
    report.bad[window] = str(error)
    quarantine.put(store, config.grid.parse(window), window, revision, config.rules_version, str(error))


def _merge_range(
    store: ObjectStore,
    config: Config,
    timeline: Timeline,
    reduced: Sequence[Figures],
    report: RunReport,
    progress: Progress,
) -> None:
    """From pre-fetch to certificates for reduced windows. Where the range cannot be merged, each of its windows is tried alone, so
    that one bad window does not hold up the others."""
    named = reduced[0].window if len(reduced) == 1 else f"{reduced[0].window}..{reduced[-1].window}"
    with report.timed("prefetch"):
        progress("pre-fetch", named, 0)
        prefetched = prefetch(store, timeline.head(), reduced)
    try:
        with report.timed("merge"):
            merged = merge_windows(store, config, timeline, reduced, prefetched, lambda share: progress("merge", named, share))
    except Damaged:
        raise
    except WrongInput as error:
        if len(reduced) == 1:
            _leave_out(store, config, report, reduced[0].window, reduced[0].revision, error)
        else:
            for figures in reduced:
                _merge_range(store, config, timeline, [figures], report, progress)
        return
    finally:
        store.delete(prefetched.path)
    with report.timed("index"):
        progress("index", named, 0)
        index_runs(store, config, timeline)
    if merged.commit is None:
        return
    report.commits.append(merged.commit)
    report.windows += merged.windows
    report.keys += merged.keys
    report.written += merged.written
    report.bytes += merged.bytes
    report.recounted += [name for name in merged.recounted if name not in report.recounted]
    state = timeline.head()
    committed = committed_figures(store, state, [figures.window for figures in reduced])
    for figures in reduced:
        held = committed[figures.window]
        report.rows += figures.arrived.rows
        report.rejected += figures.rejected.rows
        report.accepted += int(held["counted"]["rows"])
        report.duplicates += figures.duplicates.rows + int(held["suppressed"]["rows"])
    with report.timed("certify"):
        progress("certify", named, 0)
        report.certificates += len(certify(store, config, state, [*merged.windows, *merged.recounted]))
