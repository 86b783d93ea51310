"""The functions of formulas, each with Excel's rule in its docstring."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce

from recon.errors import WrongUsage
from recon.transformations.formulas.compile import Compiler, Function, literal_integer
from recon.transformations.formulas.layers import Value, blank, column, sql_of
from recon.transformations.formulas.tree import DIV0, NA, NUM, VALUE, Tree
from recon.vocabulary import Node, check
from recon.vocabulary.types import BOOLEAN, DATE, INTEGER, TEXT, Type, as_decimal, decimal

_MANY = 255


def if_(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """IF(condition, then, else): without else FALSE. An error of the condition is the result; one of the other branch does not matter."""
    condition = compiler.truth(compiler.value(args[0]))
    otherwise = compiler.value(args[2]) if len(args) > 2 else Value(Node("literal", (), BOOLEAN, False))
    chosen = compiler.unified([compiler.value(args[1]), otherwise], "IF")
    return _chosen(compiler, condition, *chosen)


def _chosen(compiler: Compiler, condition: Value, then: Value, otherwise: Value) -> Value:
    branches = [sql_of(value.node) for value in (then, otherwise)]
    test = sql_of(condition.node)
    errors = [value.error or "NULL" for value in (then, otherwise)]
    below = [condition, then, otherwise]
    name, level = compiler.layers.add(f"CASE WHEN {test} THEN {branches[0]} ELSE {branches[1]} END", below)
    codes = [condition.error or "NULL", f"CASE WHEN {test} THEN {errors[0]} ELSE {errors[1]} END"]
    if condition.error is None and errors == ["NULL", "NULL"]:
        return Value(column(name, then.type), None, level)
    error, above = compiler.layers.add(f"coalesce({', '.join(codes)})", level)
    masked, above = compiler.layers.add(f"CASE WHEN {condition.error or 'NULL'} IS NULL THEN {name} END", level)
    return Value(column(masked, then.type), error, above)


def ifs(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """IFS(condition, value, …): the value of the first condition that is true, #N/A where none is."""
    if len(args) % 2:
        raise WrongUsage("IFS takes pairs of a condition and a value")
    conditions = [compiler.truth(compiler.value(arg)) for arg in args[::2]]
    values = compiler.unified([*(compiler.value(arg) for arg in args[1::2]), blank(str(NA))], "IFS")
    pairs = list(zip(conditions, values[:-1], strict=True))
    return reduce(lambda otherwise, pair: _chosen(compiler, pair[0], pair[1], otherwise), reversed(pairs), values[-1])


def _if_error(codes: str) -> Callable[[Compiler, Sequence[Tree]], Value]:
    def build(compiler: Compiler, args: Sequence[Tree]) -> Value:
        value, instead = compiler.unified([compiler.value(arg) for arg in args], "IFERROR")
        if value.error is None:
            return value
        caught = f"coalesce({value.error} {codes}, false)"
        name, level = compiler.layers.add(caught, [value])
        test = Value(column(name, BOOLEAN), None, level)
        return _chosen(compiler, test, instead, value)

    return build


def _logical(sign: str, neutral: str) -> Callable[[Compiler, Sequence[Tree]], Value]:
    def build(compiler: Compiler, args: Sequence[Tree]) -> Value:
        """AND, OR: all arguments are looked at; an error of any of them is the result."""
        values = [compiler.truth(compiler.value(arg)) for arg in args]
        return compiler.sql(f"({f' {sign} '.join([neutral, *(sql_of(value.node) for value in values)])})", BOOLEAN, values)

    return build


