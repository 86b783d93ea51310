"""Reads Parquet as Arrow batches of text columns, exact to the last digit."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from recon.errors import WrongInput
from recon.intake.files.formats import BROKEN_UTF8, one_line
from recon.intake.files.spec import SourceFile
from recon.storage import parquet
from recon.vocabulary.duckdb import quoted

LINE = "recon.line"
"""The column of a clean file of a source with the line of each row in the received file."""
SOURCE_METADATA = "recon.source"
"""The metadata that says a file is the clean file of a source, whose rows have the lines in ``LINE``."""
_BATCH_ROWS = 65_536
_FAR_DATE = "a day beyond the year 9999"


def open_parquet(file: SourceFile) -> Any:
    """The ``pyarrow.parquet.ParquetFile``. Raises WrongInput for a damaged file, or one of another format."""
    import pyarrow as pa

    try:
        return parquet.open_file(file.path)
    except FileNotFoundError:
        raise WrongInput(f"{file.name}: the file is gone from {file.path}; land it again") from None
    except (OSError, pa.ArrowException) as error:
        raise WrongInput(f"{file.name}: not a whole Parquet file ({one_line(error)}); transfer the file again") from None


def direct_scan(file: SourceFile, names: Sequence[str], texts: Collection[str] = ()) -> tuple[str, int] | None:
    """SQL with which DuckDB reads the columns, and the number of rows: the same result as ``row_batches``, at half the cost.

    None where DuckDB would write a column's type as another text; it writes text, whole numbers, decimals, dates and booleans the same.
    ``names`` must be columns of the file; ``texts``: see ``row_batches``. Bytes that are not UTF-8 make the query fail; ``row_batches``
    finds them."""
    import pyarrow as pa

    opened = open_parquet(file)
    kinds = {field.name: field.type for field in opened.schema_arrow}
    if len({name.casefold() for name in opened.schema_arrow.names}) < len(opened.schema_arrow.names):
        return None  # DuckDB does not distinguish such names
    plain = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_date32, pa.types.is_boolean)
    for name in names:
        kind = kinds[name]
        if not (any(check(kind) for check in plain) or (pa.types.is_decimal128(kind) and kind.scale >= 0)):
            return None
    columns = "".join(f", {_sql_text(name, kinds[name], name in texts)} AS t{position}" for position, name in enumerate(names))
    first, end = rows_of(file, opened)
    scan = parquet.scan(file.path, "file_row_number = true")
    if file.groups is not None:  # DuckDB reads only the row groups with these numbers
        scan += f" WHERE file_row_number BETWEEN {first} AND {end - 1}"
    line = quoted(LINE) if has_lines(opened) else "file_row_number + 1"
    query = f"(SELECT {line} AS line, 1 AS span, CAST(NULL AS VARCHAR) AS problem{columns} FROM {scan})"
    return query, end - first


def rows_of(file: SourceFile, opened: Any) -> tuple[int, int]:
    """The first of the rows that are read of an opened file, from 0, and the end, which is not included."""
    if file.groups is None:
        return 0, opened.metadata.num_rows
    counts = [opened.metadata.row_group(number).num_rows for number in range(file.groups.stop)]
    return sum(counts[: file.groups.start]), sum(counts)


def _sql_text(name: str, kind: Any, as_text: bool) -> str:
    """SQL of a column's text, for the types of ``direct_scan``."""
    import pyarrow as pa

    text = f"CAST({quoted(name)} AS VARCHAR)"
    if as_text and pa.types.is_decimal(kind) and kind.scale:
        return f"regexp_replace({text}, '\\.0+$', '')"
    if pa.types.is_date32(kind):  # DuckDB has two dates that mean an infinite time
        return f"CASE WHEN isinf({quoted(name)}) THEN '{_FAR_DATE}' ELSE {text} END"
    return text


