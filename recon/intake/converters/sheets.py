"""Excel and OpenDocument: a row of a sheet is a row, with the header or the declared columns of ``Sheet``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from recon.config.settings import Limits
from recon.errors import WrongInput, WrongUsage
from recon.intake.converters.cells import ROWS_MAX, Cell, Workbook, address
from recon.intake.converters.layouts import Sheet
from recon.intake.converters.ods import Ods
from recon.intake.converters.packages import Package
from recon.intake.converters.port import Control, Received
from recon.intake.converters.text import not_empty
from recon.intake.converters.xls import Xls
from recon.intake.converters.xlsb import Xlsb
from recon.intake.converters.xlsx import Xlsx
from recon.intake.files.delimited import HEADER_AGAIN
from recon.intake.files.inspect import require_names
from recon.intake.files.raw import raw_table, shown

_BATCH_ROWS = 16_384


def open_workbook(received: Received, limits: Limits) -> Workbook:
    """By the file's content, since many workbooks have another's name."""
    start = not_empty(received)
    if start.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        return Xls(received)
    if not start.startswith(b"PK"):
        raise WrongInput(f"{received.shown}: no workbook of Excel or OpenDocument; declare the kind that it is, such as delimited")
    package = Package(received, limits)
    if "content.xml" in package.parts:
        return Ods(package)
    return Xlsb(package) if package.main.endswith(".bin") else Xlsx(package)


class SheetRows:
    """A line is a row's number in its sheet, plus ``ROWS_MAX`` for each sheet before it. ``errors``: whether an error cell is its text,
    such as #N/A, and no problem."""

    def __init__(self, received: Received, layout: Sheet, declared: Sequence[str] | None, limits: Limits, errors: bool = False) -> None:
        self.name, self._layout, self._errors = received.shown, layout, errors
        self.controls: list[Control] = []
        self._book = open_workbook(received, limits)
        self._sheets = self._chosen()
        if layout.header:
            self.names: Sequence[str] = self._header(declared or ())
        elif declared:
            self.names = tuple(declared)
        else:
            raise WrongUsage(f"{self.name}: a sheet without a header needs declared columns")

    def _chosen(self) -> list[str]:
        """The declared sheets, or the only one that has cells."""
        there = self._book.sheets()
        names = [sheet.name for sheet in there]
        if self._layout.sheet:
            for name in self._layout.sheet:
                if name not in names:
                    raise WrongInput(f"{self.name}: it has no sheet {name!r}; it has: {', '.join(map(repr, names))}")
            return list(self._layout.sheet)
        filled = [sheet for sheet in there if next(self._book.rows(sheet.name), None) is not None]
        if not filled:
            raise WrongInput(f"{self.name}: no sheet has a cell; send it again, or take it away if there is nothing to report")
        if len(filled) > 1:
            shown_names = ", ".join(repr(sheet.name) + " (hidden)" * sheet.hidden for sheet in filled)
            raise WrongInput(f"{self.name}: {len(filled)} sheets have cells: {shown_names}; write sheet: with the names of those to read")
        return [filled[0].name]

    def _header(self, needed: Sequence[str]) -> Sequence[str]:
        found: list[tuple[str, ...]] = []
        for sheet in self._sheets:
            where = f"row {self._layout.skip + 1} of sheet {sheet!r}"
            number, cells = next(((n, c) for n, c in self._book.rows(sheet) if n > self._layout.skip), (0, []))
            if number != self._layout.skip + 1 or not cells:
                there = f"; the first row with cells is {number}, so write skip: {number - 1}" if number else ""
                raise WrongInput(f"{self.name}: {where}: a header is declared, and there is none{there}")
            broken = next((cell for cell in cells if cell.problem), None)
            if broken is not None:
                raise WrongInput(f"{self.name}: {where}: {address(number, broken.column)} is {broken.problem}")
            names = [""] * (cells[-1].column + 1)
            for cell in cells:
                names[cell.column] = cell.text or ""
            require_names(self.name, f"{where}: the header", names, needed)
            if found and tuple(names) != found[0]:
                raise WrongInput(
                    f"{self.name}: {where}: the header differs from that of sheet {self._sheets[0]!r}; read it as a source of its own"
                )
            found.append(tuple(names))
        return found[0]

    def _rows(self) -> Iterator[tuple[int, list[Cell]]]:
        """Line and cells of all rows that have any."""
        first = self._layout.skip + self._layout.header
        for position, sheet in enumerate(self._sheets):
            for number, cells in self._book.rows(sheet):
                if number > first and cells:
                    yield position * ROWS_MAX + number, cells

    def batches(self) -> Iterator[Any]:
        import pyarrow as pa

        width = len(self.names)
        labels = ["line", "span", "problem", *(f"t{position}" for position in range(width))]
        kinds = [pa.int64(), pa.int32(), *[pa.string()] * (1 + width)]

        def made(rows: list[tuple[Any, ...]]) -> Any:
            columns = zip(*rows, strict=True)
            return pa.record_batch([pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)], names=labels)

        rows: list[tuple[Any, ...]] = []
        for line, cells in self._rows():
            values: list[str | None] = [None] * width
            problem = None
            for cell in cells:
                if self._errors and cell.error is not None:
                    cell = Cell(cell.column, cell.error)
                if cell.column < width:
                    values[cell.column] = cell.text
                if problem is None and (cell.problem or cell.column >= width):
                    place = address((line - 1) % ROWS_MAX + 1, cell.column)
                    problem = f"{place} is {cell.problem}" if cell.problem else f"{place} is beyond the {width} columns"
            if problem is None and tuple(value or "" for value in values) == tuple(self.names):
                problem = HEADER_AGAIN
            rows.append((line, 1, problem, *values))
            if len(rows) == _BATCH_ROWS:
                yield made(rows)
                rows = []
        if rows:
            yield made(rows)

    def raw(self, lines: Any, spans: Any) -> Iterator[Any]:
        wanted = iter(lines.tolist())
        line = next(wanted, None)
        found: list[tuple[int, str]] = []
        for number, cells in self._rows():
            if line is None:
                break
            if number == line:
                found.append((number, _as_json(cells)))
                line = next(wanted, None)
            if len(found) == _BATCH_ROWS:
                yield _table(found)
                found = []
        if found:
            yield _table(found)

    def place(self, line: int) -> str:
        position, row = divmod(line - 1, ROWS_MAX)
        return f"row {row + 1} of sheet {self._sheets[position]!r}"


def _as_json(cells: list[Cell]) -> str:
    """The cells of a row, as far as the last that has a value; a cell that can't be read is its fault."""
    values: list[str | None] = [None] * (cells[-1].column + 1)
    for cell in cells:
        values[cell.column] = cell.text if cell.problem is None else cell.problem
    return shown(json.dumps(values, ensure_ascii=False).encode("utf-8", "replace"))


def _table(rows: list[tuple[int, str]]) -> Any:
    import numpy as np

    return raw_table(np.array([line for line, _ in rows], np.int64), [text for _, text in rows])
