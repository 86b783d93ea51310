"""Operations that turn rows into others: group, pivot, unpivot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from recon.config.fields import Section, Text, Texts, as_list, mistake
from recon.errors import WrongInput, WrongUsage
from recon.transformations.formulas.tree import DIV0, TEXTS
from recon.transformations.operations.columns import Names
from recon.transformations.operations.port import Operation, Plan
from recon.transformations.operations.rows import folded
from recon.transformations.operations.table import ROW, Column, Table
from recon.vocabulary import Node, check, emit_duckdb
from recon.vocabulary.duckdb import literal
from recon.vocabulary.tree import Expression
from recon.vocabulary.types import INTEGER, TEXT, Type, as_decimal, common, decimal

VALUES_MAX = 16_000
"""Distinct values of a pivot's column; a sheet has 16,384 columns."""
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


class Group(Operation):
    """One row for each combination of ``by``, in order of their first rows, with ``values``."""

    KIND: ClassVar[str] = "group"
    by: Names
    values: Annotated[dict[Text, Aggregate], Field(min_length=1)]

    def apply(self, plan: Plan, table: Table) -> Table:
        by = [table.column(name) for name in self.by]
        made = [aggregated(table, name, aggregate, "true") for name, aggregate in self.values.items()]
        _refuse_same([*self.by, *self.values])
        relation, columns = _grouped(plan, table, by, made, f"min({ROW})")
        return table.with_columns(columns, relation)


def _refuse_same(names: Sequence[str]) -> None:
    folded_names = [name.casefold() for name in names]
    if len(set(folded_names)) < len(folded_names):
        raise WrongUsage("two columns would have one name; choose others")


def _grouped(plan: Plan, table: Table, by: list[Column], made: list[tuple[str, Type, str, str]], row: str) -> tuple[str, list[Column]]:
    """The relation of groups. ``made``: name, type, SQL of the value and of its error."""
    keys = [part for column in by for part in folded(column)]
    new = plan.columns(
        len(by) + len(made), [*(c.type for c in by), *(kind for _, kind, _, _ in made)], [*(c.name for c in by), *(m[0] for m in made)]
    )
    parts = [f"{row} AS {ROW}"]
    for column, key in zip(new, by, strict=False):
        parts += [f"arg_min({key.value}, {ROW}) AS {column.value}", f"CAST(min({key.code}) AS TINYINT) AS {column.error}"]
    for column, (_, _, value, error) in zip(new[len(by) :], made, strict=True):
        parts += [f"{value} AS {column.value}", f"CAST({error} AS TINYINT) AS {column.error}"]
    grouped = f" GROUP BY {', '.join(keys)}" if keys else ""
    return plan.relation(f"SELECT {', '.join(parts)} FROM {table.relation}{grouped}", stored=True), new


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