def row_batches(file: SourceFile, names: Sequence[str], texts: Collection[str] = ()) -> Iterator[Any]:
    """Batches of line BIGINT (row number from 1), span INTEGER, problem VARCHAR, then the columns ``names`` as t0, t1, …

    ``texts``: the columns that are used as text, in which a whole number is its digits alone. Raises WrongInput for a damaged file, for a
    list, a struct or a map, and for a float used as text that is no whole number, or too large to be exact.
    """
    import numpy as np
    import pyarrow as pa

    opened = open_parquet(file)
    row, own = rows_of(file, opened)[0] + 1, [LINE] if has_lines(opened) else []
    for batch in arrow_batches(file, [*names, *own]):
        count = batch.num_rows
        columns, problem = [], pa.nulls(count, pa.string())
        for name in names:
            column, broken = as_text(batch.column(name), f"{file.name}: column {name!r}", name in texts)
            columns.append(column)
            if broken is not None:
                problem = pa.array(np.where(broken, BROKEN_UTF8, problem.to_numpy(zero_copy_only=False)), pa.string())
        line = batch.column(LINE) if own else pa.array(np.arange(row, row + count, dtype=np.int64))
        span = pa.array(np.ones(count, np.int32))
        labels = ["line", "span", "problem", *(f"t{position}" for position in range(len(columns)))]
        yield pa.record_batch([line, span, problem, *columns], names=labels)
        row += count


def has_lines(opened: Any) -> bool:
    """Whether an opened file is the clean file of a source. Its rows then have the lines of the received file."""
    import pyarrow as pa

    schema = opened.schema_arrow
    marked = SOURCE_METADATA.encode() in (schema.metadata or {})
    return marked and LINE in schema.names and schema.field(LINE).type == pa.int64()


def refuse_repeated_lines(file: SourceFile) -> None:
    """Raises WrongInput where a source's clean file has lines that do not ascend: a line is part of what identifies an event."""
    import numpy as np

    if not has_lines(open_parquet(file)):
        return
    before = 0
    for batch in arrow_batches(file, [LINE]):
        lines = np.concatenate([[before], batch.column(LINE).fill_null(0).to_numpy(zero_copy_only=False)])
        if not np.all(np.diff(lines) > 0):
            raise WrongInput(f"{file.name}: column {LINE!r} does not ascend; land the received file through its source again")
        before = int(lines[-1])


def refuse_inexact(file: SourceFile, texts: Collection[str]) -> None:
    """Raises WrongInput where a column used as text has floats that are no whole numbers, or too large to be exact."""
    import pyarrow as pa

    floats = [field.name for field in open_parquet(file).schema_arrow if field.name in texts and pa.types.is_floating(field.type)]
    if floats:
        for batch in arrow_batches(file, floats):
            for name in floats:
                as_text(batch.column(name), f"{file.name}: column {name!r}", True)


def arrow_batches(file: SourceFile, names: list[str] | None) -> Iterator[Any]:
    """Record batches of the columns ``names``, or of all; 96-bit times are text. Raises WrongInput for a damaged file."""
    import pyarrow as pa

    opened = open_parquet(file)
    wide = [name for name in _int96(opened) if names is None or name in names]
    groups = None if file.groups is None else list(file.groups)

    def batches(of: Any, columns: list[str] | None) -> Iterator[Any]:
        return iter(of.iter_batches(_BATCH_ROWS, row_groups=groups, columns=columns, use_threads=False))

    seconds = batches(parquet.open_file(file.path, int96="ns"), wide) if wide else None
    try:
        for batch in batches(opened, names):
            if seconds is not None:
                fine = next(seconds)
                for name in wide:
                    batch = batch.set_column(
                        batch.schema.get_field_index(name), name, _to_the_nanosecond(batch.column(name), fine.column(name))
                    )
            yield batch
    except (OSError, pa.ArrowException) as error:
        raise WrongInput(f"{file.name}: damaged Parquet ({one_line(error)}); transfer the file again") from None


