"""Excel and OpenDocument: what a sheet shows is what is read, to the last digit; what it can't show is a reject."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import reduce
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import openpyxl
import pytest
import xlsxwriter
import xlwt
from converted import Converted, convert
from hypothesis import given, settings
from hypothesis import strategies as st

from recon.errors import WrongInput, WrongUsage
from recon.intake.converters.cells import address, date_cell, number_cell

LAYOUT = {"kind": "excel", "header": True}
Sheets = dict[str, list[list[Any]]]


def xlsx(sheets: Sheets, hidden: Sequence[str] = (), **options: Any) -> bytes:
    """By openpyxl."""
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
        sheet.sheet_state = "hidden" if name in hidden else "visible"
    if options.get("from_1904"):
        book.epoch = openpyxl.utils.datetime.CALENDAR_MAC_1904
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


def ods_cell(value: Any) -> str:
    if value is None:
        return "<table:table-cell/>"
    if isinstance(value, bool):
        return f'<table:table-cell office:value-type="boolean" office:boolean-value="{str(value).lower()}"/>'
    if isinstance(value, int | float | Decimal):
        return f'<table:table-cell office:value-type="float" office:value="{value}"><text:p>shown</text:p></table:table-cell>'
    if isinstance(value, datetime | date):
        return f'<table:table-cell office:value-type="date" office:date-value="{value.isoformat()}"/>'
    if value.startswith("="):
        return f'<table:table-cell table:formula="of:{escape(value)}"/>'
    paragraphs = "".join(f"<text:p>{escape(line)}</text:p>" for line in value.split("\n"))
    return f'<table:table-cell office:value-type="string">{paragraphs}</table:table-cell>'


def ods(sheets: Sheets, hidden: Sequence[str] = (), cell: Any = ods_cell) -> bytes:
    tables = "".join(
        f'<table:table table:name="{escape(name)}" table:style-name="{"off" if name in hidden else "on"}">'
        + "".join(f"<table:table-row>{''.join(map(cell, row))}</table:table-row>" for row in rows)
        + '<table:table-row table:number-rows-repeated="1048000"><table:table-cell table:number-columns-repeated="16384"/>'
        "</table:table-row></table:table>"
        for name, rows in sheets.items()
    )
    spaces = "".join(f' xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in ("office", "table", "text", "style"))
    style = '<style:style style:name="off" style:family="table"><style:table-properties table:display="false"/></style:style>'
    root = f"<office:document-content{spaces} xmlns:calcext='urn:org:documentfoundation:names:experimental:calc:xmlns:calcext:1.0'>"
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        body = f"<office:body><office:spreadsheet>{tables}</office:spreadsheet></office:body></office:document-content>"
        archive.writestr("content.xml", f"{root}<office:automatic-styles>{style}</office:automatic-styles>{body}")
    return content.getvalue()


def xls(sheets: Sheets, hidden: Sequence[str] = ()) -> bytes:
    book = xlwt.Workbook()
    for name, rows in sheets.items():
        sheet = book.add_sheet(name)
        sheet.visibility = int(name in hidden)
        for number, row in enumerate(rows):
            for column, value in enumerate(row):
                form = "yyyy-mm-dd" if isinstance(value, date) else "General"
                if value is not None:
                    sheet.write(number, column, value, xlwt.easyxf(num_format_str=form))
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


def changed(content: bytes, part: str, change: Any) -> bytes:
    """A package with one part changed."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as copy:
        for name in archive.namelist():
            copy.writestr(name, change(archive.read(name)) if name == part else archive.read(name))
    return target.getvalue()


SHEET = "xl/worksheets/sheet1.xml"
XXE = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd"><!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'


def replaced(*pairs: tuple[bytes, bytes]) -> Any:
    return lambda part: reduce(lambda found, pair: found.replace(*pair), pairs, part)


WRITERS = [xlsx, ods, xls]
ROWS = [["k", "amount", "day", "ok"], ["007", 1.5, date(2026, 11, 1), True], ["b\nc", 1234.56, datetime(2026, 11, 1, 9, 30), None]]  # noqa: DTZ001


@pytest.mark.parametrize("write", WRITERS)
def test_text_numbers_dates_and_booleans_are_read_as_shown(tmp_path: Path, write: Any) -> None:
    found = convert(tmp_path, write({"North": [*ROWS, [None] * 4, [" x ", -5, None, False]]}), LAYOUT)
    assert found.names == ("k", "amount", "day", "ok")
    assert found.good == [
        ("007", "1.5", "2026-11-01", "TRUE"),
        ("b\nc", "1234.56", "2026-11-01T09:30:00", None),
        (" x ", "-5", None, "FALSE"),
    ]
    assert [row.line for row in found.rows] == [2, 3, 5]
    assert found.raw[2] == '["007", "1.5", "2026-11-01", "TRUE"]'


