"""Functions of numbers, each with Excel's rule in its docstring."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce

from recon.transformations.formulas.compile import MANY, Compiler, Function, literal_integer
from recon.transformations.formulas.layers import Value, sql_of
from recon.transformations.formulas.tree import DIV0, NUM, Tree
from recon.vocabulary import check
from recon.vocabulary.types import INTEGER, as_decimal, decimal


def negative(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """-x: binds more tightly than ^, so that -2^2 is 4."""
    value = compiler.number(compiler.value(args[0]))
    return compiler.layers.computed(check.negative(compiler.zeroed(value)), [value], f"CASE WHEN {{}} IS NULL THEN {NUM} END")


def percent(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """x%: a hundredth."""
    return compiler.arithmetic("mul", compiler.number(compiler.value(args[0])), Value(check.number("0.01", 1)))


def power(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """x^n for a whole n from 0 to 20 as it is written; others are not exact. 0^0 is #NUM!."""
    base = compiler.number(compiler.value(args[0]))
    exponent = literal_integer(args[1], "the exponent of ^", 0, 20)
    one = Value(check.number("1", 1))
    if exponent == 0:
        return compiler.sql("CAST(1 AS BIGINT)", INTEGER, [base], f"CASE WHEN {sql_of(compiler.zeroed(base))} = 0 THEN {NUM} END")
    return reduce(lambda product, _: compiler.arithmetic("mul", product, base), range(exponent), compiler.arithmetic("mul", one, one))


def absolute(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """ABS(x)."""
    value = compiler.number(compiler.value(args[0]))
    return compiler.layers.computed(check.FUNCTIONS["abs"][2]([compiler.zeroed(value)]), [value], f"CASE WHEN {{}} IS NULL THEN {NUM} END")


def rounded(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """ROUND(x, digits): halves away from zero. ``digits`` as it is written, from 0 to 10."""
    value = compiler.number(compiler.value(args[0]))
    digits = literal_integer(args[1], "the digits of ROUND", 0, 10) if len(args) > 1 else 0
    return compiler.layers.computed(check.rounded([compiler.zeroed(value), check.number(str(digits), 1)]), [value])


def _toward(up: bool) -> Callable[[Compiler, Sequence[Tree]], Value]:
    def build(compiler: Compiler, args: Sequence[Tree]) -> Value:
        """ROUNDUP, ROUNDDOWN(x, digits): away from zero, toward it."""
        value = compiler.number(compiler.value(args[0]))
        digits = literal_integer(args[1], f"the digits of ROUND{'UP' if up else 'DOWN'}", 0, 10) if len(args) > 1 else 0
        node = compiler.zeroed(value)
        kind = as_decimal(node.type)
        if digits >= kind.scale:
            return compiler.layers.computed(node, [value])
        to, sql = decimal(kind.precision - kind.scale + digits + 1, digits), sql_of(node)
        cut = f"trunc({sql}, {digits})"
        unit = f"CAST('{10**-digits:.{digits}f}' AS DECIMAL({max(digits, 1)},{digits}))" if digits else "1"
        whole = f"CASE WHEN {cut} = {sql} THEN {cut} WHEN {sql} < 0 THEN {cut} - {unit} ELSE {cut} + {unit} END" if up else cut
        return compiler.sql(f"CAST({whole} AS {to.duckdb})", to, [value])

    return build


def integer(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """INT(x): down to a whole number, so that INT(-1.5) is -2."""
    value = compiler.number(compiler.value(args[0]))
    return compiler.layers.computed(check.FUNCTIONS["floor"][2]([compiler.zeroed(value)]), [value])


def modulo(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """MOD(x, y): has the sign of y; #DIV/0! for y = 0."""
    one, two = (compiler.number(compiler.value(arg)) for arg in args)
    tree = check.arithmetic("mod", compiler.zeroed(one), compiler.zeroed(two))
    rest = compiler.layers.computed(tree, [one, two], f"CASE WHEN {sql_of(tree.args[1])} = 0 THEN {DIV0} END")
    rest_sql, divisor = sql_of(rest.node), sql_of(tree.args[1])
    sql = f"CASE WHEN {rest_sql} <> 0 AND ({rest_sql} < 0) <> ({divisor} < 0) THEN {rest_sql} + {divisor} ELSE {rest_sql} END"
    return compiler.sql(f"CAST({sql} AS {rest.type.duckdb})", rest.type, [rest, one, two])


def _of_numbers(aggregate: str) -> Callable[[Compiler, Sequence[Tree]], Value]:
    def build(compiler: Compiler, args: Sequence[Tree]) -> Value:
        """SUM, MIN, MAX over the row's arguments: blanks and texts in columns are left out; none at all gives 0."""
        values = [value for value in map(compiler.value, args) if value.untyped or value.type.kind not in ("text", "boolean")]
        values = [compiler.number(value) for value in values]
        if not values:
            return Value(check.number("0", 1))
        if aggregate == "sum":
            return reduce(lambda one, two: compiler.arithmetic("add", one, two), values)
        values = compiler.unified(values, aggregate.upper())
        name = {"min": "least", "max": "greatest"}[aggregate]
        tree = check.FUNCTIONS["coalesce"][2]([check.FUNCTIONS[name][2]([value.node for value in values]), check.number("0", 1)])
        return compiler.layers.computed(tree, values)

    return build


NUMBERS: Mapping[str, Function] = {
    "NEG": Function(1, 1, negative),
    "%": Function(1, 1, percent),
    "^": Function(2, 2, power),
    "POWER": Function(2, 2, power),
    "ABS": Function(1, 1, absolute),
    "ROUND": Function(2, 2, rounded),
    "ROUNDUP": Function(2, 2, _toward(True)),
    "ROUNDDOWN": Function(2, 2, _toward(False)),
    "INT": Function(1, 1, integer),
    "MOD": Function(2, 2, modulo),
    "SUM": Function(1, MANY, _of_numbers("sum")),
    "MIN": Function(1, MANY, _of_numbers("min")),
    "MAX": Function(1, MANY, _of_numbers("max")),
}
