"""Columns in layers: each layer may name the columns of those below it, so that the SQL of a formula grows with its length only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from recon.transformations.formulas.tree import NUM
from recon.vocabulary import Expression, Node, emit_duckdb
from recon.vocabulary.check import is_null
from recon.vocabulary.types import TEXT, Type, as_decimal

RESULT = "\0"
"""In the SQL of an operation's error: the name of its result. No text of a formula can have this character."""


@dataclass(frozen=True)
class Value:
    """A value of each row. ``node``: a column of a layer, or a literal; its null is a blank, or an error. ``error``: SQL of the error's
    code, null where there is none; None where the value can be none. ``level``: the layer from which both can be named."""

    node: Node
    error: str | None = None
    level: int = 0

    @property
    def type(self) -> Type:
        return self.node.type

    @property
    def untyped(self) -> bool:
        """Whether it is a blank or an error as it is written, which takes the type of its neighbours."""
        return is_null(self.node)


def column(name: str, kind: Type) -> Node:
    return Node("column", (), kind, name)


def blank(error: str | None = None) -> Value:
    """A blank, or an error, without a type of its own."""
    return Value(Node("null", (), TEXT), error)


@dataclass
class Layers:
    """The layers over a relation, and the names that its columns must not have."""

    prefix: str = "t"

    def __post_init__(self) -> None:
        self._columns: dict[str, str] = {}
        self._levels: dict[str, int] = {}
        self._name = re.compile(rf"\b{self.prefix}[0-9]+\b")

    def add(self, sql: str, below: Sequence[Value] | int) -> tuple[str, int]:
        """A column above all values of ``below``, or above a level. Returns its name and its level."""
        level = (below if isinstance(below, int) else max((value.level for value in below), default=0)) + 1
        name = f"{self.prefix}{len(self._columns)}"
        self._columns[name], self._levels[name] = sql, level
        return name, level

    @property
    def columns(self) -> dict[str, str]:
        """SQL of each column, which names earlier ones."""
        return dict(self._columns)

    def over(self, base: Sequence[str], needed: Iterable[str]) -> list[list[str]]:
        """What each layer selects, over a relation's columns ``base``, so that the last has what ``needed``, SQL over it, names.

        A column is computed as late as it can be, and not kept once nothing needs it: the engine's planning grows with the width of the
        layers."""
        top = max(self._levels.values(), default=0) + 1
        uses = {name: {top} for name in self._names(" ".join(needed))}
        placed: dict[str, int] = {}
        for name in reversed(self._columns):
            if name in uses:
                placed[name] = min(uses[name]) - 1
                for below in self._names(self._columns[name]):
                    uses.setdefault(below, set()).add(placed[name])
        selected = []
        for level in range(1, top):
            if made := [f"{self._columns[name]} AS {name}" for name, place in placed.items() if place == level]:
                kept = [name for name, place in placed.items() if place < level < max(uses[name])]
                selected.append([*base, *kept, *made])
        return selected

    def _names(self, sql: str) -> set[str]:
        return self._columns.keys() & set(self._name.findall(sql))

    def computed(self, tree: Node, below: Sequence[Value], error: str | None = None) -> Value:
        """The value of an operation over values, whose errors it passes on. ``error``: SQL of the operation's own error, or None; it may
        name the result as ``RESULT``.

        A null result of operands that are no errors is a blank, unless ``error`` says otherwise."""
        raw, level = self.add(sql_of(tree), below)
        passed = [value.error for value in below if value.error is not None]
        own = [] if error is None else [error.replace(RESULT, raw)]
        if not passed and not own:
            return Value(column(raw, tree.type), None, level)
        code = f"coalesce({', '.join([*passed, *own, 'NULL'])})"
        error_name, above = self.add(code, level)
        masked, above = self.add(f"CASE WHEN {code} IS NULL THEN {raw} END", level)
        return Value(column(masked, tree.type), error_name, above)

    def brought(self, value: Value, to: Type) -> Value:
        """The value with another number type; one that does not fit it is ``#NUM!``."""
        if value.untyped:
            return replace(value, node=Node("literal", (), to, None))
        if value.type == to:
            return value
        tree = Node("bring", (value.node,), to)
        source = as_decimal(value.type)
        if to.kind == "decimal" and to.precision - to.scale >= source.precision - source.scale:
            return self.computed(tree, [value])
        return self.computed(tree, [value], f"CASE WHEN {RESULT} IS NULL AND {sql_of(value.node)} IS NOT NULL THEN {NUM} END")


def sql_of(tree: Node) -> str:
    """The SQL of a tree whose columns are names of layers."""
    names: dict[str, str] = {}
    todo = [tree]
    while todo:
        node = todo.pop()
        todo += node.args
        if node.op == "column":
            names[str(node.value)] = str(node.value)
    return emit_duckdb(Expression("", tree.type, frozenset(names), tree), names)