def _int96(opened: Any) -> list[str]:
    """The columns of 96-bit times: a day, and nanoseconds in it, which can exceed the years of 64-bit nanoseconds."""
    columns = [opened.schema.column(position) for position in range(len(opened.schema.names))]
    return [column.name for column in columns if column.physical_type == "INT96" and column.path == column.name]


def _to_the_nanosecond(micros: Any, nanos: Any) -> Any:
    """96-bit times as text, from their truncated microseconds and from their nanoseconds, whose upper bits are lost."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    whole = micros.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    cut = nanos.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64) - whole * np.int64(1000)
    text = micros.cast(pa.string())
    if not cut.any():
        return text
    digits = pa.array([f"{rest:03}" if rest else "" for rest in cut.tolist()], pa.string())
    return pc.binary_join_element_wise(text, digits, "")


def as_text(column: Any, what: str, used_as_text: bool = False) -> tuple[Any, Any]:
    """A column as strings, and a mask of the values that are not UTF-8 (null there), or None. Raises WrongInput if nested.

    Numbers become exact decimal text; floats become the shortest text that reads back as the same float, unless ``used_as_text``: then
    whole numbers are their digits alone, and other floats raise WrongInput. Times are in UTC, with at least microseconds where they are
    not zero.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    refuse_nested(kind, what)
    try:
        if used_as_text and pa.types.is_floating(kind):
            column = _whole_numbers(column, what)
        if pa.types.is_timestamp(kind):
            # A time with zone is stored in UTC: without the zone it is the same instant, and needs no time zone table.
            column = pc.cast(pc.cast(column, pa.timestamp(kind.unit)), pa.string())
            if kind.tz is not None and not used_as_text:
                column = pc.binary_join_element_wise(column, "Z", "")
        if pa.types.is_decimal(kind) and kind.scale < 0:
            column = column.cast(pa.decimal256(76, 0))
        text, broken = _utf8(column)
        if used_as_text and pa.types.is_decimal(kind) and kind.scale > 0:
            text = pc.replace_substring_regex(text, r"\.0+$", "")
        return text, broken
    except pa.ArrowException as error:
        raise WrongInput(f"{what} is a {kind} that can't be written as text ({one_line(error)}); store it as text") from None


_FLOAT_DIGITS = {16: 11, 32: 24, 64: 53}
"""Bits of a float → the power of two up to which it represents every whole number."""


def _whole_numbers(column: Any, what: str) -> Any:
    """Floats as whole numbers. Raises WrongInput for a float that is none, or too large to be exact."""
    import pyarrow as pa
    import pyarrow.compute as pc

    power, wide, whole = _FLOAT_DIGITS[column.type.bit_width], column.cast(pa.float64()), whole_numbers(column)
    if pc.any(pc.invert(whole)).as_py():
        wrong = wide.filter(pc.invert(whole).fill_null(False))[0].as_py()
        raise WrongInput(
            f"{what} is {column.type} and is used as text, but holds {wrong!r}, which is no whole number below 2^{power}; "
            "write the column as text or as whole numbers"
        )
    return wide.cast(pa.int64())


def whole_numbers(column: Any) -> Any:
    """Which floats are whole numbers, small enough to be exact."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wide = column.cast(pa.float64())
    return pc.and_(pc.equal(wide, pc.round(wide)), pc.less(pc.abs(wide), float(2 ** _FLOAT_DIGITS[column.type.bit_width])))


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
    """Batches of all columns as text, nested ones in Python's notation, for showing rows."""
    import pyarrow as pa

    for batch in arrow_batches(file, None):
        columns = []
        for column in batch.columns:
            nested = pa.types.is_nested(column.type)
            columns.append(pa.array(map(str, column.to_pylist()), pa.string()) if nested else as_text(column, file.name)[0])
        yield pa.record_batch(columns, names=batch.schema.names)
