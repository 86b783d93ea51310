"""Functions of numbers, each with Excel's rule in its docstring."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import reduce

from recon.errors import WrongUsage
from recon.transformations.formulas.compile import Compiler, Function, has_room, literal_integer, literal_number
from recon.transformations.formulas.layers import RESULT, Value, sql_of
from recon.transformations.formulas.tree import DIV0, NUM, Tree
from recon.vocabulary import Node, check
from recon.vocabulary.types import INTEGER, Type, as_decimal, decimal

EXPONENT_MAX = 20
"""The greatest exponent of a power that is computed exactly."""
_DIGITS = (-10, 10)
_DOUBLE = decimal(38, 10)
"""The type of a power or root that is computed in doubles."""


def negative(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """-x: binds more tightly than ^, so that -2^2 is 4."""
    value = compiler.number(compiler.value(args[0]))
    return _signed(compiler, check.negative(compiler.zeroed(value)), value)


def _signed(compiler: Compiler, tree: Node, value: Value) -> Value:
    return compiler.layers.computed(tree, [value], None if has_room(tree) else f"CASE WHEN {RESULT} IS NULL THEN {NUM} END")


def percent(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """x%: a hundredth."""
    return compiler.arithmetic("mul", compiler.number(compiler.value(args[0])), Value(check.number("0.01", 1)))


def power(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """x^n, POWER(x, n): exact for a whole n from 0 to 20 as it is written; others only with ``approximate: true``. 0^0 is #NUM!."""
    base = compiler.number(compiler.value(args[0]))
    written = literal_number(args[1])
    if written is None or written != written.to_integral_value() or not 0 <= written <= EXPONENT_MAX:
        return _approximate_power(compiler, base, compiler.number(compiler.value(args[1])))
    if written == 0:
        return compiler.sql("CAST(1 AS BIGINT)", INTEGER, [base], f"CASE WHEN {sql_of(compiler.zeroed(base))} = 0 THEN {NUM} END")
    first = compiler.layers.computed(compiler.zeroed(base), [base])
    return reduce(lambda product, _: compiler.arithmetic("mul", product, base), range(int(written) - 1), first)


def _approximate_power(compiler: Compiler, base: Value, exponent: Value) -> Value:
    _need_approximate(compiler, f"the exponent of ^ is exact if it is a whole number from 0 to {EXPONENT_MAX} as it is written")
    one, two = (sql_of(compiler.zeroed(value)) for value in (base, exponent))
    sql = f"TRY_CAST(pow(CAST({one} AS DOUBLE), CAST({two} AS DOUBLE)) AS {_DOUBLE.duckdb})"
    at_0 = f"WHEN {one} = 0 AND {two} < 0 THEN {DIV0} WHEN {one} = 0 AND {two} = 0 THEN {NUM}"
    return compiler.sql(f"TRY({sql})", _DOUBLE, [base, exponent], f"CASE {at_0} WHEN {RESULT} IS NULL THEN {NUM} END")


