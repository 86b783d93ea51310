"""Finds and reads the existing records of the keys that a range touches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.state import reduced
from recon.state.earlier import refuse_part_files
from recon.state.reduced import Figures
from recon.state.runs import RecordAddresses, among, find_many, open_runs, read_records
from recon.state.runs.entries import hash_order
from recon.state.timeline import State
from recon.storage import parquet
from recon.storage.port import ObjectStore
from recon.storage.scratch import scratch_folder

if TYPE_CHECKING:
    import pyarrow as pa


_BATCH_ROWS = 32_768
_HASHES = ("hi", "lo")


@dataclass(frozen=True)
class ExistingPlaces:
    """Places of the existing records of some keys: ``hi`` and ``lo`` of each, in order, and its address in ``found``."""

    hi: np.ndarray[Any, np.dtype[np.uint64]]
    lo: np.ndarray[Any, np.dtype[np.uint64]]
    found: RecordAddresses


@dataclass(frozen=True)
class ExistingRecords:
    """Existing records that were found. They are read a part at a time, so that memory holds only the part. ``in_file``: records that the
    pre-fetched file itself contains (hi, lo, length, record, in order of hash); ``places`` are those of other hashes."""

    places: ExistingPlaces
    in_file: pa.Table | None = None

    def __len__(self) -> int:
        return len(self.places.hi) + (0 if self.in_file is None else self.in_file.num_rows)

    @property
    def bytes(self) -> int:
        """Bytes of all the records."""
        in_file = 0 if self.in_file is None else int(self.in_file.column("length").to_numpy().astype(np.int64).sum())
        return in_file + int(self.places.found.length.astype(np.int64).sum())

    def read(self, store: ObjectStore, bounds: tuple[int, int] | None = None) -> pa.Table:
        """hi, lo, length and record, in order of (hi, lo); with ``bounds`` only of bounds[0] ≤ hi < bounds[1]. Raises Damaged where a
        record cannot be read or was changed, and NotFound where a part-file is gone."""
        import pyarrow as pa

        places = part_of(self.places, bounds)
        if self.in_file is None:
            return records_of(store, places)
        in_file = self.in_file if bounds is None else between(self.in_file, *bounds)
        if not len(places.hi):
            return in_file
        joined = pa.concat_tables([in_file, records_of(store, places).cast(in_file.schema)])
        return joined.sort_by([("hi", "ascending"), ("lo", "ascending")])


def part_of(existing: ExistingPlaces, bounds: tuple[int, int] | None) -> ExistingPlaces:
    """The places with bounds[0] ≤ hi < bounds[1]; all without bounds."""
    if bounds is None:
        return existing
    rows = _rows_between(existing.hi, *bounds)
    found = existing.found
    part, offset, length, check = (column[rows] for column in (found.part, found.offset, found.length, found.check))
    hi = existing.hi[rows]
    return ExistingPlaces(hi, existing.lo[rows], RecordAddresses(found.part_files, np.arange(len(hi)), part, offset, length, check))


def between(table: pa.Table, first: int, end: int) -> pa.Table:
    """The rows with first ≤ hi < end of a table that is sorted by hi."""
    rows = _rows_between(table.column("hi").to_numpy(), first, end)
    return table.slice(rows.start, rows.stop - rows.start)


def _rows_between(hi: np.ndarray[Any, np.dtype[np.uint64]], first: int, end: int) -> slice:
    low = int(np.searchsorted(hi, np.uint64(first), side="left"))
    return slice(low, len(hi) if end == 1 << 64 else int(np.searchsorted(hi, np.uint64(end), side="left")))


def _overlaid(existing: ExistingPlaces, fresh: ExistingPlaces) -> ExistingPlaces:
    """Both; for hashes in ``fresh`` only its places: by the invariant of runs, a later run lists every record of its hashes."""
    kept = np.flatnonzero(~among(existing.hi, existing.lo, fresh.hi, fresh.lo))
    hi, lo = np.concatenate([existing.hi[kept], fresh.hi]), np.concatenate([existing.lo[kept], fresh.lo])
    order = hash_order(hi, lo)
    old, new = existing.found, fresh.found
    part = np.concatenate([old.part[kept], new.part + np.uint32(len(old.part_files))])[order]
    offset, length, check = (
        np.concatenate([getattr(old, name)[kept], getattr(new, name)])[order] for name in ("offset", "length", "check")
    )
    return ExistingPlaces(
        hi[order], lo[order], RecordAddresses(old.part_files + new.part_files, np.arange(len(order)), part, offset, length, check)
    )


def touched_keys(
    store: ObjectStore, state: State, range_figures: Sequence[Figures], bounds: tuple[int, int] | None = None
) -> tuple[np.ndarray[Any, np.dtype[np.uint64]], np.ndarray[Any, np.dtype[np.uint64]]]:
    """Distinct key hashes (hi, lo), sorted, of the new and the committed revision of each window of the range; with ``bounds`` only
    bounds[0] ≤ hi < bounds[1]."""
    folders = [figures.folder for figures in range_figures]
    folders += [state.windows[f.window].folder for f in range_figures if f.window in state.windows]
    return touched_hashes(store, folders, bounds)


def touched_hashes(
    store: ObjectStore, folders: Sequence[str], bounds: tuple[int, int] | None = None
) -> tuple[np.ndarray[Any, np.dtype[np.uint64]], np.ndarray[Any, np.dtype[np.uint64]]]:
    """Distinct key hashes (hi, lo), sorted, of reduced windows in these folders. ``bounds``: see ``touched_keys``."""
    columns = [_hashes(store, folder, bounds) for folder in dict.fromkeys(folders)]
    hi = np.concatenate([column[0] for column in columns] or [np.empty(0, np.uint64)])
    lo = np.concatenate([column[1] for column in columns] or [np.empty(0, np.uint64)])
    if len(columns) > 1:  # a single column was written in order
        order = hash_order(hi, lo)
        hi, lo = hi[order], lo[order]
    # Two keys of a window may have the same hash, whose records must not be read twice.
    fresh = np.ones(len(hi), bool)
    fresh[1:] = (hi[1:] != hi[:-1]) | (lo[1:] != lo[:-1])
    return hi[fresh], lo[fresh]


def find_existing(store: ObjectStore, run_paths: Sequence[str], hi: Any, lo: Any) -> ExistingPlaces:
    """Every entry of the runs (newest first) for these sorted hashes. Raises JsonLines where one of their part-files has JSON lines: a
    merge must not add records of another form to them."""
    runs = open_runs(store, run_paths)
    for run in runs:
        refuse_part_files(run)
    found = find_many(runs, hi, lo)
    return ExistingPlaces(hi[found.query], lo[found.query], found)


def records_of(store: ObjectStore, existing: ExistingPlaces) -> pa.Table:
    """hi, lo, length (bytes) and record, with each record's checksum verified. In a folder the records are views (binary_view) of the
    mapped part-files, so that nothing is copied. Raises Damaged, and NotFound where a part-file is gone."""
    import pyarrow as pa

    records = read_records(store, existing.found)
    table = pa.table({"hi": existing.hi, "lo": existing.lo, "length": existing.found.length, "record": records})
    # DuckDB's threads divide a table by its batches.
    return pa.Table.from_batches(table.to_batches(_BATCH_ROWS), table.schema)


def _hashes(store: ObjectStore, folder: str, bounds: tuple[int, int] | None) -> tuple[Any, Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    part = None
    if bounds is not None:
        first, last = (pa.scalar(bound, pa.uint64()) for bound in (bounds[0], bounds[1] - 1))
        part = (pc.field("hi") >= first) & (pc.field("hi") <= last)
    with scratch_folder(store) as scratch:
        table = parquet.read(reduced.local_keys(store, folder, reduced.ARTIFACTS, scratch, bounds, _HASHES), _HASHES, part)
    return table.column("hi").to_numpy(), table.column("lo").to_numpy()
