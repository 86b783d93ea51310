"""Formulas evaluated row by row in plain Python, with Excel's rules: the oracle of the compiler. It shares only the tree with it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from decimal import Decimal, localcontext
from typing import Any

from plain_functions import EAGER, NA, VALUE, Wrong, divided, moved, number, truth, wrong

from recon.transformations.formulas.tree import Call, ColumnOf, Error, Number, Text, Tree, Truth

Lazy = Callable[[Sequence[Tree], Mapping[str, Any], date], Any]


def evaluated(tree: Tree, row: Mapping[str, Any], today: date) -> Any:
    """The value of a formula: None (blank), Decimal, str, bool, date, or Wrong."""
    with localcontext() as exact:
        exact.prec = 100
        try:
            return _value(tree, row, today)
        except Wrong as found:
            return found


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
            return EAGER[name](*(_value(arg, row, today) for arg in args))


def _try(tree: Tree, row: Mapping[str, Any], today: date) -> Any:
    try:
        return _value(tree, row, today)
    except Wrong as found:
        return found


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


def _row_numbers(args: Sequence[Tree], row: Mapping[str, Any], today: date) -> list[Decimal]:
    """In a column only numbers and dates are numbers; what is written or computed is converted."""
    values = [(_value(arg, row, today), isinstance(arg, ColumnOf)) for arg in args]
    return [number(value) for value, in_column in values if value is not None and not (in_column and isinstance(value, str | bool))]


def _of_numbers(fold: Callable[[list[Decimal]], Decimal]) -> Lazy:
    return lambda args, row, today: fold(_row_numbers(args, row, today))


def _average(numbers: list[Decimal]) -> Decimal:
    return divided(sum(numbers, Decimal(0)), Decimal(len(numbers)))


def _count(args: Sequence[Tree], row: Mapping[str, Any], today: date) -> Decimal:
    found = 0
    for arg in args:
        with contextlib.suppress(Wrong):
            found += len(_row_numbers([arg], row, today))
    return Decimal(found)


def _logical(fold: Callable[[list[bool]], bool]) -> Lazy:
    def evaluate(args: Sequence[Tree], row: Mapping[str, Any], today: date) -> bool:
        values = [(_value(arg, row, today), isinstance(arg, ColumnOf)) for arg in args]
        truths = [truth(value) for value, in_column in values if value is not None and not (in_column and isinstance(value, str))]
        return fold(truths) if truths else wrong(VALUE)

    return evaluate


def _switch(args: Sequence[Tree], row: Mapping[str, Any], today: date) -> Any:
    subject, rest = _value(args[0], row, today), args[1:]
    for at in range(0, len(rest) - 1, 2):
        if EAGER["="](subject, _value(rest[at], row, today)):
            return _value(rest[at + 1], row, today)
    return _value(rest[-1], row, today) if len(rest) % 2 else wrong(NA)


def _ifs(args: Sequence[Tree], row: Mapping[str, Any], today: date) -> Any:
    for at in range(0, len(args), 2):
        if truth(_value(args[at], row, today)):
            return _value(args[at + 1], row, today)
    return wrong(NA)


def _choose(args: Sequence[Tree], row: Mapping[str, Any], today: date) -> Any:
    place = int(number(_value(args[0], row, today)))
    return _value(args[place], row, today) if 1 <= place < len(args) else wrong(VALUE)


def _asks(holds: Callable[[Any], bool]) -> Lazy:
    return lambda args, row, today: holds(_try(args[0], row, today))


def _error_type(args: Sequence[Tree], row: Mapping[str, Any], today: date) -> Any:
    found = _try(args[0], row, today)
    return Decimal(found.code) if isinstance(found, Wrong) else wrong(NA)


def _is_day(tree: Tree) -> bool:
    """Whether it is a date, also where it is blank; the law's table has one column of dates, ``d``."""
    match tree:
        case ColumnOf(name):
            return name == "d"
        case Call("IF", args):
            return _is_day(args[1])
        case Call("+" | "-" as sign, (one, two)):
            return _is_day(one) != _is_day(two) and (sign == "+" or _is_day(one))
        case Call(name):
            return name in ("DATE", "TODAY", "NOW", "EDATE", "EOMONTH", "WORKDAY", "WORKDAY.INTL", "DATEVALUE")
    return False


def _signed(sign: str) -> Lazy:
    def evaluate(args: Sequence[Tree], row: Mapping[str, Any], today: date) -> Any:
        one, two = (_value(arg, row, today) for arg in args)
        if not _is_day(Call(sign, tuple(args))):
            return EAGER[sign](one, two)
        day, days = (one, two) if _is_day(args[0]) else (two, one)
        return moved(day, number(days) if sign == "+" else -number(days))

    return evaluate


LAZY: dict[str, Lazy] = {
    "IF": _if,
    "+": _signed("+"),
    "-": _signed("-"),
    "IFERROR": _if_error(lambda code: True),
    "IFNA": _if_error(lambda code: code == NA),
    "IFS": _ifs,
    "SWITCH": _switch,
    "CHOOSE": _choose,
    "ISERROR": _asks(lambda value: isinstance(value, Wrong)),
    "ISERR": _asks(lambda value: isinstance(value, Wrong) and value.code != NA),
    "ISNA": _asks(lambda value: value == Wrong(NA)),
    "ISBLANK": _asks(lambda value: value is None),
    "ISNUMBER": _asks(lambda value: isinstance(value, Decimal | date)),
    "ISTEXT": _asks(lambda value: isinstance(value, str)),
    "ISNONTEXT": _asks(lambda value: not isinstance(value, str)),
    "ISLOGICAL": _asks(lambda value: isinstance(value, bool)),
    "ERROR.TYPE": _error_type,
    "AND": _logical(all),
    "OR": _logical(any),
    "XOR": _logical(lambda truths: sum(truths) % 2 == 1),
    "SUM": _of_numbers(lambda numbers: sum(numbers, Decimal(0))),
    "MIN": _of_numbers(lambda numbers: min(numbers, default=Decimal(0))),
    "MAX": _of_numbers(lambda numbers: max(numbers, default=Decimal(0))),
    "AVERAGE": _of_numbers(_average),
    "COUNT": _count,
    "COUNTA": lambda args, row, today: Decimal(sum(_try(arg, row, today) is not None for arg in args)),
    "COUNTBLANK": lambda args, row, today: Decimal(sum(_try(arg, row, today) in (None, "") for arg in args)),
    "TODAY": lambda args, row, today: today,
    "NOW": lambda args, row, today: today,
}
