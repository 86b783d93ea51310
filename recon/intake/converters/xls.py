"""Excel 97-2003 (xls), by xlrd, which tells error cells from empty ones."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

from recon.errors import WrongInput
from recon.intake.converters.cells import ERRORS, Cell, SheetInfo, date_cell, duration_cell, error_cell, number_cell
from recon.intake.converters.port import Received
from recon.intake.converters.xlsx import shown_as
from recon.intake.files.formats import one_line

_ENCRYPTED_PACKAGE = "EncryptedPackage".encode("utf-16-le")


class Xls:
    def __init__(self, received: Received) -> None:
        import xlrd

        content = received.path.read_bytes()
        if _ENCRYPTED_PACKAGE in content:
            raise WrongInput(f"{received.shown}: the workbook is encrypted; send it without a password")
        try:
            self._book = xlrd.open_workbook(file_contents=content, formatting_info=True, logfile=io.StringIO())
        except Exception as error:  # a damaged file raises errors of any kind in xlrd
            what = "encrypted" if "encrypted" in str(error) else f"damaged ({one_line(error)})"
            raise WrongInput(f"{received.shown}: the workbook is {what}; save it as xlsx, without a password, and send that") from None

    def sheets(self) -> Sequence[SheetInfo]:
        return [SheetInfo(sheet.name, bool(sheet.visibility)) for sheet in self._book.sheets()]

    def rows(self, sheet: str) -> Iterator[tuple[int, list[Cell]]]:
        found = self._book.sheet_by_name(sheet)
        for number in range(found.nrows):
            row = [cell for column, each in enumerate(found.row(number)) if (cell := self._cell(column, each)) is not None]
            if row:
                yield number + 1, row

    def _cell(self, column: int, cell: Any) -> Cell | None:
        import xlrd

        if cell.ctype in (xlrd.XL_CELL_EMPTY, xlrd.XL_CELL_BLANK) or cell.value == "":
            return None
        if cell.ctype == xlrd.XL_CELL_TEXT:
            return Cell(column, cell.value)
        if cell.ctype == xlrd.XL_CELL_BOOLEAN:
            return Cell(column, "TRUE" if cell.value else "FALSE")
        if cell.ctype == xlrd.XL_CELL_ERROR:
            return error_cell(column, ERRORS.get(cell.value, f"number {cell.value}"))
        text = repr(cell.value)
        if cell.ctype == xlrd.XL_CELL_DATE:
            elapsed = shown_as(self._format(cell.xf_index)) == "duration"
            return duration_cell(column, text) if elapsed else date_cell(column, text, bool(self._book.datemode))
        return number_cell(column, text.removesuffix(".0"))

    def _format(self, style: int) -> str:
        """The number format of a style; "" in a damaged file."""
        try:
            return str(self._book.format_map[self._book.xf_list[style].format_key].format_str or "")
        except (LookupError, AttributeError):
            return ""
