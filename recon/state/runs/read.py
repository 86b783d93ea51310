"""Reads records by their addresses, and checks each against its entry."""

from __future__ import annotations

import errno
import mmap
import os
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from recon.errors import Damaged
from recon.model.form import refuse_json_lines
from recon.model.record import RecordAddress
from recon.state.runs.entries import RECORD_LENGTH_MAX_BYTES
from recon.state.runs.find import RecordAddresses
from recon.storage.cache import RecordCache, cache_of
from recon.storage.port import ObjectStore, ReadCost
from recon.storage.ranges import coalesce, read_ranges

if TYPE_CHECKING:
    import pyarrow as pa

# A view refers to a buffer by its number and a 32-bit offset; larger sources are split into overlapping buffers.
_BUFFER_STEP = 1 << 30
_BUFFER_MAX = (1 << 31) - 1
_INLINE_BYTES = 12
_PREFIX_BYTES = 4
# Threads that copy cached pages, and records in each of their pieces.
_READERS = 8
_PIECE_RECORDS = 16_384
_SAMPLED = 64
# From this share of uncached pages on, records are read with O_DIRECT: a page fault costs about 25 µs of CPU, and several times that where
# memory is short; a direct read costs 7 to 11 µs whatever its size, and a megabyte more 60 µs (docs/benchmarks.md). So gaps up to the bytes
# that a disk delivers in the time of a request or two are read, too.
_DIRECT_FROM = 0.3
_DIRECT = ReadCost(gap_max_bytes=32_768, request_max_bytes=1 << 20, requests_at_once=16)
_DIRECT_PIECE = 2048
_BLOCK_BYTES = 4096
"""The alignment of direct reads, in the file and in memory: a multiple of what disks require."""
# A request to object storage costs the same for any number of neighbouring records, so only requests for up to this many ask the cache.
CACHED_NEIGHBOURS_MAX = 8


def check_of(record: bytes) -> int:
    """The check of a record: its CRC-32."""
    return zlib.crc32(record)


def checks_of(records: pa.Array) -> npt.NDArray[np.uint32]:
    """The checks of the records in an Arrow array of binary or text."""
    import pyarrow as pa

    wide = pa.types.is_large_string(records.type) or pa.types.is_large_binary(records.type)
    _, offsets, content = records.buffers()
    bounds = np.frombuffer(offsets, np.int64 if wide else np.int32)[records.offset : records.offset + len(records) + 1].tolist()
    # map() keeps the loop in C: 0.2 µs a record, a third of its MD5 in DuckDB.
    pieces = map(memoryview(content).__getitem__, map(slice, bounds[:-1], bounds[1:])) if len(records) else iter(())
    return np.fromiter(map(zlib.crc32, pieces), np.uint32, len(records))


def read_record(store: ObjectStore, address: RecordAddress) -> bytes:
    """The bytes of one record. Raises NotFound, JsonLines, and Damaged naming part-file and offset."""
    refuse_json_lines(address.part_file)
    cache = cache_of(store)
    if cache is not None:
        (cached,) = cache.get([address])
        if cached is not None and check_of(cached) == address.check:
            return cached
    record = store.get_range(address.part_file, address.offset, address.length)
    if check_of(record) != address.check:
        raise _damaged(address.part_file, address.offset)
    if cache is not None:
        cache.put([(address, record)])
    return record


def read_records(store: ObjectStore, found: RecordAddresses) -> pa.BinaryViewArray:
    """The bytes of the records, in the order of ``found``. Raises NotFound, JsonLines, and Damaged naming part-file and offset.

    Memory keeps the records' own bytes only. In a folder, records are copied from memory-mapped part-files, or read with O_DIRECT where the
    system has not cached them. From object storage, neighbouring records are read by one request, with the bytes between them.
    """
    import pyarrow as pa

    if not len(found):
        return pa.array([], pa.binary_view())
    check_places(found)
    cache, missed = cache_of(store), np.zeros(0, np.int64)
    if store.local(found.part_files[0]) is not None:
        direct = _read_directly(store, found) if _share_uncached(store, found) >= _DIRECT_FROM else None
        records = _copied(store, found) if direct is None else direct
    else:
        records, missed = _fetched(store, found, cache)
    if cache is not None and len(missed):
        cache.put((_address(found, row), records[row].as_py()) for row in missed.tolist())
    return records


