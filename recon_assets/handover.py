"""From pre-fetch to merge, two assets that may run in different processes: the file is found through the store.

Belongs here: finding the pre-fetched file that was made for just these revisions. Does not belong here: making it or reading records.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from recon.config import Config
from recon.prefetch import Prefetched, prefetched_files
from recon.stateless import Figures
from recon.store import ObjectStore
from recon.windows import parse_instant


def blocks(config: Config, figures: Sequence[Figures]) -> Iterator[list[Figures]]:
    """What one merge takes: consecutive windows, at most ``config.max_windows``. Pre-fetch and merge cut a range alike."""
    block: list[Figures] = []
    for one in figures:
        if block:
            step = parse_instant(one.window, "window") - parse_instant(block[-1].window, "window")
            if step != config.grid.every or len(block) >= config.max_windows:
                yield block
                block = []
        block.append(one)
    if block:
        yield block


def find_prefetched(store: ObjectStore, block: Sequence[Figures]) -> Prefetched | None:
    """The file made for exactly these windows and revisions that was read at the newest commit; None if there is none."""
    revisions = {figures.window: figures.revision for figures in block}
    fitting = [found for _, found in prefetched_files(store) if found is not None and found.revisions == revisions]
    return max(fitting, key=lambda one: one.commit, default=None)
