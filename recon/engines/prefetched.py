"""The pre-fetched file: existing records, or their places, in order of hash.

It consists of *chunks*, each an Arrow stream of some thousand rows, and a tail that lists them with their hashes, places and CRC-32. So a
merge of one slice of the hash space reads the chunks of its slice only. Tasks of Spark write their chunks into objects of their own,
*pieces*, and the file is then a tail alone.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.engines.existing import ExistingPlaces, ExistingRecords, _overlaid, between, part_of, records_of
from recon.errors import Damaged
from recon.state.reduced import Figures
from recon.state.runs import RecordAddresses, among
from recon.state.runs.entries import COLUMNS
from recon.state.timeline import State
from recon.storage import layout
from recon.storage.port import NotFound, ObjectStore
from recon.storage.ranges import read_ranges

if TYPE_CHECKING:
    import pyarrow as pa


CHUNK_ROWS = 8_192
_PART_FILES = b"recon part-files"
"""Metadata of a chunk of places: the part-files by number."""
_IN_FILE = ("hi", "lo", "file", "offset", "length", "check")
_END = struct.Struct("<QI8s")
"""The last bytes of a file: length and CRC-32 of its tail, and a mark."""
_MARK = b"recon-pf"
_TAIL_BYTES = 1 << 16
"""Bytes at the end of a file that are read at once: nearly always the whole tail."""


@dataclass(frozen=True)
class Chunk:
    """Where a chunk is: object, offset and length in bytes. ``first``, ``last``: its least and greatest ``hi``. ``check``: CRC-32."""

    path: str
    offset: int
    length: int
    rows: int
    first: int
    last: int
    check: int


@dataclass(frozen=True)
class Prefetched:
    """A pre-fetched file: its path, the commit that it was read at, the revisions to merge, and those that were committed then.
    ``bytes``: of the file and its pieces."""

    path: str
    commit: int
    revisions: dict[str, int]
    committed: dict[str, str]
    """Window → its reduced folder at that commit."""
    keys: int
    found: int
    bytes: int
    chunks: tuple[Chunk, ...] = ()

    @property
    def paths(self) -> list[str]:
        """The file and its pieces."""
        return list(dict.fromkeys([self.path, *(chunk.path for chunk in self.chunks)]))

    def delete(self, store: ObjectStore) -> None:
        """Deletes the file and its pieces."""
        for path in self.paths:
            store.delete(path)


_NOTHING = ExistingPlaces(
    np.empty(0, np.uint64),
    np.empty(0, np.uint64),
    RecordAddresses((), np.empty(0, np.int64), *(np.empty(0, COLUMNS[name]) for name in ("file", "offset", "length", "check"))),
)


def prefetched_meta(state: State, range_figures: Sequence[Figures], keys: int) -> dict[str, Any]:
    """The metadata of a pre-fetched file."""
    windows = [figures.window for figures in range_figures]
    return {
        "commit": state.commit,
        "revisions": {figures.window: figures.revision for figures in range_figures},
        "committed": {name: state.windows[name].folder for name in windows if name in state.windows},
        "keys": keys,
    }


def write_prefetched(store: ObjectStore, existing: ExistingPlaces, meta: Mapping[str, Any]) -> Prefetched:
    """Writes a pre-fetched file with chunks of its own."""
    path = layout.prefetched(layout.new_attempt())
    chunks: list[Chunk] = []
    size = store.put_new(path, _chunks(store, path, existing, chunks, lambda: _tail(meta, chunks)))
    return Prefetched(path, found=sum(chunk.rows for chunk in chunks), bytes=size, chunks=tuple(chunks), **meta)


def write_piece(store: ObjectStore, path: str, existing: ExistingPlaces) -> list[Chunk]:
    """Writes the records of some keys, or their places, as the object ``path``; returns its chunks. Writes nothing without records."""
    chunks: list[Chunk] = []
    if len(existing.hi):
        store.put_new(path, _chunks(store, path, existing, chunks))
    return chunks


def write_index(store: ObjectStore, chunks: Sequence[Chunk], meta: Mapping[str, Any]) -> Prefetched:
    """Writes a pre-fetched file whose chunks, in order of hash, are in pieces."""
    path = layout.prefetched(layout.new_attempt())
    size = store.put_new(path, [_tail(meta, chunks)]) + sum(chunk.length for chunk in chunks)
    return Prefetched(path, found=sum(chunk.rows for chunk in chunks), bytes=size, chunks=tuple(chunks), **meta)


def open_prefetched(
    store: ObjectStore, prefetched: Prefetched, fresh: ExistingPlaces | None = None, bounds: tuple[int, int] | None = None
) -> ExistingRecords:
    """The records of a pre-fetched file; for hashes in ``fresh``, only the records there. ``bounds``: only keys with bounds[0] ≤ hi <
    bounds[1], to which ``fresh`` is limited already; other chunks are not read. Raises Damaged where a chunk cannot be read or was
    changed."""
    import pyarrow as pa

    chunks = [chunk for chunk in prefetched.chunks if bounds is None or (chunk.last >= bounds[0] and chunk.first < bounds[1])]
    tables = _read_chunks(store, chunks)
    if not tables:
        return ExistingRecords(_NOTHING if fresh is None else fresh)
    if "record" not in tables[0].column_names:
        existing = part_of(_existing(tables), bounds)
        return ExistingRecords(existing if fresh is None else _overlaid(existing, fresh))
    table = pa.concat_tables(tables)
    table = _with_lengths(table if bounds is None else between(table, *bounds))
    if fresh is None:
        return ExistingRecords(_NOTHING, table)
    # By the invariant of runs, a later run lists every record of its hashes.
    old_hi, old_lo = (table.column(name).to_numpy() for name in ("hi", "lo"))
    return ExistingRecords(fresh, table.filter(pa.array(~among(old_hi, old_lo, fresh.hi, fresh.lo))))


def prefetched_files(store: ObjectStore) -> Iterator[tuple[str, Prefetched | None]]:
    """Path → metadata of every pre-fetched file in the store, of which only the tail is read; None where a file is damaged, or of an
    earlier version. Files deleted meanwhile are left out."""
    for path, size in store.sizes(layout.PREFETCHED):
        try:
            meta, chunks = _read_tail(store, path, size)
            total = size + sum(chunk.length for chunk in chunks if chunk.path != path)
            yield path, Prefetched(path, found=sum(chunk.rows for chunk in chunks), bytes=total, chunks=tuple(chunks), **meta)
        except (FileNotFoundError, NotFound):
            continue
        except (OSError, Damaged, ValueError, KeyError, TypeError, struct.error):
            yield path, None


def _damaged(path: str, what: str) -> Damaged:
    return Damaged(f"{path}: the pre-fetched file is damaged or gone ({what}); run again")


def _tail(meta: Mapping[str, Any], chunks: Sequence[Chunk]) -> bytes:
    """The tail with its length, CRC-32 and mark."""
    named = list(dict.fromkeys(chunk.path for chunk in chunks))
    number = {path: place for place, path in enumerate(named)}
    rows = [[number[c.path], c.offset, c.length, c.rows, c.first, c.last, c.check] for c in chunks]
    body = json.dumps({"meta": meta, "paths": named, "chunks": rows}).encode()
    return body + _END.pack(len(body), zlib.crc32(body), _MARK)


def _read_tail(store: ObjectStore, path: str, size: int) -> tuple[dict[str, Any], list[Chunk]]:
    """Metadata and chunks of a file of ``size`` bytes."""
    start = max(0, size - _TAIL_BYTES)
    end = store.get_range(path, start, size - start)
    length, check, mark = _END.unpack(end[-_END.size :])
    if mark != _MARK or length + _END.size > size:
        raise _damaged(path, "its end is not that of a pre-fetched file")
    if length + _END.size > len(end):
        end = store.get_range(path, size - _END.size - length, length + _END.size)
    body = end[-_END.size - length : -_END.size]
    if zlib.crc32(body) != check:
        raise _damaged(path, "its tail is not what was written")
    raw = json.loads(body)
    return raw["meta"], [Chunk(raw["paths"][number], *numbers) for number, *numbers in raw["chunks"]]


def _chunks(
    store: ObjectStore, path: str, existing: ExistingPlaces, written: list[Chunk], tail: Callable[[], bytes] | None = None
) -> Iterator[bytes | memoryview]:
    """The bytes of the chunks: places in a folder, where the merge can map the part-files, and records in object storage. Adds each chunk
    to ``written``; at the end the ``tail``."""
    mapped = any(store.local(part_file) is not None for part_file in existing.found.part_files[:1])
    records = None if mapped or not len(existing.hi) else records_of(store, existing).drop_columns(["length"])
    offset = 0
    for start in range(0, len(existing.hi), CHUNK_ROWS):
        rows = slice(start, start + CHUNK_ROWS)
        table = _places(existing, rows) if records is None else _as_bytes(records.slice(start, CHUNK_ROWS))
        content = _stream(table)
        first, last = int(existing.hi[rows][0]), int(existing.hi[rows][-1])
        written.append(Chunk(path, offset, len(content), table.num_rows, first, last, zlib.crc32(content)))
        offset += len(content)
        yield content
    if tail is not None:
        yield tail()


def _stream(table: pa.Table) -> memoryview:
    """A table as an Arrow stream of one batch."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return memoryview(sink.getvalue())


