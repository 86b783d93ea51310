"""Merges one slice of the hash space and writes its part-file; Spark's tasks run the same code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.config import Config
from recon.config.form import form_of
from recon.engines.duckdb.merge import merge_slice
from recon.engines.duckdb.session import connect
from recon.engines.existing import ExistingRecords, find_existing, touched_keys
from recon.engines.port import MergeTask, Slice, Sources
from recon.engines.prefetched import open_prefetched
from recon.state import reduced
from recon.state.packed import Folders
from recon.state.runs import Entries, among, checks_of, entries_of
from recon.state.timeline import Timeline
from recon.storage.port import NotFound, ObjectStore
from recon.storage.scratch import scratch_folder

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb
    import pyarrow as pa


SLICE_ROWS = 400_000
"""Target rows per slice, new plus existing. Bounds the memory of a merge."""
SLICE_BYTES = 256 << 20
"""Target bytes of existing records per slice: the records of keys with very many windows are long."""
_HASHES = 1 << 64


def existing_at(store: ObjectStore, task: MergeTask, bounds: tuple[int, int] | None = None) -> ExistingRecords:
    """The existing records of the touched keys at the task's state: the pre-fetched ones, and again those that later commits wrote.
    ``bounds``: only keys with bounds[0] ≤ hi < bounds[1]."""
    if task.prefetched is None or not fits(task):
        return _find_again(store, task, bounds)
    timeline, later = Timeline(store, task.state.folder), []
    for number in range(task.state.commit, task.prefetched.commit, -1):
        entry = timeline.entry(number)
        # A merged tier holds no new records: only runs written with part-files of their own count.
        later += [run.path for run in entry.runs_added if run.part_bytes] if entry else []
    # A run that is gone was merged into a tier or compacted, and swept, since.
    with suppress(NotFound):
        fresh = find_existing(store, later, *touched_keys(store, task.state, task.todo, bounds)) if later else None
        return open_prefetched(store, task.prefetched, fresh, bounds)
    return _find_again(store, task, bounds)


def _find_again(store: ObjectStore, task: MergeTask, bounds: tuple[int, int] | None) -> ExistingRecords:
    runs = [run.path for run in task.state.runs]
    return ExistingRecords(find_existing(store, runs, *touched_keys(store, task.state, task.todo, bounds)))


def fits(task: MergeTask) -> bool:
    """Whether the pre-fetched file was made for the task's revisions, while the same revisions were committed, since the last rebuild."""
    prefetched, state = task.prefetched, task.state
    if prefetched is None or prefetched.commit < state.rebuilt:  # a rebuild replaces every record, but its entry adds no run of its own
        return False
    committed = {f.window: state.windows[f.window].folder for f in task.todo if f.window in state.windows}
    return all(
        prefetched.revisions.get(f.window) == f.revision and prefetched.committed.get(f.window) == committed.get(f.window)
        for f in task.todo
    )


@dataclass(frozen=True)
class Part:
    """The result of one slice, without its records: those are in a part-file, and ``entries`` lead to them, if any changed.
    ``bytes``: of these records, without the part-file's head."""

    slice: Slice
    entries: Entries | None = None
    bytes: int = 0
    superseded: int = 0


@dataclass(frozen=True)
class Merged:
    """A slice whose records are not written yet. ``superseded``: bytes of the existing records that they replace."""

    slice: Slice
    superseded: int


@dataclass(frozen=True)
class SliceMerger:
    """Merges the slices of one task in one DuckDB connection; made by ``merging_slices``."""

    store: ObjectStore
    config: Config
    task: MergeTask
    connection: duckdb.DuckDBPyConnection
    sources: Sources

    def merge(self, existing: ExistingRecords, bounds: tuple[int, int]) -> Merged:
        """Merges the keys with bounds[0] ≤ hi < bounds[1]."""
        records = self._read(existing, bounds)
        found = merge_slice(self.connection, self.config, self.sources, records, bounds)
        return Merged(found, _superseded(records, found.records))

    def write(self, merged: Merged, path: str) -> Part:
        """Writes the records that change as the part-file ``path``. May run while the next slice is merged."""
        found, changed = merged.slice, merged.slice.records
        if not changed.num_rows:
            return Part(found)
        head, record = form_of(self.config).head(), changed.column("record")
        written = self.store.put_new(path, chain([head], _buffers(record))) - len(head)
        hi, lo, length = (changed.column(name).to_numpy() for name in ("hi", "lo", "length"))
        check = np.concatenate([checks_of(chunk) for chunk in record.chunks])
        return Part(_without_records(found), entries_of(path, hi, lo, length, check, len(head)), written, merged.superseded)

    def _read(self, existing: ExistingRecords, bounds: tuple[int, int]) -> pa.Table:
        # A part-file that is gone was compacted, and swept, since it was found.
        with suppress(NotFound):
            return existing.read(self.store, bounds)
        return _find_again(self.store, self.task, bounds).read(self.store)


@contextmanager
def merging_slices(store: ObjectStore, config: Config, task: MergeTask, bounds: tuple[int, int] | None = None) -> Iterator[SliceMerger]:
    """Opens the connection and the files of a task. ``bounds``: only keys with bounds[0] ≤ hi < bounds[1] will be merged, and only their
    row groups are read."""
    with scratch_folder(store) as scratch, connect(store, config, scratch, task.place) as connection:
        yield SliceMerger(store, config, task, connection, _sources(store, task, scratch, bounds))


def _superseded(existing: pa.Table, written: pa.Table) -> int:
    """Bytes of the existing records that new ones replace: all records of a hash are written together."""
    ours, theirs = ([part.column(name).to_numpy() for name in ("hi", "lo")] for part in (existing, written))
    return int(_lengths(existing)[among(*ours, *theirs)].sum())


def _lengths(existing: pa.Table) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Bytes of each record."""
    lengths: np.ndarray[Any, np.dtype[np.int64]] = existing.column("length").to_numpy().astype(np.int64)
    return lengths


def hash_slices(count: int) -> list[tuple[int, int]]:
    """The space of ``hi`` in ``count`` equal parts: first, and the end that is not included."""
    return [(number * _HASHES // count, (number + 1) * _HASHES // count) for number in range(count)]


def _buffers(column: pa.ChunkedArray) -> Iterator[memoryview]:
    """The bytes of a column of records, straight from Arrow's buffers, without a loop per row."""
    for chunk in column.chunks:
        if len(chunk):
            _, offsets, content = chunk.buffers()
            bounds = np.frombuffer(offsets, np.int64)[chunk.offset : chunk.offset + len(chunk) + 1]
            yield memoryview(content)[int(bounds[0]) : int(bounds[-1])]


def _without_records(found: Slice) -> Slice:
    return replace(found, records=found.records.slice(0, 0))


def _sources(store: ObjectStore, task: MergeTask, scratch: Path, bounds: tuple[int, int] | None) -> Sources:
    new = {figures.window: figures.folder for figures in task.todo}
    committed = Folders(task.state.windows)
    return Sources(
        artifacts=reduced.WindowFiles(store, scratch, new, reduced.ARTIFACTS, bounds=bounds),
        artifacts_old=reduced.WindowFiles(store, scratch, committed, reduced.ARTIFACTS, bounds=bounds),
        events_new=reduced.WindowFiles(store, scratch, Folders(task.state.windows, new), reduced.EVENTS, bounds=bounds),
        events_old=reduced.WindowFiles(store, scratch, committed, reduced.EVENTS, bounds=bounds),
    )