@pytest.mark.parametrize("write", WRITERS)
def test_only_one_sheet_with_cells_is_read_unless_they_are_named(tmp_path: Path, write: Any) -> None:
    content = write({"Empty": [], "A": [["k"], ["1"]], "B": [["k"], ["2"]]}, hidden=["B"])
    with pytest.raises(WrongInput, match=r"received: 2 sheets have cells: 'A', 'B' \(hidden\); write sheet:"):
        convert(tmp_path, content, LAYOUT)
    assert convert(tmp_path, content, {**LAYOUT, "sheet": "B"}).good == [("2",)]
    both = convert(tmp_path, content, {**LAYOUT, "sheet": ["A", "B"]})
    assert both.good == [("1",), ("2",)]
    assert [row.line for row in both.rows] == [2, (1 << 20) + 2]
    with pytest.raises(WrongInput, match="received: it has no sheet 'C'; it has: 'Empty', 'A', 'B'"):
        convert(tmp_path, content, {**LAYOUT, "sheet": "C"})


@pytest.mark.parametrize("write", WRITERS)
def test_a_number_has_at_most_15_digits(tmp_path: Path, write: Any) -> None:
    found = convert(tmp_path, write({"A": [["k"], [1234567.890123457], [123456789012345], [1e21], [0.1]]}), LAYOUT)
    assert found.good == [("123456789012345",), ("1000000000000000000000",), ("0.1",)]
    assert found.problems == {
        2: "A2 is 1234567.890123457, which has more than 15 significant digits; round it in the sheet, or write it as text"
    }


def error_xlsx() -> bytes:
    content = io.BytesIO()
    book = xlsxwriter.Workbook(content, {"in_memory": True})
    sheet = book.add_worksheet("A")
    sheet.write_row(0, 0, ["k", "v"])
    sheet.write_row(1, 0, ["a", 1])
    sheet.write(2, 0, "b")
    sheet.write_formula(2, 1, "=NA()", None, "#N/A")
    sheet.write(3, 0, "c")
    sheet.write_formula(3, 1, "=1+1", None, 2)
    sheet.write(4, 0, "d")
    sheet.write_formula(4, 1, '=""', None, "")
    book.close()  # Excel writes t="str" where a formula gives a text, xlsxwriter only where that is not empty
    return changed(content.getvalue(), SHEET, replaced((b'<c r="B5">', b'<c r="B5" t="str">')))


def error_ods() -> bytes:
    kind = 'office:value-type="string" office:string-value="" calcext:value-type="error"'
    error = f'<table:table-cell table:formula="of:=NA()" {kind}><text:p>#N/A</text:p></table:table-cell>'
    formula = '<table:table-cell table:formula="of:=1+1" office:value-type="float" office:value="2"><text:p>2</text:p></table:table-cell>'
    return ods(
        {"A": [["k", "v"], ["a", 1], ["b", error], ["c", formula], ["d", None]]}, cell=lambda v: v if str(v)[:1] == "<" else ods_cell(v)
    )


def error_xls() -> bytes:
    book = xlwt.Workbook()
    sheet = book.add_sheet("A")
    for number, (key, value) in enumerate([("k", "v"), ("a", 1), ("b", None), ("c", 2), ("d", None)]):
        sheet.write(number, 0, key)
        if value is not None:
            sheet.write(number, 1, value)
    sheet.row(2).set_cell_error(1, 0x2A)
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


@pytest.mark.parametrize("content", [error_xlsx(), error_ods(), error_xls()])
def test_an_error_cell_is_a_reject(tmp_path: Path, content: bytes) -> None:
    found = convert(tmp_path, content, LAYOUT)
    assert found.good == [("a", "1"), ("c", "2"), ("d", None)]
    assert found.problems == {3: "B3 is an error cell, #N/A"}
    assert found.raw[3] == '["b", "an error cell, #N/A"]'


def test_an_error_of_libreoffice_is_one_in_any_language(tmp_path: Path) -> None:
    cell = '<table:table-cell office:value-type="string" calcext:value-type="error"><text:p>#NV</text:p></table:table-cell>'
    found = convert(tmp_path, ods({"A": [["k"], [cell]]}, cell=lambda value: value if value[:1] == "<" else ods_cell(value)), LAYOUT)
    assert found.problems == {2: "A2 is an error cell, #NV"}


