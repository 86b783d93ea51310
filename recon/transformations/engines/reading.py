"""How a file's texts become the values of a table, and Parquet files whose values are those of the table already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recon.storage import parquet
from recon.transformations.formulas.layers import column as named
from recon.transformations.formulas.layers import sql_of
from recon.transformations.formulas.tree import ERRORS, VALUE
from recon.transformations.inputs.files import Part
from recon.transformations.inputs.opening import Opened
from recon.transformations.operations.table import ROW, Column
from recon.vocabulary import check
from recon.vocabulary.duckdb import literal, quoted
from recon.vocabulary.types import TEXT, Type


def from_texts(columns: Sequence[Column], row: str) -> str:
    """The list of a SELECT over texts t0, t1, …: the row's number, values and errors. In a column that is no text, #N/A and its like are
    that error, and any other text that does not fit is #VALUE!."""
    parts = [f"{row} AS {ROW}"]
    errors = " ".join(f"WHEN {literal(text)} THEN {code}" for text, code in ERRORS.items())
    for at, column in enumerate(columns):
        value = _typed(f"t{at}", column.type)
        parts.append(f"{value} AS {column.value}")
        if column.error:
            wrong = f"({value}) IS NULL AND t{at} IS NOT NULL AND t{at} <> ''"
            code = f"CASE t{at} {errors} ELSE {VALUE} END"
            parts.append(f"CAST(CASE WHEN {wrong} THEN {code} END AS TINYINT) AS {column.error}")
    return ", ".join(parts)


def nothing(columns: Sequence[Column]) -> str:
    """A SELECT of no rows."""
    parts = [f"CAST(NULL AS BIGINT) AS {ROW}"]
    for column in columns:
        parts.append(f"CAST(NULL AS {column.type.duckdb}) AS {column.value}")
        parts += [f"CAST(NULL AS TINYINT) AS {column.error}"] if column.error else []
    return f"SELECT {', '.join(parts)} LIMIT 0"


def direct_scan(opened: Opened) -> str | None:
    """A SELECT over Parquet files whose columns have the table's types, or narrower ones of the same kind: no value goes through text.
    None for any other input."""
    if any(part.layout.kind != "parquet" for part in opened.parts):
        return None
    scans, rows = [], 0
    for part in opened.parts:
        columns = _direct_columns(opened, part)
        if columns is None:
            return None
        scans.append(f"SELECT file_row_number + {rows + 1} AS {ROW}, {columns} FROM {parquet.scan(part.path, 'file_row_number = true')}")
        rows += parquet.open_file(part.path).metadata.num_rows
    return " UNION ALL ".join(scans)


def _direct_columns(opened: Opened, part: Part) -> str | None:
    schema = parquet.open_file(part.path).schema_arrow
    if len({name.casefold() for name in schema.names}) < len(schema.names):
        return None  # DuckDB does not distinguish such names
    parts = []
    for column in opened.columns:
        if not _same_values(schema.field(column.name).type, column.type):
            return None
        source = quoted(column.name)
        parts.append(f"nullif({source}, '') AS {column.value}" if column.type == TEXT else _valued(source, column))
        parts += [f"{_wrong(source, column)} AS {column.error}"] if column.error else []
    return ", ".join(parts)


def _valued(source: str, column: Column) -> str:
    value = f"CASE WHEN isfinite({source}) THEN {source} END" if column.type.kind == "date" else source
    return f"CAST({value} AS {column.type.duckdb}) AS {column.value}"


def _wrong(source: str, column: Column) -> str:
    """The error's code: only a day beyond the year 9999 does not fit. Always null otherwise."""
    code = f"CASE WHEN NOT isfinite({source}) THEN {VALUE} END" if column.type.kind == "date" else "NULL"
    return f"CAST({code} AS TINYINT)"


def _same_values(kind: Any, to: Type) -> bool:
    import pyarrow.types as pt

    match to.kind:
        case "text":
            return bool(pt.is_string(kind) or pt.is_large_string(kind))
        case "decimal":
            return bool(pt.is_decimal128(kind) and 0 <= kind.scale <= to.scale and kind.precision - kind.scale <= to.precision - to.scale)
        case "integer":
            return bool(pt.is_signed_integer(kind))
        case "boolean" | "date":
            return bool(pt.is_boolean(kind) if to.kind == "boolean" else pt.is_date32(kind))
        case _:
            return False


def _typed(text: str, kind: Type) -> str:
    """SQL of a text as a value, by the vocabulary's cast: null where it is none. An empty text is a blank."""
    return f"nullif({text}, '')" if kind == TEXT else sql_of(check.cast(named(text, TEXT), kind))
