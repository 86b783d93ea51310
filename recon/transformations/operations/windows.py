"""Operations that look at other rows: running_total, share, rank, lag, lead, fill_down, number_rows."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field

from recon.config.fields import Text, Texts, as_list
from recon.errors import WrongUsage
from recon.transformations.formulas.layers import column as named
from recon.transformations.formulas.tree import DIV0, NUM
from recon.transformations.operations.port import Kept, Operation, Plan, by_name
from recon.transformations.operations.table import ROW, Column, Table, folded
from recon.vocabulary import check, emit_duckdb
from recon.vocabulary.tree import Expression
from recon.vocabulary.types import INTEGER, Type, decimal


class _PerGroup(Operation):
    """``to``: the new column. ``by``: the groups within which rows are looked at; none: all rows."""

    KEEPS_ROWS: ClassVar[bool] = True
    LOOKS_ROUND: ClassVar[bool] = True
    to: Text
    by: Annotated[Texts, BeforeValidator(as_list)] = ()

    def keys(self, table: Table) -> tuple[str, ...]:
        """SQL of what rows of a group have in common."""
        return tuple(part for name in self.by for part in folded(table.column(name)))

    def over(self, table: Table, order: str = f"ORDER BY {ROW}") -> str:
        keys = ", ".join(self.keys(table))
        return f"OVER ({' '.join(filter(None, [keys and f'PARTITION BY {keys}', order]))})"

    def added(self, plan: Plan, table: Table, kind: Type, value: str, error: str = "NULL") -> Table:
        """The table with the new column."""
        table.refuse_taken([self.to])
        (made,) = plan.columns(1, [kind], [self.to], errors=error != "NULL")
        added = [f"{value} AS {made.value}", *([f"CAST({error} AS TINYINT) AS {made.error}"] if made.error else [])]
        columns = [ROW, *(sql for column in table.known for sql in column.sql), *added]
        relation = plan.relation(f"SELECT {', '.join(columns)} FROM {table.relation}", stored=True)
        plan.kept[relation] = Kept(table.relation, added=by_name(added), around=True, groups=self.keys(table))
        return table.with_columns([*table.known, made], relation)


class RunningTotal(_PerGroup):
    """The sum of a column up to and with the row; a blank adds nothing. From an error on, the total is that error."""

    KIND: ClassVar[str] = "running_total"
    of: Text

    def apply(self, plan: Plan, table: Table) -> Table:
        column = _number(table, self.of, "a running total")
        total, over = decimal(38, column.type.scale), self.over(table, f"ORDER BY {ROW} ROWS UNBOUNDED PRECEDING")
        error = f"first({column.error} IGNORE NULLS) {over}" if column.error else "NULL"
        value = f"CAST(coalesce(sum({column.value}) {over}, 0) AS {total.duckdb})"
        return self.added(plan, table, total, f"CASE WHEN {error} IS NULL THEN {value} END", error)


class Rank(_PerGroup):
    """The place of a row's number among those of its group, 1 for the greatest, or with ``ascending`` for the least; equal numbers have one
    place, as RANK.EQ has it. A blank has none, and the error of an error is its own."""

    KIND: ClassVar[str] = "rank"
    of: Text
    ascending: bool = False

    def apply(self, plan: Plan, table: Table) -> Table:
        column = _number(table, self.of, "rank")
        over = self.over(table, f"ORDER BY {column.value} {'ASC' if self.ascending else 'DESC'} NULLS LAST")
        value = f"CASE WHEN {column.value} IS NOT NULL THEN CAST(rank() {over} AS BIGINT) END"
        return self.added(plan, table, INTEGER, value, column.code)


class Lag(_PerGroup):
    """A column's value some ``rows`` before, blank where there is none; below 0 that many after."""

    KIND: ClassVar[str] = "lag"
    of: Text
    rows: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] = 1

    def apply(self, plan: Plan, table: Table) -> Table:
        column, over = table.column(self.of), self.over(table)
        function = "lag" if self.rows >= 0 else "lead"
        error = f"{function}({column.error}, {abs(self.rows)}) {over}" if column.error else "NULL"
        return self.added(plan, table, column.type, f"{function}({column.value}, {abs(self.rows)}) {over}", error)


