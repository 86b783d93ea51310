"""Pre-fetch: the keys of a range of windows → their standing artifacts, found once and laid into one file for the merge.

The keys are those of the new *and* of the committed revision of each window. The file names the commit it was read at; the merge
reads anew what later commits touched. Bytes read follow the keys of the batch, never the size of the state. In a folder, where the
merge can map the part-files, the file holds the places of the records; from object storage, the records themselves.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from recon.config import Config
from recon.engines.prefetched import Prefetched, prefetched_files
from recon.engines.select import engine_of
from recon.metering import prices
from recon.model.progress import spanned
from recon.planning import ranges
from recon.stages.ready import reduced_batches, to_merge
from recon.stages.request import Numbers
from recon.stages.work import Windows, Work, _alone_or_raised
from recon.state.reduced import Figures
from recon.storage.port import ObjectStore

if TYPE_CHECKING:
    from recon.config import Config


def read_ahead(work: Work, windows: Windows) -> Iterator[tuple[Figures, bool, Numbers]]:
    """The standing records of the keys that the range touches → one file for each merge to come. Says of each window whether it is merged
    already."""
    figures = reduced_batches(work, windows)
    state = work.head()
    todo = to_merge(state, figures)
    read: dict[str, Numbers] = {}
    if work.elsewhere is not None:
        # A session of its own would cost more than it finds: the merge's step pre-fetches first.
        read = {one.window: {"left_to": "stateful_artifacts"} for one in todo}
    for block in [] if work.elsewhere else blocks(work.config, todo):
        start = time.perf_counter()
        work.progress("pre-fetch", spanned([one.window for one in block]), 0)
        with work.report.timed("prefetch", work.store) as spent, _alone_or_raised(work, block, "pre-fetched"):
            found = find_prefetched(work.store, block) or engine_of(work.config).prefetch(work.store, work.config, state, block)
        of_block: Numbers = {
            "range_keys": found.keys,
            "range_records_found": found.found,
            "range_bytes": found.bytes,
            "range_seconds": round(time.perf_counter() - start, 3),
            "read_at_commit": found.commit,
            **prices.figures(spent.usage, work.config.prices, touched=found.keys),
        }
        read |= {one.window: of_block for one in block}
    waiting = {one.window for one in todo}
    for one in figures:
        yield one, one.window not in waiting, read.get(one.window, {})


def blocks(config: Config, figures: Sequence[Figures]) -> Iterator[list[Figures]]:
    """What one merge takes: consecutive windows within the caps. Pre-fetch and merge cut a range alike."""
    return ranges.blocks(config, figures, lambda one: one.window, ranges.size_of_reduced)


def find_prefetched(store: ObjectStore, block: Sequence[Figures]) -> Prefetched | None:
    """The file made for exactly these windows and revisions that was read at the newest commit; None if there is none."""
    revisions = {figures.window: figures.revision for figures in block}
    fitting = [found for _, found in prefetched_files(store) if found is not None and found.revisions == revisions]
    return max(fitting, key=lambda one: one.commit, default=None)