def root(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """SQRT(x): only with ``approximate: true``; #NUM! below 0."""
    _need_approximate(compiler, "a root is not exact")
    value = compiler.number(compiler.value(args[0]))
    sql = sql_of(compiler.zeroed(value))
    guarded = f"CASE WHEN {sql} >= 0 THEN TRY_CAST(sqrt(CAST({sql} AS DOUBLE)) AS {_DOUBLE.duckdb}) END"
    return compiler.sql(guarded, _DOUBLE, [value], f"CASE WHEN {RESULT} IS NULL THEN {NUM} END")


def _need_approximate(compiler: Compiler, why: str) -> None:
    if not compiler.settings.approximate:
        raise WrongUsage(f"{why}; write approximate: true in the request to compute it in doubles, to ten digits after the point")
    compiler.approximated = True


def absolute(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """ABS(x)."""
    value = compiler.number(compiler.value(args[0]))
    return _signed(compiler, check.FUNCTIONS["abs"][2]([compiler.zeroed(value)]), value)


def sign(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """SIGN(x): 1, 0 or -1."""
    value = compiler.number(compiler.value(args[0]))
    return compiler.layers.computed(check.FUNCTIONS["sign"][2]([compiler.zeroed(value)]), [value])


def rounded(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """ROUND(x, digits): halves away from zero. ``digits`` as it is written, from -10 to 10: -2 rounds to hundreds."""
    value = compiler.number(compiler.value(args[0]))
    digits = literal_integer(args[1], "the digits of ROUND", *_DIGITS)
    node = compiler.zeroed(value)
    if digits >= 0:
        return compiler.layers.computed(check.rounded([node, check.number(str(digits), 1)]), [value])
    wide, to = _before_point(node)
    sql = f"TRY(CAST(round(CAST({sql_of(node)} AS {wide}), {digits}) AS {to.duckdb}))"
    return compiler.sql(sql, to, [value], f"CASE WHEN {RESULT} IS NULL THEN {NUM} END")


def _before_point(node: Node) -> tuple[str, Type]:
    """SQL of a type that has a digit more than the node's, and the type of its digits before the point."""
    kind = as_decimal(node.type)
    return decimal(kind.precision + 1, kind.scale).duckdb, decimal(kind.precision - kind.scale + 1, 0)


def _toward(name: str, up: bool) -> Callable[[Compiler, Sequence[Tree]], Value]:
    def build(compiler: Compiler, args: Sequence[Tree]) -> Value:
        """ROUNDUP, ROUNDDOWN(x, digits): away from zero, toward it. TRUNC(x, digits): toward it; without digits to a whole number."""
        value = compiler.number(compiler.value(args[0]))
        digits = literal_integer(args[1], f"the digits of {name}", *_DIGITS) if len(args) > 1 else 0
        node = compiler.zeroed(value)
        kind = as_decimal(node.type)
        if digits >= kind.scale:
            return compiler.layers.computed(node, [value])
        _, whole = _before_point(node)
        to = whole if digits <= 0 else decimal(whole.precision + digits, digits)
        sql = sql_of(node) if node.type == kind else f"CAST({sql_of(node)} AS {kind.duckdb})"
        short = f"trunc({sql}, {digits})"
        cut = f"CAST({short} AS {to.duckdb})"
        unit = f"CAST('{Decimal(1).scaleb(-digits):f}' AS DECIMAL({max(abs(digits), 1) + (digits < 0)},{max(digits, 0)}))"
        found = f"CASE WHEN {short} = {sql} THEN {cut} WHEN {sql} < 0 THEN {cut} - {unit} ELSE {cut} + {unit} END" if up else cut
        return compiler.sql(f"TRY(CAST({found} AS {to.duckdb}))", to, [value], f"CASE WHEN {RESULT} IS NULL THEN {NUM} END")

    return build


def integer(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """INT(x): down to a whole number, so that INT(-1.5) is -2."""
    value = compiler.number(compiler.value(args[0]))
    return compiler.layers.computed(check.FUNCTIONS["floor"][2]([compiler.zeroed(value)]), [value])


def modulo(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """MOD(x, y): has the sign of y; #DIV/0! for y = 0."""
    one, two = compiler.numbers(args)
    tree = check.arithmetic("mod", compiler.zeroed(one), compiler.zeroed(two))
    rest = compiler.layers.computed(tree, [one, two], f"CASE WHEN {sql_of(tree.args[1])} = 0 THEN {DIV0} END")
    rest_sql, divisor = sql_of(rest.node), sql_of(tree.args[1])
    sql = f"CASE WHEN {rest_sql} <> 0 AND ({rest_sql} < 0) <> ({divisor} < 0) THEN {rest_sql} + {divisor} ELSE {rest_sql} END"
    return compiler.sql(f"CAST({sql} AS {rest.type.duckdb})", rest.type, [rest, one, two])


def quotient(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """QUOTIENT(x, y): x / y without the digits after the point; #DIV/0! for y = 0."""
    one, two = compiler.numbers(args)
    tree = check.arithmetic("mod", compiler.zeroed(one), compiler.zeroed(two))
    rest = compiler.layers.computed(tree, [one, two], f"CASE WHEN {sql_of(tree.args[1])} = 0 THEN {DIV0} END")
    exact = compiler.arithmetic("div", compiler.arithmetic("sub", one, rest), two)
    return compiler.layers.computed(check.FUNCTIONS["floor"][2]([exact.node]), [exact])


NUMBERS: Mapping[str, Function] = {
    "NEG": Function(1, 1, negative),
    "%": Function(1, 1, percent),
    "^": Function(2, 2, power),
    "POWER": Function(2, 2, power),
    "SQRT": Function(1, 1, root),
    "ABS": Function(1, 1, absolute),
    "SIGN": Function(1, 1, sign),
    "ROUND": Function(2, 2, rounded),
    "ROUNDUP": Function(2, 2, _toward("ROUNDUP", up=True)),
    "ROUNDDOWN": Function(2, 2, _toward("ROUNDDOWN", up=False)),
    "TRUNC": Function(1, 2, _toward("TRUNC", up=False)),
    "INT": Function(1, 1, integer),
    "MOD": Function(2, 2, modulo),
    "QUOTIENT": Function(2, 2, quotient),
}