def _as_bytes(records: pa.Table) -> pa.Table:
    """The same with views of records copied as bytes."""
    import pyarrow as pa

    return records.set_column(records.column_names.index("record"), "record", records.column("record").cast(pa.large_binary()))


def _places(existing: ExistingPlaces, rows: slice) -> pa.Table:
    """Some places as a table, with their part-files in its metadata."""
    import pyarrow as pa

    found = existing.found
    used, part = np.unique(found.part[rows], return_inverse=True)
    columns = {"hi": existing.hi[rows], "lo": existing.lo[rows], "file": part}
    columns |= {name: getattr(found, name)[rows] for name in ("offset", "length", "check")}
    columns = {name: np.ascontiguousarray(column, COLUMNS[name]) for name, column in columns.items()}
    named = json.dumps([found.part_files[number] for number in used.tolist()])
    return pa.table({name: pa.array(column) for name, column in columns.items()}).replace_schema_metadata({_PART_FILES: named})


def _existing(tables: Sequence[pa.Table]) -> ExistingPlaces:
    """The places in tables made by ``_places``, in order."""
    names: dict[str, int] = {}
    columns: dict[str, list[np.ndarray[Any, Any]]] = {name: [] for name in _IN_FILE}
    for table in tables:
        listed = json.loads(table.schema.metadata[_PART_FILES])
        number = np.array([names.setdefault(name, len(names)) for name in listed], COLUMNS["file"])
        for name in _IN_FILE:
            column = table.column(name).to_numpy()
            columns[name].append(number[column] if name == "file" else column)
    hi, lo, part, offset, length, check = (np.concatenate(columns[name]) for name in _IN_FILE)
    return ExistingPlaces(hi, lo, RecordAddresses(tuple(names), np.arange(len(hi)), part, offset, length, check))


