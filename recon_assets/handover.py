"""From pre-fetch to merge, two assets that may run in different processes: the file is found through the store.

Belongs here: finding the pre-fetched file that was made for just these revisions. Does not belong here: making it or reading records.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from recon import layout
from recon.config import Config
from recon.prefetch import Prefetched
from recon.stateless import Figures
from recon.store import NotFound, ObjectStore
from recon.windows import parse_instant

_FOLDER = layout.prefetched("any").rpartition("/")[0] + "/"


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
    fitting = [found for path in store.list(_FOLDER) if (found := _read(store, path)) and found.revisions == revisions]
    return max(fitting, key=lambda one: one.commit, default=None)


def _read(store: ObjectStore, path: str) -> Prefetched | None:
    """What a file says of itself; None where it is gone or damaged, since a merge without it reads the records itself."""
    import pyarrow as pa

    local = store.local(path)
    try:
        source = pa.memory_map(str(local)) if local is not None else pa.BufferReader(store.get(path))
        reader = pa.ipc.open_file(source)
        meta: dict[str, Any] = json.loads(reader.schema.metadata[b"recon"])
        rows = sum(reader.get_batch(number).num_rows for number in range(reader.num_record_batches))
    except (OSError, NotFound, pa.ArrowInvalid, ValueError, KeyError, TypeError):
        return None
    return Prefetched(path, found=rows, bytes=source.size(), **meta)
