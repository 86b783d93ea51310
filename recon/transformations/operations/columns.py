"""Operations on columns: compute, select, drop, rename."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import MappingProxyType
from typing import Annotated, ClassVar

from pydantic import Field

from recon.config.fields import Text
from recon.errors import WrongUsage
from recon.transformations.formulas.compile import Compiler
from recon.transformations.formulas.functions import FUNCTIONS
from recon.transformations.formulas.layers import Layers, Value, sql_of
from recon.transformations.formulas.letters import named
from recon.transformations.formulas.parse import parsed
from recon.transformations.formulas.tree import Tree
from recon.transformations.operations.over_tables import OverTables, looks_at_columns, tables_in
from recon.transformations.operations.port import Kept, Names, Operation, Plan, by_name
from recon.transformations.operations.table import ROW, Column, Table, select
from recon.vocabulary import Node
from recon.vocabulary.types import TEXT


class Compute(Operation):
    """New columns by formulas, such as ``{total: "=[@amount]*1.05"}``; a later one may use those before it."""

    KIND: ClassVar[str] = "compute"
    KEEPS_ROWS: ClassVar[bool] = True
    set: Annotated[dict[Text, Text], Field(min_length=1)]

    @property
    def inputs(self) -> list[str]:
        return [self.table, *tables_of(self.set.values())]

    def apply(self, plan: Plan, table: Table) -> Table:
        table.refuse_taken(list(self.set))
        names = [column.name for column in table.known]
        shown, todo = {*names, *self.set}, dict[str, Tree]()
        for name, text in self.set.items():
            with naming(name):
                tree = with_names(plan, table.name, names, parsed(text))
            names.append(name)
            if looks_at_columns(tree):
                table, todo = _computed(plan, table, todo), {}
                with naming(name):
                    table, tree = without_columns(plan, table, tree, shown)
            todo[name] = tree
        table = _computed(plan, table, todo)
        kept = [column for column in table.known if column.name in shown]
        if len(kept) == len(table.known):
            return table
        return _only(plan, table, kept)


def _computed(plan: Plan, table: Table, formulas: Mapping[str, Tree]) -> Table:
    """The table with the columns of formulas; a later one may name those before it. Raises WrongUsage with the column's name."""
    layers, values, before = Layers(f"t{plan.first + len(plan.made)}_"), dict[str, Value](), len(plan.made)
    for name, tree in formulas.items():
        with naming(name):
            values[name] = compiled(plan, table, layers, tree, values)
    if not values:
        return table
    columns = list[Column]()
    relation = plan.layered(layers, table, [part for value in values.values() for part in (sql_of(value.node), value.error or "")])
    parts, added = [ROW, *(sql for column in table.known for sql in column.sql)], list[str]()
    made = plan.columns(len(values), [value.type for value in values.values()], list(values))
    for column, value in zip(made, values.values(), strict=True):
        added.append(f"{sql_of(value.node)} AS {column.value}")
        added += [f"CAST({value.error} AS TINYINT) AS {column.error}"] if value.error is not None else []
        columns.append(column if value.error is not None else Column(column.name, column.type, column.value))
    found = plan.relation(f"SELECT {', '.join([*parts, *added])} FROM ({relation})", stored=True)
    if len(plan.made) == before + 1:
        plan.kept[found] = Kept(table.relation, {**layers.columns, **by_name(added)})
    return table.with_columns([*table.known, *columns], found)


def with_names(plan: Plan, own: str, names: Sequence[str], tree: Tree) -> Tree:
    """A formula with names in place of letters. ``names``: the columns of the row's own table ``own``. Raises WrongUsage."""

    def columns_of(table: str) -> Sequence[str]:
        if table in ("", own):
            return names
        if table not in plan.tables:
            raise WrongUsage(f"there is no table {table!r} before it; there are {', '.join(sorted(plan.tables))}")
        return [column.name for column in plan.tables[table].known]

    return named(tree, columns_of)


def without_columns(plan: Plan, table: Table, tree: Tree, reserved: Iterable[str]) -> tuple[Table, Tree]:
    """A formula that looks at whole columns as one that does not, and the table with the columns that it then names besides; their names
    are none of ``reserved``."""
    resolving = OverTables(plan, table, _one_computed, frozenset(reserved))
    tree = resolving.resolved(tree)
    return resolving.table, tree


def _one_computed(plan: Plan, table: Table, name: str, tree: Tree) -> Table:
    return _computed(plan, table, {name: tree})


def tables_of(formulas: Iterable[str]) -> list[str]:
    """The tables, beside the row's own, whose columns formulas look at; a formula that is none has none."""
    found = list[str]()
    for text in formulas:
        with suppress(WrongUsage):
            found += [name for name in tables_in(parsed(text)) if name]
    return list(dict.fromkeys(found))


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Puts a name before the mistake in its formula."""
    try:
        yield
    except WrongUsage as error:
        raise WrongUsage(f"{name}: {error}") from None


def compiled(plan: Plan, table: Table, layers: Layers, tree: Tree, earlier: Mapping[str, Value] = MappingProxyType({})) -> Value:
    """The value of a formula over a table's columns and earlier values."""
    columns = {column.name: column.as_value() for column in table.known}
    compiler = Compiler(layers, {**columns, **earlier}, plan.settings, FUNCTIONS)
    value = compiler.value(tree)
    if compiler.approximated:
        plan.figures["approximate"] = True
    return value if not value.untyped else replace(value, node=Node("literal", (), TEXT, None))


def _only(plan: Plan, table: Table, columns: Sequence[Column]) -> Table:
    """The table with some of its columns."""
    relation = plan.relation(select(columns, table.relation))
    plan.kept[relation] = Kept(table.relation)
    return table.with_columns(columns, relation)


class Select(Operation):
    """Only these columns, in this order."""

    KIND: ClassVar[str] = "select"
    KEEPS_ROWS: ClassVar[bool] = True
    columns: Names

    def apply(self, plan: Plan, table: Table) -> Table:
        chosen = [table.column(name) for name in self.columns]
        if len({column.name for column in chosen}) < len(chosen):
            raise WrongUsage("a column is named twice; name each once")
        return _only(plan, table, chosen)


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
        return _only(plan, table, kept)


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
