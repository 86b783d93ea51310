"""Quotes of CSV and TSV: a faulty quote rejects its own line, and no row becomes a part of another."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loaded_files import load, reasons
from plain_records import plain_records

from recon.intake.files import EventSpec, formats, quoting
from recon.vocabulary.types import Type

OPEN, RETURN, MARK = quoting.OPEN_QUOTE, quoting.CARRIAGE_RETURN, formats.BOM_INSIDE


@pytest.mark.parametrize(
    ("rows", "rejected", "accepted"),
    [
        ('a,"x\nb,"y"\nc,3\n', [(2, OPEN, 'a,"x')], [(3, "b", "y"), (4, "c", "3")]),
        ('a,"x\nb,2\nc,3\n', [(2, OPEN, 'a,"x')], [(3, "b", "2"), (4, "c", "3")]),
        ('a,"x\nb,""\nc,3', [(2, OPEN, 'a,"x')], [(3, "b", None), (4, "c", "3")]),
        ('a,1\nb,"2', [(3, OPEN, 'b,"2')], [(2, "a", "1")]),
        ('"a"b,1\n"c" ,2\nd,3\n', [(2, OPEN, '"a"b,1'), (3, OPEN, '"c" ,2')], [(4, "d", "3")]),
        ('a,"x\ny"z\nb,2\n', [(2, OPEN, 'a,"x'), (3, '1 field, the header has 2', 'y"z')], [(4, "b", "2")]),
        ('"a\n\n",1\nb,2\n', [], [(2, "a\n\n", "1"), (5, "b", "2")]),
        ('a,"1\nb,"2\nc,"3\n', [(2, OPEN, 'a,"1'), (3, OPEN, 'b,"2'), (4, OPEN, 'c,"3')], []),
        ("a\rb,1\nc,2\n", [(2, RETURN, "a\rb,1")], [(3, "c", "2")]),
        ("a,1\n\ufeffk,v\nb,2\n", [(3, MARK, "\ufeffk,v")], [(2, "a", "1"), (4, "b", "2")]),
        ("\0end\0\nb,2\n", [(2, "1 field, the header has 2", "\ufffdend\ufffd")], [(3, "b", "2")]),
        ("x\nb,2\n", [(2, "1 field, the header has 2", "x")], [(3, "b", "2")]),
        ("\0a,1\nb,2\n", [(2, "k: the key holds a NUL character", "\ufffda,1")], [(3, "b", "2")]),
    ],
)  # fmt: skip
def test_an_open_quote_takes_no_other_row_with_it(tmp_path: Path, rows: str, rejected: list[Any], accepted: list[Any]) -> None:
    spec = EventSpec(("k",), None, None, {"v": Type("text")})
    content = f"k,v\n{rows}".encode()
    assert reasons(tmp_path, "a.csv", content, spec) == rejected
    counts, events, _ = load(tmp_path, {"a.csv": content}, spec)
    assert [(row["line"], row["key"], row["c_v"]) for row in events] == accepted
    assert counts[0].rows == len(rejected) + len(accepted)


def test_a_quoted_field_longer_than_a_record_may_be_is_a_reject_and_the_next_line_a_row(tmp_path: Path) -> None:
    content = b'k,v\na,1\nb,"' + b"2\nx," * 100_000 + b'"\nc,3\n'
    path = tmp_path / "landed"
    path.write_bytes(content)
    source = quoting.Records("a.csv", formats.text_blocks("a.csv", path, None), quoting.Dialect(), 1 << 16)
    given = b"".join(source)
    assert list(source.faults.items()) == [(3, OPEN), (100_003, OPEN)]
    assert given.endswith(b"x,2\n" + quoting.PLACEHOLDER + b"c,3\n")
    assert source.line_feeds == content.count(b"\n")


PIECES = [
    '"',
    '"',
    '""',
    ",",
    ",",
    "\t",
    "\n",
    "\n",
    "\r\n",
    "\r",
    "a",
    "b c",
    "7",
    "ä",
    "🎉",
    '"x"',
    "a,1\n",
    'b\t"2"\n',
    '"c\nd",3\r\n',
    " ",
]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.sampled_from(PIECES), max_size=40).map("".join),
    st.sampled_from([",", "\t"]),
    st.integers(1, 3),
    st.sampled_from([7, 16, 33, formats.BLOCK_BYTES]),
)
def test_no_row_is_ever_part_of_another_whatever_the_quotes(rows: str, delimiter: str, width: int, size: int) -> None:
    """Against a parser of this file's own: its rows are the rows that are accepted or rejected, each on its line and with its fields."""
    header = delimiter.join(["k", "v", "w"][:width])
    spec = EventSpec(("k",), None, None, dict.fromkeys(["v", "w"][: width - 1], Type("text")))
    name, sizes = "a.csv" if delimiter == "," else "a.tsv", formats.text_blocks.__defaults__
    with tempfile.TemporaryDirectory() as folder:
        formats.text_blocks.__defaults__ = (size, None)
        try:
            counts, accepted, rejected = load(Path(folder), {name: f"{header}\n{rows}".encode()}, spec)
        finally:
            formats.text_blocks.__defaults__ = sizes
    expected = plain_records(f"{header}\n{rows}", delimiter, width)[1:]
    good = {line: fields for line, fields in expected if fields is not None and len(fields) == width and fields[0]}
    assert counts[0].rows == len(expected)
    assert {row["line"]: [row["key"], *(row[f"c_{column}"] or "" for column in spec.columns)] for row in accepted} == good
    assert {row["line"]: row["reason"] in (OPEN, RETURN) for row in rejected} == {
        line: fields is None for line, fields in expected if line not in good
    }
