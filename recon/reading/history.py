"""History: what was known at an earlier commit, after its part-files were given back: folded again from the stateless files.

The fold is the merge itself, window by window into nothing, so that it cannot mean anything else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.config import Config
from recon.engines.duckdb.merge import merge_slice
from recon.engines.duckdb.session import connect
from recon.engines.port import Sources
from recon.errors import Damaged, WrongInput
from recon.model.record import full
from recon.state import reduced
from recon.state.timeline import State, committed_figures
from recon.storage.hashing import hash_of, salt_of
from recon.storage.port import ObjectStore
from recon.storage.scratch import scratch_folder

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

SLICE_ROWS = 400_000
"""Contributions that one slice of the keys holds about."""
WINDOWS_AT_ONCE = 48
_HASHES = 1 << 64


def record_then(store: ObjectStore, config: Config, state: State, key: str, windows: Sequence[str] | None = None) -> dict[str, Any] | None:
    """The record of one key at ``state``, None if there was none. ``config``: by the rules of then. ``windows``: the only ones that can
    have contributed to it; without them all are looked at. Raises WrongInput where a revision is not kept any more."""
    hi, _ = hash_of(key, salt_of(store))
    chosen = sorted(state.windows if windows is None else state.windows.keys() & set(windows))
    with scratch_folder(store) as scratch, connect(store, config, scratch) as connection:
        records = _folded(store, config, connection, state, chosen, scratch, (hi, hi + 1))
    for line in records.column("record").to_pylist():
        record = full(line)
        if record["key"] == key:
            return record
    return None


def records_then(store: ObjectStore, config: Config, state: State) -> Iterator[pa.Table]:
    """Every record of ``state`` once, in batches: hi, lo, record. Costs what the windows up to then did."""
    rows = sum(int(figures["keys"]) for figures in committed_figures(store, state, state.windows).values())
    slices = max(1, -(-rows // SLICE_ROWS))
    windows = sorted(state.windows)
    with scratch_folder(store) as scratch, connect(store, config, scratch) as connection:
        for number in range(slices):
            bounds = number * _HASHES // slices, (number + 1) * _HASHES // slices
            yield _folded(store, config, connection, state, windows, scratch, bounds)


def files_then(store: ObjectStore, state: State, scratch: Path) -> tuple[Mapping[str, Path], Mapping[str, Path]]:
    """The stateless artifacts and events of each window, as ``state`` had them. Looking one up raises WrongInput where it is not kept any
    more."""
    folders = {window: held.folder for window, held in state.windows.items()}
    artifacts, events = (_FilesThen(store, scratch, folders, name, state.commit) for name in (reduced.ARTIFACTS, reduced.EVENTS))
    return artifacts, events


def _folded(
    store: ObjectStore,
    config: Config,
    connection: duckdb.DuckDBPyConnection,
    state: State,
    windows: Sequence[str],
    scratch: Path,
    bounds: tuple[int, int],
) -> pa.Table:
    """hi, lo, record of the keys in ``bounds``, by merging the windows a few at a time."""
    import pyarrow as pa

    standing = pa.table({"hi": pa.array([], pa.uint64()), "lo": pa.array([], pa.uint64()), "record": pa.array([], pa.large_string())})
    artifacts, events = files_then(store, state, scratch)
    for start in range(0, len(windows), WINDOWS_AT_ONCE):
        block = {window: artifacts[window] for window in windows[start : start + WINDOWS_AT_ONCE]}
        found = merge_slice(connection, config, Sources(block, artifacts, events, events), standing, bounds).records
        standing = _replaced(standing, found)
    return standing


def _replaced(standing: pa.Table, found: pa.Table) -> pa.Table:
    import pyarrow as pa

    if not found.num_rows:
        return standing
    new = pa.table({name: found.column(name).cast(kind) for name, kind in zip(standing.schema.names, standing.schema.types, strict=True)})
    kept = standing.filter(pa.array(~np.isin(_pairs(standing), _pairs(new))))
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
