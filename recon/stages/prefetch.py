"""Pre-fetch: finds the existing records of the keys that a range touches, and writes one file of them for the merge.

The keys are those of the new *and* of the committed revision of each window. The file names the commit that it was read at; the merge
reads again what later commits changed. The bytes read depend on the keys of the range, never on the size of the state. In a folder,
where the merge can map the part-files, the file holds the places of the records; in object storage, the records themselves.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from recon.config import Config
from recon.engines.prefetched import Prefetched, prefetched_files
from recon.engines.select import engine_of
from recon.metering import prices
from recon.model.progress import spanned
from recon.planning import ranges
from recon.stages.ready import reduced_batches, to_merge
from recon.stages.request import Numbers
from recon.stages.work import WindowResult, Windows, Work, leaving_out_a_single_window
from recon.state.reduced import Figures
from recon.state.timeline import State
from recon.storage.port import ObjectStore


def prefetch(work: Work, windows: Windows) -> Iterator[WindowResult[Figures]]:
    """The existing records of the keys that the range touches → one file per block of the merge. ``merged_before`` among a window's
    numbers: it is committed already."""
    figures = reduced_batches(work, windows)
    state = work.head()
    todo = to_merge(state, figures)
    numbers: dict[str, Numbers] = {}
    if work.cluster is not None:
        # A session for the pre-fetch alone costs more than it saves: the cluster's merge step pre-fetches first.
        numbers = {window.window: {"left_to": "stateful_artifacts"} for window in todo}
    else:
        for block in merge_blocks(work.config, todo):
            numbers |= dict.fromkeys((window.window for window in block), _prefetched(work, state, block))
    waiting = {window.window for window in todo}
    for window in figures:
        yield WindowResult(window.window, window, {"merged_before": window.window not in waiting, **numbers.get(window.window, {})})


def _prefetched(work: Work, state: State, block: Sequence[Figures]) -> Numbers:
    """Pre-fetches a block, unless there is a file for it. Returns figures of the block."""
    start = time.perf_counter()
    work.progress("pre-fetch", spanned([figures.window for figures in block]), 0)
    with work.report.timed("prefetch", work.store) as spent, leaving_out_a_single_window(work, block, "pre-fetched"):
        found = find_prefetched(work.store, block) or engine_of(work.config).prefetch(work.store, work.config, state, block)
    return {
        "range_keys": found.keys,
        "range_records_found": found.found,
        "range_bytes": found.bytes,
        "range_seconds": round(time.perf_counter() - start, 3),
        "read_at_commit": found.commit,
        **prices.figures(spent.usage, work.config.prices, touched=found.keys),
    }


def merge_blocks(config: Config, figures: Sequence[Figures]) -> Iterator[list[Figures]]:
    """The windows of each merge, within the caps. Pre-fetch and merge cut a range alike."""
    return ranges.capped(config, figures, ranges.size_of_reduced)


def find_prefetched(store: ObjectStore, block: Sequence[Figures]) -> Prefetched | None:
    """The file for exactly these windows and revisions that was read at the newest commit; None if there is none."""
    revisions = {figures.window: figures.revision for figures in block}
    fitting = [found for _, found in prefetched_files(store) if found is not None and found.revisions == revisions]
    return max(fitting, key=lambda found: found.commit, default=None)
