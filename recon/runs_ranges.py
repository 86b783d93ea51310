"""Many small ranges as few requests.

Belongs here: joining neighbouring ranges and fetching them side by side. Does not belong here: what the bytes mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from recon.store import ObjectStore

# Up to this gap it is cheaper to read on than to ask again.
GAP_MAX_BYTES = 1 << 16
REQUEST_MAX_BYTES = 1 << 23
REQUESTS_AT_ONCE = 16


def coalesce(starts: npt.NDArray[np.int64], stops: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Ranges [start, stop) in ascending order of start → the position of the first range of each request.

    A request spans gaps of up to GAP_MAX_BYTES, and at most REQUEST_MAX_BYTES and the length of one range.
    """
    reached = np.maximum.accumulate(stops)[:-1]
    far = starts[1:] - reached > GAP_MAX_BYTES
    over = starts[1:] // REQUEST_MAX_BYTES != starts[:-1] // REQUEST_MAX_BYTES
    return np.flatnonzero(np.concatenate([[True], far | over])[: len(starts)])


def read_ranges(store: ObjectStore, paths: Sequence[str], offsets: Iterable[int], lengths: Iterable[int]) -> list[bytes]:
    """Several ranges, in order, REQUESTS_AT_ONCE side by side. Raises what ``get_range`` raises."""
    requests = [(path, int(offset), int(length)) for path, offset, length in zip(paths, offsets, lengths, strict=True)]
    if len(requests) < 2:
        return [store.get_range(*request) for request in requests]
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as readers:
        return list(readers.map(lambda request: store.get_range(*request), requests))
