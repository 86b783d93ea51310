"""Pre-fetch: the keys of a range of windows → their standing artifacts, found once and laid into one file for the merge.

Belongs here: which keys a range touches, and reading their records. Does not belong here: replacing contributions (recon.merge).

The keys are those of the new *and* of the committed revision of each window. The file names the commit it was read at; the merge
reads anew what later commits touched. Bytes read follow the keys of the batch, never the size of the state. In a folder, where the
merge can map the part-files, the file holds the places of the records; from object storage, the records themselves.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.engines.port import engine_of
from recon.errors import Damaged
from recon.state import reduced
from recon.state.reduced import Figures
from recon.state.runs import Found, among, find_many, open_runs, read_records
from recon.state.runs.entries import COLUMNS, hash_order
from recon.state.timeline import State
from recon.storage import layout, parquet
from recon.storage.port import NotFound, ObjectStore
from recon.storage.scratch import local_copy, scratch_folder

if TYPE_CHECKING:
    import pyarrow as pa

    from recon.config import Config

_META = b"recon"
_PLACES = b"recon places"
"""Only in a file of places: the part-files by number, and the CRC-32 of their names and the columns."""
_BATCH_ROWS = 32_768
_IN_FILE = ("hi", "lo", "file", "offset", "length", "check")


@dataclass(frozen=True)
class Prefetched:
    """A pre-fetched file: where it lies, the commit it was read at, the revisions that it was made for and those that stood then."""

    path: str
    commit: int
    revisions: dict[str, int]
    committed: dict[str, str]
    """Window → stateless folder that stood at that commit."""
    keys: int
    found: int
    bytes: int


@dataclass(frozen=True)
class Standing:
    """Where the standing records of some keys lie: ``hi`` and ``lo`` of each, in order, and its place in ``found``."""

    hi: np.ndarray[Any, np.dtype[np.uint64]]
    lo: np.ndarray[Any, np.dtype[np.uint64]]
    found: Found


_NOTHING = Standing(
    np.empty(0, np.uint64),
    np.empty(0, np.uint64),
    Found((), np.empty(0, np.int64), *(np.empty(0, COLUMNS[name]) for name in ("file", "offset", "length", "check"))),
)


def prefetch(store: ObjectStore, state: State, range_figures: Sequence[Figures], config: Config | None = None) -> Prefetched:
    """Finds the standing artifacts of every key that the range touches, as of ``state``, for one file, by the engine of ``config``.

    The file is Arrow IPC, in order of (hi, lo): hi, lo (uint64) and record (JSON line); in a folder hi, lo and the columns of a run's
    entries in place of the record."""
    if config is not None and config.engine.kind != "duckdb":
        return engine_of(config).prefetch(store, config, state, range_figures)
    hi, lo = touched_keys(store, state, range_figures)
    standing = find_standing(store, [run.path for run in state.runs], hi, lo)
    return write_prefetched(store, standing, prefetched_meta(state, range_figures, len(hi)))


def prefetched_meta(state: State, range_figures: Sequence[Figures], keys: int) -> dict[str, Any]:
    """What a pre-fetched file says of itself."""
    windows = [figures.window for figures in range_figures]
    return {
        "commit": state.commit,
        "revisions": {figures.window: figures.revision for figures in range_figures},
        "committed": {name: state.windows[name].folder for name in windows if name in state.windows},
        "keys": keys,
    }


def write_prefetched(store: ObjectStore, standing: Standing, meta: dict[str, Any], places: bool = False) -> Prefetched:
    """Writes a pre-fetched file; with ``places`` one of places in any store, for a merge whose tasks read the records themselves."""
    path = layout.prefetched(layout.new_attempt())
    mapped = any(store.local(part_file) is not None for part_file in standing.found.part_files[:1])
    table = _places(standing) if mapped or places else records_of(store, standing).drop_columns(["length"])
    named = {**(table.schema.metadata or {}), _META: json.dumps(meta)}
    written = store.put_new(path, _ipc(table.replace_schema_metadata(named)))
    return Prefetched(path, found=table.num_rows, bytes=written, **meta)


@dataclass(frozen=True)
class Unread:
    """Standing records that were found, to be read a part at a time, so that memory holds the part. ``held``: those that a pre-fetched file
    holds itself (hi, lo, length, record, in order of hash); the hashes of ``places`` are others."""

    places: Standing
    held: pa.Table | None = None

    def __len__(self) -> int:
        return len(self.places.hi) + (0 if self.held is None else self.held.num_rows)

    @property
    def bytes(self) -> int:
        """Of all the records."""
        held = 0 if self.held is None else int(self.held.column("length").to_numpy().astype(np.int64).sum())
        return held + int(self.places.found.length.astype(np.int64).sum())

    def read(self, store: ObjectStore, bounds: tuple[int, int] | None = None) -> pa.Table:
        """hi, lo, length and record, in order of (hi, lo); with ``bounds`` only of bounds[0] ≤ hi < bounds[1]. Raises Damaged where a
        record cannot be read or is not what was written, and NotFound where a part-file is gone."""
        import pyarrow as pa

        places = part_of(self.places, bounds)
        if self.held is None:
            return records_of(store, places)
        held = self.held if bounds is None else between(self.held, *bounds)
        if not len(places.hi):
            return held
        joined = pa.concat_tables([held, records_of(store, places).cast(held.schema)])
        return joined.sort_by([("hi", "ascending"), ("lo", "ascending")])


def open_prefetched(
    store: ObjectStore, prefetched: Prefetched, fresh: Standing | None = None, bounds: tuple[int, int] | None = None
) -> Unread:
    """What a pre-fetched file tells; of the hashes of ``fresh``, what stands there. With ``bounds`` only of bounds[0] ≤ hi < bounds[1];
    ``fresh`` is then of that part, too. Raises Damaged where the file cannot be read or is not what was written."""
    import pyarrow as pa

    local = store.local(prefetched.path)
    try:
        source = pa.memory_map(str(local)) if local is not None else pa.BufferReader(store.get(prefetched.path))
        table = pa.ipc.open_file(source).read_all()
    except (OSError, NotFound, pa.ArrowException) as error:
        raise _damaged(prefetched.path, str(error)) from None
    if "record" not in table.column_names:
        standing = part_of(_standing(prefetched.path, table), bounds)
        return Unread(standing if fresh is None else _overlaid(standing, fresh))
    table = _with_lengths((table if bounds is None else between(table, *bounds)).replace_schema_metadata(None))
    if fresh is None:
        return Unread(_NOTHING, table)
    # By the invariant of runs, what later runs hold of a hash is all that stands of it.
    old_hi, old_lo = (table.column(name).to_numpy() for name in ("hi", "lo"))
    return Unread(fresh, table.filter(pa.array(~among(old_hi, old_lo, fresh.hi, fresh.lo))))


def read_prefetched(
    store: ObjectStore, prefetched: Prefetched, fresh: Standing | None = None, bounds: tuple[int, int] | None = None
) -> pa.Table:
    """``open_prefetched``, and all of it read."""
    return open_prefetched(store, prefetched, fresh, bounds).read(store)


def _damaged(path: str, what: str) -> Damaged:
    return Damaged(f"{path}: the pre-fetched file is damaged or gone ({what}); run again")


def _places(standing: Standing) -> pa.Table:
    """The places as a table that names its part-files."""
    import pyarrow as pa

    found = standing.found
    columns = {"hi": standing.hi, "lo": standing.lo, "file": found.part}
    columns |= {"offset": found.offset, "length": found.length, "check": found.check}
    columns = {name: np.ascontiguousarray(column, COLUMNS[name]) for name, column in columns.items()}
    told = {"part_files": found.part_files, "crc": _crc(found.part_files, list(columns.values()))}
    return pa.table({name: pa.array(column) for name, column in columns.items()}).replace_schema_metadata({_PLACES: json.dumps(told)})


def _standing(path: str, table: pa.Table) -> Standing:
    """The places in a table as ``_places`` makes it. Raises Damaged where it is not what was written."""
    try:
        told = json.loads(table.schema.metadata[_PLACES])
        hi, lo, part, offset, length, check = (np.ascontiguousarray(table.column(name).to_numpy()) for name in _IN_FILE)
        typed = all(column.dtype == COLUMNS[name] for name, column in zip(_IN_FILE, (hi, lo, part, offset, length, check), strict=True))
        part_files = tuple(told["part_files"])
        whole = typed and told["crc"] == _crc(part_files, [hi, lo, part, offset, length, check])
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, str(error)) from None
    if not whole:
        raise _damaged(path, "its places are not what was written")
    return Standing(hi, lo, Found(part_files, np.arange(len(hi)), part, offset, length, check))


def _crc(part_files: Sequence[str], columns: Sequence[np.ndarray[Any, Any]]) -> int:
    crc = zlib.crc32(chr(10).join(part_files).encode())
    for column in columns:
        crc = zlib.crc32(column.data, crc)
    return crc


def write_places(store: ObjectStore, path: str, standing: Standing) -> None:
    """Writes the places of some keys, for ``read_places``."""
    store.put_new(path, _ipc(_places(standing)))


def read_places(store: ObjectStore, path: str) -> Standing:
    """Raises Damaged where they are not what was written."""
    import pyarrow as pa

    try:
        return _standing(path, pa.ipc.open_file(pa.BufferReader(store.get(path))).read_all())
    except (OSError, NotFound, pa.ArrowException) as error:
        raise _damaged(path, str(error)) from None


def part_of(standing: Standing, bounds: tuple[int, int] | None) -> Standing:
    """What of it lies within the bounds, if there are any."""
    if bounds is None:
        return standing
    rows = _rows_between(standing.hi, *bounds)
    found = standing.found
    part, offset, length, check = (column[rows] for column in (found.part, found.offset, found.length, found.check))
    hi = standing.hi[rows]
    return Standing(hi, standing.lo[rows], Found(found.part_files, np.arange(len(hi)), part, offset, length, check))


def between(table: pa.Table, first: int, end: int) -> pa.Table:
    """The rows with first ≤ hi < end of a table that is sorted by hi."""
    rows = _rows_between(table.column("hi").to_numpy(), first, end)
    return table.slice(rows.start, rows.stop - rows.start)


def _rows_between(hi: np.ndarray[Any, np.dtype[np.uint64]], first: int, end: int) -> slice:
    low = int(np.searchsorted(hi, np.uint64(first), side="left"))
    return slice(low, len(hi) if end == 1 << 64 else int(np.searchsorted(hi, np.uint64(end), side="left")))


def joined(parts: Sequence[Standing]) -> Standing:
    """Several as one; each lies behind the one before in order of hash."""
    names: dict[str, int] = {}
    numbers = [np.array([names.setdefault(name, len(names)) for name in part.found.part_files], np.uint32) for part in parts]
    part_of = [number[part.found.part] for number, part in zip(numbers, parts, strict=True)]
    columns = [np.concatenate([getattr(part.found, name) for part in parts]) for name in ("offset", "length", "check")]
    hi, lo = (np.concatenate([getattr(part, name) for part in parts]) for name in ("hi", "lo"))
    return Standing(hi, lo, Found(tuple(names), np.arange(len(hi)), np.concatenate(part_of), *columns))


def _overlaid(standing: Standing, fresh: Standing) -> Standing:
    """Both, but of the hashes of ``fresh`` only what is there: by the invariant of runs that is all that stands of them."""
    kept = np.flatnonzero(~among(standing.hi, standing.lo, fresh.hi, fresh.lo))
    hi, lo = np.concatenate([standing.hi[kept], fresh.hi]), np.concatenate([standing.lo[kept], fresh.lo])
    order = hash_order(hi, lo)
    old, new = standing.found, fresh.found
    part = np.concatenate([old.part[kept], new.part + np.uint32(len(old.part_files))])[order]
    offset, length, check = (
        np.concatenate([getattr(old, name)[kept], getattr(new, name)])[order] for name in ("offset", "length", "check")
    )
    return Standing(hi[order], lo[order], Found(old.part_files + new.part_files, np.arange(len(order)), part, offset, length, check))


def prefetched_files(store: ObjectStore) -> Iterator[tuple[str, Prefetched | None]]:
    """Path → what the file says of itself, of all that lie in the store; None where it is damaged. One that went meanwhile is left out."""
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


def touched_keys(
    store: ObjectStore, state: State, range_figures: Sequence[Figures], bounds: tuple[int, int] | None = None
) -> tuple[np.ndarray[Any, np.dtype[np.uint64]], np.ndarray[Any, np.dtype[np.uint64]]]:
    """Distinct key hashes (hi, lo), sorted, of the new and the committed revision of each window of the range; with ``bounds`` only
    bounds[0] ≤ hi < bounds[1]."""
    folders = [figures.folder for figures in range_figures]
    folders += [state.windows[f.window].folder for f in range_figures if f.window in state.windows]
    columns = [_hashes(store, folder, bounds) for folder in dict.fromkeys(folders)]
    hi = np.concatenate([column[0] for column in columns] or [np.empty(0, np.uint64)])
    lo = np.concatenate([column[1] for column in columns] or [np.empty(0, np.uint64)])
    if len(columns) > 1:  # one alone is sorted as it was written
        order = np.lexsort((lo, hi))
        hi, lo = hi[order], lo[order]
    # Two keys of one window may have one hash: asked for twice, its records would come twice.
    fresh = np.ones(len(hi), bool)
    fresh[1:] = (hi[1:] != hi[:-1]) | (lo[1:] != lo[:-1])
    return hi[fresh], lo[fresh]


def find_standing(store: ObjectStore, run_paths: Sequence[str], hi: Any, lo: Any) -> Standing:
    """Every entry that the runs (newest first) hold for these hashes, which are sorted."""
    found = find_many(open_runs(store, run_paths), hi, lo)
    return Standing(hi[found.query], lo[found.query], found)


def records_of(store: ObjectStore, standing: Standing) -> pa.Table:
    """hi, lo, length (bytes) and record, each record checked: views (string_view), from a folder of the mapped part-files, so that
    nothing is copied. Raises Damaged, and NotFound where a part-file is gone."""
    import pyarrow as pa

    records = read_records(store, standing.found)
    table = pa.table({"hi": standing.hi, "lo": standing.lo, "length": standing.found.length, "record": records})
    # DuckDB's threads share a table by its batches.
    return pa.Table.from_batches(table.to_batches(_BATCH_ROWS), table.schema)


def standing_records(store: ObjectStore, run_paths: Sequence[str], hi: Any, lo: Any) -> pa.Table:
    """``records_of`` what ``find_standing`` finds."""
    return records_of(store, find_standing(store, run_paths, hi, lo))


def _with_lengths(table: pa.Table) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    return table.append_column("length", pc.binary_length(table.column("record")).cast(pa.uint32())).select(
        ["hi", "lo", "length", "record"]
    )


def _hashes(store: ObjectStore, folder: str, bounds: tuple[int, int] | None) -> tuple[Any, Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    part = None
    if bounds is not None:
        first, last = (pa.scalar(bound, pa.uint64()) for bound in (bounds[0], bounds[1] - 1))
        part = (pc.field("hi") >= first) & (pc.field("hi") <= last)
    with scratch_folder(store) as scratch:
        table = parquet.read(local_copy(store, folder + reduced.ARTIFACTS, scratch), ["hi", "lo"], part)
    return table.column("hi").to_numpy(), table.column("lo").to_numpy()


class _Pieces(io.RawIOBase):
    """A file object for a writer: what was written since it was last taken, so that a large file is never held whole."""

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
    """A table as an Arrow file; records that are views are written themselves."""
    import pyarrow as pa

    kinds = [pa.large_string() if field.name == "record" else field.type for field in table.schema]
    schema = pa.schema([field.with_type(kind) for field, kind in zip(table.schema, kinds, strict=True)], table.schema.metadata)
    pieces = _Pieces()
    with pa.ipc.new_file(pieces, schema) as writer:
        for batch in table.to_batches(_BATCH_ROWS):
            columns = [column.cast(kind) for column, kind in zip(batch.columns, kinds, strict=True)]
            writer.write_batch(pa.record_batch(columns, schema=schema))
            yield from pieces.take()
    yield from pieces.take()
