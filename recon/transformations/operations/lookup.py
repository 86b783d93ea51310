"""vlookup and xlookup: columns of another table, from its row with a matching key."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from recon.config.fields import Text, Texts, as_list
from recon.errors import WrongUsage
from recon.transformations.operations.matching import Match, taken
from recon.transformations.operations.port import Names, Operation, Plan
from recon.transformations.operations.table import Table


def _take(value: object) -> object:
    """A list of columns, or new name → column."""
    listed = value if isinstance(value, list) else [value] if isinstance(value, str) else None
    return value if listed is None else {name: name for name in listed}


class _Lookup(Operation):
    """``take``: columns of the table ``in_``. Texts are equal without regard to case; a blank is never found. Not found is #N/A, or
    ``if_missing``, which is of the type of each column that is taken. The number of rows stays."""

    KEEPS_ROWS: ClassVar[bool] = True
    in_: Annotated[Text, Field(alias="in")]
    take: Annotated[dict[Text, Text], BeforeValidator(_take), Field(min_length=1)]
    if_missing: Text | None = None

    @property
    def inputs(self) -> list[str]:
        return [self.table, self.in_]


class Vlookup(_Lookup):
    """The row of ``in_`` whose column ``match`` equals ``key``; of several the first in the file counts, and with ``many: error`` they are
    refused. With ``approximate`` it is the row with the greatest key that is not above, and the last of several, as VLOOKUP finds it in a
    sheet that is sorted; here the order of the rows does not matter."""

    KIND: ClassVar[str] = "vlookup"
    key: Text
    match: Text | None = None
    many: Literal["first", "error"] = "first"
    approximate: bool = False

    def apply(self, plan: Plan, table: Table) -> Table:
        other = plan.tables[self.in_]
        key, match = table.column(self.key), other.column(self.match or self.key)
        several: Literal["first", "last", "error"] = "last" if self.approximate and self.many == "first" else self.many
        found = Match(other, [key], [match], "smaller" if self.approximate else "exact", several)
        return taken(plan, table, found, {name: other.column(column) for name, column in self.take.items()}, self.if_missing)


class Xlookup(_Lookup):
    """The row of ``in_`` whose columns ``match`` equal the columns ``key``, several of each if need be. ``find`` says how the last of them
    matches: ``exact``; ``wildcard``, by ``*``, ``?`` and ``~`` in the key; ``smaller`` or ``larger``, the equal key, else the next.
    ``many``: of several rows the ``first`` or the ``last`` counts, or they are an ``error``; with wildcards also of several keys."""

    KIND: ClassVar[str] = "xlookup"
    key: Names
    match: Annotated[Texts | None, BeforeValidator(lambda value: None if value is None else as_list(value))] = None
    find: Literal["exact", "wildcard", "smaller", "larger"] = "exact"
    many: Literal["first", "last", "error"] = "first"

    def apply(self, plan: Plan, table: Table) -> Table:
        other = plan.tables[self.in_]
        keys, matches = [table.column(name) for name in self.key], [other.column(name) for name in self.match or self.key]
        if len(keys) != len(matches):
            raise WrongUsage(f"key has {len(keys)} columns and match {len(matches)}; name as many")
        found = Match(other, keys, matches, self.find, self.many)
        return taken(plan, table, found, {name: other.column(column) for name, column in self.take.items()}, self.if_missing)
