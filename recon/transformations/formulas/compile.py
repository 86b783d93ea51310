"""Compiles a formula's tree to layers of columns, with Excel's rules for blanks, texts that are numbers, and errors."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import cast

from recon.errors import WrongUsage
from recon.transformations.formulas.layers import RESULT, Layers, Value, blank, column, sql_of
from recon.transformations.formulas.settings import Settings
from recon.transformations.formulas.tree import DIV0, NUM, VALUE, Call, ColumnOf, Error, Known, Number, Text, Tree, Truth
from recon.vocabulary import Node, check
from recon.vocabulary.check import Unfit
from recon.vocabulary.duckdb import literal
from recon.vocabulary.types import BOOLEAN, DATE, DIGITS_MAX, INTEGER, TEXT, TIMESTAMP, Type, common, decimal

NUMBER_IN_TEXT = decimal(38, 10)
"""The type of a number that is read from a text."""
_DIGITS = r"(?:[0-9]+|[0-9]{1,3}(?:,[0-9]{3})+)?(?:\.[0-9]{1,10}0*)?"
_HUNDREDTHS = r"(?:[0-9]+|[0-9]{1,3}(?:,[0-9]{3})+)?(?:\.[0-9]{1,8}0*)?%"
_NUMBER_FORM = rf"^\s*(?:(?:[+-]?\$?|\$[+-]){_DIGITS}|\(\$?{_DIGITS}\)|[+-]?{_HUNDREDTHS})\s*$"
WHOLE_MAX = 10**9
"""Where a whole number is needed, a greater one counts as this."""
_SIGNS = {"+": "add", "-": "sub", "*": "mul", "/": "div"}
_COMPARISONS = {"=": "eq", "<>": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}
OPERATORS = frozenset((*_SIGNS, *_COMPARISONS, "^", "%", "NEG"))
"""Those that may be many in a row; ``&`` takes all of a row at once."""
_RANK = {"text": 1, "boolean": 2}
"""Of two values of different kinds, the number is the least and the truth value the greatest."""

MANY = 255
"""Arguments that a function takes at most."""

Build = Callable[["Compiler", Sequence[Tree]], Value]


@dataclass(frozen=True)
class Function:
    """``fewest``, ``most``: its arguments."""

    fewest: int
    most: int
    build: Build


class Compiler:
    """Compiles formulas over one table. ``columns``: name → value. ``approximated``: whether a formula so far took doubles."""

    def __init__(self, layers: Layers, columns: Mapping[str, Value], settings: Settings, functions: Mapping[str, Function]) -> None:
        self.layers, self.columns, self.settings, self._functions = layers, columns, settings, functions
        self.approximated = False

    def value(self, tree: Tree) -> Value:
        """The value of a tree. Raises WrongUsage for an unknown column or function, and for operands that do not fit."""
        match tree:
            case Number(number):
                return Value(check.number(f"{number:f}", 1)) if number >= 0 else Value(check.negative(check.number(f"{-number:f}", 1)))
            case Text(text):
                return Value(Node("literal", (), TEXT, text))
            case Truth(truth):
                return Value(Node("literal", (), BOOLEAN, truth))
            case Error(code):
                return blank(str(code))
            case ColumnOf(name):
                return self._column(name)
            case Known(value):
                return cast(Value, value)
            case Call():
                return self._chain(tree)
        raise WrongUsage("a whole column or an argument that is left out has no value of the row")

    def _chain(self, tree: Call) -> Value:
        """The value of a call. Operators in a row are nested on their left as deep as they are many, so that they are taken one by one."""
        calls = [tree]
        while calls[-1].name in OPERATORS and isinstance(first := calls[-1].args[0], Call):
            calls.append(first)
        value = self._call(calls[-1].name, calls[-1].args)
        for call in reversed(calls[:-1]):
            value = self._call(call.name, (Known(value), *call.args[1:]))
        return value

    def _column(self, name: str) -> Value:
        if name in self.columns:
            return self.columns[name]
        folded = {known.casefold(): known for known in self.columns}
        if name.casefold() in folded:
            return self.columns[folded[name.casefold()]]
        near = difflib.get_close_matches(name, list(self.columns), 1)
        raise WrongUsage(
            f"column {name!r} is not there; "
            + (f"did you mean {near[0]!r}?" if near else f"there are {', '.join(list(self.columns)[:20])}")
        )

    def _call(self, name: str, args: Sequence[Tree]) -> Value:
        try:
            if name in _SIGNS:
                return self._signed(name, *map(self.value, args))
            if name in _COMPARISONS:
                return self.compared(_COMPARISONS[name], *(self.value(arg) for arg in args))
            function = self._functions.get(name)
            if function is None:
                near = difflib.get_close_matches(name, list(self._functions), 1)
                raise WrongUsage(f"the function {name} is not supported" + (f"; did you mean {near[0]}?" if near else ""))
            if not function.fewest <= len(args) <= function.most:
                count = f"{function.fewest}" if function.fewest == function.most else f"{function.fewest} to {function.most}"
                raise WrongUsage(f"{name} takes {count} arguments, not {len(args)}")
            return function.build(self, args)
        except Unfit as error:
            raise WrongUsage(f"{name}: {error.why}") from None

    def _signed(self, sign: str, one: Value, two: Value) -> Value:
        """+, -, *, / of any values. A date and whole days, one more or less than the other, are a date."""
        day, days = (one, two) if one.type == DATE else (two, one)
        is_whole = days.type == INTEGER or (days.type.kind == "decimal" and days.type.scale == 0)
        if day.type == DATE and is_whole and (sign == "+" or (sign == "-" and day is one)):
            return self._moved(day, days, sign)
        return self.arithmetic(_SIGNS[sign], self.number(one), self.number(two))

    def _moved(self, day: Value, days: Value, sign: str) -> Value:
        """A date so many days later or earlier; of a blank date a blank; ``#NUM!`` outside the years 1900 to 9999."""
        date = sql_of(day.node)
        moved = f"TRY({date} {sign} CAST({self.whole(days)} AS INTEGER))"
        within = f"CASE WHEN {moved} BETWEEN DATE '1900-01-01' AND DATE '9999-12-31' THEN {moved} END"
        return self.sql(within, DATE, [day, days], f"CASE WHEN {RESULT} IS NULL AND {date} IS NOT NULL THEN {NUM} END")

    def arithmetic(self, op: str, one: Value, two: Value) -> Value:
        """add, sub, mul, div of numbers; a blank is 0."""
        operands = [self.zeroed(value) for value in (one, two)]
        tree = check.arithmetic(op, *operands)
        error = None if has_room(tree) else f"CASE WHEN {RESULT} IS NULL THEN {NUM} END"
        if op == "div":
            error = f"CASE WHEN {sql_of(operands[1])} = 0 THEN {DIV0} WHEN {RESULT} IS NULL THEN {NUM} END"
        return self.layers.computed(tree, [one, two], error)

    def zeroed(self, value: Value) -> Node:
        """A number with 0 in place of a blank."""
        if value.untyped:
            return check.number("0", 1)
        return value.node if value.node.op == "literal" else check.FUNCTIONS["coalesce"][2]([value.node, check.number("0", 1)])

    def number(self, value: Value) -> Value:
        """The value as a number: a truth value is 1 or 0, a date its day number, a text that is no number ``#VALUE!``."""
        if value.untyped or value.type.is_number:
            return value
        if value.type == BOOLEAN:
            one, nothing = check.number("1", 1), check.number("0", 1)
            missing = Node("is_null", (value.node,), BOOLEAN)
            tree = check.case([(missing, Node("literal", (), INTEGER, None)), (value.node, one)], nothing)
            return self.layers.computed(tree, [value])
        if value.type == DATE:
            return self.layers.computed(check.FUNCTIONS["date_diff"][2]([_DAY_0, value.node]), [value])
        if value.type == TEXT:
            return self.number_in(value)
        raise WrongUsage(f"a {value.type} is no number; take its date first")

    def number_in(self, value: Value) -> Value:
        """The number that a text is in the United States, such as ``1,234.50``, ``-$5``, ``(5)`` for -5, ``12.5%``; a blank stays one."""
        text = sql_of(value.node)
        return self.sql(
            number_in_text(text), NUMBER_IN_TEXT, [value], f"CASE WHEN {RESULT} IS NULL AND {text} IS NOT NULL THEN {VALUE} END"
        )

    def whole(self, value: Value) -> str:
        """SQL of a number without the digits after its point; a blank is 0."""
        node = self.zeroed(value)
        cut = sql_of(node) if node.type == INTEGER else f"trunc({sql_of(node)})"
        return f"CAST(least(greatest({cut}, -{WHOLE_MAX}), {WHOLE_MAX}) AS BIGINT)"

    def day(self, value: Value, what: str) -> Value:
        """The value as a date; a blank stays one. Raises WrongUsage for values of other types."""
        if value.untyped:
            return replace(value, node=Node("literal", (), DATE, None))
        if value.type == TIMESTAMP:
            return self.layers.computed(check.cast(value.node, DATE), [value])
        if value.type != DATE:
            raise WrongUsage(f"{what} takes a date, not {value.type}; DATE and DATEVALUE make dates")
        return value

    def sql(self, sql: str, kind: Type, below: Sequence[Value], error: str | None = None) -> Value:
        """A value of SQL that the vocabulary has no operation for."""
        name, level = self.layers.add(sql, below)
        return self.layers.computed(column(name, kind), [*below, Value(column(name, kind), None, level)], error)

    def text(self, value: Value) -> Value:
        """The value as a text, numbers in the General format: without zeros at the end. A blank is the empty text."""
        if value.untyped:
            return replace(value, node=Node("literal", (), TEXT, ""))
        node = value.node if value.type != DATE else self.number(value).node
        value = value if value.type != DATE else self.number(value)
        text = sql_of(node) if node.type == TEXT else sql_of(check.cast(node, TEXT))
        if node.type.kind == "decimal" and node.type.scale:
            text = f"rtrim(rtrim({text}, '0'), '.')"
        if node.type == BOOLEAN:
            text = f"upper({text})"
        return self.sql(f"coalesce({text}, '')", TEXT, [value])

    def truth(self, value: Value) -> Value:
        """The value as true or false: a number is true unless it is 0, a blank is false, a text is ``#VALUE!`` unless it says TRUE or
        FALSE."""
        truth = self.truth_or_blank(value)
        return self.sql(f"coalesce({sql_of(truth.node)}, false)", BOOLEAN, [truth])

    def truth_or_blank(self, value: Value) -> Value:
        """As ``truth``, but a blank stays one."""
        if value.untyped:
            return replace(value, node=Node("literal", (), BOOLEAN, None))
        sql = sql_of(value.node)
        if value.type == BOOLEAN:
            return value
        if value.type == TEXT:
            read = f"CASE lower({sql}) WHEN 'true' THEN true WHEN 'false' THEN false END"
            return self.sql(read, BOOLEAN, [value], f"CASE WHEN {RESULT} IS NULL AND {sql} IS NOT NULL THEN {VALUE} END")
        number = self.number(value)
        return self.sql(f"({sql_of(number.node)} <> 0)", BOOLEAN, [number])

    def texts(self, args: Sequence[Tree]) -> list[Value]:
        """The values of arguments as texts."""
        return [self.text(self.value(arg)) for arg in args]

    def numbers(self, args: Sequence[Tree]) -> list[Value]:
        """The values of arguments as numbers."""
        return [self.number(self.value(arg)) for arg in args]

    def compared(self, op: str, one: Value, two: Value) -> Value:
        """=, <>, <, <=, >, >=: texts without regard to case; of two kinds numbers come first, then texts, then truth values."""
        one, two = (self._typed_like(value, other) for value, other in ((one, two), (two, one)))
        sign = {name: sign for sign, name in _COMPARISONS.items()}[op]
        if _RANK.get(one.type.kind, 0) != _RANK.get(two.type.kind, 0):
            return self._unlike(sign, one, two)
        if one.type not in (TEXT, BOOLEAN):
            one, two = (self.number(value) for value in (one, two))
            together = common(one.type, two.type) or one.type
            one, two = (self.layers.brought(value, together) for value in (one, two))
        sides = [f"coalesce({_comparable(value)}, {_BLANK.get(value.type.kind, '0')})" for value in (one, two)]
        return self.sql(f"({sides[0]} {sign} {sides[1]})", BOOLEAN, [one, two])

    def _unlike(self, sign: str, one: Value, two: Value) -> Value:
        """Compares values of two kinds, by the order of the kinds; a blank is 0, empty or FALSE, as what it is compared with."""
        one, two = (value if value.type in (TEXT, BOOLEAN) else self.number(value) for value in (one, two))
        ranks, sides = ([_RANK.get(value.type.kind, 0) for value in (one, two)], [_comparable(value) for value in (one, two)])
        blanks = [_BLANK.get(value.type.kind, "0") for value in (two, one)]
        compared = (
            f"CASE WHEN {sides[0]} IS NULL AND {sides[1]} IS NULL THEN 0 {sign} 0 "
            f"WHEN {sides[0]} IS NULL THEN {blanks[0]} {sign} {sides[1]} "
            f"WHEN {sides[1]} IS NULL THEN {sides[0]} {sign} {blanks[1]} ELSE {ranks[0]} {sign} {ranks[1]} END"
        )
        return self.sql(compared, BOOLEAN, [one, two])

    def _typed_like(self, value: Value, other: Value) -> Value:
        """A blank as it is written gets the type of what it is compared with."""
        if not value.untyped:
            return value
        return replace(value, node=Node("literal", (), TEXT if other.untyped else other.type, None))

    def unified(self, values: Sequence[Value], what: str) -> list[Value]:
        """All values with one type. Raises WrongUsage where they have none."""
        kinds = [value.type for value in values if not value.untyped]
        if not kinds:
            return [replace(value, node=Node("literal", (), TEXT, None)) for value in values]
        shared = kinds[0]
        for kind in kinds[1:]:
            found = common(shared, kind)
            if found is None:
                raise WrongUsage(f"{what} would give a column of {shared} and {kind}; make both the same, such as with TEXT or VALUE")
            shared = found
        return [self.layers.brought(value, shared) for value in values]


