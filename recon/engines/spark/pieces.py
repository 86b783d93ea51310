"""Spark's tasks for a large window: a file → typed events; a slice → sorted pieces; pieces → the window's files.

Between tasks hashes are signed, since Spark has no unsigned numbers: the unsigned number minus 2⁶³, which keeps their order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from recon.config import Config, model
from recon.config.model import Measure
from recon.engines.duckdb import reduce
from recon.engines.duckdb import window as one_window
from recon.engines.duckdb.session import connect
from recon.engines.spark.tasks import on_executor
from recon.errors import ReconError, WrongInput
from recon.intake.files import FileRows, SourceFile, load_events
from recon.intake.manifests import Manifest
from recon.model.totals import Totals, total_of
from recon.state import reduced
from recon.state.reduced import Figures
from recon.storage import layout, parquet
from recon.storage.port import ObjectStore
from recon.storage.scratch import local_copy, scratch_folder
from recon.vocabulary.duckdb import literal

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb
    import pyarrow as pa

SHIFT = 1 << 63
_PIECE_EVENTS = 1 << 24
"""Makes row groups as long as they can be: pieces are read whole."""
EVENTS, ARTIFACTS, DUPLICATES = "events", "artifacts", "duplicates"
_EVENT = {"hi": "UBIGINT", "key": "VARCHAR", "id": "VARCHAR", "time": "TIMESTAMPTZ", "file": "INTEGER", "line": "BIGINT"}
_REJECT = {"file": "INTEGER", "line": "BIGINT", "reason": "VARCHAR", "raw": "VARCHAR"}
_DUPLICATE = {"kind": "VARCHAR", "file": "INTEGER", "line": "BIGINT", "key": "VARCHAR", "id": "VARCHAR", "time": "TIMESTAMPTZ"}
Pieces = dict[str, list[str]]
"""What pieces hold → their paths, in order of hash."""


@dataclass(frozen=True)
class Read:
    """The result of reading one file of a window: its events and rejects as Parquet pieces."""

    rows: FileRows
    totals: Totals
    events: str
    rejects: str


def read_file(store: ObjectStore, config: Config, item: tuple[str, int, Manifest, int]) -> Read:
    """Reads file ``number`` of a window, the only one in its manifest here, by the intake into a piece of events for Spark: w, file, line,
    key, hi, lo, id, idh, time, c_<name>."""
    writer, window, manifest, number = item
    (file,) = manifest.files
    place, task = f"window {manifest.window}: ", layout.new_attempt()
    with scratch_folder(store) as scratch, connect(store, config, scratch, place) as connection:
        try:
            source = SourceFile(file.name, one_window.local_file(store, file, scratch), bool(file.reason))
            (rows,) = load_events(connection, [source], one_window.event_spec(config), "landed")
        except WrongInput as error:
            raise WrongInput(f"{place}{error}") from None
        one_window.refuse_if_configured(connection, config, manifest, [file])
        one_window.tie_with_declared(connection, config, manifest, file, 0, rows)
        totals = reduce.totals_of(connection, config, "(FROM landed UNION ALL BY NAME FROM landed_rejects)")
        hashes = ", ".join(f"{_signed(name)} AS {name}" for name in ("hi", "lo", "idh"))
        events = f"SELECT {window} AS w, * REPLACE ({number} AS file, {hashes}) FROM landed"
        rejects = f"SELECT * REPLACE ({number} AS file) FROM landed_rejects"
        paths = [layout.piece(writer, name, number, task, "parquet") for name in (f"{window}-read", f"{window}-rejects")]
        for path, query in zip(paths, (events, rejects), strict=True):
            local = scratch / path.rpartition("/")[2]
            connection.execute(f"COPY ({query}) TO {literal(str(local))} (FORMAT parquet, COMPRESSION snappy)")
            store.copy_in(path, local)
    return Read(rows, totals, *paths)


def write_pieces(config: Config, writer: str, kind: str, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Writes one partition, a slice of a window, as a sorted Parquet piece. Returns one row: w, part, path, error."""
    import pyarrow as pa

    batches = iter(batches)
    first = next((batch for batch in batches if batch.num_rows), None)
    if first is None:
        return
    window, part = first.column("w")[0].as_py(), first.column("part")[0].as_py()
    store, own = on_executor(config)
    path, error = layout.piece(writer, f"{window}-{kind}", part, layout.new_attempt(), "parquet"), None
    try:
        with scratch_folder(store) as scratch, connect(store, own, scratch, "") as connection:
            connection.register("arriving", pa.RecordBatchReader.from_batches(first.schema, _chained(first, batches)))
            local = scratch / "piece.parquet"
            _WRITE[kind](connection, own, local)
            store.copy_in(path, local)
    except ReconError as failed:
        error = f"{type(failed).__name__}: {failed}"
    yield pa.record_batch([[window], [part], [path], [error]], schema=ANSWER())


def ANSWER() -> pa.Schema:  # noqa: N802 - a constant, but for pyarrow being loaded where it is needed only
    """The columns of an answer of ``write_pieces``."""
    import pyarrow as pa

    return pa.schema([("w", pa.int32()), ("part", pa.int32()), ("path", pa.string()), ("error", pa.string())])


