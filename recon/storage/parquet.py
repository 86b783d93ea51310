"""Opens Parquet files for every module, so that no part of a path is taken for data or for a pattern.

DuckDB and Arrow read a folder named ``currency=EUR`` as a column of every file below it (Hive partitioning), and DuckDB expands ``*``,
``?`` and ``[`` in a path. Both are switched off here, and ``tests/storage/test_paths.py`` forbids other modules to open Parquet files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from recon.errors import WrongUsage

_SPECIAL = re.compile(r"[*?\[]")


def scan(paths: Path | Iterable[Path], options: str = "") -> str:
    """SQL of a scan of one file, or of several with the same columns. ``options``: more of DuckDB's, such as
    ``file_row_number = true``. Raises WrongUsage for a path that cannot be quoted for DuckDB."""
    listed = ", ".join(_exactly(path) for path in ([paths] if isinstance(paths, Path) else paths))
    more = f", {options}" if options else ""
    return f"read_parquet([{listed}], hive_partitioning = false, union_by_name = false{more})"


def scan_windows(files: Mapping[str, Path]) -> str:
    """SQL of one scan over a file of each window, with the window's name as the column ``w``."""
    from recon.vocabulary.duckdb import literal

    named = ", ".join(f"({literal(os.path.abspath(path))}, {literal(window)})" for window, path in files.items())
    return f"(SELECT * FROM {scan(files.values(), 'filename = true')} JOIN (VALUES {named}) names(filename, w) USING (filename))"


def read(path: Path, columns: Sequence[str] | None = None, filters: Any = None) -> Any:
    """The rows of one file as an Arrow table; ``filters`` as ``pyarrow.parquet.read_table`` takes them."""
    import pyarrow.fs as pf
    import pyarrow.parquet as pq

    named = None if columns is None else list(columns)
    return pq.read_table(os.path.abspath(path), columns=named, filters=filters, partitioning=None, filesystem=pf.LocalFileSystem())


def open_file(path: Path, int96: str = "us") -> Any:
    """A ``pyarrow.parquet.ParquetFile``. ``int96``: the unit of 96-bit times, not all of which fit 64 bits of nanoseconds."""
    import pyarrow.parquet as pq

    return pq.ParquetFile(os.path.abspath(path), coerce_int96_timestamp_unit=int96)


def _exactly(path: Path) -> str:
    """A path as an SQL literal that DuckDB's glob matches with this path alone: special characters as classes of one character."""
    from recon.vocabulary.duckdb import literal  # the parser, which functions on Lambda do without

    text = os.path.abspath(path)
    if not _SPECIAL.search(text):
        return literal(text)
    if "\\" in text:
        raise WrongUsage(f"{text}: a path that holds a backslash and also *, ? or [ cannot be opened; rename the folder")
    return literal(_SPECIAL.sub(r"[\g<0>]", text))
