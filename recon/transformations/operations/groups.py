"""Operations that turn rows into others: group, unpivot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from recon.config.fields import Text, Texts, as_list
from recon.errors import WrongUsage
from recon.transformations.operations.aggregates import Aggregate, aggregated
from recon.transformations.operations.port import Names, Operation, Plan
from recon.transformations.operations.table import ROW, Column, Table, folded
from recon.vocabulary.duckdb import literal
from recon.vocabulary.types import TEXT, Type, common


class Group(Operation):
    """One row for each combination of ``by``, in order of their first rows, with ``values``."""

    KIND: ClassVar[str] = "group"
    by: Names
    values: Annotated[dict[Text, Aggregate], Field(min_length=1)]

    def apply(self, plan: Plan, table: Table) -> Table:
        by = [table.column(name) for name in self.by]
        made = [aggregated(table, name, aggregate, "true") for name, aggregate in self.values.items()]
        refuse_same([*self.by, *self.values])
        return _grouped(plan, table, by, made)


def refuse_same(names: Sequence[str]) -> None:
    """Raises WrongUsage for names that differ only in their case."""
    folded_names = [name.casefold() for name in names]
    if len(set(folded_names)) < len(folded_names):
        raise WrongUsage("two columns would have one name; choose others")


def _grouped(plan: Plan, table: Table, by: list[Column], made: list[tuple[str, Type, str, str]]) -> Table:
    """The table of groups. ``made``: name, type, SQL of the value and of its error."""
    keys = [part for column in by for part in folded(column)]
    new = plan.columns(
        len(by) + len(made), [*(c.type for c in by), *(kind for _, kind, _, _ in made)], [*(c.name for c in by), *(m[0] for m in made)]
    )
    parts = [f"min({ROW}) AS {ROW}"]
    for column, key in zip(new, by, strict=False):
        parts += [f"arg_min({key.value}, {ROW}) AS {column.value}", f"CAST(min({key.code}) AS TINYINT) AS {column.error}"]
    for column, (_, _, value, error) in zip(new[len(by) :], made, strict=True):
        parts += [f"{value} AS {column.value}", f"CAST({error} AS TINYINT) AS {column.error}"]
    grouped = f" GROUP BY {', '.join(keys)}" if keys else ""
    return table.with_columns(new, plan.relation(f"SELECT {', '.join(parts)} FROM {table.relation}{grouped}", stored=True))


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
        names = {column.name for column in chosen}
        kept = [column for column in table.known if column.name not in names]
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
