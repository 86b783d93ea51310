"""Reads and checks the records of a batch as Python bytes, for workers without Arrow and DuckDB, which read some thousand at a time."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from recon.state.runs.find import RecordAddresses
from recon.state.runs.read import check_of, check_places, damaged
from recon.storage.port import ObjectStore
from recon.storage.ranges import coalesce, read_ranges


def read_few(store: ObjectStore, found: RecordAddresses) -> list[bytes]:
    """The bytes of the records, in the order of ``found``, all in memory. Raises NotFound, JsonLines, and Damaged naming part-file and
    offset."""
    check_places(found)
    order = np.lexsort((found.offset, found.part))
    part, length = found.part[order], found.length[order].astype(np.int64)
    offset = found.offset[order].astype(np.int64)
    borders = [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), len(part)] if len(part) else [0]
    starts = [a + int(begin) for a, b in pairwise(borders) for begin in coalesce(offset[a:b], offset[a:b] + length[a:b], store.cost)]
    requests = list(pairwise([*starts, len(part)]))
    records = [b""] * len(found)
    for wave in range(0, len(requests), store.cost.requests_at_once):
        asked = requests[wave : wave + store.cost.requests_at_once]
        ends = [int((offset[a:b] + length[a:b]).max()) for a, b in asked]
        begins = [int(offset[a]) for a, _ in asked]
        paths = [found.part_files[int(part[a])] for a, _ in asked]
        chunks = read_ranges(store, paths, begins, [end - begin for begin, end in zip(begins, ends, strict=True)])
        for (a, b), begin, chunk in zip(asked, begins, chunks, strict=True):
            for row, place, size in zip(order[a:b].tolist(), (offset[a:b] - begin).tolist(), length[a:b].tolist(), strict=True):
                records[row] = chunk[place : place + size]
                if check_of(records[row]) != int(found.check[row]):
                    raise damaged(found, row)
    return records
