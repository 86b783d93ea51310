"""Operations on rows: filter, sort, remove_duplicates."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field, model_validator

from recon.config.fields import Section, Text, mistake
from recon.errors import WrongInput
from recon.transformations.formulas.compile import Compiler
from recon.transformations.formulas.functions import FUNCTIONS
from recon.transformations.formulas.layers import Layers, sql_of
from recon.transformations.formulas.parse import parsed
from recon.transformations.formulas.tree import TEXTS
from recon.transformations.operations.columns import compiled, naming, tables_of, with_names, without_columns
from recon.transformations.operations.criteria import Criteria, all_fit
from recon.transformations.operations.port import Kept, Names, Operation, Plan
from recon.transformations.operations.table import ROW, Table, folded, order, select


class Filter(Operation):
    """The rows for which the formula ``where`` is true; a row for which it is an error is refused, by its number. Or the rows whose values
    fit ``criteria``, of one column or several, as SUMIFS has them; an error fits ``#N/A`` and its like only. Both: where both hold."""

    KIND: ClassVar[str] = "filter"
    where: Text | None = None
    criteria: dict[Text, Criteria] = Field(default={})

    @model_validator(mode="after")
    def _says_which(self) -> Filter:
        if self.where is None and not self.criteria:
            raise mistake('say which rows stay: where: "=[@amount]>0", or criteria: {amount: ">0"}')
        return self

    @property
    def inputs(self) -> list[str]:
        return [self.table, *tables_of(filter(None, [self.where]))]

    def apply(self, plan: Plan, table: Table) -> Table:
        if self.criteria:
            pairs = [(table.column(name), criterion) for name, listed in self.criteria.items() for criterion in listed]
            where = all_fit(pairs)
            relation = plan.relation(f"{select(table.known, table.relation)} WHERE {where}")
            plan.kept[relation] = Kept(table.relation, where=where)
            table = table.with_columns(table.known, relation)
        return table if self.where is None else self._where(plan, table, self.where)

    def _where(self, plan: Plan, table: Table, where: str) -> Table:
        shown = table.known
        with naming("where"):
            tree = with_names(plan, table.name, [column.name for column in shown], parsed(where))
            table, tree = without_columns(plan, table, tree, [])
            layers = Layers(f"t{plan.first + len(plan.made)}_")
            value = compiled(plan, table, layers, tree)
        truth = Compiler(layers, {}, plan.settings, FUNCTIONS).truth(value)
        before = len(plan.made)
        layered = plan.layered(layers, table, [truth.error or "", sql_of(truth.node)])
        if plan.query is not None and truth.error is not None:
            wrong = plan.query(f"SELECT {ROW}, {truth.error} FROM ({layered}) WHERE {truth.error} IS NOT NULL ORDER BY {ROW} LIMIT 1")
            if wrong:
                raise WrongInput(f"row {wrong[0][0]}: the condition is {TEXTS[int(wrong[0][1])]}; use IFERROR to say what such a row is")
        relation = plan.relation(f"{select(shown, f'({layered})')} WHERE {sql_of(truth.node)}")
        if len(plan.made) == before + 1:
            plan.kept[relation] = Kept(table.relation, layers.columns, where=sql_of(truth.node))
        return table.with_columns(shown, relation)


class By(Section):
    """A column to sort by."""

    column: Text
    descending: bool = False


def _by(value: object) -> object:
    listed = value if isinstance(value, list) else [value]
    return [{"column": entry} if isinstance(entry, str) else entry for entry in listed]


class Sort(Operation):
    """In order of columns: texts without regard to case, errors after them, blanks last whichever way; equal rows keep their order."""

    KIND: ClassVar[str] = "sort"
    REORDERS: ClassVar[bool] = True
    by: Annotated[tuple[By, ...], BeforeValidator(_by), Field(min_length=1)]

    def apply(self, plan: Plan, table: Table) -> Table:
        listed = [part for by in self.by for part in order(table.column(by.column), by.descending)]
        number = f"row_number() OVER (ORDER BY {', '.join([*listed, ROW])})"
        # Only the columns to sort by are moved; the others follow where the rows are read.
        places = plan.relation(f"SELECT {ROW} AS o, {number} AS m FROM {table.relation}", stored=True)
        columns = ", ".join(f"t.{sql}" for column in table.known for sql in column.sql)
        join = f" JOIN {places} p ON p.o = t.{ROW}"
        relation = plan.relation(f"SELECT p.m AS {ROW}, {columns} FROM {table.relation} t{join}")
        plan.kept[relation] = Kept(table.relation, join=join, number="p.m")
        return table.with_columns(table.known, relation)


class RemoveDuplicates(Operation):
    """The first row of each combination of columns, by default of all: texts are equal without regard to case, and blanks are equal."""

    KIND: ClassVar[str] = "remove_duplicates"
    on: Names | None = None

    def apply(self, plan: Plan, table: Table) -> Table:
        columns = [table.column(name) for name in self.on] if self.on is not None else table.known
        keys = ", ".join(part for column in columns for part in folded(column))
        first = f"SELECT min({ROW}) FROM {table.relation} GROUP BY {keys}"
        relation = plan.relation(f"{select(table.known, table.relation)} WHERE {ROW} IN ({first})", stored=True)
        return table.with_columns(table.known, relation)
