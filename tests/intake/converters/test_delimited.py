"""Delimited text of any dialect: each record is a row on its line, or a problem, and none is part of another."""

from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path
from typing import Any

import pytest
from converted import convert
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_records import plain_records

from recon.config.settings import Limits
from recon.errors import WrongInput, WrongUsage
from recon.intake.files import formats, quoting

FRANCHISE = ["vendor", "amount", "code", "item", "date"]
TDF = {"kind": "delimited", "header": False, "delimiter": "\t", "quotes": False}


def csv_layout(**fields: Any) -> dict[str, Any]:
    return {"kind": "delimited", "header": True, **fields}


def test_without_a_header_the_first_line_is_a_row_and_so_is_a_minus(tmp_path: Path) -> None:
    content = b'v1\t100.00\t4\ti1\t2016-06-01\n------ junk\n-5.00\t1\t2\t3\t4\nv1\t"2\t4\ti1\t2016-06-01'
    found = convert(tmp_path, content, TDF, FRANCHISE, name="IL-1.tdf")
    assert found.good == [
        ("v1", "100.00", "4", "i1", "2016-06-01"),
        ("-5.00", "1", "2", "3", "4"),
        ("v1", '"2', "4", "i1", "2016-06-01"),
    ]
    assert found.problems == {2: "1 field, 5 are declared"}
    assert found.raw[2] == "------ junk"


def test_declared_columns_are_needed_where_there_is_no_header(tmp_path: Path) -> None:
    with pytest.raises(WrongUsage, match="a file without a header needs declared columns"):
        convert(tmp_path, b"a\tb\n", TDF)


def test_lines_before_the_header_are_skipped_and_lines_are_those_of_the_file(tmp_path: Path) -> None:
    content = b'Statement, "of" November\n\nk;v\na;1\n\nb;"2\n3"\nc\n'
    found = convert(tmp_path, content, csv_layout(delimiter=";", skip=2), ["k"])
    assert (found.names, found.good) == (("k", "v"), [("a", "1"), ("b", "2\n3")])
    assert [(row.line, row.span) for row in found.rows] == [(4, 1), (6, 2), (8, 1)]
    assert found.problems == {8: "1 field, the header has 2"}
    assert found.raw == {4: "a;1", 6: 'b;"2\n3"', 8: "c"}


def test_a_header_in_the_middle_is_a_reject_and_mixed_line_ends_are_line_ends(tmp_path: Path) -> None:
    found = convert(tmp_path, b"k,v\r\na,1\nk,v\r\nb,2\r\n", csv_layout())
    assert (found.good, found.problems) == ([("a", "1"), ("b", "2")], {3: "the header again"})


def test_the_declared_names_as_a_row_are_a_reject_where_no_header_is_declared(tmp_path: Path) -> None:
    found = convert(tmp_path, b"k,v\na,1\n", {"kind": "delimited", "header": False}, ["k", "v"])
    assert (found.good, found.problems) == ([("a", "1")], {1: "the header again"})


def test_names_that_no_column_uses_may_be_empty_or_there_twice(tmp_path: Path) -> None:
    found = convert(tmp_path, b"k,v,v,,\na,1,2,,x\n", csv_layout(), ["k"])
    assert (found.names, found.good) == (("k", "v", "v", "", ""), [("a", "1", "2", "", "x")])


