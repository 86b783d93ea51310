"""Reading ranges of objects: many small ranges as few requests, and a long object a piece at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from recon.storage.port import ObjectStore, ReadCost

PIECE_BYTES = 8 << 20
"""The length of the pieces that a longer object is read in."""
READ_AHEAD = 3
"""Pieces that are read at the same time."""


def coalesce(starts: npt.NDArray[np.int64], stops: npt.NDArray[np.int64], cost: ReadCost) -> npt.NDArray[np.int64]:
    """Groups ranges [start, stop), in ascending order of start, into requests; returns the position of the first range of each.

    A request spans gaps of up to ``cost.gap_max_bytes``, and at most ``cost.request_max_bytes`` and the length of one range.
    """
    reached = np.maximum.accumulate(stops)[:-1]
    far = starts[1:] - reached > cost.gap_max_bytes
    over = starts[1:] // cost.request_max_bytes != starts[:-1] // cost.request_max_bytes
    return np.flatnonzero(np.concatenate([[True], far | over])[: len(starts)])


def read_ranges(store: ObjectStore, paths: Sequence[str], offsets: Iterable[int], lengths: Iterable[int]) -> list[bytes]:
    """Several ranges, in order, ``cost.requests_at_once`` in parallel. Raises what ``get_range`` raises."""
    requests = [(path, int(offset), int(length)) for path, offset, length in zip(paths, offsets, lengths, strict=True)]
    if len(requests) < 2:
        return [store.get_range(*request) for request in requests]
    with ThreadPoolExecutor(min(len(requests), store.cost.requests_at_once)) as readers:
        return list(readers.map(lambda request: store.get_range(*request), requests))


def pieces(store: ObjectStore, path: str, end: int, first: int = 0) -> Iterator[bytes]:
    """The bytes of an object from ``first`` to ``end``, in order, READ_AHEAD pieces on their way at a time. Raises NotFound, and Damaged
    where the object is shorter."""
    waiting: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(READ_AHEAD) as readers:
        for offset in range(first, end, PIECE_BYTES):
            if len(waiting) == READ_AHEAD:
                yield waiting.popleft().result()
            waiting.append(readers.submit(store.get_range, path, offset, min(PIECE_BYTES, end - offset)))
        while waiting:
            yield waiting.popleft().result()
