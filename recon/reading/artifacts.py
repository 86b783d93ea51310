"""Reads all artifacts at once: as an Arrow table, as a file, as of a window."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.config import Config
from recon.config.form import form_of
from recon.engines.duckdb import carried_forward, contributions
from recon.engines.duckdb.reduce import measure
from recon.engines.duckdb.session import connect
from recon.exports.sheets import Book
from recon.logic.call import after_merge
from recon.model.form import JsonLines
from recon.model.record import full
from recon.model.windows import name_of
from recon.reading.exports import check_format, write_rows
from recon.reading.history import files_then, records_then
from recon.records.columns import words_of
from recon.records.decode import decode
from recon.records.encode import encode
from recon.records.tables import as_table, merged_rows
from recon.state.runs import RecordAddresses, merged_plan, open_runs, read_records
from recon.state.timeline import State
from recon.storage.hashing import hash_of, salt_of
from recon.storage.port import NotFound, ObjectStore
from recon.storage.scratch import scratch_folder
from recon.vocabulary.duckdb import literal, quoted

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

BATCH_RECORDS = 200_000


def live_records(store: ObjectStore, state: State) -> Iterator[pa.Table]:
    """Every live record once, in batches: hi, lo, record. Raises Damaged at the first record that does not match its check."""
    import pyarrow as pa

    runs = open_runs(store, (run.path for run in state.runs))
    with scratch_folder(store) as scratch, open(scratch / "live", "w+b") as file:
        live = merged_plan(runs, file)
        for piece in live.pieces():
            columns = {name: piece.column(name) for name in ("hi", "lo", "file", "offset", "length", "check")}
            for start in range(0, len(piece), BATCH_RECORDS):
                hi, lo, *place = (column[start : start + BATCH_RECORDS] for column in columns.values())
                records = read_records(store, RecordAddresses(live.part_files, np.arange(len(hi)), *place))
                yield pa.table({"hi": pa.array(hi), "lo": pa.array(lo), "record": records})


def artifacts(store: ObjectStore, config: Config, state: State, as_of: datetime | None = None, then: bool = False) -> pa.Table:
    """All artifacts with contributions: key, status, measures, derived, windows, first_window, last_window; in order of key."""
    with table_of(store, config, state, as_of, then) as connection:
        return connection.sql("FROM artifacts ORDER BY key").to_arrow_table()


@contextmanager
def table_of(
    store: ObjectStore,
    config: Config,
    state: State,
    as_of: datetime | None = None,
    then: bool = False,
    records: Iterator[pa.Table] | None = None,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the table ``artifacts``, columns as in the contract. The table spills to disk if it does not fit in memory.

    ``then``: the state is an earlier one, whose part-files may be deleted. ``records``: batches of hi, lo and record; default: all."""
    last = None if as_of is None else name_of(as_of)
    with scratch_folder(store) as scratch, connect(store, config, scratch) as connection:
        files = files_then(store, state, scratch)
        try:
            if records is None:
                records = live_records(store, state) if state.runs else iter(())
            _fill(connection, config, records, last, files)
        except (NotFound, JsonLines):
            if not then:
                raise
            _fill(connection, config, records_then(store, config, state), last, files)
        yield connection


Files = tuple[Mapping[str, Path], Mapping[str, Path]]
"""Window → its stateless artifacts, and window → its events. Blocks that reach beyond a window are recomputed from them."""


def _fill(connection: duckdb.DuckDBPyConnection, config: Config, batches: Iterator[pa.Table], last: str | None, files: Files) -> None:
    """Creates the table ``artifacts``, or replaces it."""
    import pyarrow as pa

    form = form_of(config)
    nothing = pa.table({"hi": pa.array([], pa.uint64()), "record": pa.array([], pa.large_binary())})
    opens = "false" if last is None else f"block.first <= {literal(last)} AND block.last > {literal(last)}"
    for number, batch in enumerate(chain([nothing], batches)):
        words, start, _ = words_of(batch.column("record"))
        connection.register("records", decode(form, words, start).append_column("hi", batch.column("hi")))
        query = _laid_out(config, _folded(connection, config, last, opens, files))
        connection.execute(f"INSERT INTO artifacts {query}" if number else f"CREATE OR REPLACE TEMP TABLE artifacts AS {query}")
        connection.unregister("records")


