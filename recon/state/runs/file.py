"""A run on disk: written once, opened by its footer, read block by block.

    16 bytes magic, version (u4), 0 (u4)
    six arrays hi, lo, offset (u8), length, file, check (u4), each from a multiple of 8 on
    fence hi of every 1,024th entry (u8)
    guard CRC-32 of each block of 1,024 entries: of its hi, then its lo (u4)
    footer JSON: count, part_files, and per array its position, bytes and CRC-32 (with its padding)
    20 bytes length (u8) and CRC-32 (u4) of the footer, magic

All numbers are little-endian. Opening checks magic, footer, fence and guard. A look-up checks the blocks of hashes that it reads against
the guard, so that a flipped byte can't make a key seem new. ``Run.verify`` checks every byte.
"""

from __future__ import annotations

import json
import mmap
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from recon.errors import Damaged, WrongInput
from recon.model.record import RecordAddress
from recon.state.runs.entries import COLUMNS, Column, Entries, check_together
from recon.state.runs.merge import MergePlan, RowsInFile, plan_merge
from recon.storage.port import ObjectStore
from recon.storage.ranges import coalesce, read_ranges
from recon.storage.scratch import scratch_folder

BLOCK = 1024
_MAGIC = b"RECONRUN"
_VERSION = 2
_HEAD = struct.Struct("<8sII")
_TAIL = struct.Struct("<QI8s")
_ARRAYS = {**COLUMNS, "fence": "<u8", "guard": "<u4"}
# An end of up to this size (fence, guard and footer) is read by one request.
_END_BYTES = 1 << 16

Columns = Mapping[str, Callable[[], Iterator[Column]]]
"""Name → function that yields the column in pieces. Each is called once; hi and lo have equal pieces."""