@pytest.mark.parametrize("write", [xlsx, ods])
def test_a_formula_that_was_saved_without_a_value_is_a_reject(tmp_path: Path, write: Any) -> None:
    found = convert(tmp_path, write({"A": [["k"], ["=1+1"], ["b"]]}), LAYOUT)
    assert (found.good, list(found.problems)) == ([("b",)], [2])
    assert found.problems[2].startswith("A2 is a formula without a value")


@pytest.mark.parametrize("from_1904", [False, True])
def test_both_date_systems_give_the_same_day(tmp_path: Path, from_1904: bool) -> None:
    rows = [["day"], [date(2026, 11, 1)], [datetime(1999, 12, 31, 23, 59, 59, 250_000)]]  # noqa: DTZ001
    assert convert(tmp_path, xlsx({"A": rows}, from_1904=from_1904), LAYOUT).good == [("2026-11-01",), ("1999-12-31T23:59:59.250",)]


def test_times_and_elapsed_times(tmp_path: Path) -> None:
    found = convert(tmp_path, xlsx({"A": [["t"], [time(9, 30)], [timedelta(hours=26, minutes=30)]]}), LAYOUT)
    assert found.good == [("09:30:00",), ("26:30:00",)]


@pytest.mark.parametrize(
    ("serial", "shown"),
    [
        ("1", "1900-01-01"),
        ("59", "1900-02-28"),
        ("60", None),
        ("61", "1900-03-01"),
        ("2958465", "9999-12-31"),
        ("2958466", None),
        ("-1", None),
        ("nan", None),
        ("1E9999999", None),
        ("0.5", "12:00:00"),
        ("1.999999999999", "1900-01-02"),
    ],
)
def test_serial_numbers_of_the_1900_system(serial: str, shown: str | None) -> None:
    cell = date_cell(0, serial, False)
    assert (cell.text, cell.problem is None) == (shown, shown is not None)


@pytest.mark.parametrize("write", WRITERS)
def test_without_a_header_each_row_has_at_most_the_declared_columns(tmp_path: Path, write: Any) -> None:
    content = write({"A": [["title"], [None], ["a", 1], ["b"], ["c", 2, 3], ["k", "v"]]})
    found = convert(tmp_path, content, {"kind": "excel", "header": False, "skip": 2}, ["k", "v"])
    assert found.good == [("a", "1"), ("b", None)]
    assert found.problems == {5: "C5 is beyond the 2 columns", 6: "the header again"}
    with pytest.raises(WrongUsage, match="needs declared columns"):
        convert(tmp_path, content, {"kind": "excel", "header": False})


@pytest.mark.parametrize(
    ("sheets", "layout", "declared", "says"),
    [
        ({"A": []}, LAYOUT, None, "received: no sheet has a cell"),
        ({"A": [[None], ["k"]]}, LAYOUT, None, "a header is declared, and there is none; the first row with cells is 2, so write skip: 1"),
        ({"A": [["k", "k"]]}, LAYOUT, ["k"], "row 1 of sheet 'A': the header has column 'k' twice"),
        ({"A": [["k"]]}, LAYOUT, ["amount"], "row 1 of sheet 'A': the header has no column 'amount'; it has: k"),
        ({"A": [["k"]], "B": [["v"]]}, {**LAYOUT, "sheet": ["A", "B"]}, None, "the header differs from that of sheet 'A'"),
    ],
)  # fmt: skip
def test_a_workbook_of_which_no_row_can_be_read_is_refused(tmp_path: Path, sheets: Sheets, layout: Any, declared: Any, says: str) -> None:
    with pytest.raises(WrongInput, match=says):
        convert(tmp_path, xlsx(sheets), layout, declared)


REPEATED = [
    (b"<table:table-cell office", b'<table:table-cell table:number-columns-repeated="16000" office'),
    (b"<table:table-row>", b'<table:table-row table:number-rows-repeated="1000000">'),
]


