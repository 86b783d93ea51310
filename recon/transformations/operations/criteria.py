"""Criteria as SUMIFS has them: ``5``, ``>=5``, ``<>``, ``a*``. The one module that knows what they mean.

A sign (none is ``=``) and what is compared: a number, a date as 2026-11-30 or as its number, TRUE or FALSE, an error, or a text, without
regard to case. ``=`` and ``<>`` of texts know ``*``, ``?``, and ``~``, behind which any character is plain; a text that is a number equals
that number, so that ``7`` finds ``007``. ``=`` alone is a blank, nothing at all a blank or an empty text, ``<>`` alone whatever is not
blank. ``<>`` is the contrary of ``=``: blanks and errors are among it. A criterion never is an error or a blank: a value fits it or not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from recon.config.fields import as_list
from recon.errors import WrongUsage
from recon.transformations.formulas.compile import number_in_text
from recon.transformations.formulas.layers import sql_of
from recon.transformations.formulas.tree import ERRORS
from recon.transformations.operations.matching import like_pattern
from recon.transformations.operations.table import Column
from recon.vocabulary import Node, reference
from recon.vocabulary.duckdb import literal
from recon.vocabulary.types import BOOLEAN, DATE, TEXT, TIMESTAMP, Type, decimal

_FORM = re.compile(r"(<>|<=|>=|=|<|>|)(.*)\Z", re.DOTALL)
OF_ROW = re.compile(r"(<>|<=|>=|=|<|>|)\s*\[@(?:\[(.+)\]|([^\[\]]+))\]\s*\Z")
"""``>=[@from]``: the row's own column, as formulas name it."""
_DIGITS = r"(?:[0-9]+|[0-9]{1,3}(?:,[0-9]{3})+)?(?:\.[0-9]*)?"
_NUMBER = re.compile(rf"(?P<less>[-(]?)\+?\$?(?P<digits>{_DIGITS})\)?(?P<hundredths>%?)")
DAY_0, LAST_DAY = date(1899, 12, 30), 2_958_465
"""Excel's day 0, and the number of 9999-12-31."""
_EXACT = Context(prec=120)


def _written(value: object) -> object:
    """Numbers and truth values of YAML as the criteria that they are."""
    if isinstance(value, bool):
        return str(value).upper()
    return str(value) if isinstance(value, int) else value


Criterion = Annotated[str, BeforeValidator(_written), Field(max_length=1000)]
Criteria = Annotated[tuple[Criterion, ...], BeforeValidator(as_list), Field(min_length=1)]
"""All of them hold."""


def all_fit(criteria: Iterable[tuple[Column, str]]) -> str:
    """SQL of whether values fit all criteria, each beside its column; true or false. Raises WrongUsage as ``fits``."""
    return " AND ".join(fits(column, criterion) for column, criterion in criteria) or "true"


def fits(column: Column, criterion: str) -> str:
    """SQL of whether the column's value fits a criterion: true or false, never null. Raises WrongUsage, with the column's name, for a
    criterion that no value of the column's type can fit."""
    found = _FORM.match(criterion)
    assert found is not None, "the form takes any text"
    sign, text = found.groups()
    if OF_ROW.match(criterion):
        raise WrongUsage(
            f"{column.name}: {criterion!r} is the row's own value, and these criteria are the same for every row; use a formula"
        )
    if not text:
        return _of_blanks(column, sign)
    if text.upper() in ERRORS and sign in ("", "=", "<>"):
        same = "false" if column.error is None else f"coalesce({column.error} = {ERRORS[text.upper()]}, false)"
        if column.type == TEXT:
            same = f"({same} OR coalesce({text_equal(column.value, literal(text))}, false))"
    elif sign in ("", "=", "<>"):
        same = f"coalesce({_equal(column, text)}, false)"
    else:
        return f"coalesce({_ordered(column, sign, text)}, false)"
    return f"(NOT {same})" if sign == "<>" else same


