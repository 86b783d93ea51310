"""The six types of values, and the result types of operations."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from recon.errors import WrongUsage

Kind = Literal["decimal", "integer", "text", "boolean", "date", "timestamp"]

DIGITS_MAX = 38
"""Digits of the widest decimal, on every engine."""
INTEGER_DIGITS = 19
"""Digits of the largest 64-bit integer: an integer among decimals counts as decimal(19,0)."""
QUOTIENT_SCALE = 10
"""Digits after the point of every quotient."""

_DUCKDB = {"integer": "BIGINT", "text": "VARCHAR", "boolean": "BOOLEAN", "date": "DATE", "timestamp": "TIMESTAMPTZ"}
_SPARK = {"integer": "BIGINT", "text": "STRING", "boolean": "BOOLEAN", "date": "DATE", "timestamp": "TIMESTAMP"}
_ALIASES: dict[str, Kind] = {
    **dict.fromkeys(("decimal", "numeric"), "decimal"),
    **dict.fromkeys(("integer", "int", "bigint", "int64", "long"), "integer"),
    **dict.fromkeys(("text", "string", "varchar"), "text"),
    **dict.fromkeys(("boolean", "bool"), "boolean"),
    "date": "date",
    **dict.fromkeys(("timestamp", "timestamptz"), "timestamp"),
}
_INEXACT = {"float", "float4", "float8", "float32", "float64", "double", "double precision", "real"}
_TYPE = re.compile(r"([a-z_][a-z0-9_ ]*?)\s*(?:\(\s*(\d{1,3})\s*(?:,\s*(\d{1,3})\s*)?\))?\Z")


@dataclass(frozen=True)
class Type:
    """A value's type. Only decimals have ``precision`` (digits in all) and ``scale`` (digits after the point)."""

    kind: Kind
    precision: int = 0
    scale: int = 0

    @property
    def duckdb(self) -> str:
        """The name in DuckDB."""
        return f"DECIMAL({self.precision},{self.scale})" if self.kind == "decimal" else _DUCKDB[self.kind]

    @property
    def spark(self) -> str:
        """The name in Spark SQL."""
        return f"DECIMAL({self.precision},{self.scale})" if self.kind == "decimal" else _SPARK[self.kind]

    @property
    def is_number(self) -> bool:
        """Whether values can be summed."""
        return self.kind in ("decimal", "integer")

    def __str__(self) -> str:
        return f"decimal({self.precision},{self.scale})" if self.kind == "decimal" else self.kind


INTEGER = Type("integer")
TEXT = Type("text")
BOOLEAN = Type("boolean")
DATE = Type("date")
TIMESTAMP = Type("timestamp")


def decimal(precision: int, scale: int) -> Type:
    """A decimal of at most 38 digits; a larger precision loses digits before the point."""
    return Type("decimal", max(1, min(precision, DIGITS_MAX)), scale)


def parse_type(text: str, field: str) -> Type:
    """Parses ``decimal(18,2)``, ``integer``, ``text``, …. Raises WrongUsage with ``field``."""
    match = _TYPE.match(text.strip().lower())
    name, precision, scale = match.groups() if match else (None, None, None)
    if name in _INEXACT:
        raise WrongUsage(f"{field}: {text} does not hold money exactly; declare a decimal such as decimal(18,2)")
    kind = _ALIASES.get(name) if name else None
    if kind is None or (precision is not None and kind != "decimal"):
        raise WrongUsage(f"{field}: {text!r} is not a type; write decimal(18,2), integer, text, boolean, date or timestamp")
    if kind != "decimal":
        return Type(kind)
    if precision is None:
        raise WrongUsage(f"{field}: {text} needs its digits; write them as in decimal(18,2)")
    digits, after = int(precision), int(scale or 0)
    if not 1 <= digits <= DIGITS_MAX or after > digits:
        raise WrongUsage(f"{field}: {text} is not possible; a decimal has 1 to 38 digits, of which at most all after the point")
    return Type("decimal", digits, after)


def common(one: Type, two: Type) -> Type | None:
    """The type for values of both types, or None. Decimals get the larger scale and the larger number of digits before the point."""
    if one == two:
        return one
    if not (one.is_number and two.is_number):
        return None
    one, two = as_decimal(one), as_decimal(two)
    scale = max(one.scale, two.scale)
    return decimal(max(one.precision - one.scale, two.precision - two.scale) + scale, scale)


def as_decimal(number: Type) -> Type:
    """The decimal type of a number."""
    return number if number.kind == "decimal" else decimal(INTEGER_DIGITS, 0)


def sum_type(one: Type, two: Type) -> Type:
    """The type of ``one + two`` and ``one - two``; integers stay integers."""
    if one.kind == two.kind == "integer":
        return INTEGER
    shared = common(as_decimal(one), as_decimal(two))
    assert shared is not None
    return decimal(shared.precision + 1, shared.scale)


def product_type(one: Type, two: Type) -> Type | None:
    """The type of ``one * two``; None if it would have more than 38 digits after the point."""
    if one.kind == two.kind == "integer":
        return INTEGER
    one, two = as_decimal(one), as_decimal(two)
    scale = one.scale + two.scale
    return decimal(one.precision + two.precision, scale) if scale <= DIGITS_MAX else None


def quotient_type(dividend: Type, divisor: Type) -> Type | None:
    """The type of ``dividend / divisor``: ten digits after the point; None if the divisor has more than 28 there."""
    dividend, divisor = as_decimal(dividend), as_decimal(divisor)
    if divisor.scale > DIGITS_MAX - QUOTIENT_SCALE:
        return None
    return decimal(dividend.precision - dividend.scale + divisor.scale + QUOTIENT_SCALE, QUOTIENT_SCALE)


def quotient_scales(dividend: Type, divisor: Type) -> tuple[int, int]:
    """The scales of dividend and divisor with which the quotient of their digits has ten digits after the point."""
    below = max(as_decimal(divisor).scale, as_decimal(dividend).scale - QUOTIENT_SCALE)
    return below + QUOTIENT_SCALE, below
