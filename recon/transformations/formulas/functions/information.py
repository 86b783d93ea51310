"""Functions that ask what a value is, each with Excel's rule in its docstring. None of them passes an error on but N and T."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from recon.transformations.formulas.compile import Compiler, Function
from recon.transformations.formulas.layers import RESULT, Value, sql_of
from recon.transformations.formulas.tree import NA, Tree
from recon.vocabulary import Node, check
from recon.vocabulary.types import BOOLEAN, INTEGER, TEXT, Type

Build = Callable[[Compiler, Sequence[Tree]], Value]


def without_error(value: Value) -> Value:
    """The value for the level of what is computed of it; its error is answered, not passed on."""
    return Value(value.node, None, value.level)


def is_blank(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """ISBLANK(x): whether nothing is there; an error is something, and so is an empty text that a formula made."""
    value = compiler.value(args[0])
    nothing = "true" if value.untyped else f"{sql_of(value.node)} IS NULL"
    return compiler.sql(f"({nothing} AND {value.error or 'NULL'} IS NULL)", BOOLEAN, [without_error(value)])


def _is_error(test: str) -> Build:
    def build(compiler: Compiler, args: Sequence[Tree]) -> Value:
        """ISERROR(x); ISNA(x): whether it is #N/A; ISERR(x): whether it is an error but #N/A."""
        value = compiler.value(args[0])
        return compiler.sql(f"coalesce({value.error or 'NULL'} {test}, false)", BOOLEAN, [without_error(value)])

    return build


def _is_kind(holds: Callable[[Type], bool], otherwise: bool = False) -> Build:
    def build(compiler: Compiler, args: Sequence[Tree]) -> Value:
        """ISNUMBER (numbers and dates), ISTEXT, ISLOGICAL(x): false for blanks and errors. ISNONTEXT: true for them."""
        value = compiler.value(args[0])
        if value.untyped or not holds(value.type):
            return Value(Node("literal", (), BOOLEAN, otherwise))
        there = f"{sql_of(value.node)} IS {'NULL' if otherwise else 'NOT NULL'}"
        return compiler.sql(f"({there})", BOOLEAN, [without_error(value)])

    return build


def error_type(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """ERROR.TYPE(x): 1 #NULL!, 2 #DIV/0!, 3 #VALUE!, 4 #REF!, 5 #NAME?, 6 #NUM!, 7 #N/A; #N/A for what is no error."""
    value = compiler.value(args[0])
    code = f"CAST({value.error or 'NULL'} AS BIGINT)"
    return compiler.sql(code, INTEGER, [without_error(value)], f"CASE WHEN {RESULT} IS NULL THEN {NA} END")


def as_number(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """N(x): a number, a date's day, 1 for TRUE; 0 for a text or a blank."""
    value = compiler.value(args[0])
    if value.untyped or value.type == TEXT:
        return compiler.layers.computed(check.number("0", 1), [value])
    number = compiler.number(value)
    return compiler.layers.computed(compiler.zeroed(number), [number])


def as_text(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """T(x): a text; an empty text for anything else."""
    value = compiler.value(args[0])
    text = sql_of(value.node) if value.type == TEXT and not value.untyped else "NULL"
    return compiler.sql(f"coalesce({text}, '')", TEXT, [value])


INFORMATION: Mapping[str, Function] = {
    "ISBLANK": Function(1, 1, is_blank),
    "ISERROR": Function(1, 1, _is_error("IS NOT NULL")),
    "ISERR": Function(1, 1, _is_error(f"<> {NA}")),
    "ISNA": Function(1, 1, _is_error(f"= {NA}")),
    "ISNUMBER": Function(1, 1, _is_kind(lambda kind: kind.is_number or kind.kind in ("date", "timestamp"))),
    "ISTEXT": Function(1, 1, _is_kind(lambda kind: kind == TEXT)),
    "ISNONTEXT": Function(1, 1, _is_kind(lambda kind: kind == TEXT, otherwise=True)),
    "ISLOGICAL": Function(1, 1, _is_kind(lambda kind: kind == BOOLEAN)),
    "ERROR.TYPE": Function(1, 1, error_type),
    "N": Function(1, 1, as_number),
    "T": Function(1, 1, as_text),
}
