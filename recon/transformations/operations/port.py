"""What an operation is: a section of the request that makes a table of tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from pydantic import Field

from recon.config.fields import Section, Text, Texts
from recon.transformations.formulas.layers import Layers
from recon.transformations.formulas.settings import Settings
from recon.transformations.operations.table import ROW, Column, Table

Names = Annotated[Texts, Field(min_length=1)]
DEPTH_MAX = 40
"""Layers that are computed in one pass at most: the engine's own planning grows with the cube of their number."""


@dataclass(frozen=True)
class Kept:
    """How a relation is made of the rows of another, ``source``: columns are added, rows are numbered anew or left out, and no row is there
    twice. ``layers``: columns that are computed of a row alone, in an order in which each names earlier ones. ``added``: columns of the
    source's rows, called t, and of those that ``join`` puts beside them, one to each row; with ``around`` they look at other rows, within
    ``groups``, SQL after PARTITION BY.
    ``where``: the rows that stay. ``number``: SQL of their numbers."""

    source: str
    layers: Mapping[str, str] = field(default_factory=dict)
    added: Mapping[str, str] = field(default_factory=dict)
    join: str = ""
    where: str = ""
    number: str = f"t.{ROW}"
    around: bool = False
    groups: tuple[str, ...] = ()


def by_name(listed: Iterable[str]) -> dict[str, str]:
    """SQL by its name, of ``… AS name``."""
    return {name: sql for sql, _, name in (one.rpartition(" AS ") for one in listed)}


@dataclass
class Plan:
    """The tables so far, and the statements that make the next. ``query``: asks the engine, and is None while a request is only checked.
    ``memory``: bytes that one process may take for a statement, None where it is not known."""

    tables: Mapping[str, Table]
    settings: Settings
    query: Callable[[str], list[tuple[Any, ...]]] | None = None
    first: int = 0
    made: list[tuple[str, str, bool]] = field(default_factory=list)
    """Relation, its SELECT, and whether it is to be stored, since it changes rows or is read twice."""
    figures: dict[str, Any] = field(default_factory=dict)
    depth: int = 0
    """Layers over what is stored."""
    memory: int | None = None
    kept: dict[str, Kept] = field(default_factory=dict)
    """How relations that have all columns of their sources are made, beside their SELECTs, for engines that compute late."""

    def relation(self, select: str, stored: bool = False) -> str:
        """The name of a new relation."""
        name = f"r{self.first + len(self.made)}"
        self.made.append((name, select, stored))
        return name

    def layered(self, layers: Layers, table: Table, needed: Iterable[str]) -> str:
        """SELECT of a table's columns and of those of the layers over it that ``needed``, SQL over it, names. Some layers are stored where
        there are too many for one pass."""
        base = [ROW, *(sql for column in table.known for sql in column.sql)]
        found = table.relation
        for number, selected in enumerate(layers.over(base, needed)):
            if number and number % DEPTH_MAX == 0:
                found, self.depth = self.relation(found, stored=True), 0
            source = f"({found})" if number % DEPTH_MAX else found
            found = f"SELECT {', '.join(selected)} FROM {source}"
            self.depth += 1
        return found if found != table.relation else f"SELECT {', '.join(base)} FROM {found}"

    def columns(self, count: int, kinds: list[Any], names: list[str], errors: bool = True) -> list[Column]:
        """New columns with names of their own in the relation."""
        at = self.first + len(self.made)
        return [Column(names[i], kinds[i], f"c{at}_{i}", f"e{at}_{i}" if errors else None) for i in range(count)]


class Operation(Section):
    """``table``: what it works on. ``as_``: the name of the table that it makes; default: the same, which it replaces. ``KEEPS_ROWS``: it
    makes of each row one row with the same number, so that it need not be stored before the next operation. ``LOOKS_ROUND``: at other rows,
    of few columns. ``REORDERS``: the rows stay, with other numbers."""

    KIND: ClassVar[str] = ""
    KEEPS_ROWS: ClassVar[bool] = False
    LOOKS_ROUND: ClassVar[bool] = False
    REORDERS: ClassVar[bool] = False
    table: Text
    as_: Annotated[Text | None, Field(alias="as")] = None

    def apply(self, plan: Plan, table: Table) -> Table:
        """The new table. Raises WrongUsage for columns that are not there or do not fit; only columns and types are looked at, not rows."""
        raise NotImplementedError

    @property
    def inputs(self) -> list[str]:
        """The names of the tables that it reads."""
        return [self.table]
