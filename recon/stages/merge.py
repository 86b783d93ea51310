"""Merge: a range's stateless artifacts into the stateful ones, made visible by one commit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from recon.config import Config
from recon.engines.blame import isolated
from recon.engines.port import MergeTask
from recon.engines.prefetched import Prefetched
from recon.engines.select import engine_of
from recon.errors import Damaged
from recon.metering import prices
from recon.model.progress import spanned
from recon.stages.commit import Merged, _entry
from recon.stages.prefetch import find_prefetched, merge_blocks
from recon.stages.ready import committed_windows, reduced_batches, to_merge
from recon.stages.request import Numbers
from recon.stages.work import WindowResult, Windows, Work, leaving_out_a_single_window, on_cluster, superseded
from recon.state import kept_rules
from recon.state.amplification import StoredBytes
from recon.state.kept_rules import refuse_other_rules
from recon.state.reduced import Figures
from recon.state.timeline import RunRef, Timeline
from recon.storage import layout
from recon.storage.port import NotFound, ObjectStore


def merge_windows(
    store: ObjectStore,
    config: Config,
    timeline: Timeline,
    range_figures: Sequence[Figures],
    prefetched: Prefetched | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> Merged:
    """Merges a range of reduced windows and commits. Drops windows whose revision, or a newer one, is committed already.

    Starts over at the new head whenever another writer commits first. Raises WrongInput where the figures do not tie and
    WrongUsage where the state was made by other rules; either way nothing is visible."""
    attempts = 0
    while True:
        attempts += 1
        state = timeline.head()
        refuse_other_rules(config, state)
        kept_rules.keep(store, config)
        todo = [figures for figures in range_figures if figures.revision > state.revision(figures.window)]
        if not todo:
            return Merged(None, attempts=attempts)
        writer = layout.new_attempt()
        try:
            written = engine_of(config).merge(store, config, MergeTask(state, tuple(todo), prefetched, writer), progress)
        except NotFound:
            if timeline.head().commit == state.commit:
                raise
            continue  # what this state names was superseded and swept while this process was suspended
        prefetched = None  # after a lost race all records are read at the new head
        run = written.run or RunRef("", 0, 0)
        entry = _entry(store, config, state, todo, written.slices, writer)
        stored = StoredBytes.of(state.totals).merged(run.part_bytes, written.superseded, run.entries)
        entry = replace(entry, totals=stored.in_totals(entry.totals))
        if written.run:
            entry = replace(entry, runs_added=(written.run,))
        committed = timeline.commit(entry, onto=state)
        if committed is not None:
            return Merged(
                commit=committed.commit,
                windows=tuple(entry.windows),
                keys=sum(figures.keys for figures in todo),
                written=run.entries,
                bytes=run.part_bytes,
                recounted=tuple(entry.recounted),
                attempts=attempts,
            )


def merge(work: Work, windows: Windows) -> Iterator[WindowResult[Mapping[str, Any]]]:
    """The range's reduced artifacts into the records, by one commit per block. Yields each window's committed figures; only windows that
    this call has merged have numbers, those of their block."""
    numbers = _merged(work, windows)
    for window, committed in committed_windows(work, windows).items():
        yield WindowResult(window, committed, numbers.get(window, {}))


def _merged(work: Work, windows: Windows) -> dict[str, Numbers]:
    """Merges what is not committed yet. Returns the figures of each merged window's block."""
    figures = reduced_batches(work, windows)
    with work.report.timed("merge", work.store):
        remote = on_cluster(work, "merge", windows, {window.window: window.revision for window in to_merge(work.head(), figures)})
    if remote.error is not None:
        raise remote.error
    numbers: dict[str, Numbers] = dict(remote.numbers)
    todo = to_merge(work.head(), figures)
    if todo and work.cluster is not None:
        raise superseded(todo[0].window)
    for block in merge_blocks(work.config, todo):
        start = time.perf_counter()
        with work.report.timed("merge", work.store) as spent:
            merged = _merge_block(work, block)
        work.report.add(merged, block, committed_windows(work, [work.config.grid.parse(name) for name in merged.windows]))
        of_block: Numbers = {
            "range_windows": len(merged.windows),
            "range_records_written": merged.written,
            "range_bytes": merged.bytes,
            "range_seconds": round(time.perf_counter() - start, 3),
            "recounted_windows": len(merged.recounted),
            **prices.figures(spent.usage, work.config.prices, written=merged.written),
        }
        numbers |= dict.fromkeys(merged.windows, of_block)
    return numbers


def _merge_block(work: Work, block: Sequence[Figures]) -> Merged:
    named, found = spanned([figures.window for figures in block]), find_prefetched(work.store, block)

    def progress(share: float) -> None:
        work.progress("merge", named, share)

    with _deleting(work.store, found), leaving_out_a_single_window(work, block, "merged"):
        try:
            return merge_windows(work.store, work.config, work.timeline, block, found, progress)
        except Damaged:
            # Another worker that has merged the same block may have deleted the file, or a sweep its pieces, after it was found here.
            if found is None or all(map(work.store.exists, found.paths)):
                raise
            return merge_windows(work.store, work.config, work.timeline, block, None, progress)


@contextmanager
def _deleting(store: ObjectStore, prefetched: Prefetched | None) -> Iterator[None]:
    """Deletes a pre-fetched file once no attempt needs it: after the commit, and after an error of the data, since the block is cut
    differently then. After any other error the next attempt at the block, here or in another process, takes the same file."""
    needed = False
    try:
        yield
    except BaseException as error:
        needed = not isolated(error)
        raise
    finally:
        if prefetched is not None and not needed:
            prefetched.delete(store)