class Pivot(Operation):
    """One row for each combination of ``rows``, sorted; for each value of ``columns`` one column of each of ``values``. ``totals`` adds a
    column and a row ``Total``. A value's name is the column's value, and, of several ``values``, with their names behind it."""

    KIND: ClassVar[str] = "pivot"
    rows: Names
    columns: Text
    values: Annotated[dict[Text, Aggregate], Field(min_length=1)]
    totals: bool = False

    def apply(self, plan: Plan, table: Table) -> Table:
        rows, across = [table.column(name) for name in self.rows], table.column(self.columns)
        for name, aggregate in self.values.items():
            aggregated(table, name, aggregate, "true")
        if plan.query is None:
            return Table(table.name, "", None)
        made = [one for value, shown in self._across(plan, table, across) for one in self._cells(table, across, value, shown)]
        if self.totals:
            made += [aggregated(table, self._named("Total", name), aggregate, "true") for name, aggregate in self.values.items()]
        _refuse_same([*self.rows, *(one[0] for one in made)])
        grouped, columns = _grouped(plan, table, rows, made, f"min({ROW})")
        order = ", ".join(part for column in columns[: len(rows)] for part in (f"{column.value} IS NULL", folded(column)[0]))
        parts = ", ".join(sql for column in columns for sql in column.sql)
        body = f"SELECT row_number() OVER (ORDER BY {order}) AS {ROW}, {parts} FROM {grouped}"
        if not self.totals:
            return table.with_columns(columns, plan.relation(body, stored=True))
        return table.with_columns(columns, plan.relation(f"{body} UNION ALL {self._total_row(table, rows, made, columns)}", stored=True))

    def _across(self, plan: Plan, table: Table, across: Column) -> list[tuple[str, str]]:
        """The distinct values, folded and shown, in order. Raises WrongInput for an error among them, or too many."""
        assert plan.query is not None
        if across.error and (
            wrong := plan.query(f"SELECT {ROW}, {across.error} FROM {table.relation} WHERE {across.error} IS NOT NULL LIMIT 1")
        ):
            raise WrongInput(f"row {wrong[0][0]}: {across.name!r} is {TEXTS[int(wrong[0][1])]}; use IFERROR before the pivot")
        shown = f"arg_min(CAST({across.value} AS VARCHAR), {ROW})"
        key = f"CAST({folded(across)[0]} AS VARCHAR)"
        order = f"{'lower' if across.type == TEXT else ''}(any_value({across.value}))"
        found = plan.query(f"SELECT {key}, {shown} FROM {table.relation} GROUP BY 1 ORDER BY {order} NULLS LAST LIMIT {VALUES_MAX + 1}")
        if len(found) > VALUES_MAX:
            ((count,),) = plan.query(f"SELECT count(DISTINCT {key}) FROM {table.relation}")
            raise WrongInput(
                f"{across.name!r} has {count:,} values; a pivot has a column for each of at most {VALUES_MAX:,}, so group first"
            )
        return [(value, "(blank)" if text is None else text) for value, text in found]

    def _cells(self, table: Table, across: Column, value: str | None, shown: str) -> list[tuple[str, Type, str, str]]:
        key = f"CAST({folded(across)[0]} AS VARCHAR)"
        condition = f"{key} IS NULL" if value is None else f"{key} = {literal(value)}"
        return [aggregated(table, self._named(shown, name), aggregate, condition) for name, aggregate in self.values.items()]

    def _named(self, shown: str, name: str) -> str:
        return shown if len(self.values) == 1 else f"{shown} {name}"

    def _total_row(self, table: Table, rows: list[Column], made: list[tuple[str, Type, str, str]], columns: list[Column]) -> str:
        """SELECT of the row of totals. Its first key says Total, where that is a text."""
        parts = [f"{2**62} AS {ROW}"]
        for number, column in enumerate(columns[: len(rows)]):
            text = literal("Total") if number == 0 and column.type == TEXT else f"CAST(NULL AS {column.type.duckdb})"
            parts += [text, "CAST(NULL AS TINYINT)"]
        for _, _, value, error in made:
            parts += [value, f"CAST({error} AS TINYINT)"]
        return f"SELECT {', '.join(parts)} FROM {table.relation}"


class Unpivot(Operation):
    """A row for each of ``columns``, with its name in ``names`` and its value in ``values``; the other columns are repeated. Blanks are
    left out unless ``blanks: keep``."""

    KIND: ClassVar[str] = "unpivot"
    columns: Annotated[Texts, BeforeValidator(as_list), Field(min_length=1)]
    names: Text
    values: Text
    blanks: Literal["drop", "keep"] = "drop"

    def apply(self, plan: Plan, table: Table) -> Table:
        chosen = [table.column(name) for name in self.columns]
        kept = [column for column in table.known if column not in chosen]
        kind = chosen[0].type
        for column in chosen[1:]:
            found = common(kind, column.type)
            if found is None:
                raise WrongUsage(
                    f"column {column.name!r} is {column.type} and {chosen[0].name!r} is {chosen[0].type}; cast one to the other"
                )
            kind = found
        name, value = plan.columns(2, [TEXT, kind], [self.names, self.values])
        name = Column(name.name, TEXT, name.value)
        table.with_columns(kept, "").refuse_taken([self.names, self.values])
        parts = []
        for number, column in enumerate(chosen):
            columns = [f"{number} AS s", ROW, *(sql for one in kept for sql in one.sql), f"{literal(column.name)} AS {name.value}"]
            columns += [f"CAST({column.value} AS {kind.duckdb}) AS {value.value}", f"CAST({column.code} AS TINYINT) AS {value.error}"]
            where = f" WHERE {column.value} IS NOT NULL OR {column.code} IS NOT NULL" if self.blanks == "drop" else ""
            parts.append(f"SELECT {', '.join(columns)} FROM {table.relation}{where}")
        all_columns = [*kept, name, value]
        listed = ", ".join(sql for column in all_columns for sql in column.sql)
        union = " UNION ALL ".join(parts)
        relation = plan.relation(f"SELECT row_number() OVER (ORDER BY {ROW}, s) AS {ROW}, {listed} FROM ({union})", stored=True)
        return table.with_columns(all_columns, relation)
