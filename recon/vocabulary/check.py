"""The type rules: build a typed node from typed operands.

Every function takes and returns ``Node``. Raises ``Unfit``, with the column in the text, for operands that do not fit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal

from recon.vocabulary import reference
from recon.vocabulary.tree import Node
from recon.vocabulary.types import (
    BOOLEAN,
    DATE,
    INTEGER,
    INTEGER_DIGITS,
    TEXT,
    TIMESTAMP,
    Kind,
    Type,
    as_decimal,
    common,
    decimal,
    product_type,
    quotient_scales,
    quotient_type,
    sum_type,
)

INTEGER_MAX = 2**63 - 1
_ORDERED = {"eq": "=", "ne": "<>", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_SYMBOLS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "mod": "%", "neg": "-", "and": "and", "or": "or"} | _ORDERED
CASTS: dict[Kind, tuple[Kind, ...]] = {
    "text": ("text", "decimal", "integer", "boolean", "date", "timestamp"),
    "decimal": ("decimal", "integer", "text"),
    "integer": ("integer", "decimal", "text"),
    "boolean": ("boolean", "text"),
    "date": ("date", "timestamp", "text"),
    "timestamp": ("timestamp", "date", "text"),
}
"""Kind → the kinds that ``cast`` converts it to."""


class Unfit(Exception):
    """The text is no valid expression. ``at``: the column in the text, from 1."""

    def __init__(self, why: str, at: int) -> None:
        super().__init__(why)
        self.why, self.at = why, at


def number(digits: str, at: int) -> Node:
    """A literal number: an integer if it has no point and fits 64 bits, else a decimal of its own digits."""
    before, point, after = digits.partition(".")
    if not (before + after).isdigit() or not (before + after).isascii():
        raise Unfit(f"{digits!r} is not a number here; write it out, such as 1500 or 0.05", at)
    size = len(before.lstrip("0")) + len(after)
    if size > 38:
        raise Unfit(f"a number has at most 38 digits, this one has {size}", at)
    value = Decimal(f"{before or '0'}.{after or '0'}")
    if not point and value <= INTEGER_MAX:
        return Node("literal", (), INTEGER, int(value), at)
    return Node("literal", (), decimal(size, len(after)), value, at)


def is_null(node: Node) -> bool:
    """Whether the node is the bare word null, which takes the type of its neighbours; a finished tree has none."""
    return node.op == "null"


def brought(node: Node, to: Type) -> Node:
    """The node converted to a type that ``common`` returned; a value that does not fit becomes null."""
    if is_null(node):
        return Node("literal", (), to, None, node.at)
    if node.type == to:
        return node
    if node.op == "literal" and isinstance(node.value, int | Decimal):
        return replace(node, type=to, value=reference.fit(node.value, to))
    return Node("bring", (node,), to, None, node.at)


def unified(nodes: Sequence[Node], what: str) -> tuple[Node, ...]:
    """All nodes, converted to their common type."""
    typed = [node for node in nodes if not is_null(node)]
    if not typed:
        raise Unfit(f"{what}: null has no type of its own; write cast(null as decimal(18,2)) or another type", nodes[0].at)
    mixed = any(node.type.kind == "decimal" for node in typed)
    shared = _own_type(typed[0], mixed)
    for node in typed[1:]:
        found = common(shared, _own_type(node, mixed))
        if found is None:
            remedy = _remedy(shared, node) or _remedy(node.type, typed[0])
            raise Unfit(f"{what}: {shared} and {node.type} don't mix{remedy}", node.at)
        shared = found
    return tuple(brought(node, shared) for node in nodes)


def arithmetic(op: str, one: Node, two: Node) -> Node:
    """add, sub, mul, div, mod."""
    for node in (one, two):
        if not node.type.is_number and not is_null(node):
            raise Unfit(f"{_SYMBOLS[op]} needs numbers, not {node.type}{_remedy(INTEGER, node)}", node.at)
    one, two = (brought(node, other.type) if is_null(node) else node for node, other in ((one, two), (two, one)))
    if is_null(one):
        raise Unfit(f"{_SYMBOLS[op]} of two nulls has no type", one.at)
    first, second = _own_types(one, two, op)
    if op in ("add", "sub"):
        result: Type | None = sum_type(first, second)
    elif op == "mul":
        result = product_type(first, second)
    elif op == "div":
        result = quotient_type(first, second)
    else:
        result = common(first, second)
    if result is None:
        raise Unfit(
            f"{_SYMBOLS[op]} of {first} and {second} has more than 38 digits after the point; round() them first",
            two.at,
        )
    if op in ("add", "sub", "mod"):
        return Node(op, (brought(one, result), brought(two, result)), result, None, one.at)
    if op == "mul":
        return Node(op, (brought(one, first), brought(two, second)), result, None, one.at)
    above, below = quotient_scales(first, second)
    return Node(op, (brought(one, decimal(38, above)), brought(two, decimal(38, below))), result, None, one.at)


def negative(node: Node) -> Node:
    """Unary minus; for a literal, the negative literal."""
    _need_value(node, "-", "decimal", "integer")
    if node.op == "literal" and isinstance(node.value, int | Decimal):
        return replace(node, value=-node.value)
    return Node("neg", (node,), node.type, None, node.at)


def comparison(op: str, one: Node, two: Node) -> Node:
    """eq, ne, lt, le, gt, ge."""
    for node in (one, two):
        if is_null(node):
            raise Unfit(f"{_ORDERED[op]} null never holds; write 'is null' or 'is not null'", node.at)
    if one.type == BOOLEAN and op not in ("eq", "ne"):
        raise Unfit(f"{_ORDERED[op]} of boolean values has no meaning; = and <> have", one.at)
    return Node(op, unified((one, two), _ORDERED[op]), BOOLEAN, None, one.at)


def logical(op: str, nodes: Sequence[Node]) -> Node:
    """and, or, not."""
    for node in nodes:
        _need(node, op, "boolean")
    return Node(op, tuple(brought(node, BOOLEAN) for node in nodes), BOOLEAN, None, nodes[0].at)


def missing(node: Node) -> Node:
    """``is null``."""
    if is_null(node):
        raise Unfit("null is always null; name a column", node.at)
    return Node("is_null", (node,), BOOLEAN, None, node.at)


def within(op: str, nodes: Sequence[Node]) -> Node:
    """in (value, candidates …) and between (value, low, high)."""
    if op == "between" and nodes[0].type == BOOLEAN:
        raise Unfit("between needs values with an order, not boolean", nodes[0].at)
    return Node(op, unified(nodes, op), BOOLEAN, None, nodes[0].at)


def like(node: Node, pattern: Node) -> Node:
    """like, with a pattern that is a text literal."""
    _need(node, "like", "text")
    if pattern.op != "literal" or not isinstance(pattern.value, str) or pattern.type != TEXT:
        raise Unfit("like needs a pattern in quotes, such as 'INV-%'", pattern.at)
    return Node("like", (brought(node, TEXT),), BOOLEAN, pattern.value, node.at)


def case(branches: Sequence[tuple[Node, Node]], otherwise: Node) -> Node:
    """case when … then … else … end."""
    for condition, _ in branches:
        _need(condition, "case when", "boolean")
    values = unified([value for _, value in branches] + [otherwise], "case")
    pairs = zip((brought(condition, BOOLEAN) for condition, _ in branches), values, strict=False)
    return Node("case", (*(node for pair in pairs for node in pair), values[-1]), values[0].type, None, branches[0][0].at)


def cast(node: Node, to: Type) -> Node:
    """cast(x as type)."""
    if is_null(node) or node.type == to:
        return brought(node, to)
    if to.kind not in CASTS[node.type.kind]:
        raise Unfit(f"cast leads from {node.type} to {', '.join(CASTS[node.type.kind])}, not to {to.kind}", node.at)
    return Node("cast", (node,), to, None, node.at)


def _function(name: str, kinds: Sequence[tuple[Kind, ...]], result: Type | None) -> Callable[[Sequence[Node]], Node]:
    def build(nodes: Sequence[Node]) -> Node:
        for node, accepted in zip(nodes, kinds, strict=True):
            _need_value(node, name, *accepted)
        return Node(name, tuple(nodes), result or nodes[0].type, None, nodes[0].at)

    return build


def _unifying(name: str) -> Callable[[Sequence[Node]], Node]:
    def build(nodes: Sequence[Node]) -> Node:
        together = unified(nodes, name)
        if name in ("least", "greatest") and together[0].type == BOOLEAN:
            raise Unfit(f"{name} needs values with an order, not boolean", nodes[0].at)
        return Node(name, together, together[0].type, None, nodes[0].at)

    return build


def _whole(name: str) -> Callable[[Sequence[Node]], Node]:
    def build(nodes: Sequence[Node]) -> Node:
        (node,) = nodes
        _need_value(node, name, "decimal", "integer")
        if node.type == INTEGER:
            return node
        return Node(name, (node,), decimal(node.type.precision - node.type.scale + 1, 0), None, node.at)

    return build


def rounded(nodes: Sequence[Node]) -> Node:
    """round(x) and round(x, n)."""
    node, digits = nodes[0], _fixed(nodes[1], "round", "its digits", 0) if len(nodes) > 1 else 0
    _need_value(node, "round", "decimal", "integer")
    if node.type == INTEGER or digits >= node.type.scale:
        return node
    return Node("round", (node,), decimal(node.type.precision - node.type.scale + digits + 1, digits), digits, node.at)


def part(nodes: Sequence[Node]) -> Node:
    """substr(x, start[, length])."""
    _need(nodes[0], "substr", "text")
    start = _fixed(nodes[1], "substr", "its start", 1)
    length = _fixed(nodes[2], "substr", "its length", 0) if len(nodes) > 2 else None
    return Node("substr", (brought(nodes[0], TEXT),), TEXT, (start, length), nodes[0].at)


_NUMBER: tuple[Kind, ...] = ("decimal", "integer")
_DAY: tuple[Kind, ...] = ("date", "timestamp")
FUNCTIONS: dict[str, tuple[int, int, Callable[[Sequence[Node]], Node]]] = {
    "coalesce": (1, 50, _unifying("coalesce")),
    "nullif": (2, 2, _unifying("nullif")),
    "least": (1, 50, _unifying("least")),
    "greatest": (1, 50, _unifying("greatest")),
    "abs": (1, 1, _function("abs", [_NUMBER], None)),
    "sign": (1, 1, _function("sign", [_NUMBER], INTEGER)),
    "round": (1, 2, rounded),
    "floor": (1, 1, _whole("floor")),
    "ceil": (1, 1, _whole("ceil")),
    "lower": (1, 1, _function("lower", [("text",)], TEXT)),
    "upper": (1, 1, _function("upper", [("text",)], TEXT)),
    "trim": (1, 1, _function("trim", [("text",)], TEXT)),
    "length": (1, 1, _function("length", [("text",)], INTEGER)),
    "substr": (2, 3, part),
    "year": (1, 1, _function("year", [_DAY], INTEGER)),
    "month": (1, 1, _function("month", [_DAY], INTEGER)),
    "day": (1, 1, _function("day", [_DAY], INTEGER)),
    "weekday": (1, 1, _function("weekday", [_DAY], INTEGER)),
    "month_start": (1, 1, _function("month_start", [_DAY], DATE)),
    "date_diff": (2, 2, _function("date_diff", [_DAY, _DAY], INTEGER)),
    "add_days": (2, 2, _function("add_days", [("date",), ("integer",)], DATE)),
}
"""Name → fewest operands, most operands, function that builds the node. ``concat`` and ``cast`` have functions of their own."""


def joined(nodes: Sequence[Node]) -> Node:
    """concat(…) and ``||``."""
    for node in nodes:
        _need(node, "concat", "text")
    return Node("concat", tuple(brought(node, TEXT) for node in nodes), TEXT, None, nodes[0].at)


def _need(node: Node, what: str, *kinds: Kind) -> None:
    if node.type.kind not in kinds and not is_null(node):
        wanted = " or ".join(kinds)
        remedy = _remedy(Type(kinds[0]), node)
        raise Unfit(f"{what} needs {wanted}, not {node.type}{remedy}", node.at)


def _need_value(node: Node, what: str, *kinds: Kind) -> None:
    _need(node, what, *kinds)
    if is_null(node):
        raise Unfit(f"{what} of null is always null; name a column", node.at)


def _fixed(node: Node, what: str, which: str, least: int) -> int:
    if node.op != "literal" or type(node.value) is not int or not least <= node.value <= 100_000:
        raise Unfit(f"{what}: {which} must be a whole number written out, at least {least}", node.at)
    return node.value


def _own_type(node: Node, among_decimals: bool) -> Type:
    """The type of an operand. A literal integer among decimals has just its digits, so that ``coalesce(amount, 0)`` is as narrow as
    ``amount``."""
    if among_decimals and node.op == "literal" and type(node.value) is int:
        return decimal(len(str(abs(node.value))), 0)
    return as_decimal(node.type) if among_decimals and node.type.is_number else node.type


def _own_types(one: Node, two: Node, op: str) -> tuple[Type, Type]:
    mixed = op == "div" or "decimal" in (one.type.kind, two.type.kind)
    return _own_type(one, mixed), _own_type(two, mixed)


def _remedy(wanted: Type, node: Node) -> str:
    """The next step for a value of the wrong type, as the end of a message."""
    if TEXT in (wanted, node.type) and {wanted.kind, node.type.kind} & {"date", "timestamp"} and node.op == "literal":
        kind = wanted.kind if wanted != TEXT else node.type.kind
        return f"; write {kind} {node.value!r}" if node.type == TEXT else ""
    if node.type == TEXT and node.op == "column":
        return f"; declare {node.value} under events.types, or use cast({node.value} as …)"
    if {wanted, node.type} == {DATE, TIMESTAMP}:
        return "; bring one to the other with cast"
    return ""


assert len(str(INTEGER_MAX)) == INTEGER_DIGITS
