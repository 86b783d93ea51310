"""Excel's xlsx and xlsm, row by row in bounded memory.

calamine is not used: it ends the process for a sheet with two far cells, gives error cells and formulas without a value as empty text, and
turns numbers into doubles (docs/decisions).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from recon.errors import WrongInput
from recon.intake.converters.cells import (
    COLUMNS_MAX,
    NO_VALUE,
    ROWS_MAX,
    Cell,
    SheetInfo,
    date_cell,
    duration_cell,
    error_cell,
    number_cell,
)
from recon.intake.converters.packages import Package
from recon.intake.converters.xmlstream import attribute, children, elements, local

_DATES = {*range(14, 23), *range(27, 37), 45, 47, *range(50, 59)}
_DURATIONS = {46}
"""Built-in number formats of dates and times, and of elapsed times."""
_QUOTED = re.compile(r'"[^"]*"|\\.|_.|\*.|\[(?![hms]+\])[^\]]*\]', re.IGNORECASE)
_ADDRESS = re.compile(r"([A-Z]{1,3})([1-9][0-9]{0,6})\Z")
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")


class Xlsx:
    def __init__(self, package: Package) -> None:
        self._package = package
        self._parts = package.related(package.main)
        self._infos: dict[str, tuple[SheetInfo, str]] = {}
        self._from_1904 = False
        with package.part(package.main) as stream:
            for event, element in elements(package.name, stream, ("workbookPr", "sheet")):
                if event == "start" and local(element) == "workbookPr":
                    self._from_1904 = element.get("date1904") in ("1", "true")
                elif event == "start":
                    self._add_sheet(element)

    def _add_sheet(self, element: Any) -> None:
        kind, target = self._parts.get(attribute(element, "id") or "", ("", ""))
        if kind == "worksheet":  # charts and macros have no cells
            name = element.get("name") or ""
            self._infos[name] = (SheetInfo(name, element.get("state", "visible") != "visible"), target)

    def sheets(self) -> Sequence[SheetInfo]:
        return [info for info, _ in self._infos.values()]

    def rows(self, sheet: str) -> Iterator[tuple[int, list[Cell]]]:
        _, part = self._infos[sheet]
        last = 0
        with self._package.part(part) as stream:
            for event, element in elements(self._package.name, stream, ("row",)):
                if event == "end":
                    number = self._number(element.get("r"), last, sheet)
                    last = number
                    if cells := self._cells(element, number):
                        yield number, cells

    def _number(self, written: str | None, last: int, sheet: str) -> int:
        if written is None:
            return last + 1
        number = int(written) if written.isascii() and written.isdigit() and len(written) < 8 else 0
        if not last < number <= ROWS_MAX:
            raise WrongInput(f"{self._package.name}: sheet {sheet!r}: row {written[:20]} follows row {last}; save the workbook anew")
        return number

    def _cells(self, row: Any, number: int) -> list[Cell]:
        found: list[Cell] = []
        column = -1
        for element in row:
            if local(element) != "c":
                continue
            column = self._column(element.get("r"), column, number)
            cell = self._cell(element, column)
            if cell is not None:
                found.append(cell)
        return found

    def _column(self, written: str | None, last: int, number: int) -> int:
        if written is None:
            column = last + 1
        else:
            match = _ADDRESS.match(written)
            column = -1
            for letter in match[1] if match else "":
                column = (column + 1) * 26 + ord(letter) - 65
        if not last < column < COLUMNS_MAX:
            raise WrongInput(f"{self._package.name}: row {number}: cell {(written or '')[:20]!r} is out of order; save the workbook anew")
        return column

    def _cell(self, element: Any, column: int) -> Cell | None:
        kind, value, formula, inline = element.get("t", "n"), None, False, None
        for child in element:
            name = local(child)
            if name == "v":
                value = child.text
            elif name == "f":
                formula = True
            elif name == "is":
                inline = _text(child)
        if kind == "inlineStr":
            return Cell(column, inline) if inline else None
        if kind == "str":
            return Cell(column, _unescaped(value)) if value else None
        if value is None or not value.strip():
            return Cell(column, None, NO_VALUE) if formula else None
        if kind == "s":
            return self._shared(column, value)
        if kind == "b":
            return Cell(column, "TRUE" if value.strip() in ("1", "true") else "FALSE")
        if kind == "e":
            return error_cell(column, value[:20])
        if kind == "d":
            return Cell(column, value.strip())
        style = self._styles.get(element.get("s", "0"), "number")
        if style == "number":
            return number_cell(column, value.strip())
        return duration_cell(column, value.strip()) if style == "duration" else date_cell(column, value.strip(), self._from_1904)

    def _shared(self, column: int, value: str) -> Cell | None:
        try:
            text = self._texts[int(value)]
        except (ValueError, IndexError):
            return Cell(column, None, f"text {value[:20]!r}, which the workbook does not have")
        return Cell(column, text) if text else None

    def _part_of(self, kind: str) -> str | None:
        return next((target for found, target in self._parts.values() if found == kind and target in self._package.parts), None)

    @cached_property
    def _texts(self) -> list[str]:
        part = self._part_of("sharedStrings")
        if part is None:
            return []
        with self._package.part(part) as stream:
            return [_text(element) for event, element in elements(self._package.name, stream, ("si",)) if event == "end"]

    @cached_property
    def _styles(self) -> dict[str, str]:
        """What a style shows a number as: date or duration; others are left out."""
        part = self._part_of("styles")
        if part is None:
            return {}
        formats: dict[str, str] = {}
        found: list[str] = []
        with self._package.part(part) as stream:
            for event, element in elements(self._package.name, stream, ("numFmt", "cellXfs")):
                if event == "end" and local(element) == "numFmt":
                    formats[element.get("numFmtId", "")] = element.get("formatCode", "")
                elif event == "end":
                    found = [xf.get("numFmtId", "0") for xf in children(element, "xf")]
        return {str(place): kind for place, number in enumerate(found) if (kind := style_of(number, formats)) != "number"}


def style_of(number: str, formats: dict[str, str]) -> str:
    """What a number format shows, by its number and the workbook's own formats: number, date or duration."""
    code = formats.get(number)
    if code is None:
        kind = int(number) if number.isdigit() else 0
        return "duration" if kind in _DURATIONS else "date" if kind in _DATES else "number"
    return shown_as(code)


def shown_as(code: str) -> str:
    """What a number format of Excel shows: number, date or duration."""
    bare = _QUOTED.sub("", code.split(";")[0]).lower()
    if re.search(r"\[[hms]+\]", bare):
        return "duration"
    return "date" if re.search("[dmyhs]", bare) and "general" not in bare else "number"


def _text(element: Any) -> str:
    """The text of a shared or inline string: its runs, without phonetic hints."""
    parts = [part.text or "" for part in children(element, "t")]
    return _unescaped("".join([*parts, *(part.text or "" for part in children(element, "r", "t"))]))


def _unescaped(text: str) -> str:
    """Characters that XML can't have are written as _x000D_."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text) if "_x" in text else text
