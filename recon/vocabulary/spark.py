"""Emits a typed tree as one Spark SQL scalar expression with the meaning of ``reference``.

The expression needs a session with ``SETTINGS``, which Spark fixes when it analyses the expression: ANSI casts write decimals in plain
digits, decimal arithmetic keeps its scale (by default Spark silently reduces it when digits run out), and clocks are in UTC. Every
function that can fail is a ``try_``, so failures are null. Every operand occurs once in the text; where a rule needs a value twice, a
lambda over an array of one element binds it. No value passes through double.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from recon.vocabulary.sql import LETTERS, Emit, common_forms, emit, text_form, unit
from recon.vocabulary.tree import Expression, Node
from recon.vocabulary.types import DIGITS_MAX, QUOTIENT_SCALE, Type

SETTINGS = {
    "spark.sql.ansi.enabled": "true",
    "spark.sql.decimalOperations.allowPrecisionLoss": "false",
    "spark.sql.session.timeZone": "UTC",
}
"""The session settings that the meaning of the emitted text depends on."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INSTANTS = (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC))
_DAYS_MAX = 3_700_000
"""More days than there are between the first and the last date."""

_WHOLE = Type("decimal", DIGITS_MAX, 0)
_HALF = 19
"""Half of a quotient's digits. Division takes two steps, on integers that Spark's division has room for."""


def emit_spark(expression: Expression, names: Mapping[str, str]) -> str:
    """A scalar expression of type ``expression.type.spark``. ``names``: column → quoted SQL reference."""
    return emit(expression.tree, names, _literal, _FORMS)


def quoted(name: str) -> str:
    """A name as an identifier of Spark SQL."""
    return "`" + name.replace("`", "``") + "`"


def literal(text: str) -> str:
    """A text as a literal that does not depend on how the session reads backslashes and doubled quotes."""
    if text.isascii() and text.isprintable() and not {"'", "\\"} & set(text):
        return f"'{text}'"
    return f"CAST(X'{text.encode().hex()}' AS STRING)"


def _literal(value: object, kind: Type) -> str:
    if value is None:
        return f"CAST(NULL AS {kind.spark})"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return _instant(value)
    if isinstance(value, date):
        return f"DATE '{value.isoformat()}'"
    if isinstance(value, str):
        return literal(value)
    number = format(value, "f") if isinstance(value, Decimal) else str(value)
    return f"CAST('{number}' AS {kind.spark})"


def _instant(value: datetime) -> str:
    return f"timestamp_micros(CAST('{(value - _EPOCH) // timedelta(microseconds=1)}' AS BIGINT))"


def _bound(value: str, body: str) -> str:
    """``body`` with ``v`` standing for ``value``."""
    return f"transform(array({value}), v -> {body})[0]"


def _whole_number(number: int | str) -> str:
    return f"CAST('{number}' AS DECIMAL({DIGITS_MAX},0))"


def _digits(sql: str, kind: Type) -> str:
    """A decimal's digits without the point, as a whole number. Only the conversion through text keeps all 38 digits."""
    text = f"replace(CAST({sql} AS STRING), '.', '')" if kind.scale else sql
    return f"CAST({text} AS DECIMAL({DIGITS_MAX},0))"


def _divide(node: Node, args: list[str]) -> str:
    """The quotient of whole numbers n / d, rounded half away from zero. Spark's division has room for 20 digits before the point, so it
    takes two steps, by d · 10¹⁹ and then by d, each of a multiple of the divisor; only the last step rounds."""
    above, below = (_digits(arg, operand.type) for arg, operand in zip(args, node.args, strict=True))
    half, one, zero = _whole_number(10**_HALF), _whole_number(1), _whole_number(0)
    signed = f"named_struct('n', {above}, 'd', nullif({below}, {zero}))"
    n, d = (f"CASE WHEN v.{part} < 0 THEN {_opposite(f'v.{part}', _WHOLE)} ELSE v.{part} END" for part in "nd")
    sizes = _bound(signed, f"named_struct('n', {n}, 'd', {d}, 'less', (v.n < 0) <> (v.d < 0))")
    steps = _bound(sizes, f"named_struct('n', v.n, 'd', v.d, 'less', v.less, 'step', CASE WHEN v.d < {half} THEN {half} ELSE {one} END)")
    wide = _bound(steps, "named_struct('n', v.n, 'd', v.d, 'less', v.less, 'step', v.step, 'w', try_multiply(v.d, v.step))")
    first = _bound(wide, "named_struct('n', v.n, 'd', v.d, 'less', v.less, 'step', v.step, 'w', v.w, 'r', v.n % v.w)")
    high = "try_multiply(CAST((v.n - v.r) / v.w AS DECIMAL(38,0)), v.step)"
    second = _bound(first, f"named_struct('d', v.d, 'less', v.less, 'high', {high}, 'n', v.r, 'r', v.r % v.d)")
    whole = "try_add(v.high, CAST((v.n - v.r) / v.d AS DECIMAL(38,0)))"
    rounded = f"CASE WHEN v.r >= v.d - v.r THEN TRY_CAST(try_add({whole}, {one}) AS DECIMAL(38,0)) ELSE {whole} END"
    size = _bound(second, f"named_struct('q', {rounded}, 'less', v.less)")
    quotient = _bound(size, f"CASE WHEN v.less THEN {_opposite('v.q', _WHOLE)} ELSE v.q END")
    return f"TRY_CAST(try_multiply({quotient}, {unit(QUOTIENT_SCALE)}) AS {node.type.spark})"


def _modulo(node: Node, args: list[str]) -> str:
    return f"CAST({args[0]} % nullif({args[1]}, {_zero(node.type)}) AS {node.type.spark})"