_BLANK = {"text": "''", "boolean": "false"}
"""Kind → SQL of what a blank is beside a value of it; 0 beside numbers."""


def _comparable(value: Value) -> str:
    """SQL that compares as Excel compares the values of a kind; null for a blank."""
    sql = sql_of(value.node)
    return f"lower({sql})" if value.type == TEXT else sql


_DAY_0 = Node("literal", (), DATE, date(1899, 12, 30))
"""Day 0 of Excel's dates, which count 1900-02-29; from 1900-03-01 on they are days since this one."""


def number_in_text(text: str) -> str:
    """SQL of the number that a text is, of the type ``NUMBER_IN_TEXT``; null where it is none. Digits alone need no other form."""
    plain = f"WHEN regexp_full_match({text}, '[0-9]{{1,28}}(\\.[0-9]{{1,10}})?') THEN TRY_CAST({text} AS {NUMBER_IN_TEXT.duckdb})"
    form = f"regexp_matches({text}, {literal(_NUMBER_FORM)}) AND regexp_matches({text}, '[0-9]')"
    sign = f"CASE WHEN regexp_matches({text}, '[-(]') THEN '-' ELSE '' END"
    digits = f"regexp_replace({text}, '[^0-9.]', '', 'g') || CASE WHEN regexp_matches({text}, '%') THEN 'e-2' ELSE '' END"
    return f"CASE {plain} WHEN {form} THEN TRY_CAST({sign} || {digits} AS {NUMBER_IN_TEXT.duckdb}) END"


def has_room(tree: Node) -> bool:
    """Whether the type of a sum, a difference, a product or their like has room for whatever the result is; no operand is null."""
    full = tree.op in ("add", "sub", "mul") and tree.type.precision >= DIGITS_MAX
    return tree.op in ("add", "sub", "mul", "neg", "abs") and tree.type.kind == "decimal" and not full


def literal_integer(tree: Tree, what: str, low: int, high: int) -> int:
    """A whole number as it is written. Raises WrongUsage."""
    number = literal_number(tree)
    if number is None:
        raise WrongUsage(f"{what} has to be a number as it is written")
    if number != number.to_integral_value() or not low <= number <= high:
        raise WrongUsage(f"{what} is {number}; a whole number from {low} to {high} is needed")
    return int(number)


def literal_number(tree: Tree) -> Decimal | None:
    """A number as it is written, with or without a minus; None for anything else."""
    match tree:
        case Number(number):
            return number
        case Call("NEG", (Number(number),)):
            return -number
    return None
