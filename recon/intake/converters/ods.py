"""OpenDocument spreadsheets, row by row in bounded memory."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from recon.errors import WrongInput
from recon.intake.converters.cells import COLUMNS_MAX, ERRORS, NO_VALUE, ROWS_MAX, Cell, SheetInfo, error_cell, number_cell
from recon.intake.converters.packages import Package
from recon.intake.converters.xmlstream import attribute, children, elements, local

_ERRORS = re.compile("|".join([*map(re.escape, ERRORS.values()), "Err:[0-9]{3}"]) + r"\Z")
_CLOCK = re.compile(r"(-?)PT(\d{1,9})H(\d{1,2})M(\d{1,2})(?:[.,](\d+))?S\Z")
_REPEATED_MAX = 1 << 22
"""Cells with a value that a file may have by repeating others."""


class Ods:
    def __init__(self, package: Package) -> None:
        self._package = package
        self._repeated = 0
        if "META-INF/manifest.xml" in package.parts:
            with package.part("META-INF/manifest.xml") as stream:
                if any(True for _ in elements(package.name, stream, ("encryption-data",))):
                    raise WrongInput(f"{package.name}: the workbook is encrypted; send it without a password")

    def sheets(self) -> Sequence[SheetInfo]:
        hidden, found, style = set[str](), [], ""
        with self._package.part("content.xml") as stream:
            for event, element in elements(self._package.name, stream, ("style", "table-properties", "table", "table-row")):
                kind = local(element)
                if event == "start" and kind == "style":
                    style = attribute(element, "name") or ""
                elif event == "start" and kind == "table-properties" and attribute(element, "display") == "false":
                    hidden.add(style)
                elif event == "start" and kind == "table":
                    found.append(SheetInfo(attribute(element, "name") or "", attribute(element, "style-name") in hidden))
        return found

    def rows(self, sheet: str) -> Iterator[tuple[int, list[Cell]]]:
        number, inside = 0, False
        with self._package.part("content.xml") as stream:
            for event, element in elements(self._package.name, stream, ("table", "table-row")):
                kind = local(element)
                if kind == "table":
                    if inside and event == "end":
                        return
                    inside = event == "start" and attribute(element, "name") == sheet
                elif inside and event == "end":
                    times = self._times(element, "number-rows-repeated", ROWS_MAX)
                    cells = self._cells(element)
                    for row in range(number + 1, number + 1 + (times if cells else 0)):
                        self._refuse_many(len(cells) * (row > number + 1))
                        if row > ROWS_MAX:
                            raise WrongInput(f"{self._package.name}: sheet {sheet!r} has more than {ROWS_MAX:,} rows")
                        yield row, cells
                    number += times

    def _times(self, element: Any, name: str, most: int) -> int:
        written = attribute(element, name) or "1"
        return min(int(written), most) if written.isascii() and written.isdigit() and len(written) < 12 else 1

    def _refuse_many(self, cells: int) -> None:
        self._repeated += cells
        if self._repeated > _REPEATED_MAX:
            raise WrongInput(f"{self._package.name}: it repeats more than {_REPEATED_MAX:,} cells; write each row with its own cells")

    def _cells(self, row: Any) -> list[Cell]:
        found: list[Cell] = []
        column = 0
        for element in row:
            if local(element) not in ("table-cell", "covered-table-cell"):
                continue
            times = self._times(element, "number-columns-repeated", COLUMNS_MAX)
            cell = _cell(element)
            if cell is not None:
                if column + times > COLUMNS_MAX:
                    raise WrongInput(f"{self._package.name}: a row has more than {COLUMNS_MAX:,} cells")
                self._refuse_many(times - 1)
                found += [cell._replace(column=column + place) for place in range(times)]
            column += times
        return found


def _cell(element: Any) -> Cell | None:
    """A cell, at column 0."""
    values = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
    # LibreOffice writes a second value-type, in a namespace of its own, after the standard's.
    kinds = [value for key, value in element.attrib.items() if key.endswith("}value-type")]
    kind = next((value for key, value in element.attrib.items() if key.endswith("office:1.0}value-type")), None)
    shown = "\n".join(_text(part) for part in children(element, "p"))
    if "error" in kinds or ("formula" in values and _ERRORS.match(shown)):
        return error_cell(0, shown[:20] or "without text")
    if kind is None:
        return Cell(0, None, NO_VALUE) if "formula" in values else Cell(0, shown) if shown else None
    if kind in ("float", "percentage", "currency"):
        return number_cell(0, values.get("value", ""))
    if kind == "date":
        return Cell(0, values.get("date-value", "").removesuffix("T00:00:00"))
    if kind == "time":
        return Cell(0, _time(values.get("time-value", "")))
    if kind == "boolean":
        return Cell(0, "TRUE" if values.get("boolean-value") == "true" else "FALSE")
    text = values.get("string-value", shown)
    if _ERRORS.match(text):
        return error_cell(0, text)
    return Cell(0, text) if text else None


def _time(written: str) -> str:
    match = _CLOCK.match(written)
    if match is None:
        return written
    fraction = (match[5] or "").rstrip("0")
    return f"{match[1]}{int(match[2]):02}:{int(match[3]):02}:{int(match[4]):02}" + (f".{fraction}" if fraction else "")


def _text(element: Any) -> str:
    """The text of a paragraph; OpenDocument writes runs of blanks, tabs and line breaks as elements."""
    parts = [element.text or ""]
    for child in element:
        kind = local(child)
        if kind == "s":
            count = attribute(child, "c") or "1"
            parts.append(" " * (int(count) if count.isascii() and count.isdigit() and len(count) < 6 else 1))
        elif kind in ("tab", "line-break"):
            parts.append("\t" if kind == "tab" else "\n")
        elif kind not in ("annotation", "note", ""):
            parts.append(_text(child))
        parts.append(child.tail or "")
    return "".join(parts)
