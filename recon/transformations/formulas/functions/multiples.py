"""Functions that round to multiples, each with Excel's rule in its docstring."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from recon.transformations.formulas.compile import Compiler, Function
from recon.transformations.formulas.layers import RESULT, Value, sql_of
from recon.transformations.formulas.tree import DIV0, NUM, Tree
from recon.vocabulary import check
from recon.vocabulary.types import INTEGER, as_decimal, decimal


def _multiple(sql: str, error: str) -> Callable[[Compiler, Sequence[Tree]], Value]:
    """``sql``: with ``{x}``, ``{step}``, and ``{near}``, the multiple of the step that is next to x toward 0. ``error``: a WHEN of the
    function's own error."""

    def build(compiler: Compiler, args: Sequence[Tree]) -> Value:
        """CEILING(x, step): up, or for a negative step away from 0. FLOOR(x, step): down, or for a negative step toward 0. MROUND(x, step):
        to the nearer, halves away from 0. A positive x with a negative step is #NUM!, for MROUND any two signs; for a step of 0 CEILING
        and MROUND are 0, FLOOR is #DIV/0!."""
        number, step = compiler.numbers(args)
        tree = check.arithmetic("mod", compiler.zeroed(number), compiler.zeroed(step))
        rest = compiler.layers.computed(tree, [number, step])
        x, by = (sql_of(node) for node in tree.args)
        to = decimal(tree.type.precision + 1, tree.type.scale) if tree.type != INTEGER else INTEGER
        wide = to if to != INTEGER else decimal(25, 0)
        terms = {"x": f"CAST({x} AS {wide.duckdb})", "step": f"CAST({by} AS {wide.duckdb})"}
        terms["near"] = f"({terms['x']} - CAST({sql_of(rest.node)} AS {wide.duckdb}))"
        terms["rest"] = sql_of(rest.node)
        found = f"TRY(CAST(CASE WHEN {by} = 0 THEN 0 WHEN {sql_of(rest.node)} = 0 THEN {x} {sql.format(**terms)} END AS {to.duckdb}))"
        wrong = f"CASE {error.format(x=x, step=by)} WHEN {RESULT} IS NULL THEN {NUM} END"
        return compiler.sql(found, to, [rest, number, step], wrong)

    return build


_SIGNS = f"WHEN {{x}} > 0 AND {{step}} < 0 THEN {NUM}"


def _to_two(odd: bool) -> Callable[[Compiler, Sequence[Tree]], Value]:
    def build(compiler: Compiler, args: Sequence[Tree]) -> Value:
        """EVEN, ODD(x): away from 0 to an even, an odd number; ODD(0) is 1."""
        number = compiler.number(compiler.value(args[0]))
        node = compiler.zeroed(number)
        kind = as_decimal(node.type)
        wide, to = decimal(kind.precision + 2, kind.scale), decimal(kind.precision - kind.scale + 2, 0)
        one, x = ("1", "0")[not odd], sql_of(node)
        away = f"(CAST(abs({x}) AS {wide.duckdb}) + {one})"
        whole = f"({away} - {away} % 2 + CASE WHEN {away} % 2 = 0 THEN 0 ELSE 2 END - {one})"
        sql = f"TRY(CAST(CASE WHEN {x} < 0 THEN -{whole} ELSE {whole} END AS {to.duckdb}))"
        return compiler.sql(sql, to, [number], f"CASE WHEN {RESULT} IS NULL THEN {NUM} END")

    return build


MULTIPLES: Mapping[str, Function] = {
    "CEILING": Function(
        2, 2, _multiple("WHEN {x} < 0 AND {step} > 0 THEN {near} WHEN {x} > 0 AND {step} < 0 THEN NULL ELSE {near} + {step}", _SIGNS)
    ),
    "FLOOR": Function(
        2,
        2,
        _multiple(
            "WHEN {x} < 0 AND {step} > 0 THEN {near} - {step} WHEN {x} > 0 AND {step} < 0 THEN NULL ELSE {near}",
            f"WHEN {{step}} = 0 THEN {DIV0} {_SIGNS}",
        ),
    ),
    "MROUND": Function(
        2,
        2,
        _multiple(
            "WHEN abs({x} - {near}) * 2 >= abs({step}) THEN {near} + {step} ELSE {near}",
            f"{_SIGNS} WHEN {{x}} < 0 AND {{step}} > 0 THEN {NUM}",
        ),
    ),
    "EVEN": Function(1, 1, _to_two(odd=False)),
    "ODD": Function(1, 1, _to_two(odd=True)),
}
