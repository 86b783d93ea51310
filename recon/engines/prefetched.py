"""The pre-fetched file: existing records, or their places, in order of hash."""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.engines.existing import _BATCH_ROWS, ExistingPlaces, ExistingRecords, _overlaid, between, part_of, records_of
from recon.errors import Damaged
from recon.state.reduced import Figures
from recon.state.runs import RecordAddresses, among
from recon.state.runs.entries import COLUMNS
from recon.state.timeline import State
from recon.storage import layout
from recon.storage.port import NotFound, ObjectStore

if TYPE_CHECKING:
    import pyarrow as pa


_META = b"recon"
_PLACES = b"recon places"
"""Metadata of a file of places: the part-files by number, and the CRC-32 of their names and the columns."""
_IN_FILE = ("hi", "lo", "file", "offset", "length", "check")


@dataclass(frozen=True)
class Prefetched:
    """A pre-fetched file: its path, the commit that it was read at, the revisions to merge, and those that were committed then."""

    path: str
    commit: int
    revisions: dict[str, int]
    committed: dict[str, str]
    """Window → its reduced folder at that commit."""
    keys: int
    found: int
    bytes: int


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


def write_prefetched(store: ObjectStore, existing: ExistingPlaces, meta: dict[str, Any], places: bool = False) -> Prefetched:
    """Writes a pre-fetched file: places in a folder, records in object storage. ``places``: places in any store, for
    a merge whose tasks read the records themselves."""
    path = layout.prefetched(layout.new_attempt())
    mapped = any(store.local(part_file) is not None for part_file in existing.found.part_files[:1])
    table = _places(existing) if mapped or places else records_of(store, existing).drop_columns(["length"])
    named = {**(table.schema.metadata or {}), _META: json.dumps(meta)}
    written = store.put_new(path, _ipc(table.replace_schema_metadata(named)))
    return Prefetched(path, found=table.num_rows, bytes=written, **meta)


def open_prefetched(
    store: ObjectStore, prefetched: Prefetched, fresh: ExistingPlaces | None = None, bounds: tuple[int, int] | None = None
) -> ExistingRecords:
    """The records of a pre-fetched file; for hashes in ``fresh``, only the records there. ``bounds``: only keys with bounds[0] ≤ hi <
    bounds[1], to which ``fresh`` is limited already. Raises Damaged where the file cannot be read or was changed."""
    import pyarrow as pa

    local = store.local(prefetched.path)
    try:
        source = pa.memory_map(str(local)) if local is not None else pa.BufferReader(store.get(prefetched.path))
        table = pa.ipc.open_file(source).read_all()
    except (OSError, NotFound, pa.ArrowException) as error:
        raise _damaged(prefetched.path, str(error)) from None
    if "record" not in table.column_names:
        existing = part_of(_existing(prefetched.path, table), bounds)
        return ExistingRecords(existing if fresh is None else _overlaid(existing, fresh))
    table = _with_lengths((table if bounds is None else between(table, *bounds)).replace_schema_metadata(None))
    if fresh is None:
        return ExistingRecords(_NOTHING, table)
    # By the invariant of runs, a later run lists every record of its hashes.
    old_hi, old_lo = (table.column(name).to_numpy() for name in ("hi", "lo"))
    return ExistingRecords(fresh, table.filter(pa.array(~among(old_hi, old_lo, fresh.hi, fresh.lo))))


def _damaged(path: str, what: str) -> Damaged:
    return Damaged(f"{path}: the pre-fetched file is damaged or gone ({what}); run again")


def _places(existing: ExistingPlaces) -> pa.Table:
    """The places as a table, with the part-files in its metadata."""
    import pyarrow as pa

    found = existing.found
    columns = {"hi": existing.hi, "lo": existing.lo, "file": found.part}
    columns |= {"offset": found.offset, "length": found.length, "check": found.check}
    columns = {name: np.ascontiguousarray(column, COLUMNS[name]) for name, column in columns.items()}
    metadata = {"part_files": found.part_files, "crc": _crc(found.part_files, list(columns.values()))}
    return pa.table({name: pa.array(column) for name, column in columns.items()}).replace_schema_metadata({_PLACES: json.dumps(metadata)})


