"""Emits a typed tree as one DuckDB scalar expression with the meaning of ``reference``.

Every operand occurs once in the text, so that the text does not grow exponentially; where a rule needs a value twice, a lambda over a
list of one element binds it. No value passes through double, and nothing depends on the session (time zone, division by zero).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal

from recon.vocabulary.sql import LETTERS, Emit, common_forms, emit, text_form, unit
from recon.vocabulary.tree import Expression, Node
from recon.vocabulary.types import DIGITS_MAX, QUOTIENT_SCALE, Type, as_decimal

_QUOTIENT = (
    "CASE WHEN (v[1] < 0) <> (v[2] < 0) THEN -((abs(v[1]) + abs(v[2]) // 2) // abs(v[2])) "
    "ELSE (abs(v[1]) + abs(v[2]) // 2) // abs(v[2]) END"
)
_DIGITS_OF_64_BITS = 18
_LARGE = 4 * 10**18
"""Two integers up to this have a sum of 64 bits."""
_SHORT = 160
"""Characters of an operand that may occur several times in the text of an operation."""


def emit_duckdb(expression: Expression, names: Mapping[str, str]) -> str:
    """A scalar expression of type ``expression.type.duckdb``. ``names``: column → quoted SQL reference."""
    return emit(expression.tree, names, _literal, _FORMS)


def _literal(value: object, kind: Type) -> str:
    if value is None:
        return f"CAST(NULL AS {kind.duckdb})"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return f"TIMESTAMPTZ {literal(value.isoformat())}"
    if isinstance(value, date):
        return f"DATE {literal(value.isoformat())}"
    if isinstance(value, str):
        return literal(value)
    number = format(value, "f") if isinstance(value, Decimal) else str(value)
    return f"CAST({literal(number)} AS {kind.duckdb})"


def _bound(value: str, body: str) -> str:
    """``body`` with ``v`` standing for ``value``."""
    return f"list_transform([{value}], lambda v: {body})[1]"


def _exactly(sign: str) -> Emit:
    """+, - or *. A type of fewer than 38 digits has room for the result; otherwise an overflow becomes null."""

    def emit(node: Node, args: list[str]) -> str:
        first = _widened(args[0], node) if sign == "*" else args[0]
        result = f"CAST({first} {sign} {args[1]} AS {node.type.duckdb})"
        return result if node.type.kind == "decimal" and node.type.precision < DIGITS_MAX else f"TRY({result})"

    return emit


def _function(name: str) -> Emit:
    return lambda node, args: f"{name}({', '.join(args)})"


def _day_part(function: str) -> Emit:
    return lambda node, args: f"{function}({_day(args[0], node.args[0].type)})"


def _widened(sql: str, node: Node) -> str:
    """The first factor, widened beyond 64 bits if the product needs it: DuckDB multiplies two 64-bit decimals into a 64-bit decimal."""
    first = node.args[0].type
    if node.type.kind != "decimal" or node.type.precision <= _DIGITS_OF_64_BITS or first.precision > _DIGITS_OF_64_BITS:
        return sql
    return f"CAST({sql} AS DECIMAL({_DIGITS_OF_64_BITS + 1},{as_decimal(first).scale}))"


def _digits(sql: str, kind: Type) -> str:
    """A decimal's digits without the point, as a HUGEINT. Only the conversion through text keeps all 38 digits."""
    return f"CAST(replace(CAST({sql} AS VARCHAR), '.', '') AS HUGEINT)" if kind.scale else f"CAST({sql} AS HUGEINT)"