def _share_uncached(store: ObjectStore, found: RecordAddresses) -> float:
    """The share of records, in an even sample, that the system has not cached, 0 to 1; 0 where the system cannot tell."""
    if not hasattr(os, "RWF_NOWAIT"):
        return 0.0
    sampled = np.linspace(0, len(found) - 1, min(_SAMPLED, len(found))).astype(np.int64)
    missing = 0
    for row in sampled.tolist():
        file = store.local(found.part_files[int(found.part[row])])
        try:
            with open(str(file), "rb", buffering=0) as handle:
                os.preadv(handle.fileno(), [bytearray(1)], int(found.offset[row]), os.RWF_NOWAIT)
        except BlockingIOError:
            missing += 1
        except OSError:  # a missing file is reported when it is read; some file systems do not support the flag
            return 0.0
    return missing / len(sampled)


def _copied(store: ObjectStore, found: RecordAddresses) -> pa.BinaryViewArray:
    """Copies records from the mapped part-files. The system is asked not to read ahead, which would read and cache 128 KB for each of many
    scattered records."""
    import pyarrow as pa

    mapped = _mapped(store, found)

    def copied(start: int) -> pa.LargeBinaryArray:
        piece = mapped.slice(start, _PIECE_RECORDS).cast(pa.large_binary())
        _check(found, np.arange(start, start + len(piece)), piece)
        return piece

    starts = range(0, len(found), _PIECE_RECORDS)
    with ThreadPoolExecutor(min(_READERS, len(starts))) as readers:
        pieces = list(readers.map(copied, starts))
    return _joined(pieces, np.arange(len(found)), found.length)


def _read_directly(store: ObjectStore, found: RecordAddresses) -> pa.BinaryViewArray | None:
    """Reads records with O_DIRECT, neighbours together; None where the system or the file system does not support it."""
    if not hasattr(os, "O_DIRECT"):
        return None
    _refuse_cut(store, found)
    order, offset, length = _by_place(found)
    part = found.part[order]
    starts = _requests(part, offset, length, _DIRECT)
    bounds = np.append(starts, len(order))
    with ExitStack() as opened:
        handles: dict[int, int] = {}
        for number in np.unique(part).tolist():
            try:
                handles[number] = os.open(str(store.local(found.part_files[number])), os.O_RDONLY | os.O_DIRECT)
            except OSError as error:
                if error.errno == errno.EINVAL:  # such as tmpfs
                    return None
                raise
            opened.callback(os.close, handles[number])

        def read(first: int) -> pa.LargeBinaryArray:
            here = bounds[first : first + _DIRECT_PIECE + 1]
            rows = slice(int(here[0]), int(here[-1]))
            piece = _read_piece(handles, part[rows], offset[rows], length[rows], here - here[0])
            _check(found, order[rows], piece)
            return piece

        pieces = range(0, len(starts), _DIRECT_PIECE)
        with ThreadPoolExecutor(min(_DIRECT.requests_at_once, len(pieces))) as readers:
            return _joined(list(readers.map(read, pieces)), order, found.length)


