"""Sums in SQL that do not overflow: a decimal holds 38 digits, a sum of decimals over many keys or windows may need more."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, localcontext
from typing import Any

from recon.vocabulary.duckdb import quoted
from recon.vocabulary.types import Type

_SAFE_DIGITS = 28
"""10,000,000,000 values with this number of digits add up within 38 digits."""
_HALF = 10**19
_PARTS = "abc"


def parts_type(kind: Type) -> str:
    """The SQL type of the result of ``exact_sum_of``."""
    return f"STRUCT(a {'HUGEINT' if kind.kind == 'integer' else f'DECIMAL(38,{kind.scale})'}, b HUGEINT, c HUGEINT)"


def exact_sum_of(value: str, kind: Type) -> str:
    """SQL of a sum as a struct of three: the values with few digits, and the upper and the lower 19 digits of the other values."""
    return f"{{{', '.join(f'{name!r}: {part}' for name, part in zip(_PARTS, _sums(value, kind), strict=True))}}}"


def _sums(value: str, kind: Type) -> tuple[str, str, str]:
    if kind.kind == "integer" or kind.precision <= _SAFE_DIGITS:
        return f"CAST(sum({value}) AS {'HUGEINT' if kind.kind == 'integer' else f'DECIMAL(38,{kind.scale})'})", "0::HUGEINT", "0::HUGEINT"
    border = format(Decimal(1).scaleb(_SAFE_DIGITS - kind.scale), "f")
    few = f"abs({value}) < CAST('{border}' AS DECIMAL(38,{kind.scale}))"
    digits = f"CAST(replace(CAST({value} AS VARCHAR), '.', '') AS HUGEINT)"
    many = [f"sum(CASE WHEN NOT ({few}) THEN {digits} {half} {_HALF}::HUGEINT END)" for half in ("//", "%")]
    return f"sum(CASE WHEN {few} THEN {value} END)", many[0], many[1]


def sum_of_parts(column: str) -> str:
    """SQL of the sum of structs of ``exact_sum_of``."""
    return f"{{{', '.join(f'{name!r}: sum({column}.{quoted(name)})' for name in _PARTS)}}}"


def exact(parts: Mapping[str, Any] | None, kind: Type) -> Decimal:
    """The sum of the parts; 0 for None."""
    few, high, low = ((parts or {}).get(name) or 0 for name in _PARTS)
    with localcontext() as wide:
        wide.prec = 80
        return Decimal(few) + Decimal(high * _HALF + low).scaleb(-kind.scale)
