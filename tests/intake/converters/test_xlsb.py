"""Excel's binary workbooks, written record by record; calamine reads the same from them, where it reads exactly."""

from __future__ import annotations

import io
import struct
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from converted import convert
from hypothesis import given, settings
from hypothesis import strategies as st
from python_calamine import CalamineWorkbook

from recon.errors import WrongInput

LAYOUT = {"kind": "excel", "header": True}
MAIN = "application/vnd.ms-excel.sheet.binary.macroEnabled.main"
TYPES = (
    f'<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="bin" ContentType="{MAIN}"/></Types>'
)
DATE, DURATION = 1, 2


def relations(**targets: str) -> str:
    kind = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    each = "".join(f'<Relationship Id="{name}" Type="{kind}/{name.rstrip("0123456789")}" Target="{to}"/>' for name, to in targets.items())
    return f'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">{each}</Relationships>'


def record(kind: int, content: bytes = b"") -> bytes:
    head = bytes([kind]) if kind < 0x80 else bytes([kind & 0x7F | 0x80, kind >> 7])
    size, length = len(content), b""
    while size >= 0x80:
        length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
    return head + length + bytes([size]) + content


def wide(text: str) -> bytes:
    return struct.pack("<L", len(text.encode("utf-16-le")) // 2) + text.encode("utf-16-le")


def cell(column: int, kind: int, content: bytes, style: int = 0) -> bytes:
    return record(kind, struct.pack("<LL", column, style) + content)


def real(column: int, value: float, style: int = 0) -> bytes:
    return cell(column, 5, struct.pack("<d", value), style)


def text(column: int, value: str) -> bytes:
    return cell(column, 6, wide(value))


def xlsb(rows: dict[int, list[bytes]], shared: tuple[str, ...] = (), from_1904: bool = False) -> bytes:
    """``rows``: number → cells."""
    body = b"".join(record(0, struct.pack("<LLHBB", number - 1, 0, 0, 0, 0) + bytes(5)) + b"".join(cells) for number, cells in rows.items())
    sheet = record(129) + record(148, struct.pack("<LLLL", 0, 100, 0, 20)) + record(145) + body + record(146) + record(130)
    bundle = record(156, struct.pack("<LL", 0, 1) + wide("worksheet1") + wide("A"))
    workbook = (
        record(131) + record(153, struct.pack("<LL", int(from_1904), 0) + wide("")) + record(143) + bundle + record(144) + record(132)
    )
    formats = record(44, struct.pack("<H", 164) + wide("yyyy-mm-dd")) + record(44, struct.pack("<H", 165) + wide("[h]:mm:ss"))
    numbers = [0, 164, 165]
    styles = record(278) + record(615, struct.pack("<L", 2)) + formats + record(616) + record(617, struct.pack("<L", len(numbers)))
    styles += b"".join(record(47, struct.pack("<HH", 0, number) + bytes(12)) for number in numbers) + record(618) + record(279)
    strings = record(159, struct.pack("<LL", len(shared), len(shared)))
    strings += b"".join(record(19, b"\0" + wide(each)) for each in shared) + record(160)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", TYPES)
        archive.writestr("_rels/.rels", relations(officeDocument="xl/workbook.bin"))
        others = {"worksheet1": "worksheets/sheet1.bin", "styles": "styles.bin", "sharedStrings": "sharedStrings.bin"}
        archive.writestr("xl/_rels/workbook.bin.rels", relations(**others))
        for name, part in (("workbook", workbook), ("worksheets/sheet1", sheet), ("styles", styles), ("sharedStrings", strings)):
            archive.writestr(f"xl/{name}.bin", part)
    return content.getvalue()


def test_cells_of_every_kind_are_read(tmp_path: Path) -> None:
    rows = {
        1: [text(0, "k"), cell(1, 7, struct.pack("<L", 1)), text(2, "v")],
        2: [cell(0, 7, struct.pack("<L", 0)), real(1, 45962.0, DATE), cell(2, 2, struct.pack("<L", (12345 << 2) | 3))],
        3: [text(0, "b"), real(1, 45962.5, DATE), cell(2, 2, struct.pack("<l", (-7 << 2) | 2))],
        4: [cell(0, 8, wide("c") + bytes(6)), real(1, 1.5, DURATION), cell(2, 9, struct.pack("<d", 0.1) + bytes(6))],
        6: [cell(0, 4, b"\1"), cell(1, 3, b"\x2a"), cell(2, 11, b"\x07" + bytes(6))],
        7: [cell(0, 10, b"\0" + bytes(6)), real(2, 1234567.890123457)],
    }
    found = convert(tmp_path, xlsb(rows, ("Ü 1", "day")), LAYOUT)
    assert found.names == ("k", "day", "v")
    assert found.good == [("Ü 1", "2025-11-01", "123.45"), ("b", "2025-11-01T12:00:00", "-7"), ("c", "36:00:00", "0.1")]
    assert found.problems[6] == "B6 is an error cell, #N/A"
    assert found.problems[7].startswith("C7 is 1234567.890123457, which has more than 15 significant digits")


def test_the_1904_system(tmp_path: Path) -> None:
    assert convert(tmp_path, xlsb({1: [text(0, "d")], 2: [real(0, 44500.0, DATE)]}, from_1904=True), LAYOUT).good == [("2025-11-01",)]


CELLS = st.one_of(
    st.integers(-(2**29), 2**29 - 1).map(lambda value: lambda column: cell(column, 2, struct.pack("<l", value << 2 | 2))),
    st.decimals(-(10**9), 10**9, places=3).map(lambda value: lambda column: real(column, float(value))),
    st.text("abü🎉 ", min_size=1, max_size=5).map(lambda value: lambda column: text(column, value)),
    st.sampled_from([0, 1]).map(lambda value: lambda column: cell(column, 7, struct.pack("<L", value))),
)


def plain(value: Any) -> Any:
    return Decimal(repr(value)) if isinstance(value, int | float) else value or None


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.lists(CELLS, min_size=3, max_size=3), max_size=5))
def test_calamine_reads_the_same(tmp_path_factory: pytest.TempPathFactory, rows: list[list[Any]]) -> None:
    written = {1: [text(place, name) for place, name in enumerate("abc")]}
    written |= {number: [make(place) for place, make in enumerate(row)] for number, row in enumerate(rows, 2)}
    content = xlsb(written, ("shared", "Ü"))
    found = convert(tmp_path_factory.mktemp("xlsb"), content, LAYOUT)
    theirs = [
        [plain(value) for value in row] for row in CalamineWorkbook.from_object(io.BytesIO(content)).get_sheet_by_index(0).iter_rows()
    ]
    ours = [
        [Decimal(a) if isinstance(b, Decimal) else a for a, b in zip(row, other, strict=True)]
        for row, other in zip(found.good, theirs[1:], strict=True)
    ]
    assert ours == theirs[1:]


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_a_damaged_workbook_gives_rows_or_an_error_with_its_name(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    content = xlsb({1: [text(0, "k")], 2: [cell(0, 7, struct.pack("<L", 0))], 3: [real(0, 1.5, DATE)]}, ("a",))
    part = data.draw(st.sampled_from(["xl/workbook.bin", "xl/worksheets/sheet1.bin", "xl/styles.bin", "xl/sharedStrings.bin"]))
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(target, "w") as copy:
        for name in archive.namelist():
            found = bytearray(archive.read(name))
            if name == part:
                for _ in range(data.draw(st.integers(1, 3))):
                    found[data.draw(st.integers(0, len(found) - 1))] = data.draw(st.integers(0, 255))
            copy.writestr(name, bytes(found))
    try:
        convert(tmp_path_factory.mktemp("fuzz"), target.getvalue(), LAYOUT)
    except WrongInput as error:
        assert str(error).startswith("received: ")  # noqa: PT017