def _existing(path: str, table: pa.Table) -> ExistingPlaces:
    """The places in a table made by ``_places``. Raises Damaged where the table was changed."""
    try:
        metadata = json.loads(table.schema.metadata[_PLACES])
        hi, lo, part, offset, length, check = (np.ascontiguousarray(table.column(name).to_numpy()) for name in _IN_FILE)
        typed = all(column.dtype == COLUMNS[name] for name, column in zip(_IN_FILE, (hi, lo, part, offset, length, check), strict=True))
        part_files = tuple(metadata["part_files"])
        unchanged = typed and metadata["crc"] == _crc(part_files, [hi, lo, part, offset, length, check])
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, str(error)) from None
    if not unchanged:
        raise _damaged(path, "its places are not what was written")
    return ExistingPlaces(hi, lo, RecordAddresses(part_files, np.arange(len(hi)), part, offset, length, check))


def _crc(part_files: Sequence[str], columns: Sequence[np.ndarray[Any, Any]]) -> int:
    crc = zlib.crc32(chr(10).join(part_files).encode())
    for column in columns:
        crc = zlib.crc32(column.data, crc)
    return crc


def write_places(store: ObjectStore, path: str, existing: ExistingPlaces) -> None:
    """Writes the places of some keys, for ``read_places``."""
    store.put_new(path, _ipc(_places(existing)))


def read_places(store: ObjectStore, path: str) -> ExistingPlaces:
    """Reads places. Raises Damaged where the file was changed."""
    import pyarrow as pa

    try:
        return _existing(path, pa.ipc.open_file(pa.BufferReader(store.get(path))).read_all())
    except (OSError, NotFound, pa.ArrowException) as error:
        raise _damaged(path, str(error)) from None


def prefetched_files(store: ObjectStore) -> Iterator[tuple[str, Prefetched | None]]:
    """Path → metadata of every pre-fetched file in the store; None where a file is damaged. Files deleted meanwhile are left out."""
    import pyarrow as pa

    for path in store.list(layout.PREFETCHED):
        try:
            local = store.local(path)
            source = pa.memory_map(str(local)) if local is not None else pa.BufferReader(store.get(path))
            reader = pa.ipc.open_file(source)
            meta: dict[str, Any] = json.loads(reader.schema.metadata[_META])
            rows = sum(reader.get_batch(number).num_rows for number in range(reader.num_record_batches))
            yield path, Prefetched(path, found=rows, bytes=source.size(), **meta)
        except (FileNotFoundError, NotFound):
            continue
        except (OSError, pa.ArrowInvalid, ValueError, KeyError, TypeError):
            yield path, None


def _with_lengths(table: pa.Table) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    return table.append_column("length", pc.binary_length(table.column("record")).cast(pa.uint32())).select(
        ["hi", "lo", "length", "record"]
    )


class _Pieces(io.RawIOBase):
    """A file object that hands over what was written since the last ``take``, so that memory never holds a large file."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, piece: Any) -> int:
        self._pieces.append(bytes(piece))
        self._written += len(self._pieces[-1])
        return len(self._pieces[-1])

    def take(self) -> Iterator[bytes]:
        pieces, self._pieces = self._pieces, []
        yield from pieces


def _ipc(table: pa.Table) -> Iterator[bytes]:
    """A table as an Arrow file, in pieces; views of records are written as bytes."""
    import pyarrow as pa

    kinds = [pa.large_binary() if field.name == "record" else field.type for field in table.schema]
    schema = pa.schema([field.with_type(kind) for field, kind in zip(table.schema, kinds, strict=True)], table.schema.metadata)
    pieces = _Pieces()
    with pa.ipc.new_file(pieces, schema) as writer:
        for batch in table.to_batches(_BATCH_ROWS):
            columns = [column.cast(kind) for column, kind in zip(batch.columns, kinds, strict=True)]
            writer.write_batch(pa.record_batch(columns, schema=schema))
            yield from pieces.take()
    yield from pieces.take()
