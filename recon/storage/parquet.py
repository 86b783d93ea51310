"""Opens Parquet files for every module, so that no part of a path is taken for data or for a pattern.

DuckDB and Arrow read a folder named ``currency=EUR`` as a column of every file below it (Hive partitioning), and DuckDB expands ``*``,
``?`` and ``[`` in a path. Both are switched off here, and ``tests/storage/test_paths.py`` forbids other modules to open Parquet files.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from recon.errors import Damaged, WrongUsage
from recon.storage.port import ObjectStore

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


@dataclass(frozen=True)
class Values:
    """``first`` ≤ ``column`` ≤ ``last``."""

    column: str
    first: int
    last: int


def footer_length(end: bytes) -> int | None:
    """Bytes of a file from its footer on, its length and mark included, by the file's last bytes; None where they are no Parquet file's."""
    if len(end) < 8 or end[-4:] != b"PAR1":
        return None
    return int.from_bytes(end[-8:-4], "little") + 8


def groups_of(path: Path, column: str) -> list[tuple[int, int]]:
    """Of each row group of a local file the least value of a column of whole numbers, and the number of rows."""
    import pyarrow.parquet as pq

    metadata, found = pq.read_metadata(os.path.abspath(path)), []
    place = metadata.schema.names.index(column)
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        found.append((int(group.column(place).statistics.min), group.num_rows))
    return found


Ranges = list[tuple[int, int]]
"""Start and end, in order of start."""


def ranges_of(footer: bytes, wanted: Values | range, columns: Collection[str] | None = None) -> tuple[Ranges, Ranges]:
    """What a reader needs of some row groups, those that may have the values ``wanted`` or those with these numbers: column chunks, and
    Bloom filters. ``footer``: the file from its footer on; ``columns``: of the file's schema, all by default. Raises OSError and
    ValueError where the footer is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(pa.BufferReader(footer))
    found: Ranges = []
    filters: Ranges = []
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        chunks = [group.column(place) for place in range(group.num_columns)]
        if not (number in wanted if isinstance(wanted, range) else _may_have(chunks, wanted)):
            continue
        for chunk in chunks:
            if columns is None or chunk.path_in_schema.partition(".")[0] in columns:
                start = chunk.data_page_offset
                if chunk.has_dictionary_page and chunk.dictionary_page_offset:
                    start = min(start, chunk.dictionary_page_offset)
                found.append((start, start + chunk.total_compressed_size))
                if chunk.bloom_filter_offset is not None:
                    filters.append((chunk.bloom_filter_offset, chunk.bloom_filter_offset + (chunk.bloom_filter_length or 0)))
    return sorted(found), sorted(filters)


def _may_have(chunks: Sequence[Any], values: Values) -> bool:
    """Whether a row group may have the values, by its statistics."""
    bounds = next((chunk.statistics for chunk in chunks if chunk.path_in_schema == values.column), None)
    return bounds is None or not bounds.has_min_max or (bounds.max >= values.first and bounds.min <= values.last)


def group_bytes(opened: Any) -> list[int]:
    """The compressed bytes of each row group of an opened file."""
    groups = (opened.metadata.row_group(number) for number in range(opened.metadata.num_row_groups))
    return [sum(group.column(place).total_compressed_size for place in range(group.num_columns)) for group in groups]


def _exactly(path: Path) -> str:
    """A path as an SQL literal that DuckDB's glob matches with this path alone: special characters as classes of one character."""
    from recon.vocabulary.duckdb import literal  # the parser, which functions on Lambda do without

    text = os.path.abspath(path)
    if not _SPECIAL.search(text):
        return literal(text)
    if "\\" in text:
        raise WrongUsage(f"{text}: a path that holds a backslash and also *, ? or [ cannot be opened; rename the folder")
    return literal(_SPECIAL.sub(r"[\g<0>]", text))


def open_ranges(store: ObjectStore, path: str, metadata: Any = None) -> Any:
    """A ``pyarrow.parquet.ParquetFile`` of an object, of which only the ranges of the columns and row groups that are read are requested.
    ``metadata``: of the file, if it was opened before; then its end is not read again. One thread at a time may read an opened file.

    Raises NotFound, and Damaged where it is no Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(pa.PythonFile(_Ranges(store, path), mode="r"), metadata=metadata, pre_buffer=True)
    except pa.ArrowInvalid as error:
        raise Damaged(f"{path}: it is no Parquet file any more ({error}); run 'recon replay' for its window") from None


class _Ranges(io.RawIOBase):
    """An object of a store as a file. Each read is one request of as many bytes as the reader asks for."""

    def __init__(self, store: ObjectStore, path: str) -> None:
        super().__init__()
        self._store, self._path, self._at = store, path, 0

    @cached_property
    def _size(self) -> int:
        return self._store.size(self._path)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + (self._at if whence == io.SEEK_CUR else self._size if whence == io.SEEK_END else 0)
        return self._at

    def read(self, size: int = -1) -> bytes:
        length = size if size >= 0 else self._size - self._at
        found = self._store.get_range(self._path, self._at, length) if length else b""
        self._at += length
        return found
