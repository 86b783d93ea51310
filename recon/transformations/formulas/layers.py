"""Columns in layers: each layer may name the columns of those below it, so that the SQL of a formula grows with its length only."""

from __future__ import annotations

from collections.abc import Sequence
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
        self._layers: list[list[str]] = []
        self._count = 0

    def add(self, sql: str, below: Sequence[Value] | int) -> tuple[str, int]:
        """A column above all values of ``below``, or above a level. Returns its name and its level."""
        level = (below if isinstance(below, int) else max((value.level for value in below), default=0)) + 1
        while len(self._layers) < level:
            self._layers.append([])
        name = f"{self.prefix}{self._count}"
        self._count += 1
        self._layers[level - 1].append(f"{sql} AS {name}")
        return name, level

    @property
    def depth(self) -> int:
        return len(self._layers)

    def over(self, relation: str, first: int = 0, last: int | None = None) -> str:
        """SELECT of the relation's columns and those of all layers, or of the layers from ``first`` to before ``last``."""
        found = relation
        for number, layer in enumerate(self._layers[first:last]):
            source = found if number == 0 else f"({found})"
            found = f"SELECT *, {', '.join(layer)} FROM {source}"
        return found if found != relation else f"SELECT * FROM {relation}"

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
        masked, above = self.add(f"CASE WHEN {error_name} IS NULL THEN {raw} END", above)
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
