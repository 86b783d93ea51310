"""State as of an earlier commit whose part-files are already deleted, recomputed from the stateless files.

It runs the merge itself, starting from an empty state, so that the result has the same meaning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.config import Config
from recon.config.form import form_of
from recon.engines.duckdb.session import connect
from recon.engines.port import Sources
from recon.errors import Damaged, WrongInput
from recon.model.record import full
from recon.state import reduced
from recon.state.committed import committed_figures
from recon.state.timeline import State
from recon.storage.hashing import hash_of, salt_of
from recon.storage.port import ObjectStore
from recon.storage.scratch import scratch_folder

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

SLICE_ROWS = 400_000
"""Target number of contributions in a slice of the keys."""
WINDOWS_AT_ONCE = 48
_HASHES = 1 << 64


def record_then(store: ObjectStore, config: Config, state: State, key: str, windows: Sequence[str] | None = None) -> dict[str, Any] | None:
    """The record of one key at ``state``, None if there was none. ``config``: the rules of that state. ``windows``: the windows that may
    have contributed to it; all if None. Raises WrongInput if a revision is no longer kept."""
    hi, _ = hash_of(key, salt_of(store))
    chosen = sorted(state.windows if windows is None else state.windows.keys() & set(windows))
    with scratch_folder(store) as scratch, connect(store, config, scratch) as connection:
        records = _folded(connection, config, files_then(store, state, scratch), chosen, (hi, hi + 1))
    for data in records.column("record").to_pylist():
        record = full(form_of(config), data)
        if record["key"] == key:
            return record
    return None


def records_then(store: ObjectStore, config: Config, state: State) -> Iterator[pa.Table]:
    """Every record of ``state`` once, in batches: hi, lo, record. Costs as much as processing the windows up to then did."""
    rows = sum(int(figures["keys"]) for figures in committed_figures(store, state, state.windows).values())
    slices = max(1, -(-rows // SLICE_ROWS))
    windows = sorted(state.windows)
    with scratch_folder(store) as scratch, connect(store, config, scratch) as connection:
        for number in range(slices):
            bounds = number * _HASHES // slices, (number + 1) * _HASHES // slices
            yield _folded(connection, config, files_then(store, state, scratch), windows, bounds)


def files_then(store: ObjectStore, state: State, scratch: Path) -> tuple[Mapping[str, Path], Mapping[str, Path]]:
    """Window → its stateless artifacts, and window → its events, in the revisions of ``state``. A look-up raises WrongInput if the file is
    no longer kept."""
    folders = {name: window.folder for name, window in state.windows.items()}
    artifacts, events = (_FilesThen(store, scratch, folders, name, state.commit) for name in (reduced.ARTIFACTS, reduced.EVENTS))
    return artifacts, events


def _folded(
    connection: duckdb.DuckDBPyConnection,
    config: Config,
    files: tuple[Mapping[str, Path], Mapping[str, Path]],
    windows: Sequence[str],
    bounds: tuple[int, int],
) -> pa.Table:
    """hi, lo, record of the keys in ``bounds``, by merging a few windows at a time. ``files``: as of ``files_then``."""
    import pyarrow as pa

    from recon.engines.duckdb.merge import merge_slice

    records = pa.table({"hi": pa.array([], pa.uint64()), "lo": pa.array([], pa.uint64()), "record": pa.array([], pa.large_binary())})
    artifacts, events = files
    for start in range(0, len(windows), WINDOWS_AT_ONCE):
        block = {window: artifacts[window] for window in windows[start : start + WINDOWS_AT_ONCE]}
        written = merge_slice(connection, config, Sources(block, artifacts, events, events), records, bounds).records
        records = _replaced(records, written)
    return records


def _replaced(records: pa.Table, written: pa.Table) -> pa.Table:
    """``records`` with those in ``written`` added, or put in the place of the records of the same keys; in order of hash."""
    import pyarrow as pa

    if not written.num_rows:
        return records
    new = written.select(records.schema.names).cast(records.schema)
    kept = records.filter(pa.array(~np.isin(_pairs(records), _pairs(new))))
    return pa.concat_tables([kept, new]).sort_by([("hi", "ascending"), ("lo", "ascending")])


def _pairs(table: pa.Table) -> np.ndarray[Any, Any]:
    pairs = np.empty(table.num_rows, dtype=[("hi", "<u8"), ("lo", "<u8")])
    pairs["hi"], pairs["lo"] = table.column("hi").to_numpy(), table.column("lo").to_numpy()
    return pairs


@dataclass(frozen=True)
class _FilesThen(reduced.WindowFiles):
    """The files of an earlier commit, of which some may have been swept."""

    commit: int

    def __getitem__(self, window: str) -> Path:
        try:
            return super().__getitem__(window)
        except Damaged:
            raise WrongInput(
                f"{self.folders[window]}{self.name}: window {window}: its data as of commit {self.commit} are not kept any more; "
                "see retention.history"
            ) from None