def _of_blanks(column: Column, sign: str) -> str:
    blank = f"{column.value} IS NULL" if column.error is None else f"({column.value} IS NULL AND {column.error} IS NULL)"
    if sign == "":
        return f"({blank} OR coalesce({column.value} = '', false))" if column.type == TEXT else f"({blank})"
    if sign == "=":
        return f"({blank})"
    if sign == "<>":
        return f"(NOT ({blank}))"
    raise WrongUsage(f"the criterion {sign!r} of {column.name!r} compares with nothing; write what, such as {sign}5")


def _equal(column: Column, text: str) -> str:
    if column.type != TEXT:
        return _compared(column, "=", text)
    number = _number(text)
    if number is not None:
        exact = reference.fit(number, decimal(38, 10))
        return "false" if exact is None else f"{number_in_text(column.value)} = {_constant(exact, decimal(38, 10))}"
    return text_equal(column.value, literal(text))


def text_equal(value: str, text: str) -> str:
    """SQL of whether a value is a text, which may have wildcards."""
    if not re.search(r"[*?~]", text):
        return f"lower({value}) = lower({text})"
    return f"lower({value}) LIKE {like_pattern(f'lower({text})')} ESCAPE '!'"


def _ordered(column: Column, sign: str, text: str) -> str:
    if column.type != TEXT:
        return _compared(column, sign, text)
    if _number(text) is not None:
        raise WrongUsage(f"{sign}{text} compares numbers, and {column.name!r} is text; declare its type, or compute one with VALUE")
    return f"lower({column.value}) {sign} lower({literal(text)})"


def _compared(column: Column, sign: str, text: str) -> str:
    """SQL of a comparison with a number, a date, a time or a truth value."""
    value, kind = _read(text, column.type), column.type
    if value is None or (kind.kind == "boolean" and sign != "="):
        example = {"date": "2026-11-30", "timestamp": "2026-11-30 or 2026-11-30T08:00Z", "boolean": "TRUE or FALSE, with = or <>"}
        raise WrongUsage(
            f"the criterion {sign.removeprefix('=')}{text} of {column.name!r}, which is {kind}, needs {example.get(kind.kind, 'a number')}"
        )
    return _with_number(column, sign, value) if kind.is_number else f"{column.value} {sign} {_constant(value, kind)}"


def _with_number(column: Column, sign: str, number: Decimal) -> str:
    """SQL of a comparison with a number that need not fit the column's type: the nearest that does compares alike."""
    kind = column.type
    least = Decimal(1).scaleb(-kind.scale)
    rounding = ROUND_CEILING if sign in (">=", "<") else ROUND_FLOOR
    near = number.quantize(least, rounding, _EXACT)
    if sign == "=" and near != number:
        return "false"
    fitting = reference.fit(near, kind)
    if fitting is None:  # no value of the column is as great
        beyond = (sign in ("<", "<=")) if number > 0 else (sign in (">", ">="))
        return f"{column.value} IS NOT NULL" if beyond else "false"
    return f"{column.value} {sign} {_constant(fitting, kind)}"


def _read(text: str, kind: Type) -> Any:
    """A text as a value to compare with values of a type; None where it is none."""
    if kind.is_number:
        return _number(text)
    if kind == DATE and (number := _number(text)) is not None:
        return DAY_0 + timedelta(int(number)) if number == int(number) and 0 < number <= LAST_DAY else None
    if kind == TIMESTAMP and (day := reference.cast(text.strip(), TEXT, DATE)) is not None:
        return reference.cast(day, DATE, TIMESTAMP)
    return reference.cast(text.strip().lower() if kind == BOOLEAN else text.strip(), TEXT, kind)


def _number(text: str) -> Decimal | None:
    """The number that a text is, in the forms of VALUE; None for another text."""
    found = _NUMBER.fullmatch(text.strip())
    if found is None or not re.search("[0-9]", found["digits"]) or ("(" in text) != (")" in text):
        return None
    number = Decimal(found["digits"].replace(",", "")).scaleb(-2 if found["hundredths"] else 0, _EXACT)
    return -number if found["less"] else number


def _constant(value: object, kind: Type) -> str:
    return sql_of(Node("literal", (), kind, value))