def fold_record(
    store: ObjectStore, config: Config, state: State, record: Mapping[str, Any], last: str | None, opened: bool
) -> dict[str, Any]:
    """A record of ``state`` as of the window named ``last``: the fold of the contributions up to it. Opens a block that reaches beyond
    ``last``, and with ``opened`` every block."""
    import pyarrow as pa

    opens = "true" if opened else f"block.last > {literal(last or '~')}"
    form = form_of(config)
    with scratch_folder(store) as scratch, connect(store, config, scratch) as connection:
        hi = pa.array([hash_of(record["key"], salt_of(store))[0]], pa.uint64())
        connection.register("records", as_table(form, [record]).append_column("hi", hi))
        query = _folded(connection, config, last, opens, files_then(store, state, scratch))
        listed = "CASE WHEN block IS NULL THEN c ELSE c[2:] END"
        merged = connection.sql(f"SELECT * REPLACE ({listed} AS c) FROM ({query})").to_arrow_table()
        connection.unregister("records")
        words, _, _ = encode(form, merged_rows(form, merged))
        return full(form, words.tobytes())


def _folded(connection: duckdb.DuckDBPyConnection, config: Config, last: str | None, opens: str, files: Files) -> str:
    """SELECT over the view ``records`` (``recon.records.decode``, and hi): key, withdrawn, block, c, m_*, x_*, status, with the
    contributions up to ``last``. If there is a ``block``, the first element of ``c`` is its sum. ``opens``: SQL condition for blocks to
    open."""
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE blocks AS SELECT hi, key, block FROM records WHERE block IS NOT NULL AND ({opens})""")
    parsed = "SELECT key, withdrawn, c, block FROM records"
    if connection.execute("FROM blocks LIMIT 1").fetchall():
        carried_forward.open_blocks(connection, config, *files, last)
        parsed = f"""
            SELECT p.key, withdrawn, CASE WHEN o.key IS NULL THEN p.c ELSE list_concat(o.c, p.c) END AS c,
                   CASE WHEN o.key IS NULL THEN block END AS block
            FROM ({parsed}) p LEFT JOIN opened o ON o.key = p.key"""
    if last is not None:
        upto = f"list_filter(c, lambda x: x.w <= {literal(last)})"
        parsed = f"SELECT key, withdrawn, {upto} AS c, CASE WHEN block.last <= {literal(last)} THEN block END AS block FROM ({parsed})"
    source = f"(SELECT * REPLACE ({contributions.with_block(config, 'block', 'c')} AS c) FROM ({parsed}))"
    query = contributions.folded(config, source, "key, withdrawn, block, c,")
    if not config.logic:
        return query
    connection.execute(f"CREATE OR REPLACE TEMP TABLE judging AS {query}")
    names = ["status", *(contributions.derived(item.name) for item in config.derived)]
    columns = ", ".join(["key", *names[:1], *(measure(item.name) for item in config.measures), *names[1:]])
    table = connection.sql(f"SELECT {columns} FROM judging WHERE len(c) > 0").to_arrow_table()
    connection.register("judged_values", after_merge(config.logic_source, config.logic_place, table))
    return (
        f"SELECT judging.* EXCLUDE ({', '.join(names)}), {', '.join('judged.' + name for name in names)} "
        "FROM judging LEFT JOIN judged_values judged USING (key)"
    )


def _laid_out(config: Config, folded: str) -> str:
    columns = [f"{measure(item.name)} AS {quoted(item.name)}" for item in config.measures]
    columns += [f"{contributions.derived(item.name)} AS {quoted(item.name)}" for item in config.derived]
    currency = "array_to_string(currencies, ', ') AS currency, " if config.events.currency else ""
    return (
        f"SELECT key, status, {currency}{', '.join(columns)}, len(c) + coalesce(block.windows - 1, 0) AS windows, "
        f"coalesce(block.first, c[1].w) AS first_window, c[-1].w AS last_window FROM ({folded}) WHERE len(c) > 0"
    )


def columns_of(connection: duckdb.DuckDBPyConnection, table: str) -> tuple[str, ...]:
    """The names of a table's columns."""
    return tuple(name for name, *_ in connection.execute(f"DESCRIBE {table}").fetchall())


def export(store: ObjectStore, config: Config, state: State, file: Path, as_of: datetime | None = None, then: bool = False) -> int:
    """Writes all artifacts to ``file``: csv, jsonl, parquet or xlsx by its suffix. Returns the rows. Raises WrongUsage, TryAgain."""
    from recon.reading.provenance import book_of

    def book(columns: tuple[str, ...]) -> Book:
        return book_of(store, config, state, "artifacts", as_of, columns)

    check_format(file)
    with table_of(store, config, state, as_of, then) as connection:
        return write_rows(connection, "FROM artifacts ORDER BY key", file, lambda: book(columns_of(connection, "artifacts")))
