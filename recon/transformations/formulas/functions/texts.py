"""Functions of texts, each with Excel's rule in its docstring."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from recon.transformations.formulas.compile import MANY, Compiler, Function
from recon.transformations.formulas.layers import Value, sql_of
from recon.transformations.formulas.tree import VALUE, Tree
from recon.vocabulary import check
from recon.vocabulary.types import INTEGER, TEXT, Type


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


TEXTS: Mapping[str, Function] = {
    "&": Function(2, 2, concat),
    "CONCAT": Function(1, MANY, concat),
    "CONCATENATE": Function(1, MANY, concat),
    "LEN": Function(1, 1, _of_text("length({})", INTEGER)),
    "UPPER": Function(1, 1, _of_text("upper({})")),
    "LOWER": Function(1, 1, _of_text("lower({})")),
    "TRIM": Function(1, 1, _of_text("regexp_replace(trim({}, ' '), ' +', ' ', 'g')")),
    "LEFT": Function(1, 2, _part("left")),
    "RIGHT": Function(1, 2, _part("right")),
    "MID": Function(3, 3, middle),
    "SUBSTITUTE": Function(3, 3, substitute),
    "VALUE": Function(1, 1, value_of),
}