def _read_piece(
    handles: Mapping[int, int],
    part: npt.NDArray[np.uint32],
    offset: npt.NDArray[np.int64],
    length: npt.NDArray[np.int64],
    bounds: npt.NDArray[np.int64],
) -> pa.LargeBinaryArray:
    """Records in order of place. ``bounds``: the borders of the requests. Bytes beyond the end of a file are zeros."""
    import pyarrow as pa

    first = offset[bounds[:-1]] // _BLOCK_BYTES * _BLOCK_BYTES
    last = np.maximum.reduceat(offset + length, bounds[:-1])
    spans = -(-(last - first) // _BLOCK_BYTES) * _BLOCK_BYTES
    ends = np.concatenate([[0], np.cumsum(length)])
    content = bytearray(int(ends[-1]))
    within, places, lengths = (offset - np.repeat(first, np.diff(bounds))).tolist(), ends.tolist(), length.tolist()
    with mmap.mmap(-1, int(spans.max())) as room, memoryview(room) as view:
        borders = bounds.tolist()
        for handle, at, span, a, b in zip(part[bounds[:-1]].tolist(), first.tolist(), spans.tolist(), borders, borders[1:], strict=False):
            with view[:span] as into:
                got = _fill(handles[handle], into, at)
                for row in range(a, b):
                    if within[row] + lengths[row] <= got:
                        content[places[row] : places[row + 1]] = into[within[row] : within[row] + lengths[row]]
    buffers = [None, pa.py_buffer(ends.astype(np.int64)), pa.py_buffer(content)]
    return pa.Array.from_buffers(pa.large_binary(), len(length), buffers)


def _by_place(found: RecordAddresses) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The order of the records by part-file and offset, and their offsets and lengths in that order."""
    order = np.lexsort((found.offset, found.part))
    return order, found.offset[order].astype(np.int64), found.length[order].astype(np.int64)


def _requests(
    part: npt.NDArray[np.uint32], offset: npt.NDArray[np.int64], length: npt.NDArray[np.int64], cost: ReadCost
) -> npt.NDArray[np.int64]:
    """For records in order of place, the first record of each request. No request spans two part-files."""
    borders = [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), len(part)]
    return np.concatenate([a + coalesce(offset[a:b], offset[a:b] + length[a:b], cost) for a, b in pairwise(borders)])


def _joined(pieces: Sequence[pa.LargeBinaryArray], rows: npt.NDArray[np.int64], lengths: npt.NDArray[np.uint32]) -> pa.BinaryViewArray:
    """Pieces of records as one array, without copying. ``rows``: the position in the array of each record, in the order of the pieces."""
    piece = np.repeat(np.arange(len(pieces), dtype=np.int32), [len(records) for records in pieces])
    offset = np.concatenate([np.frombuffer(r.buffers()[1], np.int64)[r.offset : r.offset + len(r)] for r in pieces])
    source, place = np.empty_like(piece), np.empty_like(offset)
    source[rows], place[rows] = piece, offset
    return _views([np.frombuffer(records.buffers()[2], np.uint8) for records in pieces], source, place, lengths.astype(np.int32))


def _fill(handle: int, into: memoryview, at: int) -> int:
    """Reads until ``into`` is full or the file ends; returns the number of bytes."""
    got = 0
    while got < len(into):
        with into[got:] as rest:
            read = os.preadv(handle, [rest], at + got)
        got += read
        if not read or read % _BLOCK_BYTES:  # only the end of a file is unaligned
            break
    return got


def _refuse_cut(store: ObjectStore, found: RecordAddresses) -> tuple[list[str], list[int], npt.NDArray[np.int64]]:
    """The part-files of the records, their sizes, and the position of each record's part-file. Raises Damaged for a truncated one."""
    used, source = np.unique(found.part, return_inverse=True)
    paths = [found.part_files[part] for part in used.tolist()]
    sizes = np.array([store.size(path) for path in paths], dtype=np.uint64)
    cut = np.flatnonzero(found.offset + found.length > sizes[source])
    if len(cut):
        raise damaged(found, int(cut[0]))
    return paths, sizes.tolist(), source


def _mapped(store: ObjectStore, found: RecordAddresses) -> pa.BinaryViewArray:
    paths, sizes, source = _refuse_cut(store, found)
    sources = []
    for path, size in zip(paths, sizes, strict=True):
        file = store.local(path)
        assert file is not None, path
        with open(file, "rb") as handle:
            pages = mmap.mmap(handle.fileno(), size, access=mmap.ACCESS_READ)
        if hasattr(mmap, "MADV_RANDOM"):
            pages.madvise(mmap.MADV_RANDOM)
        sources.append(np.frombuffer(pages, dtype=np.uint8))
    return _views(sources, source.astype(np.int32), found.offset.astype(np.int64), found.length.astype(np.int32))


def _fetched(store: ObjectStore, found: RecordAddresses, cache: RecordCache | None) -> tuple[pa.BinaryViewArray, npt.NDArray[np.int64]]:
    """The checked records, and the rows of those that the cache was asked for and did not have."""
    import pyarrow as pa

    order, offset, length = _by_place(found)
    part = found.part[order]
    starts = _requests(part, offset, length, store.cost)
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
            views = _views([np.frombuffer(chunk, np.uint8)], source, offset[a:b] - offset[a], length[a:b].astype(np.int32))
            # Copied, so that only the records' own bytes are kept.
            pieces[number] = views.cast(pa.large_binary())
            _check(found, order[a:b], pieces[number])
    return _joined([pieces[number] for number in range(len(starts))], order, found.length), missed


def _cached(
    cache: RecordCache | None,
    found: RecordAddresses,
    order: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
    stops: npt.NDArray[np.int64],
) -> tuple[dict[int, pa.LargeBinaryArray], npt.NDArray[np.int64]]:
    """The requests for ``order[starts:stops]`` whose records are all in the cache, by number; and the rows that the cache did not have."""
    import pyarrow as pa

    numbers = np.flatnonzero(stops - starts <= CACHED_NEIGHBOURS_MAX)
    if cache is None or not len(numbers):
        return {}, np.zeros(0, np.int64)
    rows = [order[starts[number] : stops[number]].tolist() for number in numbers.tolist()]
    asked = [row for of_request in rows for row in of_request]
    addresses = [_address(found, row) for row in asked]
    cached = {
        row: record
        for row, address, record in zip(asked, addresses, cache.get(addresses), strict=True)
        if record is not None and check_of(record) == address.check
    }
    pieces = {
        number: pa.array([cached[row] for row in of_request], pa.large_binary())
        for number, of_request in zip(numbers.tolist(), rows, strict=True)
        if all(row in cached for row in of_request)
    }
    return pieces, np.array([row for row in asked if row not in cached], np.int64)


def _address(found: RecordAddresses, row: int) -> RecordAddress:
    return RecordAddress(found.part_files[int(found.part[row])], int(found.offset[row]), int(found.length[row]), int(found.check[row]))


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


def check_places(found: RecordAddresses) -> None:
    """Raises Damaged for an impossible length or offset, which must not become an allocation or an overflow, and JsonLines."""
    for part_file in found.part_files:
        refuse_json_lines(part_file)
    wrong = (found.length < 1) | (found.length > RECORD_LENGTH_MAX_BYTES) | (found.offset >= 1 << 62)
    rows = np.flatnonzero(wrong)
    if len(rows):
        raise damaged(found, int(rows[0]))


def _check(found: RecordAddresses, rows: npt.NDArray[np.int64], records: pa.LargeBinaryArray) -> None:
    """Raises Damaged for the first of ``rows`` of ``found`` whose record, in ``records``, does not match its check."""
    wrong = rows[checks_of(records) != found.check[rows]]
    if len(wrong):
        raise damaged(found, int(wrong[0]))


def damaged(found: RecordAddresses, row: int) -> Damaged:
    """The error for the record of a row of ``found``."""
    return _damaged(found.part_files[int(found.part[row])], int(found.offset[row]))


def _damaged(part_file: str, offset: int) -> Damaged:
    return Damaged(
        f"{part_file}: the record at offset {offset} is cut or not what was written; "
        "restore the file from a backup, then run 'recon verify'"
    )
