"""Functions that choose and ask, each with Excel's rule in its docstring."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce

from recon.errors import WrongUsage
from recon.transformations.formulas.compile import MANY, Compiler, Function
from recon.transformations.formulas.layers import Value, blank, column, sql_of
from recon.transformations.formulas.tree import NA, Tree
from recon.vocabulary import Node
from recon.vocabulary.types import BOOLEAN, TEXT


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


LOGIC: Mapping[str, Function] = {
    "IF": Function(2, 3, if_),
    "IFS": Function(2, MANY, ifs),
    "IFERROR": Function(2, 2, _if_error("IS NOT NULL")),
    "IFNA": Function(2, 2, _if_error(f"= {NA}")),
    "AND": Function(1, MANY, _logical("AND", "true")),
    "OR": Function(1, MANY, _logical("OR", "false")),
    "NOT": Function(1, 1, not_),
    "ISBLANK": Function(1, 1, is_blank),
    "ISERROR": Function(1, 1, is_error),
    "NA": Function(0, 0, not_available),
}