def _read_chunks(store: ObjectStore, chunks: Sequence[Chunk]) -> list[pa.Table]:
    """The chunks, in order; neighbours in one request. Raises Damaged."""
    import pyarrow as pa

    most = store.cost.request_max_bytes
    borders = [
        place
        for place, (one, other) in enumerate(pairwise(chunks), 1)
        if other.path != one.path or other.offset != one.offset + one.length or other.offset // most != one.offset // most
    ]
    groups = [chunks[a:b] for a, b in pairwise([0, *borders, len(chunks)]) if a < b]
    try:
        read = read_ranges(
            store,
            [group[0].path for group in groups],
            [group[0].offset for group in groups],
            [group[-1].offset + group[-1].length - group[0].offset for group in groups],
        )
    except (OSError, NotFound, Damaged) as error:
        raise _damaged(groups[0][0].path, str(error)) from None
    tables = []
    for group, content in zip(groups, read, strict=True):
        for chunk in group:
            part = memoryview(content)[chunk.offset - group[0].offset :][: chunk.length]
            if zlib.crc32(part) != chunk.check:
                raise _damaged(chunk.path, "a chunk is not what was written")
            tables.append(pa.ipc.open_stream(pa.py_buffer(part)).read_all())
    return tables


def _with_lengths(table: pa.Table) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    return table.append_column("length", pc.binary_length(table.column("record")).cast(pa.uint32())).select(
        ["hi", "lo", "length", "record"]
    )