def _chained(first: pa.RecordBatch, others: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield first
    yield from others


def _signed(name: str) -> str:
    return f"CAST({name}::HUGEINT - {SHIFT} AS BIGINT)"


def _unsigned(name: str) -> str:
    return f"CAST({name}::HUGEINT + {SHIFT} AS UBIGINT)"


def _write_events(connection: duckdb.DuckDBPyConnection, config: Config, local: Path) -> None:
    hashes = ", ".join(f"{_unsigned(name)} AS {name}" for name in ("hi", "lo"))
    connection.execute(f"CREATE OR REPLACE TEMP VIEW events AS SELECT * REPLACE ({hashes}) FROM arriving")
    reduce.write_events(connection, config, local, _PIECE_EVENTS)


def _write_artifacts(connection: duckdb.DuckDBPyConnection, config: Config, local: Path) -> None:
    named = ((reduce.measure(item.name), _measure_type(item)) for item in config.measures)
    measures = "".join(f", CAST({name} AS {kind}) AS {name}" for name, kind in named)
    ids = f"list_transform(ids, lambda x: {_unsigned('x')})"
    currencies = ", u" if config.events.currency else ""
    query = f"SELECT {_unsigned('hi')} AS hi, {_unsigned('lo')} AS lo, key, n{currencies}, {ids} AS ids{measures} FROM arriving"
    reduce.write_artifacts(connection, local, reduce.logical(connection, config, query), _PIECE_EVENTS)


def _write_duplicates(connection: duckdb.DuckDBPyConnection, config: Config, local: Path) -> None:
    """Writes the duplicates within the window, with the columns of the rows that are set aside."""
    columns = "".join(f", {reduce.column(config, name)}" for name in model.event_columns(config))
    connection.execute(f"""
        COPY (SELECT CASE WHEN conflicting THEN 'conflicting' ELSE 'duplicate' END AS kind, file, line, key, id, time{columns}
              FROM arriving)
        TO {literal(str(local))} (FORMAT parquet, COMPRESSION snappy)""")


_WRITE = {EVENTS: _write_events, ARTIFACTS: _write_artifacts, DUPLICATES: _write_duplicates}


def join_pieces(store: ObjectStore, config: Config, item: tuple[Manifest, Sequence[Read], Pieces]) -> Figures:
    """Writes the files of a window from its pieces, which are in order of hash, into a new folder; then ties the figures with the rows that
    were read, and puts them, which completes the folder."""
    manifest, read, pieces = item
    window = config.grid.parse(manifest.window)
    folder = layout.stateless(window, manifest.revision, config.rules_version, layout.new_attempt())
    with scratch_folder(store) as scratch, connect(store, config, scratch, f"window {manifest.window}: ") as connection:
        connection.execute("SET preserve_insertion_order = true")
        local = {name: [local_copy(store, path, scratch) for path in paths] for name, paths in pieces.items()}
        rejects = [local_copy(store, one.rejects, scratch) for one in read]
        files = {name: scratch / name for name in (reduced.EVENTS, reduced.ARTIFACTS, reduced.SET_ASIDE)}
        written = one_window.ReducedFiles(folder, files)
        events = sum(one.rows.rows for one in read)
        _join(connection, local.get(EVENTS, []), files[reduced.EVENTS], _nothing(config, _EVENT), events)
        measures = {reduce.measure(item.name): _measure_type(item) for item in config.measures}
        _join(connection, local.get(ARTIFACTS, []), files[reduced.ARTIFACTS], _nothing(config, _artifact(config), measures), events)
        for view, paths, columns in (("landed_rejects", rejects, _REJECT), ("set_aside", local.get(DUPLICATES, []), _DUPLICATE)):
            connection.execute(f"CREATE OR REPLACE TEMP VIEW {view} AS {_all(paths, _nothing(config, columns))}")
        reduce.write_set_aside(connection, config, files[reduced.SET_ASIDE], "(FROM set_aside)")
        money, rows = total_of(one.totals for one in read).money, [one.rows for one in read]
        figures = one_window.figures_of(connection, config, manifest, rows, money, written)
        written.copy_into(store)
    return figures if one_window.finished(store, figures) else join_pieces(store, config, item)


def _join(connection: duckdb.DuckDBPyConnection, pieces: Sequence[Path], file: Path, nothing: str, events: int) -> None:
    connection.execute(f"COPY ({_all(pieces, nothing)}) TO {literal(str(file))} {reduce.write_options(events)}")


def _all(pieces: Sequence[Path], nothing: str) -> str:
    """SELECT of all rows of the pieces, concatenated; ``nothing`` where there are no pieces."""
    return f"SELECT * FROM {parquet.scan(pieces)}" if pieces else nothing


def _nothing(config: Config, own: dict[str, str], further: dict[str, str] | None = None) -> str:
    """SELECT of no rows: columns ``own`` by type, then ``further``, by default the columns of events."""
    if further is None:
        further = {reduce.column(config, name): kind.duckdb for name, kind in model.event_columns(config).items()}
    return f"SELECT {', '.join(f'NULL::{kind} AS {name}' for name, kind in {**own, **further}.items())} WHERE false"


def _artifact(config: Config) -> dict[str, str]:
    """The columns of a reduced artifact without its measures."""
    currencies = {"u": "VARCHAR[]"} if config.events.currency else {}
    return {"hi": "UBIGINT", "lo": "UBIGINT", "key": "VARCHAR", "n": "BIGINT", **currencies, "ids": "UBIGINT[]"}


def _measure_type(item: Measure) -> str:
    """SQL type of a measure in a reduced file."""
    kind = item.type.duckdb
    return f"STRUCT(t VARCHAR, f INTEGER, l BIGINT, v {kind})" if item.kind in ("first", "last") else kind