def with_doctype(content: bytes) -> bytes:
    return XXE + content.partition(b"?>")[2].replace(b"<v>", b"<v>&b;", 1) if b"?>" in content[:100] else XXE + content


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (changed(xlsx({"A": [["k"], [1]]}), SHEET, with_doctype), r"received: line \d+: a document type \(DOCTYPE\) is not accepted"),
        (changed(ods({"A": [["k"], [1]]}), "content.xml", with_doctype), "a document type"),
        (changed(xlsx({"A": [["k"], [1]]}), SHEET, lambda part: part[:-40]), "received: not well-formed XML"),
        (changed(xlsx({"A": [["k"], [1]]}), SHEET, replaced((b'row r="2"', b'row r="1"'))), "row 1 follows row 1"),
        (changed(xlsx({"A": [["k"], [1]]}), SHEET, replaced((b'r="A2"', b'r="XXX2"'))), "cell 'XXX2' is out of order"),
        (changed(xlsx({"A": [["k"], [1]]}), SHEET, lambda part: part + b" " * (80 << 20)), "expand to more than 250 times"),
        (changed(ods({"A": [["k"], [1]]}), "content.xml", replaced(*REPEATED)), "it repeats more than 4,194,304 cells"),
        (xlsx({"A": [["k"], [1]]})[:-100], "received: the workbook is damaged or encrypted"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le"), "received: the workbook is encrypted"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"x" * 600, "received: the workbook is damaged"),
        (b"k,v\n", "received: no workbook of Excel or OpenDocument"),
    ],
)  # fmt: skip
def test_what_is_damaged_or_could_harm_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(WrongInput, match=says):
        convert(tmp_path, content, LAYOUT)


def test_two_far_cells_are_two_rows(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active["A1"], book.active["B1"], book.active["A1048576"] = "k", "v", "last"
    content = io.BytesIO()
    book.save(content)
    assert [(row.line, row.values) for row in convert(tmp_path, content.getvalue(), LAYOUT).rows] == [(1_048_576, ("last", None))]


VALUES = st.one_of(
    st.none(),
    st.text(st.characters(codec="utf-8", exclude_categories=["C"], exclude_characters="=_"), min_size=1, max_size=6).filter(str.strip),
    st.decimals(-(10**9), 10**9, places=3).map(float),
    st.integers(-(10**14), 10**14),
    st.booleans(),
    st.dates(date(1904, 1, 1), date(2999, 12, 31)),
)


def shown(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).upper()
    return value.isoformat() if isinstance(value, date) else f"{Decimal(repr(value)).normalize() + 0:f}"


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.lists(VALUES, min_size=3, max_size=3), max_size=6), write=st.sampled_from(WRITERS))
def test_any_sheet_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, rows: list[list[Any]], write: Any) -> None:
    found: Converted = convert(tmp_path_factory.mktemp("any"), write({"A": [["a", "b", "c"], *rows]}), LAYOUT)
    assert found.good == [tuple(map(shown, row)) for row in rows if any(value is not None for value in row)]


PARTS = {
    0: (xlsx({"A": ROWS}), [SHEET, "xl/workbook.xml", "xl/styles.xml", "xl/sharedStrings.xml", "xl/_rels/workbook.xml.rels"]),
    1: (ods({"A": ROWS}), ["content.xml"]),
    2: (xls({"A": ROWS}), []),
}


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_a_damaged_workbook_gives_rows_or_an_error_with_its_name(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    content, parts = PARTS[data.draw(st.integers(0, 2))]

    def damaged(found: bytes) -> bytes:
        found = bytearray(found)
        for _ in range(data.draw(st.integers(1, 4))):
            found[data.draw(st.integers(0, len(found) - 1))] = data.draw(st.sampled_from(list(b'0195 <>"/=AZ')) | st.integers(0, 255))
        return bytes(found)

    part = data.draw(st.sampled_from([None, *parts]))
    try:
        convert(tmp_path_factory.mktemp("fuzz"), damaged(content) if part is None else changed(content, part, damaged), LAYOUT)
    except WrongInput as error:
        assert str(error).startswith("received: ")  # noqa: PT017


@pytest.mark.parametrize(("column", "shown"), [(0, "A7"), (25, "Z7"), (26, "AA7"), (16383, "XFD7")])
def test_addresses(column: int, shown: str) -> None:
    assert address(7, column) == shown


@pytest.mark.parametrize(
    ("text", "shown"), [("1001.0", "1001"), ("1.50", "1.5"), ("-0.0", "0"), ("1.5E3", "1500"), ("100", "100"), (".5", "0.5")]
)
def test_a_number_is_as_a_sheet_shows_it(text: str, shown: str) -> None:
    assert number_cell(0, text).text == shown


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_double_is_its_15_digits_or_a_problem(value: float) -> None:
    cell = number_cell(0, repr(value))
    if cell.problem is None:
        assert float(cell.text or "") == value
        assert "E" not in (cell.text or "").upper()
    else:
        assert float(f"{value:.15g}") != value
