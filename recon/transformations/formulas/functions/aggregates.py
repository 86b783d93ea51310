"""Functions over the row's arguments, each with Excel's rule in its docstring. In a column texts and truth values are no numbers; as they
are written, or computed, they are converted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from recon.transformations.formulas.compile import MANY, Compiler, Function
from recon.transformations.formulas.functions.information import without_error
from recon.transformations.formulas.layers import RESULT, Value, sql_of
from recon.transformations.formulas.tree import NUM, ColumnOf, Tree
from recon.vocabulary import check
from recon.vocabulary.types import BOOLEAN, INTEGER, TEXT, decimal


def _numbers(compiler: Compiler, args: Sequence[Tree]) -> tuple[list[Value], list[Value]]:
    """The arguments that are numbers, blanks among them, and those that are not, of which only errors matter."""
    numbers, others = list[Value](), list[Value]()
    for arg in args:
        value = compiler.value(arg)
        if isinstance(arg, ColumnOf) and value.type in (TEXT, BOOLEAN):
            others.append(value)
        else:
            numbers.append(compiler.number(value))
    return numbers, others


def _total(compiler: Compiler, numbers: Sequence[Value], others: Sequence[Value]) -> Value:
    if not numbers:
        return compiler.layers.computed(check.number("0", 1), others)
    alike = compiler.unified([Value(compiler.zeroed(value), value.error, value.level) for value in numbers], "SUM")
    kind = alike[0].type
    wide = decimal(kind.precision + 3, kind.scale) if kind != INTEGER else decimal(25, 0)
    to = wide if kind != INTEGER else INTEGER
    total = " + ".join(f"CAST({sql_of(value.node)} AS {wide.duckdb})" for value in alike)
    return compiler.sql(f"TRY(CAST({total} AS {to.duckdb}))", to, [*alike, *others], f"CASE WHEN {RESULT} IS NULL THEN {NUM} END")


def _count(compiler: Compiler, numbers: Sequence[Value]) -> Value:
    found = " + ".join(["0", *(f"CASE WHEN {sql_of(value.node)} IS NULL THEN 0 ELSE 1 END" for value in numbers if not value.untyped)])
    return compiler.sql(f"CAST({found} AS BIGINT)", INTEGER, [without_error(value) for value in numbers])


def total(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """SUM(x, …): blanks are left out; of nothing 0."""
    return _total(compiler, *_numbers(compiler, args))


def average(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """AVERAGE(x, …): blanks are left out; of nothing #DIV/0!."""
    numbers, others = _numbers(compiler, args)
    return compiler.arithmetic("div", _total(compiler, numbers, others), _count(compiler, numbers))


def count(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """COUNT(x, …): how many are numbers or dates; a text as it is written counts if it is a number. Errors do not count."""
    numbers, _ = _numbers(compiler, args)
    return _count(compiler, numbers)


def _counted(sql: str) -> Callable[[Compiler, Sequence[Tree]], Value]:
    def build(compiler: Compiler, args: Sequence[Tree]) -> Value:
        """COUNTA(x, …): how many are something, errors and empty texts too. COUNTBLANK(x, …): how many are nothing or an empty text."""
        values = [compiler.value(arg) for arg in args]
        terms = []
        for value in values:
            there = "NULL" if value.untyped else sql_of(value.node)
            empty = f"coalesce({there} = '', false)" if value.type == TEXT and not value.untyped else "false"
            terms.append(f"CASE WHEN {sql.format(value=there, error=value.error or 'NULL', empty=empty)} THEN 1 ELSE 0 END")
        return compiler.sql(f"CAST({' + '.join(terms)} AS BIGINT)", INTEGER, [without_error(value) for value in values])

    return build


def _extreme(name: str) -> Callable[[Compiler, Sequence[Tree]], Value]:
    def build(compiler: Compiler, args: Sequence[Tree]) -> Value:
        """MIN, MAX(x, …): blanks are left out; of nothing 0."""
        numbers, others = _numbers(compiler, args)
        alike = compiler.unified([value for value in numbers if not value.untyped or value.error], name)
        if not any(not value.untyped for value in numbers):
            return compiler.layers.computed(check.number("0", 1), [*alike, *others])
        found = check.FUNCTIONS[name][2]([value.node for value in alike])
        return compiler.layers.computed(check.FUNCTIONS["coalesce"][2]([found, check.number("0", 1)]), [*alike, *others])

    return build


AGGREGATES: Mapping[str, Function] = {
    "SUM": Function(1, MANY, total),
    "AVERAGE": Function(1, MANY, average),
    "COUNT": Function(1, MANY, count),
    "COUNTA": Function(1, MANY, _counted("({value} IS NOT NULL OR {error} IS NOT NULL)")),
    "COUNTBLANK": Function(1, MANY, _counted("({empty} OR ({value} IS NULL AND {error} IS NULL))")),
    "MIN": Function(1, MANY, _extreme("least")),
    "MAX": Function(1, MANY, _extreme("greatest")),
}
