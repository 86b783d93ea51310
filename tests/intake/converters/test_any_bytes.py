"""Any bytes as any text format: rows with their lines, or an error with the file's name; never a crash, never a lost line."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from converted import Converted, convert_file
from hypothesis import given, settings
from hypothesis import strategies as st

from recon.config.settings import Limits
from recon.errors import WrongInput
from recon.intake.converters import Received
from recon.intake.converters.decoding import decode

LIMITS = Limits.model_validate({"line": "1KiB"})
FIXED = {"kind": "fixed", "fields": {"a": "1-3", "b": "4-9"}}
LAYOUTS: dict[str, tuple[Any, list[str] | None]] = {
    "csv": ({"kind": "delimited", "header": True}, None),
    "tdf": ({"kind": "delimited", "header": False, "delimiter": "\t", "quotes": False}, ["a", "b"]),
    "fixed": (FIXED, None),
    "json": ("json", ["a"]),
    "jsonl": ("jsonl", ["a"]),
    "nacha": ("nacha", None),
    "mt940": ("mt940", None),
    "bai2": ("bai2", None),
}
BEGINNINGS = {"csv": b"a,b\n", "json": b"[", "nacha": b"101 x\n", "mt940": b":20:x\n", "bai2": b"01,x/\n"}
PIECES = [
    b"\n",
    b"\r\n",
    b"\r",
    b"\0",
    b'"',
    b",",
    b"\t",
    b"a",
    b"5",
    b"6",
    b"822",
    b":61:",
    b"16,",
    b"{}",
    b"]",
    b"\xc3\xa4",
    b"\xff",
    b"\xef\xbb\xbf",
]


@pytest.mark.parametrize(
    ("kind", "begin", "more"),
    [
        ("mt940", b":20:x\n:86:x\n", b"more\n"),
        ("mt940", b":20:x\n:86:x\n", b"\n"),
        ("bai2", b"01,x/\n", b"88,more\n"),
        ("bai2", b"01,x/\n", b"88,\n"),
    ],
)
def test_a_field_without_an_end_is_not_kept_in_memory(kind: str, begin: bytes, more: bytes, tmp_path: Path) -> None:
    path = tmp_path / "received"
    path.write_bytes(begin + more * 2000)
    with pytest.raises(WrongInput, match=r"received: line [12] is longer than 1,024 bytes"):
        convert_file(Received("received", path), kind, None, LIMITS)


def read(kind: str, content: bytes) -> Converted | None:
    """None where the file is refused."""
    layout, declared = LAYOUTS[kind]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "received"
        path.write_bytes(content)
        try:
            return convert_file(decode(Received("received", path), "utf-8", Path(folder), LIMITS), layout, declared, LIMITS)
        except WrongInput as error:
            assert str(error).startswith("received: ")  # noqa: PT017
            return None


@pytest.mark.parametrize("kind", LAYOUTS)
@settings(max_examples=30, deadline=None)
@given(body=st.binary(max_size=60) | st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join))
def test_any_bytes_are_rows_or_an_error_with_the_files_name(kind: str, body: bytes) -> None:
    content = BEGINNINGS.get(kind, b"") + body
    found = read(kind, content)
    if found is not None and kind in ("tdf", "fixed"):
        mark = b"\xef\xbb\xbf"
        lines = content.removeprefix(mark).removeprefix(mark).decode().split("\n")
        filled = {number for number, line in enumerate(lines, 1) if line.strip(" \t\r")}
        assert filled <= {row.line for row in found.rows}
