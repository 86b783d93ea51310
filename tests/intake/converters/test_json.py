"""JSON and JSON lines: every object is a row or a problem, with its numbers as written."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from converted import convert
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recon.config.settings import Limits
from recon.errors import WrongInput
from recon.intake.files import formats
from recon.intake.files.jsonexact import NOT_JSON

ARRAY = """[ {"k": "a,]}", "n": 10.50, "x": {"y": [1, 2]}},
  {"k": "b\\\\", "n": 12345678901234567890.123}, 7, {"k": "c", "n": null},
{"n": 1e2, "k": "d\\"]", "n": 3}, {"k": "e
f"}, {"n": true, "k": "\\u00e4"}]
"""


def test_elements_of_an_array_are_rows_with_numbers_as_written(tmp_path: Path) -> None:
    found = convert(tmp_path, ARRAY.encode(), "json", ["k", "n"])
    assert found.good == [("a,]}", "10.5"), ("b\\", "12345678901234567890.123"), ("c", None), ("ä", "true")]
    assert found.problems == {3: NOT_JSON, 5: "member 'n' twice", 6: NOT_JSON}
    assert found.raw[3] == "7"
    assert json.loads(found.raw[1])["x"] == {"y": [1, 2]}


def test_the_array_may_be_a_member(tmp_path: Path) -> None:
    content = b'{"meta": {"rows": "["}, "data": {"n": 1, "rows": [{"k": "a"}, {"k": "b"}], "more": []}}\n'
    assert convert(tmp_path, content, {"kind": "json", "at": "data.rows"}).good == [("a",), ("b",)]


def test_lines_are_rows(tmp_path: Path) -> None:
    found = convert(tmp_path, b'{"k": "a", "n": 1.10}\n\n[1]\n{"k": "b", "other": 2}', "jsonl")
    assert (found.names, found.good, found.problems) == (("k", "n", "other"), [("a", "1.1", None), ("b", None, "2")], {3: NOT_JSON})
    assert found.raw[3] == "[1]"


@pytest.mark.parametrize(
    ("content", "layout", "declared", "says"),
    [
        (b'[{"k": 1}', "json", None, "received: the JSON ends after element 0 of its array, before it is closed"),
        (b'[{"k": 1}, {"k": "x]', "json", None, "the JSON ends after element 1"),
        (b'{"a": [{"k": 1}]', {"kind": "json", "at": "a"}, None, "the JSON ends after element 1"),
        (b'[{"k": 1}]\n[{"k": 2}]', "json", None, "text follows after the JSON's end"),
        (b'{"a": [{"k": 1}]}{"a": [{"k": 2}]}', {"kind": "json", "at": "a"}, None, "text follows after the JSON's end"),
        (b'{"k": 1}\n{"k": 2}\n', "json", None, "line 1: expected a JSON array in the file, found '{\"k\": 1}.*declare kind: jsonl"),
        (b'{"a": 1}', {"kind": "json", "at": "a"}, None, "line 1: expected a JSON array at a, found '1}'"),
        (b'{"a": {"b": 1}}', {"kind": "json", "at": "a.c"}, None, "there is no array at a.c within the first MiB: no member 'c'"),
        (b"[]", "json", None, "the array has no objects"),
        (b'[{"k": 1}]', "json", ["amount"], "no object has a member 'amount'; it has: k"),
        (b'[{"k": 1}]', "jsonl", None, "line 1 begins a JSON array; declare kind: json"),
        (b'{"k": 1}\n', "jsonl", ["amount"], "no object has a member 'amount'; it has: k"),
        (b"k,v\n", "jsonl", None, "the first lines are no JSON objects"),
        (b'[{"k": "' + b"x" * 3000 + b'"}]', "json", ["k"], "element 1 is longer than 1,024 bytes"),
        (b'{"k": "' + b"x" * 3000 + b'"}', "jsonl", ["k"], "line 1 is longer than 1,024 bytes"),
    ],
)  # fmt: skip
def test_what_is_no_array_of_objects_is_refused(tmp_path: Path, content: bytes, layout: Any, declared: Any, says: str) -> None:
    with pytest.raises(WrongInput, match=says):
        convert(tmp_path, content, layout, declared, Limits.model_validate({"line": "1KiB"}))


def test_an_empty_array_has_no_rows(tmp_path: Path) -> None:
    assert convert(tmp_path, b" [ ] ", "json", ["k"]).rows == []


VALUES = (
    st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=False, allow_infinity=False, places=4).map(str) | st.text(max_size=8)
)


@settings(max_examples=50, deadline=None)
@given(
    rows=st.lists(
        st.dictionaries(st.sampled_from(["k", "v", "ü", 'a"b']), VALUES | st.lists(VALUES, max_size=2), min_size=1), min_size=1, max_size=6
    ),
    indent=st.sampled_from([None, 1]),
    ascii_only=st.booleans(),
    size=st.sampled_from([1, 5, 64, formats.BLOCK_BYTES]),
    kind=st.sampled_from(["json", "jsonl", "at"]),
)
@example(rows=[{"k": ["\U0005ab57", "\x1e"]}], indent=None, ascii_only=False, size=formats.BLOCK_BYTES, kind="json")
def test_what_pythons_json_writes_is_read_back(rows: list[dict[str, Any]], indent: Any, ascii_only: bool, size: int, kind: str) -> None:
    names = sorted({name for row in rows for name in row})
    options: dict[str, Any] = {"ensure_ascii": ascii_only}
    content = {
        "json": lambda: json.dumps(rows, indent=indent, **options),
        "at": lambda: json.dumps({"a": "[{", "x": rows, "z": [[]]}, indent=indent, **options),
        "jsonl": lambda: "\n".join(json.dumps(row, **options) for row in rows),
    }[kind]()
    sizes = formats.text_blocks.__defaults__
    with tempfile.TemporaryDirectory() as folder:
        formats.text_blocks.__defaults__ = (size, None)
        try:
            found = convert(Path(folder), content.encode(), {"kind": "json", "at": "x"} if kind == "at" else kind, names)
        finally:
            formats.text_blocks.__defaults__ = sizes
    assert found.problems == {}
    assert found.good == [tuple(shown(row.get(name)) for name in names) for row in rows]


def shown(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list):
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        # as DuckDB writes control characters
        return re.sub(r"\\(?:u(00[0-9a-f]{2})|.)", lambda found: f"\\u{found[1].upper()}" if found[1] else found[0], text)
    return json.dumps(value)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["[", "]", "{", "}", '"', "\\", ",", ":", "\n", " ", "1", '"k"', '{"k":1}', "é", "\0"]), max_size=30).map(
        "".join
    )
)
def test_any_text_is_rows_or_an_error_with_the_files_name(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for layout in ("json", "jsonl"):
            try:
                convert(Path(folder), ("[" * (layout == "json") + text).encode(), layout, ["k"])
            except WrongInput as error:
                assert str(error).startswith("received: ")  # noqa: PT017