@dataclass(frozen=True)
class Run:
    """An open run: ``count`` entries. Columns are memory maps where the store is a folder, else ranges that are read."""

    path: str
    count: int
    part_files: tuple[str, ...]
    fence: Column
    guard: Column
    _store: ObjectStore
    _arrays: dict[str, tuple[int, int, int]]
    _mapped: Column | None
    _checked: Column = field(repr=False)
    _map: mmap.mmap | None = field(repr=False, default=None)

    def column(self, name: str, start: int, stop: int) -> Column:
        """Rows [start, stop) of a column, unchecked. Raises Damaged if the file is too short."""
        kind = np.dtype(_ARRAYS[name])
        position = self._arrays[name][0] + start * kind.itemsize
        if self._mapped is not None:
            return self._mapped[position : position + (stop - start) * kind.itemsize].view(kind)
        return np.frombuffer(self._store.get_range(self.path, position, (stop - start) * kind.itemsize), dtype=kind)

    @property
    def is_mapped(self) -> bool:
        return self._mapped is not None

    def release(self) -> None:
        """Releases the pages that were read to the system, so that reading a large run does not count as memory of its size. Pages that are
        read again are mapped again."""
        if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)

    def find(self, hi: int, lo: int) -> list[RecordAddress]:
        """The addresses of all records of a hash in this run; the caller compares their keys. Raises Damaged."""
        wanted_hi, wanted_lo = np.uint64(hi), np.uint64(lo)
        first = max(int(np.searchsorted(self.fence, wanted_hi)) - 1, 0)
        last = int(np.searchsorted(self.fence, wanted_hi, side="right"))
        if last == 0:
            return []
        start, stop = first * BLOCK, min(last * BLOCK, self.count)
        all_hi, all_lo = self.hashes(first, last)
        low, high = np.searchsorted(all_hi, wanted_hi), np.searchsorted(all_hi, wanted_hi, side="right")
        rows = start + low + np.flatnonzero(all_lo[low:high] == wanted_lo)
        if not len(rows):
            return []
        # Entries of one hash are neighbours.
        start, stop = int(rows[0]), int(rows[-1]) + 1
        found = [self.column(name, start, stop).tolist() for name in ("file", "offset", "length", "check")]
        return [RecordAddress(self.part_file(file), *place) for file, *place in zip(*found, strict=True)]

    @property
    def gap_max_bytes(self) -> int:
        """Two pieces of a column with a gap of up to this size are read by one request."""
        return 0 if self.is_mapped else self._store.cost.gap_max_bytes

    def part_file(self, number: int) -> str:
        """The part-file with this number. Raises Damaged for a number that the run does not have."""
        if number >= len(self.part_files):
            raise _damaged(self.path, f"an entry names part-file {number} of {len(self.part_files)}")
        return self.part_files[number]

    def hashes(self, first: int, last: int) -> tuple[Column, Column]:
        """hi and lo of the blocks [first, last), checked against the guard. Raises Damaged."""
        start, stop = first * BLOCK, min(last * BLOCK, self.count)
        return self._guarded(first, last, self.column("hi", start, stop), self.column("lo", start, stop))

    def hashes_of(self, spans: Sequence[tuple[int, int]]) -> list[tuple[Column, Column]]:
        """``hashes`` of each span of blocks [first, last), read in parallel. Raises Damaged."""
        if self._mapped is not None or not spans:
            return [self.hashes(first, last) for first, last in spans]
        rows = [(first * BLOCK, min(last * BLOCK, self.count)) for first, last in spans]
        places = [self._arrays[name][0] + start * 8 for name in ("hi", "lo") for start, _ in rows]
        fetched = read_ranges(self._store, [self.path] * len(places), places, [(stop - start) * 8 for start, stop in rows] * 2)
        hi, lo = ([np.frombuffer(raw, np.dtype(_ARRAYS["hi"])) for raw in half] for half in (fetched[: len(rows)], fetched[len(rows) :]))
        return [self._guarded(*span, *columns) for span, columns in zip(spans, zip(hi, lo, strict=True), strict=True)]

    def _guarded(self, first: int, last: int, hi: Column, lo: Column) -> tuple[Column, Column]:
        start = first * BLOCK
        for block in range(first, last):
            rows = slice(block * BLOCK - start, (block + 1) * BLOCK - start)
            if not self._checked[block]:
                if _guard_of(hi[rows], lo[rows]) != self.guard[block]:
                    raise _damaged(self.path, f"the entries from {block * BLOCK} on are not what was written")
                # Mapped bytes are checked once per open run, ranges each time.
                self._checked[block] = self._mapped is not None
        return hi, lo

    def gather(self, name: str, rows: npt.NDArray[np.int64]) -> Column:
        """The values of a column in ``rows``, which do not descend."""
        if self._mapped is not None:
            column: Column = self.column(name, 0, self.count)[rows]
            return column
        if not len(rows):
            return np.zeros(0, dtype=_ARRAYS[name])
        width = np.dtype(_ARRAYS[name]).itemsize
        groups = coalesce(rows * width, (rows + 1) * width, self._store.cost)
        starts, stops = rows[groups], rows[np.append(groups[1:], len(rows)) - 1] + 1
        places = self._arrays[name][0] + starts * width
        fetched = read_ranges(self._store, [self.path] * len(groups), places, (stops - starts) * width)
        values = np.frombuffer(b"".join(fetched), dtype=_ARRAYS[name])
        # The start of each group in ``values``, minus its start in the column.
        shift = np.cumsum(stops - starts) - stops
        taken: Column = values[rows + np.repeat(shift, np.diff(np.append(groups, len(rows))))]
        return taken

    def entries(self) -> Entries:
        """All entries, with every byte checked; memory maps where the store is a folder. Raises Damaged."""
        self.verify()
        return Entries(self.part_files, **{name: self.column(name, 0, self.count) for name in COLUMNS})

    def verify(self) -> None:
        """Reads every byte. Raises Damaged for a wrong CRC, entries out of order, or an unknown part-file."""
        for name, (position, size, crc) in self._arrays.items():
            found = 0
            stop = position + size + -size % 8
            for start in range(position, stop, 1 << 24):
                length = min(1 << 24, stop - start)
                found = zlib.crc32(self._bytes(start, length), found)
                self.release()
            if found != crc:
                raise _damaged(self.path, f"its array {name!r} is not what was written")
        for start in range(0, self.count, 1 << 20):
            stop = min(start + (1 << 20) + 1, self.count)
            hi, lo, file = (self.column(name, start, stop) for name in ("hi", "lo", "file"))
            if bool(np.any((hi[1:] < hi[:-1]) | ((hi[1:] == hi[:-1]) & (lo[1:] < lo[:-1])))):
                raise _damaged(self.path, f"its entries from {start} on are not sorted")
            self.part_file(int(file.max()))
            check_together(hi, lo, file, self.part_files)
            self.release()

    def _bytes(self, position: int, length: int) -> memoryview | bytes:
        if self._mapped is not None:
            return self._mapped[position : position + length].data
        return self._store.get_range(self.path, position, length)


