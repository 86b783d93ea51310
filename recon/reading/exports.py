"""Writes a query's rows to a file for other programs: csv, jsonl, parquet or xlsx. It writes all rows or none, and never a formula."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from recon.engines.duckdb.session import execute_interruptible
from recon.errors import WrongUsage
from recon.exports.guarding import guarded
from recon.exports.placing import put_in_place, refuse_place
from recon.exports.sheets import ROWS_MAX, Book, write_book
from recon.vocabulary.duckdb import literal, quoted

if TYPE_CHECKING:
    import duckdb

FORMATS = {
    ".csv": "FORMAT csv, HEADER",
    ".jsonl": "FORMAT json",
    ".parquet": "FORMAT parquet, COMPRESSION zstd",
    ".xlsx": "",
}


def check_format(file: Path) -> str:
    """The suffix that names the format. Raises WrongUsage for any other suffix, and for a path where no file can be written."""
    suffix = file.suffix.lower()
    if suffix not in FORMATS:
        raise WrongUsage(f"{file}: the suffix names no format; use .csv, .jsonl, .parquet or .xlsx")
    refuse_place(file)
    return suffix


def write_rows(connection: duckdb.DuckDBPyConnection, query: str, file: Path, book: Callable[[], Book] = Book) -> int:
    """Writes a query's rows to a file of the format that its suffix names. Returns the number of rows. ``book``: gives the other sheets of
    a workbook; called for xlsx only.

    Decimals are texts in JSON and plain digits in CSV. In CSV, a text that a spreadsheet might take for a formula gets a leading
    apostrophe, see ``recon.exports.guarding``. Raises WrongUsage and TryAgain; ``file`` is then unchanged."""
    suffix = check_format(file)
    rows = int(connection.execute(f"SELECT count(*) FROM ({query})").fetchall()[0][0])
    with put_in_place([file]) as (new,):
        if suffix == ".xlsx":
            if rows > ROWS_MAX:
                raise WrongUsage(f"{file}: {rows:,} rows do not fit a sheet of {ROWS_MAX:,}; export .csv or .parquet instead")
            write_book(connection, query, file, new, book())
        else:
            connection.execute("SET preserve_insertion_order = true")
            execute_interruptible(connection, f"COPY ({_as_written(connection, query, suffix)}) TO {literal(str(new))} ({FORMATS[suffix]})")
    return rows


def _as_written(connection: duckdb.DuckDBPyConnection, query: str, suffix: str) -> str:
    """The query, with values converted that the format cannot hold: exact decimals in JSON, formulas in CSV."""
    columns = [(quoted(name), str(kind)) for name, kind, *_ in connection.execute(f"DESCRIBE {query}").fetchall()]
    if suffix == ".jsonl":
        changed = {name: f"CAST({name} AS VARCHAR)" for name, kind in columns if "DECIMAL" in kind}
    elif suffix == ".csv":
        changed = {name: guarded(name) for name, kind in columns if kind == "VARCHAR"}
    else:
        changed = {}
    replaced = ", ".join(f"{expression} AS {name}" for name, expression in changed.items())
    return f"SELECT * REPLACE ({replaced}) FROM ({query})" if replaced else query
