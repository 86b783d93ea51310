"""Loads landed files into two tables of a DuckDB connection: accepted rows, and rejected rows with their reasons."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from recon.errors import WrongInput
from recon.intake.files.checks import Checks, checks
from recon.intake.files.delimited import record_batches
from recon.intake.files.inspect import require_columns
from recon.intake.files.jsonlines import line_batches, members_sql
from recon.intake.files.parquet import direct_scan, row_batches
from recon.intake.files.raw import raw_rows
from recon.intake.files.spec import EventSpec, FileRows, SourceFile
from recon.storage.hashing import halves
from recon.vocabulary.duckdb import quoted

if TYPE_CHECKING:
    import duckdb


def load_events(connection: duckdb.DuckDBPyConnection, files: Sequence[SourceFile], spec: EventSpec, table: str) -> list[FileRows]:
    """Fills the temporary tables ``table`` and ``<table>_rejects``, which it creates; returns the counts per file.

    ``table``: file INTEGER (position in ``files``), line BIGINT, key VARCHAR, hi and lo UBIGINT (hash of the key), id
    VARCHAR, idh UBIGINT (hash of the id), time TIMESTAMPTZ, and c_<name> per column. ``<table>_rejects``: file, line,
    reason, raw VARCHAR (at most 64 KiB), and the same c_<name>, null where unreadable. The rows have no order. ``connection``
    has the hash functions of the store (recon.storage.hashing.define). Raises WrongInput for a file that can't be read.
    """
    sql = checks(spec)
    accepted, rejects = quoted(table), quoted(f"{table}_rejects")
    columns = [quoted(f"c_{name}") for name in spec.columns]
    types = "".join(f", {column} {kind.duckdb}" for column, kind in zip(columns, spec.columns.values(), strict=True))
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {accepted} (file INTEGER, line BIGINT, key VARCHAR, hi UBIGINT, lo UBIGINT, "
        f"id VARCHAR, idh UBIGINT, time TIMESTAMPTZ{types}, reason VARCHAR, span INTEGER)"
    )
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {rejects} (file INTEGER, line BIGINT, reason VARCHAR, raw VARCHAR{types}, span INTEGER)"
    )
    read = [_load_file(connection, number, file, spec, sql, accepted) for number, file in enumerate(files)]

    typed = "".join(f", {column}" for column in columns)
    connection.execute(f"INSERT INTO {rejects} SELECT file, line, reason, NULL{typed}, span FROM {accepted} WHERE reason IS NOT NULL")
    rejected = dict(connection.execute(f"SELECT file, count(*) FROM {rejects} GROUP BY file").fetchall())
    if rejected:
        connection.execute(f"DELETE FROM {accepted} WHERE reason IS NOT NULL")
    for number in rejected:
        _fill_raw(connection, number, files[number], rejects)
    for name in (accepted, rejects):
        connection.execute(f"ALTER TABLE {name} DROP COLUMN span")
    connection.execute(f"ALTER TABLE {accepted} DROP COLUMN reason")
    kept = dict(connection.execute(f"SELECT file, count(*) FROM {accepted} GROUP BY file").fetchall())
    return [
        FileRows(file.name, rows, kept.get(number, 0), rejected.get(number, 0))
        for number, (file, rows) in enumerate(zip(files, read, strict=True))
    ]


class _Counted:
    """Counts the rows of batches for DuckDB, and keeps an error, which DuckDB would turn into a text."""

    def __init__(self, batches: Iterator[Any], file: str, most: int) -> None:
        self._batches, self._file, self._most = batches, file, most
        self.rows = 0
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[Any]:
        try:
            for batch in self._batches:
                self.rows += batch.num_rows
                if self.rows > self._most:
                    raise WrongInput(
                        f"{self._file}: it has more than {self._most:,} rows; split it, or raise limits.rows in the configuration"
                    )
                yield batch
        except Exception as error:
            self.error = error
            raise


def _load_file(connection: duckdb.DuckDBPyConnection, number: int, file: SourceFile, spec: EventSpec, sql: Checks, table: str) -> int:
    """Inserts all rows of one file; returns their number."""
    import duckdb
    import pyarrow as pa

    require_columns(file, spec)
    kind = file.format.kind
    if kind == "parquet" and (direct := direct_scan(file, spec.names, spec.texts)) is not None:
        # After a failure (bytes that are not UTF-8, a damaged page) the file is read again below, which reports it row by row.
        with contextlib.suppress(duckdb.Error):
            connection.execute(f"INSERT INTO {table} {_select(number, direct[0], spec, sql)}")
            return direct[1]
    texts = ["text"] if kind == "json" else [f"t{position}" for position in range(len(spec.names))]
    schema = pa.schema([("line", pa.int64()), ("span", pa.int32()), ("problem", pa.string()), *((text, pa.string()) for text in texts)])
    counted = _Counted(_batches_of(file, kind, spec), file.name, spec.limits.rows)
    view = "recon_intake_batches"
    connection.register(view, pa.RecordBatchReader.from_batches(schema, counted))
    source = members_sql(view, spec.names) if kind == "json" else view
    try:
        connection.execute(f"INSERT INTO {table} {_select(number, source, spec, sql)}")
    except duckdb.Error:
        if counted.error is not None:
            raise counted.error from None
        raise
    finally:
        connection.unregister(view)
    return counted.rows


def _batches_of(file: SourceFile, kind: str, spec: EventSpec) -> Iterator[Any]:
    if kind == "json":
        return line_batches(file, spec.names, spec.limits)
    return row_batches(file, spec.names, spec.texts) if kind == "parquet" else record_batches(file, spec.names, spec.limits)


def _select(number: int, source: str, spec: EventSpec, sql: Checks) -> str:
    """SQL of the table's columns, in nested selects, so that nothing is computed twice."""
    typed = "".join(f", v{position}" for position in range(len(spec.columns)))
    steps = source
    for step in (("line", "span", "problem", *sql.attempts), ("*", *sql.plain), ("*", *sql.values)):
        steps = f"(SELECT {', '.join(step)} FROM {steps})"
    identity = f"{sql.key} AS key, key_hash({sql.key}) AS hash, {sql.id} AS id, {sql.time} AS time"
    checked = f"(SELECT line, span, {identity}{typed}, {sql.reason} AS reason FROM {steps})"
    return f"SELECT {number}, line, key, {', '.join(halves('hash'))}, id, id_hash(id), time{typed}, reason, span FROM {checked}"


def _fill_raw(connection: duckdb.DuckDBPyConnection, number: int, file: SourceFile, rejects: str) -> None:
    """Reads the file again for the text of its rejected rows."""
    wanted = connection.execute(f"SELECT line, span FROM {rejects} WHERE file = {number} ORDER BY line").fetchnumpy()
    view = "recon_intake_raw"
    for batch in raw_rows(file, wanted["line"], wanted["span"]):
        connection.register(view, batch)
        connection.execute(f"UPDATE {rejects} AS r SET raw = b.raw FROM {view} AS b WHERE r.file = {number} AND r.line = b.line")
        connection.unregister(view)
    missing = connection.execute(f"SELECT min(line) FROM {rejects} WHERE file = {number} AND raw IS NULL").fetchone()
    if missing and missing[0] is not None:
        raise WrongInput(f"{file.name}: line {missing[0]} is gone on the second reading; the file has changed, land it again")
