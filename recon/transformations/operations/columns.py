"""Operations on columns: compute, select, drop, rename."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
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
from recon.vocabulary import Node
from recon.vocabulary.types import TEXT

Names = Annotated[Texts, BeforeValidator(as_list), Field(min_length=1)]


class Compute(Operation):
    """New columns by formulas, such as ``{total: "=[@amount]*1.05"}``; a later one may use those before it."""

    KIND: ClassVar[str] = "compute"
    KEEPS_ROWS: ClassVar[bool] = True
    set: Annotated[dict[Text, Text], Field(min_length=1)]

    def apply(self, plan: Plan, table: Table) -> Table:
        table.refuse_taken(list(self.set))
        layers = Layers(f"t{plan.first}_")
        values: dict[str, Value] = {}
        for name, text in self.set.items():
            values[name] = compiled(plan, table, layers, name, text, values)
        relation, columns = plan.layered(layers, table.relation), list[Column]()
        parts = [ROW, *(sql for column in table.known for sql in column.sql)]
        made = plan.columns(len(values), [value.type for value in values.values()], list(values))
        for column, value in zip(made, values.values(), strict=True):
            parts.append(f"{sql_of(value.node)} AS {column.value}")
            parts += [f"CAST({value.error} AS TINYINT) AS {column.error}"] if value.error is not None else []
            columns.append(column if value.error is not None else Column(column.name, column.type, column.value))
        return table.with_columns([*table.known, *columns], plan.relation(f"SELECT {', '.join(parts)} FROM ({relation})", stored=True))


def compiled(plan: Plan, table: Table, layers: Layers, what: str, text: str, earlier: Mapping[str, Value] = MappingProxyType({})) -> Value:
    """The value of a formula over a table's columns and earlier values. Raises WrongUsage that begins with ``what``."""
    columns = {column.name: column.as_value() for column in table.known}
    try:
        compiler = Compiler(layers, {**columns, **earlier}, plan.settings, FUNCTIONS)
        value = compiler.value(parsed(text))
    except WrongUsage as error:
        raise WrongUsage(f"{what}: {error}") from None
    if compiler.approximated:
        plan.figures["approximate"] = True
    return value if not value.untyped else replace(value, node=Node("literal", (), TEXT, None))


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
