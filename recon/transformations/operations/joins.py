"""Operations on two tables: join, append."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from recon.config.fields import Text, Texts, as_list
from recon.errors import WrongUsage
from recon.transformations.operations.matching import equal_keys
from recon.transformations.operations.port import Names, Operation, Plan
from recon.transformations.operations.table import ROW, Column, Table
from recon.vocabulary.types import Type, common


class Join(Operation):
    """All pairs of rows with equal keys, in order of the left table, then of the right; columns of the right whose names are taken get
    ``_right`` behind them. ``how``: ``inner``, ``left`` (rows without a match stay), ``right`` (those of the right, at the end),
    ``full`` (both), or ``anti`` (only left rows without a match). A blank matches nothing. Unlike vlookup it may add rows."""

    KIND: ClassVar[str] = "join"
    with_: Annotated[Text, Field(alias="with")]
    on: Names
    match: Annotated[Texts | None, BeforeValidator(lambda value: None if value is None else as_list(value))] = None
    how: Literal["inner", "left", "right", "full", "anti"] = "inner"

    @property
    def inputs(self) -> list[str]:
        return [self.table, self.with_]

    def apply(self, plan: Plan, table: Table) -> Table:
        other = plan.tables[self.with_]
        keys, matches = [table.column(name) for name in self.on], [other.column(name) for name in self.match or self.on]
        if len(keys) != len(matches):
            raise WrongUsage(f"on has {len(keys)} columns and match {len(matches)}; name as many")
        pairs = [equal_keys(key, match, "l.", "r.") for key, match in zip(keys, matches, strict=True)]
        condition = " AND ".join(f"{mine} = {theirs}" for mine, theirs in pairs)
        left = [f"l.{sql}" for column in table.known for sql in column.sql]
        if self.how == "anti":
            missing = f"NOT EXISTS (SELECT 1 FROM {other.relation} r WHERE {condition})"
            found = f"SELECT l.{ROW}, {', '.join(left)} FROM {table.relation} l WHERE {missing}"
            return table.with_columns(table.known, plan.relation(found, stored=True))
        taken = {column.name.casefold() for column in table.known}
        names = [column.name if column.name.casefold() not in taken else f"{column.name}_right" for column in other.known]
        table.refuse_taken(names)
        new = plan.columns(len(names), [column.type for column in other.known], names)
        right = [part for made, column in zip(new, other.known, strict=True) for part in _taken(made, column)]
        kind = {"inner": "JOIN", "left": "LEFT JOIN", "right": "RIGHT JOIN", "full": "FULL JOIN"}[self.how]
        row = f"row_number() OVER (ORDER BY l.{ROW} NULLS LAST, r.{ROW})"
        joined = f"{table.relation} l {kind} {other.relation} r ON {condition}"
        relation = plan.relation(f"SELECT {row} AS {ROW}, {', '.join([*left, *right])} FROM {joined}", stored=True)
        return table.with_columns([*table.known, *new], relation)


def _taken(made: Column, column: Column) -> list[str]:
    return [f"r.{column.value} AS {made.value}", f"CAST({f'r.{column.error}' if column.error else 'NULL'} AS TINYINT) AS {made.error}"]


class Append(Operation):
    """The rows of other tables behind those of this one, by the columns' names; a column that one of them lacks is blank there."""

    KIND: ClassVar[str] = "append"
    rows_of: Names

    @property
    def inputs(self) -> list[str]:
        return [self.table, *self.rows_of]

    def apply(self, plan: Plan, table: Table) -> Table:
        tables = [table, *(plan.tables[name] for name in self.rows_of)]
        sides = [{column.name.casefold(): column for column in one.known} for one in tables]
        names = list(dict.fromkeys(name for side in sides for name in side))
        found = {name: [side[name] for side in sides if name in side] for name in names}
        kinds = [_common_type(columns) for columns in found.values()]
        new = plan.columns(len(names), kinds, [columns[0].name for columns in found.values()])
        parts = []
        for number, (one, side) in enumerate(zip(tables, sides, strict=True)):
            columns = [f"{number} AS s", ROW]
            for made, name in zip(new, names, strict=True):
                column = side.get(name)
                value = "NULL" if column is None else column.value
                columns += [f"CAST({value} AS {made.type.duckdb}) AS {made.value}"]
                columns += [f"CAST({'NULL' if column is None else column.code} AS TINYINT) AS {made.error}"]
            parts.append(f"SELECT {', '.join(columns)} FROM {one.relation}")
        kept = ", ".join(sql for made in new for sql in made.sql)
        union = " UNION ALL ".join(parts)
        relation = plan.relation(f"SELECT row_number() OVER (ORDER BY s, {ROW}) AS {ROW}, {kept} FROM ({union})", stored=True)
        return table.with_columns(new, relation)


def _common_type(columns: Sequence[Column]) -> Type:
    """The type of all columns that become one. Raises WrongUsage where they have none."""
    kind = columns[0].type
    for column in columns[1:]:
        found = common(kind, column.type)
        if found is None:
            raise WrongUsage(f"column {column.name!r} is {kind} in a table and {column.type} in another; cast one to the other")
        kind = found
    return kind
