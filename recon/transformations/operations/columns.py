"""Operations on columns: compute, select, drop, rename."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field

from recon.config.fields import Text, Texts, as_list
from recon.errors import WrongUsage
from recon.transformations.formulas.compile import Compiler
from recon.transformations.formulas.functions import FUNCTIONS
from recon.transformations.formulas.layers import Layers, Value, sql_of
from recon.transformations.formulas.parse import parsed
from recon.transformations.operations.port import Operation, Plan
from recon.transformations.operations.table import ROW, Column, Table, select

Names = Annotated[Texts, BeforeValidator(as_list), Field(min_length=1)]


class Compute(Operation):
    """New columns by formulas, such as ``{total: "=[@amount]*1.05"}``; a later one may use those before it."""

    KIND: ClassVar[str] = "compute"
    KEEPS_ROWS: ClassVar[bool] = True
    set: Annotated[dict[Text, Text], Field(min_length=1)]

    def apply(self, plan: Plan, table: Table) -> Table:
        table.refuse_taken(list(self.set))
        for number, (name, text) in enumerate(self.set.items(), 1):
            table = _computed(plan, table, name, text, stored=number == len(self.set))
        return table


def _computed(plan: Plan, table: Table, name: str, text: str, stored: bool) -> Table:
    """The table with one column more. ``stored``: the last of an operation, so that the next reads the results and does not compute
    them."""
    layers = Layers(f"t{plan.first + len(plan.made)}_")
    value = compiled(plan, table, layers, name, text)
    kind, (made,) = value.type, plan.columns(1, [value.type], [name])
    code = value.error or "NULL"
    literal = f"CAST(NULL AS {kind.duckdb})" if value.untyped else sql_of(value.node)
    columns = [ROW, *(sql for column in table.known for sql in column.sql), f"{literal} AS {made.value}"]
    if value.error is not None:
        columns.append(f"CAST({code} AS TINYINT) AS {made.error}")
    else:
        made = Column(made.name, made.type, made.value)
    relation = plan.relation(f"SELECT {', '.join(columns)} FROM ({layers.over(table.relation)})", stored)
    return table.with_columns([*table.known, made], relation)


def compiled(plan: Plan, table: Table, layers: Layers, what: str, text: str) -> Value:
    """The value of a formula over a table's columns. Raises WrongUsage that begins with ``what``."""
    columns = {column.name: column.as_value() for column in table.known}
    try:
        compiler = Compiler(layers, columns, plan.settings, FUNCTIONS)
        value = compiler.value(parsed(text))
    except WrongUsage as error:
        raise WrongUsage(f"{what}: {error}") from None
    if compiler.approximated:
        plan.figures["approximate"] = True
    return value


class Select(Operation):
    """Only these columns, in this order."""

    KIND: ClassVar[str] = "select"
    KEEPS_ROWS: ClassVar[bool] = True
    columns: Names

    def apply(self, plan: Plan, table: Table) -> Table:
        chosen = [table.column(name) for name in self.columns]
        if len({column.name for column in chosen}) < len(chosen):
            raise WrongUsage("a column is named twice; name each once")
        return table.with_columns(chosen, plan.relation(select(chosen, table.relation)))


class Drop(Operation):
    """All but these columns."""

    KIND: ClassVar[str] = "drop"
    KEEPS_ROWS: ClassVar[bool] = True
    columns: Names

    def apply(self, plan: Plan, table: Table) -> Table:
        gone = {table.column(name).name for name in self.columns}
        kept = [column for column in table.known if column.name not in gone]
        if not kept:
            raise WrongUsage("every column is dropped; keep at least one")
        return table.with_columns(kept, plan.relation(select(kept, table.relation)))


class Rename(Operation):
    """Other names: ``{old: new}``."""

    KIND: ClassVar[str] = "rename"
    KEEPS_ROWS: ClassVar[bool] = True
    columns: Annotated[dict[Text, Text], Field(min_length=1)]

    def apply(self, plan: Plan, table: Table) -> Table:
        new = {table.column(old).name: name for old, name in self.columns.items()}
        renamed = [Column(new.get(column.name, column.name), column.type, column.value, column.error) for column in table.known]
        names = [column.name.casefold() for column in renamed]
        if len(set(names)) < len(names):
            raise WrongUsage("two columns would have one name; choose others")
        return table.with_columns(renamed, table.relation)
