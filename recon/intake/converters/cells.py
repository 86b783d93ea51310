"""Cells of spreadsheets as exact text: numbers by their 15 significant digits, dates from serial numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from decimal import Decimal
from math import isfinite, nan
from typing import NamedTuple, Protocol

DIGITS = 15
"""Significant digits of a number in a sheet: as many as every spreadsheet shows."""
ERRORS = {
    0x00: "#NULL!",
    0x07: "#DIV/0!",
    0x0F: "#VALUE!",
    0x17: "#REF!",
    0x1D: "#NAME?",
    0x24: "#NUM!",
    0x2A: "#N/A",
    0x2B: "#GETTING_DATA",
}
NO_VALUE = "a formula without a value; open the workbook in a spreadsheet program and save it"
ROWS_MAX, COLUMNS_MAX = 1 << 20, 1 << 14
"""Of a sheet, in Excel and OpenDocument."""


class Cell(NamedTuple):
    """``column``: from 0. ``text``: None for an error. ``problem``: why the row is a reject. ``error``: what an error cell shows."""

    column: int
    text: str | None
    problem: str | None = None
    error: str | None = None


class SheetInfo(NamedTuple):
    name: str
    hidden: bool


class Workbook(Protocol):
    """A spreadsheet file. ``rows``: (number from 1, cells with a value, by column) of a sheet, in order; rows without cells may be missing.
    Both raise WrongInput for a damaged file."""

    def sheets(self) -> Sequence[SheetInfo]: ...

    def rows(self, sheet: str) -> Iterator[tuple[int, list[Cell]]]: ...


def address(row: int, column: int) -> str:
    """Such as B7, for row 7, column 1."""
    letters = ""
    column += 1
    while column:
        column, rest = divmod(column - 1, 26)
        letters = chr(65 + rest) + letters
    return f"{letters}{row}"


def error_cell(column: int, shown: str) -> Cell:
    return Cell(column, None, f"an error cell, {shown}", shown)


_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\Z")
_SHORT = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?\Z")


def number_cell(column: int, text: str) -> Cell:
    """A number from its text in the file, or from a double's ``repr``."""
    if len(text) <= DIGITS and _SHORT.match(text):
        return Cell(column, _without_zeros(text))
    value = float(text) if _NUMBER.match(text) else nan
    if not isfinite(value):
        return Cell(column, None, f"{text[:40]!r}, which is no number")
    digits = f"{value:.{DIGITS}g}"
    if float(digits) != value:
        wrong = f"{text[:40]}, which has more than {DIGITS} significant digits; round it in the sheet, or write it as text"
        return Cell(column, None, wrong)
    return Cell(column, _without_zeros(f"{Decimal(digits):f}"))


def _without_zeros(text: str) -> str:
    """A number without zeros at the end of its fraction, as a sheet shows it: some programs write 1001 as 1001.0."""
    shorter = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if shorter == "-0" else shorter


def date_cell(column: int, serial: str, from_1904: bool) -> Cell:
    """A date, a date with time, or a time of the day (a serial number below 1), to the millisecond."""
    no_day = Cell(column, None, f"the serial number {serial[:40]}, which is no day; write the date as text, such as 2026-11-01")
    try:
        value = Decimal(serial)
        if not 0 <= value < 2_958_466:
            return no_day
    except ArithmeticError:
        return no_day
    day, part = divmod(value, 1)
    millis = int((part * 86_400_000).to_integral_value())
    if millis == 86_400_000:
        day, millis = day + 1, 0
    clock = _clock(millis)
    if not day and not from_1904:
        return Cell(column, clock)
    if day == 60 and not from_1904:  # 29 February 1900, which Excel has and the calendar has not
        return no_day
    begin = date(1904, 1, 1) if from_1904 else date(1899, 12, 31) if day < 60 else date(1899, 12, 30)
    try:
        shown = (begin + timedelta(days=int(day))).isoformat()
    except OverflowError:
        return no_day
    return Cell(column, f"{shown}T{clock}" if millis else shown)


def duration_cell(column: int, serial: str) -> Cell:
    """An elapsed time, such as 26:30:00."""
    try:
        millis = int((Decimal(serial) * 86_400_000).to_integral_value())
    except (ArithmeticError, ValueError):
        return Cell(column, None, f"{serial[:40]!r}, which is no duration")
    return Cell(column, ("-" if millis < 0 else "") + _clock(abs(millis)))


def _clock(millis: int) -> str:
    seconds, rest = divmod(millis, 1000)
    text = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{text}.{rest:03}" if rest else text
