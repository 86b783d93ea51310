"""dBase: numbers as their text in the file; records marked as deleted are counted and kept aside."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path
from typing import Any

import pytest
from converted import convert
from hypothesis import given, settings
from hypothesis import strategies as st

from recon.errors import WrongInput
from recon.intake.converters import DELETED

Field = tuple[str, str, int]
FIELDS: list[Field] = [("K", "C", 6), ("AMOUNT", "N", 12), ("RATE", "F", 8), ("DAY", "D", 8), ("OK", "L", 1)]


def dbf(fields: list[Field], records: list[tuple[bytes, list[bytes]]], version: int = 3, page: int = 0x03, **header: Any) -> bytes:
    length, width = 32 + 32 * len(fields) + 1, 1 + sum(size for _, _, size in fields)
    count = header.get("count", len(records))
    start = struct.pack("<BBBBLHHHBBLLLBBH", version, 126, 11, 1, count, length, header.get("width", width), 0, 0, 0, 0, 0, 0, 0, page, 0)
    names = b"".join(struct.pack("<11scLBBHBBBB7sB", n.encode(), t.encode(), 0, size, 0, 0, 0, 0, 0, 0, b"", 0) for n, t, size in fields)
    body = b"".join(
        mark + b"".join(value.ljust(size) for value, (_, _, size) in zip(values, fields, strict=True)) for mark, values in records
    )
    return start + names + b"\r" + body + b"\x1a"


def test_numbers_are_their_text_and_deleted_records_are_aside(tmp_path: Path) -> None:
    records = [
        (b" ", [b"007", b"     1.50", b"0.100000", b"20261101", b"T"]),
        (b"*", [b"gone", b"9", b"", b"", b"?"]),
        (b" ", ["Gr\u00f6\u00dfe".encode("cp1252"), b"123456789.12", b"", b"        ", b"n"]),
        (b" ", [b"bad", b"1", b"", b"20261399", b"F"]),
    ]
    found = convert(tmp_path, dbf(FIELDS, records), "dbase", ["K"])
    assert found.names == ("K", "AMOUNT", "RATE", "DAY", "OK")
    assert found.good == [("007", "1.50", "0.100000", "2026-11-01", "true"), ("Größe", "123456789.12", None, None, "false")]
    assert found.problems == {2: DELETED, 4: "DAY: invalid date b'20261399'"}
    assert found.raw[2].startswith('["gone  ", "9 ')
    assert [control.ties for control in found.controls] == [True]


def test_foxpros_binary_fields_are_exact(tmp_path: Path) -> None:
    fields = [("I", "I", 4), ("Y", "Y", 8), ("B", "B", 8), ("T", "T", 8)]
    record = [struct.pack("<i", -7), struct.pack("<q", 12345), struct.pack("<d", 0.1), struct.pack("<LL", 2461346, 34_200_000)]
    found = convert(tmp_path, dbf(fields, [(b" ", record)], version=0x30), "dbase")
    assert found.good == [("-7", "1.2345", "0.1", "2026-11-01T09:30:00")]


def test_a_code_page_can_be_declared(tmp_path: Path) -> None:
    content = dbf([("K", "C", 6)], [(b" ", ["ä".encode("cp850")])], page=0)
    assert convert(tmp_path, content, {"kind": "dbase", "encoding": "cp850"}).good == [("ä",)]
    assert "declare the encoding, it is not ascii" in convert(tmp_path, content, "dbase").problems[1]


@pytest.mark.parametrize(
    ("content", "declared", "says"),
    [
        (b"", None, "the file is empty"),
        (b"k,v\n", None, "no whole dBase file"),
        (dbf(FIELDS, [])[:60], None, "no whole dBase file"),
        (dbf([("K", "C", 6)], [(b" ", [b"a"])], count=2), None, "its header has 2 records, the file 1"),
        (dbf([("K", "C", 6)], [(b" ", [b"a"])], width=9), None, "its records have 9 bytes, its fields 7"),
        (dbf([("K", "Q", 6)], []), None, "no whole dBase file"),
        (dbf([("K", "C", 6)], []), ["V"], "the header has no column 'V'; it has: K"),
        (dbf([("K", "M", 10)], []), ["K"], "column 'K' is a memo"),
    ],
)  # fmt: skip
def test_what_is_no_whole_table_is_refused(tmp_path: Path, content: bytes, declared: Any, says: str) -> None:
    with pytest.raises(WrongInput, match=f"received: .*{says}"):
        convert(tmp_path, content, "dbase", declared)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([b" ", b"*"]), st.decimals(-(10**7), 10**7, places=2), st.text("abcü€ x", max_size=4)), max_size=6)
)
def test_what_was_written_is_read(records: list[tuple[bytes, Any, str]]) -> None:
    written = [(mark, [text.encode("cp1252"), str(number).rjust(12).encode()]) for mark, number, text in records]
    with tempfile.TemporaryDirectory() as folder:
        found = convert(Path(folder), dbf(FIELDS[:2], written), "dbase")
    assert found.good == [(text.rstrip(" "), str(number)) for mark, number, text in records if mark == b" "]
    assert found.problems == {number: DELETED for number, (mark, _, _) in enumerate(records, 1) if mark == b"*"}


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_a_damaged_table_gives_rows_or_an_error_with_its_name(data: st.DataObject) -> None:
    content = bytearray(dbf(FIELDS, [(b" ", [b"007", b"1.50", b"0.1", b"20261101", b"T"])] * 3))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        try:
            convert(Path(folder), bytes(content), "dbase")
        except WrongInput as error:
            assert str(error).startswith("received: ")  # noqa: PT017