@pytest.mark.parametrize(
    ("content", "layout", "declared", "says"),
    [
        (b"", csv_layout(), None, r"received: the file is empty \(0 bytes\)"),
        (b"k,v\ra,1\r", csv_layout(), None, "received: lines end with carriage returns only"),
        (b"PK\x03\x04....", csv_layout(), None, "received: the content is a zip archive or an Excel workbook"),
        (b"k,v,v\na,1,2\n", csv_layout(), ["k", "v"], "received: line 1: the header has column 'v' twice"),
        (b"k,v\na,1\n", csv_layout(), ["k", "w"], "received: line 1: the header has no column 'w'; it has: k, v"),
        (b"k,v\na,1\n", csv_layout(delimiter=";"), ["k"], "which is separated by ','; expected ';'"),
        (b"Title\n\nk,v\na,1\n", csv_layout(), ["k", "v"], "received: the header is line 3; write skip: 2"),
        (b"\n\na,1\n", csv_layout(), None, "received: line 1: a header is declared, and there is none"),
        (b"k\n", csv_layout(skip=4), None, "received: line 5: a header is declared, and there is none"),
        (b"k\0,v\na,1\n", csv_layout(), None, "received: line 1: the header has NUL characters"),
        (b"k,v\na,1\n" + b"x" * 2000 + b"\n", csv_layout(), None, "received: line 3 is longer than 1,024 bytes"),
    ],
)  # fmt: skip
def test_a_file_of_which_no_row_can_be_read_is_refused_by_name_and_place(
    tmp_path: Path, content: bytes, layout: Any, declared: Any, says: str
) -> None:
    with pytest.raises(WrongInput, match=says):
        convert(tmp_path, content, layout, declared, Limits.model_validate({"line": "1KiB"}))


# fmt: off
PIECES = [
    '"', '"', '""', ",", "|", "\t", " ", "\n", "\n", "\r\n", "\r", "a", "b c", "7",
    "ä", "🎉", '"x"', "a,1\n", 'b|"2"\n', '"c\nd"\t3\r\n', "\0",
]
# fmt: on


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(st.sampled_from(PIECES), max_size=40).map("".join),
    delimiter=st.sampled_from([",", "|", "\t", " ", "^", "\\", "]", "-"]),
    quotes=st.booleans(),
    header=st.booleans(),
    skip=st.integers(0, 3),
    width=st.integers(1, 3),
    size=st.sampled_from([7, 16, 33, formats.BLOCK_BYTES]),
)
def test_rows_are_those_of_a_plain_parser_in_every_dialect(
    rows: str, delimiter: str, quotes: bool, header: bool, skip: int, width: int, size: int
) -> None:
    names = ["k", "v", "w"][:width]
    above = 'above, "it\n' * skip
    first = delimiter.join(names) + "\n" if header else ""
    text, sizes = above + first + rows, formats.text_blocks.__defaults__
    if not text or ("\n" not in text and "\r" in text.rstrip("\r\n")):
        return  # refused as a whole
    with tempfile.TemporaryDirectory() as folder:
        formats.text_blocks.__defaults__ = (size, None)
        try:
            layout = {"kind": "delimited", "header": header, "delimiter": delimiter, "quotes": quotes, "skip": skip}
            found = convert(Path(folder), text.encode(), layout, names)
        finally:
            formats.text_blocks.__defaults__ = sizes
    expected = [(line + skip + header, fields) for line, fields in plain_records(rows, delimiter, width, quotes)]
    assert [row.line for row in found.rows] == [line for line, _ in expected]
    for row, (_, fields) in zip(found.rows, expected, strict=True):
        if row.problem is None:
            assert list(row.values) == fields
        else:
            assert fields is None or len(fields) != width or fields == names or row.problem in (quoting.OPEN_QUOTE, quoting.CARRIAGE_RETURN)
    good = [tuple(fields) for _, fields in expected if fields is not None and len(fields) == width and fields != names]
    assert found.good == good


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6), min_size=2, max_size=2), max_size=8),
    delimiter=st.sampled_from([",", ";", "|", "\t"]),
)
def test_what_pythons_csv_writes_is_read_back(rows: list[list[str]], delimiter: str) -> None:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([["k", "v"], *rows])
    with tempfile.TemporaryDirectory() as folder:
        found = convert(Path(folder), text.getvalue().encode(), csv_layout(delimiter=delimiter))
    assert found.good == [tuple(row) for row in rows if row != ["k", "v"]]
