"""Rewrites the live records of chosen part-files into new ones, and writes the run of all live records.

Both stream the state in stretches of the hash space, so memory holds one stretch of entries, the entries for the next part-file, and one
write buffer. New offsets are not stored: records are written in order of hash, so offsets are running sums of lengths. Records are copied,
not decoded: a new part-file has the head of those that its records come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from recon.errors import Damaged
from recon.state.forms import head_of_part
from recon.state.runs import Entries, MergedPiece, MergePlan, RecordAddresses, read_records, write_columns
from recon.state.runs.entries import COLUMNS, Column
from recon.storage import layout
from recon.storage.documents import RESTORE
from recon.storage.port import ObjectStore
from recon.storage.ranges import read_ranges

if TYPE_CHECKING:
    import pyarrow as pa

PART_RECORDS = 400_000
PART_BYTES = 128 << 20
"""Target records and bytes of a new part-file. They bound a compaction's memory."""
PIECE_BYTES = 16 << 20
"""Bytes of the write buffer of a part-file."""

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Rewritten:
    """The new part-files ``paths``, in order of hash. ``chosen``: the part-files that their records come from. ``starts``: number of the
    first record of each, counted over all. ``sizes``: bytes of their records, which follow a head of ``head`` bytes."""

    chosen: frozenset[str]
    paths: tuple[str, ...]
    starts: Positions
    sizes: tuple[int, ...]
    records: int
    head: int

    @property
    def bytes(self) -> int:
        """Of all their records."""
        return sum(self.sizes)


@dataclass(frozen=True)
class LiveRun:
    """The run of all live records, rewritten ones at their new places: the number of its entries, and the part-files that it names."""

    entries: int
    part_files: tuple[str, ...]


def rewrite(
    store: ObjectStore, live: MergePlan, chosen: Mapping[str, int], attempt: str, progress: Callable[[float], None] = lambda share: None
) -> Rewritten:
    """Writes the live records of the part-files ``chosen`` (path → live bytes) into new ones of ``attempt``."""
    paths: list[str] = []
    starts, sizes, records = [0], [], 0
    head = common_head(store, list(chosen))
    for part in _in_parts(_entries_in(live, chosen)):
        rows = np.arange(len(part["hi"]))
        found = RecordAddresses(live.part_files, rows, part["file"], part["offset"], part["length"], part["check"])
        path = layout.part_file(attempt, len(paths))
        sizes.append(store.put_new(path, chain([head], _bytes_of(read_records(store, found), part["length"]))) - len(head))
        paths.append(path)
        records += len(rows)
        starts.append(records)
        progress(sum(sizes) / sum(chosen.values()))
    return Rewritten(frozenset(chosen), tuple(paths), np.array(starts[:-1], np.int64), tuple(sizes), records, len(head))


def common_head(store: ObjectStore, part_files: Sequence[str]) -> bytes:
    """The head of all these part-files; b"" without any. All part-files of a state have the same head: they were made by the same rules.
    Raises Damaged where one has another head."""
    if not part_files:
        return b""
    head, others = head_of_part(store, part_files[0]), part_files[1:]
    for path, other in zip(others, read_ranges(store, others, [0] * len(others), [len(head)] * len(others)), strict=True):
        if other != head:
            raise Damaged(f"{path}: its head is not that of {part_files[0]}, though the same rules made both; {RESTORE}")
    return head


def _entries_in(live: MergePlan, chosen: Mapping[str, int]) -> Iterator[dict[str, Column]]:
    """The entries of records in the part-files ``chosen``, stretch by stretch."""
    wanted = _is_in(live, chosen)
    for piece in live.pieces() if chosen else ():
        only = piece.only(np.flatnonzero(wanted[piece.column("file")]))
        yield {name: only.column(name) for name in COLUMNS}


def _in_parts(stretches: Iterator[dict[str, Column]]) -> Iterator[dict[str, Column]]:
    """The same entries in groups of one part-file each. Entries of one hash stay together."""
    waiting = {name: np.zeros(0, kind) for name, kind in COLUMNS.items()}
    for stretch in stretches:
        waiting = {name: np.concatenate([waiting[name], stretch[name]]) for name in COLUMNS}
        # A stretch ends between two hashes. Its last group may be continued by the next stretch.
        *complete, rest = _cuts(waiting) if len(waiting["hi"]) else [(0, 0)]
        for first, end in complete:
            yield {name: waiting[name][first:end] for name in COLUMNS}
        waiting = {name: waiting[name][rest[0] :].copy() for name in COLUMNS}
    for first, end in _cuts(waiting):
        yield {name: waiting[name][first:end] for name in COLUMNS}


def _cuts(entries: Mapping[str, Column]) -> Iterator[tuple[int, int]]:
    hi, lo, ends = entries["hi"], entries["lo"], np.cumsum(entries["length"], dtype=np.int64)
    first = 0
    while first < len(hi):
        before = int(ends[first - 1]) if first else 0
        by_bytes = int(np.searchsorted(ends, before + PART_BYTES, side="right"))
        end = min(first + PART_RECORDS, max(by_bytes, first + 1), len(hi))
        while end < len(hi) and (hi[end], lo[end]) == (hi[end - 1], lo[end - 1]):
            end += 1
        yield first, end
        first = end