def write_run(store: ObjectStore, path: str, entries: Entries) -> int:
    """Writes a new run; returns its size in bytes. Raises AlreadyExists, and WrongInput for entries that are not sorted."""
    hi, lo = entries.hi, entries.lo
    if bool(np.any((hi[1:] < hi[:-1]) | ((hi[1:] == hi[:-1]) & (lo[1:] < lo[:-1])))):
        raise WrongInput(f"{path}: its entries are not sorted by hash; make them by entries_of or merge_entries")
    check_together(hi, lo, entries.file, entries.part_files)
    columns = {name: partial(_in_chunks, getattr(entries, name)) for name in COLUMNS}
    return write_columns(store, path, len(entries), entries.part_files, columns)


def write_merged(store: ObjectStore, path: str, runs: Sequence[Run]) -> int:
    """Merges runs (at least one), newest first, into a new run, as ``merge_entries`` does, but stretch by stretch.

    Checks every byte of ``runs`` first. Returns the new run's size in bytes. Raises AlreadyExists, Damaged, WrongInput.
    """
    with scratch_folder(store) as scratch, open(scratch / "kept", "w+b") as file:
        plan = merged_plan(runs, file)
        return write_columns(store, path, len(plan), plan.part_files, {name: partial(plan.column, name) for name in COLUMNS})


def merged_plan(runs: Sequence[Run], file: BinaryIO) -> MergePlan:
    """The entries that a merge of ``runs`` (at least one), newest first, keeps. ``file``: for their rows, empty and open
    for writing and reading.

    Checks every byte of the runs. Raises Damaged, WrongInput."""

    def release() -> None:
        for run in runs:
            run.release()

    return plan_merge([run.entries() for run in runs], RowsInFile(file), release)


def write_columns(store: ObjectStore, path: str, count: int, part_files: Sequence[str], columns: Columns) -> int:
    """Writes a new run of ``count`` entries in order of hash, from columns in pieces. Returns its size in bytes. Raises AlreadyExists."""
    return store.put_new(path, _layout(count, part_files, columns))


def _in_chunks(column: Column) -> Iterator[Column]:
    for start in range(0, len(column), 1 << 20):
        yield column[start : start + (1 << 20)]


def _layout(count: int, part_files: Sequence[str], columns: Columns) -> Iterator[bytes | memoryview]:
    """The file's bytes."""
    yield _HEAD.pack(_MAGIC, _VERSION, 0)
    position, arrays = _HEAD.size, {}
    blocks = _Blocks(count)
    made: Columns = {"fence": lambda: iter([blocks.fence]), "guard": lambda: iter([blocks.guard])}
    for name, kind in _ARRAYS.items():
        size, crc = 0, 0
        for piece in (columns.get(name) or made[name])():
            column = np.ascontiguousarray(piece, dtype=kind)
            if name in ("hi", "lo"):
                blocks.add(name, column)
            written = column.view(np.uint8).data
            size, crc = size + len(written), zlib.crc32(written, crc)
            yield written
        padding = bytes(-size % 8)
        yield padding
        arrays[name] = [position, size, zlib.crc32(padding, crc)]
        position += size + len(padding)
    footer = json.dumps({"count": count, "part_files": list(part_files), "arrays": arrays}).encode()
    yield footer
    yield _TAIL.pack(len(footer), zlib.crc32(footer), _MAGIC)


