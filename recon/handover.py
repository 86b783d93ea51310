"""From pre-fetch to merge, two assets that may run in different processes: the file is found through the store.

Belongs here: finding the pre-fetched file that was made for just these revisions. Does not belong here: making it or reading records.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from recon.config import Config
from recon.engines.prefetched import Prefetched, prefetched_files
from recon.planning import ranges
from recon.state.reduced import Figures
from recon.storage.port import ObjectStore


def blocks(config: Config, figures: Sequence[Figures]) -> Iterator[list[Figures]]:
    """What one merge takes: consecutive windows within the caps. Pre-fetch and merge cut a range alike."""
    return ranges.blocks(config, figures, lambda one: one.window, ranges.size_of_reduced)


def find_prefetched(store: ObjectStore, block: Sequence[Figures]) -> Prefetched | None:
    """The file made for exactly these windows and revisions that was read at the newest commit; None if there is none."""
    revisions = {figures.window: figures.revision for figures in block}
    fitting = [found for _, found in prefetched_files(store) if found is not None and found.revisions == revisions]
    return max(fitting, key=lambda one: one.commit, default=None)
