"""Writes a query's rows to a file for other programs: csv, jsonl, parquet or xlsx. It writes all rows or none, and never a formula."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from recon.engines.duckdb.session import execute_interruptible
from recon.errors import TryAgain, WrongUsage
from recon.reading.sheets import ROWS_MAX, Book, write_book
from recon.storage.local import sync
from recon.vocabulary.duckdb import literal, quoted

if TYPE_CHECKING:
    import duckdb

FORMATS = {
    ".csv": "FORMAT csv, HEADER",
    ".jsonl": "FORMAT json",
    ".parquet": "FORMAT parquet, COMPRESSION zstd",
    ".xlsx": "",
}
FORMULA = r"^'*([\x00-\x20]*[=+@\-\x{FF1D}\x{FF0B}\x{FF0D}\x{FF20}]|[\t\r\n])"
"""RE2: texts that a spreadsheet might take for a formula in a CSV file (OWASP, "CSV Injection"): = + - @ and their full-width forms, also
after blanks, and a leading tab, CR or LF. Leading apostrophes are skipped, so that the added apostrophe can be removed again: a text that
begins with an apostrophe and still matches without it got it here."""
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def check_format(file: Path) -> str:
    """The suffix that names the format. Raises WrongUsage for any other suffix, and for a path where no file can be written."""
    suffix = file.suffix.lower()
    if suffix not in FORMATS:
        raise WrongUsage(f"{file}: the suffix names no format; use .csv, .jsonl, .parquet or .xlsx")
    if not os.path.isdir(file.parent):
        raise WrongUsage(f"{file}: the folder {file.parent} does not exist; make it first")
    if os.path.isdir(file):
        raise WrongUsage(f"{file}: this is a folder; name a file")
    if os.path.exists(file) and not os.access(file, os.W_OK):
        raise WrongUsage(f"{file}: is write-protected and stays as it is; name another file")
    return suffix


def write_rows(connection: duckdb.DuckDBPyConnection, query: str, file: Path, book: Callable[[], Book] = Book) -> int:
    """Writes a query's rows to a file of the format that its suffix names. Returns the number of rows. ``book``: gives the other sheets of
    a workbook; called for xlsx only.

    Decimals are texts in JSON and plain digits in CSV. In CSV, a text that a spreadsheet might take for a formula gets a leading
    apostrophe, see ``FORMULA``. Raises WrongUsage and TryAgain; ``file`` is then unchanged."""
    suffix = check_format(file)
    rows = int(connection.execute(f"SELECT count(*) FROM ({query})").fetchall()[0][0])
    with _put_in_place(file) as new:
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
        guarded = "CASE WHEN regexp_matches({0}, {1}) THEN '''' || {0} ELSE {0} END"
        changed = {name: guarded.format(name, literal(FORMULA)) for name, kind in columns if kind == "VARCHAR"}
    else:
        changed = {}
    replaced = ", ".join(f"{expression} AS {name}" for name, expression in changed.items())
    return f"SELECT * REPLACE ({replaced}) FROM ({query})" if replaced else query


@contextmanager
def _put_in_place(file: Path) -> Iterator[Path]:
    """A temporary path on the same disk. At the end, the file written there is synced and replaces ``file``. On any failure, including
    Ctrl-C, ``file`` is unchanged and the temporary file is removed."""
    import duckdb

    target = Path(os.path.realpath(file))  # a link stays a link, to the new content
    folder: Path | None = None
    try:
        folder = Path(tempfile.mkdtemp(prefix=".recon-", dir=target.parent))
        new = folder / f"new{target.suffix}"
        yield new
        if target.exists():
            shutil.copymode(target, new)
        sync(new)
        os.replace(new, target)
        sync(target.parent)
    except OSError as error:
        _cannot_write(file, error.errno, error)
    except duckdb.IOException as error:
        number = re.search(r'"errno":"(\d+)"', str(error))
        if folder is None or str(folder) not in str(error) or number is None:
            raise  # about another file, such as one that the query spilled to
        _cannot_write(file, int(number[1]), error)
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _cannot_write(file: Path, number: int | None, error: Exception) -> NoReturn:
    if number in _FULL:
        raise TryAgain(f"{file}: the disk is full ({os.strerror(number)}); free some room and export again, nothing was changed") from error
    why = os.strerror(number) if number is not None else str(error)
    raise WrongUsage(f"{file}: cannot be written ({why}); name a file in a folder of your own") from error
