"""Formulas evaluated row by row in plain Python, with Excel's rules: the oracle of the compiler. It shares only the tree with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_UP, ROUND_UP, Decimal, localcontext
from typing import Any

from recon.transformations.formulas.tree import Call, ColumnOf, Error, Number, Text, Tree, Truth

DIV0, VALUE, NUM, NA = 2, 3, 6, 7
DAY_0 = date(1899, 12, 30)
NUMBER = re.compile(r"\s*[+-]?(\d+|\d{1,3}(,\d{3})+)?(\.\d{1,10}0*)?\s*\Z", re.ASCII)


@dataclass(frozen=True)
class Wrong(Exception):
    """An error value."""

    code: int


def evaluated(tree: Tree, row: Mapping[str, Any], today: date) -> Any:
    """The value of a formula: None (blank), Decimal, str, bool, date, or Wrong."""
    with localcontext() as exact:
        exact.prec = 100
        try:
            return _value(tree, row, today)
        except Wrong as wrong:
            return wrong


def _value(tree: Tree, row: Mapping[str, Any], today: date) -> Any:
    match tree:
        case Number(value) | Text(value) | Truth(value):
            return value
        case Error(code):
            raise Wrong(code)
        case ColumnOf(name):
            found = row[name]
            if isinstance(found, Wrong):
                raise found
            return Decimal(found) if isinstance(found, int) and not isinstance(found, bool) else found
        case Call(name, args):
            if name in LAZY:
                return LAZY[name](args, row, today)
            return EAGER[name](*(_value(arg, row, today) for arg in args)) if name != "TODAY" else today


def number(value: Any) -> Decimal:
    if value is None:
        return Decimal(0)
    if isinstance(value, bool):
        return Decimal(int(value))
    if isinstance(value, date):
        return Decimal((value - DAY_0).days)
    if isinstance(value, str):
        if not NUMBER.match(value) or not re.search(r"\d", value):
            raise Wrong(VALUE)
        return Decimal(value.replace(",", "").strip())
    return Decimal(value)


def text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, str):
        return value
    plain = f"{number(value) or Decimal(0):f}"  # no -0
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def truth(value: Any) -> bool:
    if isinstance(value, str):
        if value.lower() not in ("true", "false"):
            raise Wrong(VALUE)
        return value.lower() == "true"
    return bool(number(value))


def _try(tree: Tree, row: Mapping[str, Any], today: date) -> Any:
    try:
        return _value(tree, row, today)
    except Wrong as wrong:
        return wrong


def _if(args: Sequence[Tree], row: Mapping[str, Any], today: date) -> Any:
    chosen = 1 if truth(_value(args[0], row, today)) else 2
    return _value(args[chosen], row, today) if chosen < len(args) else False


def _if_error(codes: Callable[[int], bool]) -> Callable[[Sequence[Tree], Mapping[str, Any], date], Any]:
    def evaluate(args: Sequence[Tree], row: Mapping[str, Any], today: date) -> Any:
        found = _try(args[0], row, today)
        if isinstance(found, Wrong):
            if codes(found.code):
                return _value(args[1], row, today)
            raise found
        return found

    return evaluate


def _compared(holds: Callable[[int], bool]) -> Callable[[Any, Any], bool]:
    def compare(one: Any, two: Any) -> bool:
        one, two = (_like(value, other) for value, other in ((one, two), (two, one)))
        sides = [_ranked(value) for value in (one, two)]
        return holds((sides[0] > sides[1]) - (sides[0] < sides[1]))

    return compare


def _like(value: Any, other: Any) -> Any:
    """A blank is 0, an empty text, or FALSE, as what it is compared with."""
    if value is not None:
        return value
    return "" if isinstance(other, str) else False if isinstance(other, bool) else Decimal(0)


def _ranked(value: Any) -> tuple[int, Any]:
    if isinstance(value, bool):
        return 2, value
    return (1, value.lower()) if isinstance(value, str) else (0, number(value))


def _divided(one: Any, two: Any) -> Decimal:
    below = number(two)
    if not below:
        raise Wrong(DIV0)
    return (number(one) / below).quantize(Decimal("1e-10"), ROUND_HALF_UP)


def _rounded(how: str) -> Callable[..., Decimal]:
    return lambda value, digits=Decimal(0): number(value).quantize(Decimal(1).scaleb(-int(digits)), how)


def _modulo(one: Any, two: Any) -> Decimal:
    below = number(two)
    if not below:
        raise Wrong(DIV0)
    return number(one) - below * (number(one) / below).to_integral_value(ROUND_FLOOR)


def _row_numbers(values: Sequence[Any]) -> list[Decimal]:
    return [number(value) for value in values if value is not None and not isinstance(value, str | bool)]


def _cut(value: Any, start: int, size: int) -> str:
    if start < 1 or size < 0:
        raise Wrong(VALUE)
    return text(value)[start - 1 : start - 1 + size]


def _right(value: Any, size: Any = Decimal(1)) -> str:
    if int(number(size)) < 0:
        raise Wrong(VALUE)
    return text(value)[-int(number(size)) :] if int(number(size)) else ""


def _date(year: Any, month: Any, day: Any) -> date:
    months = int(number(year)) * 12 + int(number(month)) - 1
    if not 22800 <= months <= 119999:
        raise Wrong(NUM)
    try:
        found = date(months // 12, months % 12 + 1, 1) + timedelta(days=int(number(day)) - 1)
    except OverflowError:
        raise Wrong(NUM) from None
    if not date(1900, 1, 1) <= found <= date(9999, 12, 31):
        raise Wrong(NUM)
    return found


LAZY: dict[str, Callable[[Sequence[Tree], Mapping[str, Any], date], Any]] = {
    "IF": _if,
    "IFERROR": _if_error(lambda code: True),
    "IFNA": _if_error(lambda code: code == NA),
    "ISERROR": lambda args, row, today: isinstance(_try(args[0], row, today), Wrong),
    "ISBLANK": lambda args, row, today: _try(args[0], row, today) is None,
}
EAGER: dict[str, Callable[..., Any]] = {
    "+": lambda one, two: number(one) + number(two),
    "-": lambda one, two: number(one) - number(two),
    "*": lambda one, two: number(one) * number(two),
    "/": _divided,
    "^": lambda one, two: number(one) ** int(two) if number(one) or int(two) else _raise(NUM),
    "&": lambda one, two: text(one) + text(two),
    "=": _compared(lambda sign: sign == 0),
    "<>": _compared(lambda sign: sign != 0),
    "<": _compared(lambda sign: sign < 0),
    "<=": _compared(lambda sign: sign <= 0),
    ">": _compared(lambda sign: sign > 0),
    ">=": _compared(lambda sign: sign >= 0),
    "NEG": lambda value: -number(value),
    "%": lambda value: number(value) * Decimal("0.01"),
    "AND": lambda *values: False not in list(map(truth, values)),
    "OR": lambda *values: True in list(map(truth, values)),
    "NOT": lambda value: not truth(value),
    "ABS": lambda value: abs(number(value)),
    "ROUND": _rounded(ROUND_HALF_UP),
    "ROUNDUP": _rounded(ROUND_UP),
    "ROUNDDOWN": _rounded(ROUND_DOWN),
    "INT": lambda value: number(value).to_integral_value(ROUND_FLOOR),
    "MOD": _modulo,
    "SUM": lambda *values: sum(_row_numbers(values), Decimal(0)),
    "MIN": lambda *values: min(_row_numbers(values), default=Decimal(0)),
    "MAX": lambda *values: max(_row_numbers(values), default=Decimal(0)),
    "CONCAT": lambda *values: "".join(map(text, values)),
    "LEN": lambda value: Decimal(len(text(value))),
    "UPPER": lambda value: text(value).upper(),
    "LOWER": lambda value: text(value).lower(),
    "TRIM": lambda value: re.sub(" +", " ", text(value).strip(" ")),
    "LEFT": lambda value, size=Decimal(1): _cut(value, 1, int(number(size))),
    "RIGHT": _right,
    "MID": lambda value, start, size: _cut(value, int(number(start)), int(number(size))),
    "SUBSTITUTE": lambda value, old, new: text(value).replace(text(old), text(new)) if text(old) else text(value),
    "VALUE": lambda value: None if value is None else number(value),
    "YEAR": lambda value: None if value is None else Decimal(value.year),
    "MONTH": lambda value: None if value is None else Decimal(value.month),
    "DAY": lambda value: None if value is None else Decimal(value.day),
    "DATE": _date,
    "NA": lambda: _raise(NA),
}


def _raise(code: int) -> Any:
    raise Wrong(code)
