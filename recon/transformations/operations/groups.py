"""Operations that turn rows into others: group, pivot, unpivot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from recon.config.fields import Text, Texts, as_list
from recon.errors import WrongInput, WrongUsage
from recon.transformations.formulas.tree import TEXTS
from recon.transformations.operations.aggregates import Aggregate, aggregated
from recon.transformations.operations.port import Names, Operation, Plan
from recon.transformations.operations.table import ROW, Column, Table, folded
from recon.vocabulary.duckdb import literal
from recon.vocabulary.types import TEXT, Type, common

VALUES_MAX = 16_000
"""Distinct values of a pivot's column; a sheet has 16,384 columns."""


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