def _small_digits(sql: str, node: Node) -> tuple[str, str] | None:
    """Whether a decimal's digits without the point are at most ``_LARGE``, and the digits as a BIGINT where they are; None where the text
    would grow too long. ``sql``: of the node, which brings a number to more digits after the point."""
    if node.op != "bring" or not sql.startswith("CAST(") or len(sql) > _SHORT:
        return None
    source, more = as_decimal(node.args[0].type), node.type.scale - as_decimal(node.args[0].type).scale
    value = sql.removeprefix("CAST(").rpartition(" AS ")[0]
    if source.scale > _DIGITS_OF_64_BITS or more < 0 or more > _DIGITS_OF_64_BITS:
        return None
    if node.args[0].type.kind != "integer":
        narrow = f"DECIMAL({_DIGITS_OF_64_BITS},{source.scale})"
        value = value if source.precision <= _DIGITS_OF_64_BITS else f"TRY_CAST({value} AS {narrow})"
    most = Decimal(_LARGE // 10**more).scaleb(-source.scale)
    digits = f"CAST({value} * {10**source.scale} AS BIGINT)" if source.scale else f"CAST({value} AS BIGINT)"
    return f"{value} BETWEEN -{most:f} AND {most:f}", f"({digits} * {10**more})" if more else digits


def _divide(node: Node, args: list[str]) -> str:
    above, below = (_digits(arg, operand.type) for arg, operand in zip(args, node.args, strict=True))
    quotient = _bound(f"[{above}, nullif({below}, 0)]", _QUOTIENT)
    small = [_small_digits(arg, operand) for arg, operand in zip(args, node.args, strict=True)]
    if small[0] and small[1]:
        # DuckDB divides 64 bits twenty times as fast as 128.
        (fits_1, one), (fits_2, two) = small[0], small[1]
        divided = _QUOTIENT.replace("v[1]", one).replace("v[2]", f"nullif({two}, 0)")
        quotient = f"CASE WHEN {fits_1} AND {fits_2} THEN {divided} ELSE {quotient} END"
    # Rounding up may add a digit that the type has no room for.
    return f"TRY_CAST(CAST({quotient} AS DECIMAL({DIGITS_MAX},0)) * {unit(QUOTIENT_SCALE)} AS {node.type.duckdb})"


def _modulo(node: Node, args: list[str]) -> str:
    # The smallest integer % -1 overflows DuckDB's BIGINT.
    wide = "HUGEINT" if node.type.kind == "integer" else node.type.duckdb
    return f"CAST(CAST({args[0]} AS {wide}) % nullif({args[1]}, {_zero(node.type)}) AS {node.type.duckdb})"


def _letters(function: str, source: str, target: str) -> Emit:
    """Letters a to z only. For ASCII texts DuckDB's own function does the same, much faster than ``translate``."""
    sql = f"CASE WHEN strlen(v) = length(v) THEN {function}(v) ELSE translate(v, '{source}', '{target}') END"
    return lambda node, args: _bound(args[0], sql)


def _naive(sql: str) -> str:
    """A TIMESTAMPTZ as a TIMESTAMP in UTC, whatever the session's time zone."""
    return f"make_timestamp(epoch_us({sql}))"


def _day(sql: str, kind: Type) -> str:
    return f"CAST({_naive(sql)} AS DATE)" if kind.kind == "timestamp" else sql


def _add_days(node: Node, args: list[str]) -> str:
    moved = f"TRY({args[0]} + TRY_CAST({args[1]} AS INTEGER))"
    return _bound(moved, "CASE WHEN v BETWEEN DATE '0001-01-01' AND DATE '9999-12-31' THEN v END")


def _cast(node: Node, args: list[str]) -> str:
    sql, source, to = args[0], node.args[0].type, node.type
    if to.kind == "text":
        return to_text(sql, source)
    if source.kind == "text":
        return _from_text(sql, to)
    if to.kind == "date":
        return _day(sql, source)
    if to.kind == "timestamp":
        return f"make_timestamptz(epoch_us(CAST({sql} AS TIMESTAMP)))"
    if source.scale <= to.scale:
        return f"TRY_CAST({sql} AS {to.duckdb})"
    return _bound(sql, f"CASE WHEN v = trunc(v, {to.scale}) THEN TRY_CAST(v AS {to.duckdb}) END")


def to_text(sql: str, source: Type) -> str:
    """A value's canonical text: decimals in plain digits, dates and times in ISO 8601, times in UTC with microseconds."""
    if source.kind == "timestamp":
        return f"strftime({_naive(sql)}, '%Y-%m-%dT%H:%M:%S.%fZ')"
    text = f"CAST({sql} AS VARCHAR)"
    # DuckDB omits the zero before the point if the type has no digit there.
    bare = source.kind == "decimal" and source.scale == source.precision
    return f"regexp_replace({text}, '^(-?)\\.', '\\10.')" if bare else text


def _from_text(sql: str, to: Type) -> str:
    if to.kind == "boolean":
        return f"CASE lower({sql}) WHEN 'true' THEN true WHEN 'false' THEN false END"
    value = f"TRY_CAST(regexp_extract({sql}, '{text_form(to)}') AS {to.duckdb})"
    if to.kind != "timestamp":
        return value
    return _bound(value, "CASE WHEN year(make_timestamp(epoch_us(v))) BETWEEN 1 AND 9999 THEN v END")


_FORMS: dict[str, Emit] = {
    **common_forms(lambda kind: kind.duckdb),
    "add": _exactly("+"),
    "sub": _exactly("-"),
    "mul": _exactly("*"),
    **{name: _day_part(name) for name in ("year", "month", "day")},
    "weekday": _day_part("isodow"),
    **{name: _function(name) for name in ("coalesce", "nullif", "least", "greatest", "length")},
    "div": _divide,
    "mod": _modulo,
    "neg": lambda node, args: f"TRY({_zero(node.type)} - {args[0]})" if node.type.kind == "integer" else f"(-{args[0]})",
    "like": lambda node, args: f"({args[0]} LIKE {literal(str(node.value))})",
    "abs": lambda node, args: f"TRY(abs({args[0]}))",
    "sign": lambda node, args: f"CAST(sign({args[0]}) AS BIGINT)",
    "lower": _letters("lower", LETTERS.upper(), LETTERS),
    "upper": _letters("upper", LETTERS, LETTERS.upper()),
    "trim": lambda node, args: f"trim({args[0]}, ' ')",
    "concat": lambda node, args: f"({' || '.join(args)})",
    "cast": _cast,
    "month_start": lambda node, args: f"CAST(date_trunc('month', {_day(args[0], node.args[0].type)}) AS DATE)",
    "date_diff": lambda node, args: f"date_diff('day', {_day(args[0], node.args[0].type)}, {_day(args[1], node.args[1].type)})",
    "add_days": _add_days,
}


def _zero(kind: Type) -> str:
    return f"CAST('0' AS {kind.duckdb})"


def computed(expression: str, *values: object) -> object:
    """The value of an SQL expression over no table. Raises duckdb.Error.

    It has a connection of its own: the module's default connection belongs to whoever uses Recon as a library."""
    import duckdb

    with duckdb.default_connection().cursor() as connection:
        return connection.execute(f"SELECT {expression}", values).fetchall()[0][0]


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as an SQL string literal."""
    return "'" + text.replace("'", "''") + "'"