def _bytes_of(records: pa.BinaryViewArray, length: Column) -> Iterator[memoryview]:
    """The records' bytes in buffers of about PIECE_BYTES, copied from mapped files."""
    import pyarrow as pa

    ends, first = np.cumsum(length, dtype=np.int64), 0
    while first < len(records):
        before = int(ends[first - 1]) if first else 0
        end = max(first + 1, int(np.searchsorted(ends, before + PIECE_BYTES, side="right")))
        joined: Any = records[first:end].cast(pa.large_binary())
        _, offsets, content = joined.buffers()
        bounds = np.frombuffer(offsets, np.int64)[joined.offset : joined.offset + len(joined) + 1]
        yield memoryview(content)[int(bounds[0]) : int(bounds[-1])]
        first = end


def write_live_run(store: ObjectStore, path: str, live: MergePlan, rewritten: Rewritten, first: Entries | None) -> LiveRun:
    """Writes the run ``path`` of all live entries. ``first``: the run of the first try, where the state has changed since the records were
    rewritten; some of them may be superseded now."""
    new = len(rewritten.paths)

    def places() -> _Places:
        return _InOrder(rewritten) if first is None else _ByHash(rewritten, first)

    used = np.ones(new, bool)
    if first is not None:
        used[:] = False
        for _, _, part, _ in _moves(live, rewritten, places()):
            used[part] = True
    stays = np.array([name not in rewritten.chosen for name in live.part_files], bool)
    number, number_new = (np.cumsum(kept, dtype=np.uint32) - np.uint32(1) for kept in (stays, used))
    number_new = number_new + np.uint32(np.count_nonzero(stays))
    files = [name for name, one in zip((*live.part_files, *rewritten.paths), (*stays, *used), strict=True) if one]

    def column(name: str) -> Iterator[Column]:
        for piece, rows, part, offset in _moves(live, rewritten, places()):
            taken = number[piece.column("file")] if name == "file" else piece.column("offset").copy()
            taken[rows] = number_new[part] if name == "file" else offset
            yield taken

    columns = {name: partial(column if name in ("file", "offset") else live.column, name) for name in COLUMNS}
    write_columns(store, path, len(live), files, columns)
    return LiveRun(len(live), tuple(files))


def _moves(live: MergePlan, rewritten: Rewritten, places: _Places) -> Iterator[tuple[MergedPiece, Positions, Positions, Column]]:
    """For each stretch: the rows of rewritten records, the number of their new part-file, and their offset in it."""
    wanted = _is_in(live, rewritten.chosen)
    for piece in live.pieces():
        rows = np.flatnonzero(wanted[piece.column("file")])
        yield (piece, rows, *places.of(piece.only(rows)))


def _is_in(live: MergePlan, chosen: Mapping[str, int] | frozenset[str]) -> npt.NDArray[np.bool_]:
    return np.array([name in chosen for name in live.part_files], bool)


class _Places(Protocol):
    def of(self, piece: MergedPiece) -> tuple[Positions, Column]:
        """New part-files and offsets of a stretch's rewritten records. Called for each stretch in order."""
        ...


class _InOrder:
    """All rewritten records are still live: their offsets are running sums of lengths, behind the head."""

    def __init__(self, rewritten: Rewritten) -> None:
        self._starts, self._begins = rewritten.starts, np.cumsum([0, *rewritten.sizes], dtype=np.uint64)
        self._records, self._bytes = 0, np.uint64(rewritten.head)

    def of(self, piece: MergedPiece) -> tuple[Positions, Column]:
        length = piece.column("length")
        number = np.arange(self._records, self._records + len(length))
        part = np.searchsorted(self._starts, number, side="right") - 1
        ends = self._bytes + np.cumsum(length, dtype=np.uint64)
        if len(ends):
            self._records, self._bytes = self._records + len(ends), ends[-1]
        return part, ends - length - self._begins[part]


class _ByHash:
    """Some rewritten records are superseded: the others are looked up by hash, length and check in the run of the first try.

    A different record with the same hash, length and check would need an MD5 collision and an equal CRC-32."""

    _KEY = (("hi", "<u8"), ("lo", "<u8"), ("check", "<u4"), ("length", "<u4"))

    def __init__(self, rewritten: Rewritten, first: Entries) -> None:
        number = {path: place for place, path in enumerate(rewritten.paths)}
        self._first, self._part = first, np.array([number.get(path, -1) for path in first.part_files], np.int64)

    def of(self, piece: MergedPiece) -> tuple[Positions, Column]:
        asked = self._keys({name: piece.column(name) for name, _ in self._KEY})
        if not len(asked):
            return np.zeros(0, np.int64), np.zeros(0, np.uint64)
        near = slice(
            int(np.searchsorted(self._first.hi, asked["hi"][0])), int(np.searchsorted(self._first.hi, asked["hi"][-1], side="right"))
        )
        part = self._part[self._first.file[near]]
        rows = np.flatnonzero(part >= 0)
        known = self._keys({name: getattr(self._first, name)[near][rows] for name, _ in self._KEY})
        order = np.argsort(known, kind="stable")
        at = np.searchsorted(known[order], asked)
        if not len(order) or not bool(np.all(known[order[np.minimum(at, len(order) - 1)]] == asked)):
            raise Damaged("a record of a part-file that was compacted is not in the compaction's own run; run 'recon verify'")
        rows = rows[order[at]]
        return part[rows], self._first.offset[near][rows]

    def _keys(self, columns: Mapping[str, Column]) -> npt.NDArray[Any]:
        keys = np.empty(len(columns["hi"]), list(self._KEY))
        for name, _ in self._KEY:
            keys[name] = columns[name]
        return keys
