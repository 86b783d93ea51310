"""pivot: one aggregation makes the cells, and a second puts them side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, ClassVar

from pydantic import Field

from recon.config.fields import Text
from recon.errors import WrongInput
from recon.transformations.formulas.tree import DIV0, TEXTS
from recon.transformations.operations.aggregates import Aggregate, aggregated
from recon.transformations.operations.groups import refuse_same
from recon.transformations.operations.port import Names, Operation, Plan
from recon.transformations.operations.table import ROW, Column, Table, folded
from recon.vocabulary.duckdb import literal
from recon.vocabulary.types import TEXT, Type

VALUES_MAX = 16_000
"""Distinct values of a pivot's column; a sheet has 16,384 columns."""

VECTOR, AT_LEAST, ENOUGH = 2_048, 1.9, 5
"""DuckDB's vectors have so many values, whatever the number of rows. What a pivot of 15,990 columns of 38 digits took, in multiples of one
vector of each column: less than 1.9 failed, 5 was enough with an output in text."""


class Pivot(Operation):
    """One row for each combination of ``rows``, sorted; for each value of ``columns`` one column of each of ``values``. ``totals`` adds a
    column and a row ``Total``. A value's name is the column's value, and, of several ``values``, with their names behind it. A cell without
    rows has what the aggregate of nothing is: a sum and a count are 0, an average is #DIV/0!, others are blank."""

    KIND: ClassVar[str] = "pivot"
    rows: Names
    columns: Text
    values: Annotated[dict[Text, Aggregate], Field(min_length=1)]
    totals: bool = False

    def apply(self, plan: Plan, table: Table) -> Table:
        rows, across = [table.column(name) for name in self.rows], table.column(self.columns)
        made = [aggregated(table, name, aggregate, "true") for name, aggregate in self.values.items()]
        if plan.query is None:
            return Table(table.name, "", None)
        found = self._across(plan, table, across)
        shown = [text for _, text in found] + (["Total"] if self.totals else [])
        names = [*self.rows, *(text if len(made) == 1 else f"{text} {name}" for text in shown for name in self.values)]
        refuse_same(names)
        self._refuse_too_wide(plan, [kind for _, kind, _, _ in made] * len(shown))
        cells = plan.relation(self._cells(table, rows, across, [value for value, _ in found]), stored=True)
        wrong = self._wrong(plan, cells)
        new = plan.columns(len(names), [*(row.type for row in rows), *[kind for _, kind, _, _ in made] * len(shown)], names)
        parts = [ROW]
        for at, column in enumerate(new[: len(rows)]):
            parts += [f"w{at} AS {column.value}", f"CAST(z{at} AS TINYINT) AS {column.error}"]
        places = [(place, at) for place in range(len(shown)) for at in range(len(made))]
        for number, (place, at) in enumerate(places, len(rows)):
            new[number], sql = self._cell(new[number], (place, at), wrong[at])
            parts += sql
        aggregates = ", ".join(f"min({name}{at}) AS {name}{at}" for at in range(len(made)) for name in ("ve" if wrong[at] else "v"))
        keys = ", ".join([ROW, *(f"{name}{at}" for at in range(len(rows)) for name in "wz")])
        # An aggregate with a FILTER for each column would take memory by the square of their number.
        pivoted = f"PIVOT ({aggregates} FOR i IN ({', '.join(map(str, range(max(1, len(shown)))))}) GROUP BY {keys})"
        return table.with_columns(
            new, plan.relation(f"SELECT {', '.join(parts)} FROM {self._numbered(plan, cells, rows)} {pivoted}", stored=True)
        )

    def _refuse_too_wide(self, plan: Plan, kinds: Sequence[Type]) -> None:
        """Raises WrongInput, before anything is computed, for columns that the memory surely does not hold: the engine has ``VECTOR``
        values of each at a time, in the pivot's own rows and in those that are stored."""
        one = VECTOR * sum(8 if kind.duckdb in ("BIGINT", "DATE", "DOUBLE") else 16 for kind in kinds)
        if plan.memory is not None and plan.memory < AT_LEAST * one:
            needed = f"{max(1, round(ENOUGH * one / 10**6)):,}MB"
            raise WrongInput(
                f"the pivot has {len(kinds):,} columns, which need about {needed} of memory at once, and memory_limit is "
                f"{plan.memory / 10**6:,.0f}MB; write memory_limit: {needed.replace(',', '')} in the request, or group values first"
            )

    def _wrong(self, plan: Plan, cells: str) -> list[bool]:
        """For each of ``values``, whether any cell is an error. Thousands of columns of codes that all are null take half of the memory."""
        assert plan.query is not None
        ((*counts,),) = plan.query(f"SELECT {', '.join(f'count(e{at})' for at in range(len(self.values)))} FROM {cells}")
        return [count > 0 for count in counts]

    def _numbered(self, plan: Plan, cells: str, rows: Sequence[Column]) -> str:
        """The cells with the number of their row, and with what it shows of its keys. Rows are in order of their keys, blanks last, and the
        row of totals behind; its first key says Total, where that is a text, and its other keys are blank."""
        keys = ["t", *(f"f{at}" for at in range(sum(len(folded(row)) for row in rows)))]
        firsts = [f"arg_min(w{at}, {ROW}) AS w{at}, min(z{at}) AS z{at}" for at in range(len(rows))]
        groups = plan.relation(f"SELECT {', '.join([*keys, *firsts])} FROM {cells} GROUP BY {', '.join(keys)}", stored=True)
        order, parts = ["t"], list(keys)
        for at, row in enumerate(rows):
            order += [f"w{at} IS NULL", folded(Column("", row.type, f"w{at}"))[0]]
            total = "'Total'" if at == 0 and row.type == TEXT else "NULL"
            parts += [f"CASE WHEN t = 1 THEN {total} ELSE w{at} END AS w{at}", f"CASE WHEN t = 1 THEN NULL ELSE z{at} END AS z{at}"]
        number = f"row_number() OVER (ORDER BY {', '.join(order)}) AS {ROW}"
        numbered = plan.relation(f"SELECT {', '.join([number, *parts])} FROM {groups}", stored=True)
        same = " AND ".join(f"c.{key} IS NOT DISTINCT FROM k.{key}" for key in keys)
        shown = [f"k.{name}{at} AS {name}{at}" for at in range(len(rows)) for name in "wz"]
        aggregates = [f"c.{name}{at} AS {name}{at}" for at in range(len(self.values)) for name in "ve"]
        listed = ", ".join([f"k.{ROW} AS {ROW}", *shown, "c.i AS i", *aggregates])
        return plan.relation(f"SELECT {listed} FROM {cells} c JOIN {numbered} k ON {same}", stored=True)

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

    def _cells(self, table: Table, rows: Sequence[Column], across: Column, values: Sequence[str | None]) -> str:
        """SELECT of a row for each cell: its keys f, the first of their values w and of their errors z, the place i of its column, and the
        aggregates v and errors e. t is 1 for the row of totals."""
        keys, parts = [part for row in rows for part in folded(row)], [f"min({ROW}) AS {ROW}"]
        parts += [f"{key} AS f{at}" for at, key in enumerate(keys)]
        for at, row in enumerate(rows):
            parts += [f"arg_min({row.value}, {ROW}) AS w{at}", f"min({row.code}) AS z{at}"]
        for at, (name, aggregate) in enumerate(self.values.items()):
            _, _, value, error = aggregated(table, name, aggregate, "true")
            parts += [f"{value} AS v{at}", f"CAST({error} AS TINYINT) AS e{at}"]
        listed = [f"({'CAST(NULL AS VARCHAR)' if value is None else literal(value)}, {place})" for place, value in enumerate(values)]
        named = f"(VALUES {', '.join(listed or ['(CAST(NULL AS VARCHAR), 0)'])}) s(k, i)"
        source = f"{table.relation} JOIN {named} ON CAST({folded(across)[0]} AS VARCHAR) IS NOT DISTINCT FROM k"
        if not self.totals:
            return f"SELECT 0 AS t, i, {', '.join(parts)} FROM {source} GROUP BY i, {', '.join(keys)}"
        sets = f"({', '.join(['i', *keys])}), ({', '.join(keys)}), (i), ()"
        of_totals = f"GROUPING({keys[0]}) AS t, coalesce(i, {len(values)}) AS i"
        return f"SELECT {of_totals}, {', '.join(parts)} FROM {source} GROUP BY GROUPING SETS ({sets})"

    def _cell(self, column: Column, of: tuple[int, int], wrong: bool) -> tuple[Column, list[str]]:
        """A column, of which each row has one cell or none, and SQL of its value and error. ``of``: its place and its aggregate. ``wrong``:
        whether any cell of that aggregate is an error."""
        place, at = of
        kind = list(self.values.values())[at].of[0]
        value, error = f'"{place}_v{at}"', f'"{place}_e{at}"' if wrong else ""
        if kind in ("sum", "count", "count_distinct"):
            filled = f"coalesce({value}, CAST(0 AS {column.type.duckdb}))"
            value = f"CASE WHEN {error} IS NULL THEN {filled} END" if wrong else filled
        elif kind == "average":
            missing = f"CASE WHEN {value} IS NULL THEN {DIV0} END"
            error = f"coalesce({error}, {missing})" if wrong else missing
        if not error:
            return replace(column, error=None), [f"{value} AS {column.value}"]
        return column, [f"{value} AS {column.value}", f"CAST({error} AS TINYINT) AS {column.error}"]
