"""Fixed width: every character that is declared is read, by characters and not by bytes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from converted import convert
from hypothesis import given, settings
from hypothesis import strategies as st

from recon.errors import WrongInput

FIELDS = {"account": "1-4", "sign": 5, "amount": "6-10"}


def test_values_are_at_their_characters_and_padding_is_no_value(tmp_path: Path) -> None:
    content = "A1  -  1.5\r\nÄö  +00002\n\nB7\n  \t\nC\r  +    1\nD        \n".encode()
    found = convert(tmp_path, content, {"kind": "fixed", "fields": FIELDS})
    assert found.names == ("account", "sign", "amount")
    assert found.good == [("A1", "-", "1.5"), ("Äö", "+", "00002"), ("B7", "", ""), ("D", "", "")]
    assert found.problems == {6: "a carriage return outside quotes; quote the field, or end the line with a line feed"}
    assert found.raw[2] == "Äö  +00002"


def test_a_line_of_another_length_than_declared_is_a_reject(tmp_path: Path) -> None:
    found = convert(tmp_path, "title\nA1  -  1.5\nÄ1  -  1.5x\nB\n".encode(), {"kind": "fixed", "fields": FIELDS, "length": 10, "skip": 1})
    assert found.good == [("A1", "-", "1.5")]
    assert found.problems == {3: "11 characters, declared are 10", 4: "1 characters, declared are 10"}


def test_a_column_without_characters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match="received: no field 'name' is declared"):
        convert(tmp_path, b"A\n", {"kind": "fixed", "fields": FIELDS}, ["account", "name"])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\r\ufeff"), max_size=12), max_size=8), st.booleans())
def test_slices_are_those_of_python(lines: list[str], last: bool) -> None:
    content = "\n".join(lines) + "\n" * last
    if not content:
        return
    with tempfile.TemporaryDirectory() as folder:
        found = convert(Path(folder), content.encode(), {"kind": "fixed", "fields": FIELDS})
    kept = [(number, line) for number, line in enumerate(lines, 1) if line.strip(" \t")]
    assert [row.line for row in found.rows] == [number for number, _ in kept]
    assert found.good == [tuple(part.strip(" ") for part in (line[:4], line[4:5], line[5:10])) for _, line in kept]
