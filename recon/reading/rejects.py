"""Lists rejected rows, each with its file, line and reason."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from recon.config import Config
from recon.model.windows import name_of
from recon.state import reduced
from recon.state.committed import committed_figures
from recon.state.timeline import State
from recon.storage import parquet
from recon.storage.port import ObjectStore
from recon.storage.scratch import local_copy, scratch_folder

if TYPE_CHECKING:
    import pyarrow as pa


def rejects(store: ObjectStore, config: Config, state: State, window: datetime | None = None) -> pa.Table:
    """window, file, line, reason, raw of every rejected row of all committed windows (or of one window), in that order. Rows that a source
    rejected before its file landed are among them, under the name of the received file."""
    import pyarrow as pa

    chosen = sorted(state.windows) if window is None else [name_of(window)]
    schema = pa.schema(
        [
            ("window", pa.string()),
            ("file", pa.string()),
            ("line", pa.int64()),
            ("reason", pa.string()),
            ("raw", pa.string()),
        ]
    )
    tables = [schema.empty_table()]
    for name, committed in committed_figures(store, state, chosen).items():
        if not committed["rejected"]["rows"] and not committed.get("source_rejected"):
            continue
        figures = reduced.read(store, committed["folder"])
        tables += [_by_source(store, name, file["origin"], schema) for file in figures.files if file.get("origin", {}).get("rejects")]
        if not committed["rejected"]["rows"]:
            continue
        with scratch_folder(store) as scratch:
            path = reduced.local_file(store, committed["folder"], reduced.SET_ASIDE, scratch)
            table = parquet.read(path, ["file", "line", "reason", "raw"], [("kind", "=", "rejected")])
        names = pa.array([file["name"] for file in figures.files], pa.string()).take(table.column("file").combine_chunks())
        columns = [
            pa.array([name] * table.num_rows, pa.string()),
            names,
            *(table.column(c) for c in ("line", "reason", "raw")),
        ]
        tables.append(pa.table(columns, schema=schema))
    return pa.concat_tables(tables).sort_by([("window", "ascending"), ("file", "ascending"), ("line", "ascending")])


def _by_source(store: ObjectStore, window: str, origin: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    """The rows that a source rejected."""
    import pyarrow as pa

    with scratch_folder(store) as scratch:
        table = parquet.read(local_copy(store, origin["rejects"], scratch), ["line", "reason", "raw"])
    alike = [pa.array([text] * table.num_rows, pa.string()) for text in (window, origin["file"])]
    return pa.table([*alike, *table.columns], schema=schema)
