"""A part of a Parquet file in object storage as a local file: row groups by number, or by a range of values of one column,
read by range.

The local file has the length of the object, and what is not needed is a hole in it. Its footer is the object's own, so that DuckDB and
Arrow skip the other row groups by their statistics if a query asks for the same range. A query that does not fails: a hole is no page.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from recon.errors import Damaged
from recon.storage import parquet
from recon.storage.disk_errors import filling
from recon.storage.port import ObjectStore
from recon.storage.ranges import coalesce, read_ranges
from recon.storage.scratch import local_copy

_END_BYTES = 1 << 16
"""Bytes at the end of a file that are read at once: nearly always the whole footer."""


def local_part(
    store: ObjectStore, path: str, scratch: Path, wanted: parquet.Values | range, columns: Collection[str] | None = None
) -> Path:
    """An object's row groups with the values ``wanted``, or with these numbers, as a local file: the object itself in a folder store, else
    a copy in ``scratch``, which is made once. ``columns``: only these are read, all without. Raises NotFound, and Damaged where it is no
    Parquet file."""
    if store.local(path) is not None:
        return local_copy(store, path, scratch)
    named = "" if columns is None else "-" + "-".join(columns)
    bounds = (wanted.start, wanted.stop) if isinstance(wanted, range) else (wanted.first, wanted.last)
    local = scratch / f"{path.replace('/', '_')}-{bounds[0]}-{bounds[1]}{named}"
    if not local.is_file():
        _copy(store, path, local, wanted, columns)
    return local


def _copy(store: ObjectStore, path: str, local: Path, wanted: parquet.Values | range, columns: Collection[str] | None) -> None:
    size = store.size(path)
    footer = _footer(store, path, size)
    try:
        chunks, filters = parquet.ranges_of(footer, wanted, columns)
    except (OSError, ValueError) as error:
        raise _no_parquet(path, str(error)) from None
    # Filters are behind all row groups: what lies between is not wanted.
    requests = [*_coalesced(store, chunks), *_coalesced(store, filters)]
    at_once = store.cost.requests_at_once
    with filling(local, size) as write:
        write(size - len(footer), footer)
        for wave in (requests[number : number + at_once] for number in range(0, len(requests), at_once)):
            contents = read_ranges(store, [path] * len(wave), [start for start, _ in wave], [end - start for start, end in wave])
            for (start, _), content in zip(wave, contents, strict=True):
                write(start, content)


def _coalesced(store: ObjectStore, ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Start and end of the requests for some ranges."""
    if not ranges:
        return []
    starts, stops = np.array(ranges, np.int64).T
    first = coalesce(starts, stops, store.cost)
    ends = np.maximum.reduceat(stops, first)
    return list(zip(starts[first].tolist(), ends.tolist(), strict=True))


def _footer(store: ObjectStore, path: str, size: int) -> bytes:
    """The bytes of the file from its footer on."""
    end = store.get_range(path, max(0, size - _END_BYTES), min(size, _END_BYTES))
    length = parquet.footer_length(end)
    if length is None or length > size:
        raise _no_parquet(path, "its end is not a footer")
    return end[-length:] if length <= len(end) else store.get_range(path, size - length, length)


def _no_parquet(path: str, what: str) -> Damaged:
    return Damaged(f"{path}: not a Parquet file ({what}); restore it from a backup, or run 'recon replay' for its window")
