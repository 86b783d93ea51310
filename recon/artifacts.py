"""All artifacts at once: as Arrow, as files, as of a window; and the breaks among them.

Belongs here: reading every live record and laying it out in columns. Does not belong here: look-ups of one key (recon.lookup).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.config import Config
from recon.engines.duckdb import contributions
from recon.engines.duckdb.reduction import measure
from recon.engines.duckdb.session import connect, literal, quoted
from recon.errors import WrongUsage
from recon.logic import after_merge
from recon.runs import Found, merge_entries, open_run, read_records
from recon.scratch import scratch_folder
from recon.store import ObjectStore
from recon.timeline import State
from recon.windows import name_of

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

BATCH_RECORDS = 200_000
XLSX_ROWS_MAX = 1_048_575
XLSX_TEXT_MAX = 32_767


def live_records(store: ObjectStore, state: State) -> Iterator[pa.Table]:
    """Every live record once, in batches: hi, lo, record. Raises Damaged at the first that does not check."""
    import pyarrow as pa

    entries = merge_entries([open_run(store, run.path).entries() for run in state.runs])
    for start in range(0, len(entries), BATCH_RECORDS):
        rows = slice(start, start + BATCH_RECORDS)
        hi, lo = entries.hi[rows], entries.lo[rows]
        place = (entries.file[rows], entries.offset[rows], entries.length[rows], entries.check[rows])
        records = read_records(store, Found(entries.part_files, np.arange(len(hi)), *place))
        yield pa.table({"hi": pa.array(hi), "lo": pa.array(lo), "record": records})


def artifacts(store: ObjectStore, config: Config, state: State, as_of: datetime | None = None) -> pa.Table:
    """All artifacts with contributions: key, status, measures, derived, windows, first_window, last_window; in order of key."""
    with table_of(store, config, state, as_of) as connection:
        return connection.sql("FROM artifacts ORDER BY key").to_arrow_table()


@contextmanager
def table_of(store: ObjectStore, config: Config, state: State, as_of: datetime | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the table ``artifacts``, columns as in the contract. It spills to disk where memory does not hold it."""
    last = None if as_of is None else name_of(as_of)
    with scratch_folder(store) as scratch, connect(config, scratch) as connection:
        made = False
        for batch in live_records(store, state) if state.runs else ():
            connection.register("records", batch)
            query = _laid_out(connection, config, last)
            connection.execute(f"CREATE TEMP TABLE artifacts AS {query}" if not made else f"INSERT INTO artifacts {query}")
            connection.unregister("records")
            made = True
        if not made:
            import pyarrow as pa

            connection.register("records", pa.table({"record": pa.array([], pa.string())}))
            connection.execute(f"CREATE TEMP TABLE artifacts AS {_laid_out(connection, config, last)}")
        yield connection


def fold_records(config: Config, lines: Sequence[str], last: str | None) -> list[dict[str, Any]]:
    """Records (JSON lines) as of the window named ``last``: the fold of the contributions up to it."""
    import duckdb
    import pyarrow as pa

    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.register("records", pa.table({"record": pa.array(list(lines), pa.string())}))
    query = _folded(connection, config, last)
    record = contributions.record(config, contributions.list_text(config, "c"))
    rows = connection.execute(f"SELECT {record} FROM ({query})").fetchall()
    return [json.loads(row[0]) for row in rows]


def _folded(connection: duckdb.DuckDBPyConnection, config: Config, last: str | None) -> str:
    """SELECT over the view ``records``: key, withdrawn, c, m_*, x_*, status, with the contributions up to ``last`` only."""
    upto = "" if last is None else f"list_filter(r.contributions, lambda x: x.w <= {literal(last)})"
    source = f"""
        (SELECT r.key AS key, r.withdrawn AS withdrawn, {upto or "r.contributions"} AS c
         FROM (SELECT from_json_strict(record, {contributions.record_structure(config)}) AS r FROM records))"""
    query = contributions.folded(config, source, "key, withdrawn, c,")
    if not config.logic:
        return query
    connection.execute(f"CREATE OR REPLACE TEMP TABLE judging AS {query}")
    names = ["status", *(contributions.derived(item.name) for item in config.derived)]
    columns = ", ".join(["key", *names[:1], *(measure(item.name) for item in config.measures), *names[1:]])
    table = connection.sql(f"SELECT {columns} FROM judging WHERE len(c) > 0").to_arrow_table()
    connection.register("judged_values", after_merge(config, table))
    return (
        f"SELECT judging.* EXCLUDE ({', '.join(names)}), {', '.join('judged.' + name for name in names)} "
        "FROM judging LEFT JOIN judged_values judged USING (key)"
    )


def _laid_out(connection: duckdb.DuckDBPyConnection, config: Config, last: str | None) -> str:
    columns = [f"{measure(item.name)} AS {quoted(item.name)}" for item in config.measures]
    columns += [f"{contributions.derived(item.name)} AS {quoted(item.name)}" for item in config.derived]
    return (
        f"SELECT key, status, {', '.join(columns)}, len(c) AS windows, c[1].w AS first_window, c[-1].w AS last_window "
        f"FROM ({_folded(connection, config, last)}) WHERE len(c) > 0"
    )


