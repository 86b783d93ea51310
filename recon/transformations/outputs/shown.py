"""What a file shows of a table: SELECTs of values, errors and rows that are set aside."""

from __future__ import annotations

from collections.abc import Sequence

from recon.transformations.formulas.tree import TEXTS
from recon.transformations.operations.table import ROW, Column, Table
from recon.vocabulary.duckdb import literal, quoted
from recon.vocabulary.types import TEXT

_RUN = (
    r"^(?:'*(?:[\x00-\x20]*[=@\x{FF1D}\x{FF0B}\x{FF0D}\x{FF20}]|[\t\r\n])"
    r"|(?:'+[\x00-\x20]*|[\x00-\x20]+)[+\-]"
    r"|[+\-](?:[^0-9.,]|[0-9.,]+[^0-9.,]|$))"
)
"""``recon.exports.guarding.FORMULA`` but for signed numbers, which no spreadsheet runs. One expression: with two in nested conditions,
DuckDB plans for seconds where a table has hundreds of columns."""


def as_text(table: Table, guard: bool, errors: bool) -> str:
    """SELECT of all columns for a text file, in order of the rows. ``errors``: whether they are their texts, or nothing."""
    shown = [f"{_cell(column, guard, errors)} AS {quoted(column.name)}" for column in table.known]
    return f"SELECT {', '.join(shown)} FROM {table.relation} t ORDER BY t.{ROW}"


def as_values(table: Table) -> str:
    """SELECT of all columns as values, in order of the rows; an error is nothing."""
    shown = [f"{column.value} AS {quoted(column.name)}" for column in table.known]
    return f"SELECT {', '.join(shown)} FROM {table.relation} t ORDER BY t.{ROW}"


def with_codes(table: Table) -> str:
    """SELECT of all columns' values, then of the codes of errors (null: none) of those columns that can have one, in order of the rows."""
    values = [column.value for column in table.known]
    codes = [column.error for column in table.known if column.error is not None]
    return f"SELECT {', '.join([*values, *codes])} FROM {table.relation} t ORDER BY t.{ROW}"


def without_errors(table: Table) -> str:
    """SELECT of the rows that have no error."""
    return f"SELECT * FROM {table.relation} WHERE {' AND '.join(_none(table)) or 'true'}"


def with_errors(table: Table) -> str:
    """SELECT of the rows that have one."""
    return f"SELECT * FROM {table.relation} WHERE NOT ({' AND '.join(_none(table)) or 'true'})"


def as_rejects(table: Table, guard: bool) -> str:
    """SELECT of rows with their number, the columns that have errors and the kinds of these, before all columns as text."""
    wrong = [column for column in table.known if column.error is not None]
    names = ", ".join(f"CASE WHEN {column.error} IS NOT NULL THEN {literal(column.name)} END" for column in wrong)
    kinds = ", ".join(_error(column) for column in wrong)
    row, column, kind = _free(table.known, ("row", "error_column", "error_kind"))
    head = [f"t.{ROW} AS {row}", f"concat_ws('; ', {names or 'NULL'}) AS {column}", f"concat_ws('; ', {kinds or 'NULL'}) AS {kind}"]
    shown = [f"{_cell(each, guard, True)} AS {quoted(each.name)}" for each in table.known]
    return f"SELECT {', '.join([*head, *shown])} FROM {table.relation} t ORDER BY t.{ROW}"


def count_of_guarded(table: Table) -> list[str]:
    """Aggregates: for each column of text, the texts that get an apostrophe."""
    return [f"count(CASE WHEN {_formula(column.value)} THEN 1 END)" for column in table.known if column.type == TEXT]


def _none(table: Table) -> list[str]:
    return [f"{column.error} IS NULL" for column in table.known if column.error is not None]


def _free(columns: Sequence[Column], names: Sequence[str]) -> list[str]:
    """Names, with underscores where columns have them already."""
    taken = {column.name.casefold() for column in columns}
    found = []
    for name in names:
        while name in taken:
            name += "_"
        found.append(quoted(name))
    return found


def _cell(column: Column, guard: bool, errors: bool) -> str:
    value = column.value
    if column.type == TEXT and guard:
        value = f"CASE WHEN {_formula(value)} THEN concat('''', {value}) ELSE {value} END"
    if column.error is None or not errors:
        return value
    return f"CASE WHEN {column.error} IS NULL THEN CAST({value} AS VARCHAR) ELSE {_error(column)} END"


def _error(column: Column) -> str:
    cases = " ".join(f"WHEN {code} THEN {literal(text)}" for code, text in TEXTS.items())
    return f"CASE {column.error} {cases} END"


def _formula(text: str) -> str:
    """Whether a spreadsheet might take a text for a formula."""
    return f"regexp_matches({text}, {literal(_RUN)})"
