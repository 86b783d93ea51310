"""vlookup: columns of another table, from its first row with an equal key."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from recon.config.fields import Text
from recon.errors import WrongInput, WrongUsage
from recon.transformations.formulas.tree import NA
from recon.transformations.operations.port import Operation, Plan
from recon.transformations.operations.table import ROW, Column, Table
from recon.vocabulary.duckdb import literal
from recon.vocabulary.types import TEXT, common


def _take(value: object) -> object:
    """A list of columns, or new name → column."""
    listed = value if isinstance(value, list) else [value] if isinstance(value, str) else None
    return value if listed is None else {name: name for name in listed}


class Vlookup(Operation):
    """``take``: columns of the table ``in_``, whose column ``match`` equals ``key``. Texts are equal without regard to case; a blank is
    never found; of several matches the first in the file counts. Not found is #N/A, or the text ``if_missing``. ``many: error`` refuses
    keys that have several rows. The number of rows stays."""

    KIND: ClassVar[str] = "vlookup"
    key: Text
    in_: Annotated[Text, Field(alias="in")]
    match: Text | None = None
    take: Annotated[dict[Text, Text], BeforeValidator(_take), Field(min_length=1)]
    if_missing: Text | None = None
    many: Literal["first", "error"] = "first"

    @property
    def inputs(self) -> list[str]:
        return [self.table, self.in_]

    def apply(self, plan: Plan, table: Table) -> Table:
        other = plan.tables[self.in_]
        table.refuse_taken(list(self.take))
        key, match = table.column(self.key), other.column(self.match or self.key)
        taken = [other.column(name) for name in self.take.values()]
        if self.if_missing is not None and any(column.type != TEXT for column in taken):
            raise WrongUsage("if_missing is a text, and a column that is taken is none; use IFNA in a formula")
        mine, theirs = equal_keys(key, match, "t.", "")
        found = plan.relation(_first_rows(other, match, theirs, taken), stored=True)
        self._count_several(plan, other, match, theirs)
        made = plan.columns(len(taken), [column.type for column in taken], list(self.take))
        columns = [f"t.{ROW}", *(f"t.{sql}" for column in table.known for sql in column.sql)]
        for number, (new, column) in enumerate(zip(made, taken, strict=True)):
            columns += self._taken(key, new, column, number)
        relation = plan.relation(f"SELECT {', '.join(columns)} FROM {table.relation} t LEFT JOIN {found} l ON {mine} = l.k", True)
        return table.with_columns([*table.known, *made], relation)

    def _taken(self, key: Column, new: Column, column: Column, number: int) -> list[str]:
        """SQL of a column that is taken, and of its error."""
        missing, code = "NULL", str(NA)
        if self.if_missing is not None:
            missing, code = literal(self.if_missing), "NULL"
        inner = f"l.f.e{number}" if column.error else "NULL"
        own = f"WHEN t.{key.error} IS NOT NULL THEN t.{key.error} " if key.error else ""
        masked = f"WHEN t.{key.error} IS NOT NULL THEN NULL " if key.error else ""
        return [
            f"CASE {masked}WHEN l.k IS NULL THEN {missing} ELSE l.f.v{number} END AS {new.value}",
            f"CAST(CASE {own}WHEN l.k IS NULL THEN {code} ELSE {inner} END AS TINYINT) AS {new.error}",
        ]

    def _count_several(self, plan: Plan, other: Table, match: Column, theirs: str) -> None:
        """Counts the keys with several rows. Raises WrongInput where they are refused."""
        if plan.query is None:
            return
        several = f"SELECT {theirs} AS k FROM {other.relation} WHERE {theirs} IS NOT NULL GROUP BY 1 HAVING count(*) > 1"
        count = int(plan.query(f"SELECT count(*) FROM ({several})")[0][0])
        plan.figures["keys_with_several_rows"] = count
        if count and self.many == "error":
            first = plan.query(f"{several} ORDER BY min({ROW}) LIMIT 1")[0][0]
            raise WrongInput(f"{count} keys have several rows in {self.in_!r}, first {first}; many: first takes the first of each")


def equal_keys(key: Column, match: Column, mine: str, theirs: str) -> tuple[str, str]:
    """SQL of both keys, equal where Excel finds them equal; null where a key is blank. ``mine``, ``theirs``: before the columns' names.

    Raises WrongUsage for kinds that never match."""
    if key.type == TEXT and match.type == TEXT:
        return f"lower({mine}{key.value})", f"lower({theirs}{match.value})"
    together = common(key.type, match.type)
    if together is None:
        raise WrongUsage(f"{key.name!r} is {key.type} and {match.name!r} is {match.type}, which are never equal; declare one as the other")
    return f"TRY_CAST({mine}{key.value} AS {together.duckdb})", f"TRY_CAST({theirs}{match.value} AS {together.duckdb})"


def _first_rows(other: Table, match: Column, theirs: str, taken: list[Column]) -> str:
    """Key k → f, the taken values and errors of its first row."""
    parts = []
    for number, column in enumerate(taken):
        parts.append(f"'v{number}': {column.value}")
        parts += [f"'e{number}': {column.error}"] if column.error else []
    return f"SELECT {theirs} AS k, arg_min({{{', '.join(parts)}}}, {ROW}) AS f FROM {other.relation} WHERE {theirs} IS NOT NULL GROUP BY 1"
