"""Functions of dates, each with Excel's rule in its docstring."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from recon.errors import WrongUsage
from recon.transformations.formulas.compile import Compiler, Function
from recon.transformations.formulas.layers import Value, sql_of
from recon.transformations.formulas.tree import NUM, Tree
from recon.vocabulary import Node, check
from recon.vocabulary.types import DATE


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
    return Value(Node("literal", (), DATE, compiler.settings.today))


DATES: Mapping[str, Function] = {
    "YEAR": Function(1, 1, _day_part("year")),
    "MONTH": Function(1, 1, _day_part("month")),
    "DAY": Function(1, 1, _day_part("day")),
    "DATE": Function(3, 3, date_of),
    "TODAY": Function(0, 0, today),
}
