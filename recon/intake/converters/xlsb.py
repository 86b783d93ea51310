"""Excel's binary workbooks (xlsb), row by row: parts of records, each a type, a length and its bytes ([MS-XLSB])."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from recon.errors import WrongInput
from recon.intake.converters.cells import (
    COLUMNS_MAX,
    ERRORS,
    ROWS_MAX,
    Cell,
    SheetInfo,
    date_cell,
    duration_cell,
    error_cell,
    number_cell,
)
from recon.intake.converters.packages import Package
from recon.intake.converters.xlsx import style_of
from recon.intake.files.formats import one_line

_ROW, _BLANK, _RK, _ERROR, _BOOL, _REAL, _TEXT, _SHARED, _F_TEXT, _F_NUMBER, _F_BOOL, _F_ERROR, _RICH = *range(12), 62
_SST_ITEM, _FORMAT, _XF, _WORKBOOK, _SHEET, _XFS, _XFS_END = 19, 44, 47, 153, 156, 617, 618
_CELLS = {*range(1, 12), _RICH}
_RECORD_BYTES_MAX = 1 << 24


class Xlsb:
    def __init__(self, package: Package) -> None:
        self._package = package
        self._parts = package.related(package.main)
        self._infos: dict[str, tuple[SheetInfo, str]] = {}
        self._from_1904 = False
        with self._damage():
            for kind, content in self._records(package.main):
                if kind == _WORKBOOK:
                    self._from_1904 = bool(content[0] & 1)
                elif kind == _SHEET:
                    self._add_sheet(content)

    def _add_sheet(self, content: bytes) -> None:
        relation, place = _wide(content, 8)
        name, _ = _wide(content, place)
        kind, target = self._parts.get(relation, ("", ""))
        if kind == "worksheet":  # charts and macros have no cells
            self._infos[name] = (SheetInfo(name, bool(content[0])), target)

    def sheets(self) -> Sequence[SheetInfo]:
        return [info for info, _ in self._infos.values()]

    def rows(self, sheet: str) -> Iterator[tuple[int, list[Cell]]]:
        with self._damage():
            yield from self._rows(sheet)

    def _rows(self, sheet: str) -> Iterator[tuple[int, list[Cell]]]:
        number, column = 0, -1
        cells: list[Cell] = []
        for kind, content in self._records(self._infos[sheet][1]):
            if kind == _ROW:
                if cells:
                    yield number, cells
                last, number, cells, column = number, struct.unpack_from("<L", content)[0] + 1, [], -1
                if not last < number <= ROWS_MAX:
                    raise self._damaged(f"sheet {sheet!r}: row {number} follows row {last}")
            elif kind in _CELLS and number:
                last, column, style = column, *struct.unpack_from("<LL", content)
                if not last < column < COLUMNS_MAX:
                    raise self._damaged(f"sheet {sheet!r}: row {number}: a cell is out of order")
                cell = self._cell(kind, column, style & 0xFFFFFF, content)
                if cell is not None:
                    cells.append(cell)
        if cells:
            yield number, cells

    def _cell(self, kind: int, column: int, style: int, content: bytes) -> Cell | None:
        if kind in (_REAL, _F_NUMBER):
            return self._number(column, style, repr(struct.unpack_from("<d", content, 8)[0]))
        if kind == _RK:
            return self._number(column, style, _rk(struct.unpack_from("<L", content, 8)[0]))
        if kind in (_ERROR, _F_ERROR):
            return error_cell(column, ERRORS.get(content[8], f"number {content[8]}"))
        if kind in (_BOOL, _F_BOOL):
            return Cell(column, "TRUE" if content[8] else "FALSE")
        if kind == _SHARED:
            place = struct.unpack_from("<L", content, 8)[0]
            if place >= len(self._texts):
                return Cell(column, None, f"text {place}, which the workbook does not have")
            return Cell(column, self._texts[place]) if self._texts[place] else None
        if kind in (_TEXT, _F_TEXT, _RICH):
            text, _ = _wide(content, 9 if kind == _RICH else 8)
            return Cell(column, text) if text else None
        return None

    def _number(self, column: int, style: int, text: str) -> Cell:
        shown = self._styles.get(style, "number")
        if shown == "number":
            return number_cell(column, text.removesuffix(".0"))
        return duration_cell(column, text) if shown == "duration" else date_cell(column, text, self._from_1904)

    def _part_of(self, kind: str) -> str | None:
        return next((target for found, target in self._parts.values() if found == kind and target in self._package.parts), None)

    @cached_property
    def _texts(self) -> list[str]:
        part = self._part_of("sharedStrings")
        return [_wide(content, 1)[0] for kind, content in self._records(part) if kind == _SST_ITEM] if part else []

    @cached_property
    def _styles(self) -> dict[int, str]:
        """What a style shows a number as: date or duration; others are left out."""
        formats: dict[str, str] = {}
        found: list[int] = []
        inside = False
        part = self._part_of("styles")
        for kind, content in self._records(part) if part else ():
            if kind == _FORMAT:
                formats[str(struct.unpack_from("<H", content)[0])] = _wide(content, 2)[0]
            elif kind in (_XFS, _XFS_END):
                inside = kind == _XFS
            elif kind == _XF and inside:
                found.append(struct.unpack_from("<H", content, 2)[0])
        shown = {place: style_of(str(number), formats) for place, number in enumerate(found)}
        return {place: what for place, what in shown.items() if what != "number"}

    def _records(self, part: str) -> Iterator[tuple[int, bytes]]:
        """Type and content of the records of a part."""
        with self._package.part(part) as stream:
            while (kind := _variable(stream, 2)) is not None:
                length = _variable(stream, 4)
                if length is None or length > _RECORD_BYTES_MAX:
                    raise self._damaged(f"{part} has a record of {length} bytes")
                content = stream.read(length)
                if len(content) < length:
                    raise self._damaged(f"{part} is cut off")
                yield kind, content

    @contextmanager
    def _damage(self) -> Iterator[None]:
        """Records that are shorter than their fields."""
        try:
            yield
        except (struct.error, IndexError, UnicodeDecodeError) as error:
            raise self._damaged(one_line(error)) from None

    def _damaged(self, reason: str) -> WrongInput:
        return WrongInput(f"{self._package.name}: the workbook is damaged ({reason}); save it anew")


def _variable(stream: Any, most: int) -> int | None:
    """A number of at most ``most`` bytes, 7 bits each, the lowest first; None at the end."""
    value = 0
    for place in range(most):
        byte = stream.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << (7 * place)
        if byte[0] < 0x80:
            break
    return value


def _wide(content: bytes, place: int) -> tuple[str, int]:
    """The text at a place, and where it ends."""
    length = struct.unpack_from("<L", content, place)[0]
    if length == 0xFFFFFFFF:  # none
        return "", place + 4
    end = place + 4 + 2 * length
    if end > len(content):
        raise IndexError("a text longer than its record")
    return content[place + 4 : end].decode("utf-16-le"), end


def _rk(packed: int) -> str:
    """A number in 32 bits: a whole number or the upper bits of a double, perhaps in hundredths."""
    if packed & 2:
        whole = struct.unpack("<l", struct.pack("<L", packed))[0] >> 2
        if not packed & 1:
            return str(whole)
        return f"{'-' * (whole < 0)}{abs(whole) // 100}.{abs(whole) % 100:02}"
    value = struct.unpack("<d", struct.pack("<Q", (packed & 0xFFFFFFFC) << 32))[0]
    return repr(value / 100 if packed & 1 else value)
