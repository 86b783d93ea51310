"""Criteria of SUMIFS in plain Python, one value at a time: the oracle of ``recon.transformations.operations.criteria``."""

from __future__ import annotations

import operator
import re
from datetime import date
from decimal import Decimal
from typing import Any

from plain_functions import Wrong, number

from recon.transformations.formulas.tree import ERRORS

SIGNS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def pattern(text: str) -> str:
    """Excel's wildcards as a regular expression."""
    parts = re.findall(r"~.?|.", text, re.DOTALL)
    return "".join({"*": ".*", "?": ".", "~": ""}.get(part, re.escape(part[-1])) for part in parts)


def fits(value: Any, criterion: str) -> bool:
    """Whether a value fits a criterion as it is written."""
    sign = next((sign for sign in ("<>", "<=", ">=", "=", "<", ">") if criterion.startswith(sign)), "")
    wanted = criterion.removeprefix(sign)
    if wanted == "":
        return {"": value in (None, ""), "=": value is None, "<>": value is not None}[sign]
    if sign in SIGNS:
        return value is not None and not isinstance(value, Wrong) and compares(value, sign, typed(wanted, value))
    same = equals(value, wanted) or (wanted.upper() in ERRORS and equals(value, ERRORS[wanted.upper()]))
    return same != (sign == "<>")


def typed(text: str, like: Any) -> Any:
    if isinstance(like, date):
        return date.fromisoformat(text)
    return text if isinstance(like, str) else Decimal(text.replace(",", ""))


def compares(value: Any, sign: str, wanted: Any) -> bool:
    """<, <=, >, >= of two values of a kind; a blank or an error compares with nothing."""
    if value is None or wanted is None or isinstance(value, Wrong):
        return False
    one, two = (side.lower() if isinstance(side, str) else side for side in (value, wanted))
    return bool(SIGNS[sign](one, two))


def equals(value: Any, wanted: Any) -> bool:
    """``wanted``: a text, which may have wildcards or be a number; a number; or an error's code."""
    if isinstance(value, Wrong) or type(wanted) is int:
        return isinstance(value, Wrong) and value.code == wanted
    if value is None:
        return wanted == ""
    if isinstance(value, date):
        return value == (date.fromisoformat(wanted) if isinstance(wanted, str) else wanted)
    sides = [_as_number(side) for side in (value, wanted)]
    if None not in sides:
        return sides[0] == sides[1]
    if isinstance(value, str) and isinstance(wanted, str) and sides[1] is None:
        return bool(re.fullmatch(pattern(wanted.lower()), value.lower(), re.DOTALL))
    return False


def _as_number(value: Any) -> Decimal | None:
    try:
        return number(value)
    except Wrong:
        return None


def fits_row(value: Any, sign: str, own: Any) -> bool:
    """Whether a value fits what a row's own value says after a sign."""
    if sign in SIGNS:
        return compares(value, sign, own)
    if sign == "<>":
        return value is not None if own is None else not equals(value, own)
    return equals(value, Decimal(0) if own is None else own)