def export(store: ObjectStore, config: Config, state: State, file: Path, as_of: datetime | None = None) -> int:
    """Writes all artifacts to ``file``; csv, jsonl, parquet or xlsx by its suffix. Returns the rows. Raises WrongUsage."""
    with table_of(store, config, state, as_of) as connection:
        return write_rows(connection, "FROM artifacts ORDER BY key", file)


def write_rows(connection: duckdb.DuckDBPyConnection, query: str, file: Path) -> int:
    """Writes a query's rows to a file of the format that its suffix names. Decimals in JSON are texts, in CSV plain digits."""
    formats = {".csv": "FORMAT csv, HEADER", ".jsonl": "FORMAT json", ".parquet": "FORMAT parquet, COMPRESSION zstd"}
    suffix = file.suffix.lower()
    rows = connection.execute(f"SELECT count(*) FROM ({query})").fetchall()[0][0]
    if not file.parent.is_dir():
        raise WrongUsage(f"{file}: the folder {file.parent} does not exist; make it first")
    if suffix == ".xlsx":
        _write_xlsx(connection, query, file, rows)
        return int(rows)
    if suffix not in formats:
        raise WrongUsage(f"{file}: the suffix names no format; use .csv, .jsonl, .parquet or .xlsx")
    if suffix == ".jsonl":
        described = connection.execute(f"DESCRIBE {query}").fetchall()
        texts = [f"CAST({quoted(name)} AS VARCHAR) AS {quoted(name)}" for name, kind, *_ in described if "DECIMAL" in kind]
        query = f"SELECT * REPLACE ({', '.join(texts)}) FROM ({query})" if texts else query
    # Written beside and moved into place, so that a failure leaves no half of a file under the name that was asked for.
    beside = file.with_name(f".{file.name}.part")
    connection.execute("SET preserve_insertion_order = true")
    connection.execute(f"COPY ({query}) TO {literal(str(beside))} ({formats[suffix]})")
    beside.replace(file)
    return int(rows)


def _write_xlsx(connection: duckdb.DuckDBPyConnection, query: str, file: Path, rows: int) -> None:
    """One sheet. Numbers of more than 15 digits, which a spreadsheet would round, are written as text."""
    import xlsxwriter

    if rows > XLSX_ROWS_MAX:
        raise WrongUsage(f"{file}: {rows:,} rows do not fit a sheet of {XLSX_ROWS_MAX:,}; export .csv or .parquet instead")
    options = {
        "constant_memory": True,
        "strings_to_formulas": False,
        "strings_to_urls": False,
        "strings_to_numbers": False,
    }
    book = xlsxwriter.Workbook(str(file), options)
    sheet = book.add_worksheet("artifacts")
    bold = book.add_format({"bold": True})
    result = connection.execute(query)
    for column, description in enumerate(result.description or ()):
        sheet.write_string(0, column, description[0], bold)
    row_number = 0
    while batch := result.fetchmany(10_000):
        for row in batch:
            row_number += 1
            for column, value in enumerate(row):
                if value is None:
                    continue
                digits = str(value)
                if len(digits) > XLSX_TEXT_MAX:
                    raise WrongUsage(
                        f"{file}: row {row_number}: a text of {len(digits):,} characters does not fit a cell of "
                        f"{XLSX_TEXT_MAX:,}; export .csv or .parquet instead"
                    )
                if isinstance(value, bool) or not _is_number(value) or len(digits.strip("-").replace(".", "")) > 15:
                    sheet.write_string(row_number, column, digits)
                else:
                    sheet.write_number(row_number, column, float(value))
    sheet.freeze_panes(1, 0)
    sheet.autofilter(0, 0, row_number, max(0, len(result.description or ()) - 1))
    book.close()


def _is_number(value: object) -> bool:
    from decimal import Decimal

    return isinstance(value, (int, Decimal))


def matched_status(config: Config) -> str | None:
    """The status that is no break: MATCHED where there is one, else the first."""
    names = [item.name for item in config.status]
    return "MATCHED" if "MATCHED" in names else names[0] if names else None


BREAK_AGES = (
    "CASE WHEN age_days < 1 THEN 'under 1 day' WHEN age_days < 7 THEN '1–6 days' "
    "WHEN age_days < 30 THEN '7–29 days' ELSE '30 days and more' END"
)


def breaks_query(config: Config, state: State) -> str:
    """SELECT over ``artifacts``: what is not matched, with ``age_days`` from the key's first window to the newest committed one."""
    matched = matched_status(config)
    newest = max(state.windows, default=name_of(config.grid.start))
    return (
        "SELECT *, date_diff('day', CAST(first_window AS TIMESTAMPTZ), "
        f"CAST({literal(newest)} AS TIMESTAMPTZ)) AS age_days FROM artifacts "
        f"WHERE status IS DISTINCT FROM {literal(matched) if matched else 'NULL'} ORDER BY status, age_days DESC, key"
    )


def breaks_summary(store: ObjectStore, config: Config, state: State) -> list[dict[str, Any]]:
    """Breaks by status and age: status, age, artifacts. No amounts: keys of different currencies stand in one line."""
    with table_of(store, config, state) as connection:
        rows = connection.execute(
            f"SELECT status, {BREAK_AGES} AS age, count(*) FROM ({breaks_query(config, state)}) GROUP BY ALL ORDER BY status, min(age_days)"
        ).fetchall()
    return [dict(zip(("status", "age", "artifacts"), row, strict=True)) for row in rows]
