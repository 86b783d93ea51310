"""Workbooks as a spreadsheet opens them: widths, formats of numbers and dates, totals, and where it all came from."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import openpyxl
import pytest
import strategies as s
from histories import open_in

from recon.api import Reconciliation
from recon.model.windows import name_of
from recon.reading.exports import write_rows

W0, W1, W2 = (name_of(s.at(window)) for window in range(3))
ONE_CURRENCY = s.STANDARD_YAML.replace(", by: currency", "")


def land(r: Reconciliation, window: int, rows: Sequence[s.Row]) -> None:
    path = r.config.path.parent / f"a{window}.csv"
    path.write_text(s.to_csv(tuple(rows)))
    r.land([path], name_of(s.at(window)), close=True, again=True)


def rows_of(sheet: Any) -> list[list[Any]]:
    return [[cell.value for cell in row] for row in sheet.iter_rows()]


def opened(query: str, file: Path) -> Any:
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    write_rows(connection, query, file)
    return openpyxl.load_workbook(file)["rows"]


@pytest.fixture(scope="module")
def r(tmp_path_factory: pytest.TempPathFactory) -> Reconciliation:
    r = open_in(tmp_path_factory.mktemp("sheets"), ONE_CURRENCY)
    paid = s.Row(order_id="A-key-of-thirty-characters-here", event_id="p", event_type="PAYMENT", amount="1234567.50")
    land(r, 0, [s.Row(order_id="B", event_id="b", amount="0.10"), paid, s.Row(order_id="C", event_id="c", amount="9999999999999999.99")])
    land(r, 1, [s.Row(order_id="D", event_id="d", amount="5.00"), s.Row(amount="no number")])
    r.run()
    return r


def test_numbers_are_numbers_with_their_decimals_and_dates_are_dates(tmp_path: Path) -> None:
    query = """
        SELECT 1234567.50::DECIMAL(18,2) AS amount, 12::BIGINT AS n, 0.000001::DECIMAL(18,6) AS small, DATE '2026-11-01' AS day,
               TIMESTAMPTZ '2026-11-01 09:30:00+02' AS at, DATE '1850-01-01' AS old, true AS flag, 'text' AS text, '=1+1' AS formula"""
    cells = {heading.value: cell for heading, cell in zip(*opened(query, tmp_path / "x.xlsx").iter_rows(), strict=True)}
    assert (cells["amount"].value, cells["amount"].number_format) == (1234567.5, "#,##0.00")
    assert (cells["n"].value, cells["n"].number_format) == (12, "#,##0")
    assert (cells["small"].value, cells["small"].number_format) == (0.000001, "#,##0.000000")
    assert (cells["day"].value, cells["day"].is_date, cells["day"].number_format) == (datetime(2026, 11, 1), True, "yyyy-mm-dd")  # noqa: DTZ001
    assert (cells["at"].value, cells["at"].is_date) == (datetime(2026, 11, 1, 7, 30), True)  # noqa: DTZ001
    assert [cells[name].value for name in ("old", "flag", "text", "formula")] == ["1850-01-01", "true", "text", "=1+1"]
    assert cells["formula"].data_type == "s"


def test_digits_beyond_fifteen_stay_as_text_and_the_source_says_so(r: Reconciliation, tmp_path: Path) -> None:
    r.export(tmp_path / "all.xlsx")
    book = openpyxl.load_workbook(tmp_path / "all.xlsx")
    by_key = {row[0]: dict(zip(rows_of(book["artifacts"])[0], row, strict=True)) for row in rows_of(book["artifacts"])[1:]}
    assert by_key["C"]["balance"] == "9999999999999999.99"
    assert by_key["B"]["balance"] == 0.1
    source = rows_of(book["source"])
    said = next(row[1] for row in source if row[0] == "numbers shown as text")
    texts = [cell for sheet in ("artifacts", "totals") for row in rows_of(book[sheet])[1:] for cell in row]
    assert said == sum(1 for cell in texts if isinstance(cell, str) and cell.replace(".", "").lstrip("-").isdigit() and "." in cell)
    assert [None, "numbers of more than 15 digits are texts, since a cell would round them"] in [row[:2] for row in source]


def test_columns_are_as_wide_as_what_they_hold_and_the_heading_stays(r: Reconciliation, tmp_path: Path) -> None:
    r.export(tmp_path / "all.xlsx")
    sheet = openpyxl.load_workbook(tmp_path / "all.xlsx")["artifacts"]
    assert sheet.column_dimensions["A"].width >= len("A-key-of-thirty-characters-here")
    headings = {cell.value: cell.column_letter for cell in sheet[1]}
    assert sheet.column_dimensions[headings["billed"]].width >= len("9,999,999,999,999,999.99")
    assert (sheet.freeze_panes, bool(sheet.auto_filter.ref)) == ("B2", True)
    assert all(cell.font.bold for cell in sheet[1])


def test_totals_by_status_are_exact(r: Reconciliation, tmp_path: Path) -> None:
    r.export_breaks(tmp_path / "breaks.xlsx")
    heading, *rows = rows_of(openpyxl.load_workbook(tmp_path / "breaks.xlsx")["totals"])
    by_status = {row[0]: dict(zip(heading, row, strict=True)) for row in rows}
    assert by_status["UNPAID"]["artifacts"] == 3
    assert by_status["UNPAID"]["balance"] == "10000000000000005.09"
    assert by_status["BREAK"]["balance"] == -1234567.5


def test_totals_never_add_amounts_of_unknown_currencies(tmp_path: Path) -> None:
    r = open_in(tmp_path)
    land(r, 0, [s.Row(currency="EUR"), s.Row(order_id="B", event_id="2", currency="USD")])
    r.run()
    r.export(tmp_path / "all.xlsx")
    assert rows_of(openpyxl.load_workbook(tmp_path / "all.xlsx")["totals"]) == [["status", "artifacts"], ["UNPAID", 2]]


def test_a_sheet_says_where_the_rows_came_from(r: Reconciliation, tmp_path: Path) -> None:
    r.export(tmp_path / "then.xlsx", through=W0)
    source = rows_of(openpyxl.load_workbook(tmp_path / "then.xlsx")["source"])
    about = {row[0]: row[1] for row in source if row[0]}
    state = r.state()
    assert (about["reconciliation"], about["commit"], about["rules"]) == ("orders", state.commit, state.rules)
    assert (about["as of"], about["through window"], about["rows"]) == (W1, W0, 3)
    assert about["committed at"] == state.time
    heading = next(number for number, row in enumerate(source) if row[0] == "window")
    assert source[heading + 1 :] == [[W0, 1, 1, state.commit, "CLOSED", "ties", 3, 0]]
    r.export_breaks(tmp_path / "breaks.xlsx")
    source = rows_of(openpyxl.load_workbook(tmp_path / "breaks.xlsx")["source"])
    assert [row[0] for row in source].count("ages end at") == 1
    assert [W1, 1, 1, state.commit, "CLOSED", "ties", 2, 1] in source
