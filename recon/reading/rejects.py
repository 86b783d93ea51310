"""Lists rejected rows, each with its file, line and reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from recon.config import Config
from recon.model.windows import name_of
from recon.state import reduced
from recon.state.timeline import Mark, State
from recon.storage import parquet
from recon.storage.port import NotFound, ObjectStore

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("window", "file", "line", "reason", "raw")


def schema() -> pa.Schema:
    """The columns with their types."""
    import pyarrow as pa

    return pa.schema([(name, pa.int64() if name == "line" else pa.string()) for name in COLUMNS])


def rejects(store: ObjectStore, config: Config, state: State, window: datetime | None = None) -> pa.Table:
    """window, file, line, reason, raw of every rejected row of all committed windows (or of one window), in that order. Rows that a source
    rejected before its file landed are among them, under the name of the received file."""
    import pyarrow as pa

    chosen = sorted(state.windows) if window is None else [name_of(window)]
    marked = [(name, state.windows[name]) for name in chosen if name in state.windows]
    found = [table for name, at in marked if at.has(Mark.REJECTED) for table in rejected_in(store, name, at.folder, COLUMNS)]
    order = [("window", "ascending"), ("file", "ascending"), ("line", "ascending")]
    return pa.concat_tables([schema().empty_table(), *found]).sort_by(order)


def rejected_in(store: ObjectStore, window: str, folder: str, columns: Sequence[str]) -> list[pa.Table]:
    """The rejected rows of a window whose reduced files are in ``folder``, with some of COLUMNS, of which alone the bytes are read: first
    those that a source rejected, then those of the landed files."""
    figures = reduced.read(store, folder)
    found = [_by_source(store, window, file["origin"], columns) for file in figures.files if file.get("origin", {}).get("rejects")]
    if figures.rejected.rows:
        found.append(_of_landed(store, window, folder, [file["name"] for file in figures.files], columns))
    return found


def _of_landed(store: ObjectStore, window: str, folder: str, files: Sequence[str], columns: Sequence[str]) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        opened = parquet.open_ranges(store, folder + reduced.SET_ASIDE)
    except NotFound:
        raise reduced.gone(folder, reduced.SET_ASIDE) from None
    table = opened.read(["kind", *(name for name in columns if name != "window")])
    table = table.filter(pc.equal(table.column("kind"), "rejected"))
    return _laid_out(table, columns, window=window, file=lambda: pa.array(files, pa.string()).take(table.column("file").combine_chunks()))


def _by_source(store: ObjectStore, window: str, origin: Mapping[str, Any], columns: Sequence[str]) -> pa.Table:
    """The rows that a source rejected."""
    import pyarrow as pa

    # At least one column, so that the number of rows is known.
    stored = [name for name in columns if name not in ("window", "file")] or ["line"]
    table = parquet.open_ranges(store, origin["rejects"]).read(stored)
    return _laid_out(table, columns, window=window, file=lambda: pa.repeat(origin["file"], table.num_rows))


def _laid_out(table: pa.Table, columns: Sequence[str], window: str, file: Any) -> pa.Table:
    """The ``columns`` of a table, with the name of the window and those of the files."""
    import pyarrow as pa

    made = {"window": lambda: pa.repeat(window, table.num_rows), "file": file}
    arrays = [made[name]() if name in made else table.column(name) for name in columns]
    return pa.table(arrays, schema=pa.schema([schema().field(name) for name in columns]))
