"""Operations on two tables: join, append."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from recon.config.fields import Text, Texts, as_list
from recon.errors import WrongUsage
from recon.transformations.operations.columns import Names
from recon.transformations.operations.matching import equal_keys
from recon.transformations.operations.port import Operation, Plan
from recon.transformations.operations.table import ROW, Column, Table
from recon.vocabulary.types import common


class Join(Operation):
    """All pairs of rows with equal keys, in order of the left table, then of the right; columns of the right whose names are taken get
    ``_right`` behind them. ``how``: ``inner``, ``left`` (rows without a match stay), ``full`` (those of the right too, at the end), or
    ``anti`` (only left rows without a match). A blank matches nothing. Unlike vlookup it may add rows."""

    KIND: ClassVar[str] = "join"
    with_: Annotated[Text, Field(alias="with")]
    on: Names
    match: Annotated[Texts | None, BeforeValidator(lambda value: None if value is None else as_list(value))] = None
    how: Literal["inner", "left", "full", "anti"] = "inner"

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
        kind = {"inner": "JOIN", "left": "LEFT JOIN", "full": "FULL JOIN"}[self.how]
        row = f"row_number() OVER (ORDER BY l.{ROW} NULLS LAST, r.{ROW})"
        joined = f"{table.relation} l {kind} {other.relation} r ON {condition}"
        relation = plan.relation(f"SELECT {row} AS {ROW}, {', '.join([*left, *right])} FROM {joined}", stored=True)
        return table.with_columns([*table.known, *new], relation)


def _taken(made: Column, column: Column) -> list[str]:
    return [f"r.{column.value} AS {made.value}", f"CAST({f'r.{column.error}' if column.error else 'NULL'} AS TINYINT) AS {made.error}"]


class Append(Operation):
    """The rows of another table behind those of this one, by the columns' names; a column that one of them lacks is blank there."""

    KIND: ClassVar[str] = "append"
    rows_of: Text

    @property
    def inputs(self) -> list[str]:
        return [self.table, self.rows_of]

    def apply(self, plan: Plan, table: Table) -> Table:
        other = plan.tables[self.rows_of]
        mine, theirs = ({column.name.casefold(): column for column in one.known} for one in (table, other))
        names = [*mine, *(name for name in theirs if name not in mine)]
        kinds = []
        for name in names:
            found = [side[name] for side in (mine, theirs) if name in side]
            kind = found[0].type if len(found) == 1 else common(found[0].type, found[1].type)
            if kind is None:
                raise WrongUsage(f"column {found[0].name!r} is {found[0].type} here and {found[1].type} there; cast one to the other")
            kinds.append(kind)
        new = plan.columns(len(names), kinds, [(mine.get(name) or theirs[name]).name for name in names])
        parts = []
        for number, side in enumerate((mine, theirs)):
            columns = [f"{number} AS s", ROW]
            for made, name in zip(new, names, strict=True):
                column = side.get(name)
                value = "NULL" if column is None else column.value
                columns += [f"CAST({value} AS {made.type.duckdb}) AS {made.value}"]
                columns += [f"CAST({'NULL' if column is None else column.code} AS TINYINT) AS {made.error}"]
            parts.append(f"SELECT {', '.join(columns)} FROM {(table if number == 0 else other).relation}")
        kept = ", ".join(sql for made in new for sql in made.sql)
        union = " UNION ALL ".join(parts)
        relation = plan.relation(f"SELECT row_number() OVER (ORDER BY s, {ROW}) AS {ROW}, {kept} FROM ({union})", stored=True)
        return table.with_columns(new, relation)
