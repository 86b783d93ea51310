"""Writes a query's rows as a workbook: numbers as numbers, dates as dates, totals, and a sheet with the origin of the data.

A spreadsheet keeps 15 digits of a number. A number with more digits becomes a text, and the sheet `source` counts such numbers. A text is
never a formula.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon.errors import WrongUsage

if TYPE_CHECKING:
    import duckdb

ROWS_MAX, COLUMNS_MAX = 1_048_575, 16_384
"""Of a sheet; rows without the heading."""
TEXT_MAX = 32_767
DIGITS_MAX = 15
_WIDTHS = (8, 60)
_FIRST_DATE, _LAST_DATE = date(1900, 3, 1), date(9999, 12, 31)
"""Spreadsheets count days from 1900 on, including 29 February 1900, which did not exist."""


@dataclass(frozen=True)
class Book:
    """The other contents of a workbook. ``name``: of the sheet of rows. ``totals``: a query over the same connection, "" for none.
    ``about``: names and values. ``certificates``: one row per window, under ``columns``."""

    name: str = "rows"
    totals: str = ""
    about: Sequence[tuple[str, object]] = ()
    columns: Sequence[str] = ()
    certificates: Iterable[Sequence[object]] = ()


@dataclass
class Sheet:
    """A worksheet that is written row by row. ``shown_as_text``: number of values with too many digits for a cell. ``truths``: whether
    truth values are cells of their own kind, or texts."""

    sheet: Any
    formats: Formats
    truths: bool = False
    widths: dict[int, int] = field(default_factory=dict)
    shown_as_text: int = 0
    row: int = 0

    def write(self, values: Sequence[object], bold: bool = False) -> None:
        for column, value in enumerate(values):
            if value is None:
                continue
            text = _text(value)
            self.widths[column] = max(self.widths.get(column, 0), len(text) + (len(text) // 3 if _is_number(value) else 0))
            if bold:
                self.sheet.write_string(self.row, column, text, self.formats.of("bold"))
            else:
                self._write_cell(column, value, text)
        self.row += 1

    def _write_cell(self, column: int, value: object, text: str) -> None:
        if self.truths and isinstance(value, bool):
            self.sheet.write_boolean(self.row, column, value)
        elif isinstance(value, (int, Decimal)) and not isinstance(value, bool):
            if len(text.strip("-").replace(".", "").lstrip("0")) <= DIGITS_MAX:
                scale = max(0, -int(value.as_tuple().exponent)) if isinstance(value, Decimal) else 0
                self.sheet.write_number(self.row, column, float(value), self.formats.of("#,##0" + ("." + "0" * scale if scale else "")))
                return
            self.shown_as_text += 1
            self.sheet.write_string(self.row, column, text, self.formats.of("right"))
        elif isinstance(value, datetime) and _FIRST_DATE <= value.date() <= _LAST_DATE and value.microsecond % 1000 == 0:
            utc = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
            shown = "yyyy-mm-dd hh:mm:ss" + (".000" if utc.microsecond else "")
            self.sheet.write_datetime(self.row, column, utc, self.formats.of(shown))
        elif isinstance(value, date) and not isinstance(value, datetime) and _FIRST_DATE <= value <= _LAST_DATE:
            self.sheet.write_datetime(self.row, column, datetime(value.year, value.month, value.day), self.formats.of("yyyy-mm-dd"))  # noqa: DTZ001
        else:
            self.sheet.write_string(self.row, column, text)

    def finish(self, filtered: bool = False) -> None:
        """Sets each column's width by its longest text. ``filtered``: also freezes the heading and adds a filter."""
        for column, width in self.widths.items():
            self.sheet.set_column(column, column, min(max(width + 2, _WIDTHS[0]), _WIDTHS[1]))
        if filtered:
            self.sheet.freeze_panes(1, 1)
            self.sheet.autofilter(0, 0, max(0, self.row - 1), max(0, len(self.widths) - 1))


class Formats:
    """The formats of a workbook of xlsxwriter, each made once."""

    def __init__(self, book: Any) -> None:
        self._book, self._made = book, {"bold": book.add_format({"bold": True}), "right": book.add_format({"align": "right"})}

    def of(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = self._book.add_format({"num_format": name})
        return self._made[name]


def write_book(connection: duckdb.DuckDBPyConnection, query: str, file: Path, new: Path, book: Book) -> None:
    """Writes the rows of ``query`` and the other sheets of ``book`` to ``new``. ``file``: the name in error messages. Raises WrongUsage
    if a text does not fit."""
    with new_book(new) as made:
        formats = Formats(made)
        rows = Sheet(made.add_worksheet(book.name), formats)
        _write_query(connection, query, rows, file)
        rows.finish(filtered=True)
        as_text = rows.shown_as_text
        if book.totals:
            totals = Sheet(made.add_worksheet("totals"), formats)
            _write_query(connection, book.totals, totals, file)
            totals.finish()
            as_text += totals.shown_as_text
        if book.about:
            _write_source(Sheet(made.add_worksheet("source"), formats), book, rows.row - 1, as_text)


@contextmanager
def new_book(new: Path) -> Iterator[Any]:
    """A workbook of xlsxwriter whose rows are written in order, in constant memory, and whose texts are texts. It is written at the end of
    the block. Raises OSError."""
    import xlsxwriter
    from xlsxwriter.exceptions import FileCreateError

    no_formulas = {"strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}
    made = xlsxwriter.Workbook(str(new), {"constant_memory": True, "tmpdir": str(new.parent), **no_formulas})
    try:
        yield made
    except BaseException:
        made.fileclosed = True  # else xlsxwriter writes it, and warns, when the object goes
        for sheet in made.worksheets():
            sheet._opt_close()
        raise
    try:
        made.close()
    except FileCreateError as error:
        raise error.args[0] from error  # the OSError itself


def refuse_long_texts(file: Path, row: int, values: Sequence[object]) -> None:
    """Raises WrongUsage for a text that no cell takes. ``row``: its number in the sheet, from 0 for the heading."""
    if any(isinstance(value, str) and len(value) > TEXT_MAX for value in values):
        longest = max(len(value) for value in values if isinstance(value, str))
        raise WrongUsage(
            f"{file}: row {row}: a text of {longest:,} characters does not fit a cell of {TEXT_MAX:,}; export .csv or .parquet instead"
        )


def _write_query(connection: duckdb.DuckDBPyConnection, query: str, sheet: Sheet, file: Path) -> None:
    result = connection.execute(query)
    sheet.write([description[0] for description in result.description or ()], bold=True)
    while batch := result.fetchmany(10_000):
        for row in batch:
            refuse_long_texts(file, sheet.row, row)
            sheet.write(row)


def _write_source(sheet: Sheet, book: Book, rows: int, as_text: int) -> None:
    for name, value in (*book.about, ("rows", rows), ("numbers shown as text", as_text)):
        sheet.write([name, value])
    if as_text:
        sheet.write([None, f"numbers of more than {DIGITS_MAX} digits are texts, since a cell would round them"])
    if book.columns:
        sheet.write([])
        sheet.write(book.columns, bold=True)
        for certificate in book.certificates:
            sheet.write(certificate)
    sheet.finish()


def _text(value: object) -> str:
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="auto")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, Decimal)) and not isinstance(value, bool)