def not_(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """NOT(x)."""
    value = compiler.truth(compiler.value(args[0]))
    return compiler.sql(f"(NOT {sql_of(value.node)})", BOOLEAN, [value])


def is_blank(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """ISBLANK(x): whether nothing is there; an error is something, and so is an empty text that a formula made."""
    value = compiler.value(args[0])
    code = value.error or "NULL"
    return compiler.sql(f"({sql_of(_typed(value))} IS NULL AND {code} IS NULL)", BOOLEAN, [_without_error(value)])


def is_error(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """ISERROR(x)."""
    value = compiler.value(args[0])
    return compiler.sql(f"({value.error or 'NULL'} IS NOT NULL)", BOOLEAN, [_without_error(value)])


def _without_error(value: Value) -> Value:
    """The value for the level of what is computed of it; its error is answered, not passed on."""
    return Value(value.node, None, value.level)


def _typed(value: Value) -> Node:
    return Node("literal", (), TEXT, None) if value.untyped else value.node


def not_available(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """NA(): #N/A."""
    return blank(str(NA))


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


def concat(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """a & b, CONCAT, CONCATENATE: numbers in the General format."""
    values = [compiler.text(compiler.value(arg)) for arg in args]
    return compiler.sql(f"({' || '.join(sql_of(value.node) for value in values)})", TEXT, values)


def _of_text(sql: str, kind: Type = TEXT) -> Callable[[Compiler, Sequence[Tree]], Value]:
    def build(compiler: Compiler, args: Sequence[Tree]) -> Value:
        value = compiler.text(compiler.value(args[0]))
        return compiler.sql(sql.format(sql_of(value.node)), kind, [value])

    return build


def _part(side: str) -> Callable[[Compiler, Sequence[Tree]], Value]:
    def build(compiler: Compiler, args: Sequence[Tree]) -> Value:
        """LEFT, RIGHT(text, n): n is 1 unless it is written; #VALUE! below 0."""
        value = compiler.text(compiler.value(args[0]))
        count = compiler.number(compiler.value(args[1])) if len(args) > 1 else Value(check.number("1", 1))
        size = f"CAST(trunc({sql_of(compiler.zeroed(count))}) AS BIGINT)"
        text = sql_of(value.node)
        cut = f"{side}({text}, greatest(least({size}, 1000000), 0))"
        return compiler.sql(cut, TEXT, [value, count], f"CASE WHEN {size} < 0 THEN {VALUE} END")

    return build


def middle(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """MID(text, start, n): start counts from 1; #VALUE! for a start below 1 or an n below 0."""
    value = compiler.text(compiler.value(args[0]))
    numbers = [compiler.number(compiler.value(arg)) for arg in args[1:]]
    start, size = (f"CAST(trunc({sql_of(compiler.zeroed(number))}) AS BIGINT)" for number in numbers)
    text = sql_of(value.node)
    cut = f"substr({text}, greatest(least({start}, 1000000), 1), greatest(least({size}, 1000000), 0))"
    return compiler.sql(cut, TEXT, [value, *numbers], f"CASE WHEN {start} < 1 OR {size} < 0 THEN {VALUE} END")


def substitute(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """SUBSTITUTE(text, old, new): every old, with regard to case; an empty old changes nothing."""
    values = [compiler.text(compiler.value(arg)) for arg in args]
    text, old, new = (sql_of(value.node) for value in values)
    return compiler.sql(f"CASE WHEN {old} = '' THEN {text} ELSE replace({text}, {old}, {new}) END", TEXT, values)


def value_of(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """VALUE(text): the number that a text is, with commas between thousands and a point; #VALUE! for another text."""
    value = compiler.value(args[0])
    return compiler.number(value)


def _day_part(name: str) -> Callable[[Compiler, Sequence[Tree]], Value]:
    def build(compiler: Compiler, args: Sequence[Tree]) -> Value:
        """YEAR, MONTH, DAY of a date."""
        value = compiler.value(args[0])
        if value.type.kind not in ("date", "timestamp"):
            raise WrongUsage(f"{name.upper()} takes a date, not {value.type}")
        return compiler.layers.computed(check.FUNCTIONS[name][2]([value.node]), [value])

    return build


def date_of(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """DATE(year, month, day): months and days beyond their range run over, as in DATE(2026, 13, 1); #NUM! outside 1900 to 9999."""
    numbers = [compiler.number(compiler.value(arg)) for arg in args]
    year, month, day = (f"CAST(trunc({sql_of(compiler.zeroed(number))}) AS BIGINT)" for number in numbers)
    months = f"({year} * 12 + {month} - 1)"
    within = f"{months} BETWEEN 22800 AND 119999 AND {day} BETWEEN -400000 AND 4000000"
    first = f"make_date(CAST({months} // 12 AS BIGINT), CAST({months} % 12 + 1 AS BIGINT), 1)"
    sql = f"CASE WHEN {within} THEN TRY({first} + CAST({day} - 1 AS INTEGER)) END"
    fits = f"CASE WHEN ({sql}) BETWEEN DATE '1900-01-01' AND DATE '9999-12-31' THEN {sql} END"
    return compiler.sql(fits, DATE, numbers, f"CASE WHEN {{}} IS NULL THEN {NUM} END")


def today(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """TODAY(): the request's ``as_of``."""
    return Value(Node("literal", (), DATE, compiler.today))


FUNCTIONS: Mapping[str, Function] = {
    "IF": Function(2, 3, if_),
    "IFS": Function(2, _MANY, ifs),
    "IFERROR": Function(2, 2, _if_error("IS NOT NULL")),
    "IFNA": Function(2, 2, _if_error(f"= {NA}")),
    "AND": Function(1, _MANY, _logical("AND", "true")),
    "OR": Function(1, _MANY, _logical("OR", "false")),
    "NOT": Function(1, 1, not_),
    "ISBLANK": Function(1, 1, is_blank),
    "ISERROR": Function(1, 1, is_error),
    "NA": Function(0, 0, not_available),
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
    "SUM": Function(1, _MANY, _of_numbers("sum")),
    "MIN": Function(1, _MANY, _of_numbers("min")),
    "MAX": Function(1, _MANY, _of_numbers("max")),
    "&": Function(2, 2, concat),
    "CONCAT": Function(1, _MANY, concat),
    "CONCATENATE": Function(1, _MANY, concat),
    "LEN": Function(1, 1, _of_text("length({})", INTEGER)),
    "UPPER": Function(1, 1, _of_text("upper({})")),
    "LOWER": Function(1, 1, _of_text("lower({})")),
    "TRIM": Function(1, 1, _of_text("regexp_replace(trim({}, ' '), ' +', ' ', 'g')")),
    "LEFT": Function(1, 2, _part("left")),
    "RIGHT": Function(1, 2, _part("right")),
    "MID": Function(3, 3, middle),
    "SUBSTITUTE": Function(3, 3, substitute),
    "VALUE": Function(1, 1, value_of),
    "YEAR": Function(1, 1, _day_part("year")),
    "MONTH": Function(1, 1, _day_part("month")),
    "DAY": Function(1, 1, _day_part("day")),
    "DATE": Function(3, 3, date_of),
    "TODAY": Function(0, 0, today),
}
