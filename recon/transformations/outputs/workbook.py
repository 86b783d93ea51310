"""A table as a workbook: numbers as numbers, dates as dates, errors and numbers of more than 15 digits as text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recon.errors import WrongInput, WrongUsage
from recon.exports.sheets import COLUMNS_MAX, ROWS_MAX, Formats, Sheet, new_book, refuse_long_texts
from recon.transformations.formulas.tree import TEXTS
from recon.transformations.operations.table import Table
from recon.transformations.request.outputs import Output

_NAME_MAX = 31
_NO_NAME = re.compile(r"[\[\]:*?/\\\x00-\x1f]")


@dataclass(frozen=True)
class Cells:
    """What was written. ``as_text``: numbers that a cell would have rounded."""

    sheets: int
    as_text: int


def refuse_rows(output: Output, rows: int) -> None:
    """Raises WrongInput for rows that one sheet does not take, where the request does not split them."""
    if output.kind == "xlsx" and output.sheets == "one" and rows > ROWS_MAX:
        raise WrongInput(
            f"output {output.path}: {rows:,} rows do not fit a sheet, which takes {ROWS_MAX:,} below its heading; "
            "write sheets: split, or an output in .csv or .parquet"
        )


def refuse_columns(output: Output, table: Table) -> None:
    """Raises WrongUsage for columns that no sheet takes."""
    if output.kind == "xlsx" and table.columns is not None and len(table.known) > COLUMNS_MAX:
        raise WrongUsage(f"output {output.path}: {len(table.known):,} columns, and a sheet has {COLUMNS_MAX:,}; write .csv or .parquet")


def write_workbook(output: Output, table: Table, rows: Iterator[Sequence[Sequence[Any]]], new: Path, errors: bool) -> Cells:
    """Writes rows, as ``shown.with_codes`` has them, to ``new``. ``errors``: whether they are shown.

    Raises WrongUsage for a text that no cell takes, and OSError."""
    heading = [column.name for column in table.known]
    can_be_wrong = [at for at, column in enumerate(table.known) if column.error is not None]
    sheets: list[Sheet] = []
    with new_book(new) as book:
        formats = Formats(book)

        def begin() -> Sheet:
            sheets.append(Sheet(book.add_worksheet(_name(table.name, len(sheets))), formats, truths=True))
            sheets[-1].write(heading, bold=True)
            return sheets[-1]

        sheet = begin()
        for batch in rows:
            for row in batch:
                if sheet.row > ROWS_MAX:
                    sheet.finish(filtered=True)
                    sheet = begin()
                values = list(row[: len(heading)])
                for at, code in zip(can_be_wrong, row[len(heading) :], strict=True):
                    if code is not None:
                        values[at] = TEXTS[code] if errors else None
                refuse_long_texts(Path(output.path), sheet.row, values)
                sheet.write(values)
        sheet.finish(filtered=True)
    return Cells(len(sheets), sum(sheet.shown_as_text for sheet in sheets))


def _name(table: str, number: int) -> str:
    """A sheet's name, which a spreadsheet limits."""
    suffix = f" {number + 1}" if number else ""
    name = _NO_NAME.sub("_", table)[: _NAME_MAX - len(suffix)].strip("'") or "rows"
    return f"{'rows' if name.casefold() == 'history' else name}{suffix}"