class _Blocks:
    """Computes fence and guard of a run while its hi, and then its lo, are written in pieces of any size."""

    def __init__(self, count: int) -> None:
        self.fence = np.zeros(-(-count // BLOCK), np.uint64)
        self.guard = np.zeros(-(-count // BLOCK), np.uint32)
        self._written = {"hi": 0, "lo": 0}

    def add(self, name: str, column: Column) -> None:
        first = self._written[name]
        self._written[name] = end = first + len(column)
        if name == "hi":
            starts = column[-first % BLOCK :: BLOCK]
            self.fence[-(-first // BLOCK) : -(-first // BLOCK) + len(starts)] = starts
        content = column.view(np.uint8).data
        # A block's guard is the CRC of its hi continued over its lo, so each piece continues the value so far.
        for block in range(first // BLOCK, -(-end // BLOCK)):
            start, stop = max(block * BLOCK, first) - first, min((block + 1) * BLOCK, end) - first
            self.guard[block] = zlib.crc32(content[start * 8 : stop * 8], int(self.guard[block]))


def _guard_of(hi: Column, lo: Column) -> int:
    return zlib.crc32(lo.view(np.uint8).data, zlib.crc32(hi.view(np.uint8).data))


def open_runs(store: ObjectStore, paths: Iterable[str]) -> list[Run]:
    """``open_run`` of each path, in order; in parallel where the store is not a folder. Raises what it raises."""
    chosen = list(paths)
    if len(chosen) < 2 or store.local(chosen[0]) is not None:
        return [open_run(store, path) for path in chosen]
    with ThreadPoolExecutor(min(len(chosen), store.cost.requests_at_once)) as openers:
        return list(openers.map(lambda path: open_run(store, path), chosen))


def open_run(store: ObjectStore, path: str) -> Run:
    """Opens a run, at a cost that does not depend on its size.

    Raises NotFound, Damaged for a truncated or damaged file, WrongInput for an unknown version.
    """
    file, size = store.local(path), store.size(path)
    if size < _HEAD.size + _TAIL.size:
        raise _damaged(path, f"it is cut short: {size} bytes")
    mapped = pages = None
    if file is not None:
        with open(file, "rb") as handle:
            pages = mmap.mmap(handle.fileno(), size, access=mmap.ACCESS_READ)
            mapped = np.frombuffer(pages, dtype=np.uint8)

    # The end of the file is read by one request.
    end_start = 0 if mapped is not None else max(0, size - _END_BYTES)
    end = mapped if mapped is not None else np.frombuffer(store.get_range(path, end_start, size - end_start), np.uint8)

    def read(position: int, length: int) -> bytes:
        if position >= end_start:
            return end[position - end_start : position - end_start + length].tobytes()
        return store.get_range(path, position, length)

    magic, version, zero = _HEAD.unpack(read(0, _HEAD.size))
    length, crc, end_magic = _TAIL.unpack(read(size - _TAIL.size, _TAIL.size))
    if magic != _MAGIC or end_magic != _MAGIC or zero or length > size - _HEAD.size - _TAIL.size:
        raise _damaged(path, "it is cut short, or no run")
    if version != _VERSION:
        raise WrongInput(f"{path}: is of version {version}, this recon reads version {_VERSION}; use the one that wrote it")
    raw = read(size - _TAIL.size - length, length)
    if zlib.crc32(raw) != crc:
        raise _damaged(path, "its footer is not what was written")
    footer = json.loads(raw)
    count, part_files = footer["count"], tuple(footer["part_files"])
    arrays = {name: tuple(place) for name, place in footer["arrays"].items()}
    _check_layout(path, count, arrays, size - _TAIL.size - length)
    blocks = {}
    for name in ("fence", "guard"):
        position, length, crc = arrays[name]
        raw = read(position, length + -length % 8)
        if zlib.crc32(raw) != crc:
            raise _damaged(path, f"its array {name!r} is not what was written")
        blocks[name] = np.frombuffer(raw[:length], dtype=_ARRAYS[name])
    checked = np.zeros(len(blocks["guard"]), dtype=bool)
    return Run(path, count, part_files, blocks["fence"], blocks["guard"], store, arrays, mapped, checked, pages)


def _check_layout(path: str, count: int, arrays: dict[str, tuple[int, int, int]], end: int) -> None:
    position = _HEAD.size
    for name, kind in _ARRAYS.items():
        rows = count if name in COLUMNS else -(-count // BLOCK)
        size = rows * np.dtype(kind).itemsize
        if arrays.get(name, ())[:2] != (position, size):
            raise _damaged(path, f"its array {name!r} is not where {count} entries put it")
        position += size + -size % 8
    if position != end:
        raise _damaged(path, f"it holds {end} bytes of arrays, {position} are expected")


def _damaged(path: str, what: str) -> Damaged:
    return Damaged(f"{path}: {what}; restore the file from a backup, then run 'recon verify'")
