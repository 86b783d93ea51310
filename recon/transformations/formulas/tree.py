"""A formula as a tree, and the errors that values can be."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

ERRORS = {"#NULL!": 1, "#DIV/0!": 2, "#VALUE!": 3, "#REF!": 4, "#NAME?": 5, "#NUM!": 6, "#N/A": 7}
"""Text → code, as Excel's ERROR.TYPE has them."""
DIV0, VALUE, NUM, NA = (ERRORS[text] for text in ("#DIV/0!", "#VALUE!", "#NUM!", "#N/A"))
TEXTS = {code: text for text, code in ERRORS.items()}


@dataclass(frozen=True)
class Number:
    """A number as it is written, to the last digit."""

    value: Decimal


@dataclass(frozen=True)
class Text:
    value: str


@dataclass(frozen=True)
class Truth:
    value: bool


@dataclass(frozen=True)
class Error:
    """``#N/A`` and its like, by their codes."""

    code: int


@dataclass(frozen=True)
class ColumnOf:
    """``[@amount]``: the row's own value of a column."""

    name: str


@dataclass(frozen=True)
class TableColumn:
    """``sales[amount]``: a whole column of a table, of the row's own where ``table`` is empty. ``name`` None: the table."""

    table: str
    name: str | None


@dataclass(frozen=True)
class Cell:
    """``B2``: the row's own value of the column at a place, from 0. ``shown``: as it is written."""

    place: int
    shown: str


@dataclass(frozen=True)
class Columns:
    """``items!A:C``: whole columns of a table by their places, from 0. ``shown``: as it is written."""

    table: str
    first: int
    last: int
    shown: str


@dataclass(frozen=True)
class Omitted:
    """An argument that is left out between commas, where a function allows it."""


@dataclass(frozen=True)
class Call:
    """A function or an operator, by its name in capitals or its sign; ``NEG`` and ``%`` take one operand."""

    name: str
    args: tuple[Tree, ...]


@dataclass(frozen=True)
class Known:
    """An operand that is compiled already. ``value``: a ``layers.Value``."""

    value: Any


Tree = Number | Text | Truth | Error | ColumnOf | TableColumn | Cell | Columns | Omitted | Call | Known
