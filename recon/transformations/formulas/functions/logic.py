"""Functions that choose between values, each with Excel's rule in its docstring."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from recon.errors import WrongUsage
from recon.transformations.formulas.compile import MANY, Compiler, Function
from recon.transformations.formulas.layers import Value, blank, column, sql_of
from recon.transformations.formulas.tree import NA, VALUE, ColumnOf, Tree
from recon.vocabulary import Node
from recon.vocabulary.types import BOOLEAN, INTEGER, TEXT


@dataclass(frozen=True)
class Branch:
    """``test``: SQL of true or false. ``error``: SQL of its error's code. ``value``: what is chosen where it is true."""

    test: str
    error: str | None
    value: Value


def chosen(compiler: Compiler, branches: Sequence[Branch], otherwise: Value, below: Sequence[Value]) -> Value:
    """The value of the first branch whose test is true. An error of a test before it is the result; errors of other values are not.
    ``below``: the values that the tests name. All values have one type."""
    below = [*below, *(branch.value for branch in branches), otherwise]
    values, codes = "", ""
    for branch in branches:
        if branch.error is not None:
            values += f"WHEN {branch.error} IS NOT NULL THEN NULL "
            codes += f"WHEN {branch.error} IS NOT NULL THEN {branch.error} "
        values += f"WHEN {branch.test} THEN {sql_of(branch.value.node)} "
        codes += f"WHEN {branch.test} THEN {branch.value.error or 'NULL'} "
    name, level = compiler.layers.add(f"CASE {values}ELSE {sql_of(otherwise.node)} END", below)
    if all(error is None for error in (otherwise.error, *(part for branch in branches for part in (branch.error, branch.value.error)))):
        return Value(column(name, otherwise.type), None, level)
    error, _ = compiler.layers.add(f"CASE {codes}ELSE {otherwise.error or 'NULL'} END", below)
    return Value(column(name, otherwise.type), error, level)


def _by_conditions(compiler: Compiler, conditions: Sequence[Value], values: Sequence[Value]) -> Value:
    """``values``: one more than there are conditions, the last for where none is true."""
    pairs = zip(conditions, values, strict=False)
    branches = [Branch(sql_of(condition.node), condition.error, value) for condition, value in pairs]
    return chosen(compiler, branches, values[-1], conditions)


def if_(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """IF(condition, then, else): without else FALSE. An error of the condition is the result; one of the other branch does not matter."""
    condition = compiler.truth(compiler.value(args[0]))
    otherwise = compiler.value(args[2]) if len(args) > 2 else Value(Node("literal", (), BOOLEAN, False))
    return _by_conditions(compiler, [condition], compiler.unified([compiler.value(args[1]), otherwise], "IF"))


def ifs(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """IFS(condition, value, …): the value of the first condition that is true, #N/A where none is."""
    if len(args) % 2:
        raise WrongUsage("IFS takes pairs of a condition and a value")
    conditions = [compiler.truth(compiler.value(arg)) for arg in args[::2]]
    return _by_conditions(compiler, conditions, compiler.unified([*map(compiler.value, args[1::2]), blank(str(NA))], "IFS"))


def switch(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """SWITCH(x, candidate, value, …, default): the value of the first candidate that equals x; without a default #N/A."""
    subject, candidates = compiler.value(args[0]), args[1 : len(args) - 1 + len(args) % 2]
    conditions = [compiler.compared("eq", subject, compiler.value(arg)) for arg in candidates[::2]]
    default = blank(str(NA)) if len(args) % 2 else compiler.value(args[-1])
    return _by_conditions(compiler, conditions, compiler.unified([*map(compiler.value, candidates[1::2]), default], "SWITCH"))


def choose(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """CHOOSE(n, first, second, …): the n-th value, n without its digits after the point; #VALUE! where there is none."""
    place = compiler.number(compiler.value(args[0]))
    whole = compiler.sql(compiler.whole(place), INTEGER, [place])
    values = compiler.unified([*map(compiler.value, args[1:]), blank(str(VALUE))], "CHOOSE")
    branches = [Branch(f"{sql_of(whole.node)} = {at}", whole.error, value) for at, value in enumerate(values[:-1], 1)]
    return chosen(compiler, branches, values[-1], [whole])


def _if_error(codes: str) -> Callable[[Compiler, Sequence[Tree]], Value]:
    def build(compiler: Compiler, args: Sequence[Tree]) -> Value:
        """IFERROR, IFNA(x, instead): x unless it is an error, for IFNA unless it is #N/A."""
        value, instead = compiler.unified([compiler.value(arg) for arg in args], "IFERROR")
        if value.error is None:
            return value
        return chosen(compiler, [Branch(f"coalesce({value.error} {codes}, false)", None, instead)], value, [])

    return build


def _logical(joined: Callable[[list[str]], str], neutral: str) -> Callable[[Compiler, Sequence[Tree]], Value]:
    def build(compiler: Compiler, args: Sequence[Tree]) -> Value:
        """AND, OR, XOR: all arguments are looked at; an error of any of them is the result. Blanks, and texts in columns, are left out; if
        nothing is left, #VALUE!."""
        values = [(compiler.value(arg), isinstance(arg, ColumnOf)) for arg in args]
        ignored = [value for value, in_column in values if in_column and value.type == TEXT and not value.untyped]
        truths = [compiler.truth_or_blank(value) for value, _ in values if value not in ignored]
        terms = [sql_of(value.node) for value in truths]
        none = " AND ".join([f"{term} IS NULL" for term in terms]) or "true"
        sql = joined([neutral, *(f"coalesce({term}, {neutral})" for term in terms)])
        return compiler.sql(f"({sql})", BOOLEAN, [*truths, *ignored], f"CASE WHEN {none} THEN {VALUE} END")

    return build


def _odd(terms: list[str]) -> str:
    return f"({' + '.join(f'CASE WHEN {term} THEN 1 ELSE 0 END' for term in terms)}) % 2 = 1"


def not_(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """NOT(x)."""
    value = compiler.truth(compiler.value(args[0]))
    return compiler.sql(f"(NOT {sql_of(value.node)})", BOOLEAN, [value])


def _constant(truth: bool) -> Callable[[Compiler, Sequence[Tree]], Value]:
    """TRUE(), FALSE()."""
    return lambda compiler, args: Value(Node("literal", (), BOOLEAN, truth))


def not_available(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """NA(): #N/A."""
    return blank(str(NA))


LOGIC: Mapping[str, Function] = {
    "IF": Function(2, 3, if_),
    "IFS": Function(2, MANY, ifs),
    "SWITCH": Function(3, MANY, switch),
    "CHOOSE": Function(2, MANY, choose),
    "IFERROR": Function(2, 2, _if_error("IS NOT NULL")),
    "IFNA": Function(2, 2, _if_error(f"= {NA}")),
    "AND": Function(1, MANY, _logical(" AND ".join, "true")),
    "OR": Function(1, MANY, _logical(" OR ".join, "false")),
    "XOR": Function(1, MANY, _logical(_odd, "false")),
    "NOT": Function(1, 1, not_),
    "TRUE": Function(0, 0, _constant(True)),
    "FALSE": Function(0, 0, _constant(False)),
    "NA": Function(0, 0, not_available),
}
