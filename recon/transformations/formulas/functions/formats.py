"""Numbers and dates as texts and back, in the forms of the United States, each with Excel's rule in its docstring."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from recon.errors import WrongUsage
from recon.transformations.formulas.compile import Compiler, Function
from recon.transformations.formulas.layers import RESULT, Value, sql_of
from recon.transformations.formulas.tree import VALUE, Number, Text, Tree
from recon.vocabulary import check
from recon.vocabulary.duckdb import literal
from recon.vocabulary.types import BOOLEAN, DATE, TEXT, TIMESTAMP, as_decimal, decimal

_NUMBER = re.compile(r"(?P<currency>[$€£]?)(?P<groups>#,##)?(?P<zeros>0{1,20})(?:\.(?P<after>0{1,10}))?(?P<percent>%?)")
_DAY = re.compile(r"yyyy|yy|mmmm|mmm|mm|m|dddd|ddd|dd|d|[-/., ]")
_PARTS = {"yyyy": "%Y", "yy": "%y", "mmmm": "%B", "mmm": "%b", "mm": "%m", "m": "%-m", "dddd": "%A", "ddd": "%a", "dd": "%d", "d": "%-d"}
_KNOWN = "numbers such as 0, 000, 0.00, #,##0, $#,##0.00, 0.0%, and dates of yyyy, yy, mmmm, mmm, mm, m, dddd, ddd, dd, d and - / . ,"


def text_of(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """TEXT(x, format): a number rounded half away from zero to the digits of the format, or a date. The format is a text as it is written.
    A text that is no number stays as it is."""
    if not isinstance(args[1], Text):
        raise WrongUsage("the format of TEXT has to be a text as it is written")
    written, value = args[1].value, compiler.value(args[0])
    if written.lower() in ("general", "@"):
        return compiler.text(value)
    if value.type == BOOLEAN and not value.untyped:
        truth, nothing = compiler.text(value), text_of(compiler, [Number(Decimal(0)), args[1]])
        shown = f"CASE WHEN {sql_of(value.node)} IS NULL THEN {sql_of(nothing.node)} ELSE {sql_of(truth.node)} END"
        return compiler.sql(shown, TEXT, [truth, nothing])
    if _NUMBER.fullmatch(written):
        return _formatted(compiler, value, written)
    folded = written.lower()
    parts = _DAY.findall(folded)
    if "".join(parts) != folded or not set(parts) & set(_PARTS):
        raise WrongUsage(f"the format {written!r} of TEXT is not supported; there are {_KNOWN}")
    day = compiler.day(value, f"TEXT with {written!r}")
    form = "".join(_PARTS.get(part, part) for part in parts)
    return compiler.sql(f"strftime({sql_of(day.node)}, {literal(form)})", TEXT, [day])


def _formatted(compiler: Compiler, value: Value, written: str) -> Value:
    form = _NUMBER.fullmatch(written)
    assert form is not None
    number = compiler.number(value)
    found = Value(compiler.zeroed(number), None if value.type == TEXT else number.error, number.level)
    if form["percent"]:
        found = compiler.arithmetic("mul", found, Value(check.number("100", 1)))
    after = len(form["after"] or "")
    found = compiler.layers.computed(check.rounded([found.node, check.number(str(after), 1)]), [found])
    kind = as_decimal(found.type)
    found = compiler.layers.brought(found, decimal(kind.precision - kind.scale + after, after))
    digits = sql_of(check.cast(check.FUNCTIONS["abs"][2]([found.node]), TEXT))
    whole = (
        f"lpad(split_part({digits}, '.', 1), CAST(greatest({len(form['zeros'])}, length(split_part({digits}, '.', 1))) AS INTEGER), '0')"
    )
    if form["groups"]:
        whole = f"ltrim(reverse(regexp_replace(reverse({whole}), '([0-9]{{3}})', '\\1,', 'g')), ',')"
    sign = f"CASE WHEN {sql_of(found.node)} < 0 THEN '-' ELSE '' END"
    fraction = f" || '.' || split_part({digits}, '.', 2)" if after else ""
    sql = f"{sign} || '{form['currency']}' || {whole}{fraction} || '{form['percent']}'"
    if value.type == TEXT and not value.untyped:
        sql = f"CASE WHEN {number.error} IS NOT NULL THEN {sql_of(value.node)} ELSE {sql} END"
        return compiler.sql(sql, TEXT, [value, found, replace(number, error=None)])
    return compiler.sql(sql, TEXT, [found])


def value_of(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """VALUE(text): the number that a text is, such as ``1,234.50``, ``-$5``, ``(5)`` for -5, ``12.5%``; #VALUE! for another text."""
    return compiler.number(compiler.value(args[0]))


def date_value(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """DATEVALUE(text): the date that a text is: 2026-03-05, 3/5/2026 (month first), 5-Mar-2026, 5 March 2026, March 5, 2026; #VALUE! for
    another text."""
    value = compiler.value(args[0])
    if value.type in (DATE, TIMESTAMP) or value.untyped:
        return compiler.day(value, "DATEVALUE")
    if value.type != TEXT:
        raise WrongUsage(f"DATEVALUE takes a text, not {value.type}")
    text = f"trim({sql_of(value.node)})"
    branches = ""
    for form, read in _DATE_FORMS.items():
        branches += f"WHEN regexp_matches({text}, {literal(form)}) THEN CAST(try_strptime({text}, {literal(read)}) AS DATE) "
    within = f"CASE WHEN ({RESULT}) IS NULL AND {sql_of(value.node)} IS NOT NULL THEN {VALUE} END"
    found = compiler.sql(f"CASE {branches}END", DATE, [value])
    fits = f"CASE WHEN {sql_of(found.node)} >= DATE '1900-01-01' THEN {sql_of(found.node)} END"
    return compiler.sql(fits, DATE, [value, found], within)


_SHORT = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_LONG = "january|february|march|april|may|june|july|august|september|october|november|december"
_DATE_FORMS = {
    r"^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}$": "%Y-%m-%d",
    r"^[0-9]{4}/[0-9]{1,2}/[0-9]{1,2}$": "%Y/%m/%d",
    r"^[0-9]{1,2}/[0-9]{1,2}/[0-9]{4}$": "%m/%d/%Y",
    rf"(?i)^[0-9]{{1,2}}-({_SHORT})-[0-9]{{4}}$": "%d-%b-%Y",
    rf"(?i)^[0-9]{{1,2}} ({_SHORT}) [0-9]{{4}}$": "%d %b %Y",
    rf"(?i)^[0-9]{{1,2}} ({_LONG}) [0-9]{{4}}$": "%d %B %Y",
    rf"(?i)^({_SHORT}) [0-9]{{1,2}}, [0-9]{{4}}$": "%b %d, %Y",
    rf"(?i)^({_LONG}) [0-9]{{1,2}}, [0-9]{{4}}$": "%B %d, %Y",
}
"""The form of a text → how it is read."""

FORMATS: Mapping[str, Function] = {
    "TEXT": Function(2, 2, text_of),
    "VALUE": Function(1, 1, value_of),
    "DATEVALUE": Function(1, 1, date_value),
}
