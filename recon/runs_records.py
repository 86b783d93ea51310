"""The bytes of records that were found, every one checked against its entry.

Belongs here: reading records by part-file, offset and length, from the store or from a cache in front of it. Does not belong here:
finding them, and what they mean.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from recon.errors import Damaged
from recon.runs_entries import RECORD_LENGTH_MAX_BYTES
from recon.runs_file import Hit
from recon.runs_find import Found
from recon.runs_ranges import coalesce, read_ranges
from recon.serving.cache import RecordCache, cache_of
from recon.store import ObjectStore

if TYPE_CHECKING:
    import pyarrow as pa

# A view holds a record by a buffer's number and a 32-bit offset; larger sources are cut into overlapping buffers.
_BUFFER_STEP = 1 << 30
_BUFFER_MAX = (1 << 31) - 1
_INLINE_BYTES = 12
_PREFIX_BYTES = 4
# Up to so many records a loop is faster than opening DuckDB.
_CHECKED_BY_HAND = 1000
# A request to object storage costs the same for any number of neighbouring records; only for up to so many is a cache asked first.
CACHED_NEIGHBOURS_MAX = 8


def check_of(record: bytes) -> int:
    """The check of a record: the low 32 bits of its MD5 as a little-endian number."""
    return int.from_bytes(hashlib.md5(record, usedforsecurity=False).digest()[:4], "little")


def read_record(store: ObjectStore, hit: Hit) -> bytes:
    """One record, with its line feed. Raises Damaged naming part-file and offset."""
    cache = cache_of(store)
    if cache is not None:
        (cached,) = cache.get([hit])
        if cached is not None and check_of(cached) == hit.check:
            return cached
    record = store.get_range(hit.part_file, hit.offset, hit.length)
    if check_of(record) != hit.check:
        raise _damaged(hit.part_file, hit.offset)
    if cache is not None:
        cache.put([(hit, record)])
    return record


def read_records(store: ObjectStore, found: Found) -> pa.StringViewArray:
    """The records in the order of ``found``, with their line feeds. Raises Damaged naming part-file and offset.

    From a folder the array views the memory-mapped part-files: nothing is copied, and the total may exceed memory. From
    elsewhere neighbouring records are fetched together, and only the records' own bytes are kept.
    """
    import pyarrow as pa

    if not len(found):
        return pa.array([], pa.string_view())
    _check_places(found)
    cache, missed = cache_of(store), np.zeros(0, np.int64)
    if store.local(found.part_files[0]) is not None:
        records = _mapped(store, found)
    else:
        records, missed = _fetched(store, found, cache)
    _check(found, records)
    if cache is not None and len(missed):
        cache.put((_hit(found, row), records[row].as_py()) for row in missed.tolist())
    # Only now, as bytes that are known to be what was written, do they become text.
    return pa.Array.from_buffers(pa.string_view(), len(records), records.buffers())


def _mapped(store: ObjectStore, found: Found) -> pa.BinaryViewArray:
    used, source = np.unique(found.part, return_inverse=True)
    paths = [found.part_files[part] for part in used.tolist()]
    sizes = np.array([store.size(path) for path in paths], dtype=np.uint64)
    cut = np.flatnonzero(found.offset + found.length > sizes[source])
    if len(cut):
        raise _damaged(found.part_files[int(found.part[cut[0]])], int(found.offset[cut[0]]))
    sources = []
    for path, size in zip(paths, sizes.tolist(), strict=True):
        file = store.local(path)
        assert file is not None, path
        with open(file, "rb") as handle:
            sources.append(np.frombuffer(mmap.mmap(handle.fileno(), size, access=mmap.ACCESS_READ), dtype=np.uint8))
    return _views(sources, source.astype(np.int32), found.offset.astype(np.int64), found.length.astype(np.int32))


def _fetched(store: ObjectStore, found: Found, cache: RecordCache | None) -> tuple[pa.BinaryViewArray, npt.NDArray[np.int64]]:
    """The records, unchecked, and the rows of those that the cache was asked for and did not have."""
    import pyarrow as pa

    order = np.lexsort((found.offset, found.part))
    offset, part = found.offset[order].astype(np.int64), found.part[order]
    length = found.length[order].astype(np.int32)
    borders = [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), len(part)]
    starts = np.concatenate([a + coalesce(offset[a:b], offset[a:b] + length[a:b], store.cost) for a, b in pairwise(borders)])
    stops = np.append(starts[1:], len(part))
    ends = np.maximum.reduceat(offset + length, starts)
    pieces, missed = _cached(cache, found, order, starts, stops)
    wanted, at_once = np.array([number for number in range(len(starts)) if number not in pieces], np.int64), store.cost.requests_at_once
    for wave in range(0, len(wanted), at_once):
        numbers = wanted[wave : wave + at_once]
        first, last = starts[numbers], stops[numbers]
        paths = [found.part_files[number] for number in part[first].tolist()]
        chunks = read_ranges(store, paths, offset[first], ends[numbers] - offset[first])
        for number, chunk, a, b in zip(numbers.tolist(), chunks, first.tolist(), last.tolist(), strict=True):
            source = np.zeros(b - a, dtype=np.int32)
            views = _views([np.frombuffer(chunk, np.uint8)], source, offset[a:b] - offset[a], length[a:b])
            # Copied, so that only the records' own bytes are kept.
            pieces[number] = views.cast(pa.large_binary())
    _, begins, body = pa.concat_arrays([pieces[number] for number in range(len(starts))]).buffers()
    place = np.empty(len(part), dtype=np.int64)
    place[order] = np.frombuffer(begins, dtype=np.int64)[: len(part)]
    source = np.zeros(len(part), dtype=np.int32)
    return _views([np.frombuffer(body, np.uint8)], source, place, found.length.astype(np.int32)), missed


def _cached(
    cache: RecordCache | None,
    found: Found,
    order: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
    stops: npt.NDArray[np.int64],
) -> tuple[dict[int, pa.LargeBinaryArray], npt.NDArray[np.int64]]:
    """Of the requests for ``order[starts:stops]`` those that the cache has all records of, by number; and the rows that it did not have."""
    import pyarrow as pa

    numbers = np.flatnonzero(stops - starts <= CACHED_NEIGHBOURS_MAX)
    if cache is None or not len(numbers):
        return {}, np.zeros(0, np.int64)
    rows = [order[starts[number] : stops[number]].tolist() for number in numbers.tolist()]
    asked = [row for of_request in rows for row in of_request]
    hits = [_hit(found, row) for row in asked]
    held = {
        row: record
        for row, hit, record in zip(asked, hits, cache.get(hits), strict=True)
        if record is not None and check_of(record) == hit.check
    }
    pieces = {
        number: pa.array([held[row] for row in of_request], pa.large_binary())
        for number, of_request in zip(numbers.tolist(), rows, strict=True)
        if all(row in held for row in of_request)
    }
    return pieces, np.array([row for row in asked if row not in held], np.int64)


def _hit(found: Found, row: int) -> Hit:
    return Hit(found.part_files[int(found.part[row])], int(found.offset[row]), int(found.length[row]), int(found.check[row]))


def _views(
    sources: Sequence[npt.NDArray[np.uint8]],
    source: npt.NDArray[np.int32],
    offset: npt.NDArray[np.int64],
    length: npt.NDArray[np.int32],
) -> pa.BinaryViewArray:
    """Ranges of ``sources`` as one array that refers to them, by Arrow's layout of views.

    16 bytes each: length (i4); then up to 12 bytes of content, or 4 bytes of it, a buffer's number (i4), offset (i4).
    """
    import pyarrow as pa

    counts = [max(1, -(-len(array) // _BUFFER_STEP)) for array in sources]
    buffers = [
        pa.py_buffer(array[k * _BUFFER_STEP : k * _BUFFER_STEP + _BUFFER_MAX])
        for array, count in zip(sources, counts, strict=True)
        for k in range(count)
    ]
    first = np.cumsum([0, *counts])[source]
    views = np.zeros((len(offset), 4), dtype="<i4")
    views[:, 0] = length
    views[:, 2], views[:, 3] = first + offset // _BUFFER_STEP, offset % _BUFFER_STEP
    content = views.view(np.uint8)[:, 4:]
    content[length <= _INLINE_BYTES] = 0
    by_source = np.argsort(source, kind="stable")
    borders = np.searchsorted(source[by_source], np.arange(len(sources) + 1))
    for array, (start, stop) in zip(sources, pairwise(borders.tolist()), strict=True):
        rows = by_source[start:stop]
        short = rows[length[rows] <= _INLINE_BYTES]
        for byte in range(_INLINE_BYTES):
            rows = rows if byte < _PREFIX_BYTES else short
            rows = rows[length[rows] > byte]
            content[rows, byte] = array[offset[rows] + byte]
    return pa.Array.from_buffers(pa.binary_view(), len(offset), [None, pa.py_buffer(views), *buffers])


def _check_places(found: Found) -> None:
    """What no part-file can hold must not become an allocation or an overflow."""
    wrong = (found.length < 1) | (found.length > RECORD_LENGTH_MAX_BYTES) | (found.offset >= 1 << 62)
    rows = np.flatnonzero(wrong)
    if len(rows):
        raise _damaged(found.part_files[int(found.part[rows[0]])], int(found.offset[rows[0]]))


def _check(found: Found, records: pa.BinaryViewArray) -> None:
    if len(found) <= _CHECKED_BY_HAND:
        for row, record in enumerate(records.to_pylist()):
            if check_of(record) != int(found.check[row]):
                raise _damaged(found.part_files[int(found.part[row])], int(found.offset[row]))
        return
    import duckdb
    import pyarrow as pa

    rows = pa.table({"row": np.arange(len(found)), "check": found.check, "record": records})
    with duckdb.connect() as connection:
        connection.register("rows", rows)
        wrong = connection.execute('select min("row") from rows where (md5_number(record) & 4294967295)::uinteger <> "check"').fetchall()
    if wrong[0][0] is not None:
        row = wrong[0][0]
        raise _damaged(found.part_files[int(found.part[row])], int(found.offset[row]))


def _damaged(part_file: str, offset: int) -> Damaged:
    return Damaged(
        f"{part_file}: the record at offset {offset} is cut or not what was written; "
        "restore the file from a backup, then run 'recon verify'"
    )
