"""A table while it is compiled: its columns, and the relation that has its rows."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from recon.errors import WrongUsage
from recon.transformations.formulas.layers import Value
from recon.transformations.formulas.layers import column as named
from recon.vocabulary.types import TEXT, Type

ROW = "n"
"""The column of every relation that numbers the rows: ascending, not without gaps."""


@dataclass(frozen=True)
class Column:
    """``value``: the relation's column with the values; ``error``: that with the codes of errors, None where there can be none."""

    name: str
    type: Type
    value: str
    error: str | None = None

    @property
    def sql(self) -> list[str]:
        """The relation's columns that it has."""
        return [self.value] if self.error is None else [self.value, self.error]

    @property
    def code(self) -> str:
        """SQL of the error's code."""
        return self.error or "NULL"

    def as_value(self) -> Value:
        """For formulas."""
        return Value(named(self.value, self.type), self.error)


@dataclass(frozen=True)
class Table:
    """``columns`` None: they depend on the data, and are known once the table is made."""

    name: str
    relation: str
    columns: tuple[Column, ...] | None

    @property
    def known(self) -> tuple[Column, ...]:
        assert self.columns is not None, "an operation asks for columns only where they are known"
        return self.columns

    @cached_property
    def _by_name(self) -> dict[str, list[Column]]:
        """Columns by their names without regard to case."""
        found: dict[str, list[Column]] = {}
        for column in self.known:
            found.setdefault(column.name.casefold(), []).append(column)
        return found

    def column(self, name: str) -> Column:
        """A column by its name, with regard to case only where names differ in nothing else. Raises WrongUsage."""
        exact = [column for column in self._by_name.get(name.casefold(), ()) if column.name == name]
        folded = exact or self._by_name.get(name.casefold(), [])
        if len(folded) == 1:
            return folded[0]
        if folded:
            raise WrongUsage(f"column {name!r} is in {self.name!r} {len(folded)} times; rename the columns first")
        near = difflib.get_close_matches(name, [column.name for column in self.known], 1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(column.name for column in self.known[:20])}"
        raise WrongUsage(f"column {name!r} is not in {self.name!r}; {hint}")

    def with_columns(self, columns: Iterable[Column], relation: str) -> Table:
        return replace(self, columns=tuple(columns), relation=relation)

    def refuse_taken(self, names: Sequence[str]) -> None:
        """Raises WrongUsage for a new column whose name is taken, or given twice."""
        taken = {column.name.casefold() for column in self.known}
        for name in names:
            if name.casefold() in taken:
                raise WrongUsage(f"column {name!r} is in {self.name!r} already; choose another name")
            taken.add(name.casefold())


def select(columns: Iterable[Column], source: str, row: str = ROW) -> str:
    """SELECT of the row's number and of columns."""
    names = [name for column in columns for name in column.sql]
    return f"SELECT {', '.join([f'{row} AS {ROW}' if row != ROW else ROW, *names])} FROM {source}"


def folded(column: Column) -> list[str]:
    """SQL that is equal where Excel finds values equal."""
    value = f"lower({column.value})" if column.type == TEXT else column.value
    return [value] if column.error is None else [value, column.error]


def order(column: Column, descending: bool) -> list[str]:
    """SQL of the order by a column."""
    value = f"lower({column.value})" if column.type == TEXT else column.value
    listed = [f"{value} {'DESC' if descending else 'ASC'} NULLS LAST"]
    return listed if column.error is None else [*listed, f"({column.error} IS NULL)"]
