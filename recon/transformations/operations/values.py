"""Operations on the values of columns: cast, split."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field, field_validator, model_validator

from recon.config.fields import Text, Texts, as_list, mistake, mistakes_in
from recon.errors import WrongInput, WrongUsage
from recon.transformations.formulas.layers import column as named
from recon.transformations.formulas.layers import sql_of
from recon.transformations.formulas.tree import NUM, VALUE
from recon.transformations.operations.port import Kept, Operation, Plan, by_name
from recon.transformations.operations.table import ROW, Column, Table
from recon.vocabulary import check, parse_type
from recon.vocabulary.check import Unfit
from recon.vocabulary.duckdb import literal
from recon.vocabulary.types import TEXT, Type

PARTS_MAX = 10_000
"""Parts of a text that become rows."""


class Cast(Operation):
    """Columns with other types: ``{amount: "decimal(18,2)"}``. Nothing is rounded: a number that would lose digits or is too great is
    #NUM!, a text that is no value of the type #VALUE!, and an empty text is a blank. An error stays."""

    KIND: ClassVar[str] = "cast"
    KEEPS_ROWS: ClassVar[bool] = True
    columns: Annotated[dict[Text, Text], Field(min_length=1)]

    @field_validator("columns")
    @classmethod
    def _are_types(cls, columns: dict[str, str]) -> dict[str, str]:
        for name, kind in columns.items():
            with mistakes_in(""):
                parse_type(kind, f": {name}")
        return columns

    def apply(self, plan: Plan, table: Table) -> Table:
        kinds = {table.column(name).name: parse_type(kind, name) for name, kind in self.columns.items()}
        new = plan.columns(len(table.known), [kinds.get(column.name, column.type) for column in table.known], [c.name for c in table.known])
        parts, added, columns = [ROW], list[str](), list[Column]()
        for made, column in zip(new, table.known, strict=True):
            if column.name not in kinds:
                parts, columns = [*parts, *column.sql], [*columns, column]
                continue
            value = _cast(column, kinds[column.name])
            wrong = f"CASE WHEN ({value}) IS NULL AND {_present(column)} THEN {VALUE if column.type == TEXT else NUM} END"
            fresh = [f"{value} AS {made.value}", f"CAST(coalesce({column.code}, {wrong}) AS TINYINT) AS {made.error}"]
            parts, added, columns = [*parts, *fresh], [*added, *fresh], [*columns, made]
        relation = plan.relation(f"SELECT {', '.join(parts)} FROM {table.relation}", stored=True)
        plan.kept[relation] = Kept(table.relation, by_name(added))
        return table.with_columns(columns, relation)


def _cast(column: Column, to: Type) -> str:
    try:
        return sql_of(check.cast(named(column.value, column.type), to))
    except Unfit as error:
        raise WrongUsage(f"{column.name!r}: {error.why}") from None


def _present(column: Column) -> str:
    """SQL of whether a value is there to be converted."""
    return f"{column.value} IS NOT NULL" + (f" AND {column.value} <> ''" if column.type == TEXT else "")


class Split(Operation):
    """The parts of the texts of a ``column`` between the delimiters ``by``: as columns ``into``, of which the last has all that is left,
    and those for which there is no part are blank; or with ``rows: true`` as rows, each with the other columns repeated. An empty part is
    a blank. The delimiter is compared with regard to case. An error is the first part of itself, as a row its only one."""

    KIND: ClassVar[str] = "split"
    column: Text
    by: Text
    into: Annotated[Texts, BeforeValidator(as_list), Field(max_length=1000)] = ()
    rows: bool = False

    @model_validator(mode="after")
    def _columns_or_rows(self) -> Split:
        if self.rows == bool(self.into):
            raise mistake("name the columns of the parts in into, or write rows: true")
        return self

    def apply(self, plan: Plan, table: Table) -> Table:
        column = table.column(self.column)
        if column.type != TEXT:
            raise WrongUsage(f"only texts have parts, and {column.name!r} is {column.type}; cast it to text first")
        return self._into_rows(plan, table, column) if self.rows else self._into_columns(plan, table, column)

    def _into_columns(self, plan: Plan, table: Table, column: Column) -> Table:
        table.refuse_taken(self.into)
        made = plan.columns(len(self.into), [TEXT] * len(self.into), list(self.into))
        by, parts = literal(self.by), [ROW, *(sql for one in table.known for sql in one.sql)]
        before, added = list[str](), list[str]()
        for number, new in enumerate(made, 1):
            part = f"split_part({column.value}, {by}, {number})"
            if number == len(made):
                part = f"substr({column.value}, {' + '.join(['1', *before])})"
            before.append(f"length({part}) + {len(self.by)}")
            code = column.code if number == 1 else "NULL"
            added += [f"nullif({part}, '') AS {new.value}", f"CAST({code} AS TINYINT) AS {new.error}"]
        relation = plan.relation(f"SELECT {', '.join([*parts, *added])} FROM {table.relation}", stored=True)
        plan.kept[relation] = Kept(table.relation, by_name(added))
        return table.with_columns([*table.known, *made], relation)

    def _into_rows(self, plan: Plan, table: Table, column: Column) -> Table:
        by, most = literal(self.by), 1
        count = f"coalesce((length({column.value}) - length(replace({column.value}, {by}, ''))) / {len(self.by)} + 1, 1)"
        count = f"CAST({count} AS BIGINT)"
        if plan.query is not None:
            most = int(plan.query(f"SELECT max({count}) FROM {table.relation}")[0][0] or 1)
            if most > PARTS_MAX:
                raise WrongInput(f"a text of {column.name!r} has {most:,} parts, at most {PARTS_MAX:,} are rows; choose another delimiter")
        numbers = f"(VALUES {', '.join(f'({number})' for number in range(1, most + 1))}) s(i)"
        (made,) = plan.columns(1, [TEXT], [column.name])
        columns, parts = list[Column](), [f"row_number() OVER (ORDER BY {ROW}, i) AS {ROW}"]
        for one in table.known:
            columns.append(made if one is column else one)
            part = f"nullif(split_part({column.value}, {by}, CAST(i AS INTEGER)), '') AS {made.value}"
            parts += [part, f"CAST({column.code} AS TINYINT) AS {made.error}"] if one is column else one.sql
        body = f"SELECT {', '.join(parts)} FROM {table.relation} JOIN {numbers} ON i <= {count}"
        return table.with_columns(columns, plan.relation(body, stored=True))