class Lead(_PerGroup):
    """A column's value some ``rows`` after, blank where there is none."""

    KIND: ClassVar[str] = "lead"
    of: Text
    rows: Annotated[int, Field(ge=0, le=1_000_000)] = 1

    def apply(self, plan: Plan, table: Table) -> Table:
        return Lag(table=self.table, to=self.to, by=self.by, of=self.of, rows=-self.rows).apply(plan, table)


class Share(_PerGroup):
    """A column's value divided by the sum of its group, with ten digits after the point, halves away from zero; #DIV/0! where the sum is 0.
    A blank stays one; an error in the group is the result of all its rows."""

    KIND: ClassVar[str] = "share"
    of: Text

    def apply(self, plan: Plan, table: Table) -> Table:
        column = _number(table, self.of, "a share")
        total = decimal(38, column.type.scale)
        over = self.over(table, "")
        summed = f"CAST(sum({column.value}) {over} AS {total.duckdb})"
        tree = check.arithmetic("div", named("v", column.type), named("s", total))
        value = emit_duckdb(Expression("", tree.type, frozenset("vs"), tree), {"v": column.value, "s": summed})
        wrong = [f"min({column.error}) {over}"] if column.error else []
        none = f"CASE WHEN {summed} = 0 THEN {DIV0} WHEN ({value}) IS NULL THEN {NUM} END"
        code = f"coalesce({', '.join([*wrong, f'CASE WHEN {column.value} IS NOT NULL THEN {none} END'])})"
        return self.added(plan, table, tree.type, f"CASE WHEN {code} IS NULL THEN {value} END", code)


class NumberRows(_PerGroup):
    """The number of a row within its group, from 1."""

    KIND: ClassVar[str] = "number_rows"

    def apply(self, plan: Plan, table: Table) -> Table:
        return self.added(plan, table, INTEGER, f"row_number() {self.over(table)}")


class FillDown(Operation):
    """Blanks of columns get the value of the nearest row above that has one; an error is a value."""

    KIND: ClassVar[str] = "fill_down"
    KEEPS_ROWS: ClassVar[bool] = True
    columns: Annotated[Texts, BeforeValidator(as_list), Field(min_length=1)]

    def apply(self, plan: Plan, table: Table) -> Table:
        chosen = {table.column(name).name for name in self.columns}
        new = plan.columns(len(table.known), [column.type for column in table.known], [column.name for column in table.known])
        inner, parts = [ROW], [ROW]
        for number, (made, column) in enumerate(zip(new, table.known, strict=True)):
            inner += column.sql
            if column.name in chosen:
                filled = f"({column.value} IS NOT NULL OR {column.code} IS NOT NULL)"
                inner.append(f"count(CASE WHEN {filled} THEN 1 END) OVER (ORDER BY {ROW} ROWS UNBOUNDED PRECEDING) AS g{number}")
                within = f"OVER (PARTITION BY g{number} ORDER BY {ROW} ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)"
                parts += [f"first_value({column.value}) {within} AS {made.value}"]
                parts += [
                    f"CAST(first_value({column.code}) {within} AS TINYINT) AS {made.error}"
                    if column.error
                    else f"CAST(NULL AS TINYINT) AS {made.error}"
                ]
            else:
                parts += [f"{column.value} AS {made.value}", f"CAST({column.code} AS TINYINT) AS {made.error}"]
        source = f"(SELECT {', '.join(inner)} FROM {table.relation})"
        return table.with_columns(new, plan.relation(f"SELECT {', '.join(parts)} FROM {source}", stored=True))


def _number(table: Table, name: str, what: str) -> Column:
    column = table.column(name)
    if not column.type.is_number:
        raise WrongUsage(f"{what} needs numbers, and {column.name!r} is {column.type}; declare its type, or use VALUE in a formula")
    return column
