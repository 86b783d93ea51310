"""Makes the tables of a request one after the other: what is stored and what is computed when it is asked for, what is counted and when,
and what is given up once no later operation needs it.

An operation that keeps its rows is not stored: the next one is computed with it in one pass. Before rows change, the errors of all
operations of the chain are counted in one pass over it. An engine that computes late stores what is found in other rows and the places of
rows, and computes a row's own columns where they are read; another engine stores the chain before rows change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from recon.transformations.engines.figures import Figures, figures_of
from recon.transformations.engines.port import Engine
from recon.transformations.engines.views import NAME
from recon.transformations.late_tables import LateTables
from recon.transformations.operations.port import DEPTH_MAX, Operation, Plan
from recon.transformations.operations.table import Column, Table

VIEWS_MAX = 64
"""Relations that are computed one from the other at most."""
MANY = 100_000
"""Rows from which storing a table costs more than planning eight times as many layers of formulas."""
Planned = Callable[[Mapping[str, Table], Callable[[str], list[tuple[Any, ...]]], int], Plan]
"""Tables, the engine's query, and the number of the next relation → the plan of an operation."""


@dataclass
class _Chain:
    """Operations whose relation is not stored: figures and new columns of each, in order. ``computed``: whether any column is computed, so
    that reading it twice costs more than storing it. ``depth``: layers of formulas."""

    steps: list[tuple[dict[str, Any], tuple[Column, ...]]] = field(default_factory=list)
    computed: bool = False
    depth: int = 0


