"""Pre-fetch: the keys of a range of windows → their standing artifacts, read once and laid into one file for the merge.

Belongs here: which keys a range touches, and reading their records. Does not belong here: replacing contributions (recon.merge).

The keys are those of the new *and* of the committed revision of each window. The file names the commit it was read at; the merge
reads anew what later commits touched. Bytes read follow the keys of the batch, never the size of the state.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recon import layout, stateless
from recon.engines.port import engine_of
from recon.errors import Damaged
from recon.runs import find_many, open_run, read_records
from recon.scratch import scratch_folder
from recon.stateless import Figures
from recon.store import NotFound, ObjectStore
from recon.timeline import State

if TYPE_CHECKING:
    import pyarrow as pa

    from recon.config import Config

_META = b"recon"
_BATCH_ROWS = 32_768


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


def prefetch(store: ObjectStore, state: State, range_figures: Sequence[Figures], config: Config | None = None) -> Prefetched:
    """Reads the standing artifacts of every key that the range touches, as of ``state``, into one file, by the engine of ``config``.

    The file is Arrow IPC: hi, lo (uint64) and record (JSON line), in order of (hi, lo)."""
    if config is not None and config.engine.kind != "duckdb":
        return engine_of(config).prefetch(store, config, state, range_figures)
    hi, lo = touched_keys(store, state, range_figures)
    table = standing_records(store, [run.path for run in state.runs], hi, lo)
    return write_prefetched(store, [table], prefetched_meta(state, range_figures, len(hi)))


def prefetched_meta(state: State, range_figures: Sequence[Figures], keys: int) -> dict[str, Any]:
    """What a pre-fetched file says of itself."""
    windows = [figures.window for figures in range_figures]
    return {
        "commit": state.commit,
        "revisions": {figures.window: figures.revision for figures in range_figures},
        "committed": {name: state.windows[name].folder for name in windows if name in state.windows},
        "keys": keys,
    }


def write_prefetched(store: ObjectStore, tables: Iterable[pa.Table], meta: dict[str, Any]) -> Prefetched:
    """Writes tables that follow each other in order of hash as one pre-fetched file; only one of them is held at a time."""
    path, counted = layout.prefetched(layout.new_attempt()), _Counted(tables)
    written = store.put_new(path, ipc(counted, {_META: json.dumps(meta).encode()}))
    return Prefetched(path, found=counted.rows, bytes=written, **meta)


def read_prefetched(store: ObjectStore, prefetched: Prefetched, bounds: tuple[int, int] | None = None) -> pa.Table:
    """The table of a pre-fetched file, memory-mapped where the store is a folder; with ``bounds`` only bounds[0] ≤ hi < bounds[1]. Raises
    Damaged where it cannot be read."""
    return read_arrow(store, prefetched.path, bounds)


def read_arrow(store: ObjectStore, path: str, bounds: tuple[int, int] | None = None) -> pa.Table:
    """The same, of a file that ``ipc`` wrote."""
    import pyarrow as pa

    local = store.local(path)
    try:
        source = pa.memory_map(str(local)) if local is not None else pa.BufferReader(store.get(path))
        reader = pa.ipc.open_file(source)
        return reader.read_all() if bounds is None else _part_of(reader, *bounds)
    except (OSError, NotFound, pa.ArrowInvalid) as error:
        raise Damaged(f"{path}: the pre-fetched file is damaged or gone ({error}); run again") from None


def _part_of(reader: pa.RecordBatchFileReader, first: int, end: int) -> pa.Table:
    """The rows with first ≤ hi < end. Batches follow each other in order of hi, so those before and behind are not read."""
    import pyarrow as pa

    parts = []
    for number in range(reader.num_record_batches):
        batch = reader.get_batch(number)
        hi = batch.column("hi").to_numpy()
        if not len(hi) or int(hi[-1]) < first:
            continue
        if int(hi[0]) >= end:
            break
        low = int(np.searchsorted(hi, np.uint64(first)))
        high = len(hi) if int(hi[-1]) < end else int(np.searchsorted(hi, np.uint64(end)))
        parts.append(batch.slice(low, high - low))
    return pa.Table.from_batches(parts, schema=reader.schema)


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
    if len(columns) == 1:  # sorted and distinct as it was written
        return hi, lo
    order = np.lexsort((lo, hi))
    hi, lo = hi[order], lo[order]
    fresh = np.ones(len(hi), bool)
    fresh[1:] = (hi[1:] != hi[:-1]) | (lo[1:] != lo[:-1])
    return hi[fresh], lo[fresh]


def standing_records(store: ObjectStore, run_paths: Sequence[str], hi: Any, lo: Any) -> pa.Table:
    """hi, lo, record of every entry that the runs (newest first) hold for these hashes, in the order of the hashes.

    The records are views (string_view): from a folder, of the mapped part-files, so that nothing is copied yet."""
    import pyarrow as pa

    found = find_many([open_run(store, path) for path in run_paths], hi, lo)
    return pa.table({"hi": pa.array(hi[found.query]), "lo": pa.array(lo[found.query]), "record": read_records(store, found)})


def _hashes(store: ObjectStore, folder: str, bounds: tuple[int, int] | None = None) -> tuple[Any, Any]:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    part = None
    if bounds is not None:
        first, last = (pa.scalar(bound, pa.uint64()) for bound in (bounds[0], bounds[1] - 1))
        part = (pc.field("hi") >= first) & (pc.field("hi") <= last)
    with scratch_folder(store) as scratch:
        table = pq.read_table(local_copy(store, folder + stateless.ARTIFACTS, scratch), columns=["hi", "lo"], filters=part)
    return table.column("hi").to_numpy(), table.column("lo").to_numpy()


def local_copy(store: ObjectStore, path: str, scratch: Path) -> Path:
    """An object as a local file: itself in a folder store, else a copy in ``scratch``."""
    local = store.local(path)
    if local is None:
        local = scratch / path.replace("/", "_")
        local.write_bytes(store.get(path))
    if not local.exists():
        raise Damaged(f"{path}: gone from the store; run 'recon replay' for its window")
    return local


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


class _Counted:
    """Tables on their way into a file, and how many rows they had."""

    def __init__(self, tables: Iterable[pa.Table]) -> None:
        self._tables = tables
        self.rows = 0

    def __iter__(self) -> Iterator[pa.Table]:
        for table in self._tables:
            self.rows += table.num_rows
            yield table


def arrow_schema() -> pa.Schema:
    """The columns of standing records as they lie in a file."""
    import pyarrow as pa

    return pa.schema([("hi", pa.uint64()), ("lo", pa.uint64()), ("record", pa.large_string())])


def ipc(tables: Iterable[pa.Table], metadata: dict[bytes, bytes]) -> Iterator[bytes]:
    """Tables of records that are views, as an Arrow file that holds the records themselves."""
    import pyarrow as pa

    schema = arrow_schema().with_metadata(metadata)
    pieces = _Pieces()
    with pa.ipc.new_file(pieces, schema) as writer:
        for table in tables:
            for batch in table.to_batches(_BATCH_ROWS):
                columns = [batch.column(field.name).cast(field.type) for field in schema]
                writer.write_batch(pa.record_batch(columns, schema=schema))
                yield from pieces.take()
    yield from pieces.take()
