"""What many values become: sum, count, average and others, in SQL."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import model_validator

from recon.config.fields import Section, Text, mistake
from recon.errors import WrongUsage
from recon.transformations.formulas.tree import DIV0
from recon.transformations.operations.table import ROW, Column, Table, folded
from recon.vocabulary import Node, check, emit_duckdb
from recon.vocabulary.tree import Expression
from recon.vocabulary.types import INTEGER, Type, as_decimal, decimal

Kind = Literal["sum", "count", "average", "min", "max", "median", "count_distinct", "first", "last"]


class Aggregate(Section):
    """``{sum: amount}``: sum, count, average, min, max or median of a column; blanks are left out, an error is the result. ``count`` and
    ``count_distinct`` (texts without regard to case) take any column, and leave errors out. ``first`` and ``last`` are the values of the
    first and the last row that has one; an error is a value. Of an even number of values the median is the middle of two, exactly."""

    sum: Text | None = None
    count: Text | None = None
    average: Text | None = None
    min: Text | None = None
    max: Text | None = None
    median: Text | None = None
    count_distinct: Text | None = None
    first: Text | None = None
    last: Text | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Aggregate:
        if len(self._named()) != 1:
            raise mistake(f"name exactly one of {', '.join(get_args(Kind))}, such as {{sum: amount}}")
        return self

    def _named(self) -> list[tuple[Any, str]]:
        return [(kind, column) for kind, column in self if column is not None]

    @property
    def of(self) -> tuple[Kind, str]:
        """The kind and the column."""
        return self._named()[0]


def aggregated(table: Table, name: str, aggregate: Aggregate, condition: str) -> tuple[str, Type, str, str]:
    """Name, type, SQL of the value and of its error, over the rows for which ``condition`` holds. Raises WrongUsage."""
    kind, column = aggregate.of[0], table.column(aggregate.of[1])
    where = f" FILTER (WHERE {condition})"
    error = f"min({column.code}){where}"
    if kind in ("count", "count_distinct"):
        counted = column.value if kind == "count" else f"DISTINCT {folded(column)[0]}"
        return name, INTEGER, f"count({counted}){where}", "NULL"
    if kind in ("first", "last"):
        return name, column.type, *_at_end(column, kind, condition)
    if not column.type.is_number and not (kind in ("min", "max") and column.type.kind == "date"):
        raise WrongUsage(f"{kind} needs numbers, and {column.name!r} is {column.type}; declare its type, or use VALUE in a formula")
    if kind in ("min", "max"):
        return name, column.type, f"CASE WHEN {error} IS NULL THEN {kind}({column.value}){where} END", error
    if kind == "median":
        middle, value = _median(column, where)
        return name, middle, f"CASE WHEN {error} IS NULL THEN {value} END", error
    total = decimal(38, column.type.scale)
    summed = f"CAST(coalesce(sum({column.value}){where}, 0) AS {total.duckdb})"
    if kind == "sum":
        return name, total, f"CASE WHEN {error} IS NULL THEN {summed} END", error
    count = f"count({column.value}){where}"
    operands = (Node("column", (), total, "s"), Node("column", (), INTEGER, "k"))
    tree = check.arithmetic("div", *operands)
    divided = emit_duckdb(Expression("", tree.type, frozenset("sk"), tree), {"s": summed, "k": count})
    return name, tree.type, f"CASE WHEN {error} IS NULL THEN {divided} END", f"coalesce({error}, CASE WHEN {count} = 0 THEN {DIV0} END)"


def _at_end(column: Column, kind: str, condition: str) -> tuple[str, str]:
    """SQL of the value and the error of the first or the last row that has either."""
    by, row, sign = ("min_by", "min", "<") if kind == "first" else ("max_by", "max", ">")

    def found(what: str, of: str) -> str:
        return f"{what} FILTER (WHERE {condition} AND {of} IS NOT NULL)"

    value = found(f"{by}({column.value}, {ROW})", column.value)
    if column.error is None:
        return value, "NULL"
    of_value, of_error = found(f"{row}({ROW})", column.value), found(f"{row}({ROW})", column.error)
    wrong = f"coalesce({of_error} {sign} {of_value}, {of_error} IS NOT NULL)"
    return f"CASE WHEN NOT {wrong} THEN {value} END", f"CASE WHEN {wrong} THEN {found(f'{by}({column.error}, {ROW})', column.error)} END"


def _median(column: Column, where: str) -> tuple[Type, str]:
    """The type and the SQL of the median. Raises WrongUsage for numbers with so many digits that the middle of two has more than 38."""
    kind = as_decimal(column.type)
    if kind.precision > 36:
        raise WrongUsage(f"median: {column.name!r} has {kind.precision} digits, at most 36 are possible; cast it first")
    middle = decimal(kind.precision + 2, kind.scale + 1)
    low, high = (f"percentile_disc(0.5) WITHIN GROUP (ORDER BY {column.value}{way}){where}" for way in ("", " DESC"))
    return middle, f"CAST((CAST({low} AS {middle.duckdb}) + CAST({high} AS {middle.duckdb})) * 0.5 AS {middle.duckdb})"
