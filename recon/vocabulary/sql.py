"""What the SQL of DuckDB and of Spark has in common: how a tree is emitted, and the forms that both engines write and mean alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal

from recon.vocabulary.reference import DATE_TEXT, TIMESTAMP_TEXT
from recon.vocabulary.tree import Node
from recon.vocabulary.types import Type, as_decimal

Emit = Callable[[Node, list[str]], str]
"""An operation and the SQL of its operands → its SQL."""
LETTERS = "abcdefghijklmnopqrstuvwxyz"
_OPERATORS = {"eq": "=", "ne": "<>", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "and": "AND", "or": "OR"}


def emit(node: Node, names: Mapping[str, str], constant: Callable[[object, Type], str], forms: Mapping[str, Emit]) -> str:
    """A tree as SQL. ``names``: column → quoted SQL reference. ``constant``: a value as the engine's literal. ``forms``: by operation."""
    if node.op == "column":
        return names[str(node.value)]
    if node.op == "literal":
        return constant(node.value, node.type)
    return forms[node.op](node, [emit(arg, names, constant, forms) for arg in node.args])


def common_forms(typed: Callable[[Type], str]) -> dict[str, Emit]:
    """The forms that both engines have. ``typed``: the engine's name of a type."""

    def rounded_to_integer(function: str) -> Emit:
        return lambda node, args: f"CAST({function}({args[0]}) AS {typed(node.type)})"

    def bring(node: Node, args: list[str]) -> str:
        source = as_decimal(node.args[0].type)
        fits = node.type.precision - node.type.scale >= source.precision - source.scale
        return f"{'CAST' if fits else 'TRY_CAST'}({args[0]} AS {typed(node.type)})"

    return {
        **{op: _operator(sign) for op, sign in _OPERATORS.items()},
        "bring": bring,
        "not": lambda node, args: f"(NOT {args[0]})",
        "is_null": lambda node, args: f"({args[0]} IS NULL)",
        "in": lambda node, args: f"({args[0]} IN ({', '.join(args[1:])}))",
        "between": lambda node, args: f"({args[0]} BETWEEN {args[1]} AND {args[2]})",
        "case": _case,
        "round": lambda node, args: f"CAST(round({args[0]}, {node.value}) AS {typed(node.type)})",
        "floor": rounded_to_integer("floor"),
        "ceil": rounded_to_integer("ceil"),
        "substr": _part,
    }


def unit(scale: int) -> str:
    """One in the last of ``scale`` digits after the point, as a decimal."""
    return f"CAST('{Decimal(1).scaleb(-scale):f}' AS DECIMAL({max(scale, 1)},{scale}))"


def text_form(to: Type) -> str:
    """A regular expression for the texts that are cast to a number, date or timestamp; all others become null."""
    after = rf"(?:\.[0-9]{{1,{to.scale}}}0*)?" if to.scale else r"(?:\.0+)?"
    form = {"date": DATE_TEXT, "timestamp": TIMESTAMP_TEXT}.get(to.kind, rf"[+-]?[0-9]+{after}")
    return rf"\A(?:{form})\z"


def _operator(sign: str) -> Emit:
    return lambda node, args: f"({args[0]} {sign} {args[1]})"


def _case(node: Node, args: list[str]) -> str:
    branches = " ".join(f"WHEN {condition} THEN {value}" for condition, value in zip(args[:-1:2], args[1::2], strict=True))
    return f"(CASE {branches} ELSE {args[-1]} END)"


def _part(node: Node, args: list[str]) -> str:
    assert isinstance(node.value, tuple)
    start, length = node.value
    return f"substr({args[0]}, {start})" if length is None else f"substr({args[0]}, {start}, {length})"
