"""Merges one slice of the hash space and writes its part-file; Spark's tasks run the same code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.config import Config
from recon.engines.duckdb.merge import merge_slice
from recon.engines.existing import Unread, find_standing, touched_keys
from recon.engines.port import Slice, Sources
from recon.engines.prefetched import Prefetched, open_prefetched
from recon.state import reduced
from recon.state.reduced import Figures
from recon.state.runs import Entries, among, entries_of
from recon.state.timeline import State, Timeline
from recon.storage.port import NotFound, ObjectStore

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb
    import pyarrow as pa


SLICE_ROWS = 400_000
"""Rows (arriving and standing) that one slice of the keys holds about: what bounds the memory of a merge."""


SLICE_BYTES = 256 << 20
"""Bytes of standing records that one slice holds about: those of keys with very many windows are long."""


_HASHES = 1 << 64


def standing_at(
    store: ObjectStore,
    timeline: Timeline,
    state: State,
    todo: Sequence[Figures],
    prefetched: Prefetched | None,
    bounds: tuple[int, int] | None = None,
) -> Unread:
    """The standing records of the touched keys at ``state``: the pre-fetched ones, with what later commits wrote found anew. With
    ``bounds`` only those of bounds[0] ≤ hi < bounds[1]."""
    if prefetched is None or not fits(prefetched, state, todo):
        return _found_anew(store, state, todo, bounds)
    later: list[str] = []
    for number in range(state.commit, prefetched.commit, -1):
        entry = timeline.entry(number)
        # A merged tier holds no new records: only runs written with part-files of their own count.
        later += [run.path for run in entry.runs_added if run.part_bytes] if entry else []
    # A run that is gone was merged into a tier or compacted, and swept, since.
    with suppress(NotFound):
        fresh = find_standing(store, later, *touched_keys(store, state, todo, bounds)) if later else None
        return open_prefetched(store, prefetched, fresh, bounds)
    return _found_anew(store, state, todo, bounds)


def read_standing(store: ObjectStore, state: State, todo: Sequence[Figures], standing: Unread, bounds: tuple[int, int]) -> pa.Table:
    """The part of ``standing`` with bounds[0] ≤ hi < bounds[1]. See ``Unread.read``."""
    # A part-file that is gone was compacted, and swept, since it was found.
    with suppress(NotFound):
        return standing.read(store, bounds)
    return _found_anew(store, state, todo, bounds).read(store)


def _found_anew(store: ObjectStore, state: State, todo: Sequence[Figures], bounds: tuple[int, int] | None) -> Unread:
    return Unread(find_standing(store, [run.path for run in state.runs], *touched_keys(store, state, todo, bounds)))


def fits(prefetched: Prefetched, state: State, todo: Sequence[Figures]) -> bool:
    """Whether the file was made for these revisions, while the same revisions were committed, and since the last rebuild."""
    committed = {f.window: state.windows[f.window].folder for f in todo if f.window in state.windows}
    if prefetched.commit < state.rebuilt:  # a rebuild replaces every record, but its entry adds no run of its own
        return False
    return all(
        prefetched.revisions.get(f.window) == f.revision and prefetched.committed.get(f.window) == committed.get(f.window) for f in todo
    )


@dataclass(frozen=True)
class Part:
    """What one slice came to, without its records: those lie in a part-file, with ``entries`` that lead to them, if any changed."""

    slice: Slice
    entries: Entries | None = None
    bytes: int = 0
    superseded: int = 0


def write_slice(
    store: ObjectStore,
    config: Config,
    connection: duckdb.DuckDBPyConnection,
    sources: Sources,
    standing: pa.Table,
    bounds: tuple[int, int],
    path: str,
) -> Part:
    """Merges the keys of one slice and writes what changed as the part-file ``path``."""
    found = merge_slice(connection, config, sources, standing, bounds)
    if not found.records.num_rows:
        return Part(found)
    written = store.put_new(path, _buffers(found.records.column("record")))
    columns = [found.records.column(name).to_numpy() for name in ("hi", "lo", "length", "check")]
    return Part(_without_records(found), entries_of(path, *columns), written, _superseded(standing, found.records))


def _superseded(standing: pa.Table, written: pa.Table) -> int:
    """Bytes of the standing records whose hashes are written anew: all records of a hash are written together."""
    ours, theirs = ([part.column(name).to_numpy() for name in ("hi", "lo")] for part in (standing, written))
    return int(_lengths(standing)[among(*ours, *theirs)].sum())


def _lengths(standing: pa.Table) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Bytes of each record."""
    lengths: np.ndarray[Any, np.dtype[np.int64]] = standing.column("length").to_numpy().astype(np.int64)
    return lengths


def hash_slices(count: int) -> list[tuple[int, int]]:
    """The space of ``hi`` in ``count`` equal parts: first, and the end that is not included."""
    return [(number * _HASHES // count, (number + 1) * _HASHES // count) for number in range(count)]


def _buffers(column: pa.ChunkedArray) -> Iterator[memoryview]:
    """The bytes of a text column, as they lie in Arrow's buffers: records with known lengths, without a loop per row."""
    import pyarrow as pa

    for chunk in column.chunks:
        if len(chunk):
            offsets_type = np.int64 if pa.types.is_large_string(chunk.type) else np.int32
            _, offsets, content = chunk.buffers()
            bounds = np.frombuffer(offsets, offsets_type)[chunk.offset : chunk.offset + len(chunk) + 1]
            yield memoryview(content)[int(bounds[0]) : int(bounds[-1])]


def _without_records(found: Slice) -> Slice:
    return replace(found, records=found.records.slice(0, 0))


def sources_of(store: ObjectStore, state: State, todo: Sequence[Figures], scratch: Path) -> Sources:
    new = {figures.window: figures.folder for figures in todo}
    committed = {window: held.folder for window, held in state.windows.items()}
    return Sources(
        artifacts=reduced.WindowFiles(store, scratch, new, reduced.ARTIFACTS),
        artifacts_old=reduced.WindowFiles(store, scratch, committed, reduced.ARTIFACTS),
        events_new=reduced.WindowFiles(store, scratch, {**committed, **new}, reduced.EVENTS),
        events_old=reduced.WindowFiles(store, scratch, committed, reduced.EVENTS),
    )