class Making:
    """The tables so far. ``later``: for each operation, the names of the tables that are needed after it."""

    def __init__(self, engine: Engine, planned: Planned, later: list[set[str]]) -> None:
        self.tables: dict[str, Table] = {}
        self.steps: list[dict[str, Any]] = []
        self._engine, self._planned, self._later = engine, planned, later
        self._rows: dict[str, int] = {}
        self._chains: dict[str, _Chain] = {}
        self._sources: dict[str, set[str]] = {}
        self._late = LateTables(engine, self._sources)
        self._number = 0

    def loaded(self, table: Table) -> Figures:
        """Adds the table of an input, and returns its figures, with errors and sums."""
        self.tables[table.name] = table
        self._sources[table.relation] = set()
        figures = figures_of(self._engine, table.relation, table.known, table.known)
        self._rows[table.relation] = figures.rows
        self._known_right(table.known, set(figures.errors))
        return figures

    def apply(self, number: int, operation: Operation) -> None:
        """Makes the table of an operation. Raises what the operation and the engine raise."""
        new = operation.as_ or operation.table
        for name in operation.inputs:
            if self._too_deep(self.tables[name]):
                self._flattened(self.tables[name])
            elif not operation.KEEPS_ROWS or name != operation.table:
                self.settled(self.tables[name])
        table = self.tables[operation.table]
        if self._engine.late and table.relation not in self._late:
            self._flattened(table)
            self._late.begin(table)
        elif operation.LOOKS_ROUND and not self._engine.late:
            self.settled(table)
        table = self.tables[operation.table]
        plan = self._planned(self.tables, self._query, self._number)
        self._plan, self._done = plan, 0
        made = operation.apply(plan, table)
        rows_in = self._rows[table.relation]
        step = {"number": number, "operation": operation.KIND, "table": new, "rows_in": rows_in, **plan.figures}
        self.steps.append(step)
        before = {column.value for column in table.known}
        fresh = tuple(column for column in made.known if column.value not in before)
        if operation.KEEPS_ROWS:
            self._lengthen(table, made, step, fresh)
        else:
            self._make()
            figures = Figures(rows_in, {}, {}) if operation.REORDERS else figures_of(self._engine, made.relation, fresh)
            self._rows[made.relation] = figures.rows
            step |= {"rows_out": figures.rows, "errors": figures.errors}
        self._number += len(plan.made)
        self.tables[new] = Table(new, made.relation, made.columns)
        self._give_up(number)

    def settled(self, table: Table) -> None:
        """Stores what a chain finds in other rows, on an engine that does not compute late all that it computes, and counts the errors of
        its operations."""
        chain = self._chains.pop(table.relation, _Chain())
        if table.relation in self._late:
            self._late.settle(table.relation)
        elif chain.computed:
            self._engine.store(table.relation)
            self._sources[table.relation] = set()
        columns = [replace(column, name=column.value) for _, fresh in chain.steps for column in fresh]
        if any(column.error is not None for column in columns):
            errors = figures_of(self._engine, table.relation, columns).errors
            for step, fresh in chain.steps:
                step["errors"] = {column.name: errors[column.value] for column in fresh if column.value in errors}
            self._known_right(columns, set(errors))

    def _flattened(self, table: Table) -> None:
        """Stores a table with all that is computed."""
        self.settled(table)
        if table.relation in self._late:
            self._late.flatten(table.relation)

    def _known_right(self, columns: Sequence[Column], wrong: set[str]) -> None:
        """Notes the columns in which no error was found, so that nobody looks for one again. ``wrong``: names of the others."""
        right = {column.value for column in columns if column.error is not None and column.name not in wrong}
        for name, table in self.tables.items():
            known = [replace(column, error=None) if column.value in right else column for column in table.known]
            self.tables[name] = table.with_columns(known, table.relation)

    def _lengthen(self, table: Table, made: Table, step: dict[str, Any], fresh: tuple[Column, ...]) -> None:
        """Adds an operation that keeps its rows to the chain of its table."""
        step |= {"rows_out": step["rows_in"], "errors": {}}
        there = {sql for column in made.known for sql in column.sql}
        gone = [column for _, columns in self._chain(table).steps for column in columns if column.error and column.error not in there]
        if gone and table.relation not in self._late:
            self.settled(table)  # else nobody could count the errors of columns that are gone
        self._make(made.relation)
        chain = self._chain(table)
        self._rows[made.relation] = self._rows[table.relation]
        if made.relation != table.relation:
            self._chains[table.relation] = _Chain([], chain.computed, chain.depth)
        self._chains[made.relation] = _Chain([*chain.steps, (step, fresh)], chain.computed or bool(fresh), chain.depth + self._plan.depth)

    def _too_deep(self, table: Table) -> bool:
        """Whether the engine's planning, which grows with what is computed in one pass, would cost more than storing the table."""
        layers = DEPTH_MAX if self._rows[table.relation] < MANY else 8 * DEPTH_MAX
        depth = self._late.depth(table.relation) if table.relation in self._late else self._chain(table).depth
        return depth >= layers or len(self._behind([table.relation])) > VIEWS_MAX

    def _chain(self, table: Table) -> _Chain:
        return self._chains.get(table.relation, _Chain())

    def _query(self, statement: str) -> list[tuple[Any, ...]]:
        self._make()
        return self._engine.query(statement)

    def _make(self, unstored: str = "") -> None:
        """Makes the relations that the operation has named so far. ``unstored``: that of its table, where its rows are kept."""
        for name, select, stored in self._plan.made[self._done :]:
            if (kept := self._plan.kept.get(name)) is not None and kept.source in self._late:
                self._late.make(name, kept)
                continue
            sources = self._sources.keys() & set(NAME.findall(select))
            stored = (stored and name != unstored) or len(self._behind(sources)) > VIEWS_MAX
            self._sources[name] = set() if stored else sources
            self._engine.make(name, select, stored)
        self._done = len(self._plan.made)

    def _give_up(self, number: int) -> None:
        """Drops the relations that no later operation needs."""
        needed = self._behind(table.relation for name, table in self.tables.items() if name in self._later[number - 1])
        for relation in [name for name in self._sources if name not in needed]:
            self._engine.drop(relation)
            self._late.forget(relation)
            del self._sources[relation]

    def _behind(self, relations: Iterable[str]) -> set[str]:
        """Relations, and those that they are computed from."""
        found, todo = set[str](), list(relations)
        while todo:
            if (name := todo.pop()) not in found:
                found.add(name)
                todo += self._sources.get(name, ())
        return found