def _opposite(sql: str, kind: Type) -> str:
    """Subtraction from zero, since Spark's unary minus and abs silently round decimals to 34 digits."""
    return f"TRY_CAST(try_subtract({_zero(kind)}, {sql}) AS {kind.spark})"


def _abs(node: Node, args: list[str]) -> str:
    return _bound(args[0], f"CASE WHEN v < 0 THEN {_opposite('v', node.type)} ELSE v END")


def _tried(function: str) -> Emit:
    return lambda node, args: f"TRY_CAST({function}({args[0]}, {args[1]}) AS {node.type.spark})"


def _day_part(form: str) -> Emit:
    return lambda node, args: f"CAST({form.format(_day(args[0]))} AS BIGINT)"


def _of_several(function: str) -> Emit:
    """least or greatest, which Spark refuses for a single value."""
    return lambda node, args: args[0] if len(args) == 1 else f"{function}({', '.join(args)})"


def _letters(source: str, target: str) -> Emit:
    """Letters a to z only."""
    return lambda node, args: f"translate({args[0]}, '{source}', '{target}')"


def _like(node: Node, args: list[str]) -> str:
    """A pattern in which the backslash, Spark's escape character, stands for itself."""
    return f"({args[0]} LIKE {literal(str(node.value).replace(chr(92), chr(92) * 2))})"


def _day(sql: str) -> str:
    return f"CAST({sql} AS DATE)"


def _add_days(node: Node, args: list[str]) -> str:
    # Days beyond 32 bits would overflow, so they are bounded before the addition.
    some = f"v.n >= -{_DAYS_MAX} AND v.n <= {_DAYS_MAX}"
    moved = _bound(f"named_struct('d', {args[0]}, 'n', {args[1]})", f"CASE WHEN {some} THEN date_add(v.d, CAST(v.n AS INT)) END")
    return _bound(moved, "CASE WHEN v >= DATE '0001-01-01' AND v <= DATE '9999-12-31' THEN v END")


def _cast(node: Node, args: list[str]) -> str:
    sql, source, to = args[0], node.args[0].type, node.type
    if to.kind == "text":
        return to_text(sql, source)
    if source.kind == "text":
        return _from_text(sql, to)
    if to.kind in ("date", "timestamp"):
        return f"CAST({sql} AS {to.spark})"
    if source.scale <= to.scale:
        return f"TRY_CAST({sql} AS {to.spark})"
    return _bound(sql, f"CASE WHEN v % {unit(to.scale)} = 0 THEN TRY_CAST(v AS {to.spark}) END")


def to_text(sql: str, source: Type) -> str:
    """A value's canonical text: decimals in plain digits, dates and times in ISO 8601, times in UTC with microseconds."""
    if source.kind == "timestamp":
        return f"date_format({sql}, {literal(chr(39).join(['yyyy-MM-dd', 'T', 'HH:mm:ss.SSSSSS', 'Z', '']))})"
    return f"CAST({sql} AS STRING)"


def _from_text(sql: str, to: Type) -> str:
    if to.kind == "boolean":
        lower = f"translate({sql}, '{LETTERS.upper()}', '{LETTERS}')"
        return f"(CASE {lower} WHEN 'true' THEN true WHEN 'false' THEN false END)"
    # Spark does not read 7.0 as an integer, so the cast goes through a decimal.
    value = f"TRY_CAST(TRY_CAST(v AS DECIMAL({DIGITS_MAX},0)) AS BIGINT)" if to.kind == "integer" else f"TRY_CAST(v AS {to.spark})"
    if to.kind == "timestamp":
        # Spark accepts a zone only after seconds.
        value = f"TRY_CAST(regexp_replace(v, '^(.{{16}})(Z|[+-].*)', {literal('$1:00$2')}) AS TIMESTAMP)"
    read = _bound(sql, f"CASE WHEN v RLIKE {literal(text_form(to))} THEN {value} END")
    if to.kind != "timestamp":
        return read
    first, last = (_instant(instant) for instant in _INSTANTS)
    return _bound(read, f"CASE WHEN v >= {first} AND v <= {last} THEN v END")


_FORMS: dict[str, Emit] = {
    **common_forms(lambda kind: kind.spark),
    "add": _tried("try_add"),
    "sub": _tried("try_subtract"),
    "mul": _tried("try_multiply"),
    **{name: _day_part(f"{name}({{}})") for name in ("year", "month", "day")},
    "weekday": _day_part("weekday({}) + 1"),
    "div": _divide,
    "mod": _modulo,
    "neg": lambda node, args: _opposite(args[0], node.type),
    "like": _like,
    **{name: _of_several(name) for name in ("coalesce", "nullif", "least", "greatest")},
    "length": lambda node, args: f"CAST(char_length({args[0]}) AS BIGINT)",
    "abs": _abs,
    "sign": lambda node, args: _bound(args[0], "CAST(CASE WHEN v > 0 THEN 1 WHEN v < 0 THEN -1 WHEN v = 0 THEN 0 END AS BIGINT)"),
    "lower": _letters(LETTERS.upper(), LETTERS),
    "upper": _letters(LETTERS, LETTERS.upper()),
    "trim": lambda node, args: f"trim(BOTH ' ' FROM {args[0]})",
    "concat": lambda node, args: f"concat({', '.join(args)})",
    "cast": _cast,
    "month_start": lambda node, args: f"trunc({_day(args[0])}, 'MM')",
    "date_diff": lambda node, args: f"CAST(datediff({_day(args[1])}, {_day(args[0])}) AS BIGINT)",
    "add_days": _add_days,
}


def _zero(kind: Type) -> str:
    return f"CAST('0' AS {kind.spark})"
