"""Defines the meaning of every operation in plain Python; tests compare the engines with it.

Values are Decimal, int, str, bool, date, datetime (aware, UTC) and None for null. Expressions are total functions: a value that does not
fit the type of its result is null, and nothing raises.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_UP, Context, Decimal
from typing import Any

from recon.vocabulary.tree import Expression, Node
from recon.vocabulary.types import QUOTIENT_SCALE, Type

# Wide enough for the exact product of two 38-digit numbers.
_EXACT = Context(prec=120, Emax=9999, Emin=-9999)
_UPPER = {code: code - 32 for code in range(ord("a"), ord("z") + 1)}
_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}

NUMBER_TEXT = r"[+-]?[0-9]+(?:\.[0-9]+)?"
_YEAR = "(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
DATE_TEXT = _YEAR + "-[0-9]{2}-[0-9]{2}"
TIMESTAMP_TEXT = DATE_TEXT + r"[T ](?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,6})?)?(?:Z|[+-](?:0[0-9]|1[0-4]):[0-5][0-9])"


def evaluate(expression: Expression, row: Mapping[str, object]) -> object:
    """The value of ``expression`` for a row (column → value of the column's type)."""
    return _value(expression.tree, row)


def fit(value: Any, to: Type) -> Any:
    """The value at the type's scale, or None if it is out of range or would lose digits."""
    if value is None:
        return None
    if to.kind == "integer":
        integer = int(value)
        return integer if integer == value and -(2**63) <= integer < 2**63 else None
    exact = Decimal(value)
    if exact.copy_abs() >= Decimal(10) ** (to.precision - to.scale):
        return None
    scaled = exact.quantize(Decimal(1).scaleb(-to.scale), rounding=ROUND_DOWN, context=_EXACT)
    return scaled if scaled == exact else None


def cast(value: Any, source: Type, to: Type) -> Any:
    """cast(value as type): null if the exact value does not fit; never rounds."""
    if value is None or source == to:
        return value
    if to.kind == "text":
        return _text(value, source)
    if to.kind in ("decimal", "integer"):
        return _number(value, to)
    if to.kind == "boolean":
        return {"true": True, "false": False}.get(value.translate(_LOWER))
    if to.kind == "date":
        return value.date() if isinstance(value, datetime) else _instant(value, DATE_TEXT, date.fromisoformat)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    return _instant(value, TIMESTAMP_TEXT, lambda text: datetime.fromisoformat(text).astimezone(UTC))


def _number(value: Any, to: Type) -> Any:
    if isinstance(value, str):
        if not re.fullmatch(NUMBER_TEXT, value, re.ASCII):
            return None
        value = Decimal(value)
    return fit(value, to)


def _text(value: Any, source: Type) -> str:
    if source.kind == "boolean":
        return "true" if value else "false"
    if source.kind == "timestamp":
        moment = value.astimezone(UTC)
        return f"{moment.year:04}{moment.strftime('-%m-%dT%H:%M:%S.%fZ')}"
    if source.kind == "decimal":
        return format(value if value else value.copy_abs(), "f")
    return value.isoformat() if source.kind == "date" else str(value)


def _instant(text: str, form: str, read: Callable[[str], Any]) -> Any:
    try:
        return read(text) if re.fullmatch(form, text, re.ASCII) else None
    except (ValueError, OverflowError):
        return None


def _day(value: Any) -> date:
    return value.astimezone(UTC).date() if isinstance(value, datetime) else value


def _value(node: Node, row: Mapping[str, object]) -> Any:
    if node.op == "literal":
        return node.value
    if node.op == "column":
        return row[str(node.value)]
    values = [_value(arg, row) for arg in node.args]
    if node.op in _ON_NULLS:
        return _ON_NULLS[node.op](node, values)
    if None in values:
        return None
    result = _ON_VALUES[node.op](node, values)
    return fit(result, node.type) if node.type.is_number else result


def _case(node: Node, values: list[Any]) -> Any:
    for condition, value in zip(values[:-1:2], values[1::2], strict=True):
        if condition is True:
            return value
    return values[-1]


def _and(one: bool | None, two: bool | None) -> bool | None:
    return False if False in (one, two) else None if None in (one, two) else True


def _not(value: bool | None) -> bool | None:
    return None if value is None else not value


def _or(one: bool | None, two: bool | None) -> bool | None:
    return _not(_and(_not(one), _not(two)))


def _in(node: Node, values: list[Any]) -> bool | None:
    found: bool | None = False
    for candidate in values[1:]:
        found = _or(found, None if None in (values[0], candidate) else values[0] == candidate)
    return found


def _between(node: Node, values: list[Any]) -> bool | None:
    value, low, high = values
    return _and(None if None in (value, low) else low <= value, None if None in (value, high) else value <= high)


def _least(choose: Callable[[list[Any]], Any]) -> Callable[[Node, list[Any]], Any]:
    def over_values(node: Node, values: list[Any]) -> Any:
        present = [value for value in values if value is not None]
        return choose(present) if present else None

    return over_values


def _divide(node: Node, values: list[Any]) -> Any:
    if values[1] == 0:
        return None
    above, below = (int(value.scaleb(arg.type.scale, _EXACT)) for value, arg in zip(values, node.args, strict=True))
    size = (2 * abs(above) + abs(below)) // (2 * abs(below))
    return Decimal(size if (above < 0) == (below < 0) else -size).scaleb(-QUOTIENT_SCALE, _EXACT)


def _modulo(node: Node, values: list[Any]) -> Any:
    dividend, divisor = (Decimal(value) for value in values)
    return None if divisor == 0 else _EXACT.remainder(dividend, divisor)


def _quantized(rounding: str) -> Callable[[Node, list[Any]], Any]:
    return lambda node, values: values[0].quantize(Decimal(1).scaleb(-node.type.scale), rounding, _EXACT)


def _like(node: Node, values: list[Any]) -> bool:
    parts = {"%": ".*", "_": "."}
    pattern = "".join(parts.get(letter, re.escape(letter)) for letter in str(node.value))
    return re.fullmatch(pattern, values[0], re.DOTALL) is not None


def _part(node: Node, values: list[Any]) -> str:
    assert isinstance(node.value, tuple)
    start, length = node.value
    rest = str(values[0])[start - 1 :]
    return rest if length is None else rest[:length]


def _add_days(node: Node, values: list[Any]) -> date | None:
    try:
        moved: date = values[0] + timedelta(days=values[1])
        return moved
    except OverflowError:
        return None


def _sign(node: Node, values: list[Any]) -> int:
    return int(values[0] > 0) - int(values[0] < 0)


_ON_NULLS: dict[str, Callable[[Node, list[Any]], Any]] = {
    "and": lambda _, v: _and(v[0], v[1]),
    "or": lambda _, v: _or(v[0], v[1]),
    "not": lambda _, v: _not(v[0]),
    "is_null": lambda _, v: v[0] is None,
    "in": _in,
    "between": _between,
    "case": _case,
    "coalesce": lambda _, v: next((value for value in v if value is not None), None),
    "nullif": lambda _, v: None if v[0] is not None and v[0] == v[1] else v[0],
    "least": _least(min),
    "greatest": _least(max),
}
_ON_VALUES: dict[str, Callable[[Node, list[Any]], Any]] = {
    "bring": lambda _, v: v[0],
    "add": lambda _, v: _EXACT.add(Decimal(v[0]), Decimal(v[1])),
    "sub": lambda _, v: _EXACT.subtract(Decimal(v[0]), Decimal(v[1])),
    "mul": lambda _, v: _EXACT.multiply(Decimal(v[0]), Decimal(v[1])),
    "div": _divide,
    "mod": _modulo,
    "neg": lambda _, v: -v[0] if isinstance(v[0], int) else v[0].copy_negate(),
    "eq": lambda _, v: v[0] == v[1],
    "ne": lambda _, v: v[0] != v[1],
    "lt": lambda _, v: v[0] < v[1],
    "le": lambda _, v: v[0] <= v[1],
    "gt": lambda _, v: v[0] > v[1],
    "ge": lambda _, v: v[0] >= v[1],
    "like": _like,
    "abs": lambda _, v: abs(v[0]) if isinstance(v[0], int) else v[0].copy_abs(),
    "sign": _sign,
    "round": _quantized(ROUND_HALF_UP),
    "floor": _quantized(ROUND_FLOOR),
    "ceil": _quantized(ROUND_CEILING),
    "lower": lambda _, v: v[0].translate(_LOWER),
    "upper": lambda _, v: v[0].translate(_UPPER),
    "trim": lambda _, v: v[0].strip(" "),
    "length": lambda _, v: len(v[0]),
    "substr": _part,
    "concat": lambda _, v: "".join(v),
    "cast": lambda node, v: cast(v[0], node.args[0].type, node.type),
    "year": lambda _, v: _day(v[0]).year,
    "month": lambda _, v: _day(v[0]).month,
    "day": lambda _, v: _day(v[0]).day,
    "weekday": lambda _, v: _day(v[0]).isoweekday(),
    "month_start": lambda _, v: _day(v[0]).replace(day=1),
    "date_diff": lambda _, v: (_day(v[1]) - _day(v[0])).days,
    "add_days": _add_days,
}
