"""Parquet as Arrow batches of text columns, exact to the last digit.

Belongs here: how each Parquet type is written as text. Does not belong here: types and checks of the values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from recon import parquet
from recon.errors import WrongInput
from recon.intake.checks import quoted
from recon.intake.formats import BROKEN_UTF8, one_line
from recon.intake.model import SourceFile

_BATCH_ROWS = 65_536


def open_parquet(file: SourceFile) -> Any:
    """The ``pyarrow.parquet.ParquetFile``. Raises WrongInput if it is none, or damaged."""
    import pyarrow as pa

    try:
        return parquet.open_file(file.path)
    except FileNotFoundError:
        raise WrongInput(f"{file.name}: the file is gone from {file.path}; land it again") from None
    except (OSError, pa.ArrowException) as error:
        raise WrongInput(f"{file.name}: not a whole Parquet file ({one_line(error)}); transfer the file again") from None


def direct_scan(file: SourceFile, names: Sequence[str]) -> tuple[str, int] | None:
    """SQL in which DuckDB itself reads the columns, and the number of rows; as ``row_batches``, at half the cost.

    None where a column's type is not one that DuckDB writes as the same text: text, whole numbers, decimals, dates and booleans
    are. The names must be columns of the file. Bytes that are no UTF-8 make the query fail: ``row_batches`` tells which."""
    import pyarrow as pa

    opened = open_parquet(file)
    kinds = {field.name: field.type for field in opened.schema_arrow}
    if len({name.casefold() for name in opened.schema_arrow.names}) < len(opened.schema_arrow.names):
        return None  # DuckDB does not tell such names apart
    plain = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_date32, pa.types.is_boolean)
    for name in names:
        kind = kinds[name]
        if not (any(check(kind) for check in plain) or (pa.types.is_decimal128(kind) and kind.scale >= 0)):
            return None
    texts = "".join(f", CAST({quoted(name)} AS VARCHAR) AS t{position}" for position, name in enumerate(names))
    scan = parquet.scan(file.path, "file_row_number = true")
    query = f"(SELECT file_row_number + 1 AS line, 1 AS span, CAST(NULL AS VARCHAR) AS problem{texts} FROM {scan})"
    return query, opened.metadata.num_rows


def row_batches(file: SourceFile, names: Sequence[str]) -> Iterator[Any]:
    """Batches of line BIGINT (row number from 1), span INTEGER, problem VARCHAR, then the columns ``names`` as t0, t1,
    …

    Raises WrongInput for a damaged file, or if a column is a list, a struct or a map.
    """
    import numpy as np
    import pyarrow as pa

    row = 1
    for batch in _batches(file, list(names)):
        count = batch.num_rows
        columns = {name: batch.column(name) for name in names}
        texts, problem = [], pa.nulls(count, pa.string())
        for name in names:
            column, broken = as_text(columns[name], f"{file.name}: column {name!r}")
            texts.append(column)
            if broken is not None:
                problem = pa.array(np.where(broken, BROKEN_UTF8, problem.to_numpy(zero_copy_only=False)), pa.string())
        line = pa.array(np.arange(row, row + count, dtype=np.int64))
        span = pa.array(np.ones(count, np.int32))
        labels = ["line", "span", "problem", *(f"t{position}" for position in range(len(texts)))]
        yield pa.record_batch([line, span, problem, *texts], names=labels)
        row += count


def _batches(file: SourceFile, names: list[str] | None) -> Iterator[Any]:
    import pyarrow as pa

    opened = open_parquet(file)
    try:
        yield from opened.iter_batches(_BATCH_ROWS, columns=names, use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise WrongInput(f"{file.name}: damaged Parquet ({one_line(error)}); transfer the file again") from None


def as_text(column: Any, what: str) -> tuple[Any, Any]:
    """A column as strings, and a mask of the values that are not UTF-8 (null there), or None. Raises WrongInput if
    nested.

    Numbers come as decimal text that is exactly their value; floats as the shortest text that reads back as the same
    float. Times come in UTC to the last digit that is not zero or to the microsecond.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    refuse_nested(kind, what)
    try:
        if pa.types.is_timestamp(kind):
            # A time with zone is stored in UTC: dropping the zone keeps the instant, and no time zone table is needed.
            column = pc.cast(column, pa.timestamp(kind.unit))
        if pa.types.is_decimal(kind) and kind.scale < 0:
            column = column.cast(pa.decimal256(76, 0))
        return _utf8(column)
    except pa.ArrowException as error:
        raise WrongInput(f"{what} is a {kind} that can't be written as text ({one_line(error)}); store it as text") from None


def refuse_nested(kind: Any, what: str) -> None:
    """Raises WrongInput, which begins with ``what``, for a list, a struct or a map."""
    import pyarrow as pa

    if pa.types.is_nested(kind):
        raise WrongInput(f"{what} is a {kind}; expected a plain value such as text, a number, a date or a time")


def _utf8(column: Any) -> tuple[Any, Any]:
    import numpy as np
    import pyarrow as pa

    binary = column.cast(pa.binary()) if is_text(column.type) else None
    if binary is None:
        return column.cast(pa.string()), None
    try:
        return binary.cast(pa.string()), None
    except pa.ArrowInvalid:
        broken = np.zeros(len(binary), bool)
        texts: list[str | None] = []
        for position, value in enumerate(binary.to_pylist()):
            try:
                texts.append(None if value is None else value.decode("utf-8"))
            except UnicodeDecodeError:
                texts.append(None)
                broken[position] = True
        return pa.array(texts, pa.string()), broken


def is_text(kind: Any) -> bool:
    """Whether a type's values are text, also where they are stored as bytes or in a dictionary."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)

    checks = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_binary,
        pa.types.is_large_binary,
        pa.types.is_binary_view,
        pa.types.is_fixed_size_binary,
    )
    return any(check(kind) for check in checks)


def texts_of_all(file: SourceFile) -> Iterator[Any]:
    """Batches of all columns as text, nested ones in Python's notation: for showing rows, not for reckoning."""
    import pyarrow as pa

    for batch in _batches(file, None):
        columns = []
        for column in batch.columns:
            nested = pa.types.is_nested(column.type)
            columns.append(pa.array(map(str, column.to_pylist()), pa.string()) if nested else as_text(column, file.name)[0])
        yield pa.record_batch(columns, names=batch.schema.names)
