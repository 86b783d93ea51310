"""Landed files become typed events: every row is accepted or rejected with file, line and reason, in all formats."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recon.config.settings import Limits
from recon.errors import WrongInput, WrongUsage
from recon.intake.files import EventSpec, SourceFile, formats, key_text, load_events, quoting
from recon.intake.files import inspect as inspected
from recon.storage.hashing import define
from recon.vocabulary.types import Type

CONNECTION = duckdb.connect(config={"threads": 1})  # one for all: opening one takes longer than most tests
SALT = "salt"
MONEY = Type("decimal", 18, 2)
SPEC = EventSpec(("k",), ("id",), "t", {"amount": MONEY, "note": Type("text")})
HEADER = "k,id,t,amount,note\n"


def load(folder: Path, files: dict[str, bytes], spec: EventSpec = SPEC, zone: str = "UTC") -> tuple[Any, Any, Any]:
    """Counts, accepted and rejected rows (as dicts, by file and line) of files with these contents."""
    sources = []
    for number, (name, content) in enumerate(files.items()):
        path = folder / f"landed-{number}"
        path.write_bytes(content)
        sources.append(SourceFile(name, path))
    CONNECTION.execute(f"SET timezone = '{zone}'")
    define(CONNECTION, SALT)
    counts = load_events(CONNECTION, sources, spec, "events")
    tables = []
    for table in ("events", "events_rejects"):
        cursor = CONNECTION.execute(f"SELECT * FROM {table} ORDER BY file, line")
        names = [column[0] for column in cursor.description]
        tables.append([dict(zip(names, row, strict=True)) for row in cursor.fetchall()])
    for number, count in enumerate(counts):
        assert count.accepted == sum(row["file"] == number for row in tables[0])
        assert count.rejected == sum(row["file"] == number for row in tables[1])
        assert count.rows == count.accepted + count.rejected
    return counts, tables[0], tables[1]


def inspect(name: str, path: Path, columns: Sequence[str], ordered: Collection[str] = (), texts: Collection[str] = ()) -> None:
    """Looks at a file as when it lands: the first column is the key, the others are numbers, or texts."""
    types = {column: Type("text") if column in {*texts, *ordered} else MONEY for column in columns[1:]}
    inspected(name, path, EventSpec((columns[0],), None, None, types, frozenset(ordered)))


def reasons(folder: Path, name: str, content: str | bytes, spec: EventSpec = SPEC) -> list[tuple[int, str, str]]:
    content = content.encode() if isinstance(content, str) else content
    return [(row["line"], row["reason"], row["raw"]) for row in load(folder, {name: content}, spec)[2]]


def amount_of(folder: Path, token: str, kind: Type = MONEY, suffix: str = "csv") -> Any:
    """The typed value of one field, or the reason why it has none."""
    spec = EventSpec(("k",), None, None, {"v": kind})
    if suffix == "csv":
        field = '"' + token.replace('"', '""') + '"'
        content = f"k,v\na,{field}\n"
    else:
        content = f'{{"k":"a","v":{token}}}\n'
    _, accepted, rejected = load(folder, {f"x.{suffix}": content.encode()}, spec)
    return accepted[0]["c_v"] if accepted else rejected[0]["reason"]


# ------------------------------------------------------------------------------------------------ accepted rows


def test_an_event_has_file_line_key_hashes_id_time_and_typed_columns(tmp_path: Path) -> None:
    _, accepted, rejected = load(tmp_path, {"a.csv": (HEADER + "A112,e1,2026-11-01T09:30:00Z,5.00,x\n").encode()})
    key, ident = hashlib.md5(b"saltA112").digest(), hashlib.md5(b"salte1").digest()
    assert rejected == []
    assert accepted == [
        {
            "file": 0,
            "line": 2,
            "key": "A112",
            "hi": int.from_bytes(key[8:], "little"),
            "lo": int.from_bytes(key[:8], "little"),
            "id": "e1",
            "idh": int.from_bytes(ident[:8], "little"),
            "time": datetime(2026, 11, 1, 9, 30, tzinfo=UTC),
            "c_amount": Decimal("5.00"),
            "c_note": "x",
        }
    ]


def test_empty_fields_are_null_and_no_rejects(tmp_path: Path) -> None:
    for name, content in {"a.csv": HEADER + "k,,,,\n", "a.jsonl": '{"k":"k","id":null,"t":"","amount":"","note":null}\n'}.items():
        _, accepted, rejected = load(tmp_path, {name: content.encode()})
        assert rejected == []
        assert [accepted[0][c] for c in ("id", "idh", "time", "c_amount", "c_note")] == [None] * 5


def test_lines_are_those_of_the_file_whatever_stands_in_quotes_and_between(tmp_path: Path) -> None:
    content = 'k,v\r\n"a\nb\n",1\r\n\r\nbad,x\r\n,\n  \n5" pipe,2\nragged\n"r\nq",1,2\n"a ""q"" b",3'
    spec = EventSpec(("k",), None, None, {"v": MONEY})
    counts, accepted, rejected = load(tmp_path, {"a.csv": content.encode()}, spec)
    assert [(row["line"], row["key"]) for row in accepted] == [(2, "a\nb\n"), (9, '5" pipe'), (13, 'a "q" b')]
    assert [(row["line"], row["reason"], row["raw"]) for row in rejected] == [
        (6, "v: 'x' is not a decimal(18,2)", "bad,x"),
        (7, "k: the key is empty", ","),
        (10, "1 field, the header has 2", "ragged"),
        (11, "3 fields, the header has 2", '"r\nq",1,2'),
    ]
    assert counts[0].rows == 7


def test_lines_and_blanks_are_right_across_block_borders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = "k,v\n" + "".join(f"{i},{'x' if i % 3 == 0 else i}\n" + "\n" * (i % 4) + '"ä\n🎉b",1\n' for i in range(60))
    spec = EventSpec(("k",), None, None, {"v": MONEY})
    whole = load(tmp_path, {"a.csv": content.encode()}, spec)
    for size in (20, 33, 50, 64):
        monkeypatch.setattr(formats.blocks, "__defaults__", (size, None))
        monkeypatch.setattr(formats.text_blocks, "__defaults__", (size, None))
        assert load(tmp_path, {"a.csv": content.encode()}, spec) == whole
    assert {row["key"] for row in whole[1] if "\n" in row["key"]} == {"ä\n🎉b"}
    lines = content.split("\n")
    assert all(lines[row["line"] - 1] == row["raw"] for row in whole[2])
    assert len(whole[2]) == 20


def test_json_lines_are_the_same_whatever_the_blocks_and_their_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compact lines, in whose blocks less is searched for, beside each other line that only Python reads rightly."""
    forms = [
        '{"k":"%d","v":1234567890123456.25}',
        '{"k":"%d","v":"1.5"}',
        '{"k":"%d","v":1e2}',
        '{"v":NaN,"k":"%d"}',
        '{"k":"%d","v":"1",}',
    ]
    forms += [
        '{"k":"%d","x":{"y":1,},"v":1}',
        '{"k":"%d","x":[1,NaN],"v":1}',
        '{"k":"%d" ,"v" : 1234567890123456.25}',
        '{"k":"%d","x":"a,} :1e5"}',
    ]
    content = "".join(forms[i * 7 % len(forms)] % i + "\n" * (1 + i % 2) for i in range(4 * len(forms))).encode()
    spec = EventSpec(("k",), None, None, {"v": MONEY})
    whole = load(tmp_path, {"a.jsonl": content}, spec)
    for size in (20, 50, 64, 200):
        monkeypatch.setattr("recon.intake.files.jsonlines._BLOCK_BYTES", size)
        assert load(tmp_path, {"a.jsonl": content}, spec) == whole
    values = {int(row["key"]): row["c_v"] for row in whole[1]}
    right = [
        Decimal("1234567890123456.25"),
        Decimal("1.5"),
        Decimal(100),
        None,
        None,
        None,
        Decimal(1),
        Decimal("1234567890123456.25"),
        None,
    ]
    wrong = {3, 4, 5}
    for i in range(4 * len(forms)):
        form = i * 7 % len(forms)
        assert (i in values) is (form not in wrong), forms[form]
        assert values.get(i) == right[form]


def test_a_record_of_one_column_may_be_blank_only_in_quotes(tmp_path: Path) -> None:
    spec = EventSpec(("k",), None, None, {})
    _, accepted, rejected = load(tmp_path, {"a.csv": b'k\na\n\n""\nb'}, spec)
    assert [row["line"] for row in accepted] == [2, 5]
    assert [(row["line"], row["raw"]) for row in rejected] == [(4, '""')]


@pytest.mark.parametrize("name", ["A.CSV", "a.tsv", "a.csv.gz", "a.tsv.zst", "a.jsonl", "a.ndjson.gz", "a.json.zst", "a.parquet"])
def test_the_name_tells_the_format(tmp_path: Path, name: str) -> None:
    path = tmp_path / "landed"
    path.write_bytes(encoded(name, [{"k": "ä", "v": "1.50"}, {"k": "b", "v": "x"}], ["k", "v"]))
    inspect(name, path, ["k", "v"])
    _, accepted, rejected = load(tmp_path, {name: path.read_bytes()}, EventSpec(("k",), None, None, {"v": MONEY}))
    assert [(row["key"], row["c_v"]) for row in accepted] == [("ä", Decimal("1.50"))]
    assert [row["reason"] for row in rejected] == ["v: 'x' is not a decimal(18,2)"]


def test_a_byte_order_mark_is_tolerated(tmp_path: Path) -> None:
    for name, content in {"a.csv": b"k,v\na,1\n", "a.jsonl": b'{"k":"a","v":1}\n'}.items():
        _, accepted, _ = load(tmp_path, {name: b"\xef\xbb\xbf" + content}, EventSpec(("k",), None, None, {"v": MONEY}))
        assert [row["c_v"] for row in accepted] == [Decimal(1)]


def test_a_header_alone_is_no_rows(tmp_path: Path) -> None:
    for content in (b"k,id,t,amount,note", HEADER.encode(), HEADER.encode() + b"\n\n"):
        assert [count.rows for count in load(tmp_path, {"a.csv": content})[0]] == [0]


# ---------------------------------------------------------------------------------------------------- rejected rows


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
    source = quoting.Records("a.csv", formats.text_blocks("a.csv", path, None), ",", 1 << 16)
    given = b"".join(source)
    assert list(source.faults.items()) == [(3, OPEN), (100_003, OPEN)]
    assert given.endswith(b"x,2\n" + quoting.PLACEHOLDER + b"c,3\n")
    assert source.line_feeds == content.count(b"\n")


def plain_records(text: str, delimiter: str, width: int) -> list[tuple[int, list[str] | None]]:
    """What CSV text holds, character by character: the line of each record, and its fields, or None for a line that begins no record."""
    found: list[tuple[int, list[str] | None]] = []
    line, rest = 1, text if text.endswith("\n") else text + "\n"
    while rest:
        fields, taken = plain_record(rest, delimiter)
        if taken is None:
            taken = rest.index("\n") + 1
        blank = rest[:taken] in ("\n", "\r\n") or (
            width > 1 and fields is not None and len(fields) == 1 and not rest[:taken].strip(" \t\r\n")
        )
        if not blank:
            found.append((line, fields))
        line += rest.count("\n", 0, taken)
        rest = rest[taken:]
    return found


def plain_record(text: str, delimiter: str) -> tuple[list[str] | None, int | None]:
    """The fields of the record that ``text`` begins with, and its length; None where its quotes or carriage returns are not right."""
    fields, field, place = [], "", 0
    while True:
        quoted = text[place] == '"'
        place += quoted
        while True:
            if place == len(text):
                return None, None
            character, following = text[place], text[place + 1 : place + 2]
            if quoted and character == '"' and following == '"':
                field, place = field + '"', place + 2
            elif quoted and character == '"':
                place += 1
                break
            elif not quoted and (character in (delimiter, "\n") or (character, following) == ("\r", "\n")):
                break
            elif not quoted and character == "\r":
                return None, None
            else:
                field, place = field + character, place + 1
        fields, field = [*fields, field], ""
        if text[place : place + 1] == delimiter:
            place += 1
        elif text[place : place + 1] == "\n" or text[place : place + 2] == "\r\n":
            return fields, place + (1 if text[place] == "\n" else 2)
        else:
            return None, None


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


def test_the_header_repeated_in_the_middle_is_rejected(tmp_path: Path) -> None:
    assert reasons(tmp_path, "a.csv", HEADER + "a,,,,\n" + HEADER) == [(3, "the header again", HEADER.strip())]


def test_broken_utf8_is_one_reject_for_its_row(tmp_path: Path) -> None:
    bad = "bytes that are not UTF-8"
    rows = HEADER.encode() + b"a,,,,\nb\xff\xfe,,,,\nc,,,,\n\xc3,x\n"
    assert reasons(tmp_path, "a.csv", rows) == [(3, bad, "b\ufffd\ufffd,,,,"), (5, bad, "\ufffd,x")]
    assert reasons(tmp_path, "a.jsonl", b'{"k":"a"}\n{"k":"\xff"}\n{"k":"c"}\n', EventSpec(("k",), None, None, {})) == [
        (2, bad, '{"k":"\ufffd"}')
    ]
    sink = io.BytesIO()
    pq.write_table(pa.table({"k": pa.array([b"a", b"\xff", b"c"]).view(pa.string())}), sink)
    found = reasons(tmp_path, "a.parquet", sink.getvalue(), EventSpec(("k",), None, None, {}))
    assert [(line, reason) for line, reason, _ in found] == [(2, bad)]


@pytest.mark.parametrize(
    "line",
    [
        "[1]",
        "5",
        "null",
        '"x"',
        "{",
        '{"k":"a",}',
        '{"k":nan}',
        '{"k":1} x',
        "{'k':1}",
        '{"k":01}',
        '{"k":"\\ud800"}',
        '{"k":"a\tb"}',
        "x,y",
        '{"k":1}{"k":2}',
    ],
)
def test_a_line_that_is_no_json_object_is_rejected(tmp_path: Path, line: str) -> None:
    found = reasons(tmp_path, "a.jsonl", f'{{"k":"a"}}\n{line}\n{{"k":"b"}}\n', EventSpec(("k",), None, None, {}))
    assert found == [(2, "not a JSON object", line)]


def nested(depth: int) -> str:
    return '{"k":"a","v":' + "[" * (depth - 1) + "]" * (depth - 1) + "}"


TWICE, NOT_NUMBER = "member 'v' twice", "v: NaN is not JSON; write null where there is no value"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"k":"a","v":1,"v":2}', TWICE),
        ('{"k":"a","v":1,"v":1}', TWICE),
        ('{"k":"a" , "v" : null , "x":1e5, "v":1}', TWICE),
        ('{"k":"a","v":1,"\\u0076":2}', TWICE),
        ('{"v":1,"k":"a","k":"b"}', "member 'k' twice"),
        ('{"k":"a","v":NaN}', NOT_NUMBER),
        ('{"k":"a","v":{"x":[NaN]}}', NOT_NUMBER),
        ('{"k":"a","v": -Infinity}', "v: -Infinity is not JSON; write null where there is no value"),
        ('\ufeff{"k":"a","v":1}', formats.BOM_INSIDE),
        (nested(65), "nested deeper than 64 brackets (limits.nesting)"),
        (nested(65)[:60], "not a JSON object"),
        ('{"k":' * 3000, "nested deeper than 64 brackets (limits.nesting)"),
        ("[" * 3000, "not a JSON object"),
    ],
)  # fmt: skip
def test_json_that_can_be_read_in_two_ways_is_rejected_by_name(tmp_path: Path, line: str, reason: str) -> None:
    spec = EventSpec(("k",), None, None, {"v": Type("text")})
    content = '{"k":"b","v":"2"}\n' + line + '\n{"k":"c","v":"3"}\n'
    assert [(row, found) for row, found, _ in reasons(tmp_path, "a.jsonl", content, spec)] == [(2, reason)]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ('{"k":"a","v":"1","x":1,"x":2}', "1"),
        ('{"k":"a","v":"1","x":NaN,"y":[Infinity]}', "1"),
        ('{"k":"a","x":{"v":1,"v":2},"v":"1"}', "1"),
        ('{"k":"a","v":"\\"v\\":1,\\"v\\":"}', '"v":1,"v":'),
        ('{"k":"a","\\u0076":"1"}', "1"),
        ('{"k":"a","v":"1","x":"' + "[" * 100 + '"}', "1"),
        (nested(64), "[" * 63 + "]" * 63),
    ],
)  # fmt: skip
def test_what_no_rule_uses_may_be_there_twice_and_be_no_json(tmp_path: Path, line: str, value: str) -> None:
    content = '{"k":"b","v":"2"}\n' + line + "\n"
    _, accepted, rejected = load(tmp_path, {"a.jsonl": content.encode()}, EventSpec(("k",), None, None, {"v": Type("text")}))
    assert (rejected, [row["c_v"] for row in accepted]) == ([], ["2", value])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.tuples(st.sampled_from(["k", "v", "w", "x"]), st.integers(0, 9)), max_size=6), min_size=1, max_size=8),
    st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " :")]),
)
def test_members_twice_are_found_in_any_order_and_form(lines: list[list[tuple[str, int]]], marks: tuple[str, str]) -> None:
    whole = [("k", 1), ("v", 1), ("w", 1)]
    text = [marks[0].join(f'"{name}"{marks[1]}{value}' for name, value in members) for members in [whole, *lines]]
    spec = EventSpec(("k",), None, None, {"v": Type("integer"), "w": Type("integer")})
    with tempfile.TemporaryDirectory() as folder:
        _, accepted, rejected = load(Path(folder), {"a.jsonl": "".join(f"{{{line}}}\n" for line in text).encode()}, spec)
    for number, members in enumerate([whole, *lines], 1):
        names = [name for name, _ in members if name != "x"]
        twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
        reason = f"member {twice!r} twice" if twice else None if "k" in names else "k: the key is empty"
        assert [row["reason"] for row in rejected if row["line"] == number] == ([reason] if reason else [])
        good = [(row["key"], row["c_v"], row["c_w"]) for row in accepted if row["line"] == number]
        assert good == ([] if reason else [(str(dict(members)["k"]), dict(members).get("v"), dict(members).get("w"))])


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.jsonl.gz", "a.parquet"])
def test_a_file_in_which_no_row_has_a_column_is_refused_with_the_one_that_is_meant(tmp_path: Path, name: str) -> None:
    path = tmp_path / "landed"
    path.write_bytes(encoded(name, [{"k": "a", "line_v": "1.00"}, {"k": "b", "line_v": "2.00"}], ["k", "line_v"]))
    for call in (lambda: inspect(name, path, ["k", "v"]), lambda: load(tmp_path, {name: path.read_bytes()}, MONEY_SPEC)):
        with pytest.raises(WrongInput, match=r"(has no column|no line has a member) 'v'; .*it has: k, line_v"):
            call()


MONEY_SPEC = EventSpec(("k",), None, None, {"v": MONEY})


def test_a_member_that_only_looks_like_the_one_asked_for_is_none(tmp_path: Path) -> None:
    path = tmp_path / "landed"
    path.write_bytes(b'{"k":"\\"v\\":1","x":{"v":1}}\n' * 3)
    with pytest.raises(WrongInput, match=r"no line has a member 'v'; it has: k, x"):
        inspect("a.jsonl", path, ["k", "v"])
    path.write_bytes(b'{"k":"a"}\n' * 100_000 + b'{"k":"b","\\u0076":null}\n')
    inspect("a.jsonl", path, ["k", "v"])
    path.write_bytes(b"\n\n")
    inspect("a.jsonl", path, ["k", "v"])


def test_blank_lines_of_json_are_left_out(tmp_path: Path) -> None:
    content = b'\n{"k":"a"}\r\n  \n \t{"k":"b"}\n\r\n'
    counts, accepted, _ = load(tmp_path, {"a.jsonl": content}, EventSpec(("k",), None, None, {}))
    assert ([row["line"] for row in accepted], counts[0].rows) == ([2, 4], 2)


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("1.50", Decimal("1.50")),
        (" +1.5\t", Decimal("1.50")),
        ("1.5000000000000000000000000000000000000000000000000000", Decimal("1.50")),
        ("0" * 60 + "1", Decimal(1)),
        ("1E2", Decimal(100)),
        ("1.5e-1", Decimal("0.15")),
        ("-.5", Decimal("-0.50")),
        ("5.", Decimal(5)),
        ("9999999999999999.99", Decimal("9999999999999999.99")),
        ("abc", "v: 'abc' is not a decimal(18,2)"),
        ("1,000", "v: '1,000' is not a decimal(18,2)"),
        ("1_000", "v: '1_000' is not a decimal(18,2)"),
        ("0x10", "v: '0x10' is not a decimal(18,2)"),
        ("1 000", "v: '1 000' is not a decimal(18,2)"),
        (".", "v: '.' is not a decimal(18,2)"),
        ("\u0661", "v: '\u0661' is not a decimal(18,2)"),
        ("1e1000", "v: '1e1000' is not a decimal(18,2)"),
        (" ", "v: ' ' is not a decimal(18,2)"),
        ("1.005", "v: '1.005' has more than 2 decimals"),
        ("1.5e-2", "v: '1.5e-2' has more than 2 decimals"),
        ("1e-400", "v: '1e-400' has more than 2 decimals"),
        ("10000000000000000", "v: '10000000000000000' does not fit decimal(18,2)"),
        ("1e16", "v: '1e16' does not fit decimal(18,2)"),
        ("NaN", "v: 'NaN' is not a number"),
        ("-Infinity", "v: '-Infinity' is not a number"),
        ("9" * 50, "v: '" + "9" * 39 + "…' does not fit decimal(18,2)"),
        ("a\nb", "v: 'a b' is not a decimal(18,2)"),
    ],
)
def test_decimals_are_exact_or_rejected_with_the_reason(tmp_path: Path, token: str, expected: Any) -> None:
    assert amount_of(tmp_path, token) == expected


@pytest.mark.parametrize(
    ("kind", "token", "expected"),
    [
        ("integer", "-9223372036854775808", -(2**63)),
        ("integer", "9223372036854775808", "v: '9223372036854775808' does not fit 64 bits"),
        ("integer", "5.0", 5),
        ("integer", "5.5", "v: '5.5' is not a whole number"),
        ("integer", "x", "v: 'x' is not an integer"),
        ("boolean", "TRUE", True),
        ("boolean", "0", False),
        ("boolean", "yes", "v: 'yes' is not true, false, 1 or 0"),
        ("date", "2026-02-28", date(2026, 2, 28)),
        *(("date", bad, f"v: '{bad}' is not a date such as 2026-11-01") for bad in ("2026-02-29", "infinity", "2026-1-1", "0000-01-01")),
        ("timestamp", "2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        ("timestamp", " 2026-11-01 09:30Z", datetime(2026, 11, 1, 9, 30, tzinfo=UTC)),
        ("timestamp", "2026-11-01T09:30:00.123456Z", datetime(2026, 11, 1, 9, 30, 0, 123456, tzinfo=UTC)),
        ("timestamp", "2026-11-01T09:30:00-05:30", datetime(2026, 11, 1, 15, tzinfo=UTC)),
        ("timestamp", "2026-11-01T09:30:00.5000000000Z", datetime(2026, 11, 1, 9, 30, 0, 500000, tzinfo=UTC)),
        *(
            ("timestamp", bad, f"v: '{bad}' is not a time such as 2026-11-01T09:30:00Z")
            for bad in (
                "yesterday",
                "epoch",
                "infinity",
                "24:00",
                "2026-11-01T24:00Z",
                "2026-11-01T09:30:60Z",
                "2026-02-30T00:00Z",
                "2026-11-01T09:30:00.1234567Z",
                "0001-01-01T00:00+14:00",
                "9999-12-31T23:59-10:00",
                "0000-01-01T00:00Z",
                "01/11/2026",
                "0044-03-15 (BC)",
            )
        ),
    ],
)
def test_other_types_are_exact_or_rejected_with_the_reason(tmp_path: Path, kind: Any, token: str, expected: Any) -> None:
    assert amount_of(tmp_path, token, Type(kind)) == expected


def test_times_do_not_depend_on_the_session_time_zone(tmp_path: Path) -> None:
    content = {"a.csv": (HEADER + "a,,2026-11-01,,\nb,,2026-11-01T01:30Z,,\n").encode()}
    expected = [datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 1, 1, 30, tzinfo=UTC)]
    assert [row["time"] for row in load(tmp_path, content, zone="America/New_York")[1]] == expected


def timed(folder: Path, texts: Sequence[str], zone: str | None, epochs: dict[str, str] | None = None) -> list[Any]:
    """What each text is as the time of an event: a datetime, or the reason why it is none."""
    spec = EventSpec(("k",), None, "t", {"u": Type("timestamp")}, zone=zone, epochs=epochs or {})
    content = "k,t,u\n" + "".join(f"a,{text},{text}\n" for text in texts)
    for session in ("UTC", "Asia/Tokyo"):
        _, accepted, rejected = load(folder, {"a.csv": content.encode()}, spec, session)
        assert all(row["time"] == row["c_u"] for row in accepted)
        found = {row["line"]: row["time"] for row in accepted} | {row["line"]: row["reason"] for row in rejected}
    return [found[line] for line in range(2, 2 + len(texts))]


def test_a_time_without_a_zone_is_rejected_unless_a_zone_is_set(tmp_path: Path) -> None:
    texts = ["2026-11-05T09:30", "2026-11-05 09:30:00.5", "2026-11-05T09:30+01:00", "2026-11-05", "x"]
    none = timed(tmp_path, texts, None)
    says = "has no time zone; write one, as in 2026-11-01T09:30:00Z, or set events.zone"
    assert none[:2] == [f"t: '{text}' {says}" for text in texts[:2]]
    assert none[2:4] == [datetime(2026, 11, 5, 8, 30, tzinfo=UTC), datetime(2026, 11, 5, tzinfo=UTC)]
    half = datetime(2026, 11, 5, 9, 30, 0, 500_000, tzinfo=UTC)
    assert timed(tmp_path, texts, "")[:2] == [datetime(2026, 11, 5, 9, 30, tzinfo=UTC), half]
    local = timed(tmp_path, texts, "America/New_York")
    assert local[:2] == [datetime(2026, 11, 5, 14, 30, tzinfo=UTC), half + timedelta(hours=5)]
    assert local[2:4] == [datetime(2026, 11, 5, 8, 30, tzinfo=UTC), datetime(2026, 11, 5, 5, tzinfo=UTC)]
    assert none[4] == local[4] == "t: 'x' is not a time such as 2026-11-01T09:30:00Z"


ZONES = [
    "America/New_York",
    "Europe/Berlin",
    "Australia/Lord_Howe",
    "Antarctica/Troll",
    "America/Santiago",
    "Asia/Kathmandu",
    "America/St_Johns",
]


@pytest.mark.parametrize("zone", ZONES)
def test_a_local_time_that_is_twice_or_not_at_all_is_rejected_and_any_other_is_its_instant(tmp_path: Path, zone: str) -> None:
    """Around each change of the clocks of a year, against Python's own zones."""
    there, hours = ZoneInfo(zone), [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=n) for n in range(366 * 24)]
    changes = [hour for hour, after in pairwise(hours) if hour.astimezone(there).utcoffset() != after.astimezone(there).utcoffset()]
    around = [change + timedelta(minutes=n) for change in [*changes, datetime(2026, 7, 1, tzinfo=UTC)] for n in range(-300, 300, 15)]
    locals_ = sorted({instant.astimezone(there).replace(tzinfo=None) for instant in around} | {c.replace(tzinfo=None) for c in around})
    for local, found in zip(locals_, timed(tmp_path, [local.isoformat() for local in locals_], zone), strict=True):
        both = {local.replace(tzinfo=there, fold=fold).astimezone(UTC) for fold in (0, 1)}
        right = {instant for instant in both if instant.astimezone(there).replace(tzinfo=None) == local}
        if len(right) == 1:
            assert {found} == right, local
        else:
            word = "is twice" if right else "does not exist"
            changed = f"in {zone}, where the clocks change; write it with its offset, such as -05:00"
            assert found == f"t: '{local.isoformat()}' {word} {changed}"


@pytest.mark.parametrize(
    ("unit", "text", "micros"),
    [
        ("s", "1793491200", 1_793_491_200_000_000),
        ("s", "1793491200.5", 1_793_491_200_500_000),
        ("s", "1.7934912e9", 1_793_491_200_000_000),
        ("s", "-1", -1_000_000),
        ("s", "253402200000.999999", 253_402_200_000_999_999),
        ("ms", "1793491200123", 1_793_491_200_123_000),
        ("us", "1793491200123456", 1_793_491_200_123_456),
        *(("s", bad, None) for bad in ("x", "253402300800", "1793491200.0000001", "2026-11-01", "1e30")),
        ("ms", "1793491200123.0001", None),
        ("us", "0.5", None),
    ],
)
def test_a_time_may_be_counted_since_1970(tmp_path: Path, unit: str, text: str, micros: int | None) -> None:
    name = {"s": "seconds", "ms": "milliseconds", "us": "microseconds"}[unit]
    expected: Any = f"t: '{text}' is not a time in {name} since 1970 (years 1 to 9999)"
    if micros is not None:
        expected = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
    assert timed(tmp_path, [text], None, {"t": unit, "u": unit}) == [expected]


def test_a_parquet_time_without_a_zone_is_refused_unless_a_zone_is_set(tmp_path: Path) -> None:
    content = parquet_bytes(k=["a"], t=pa.array([datetime(2026, 11, 5, 9, 30, tzinfo=UTC)], pa.timestamp("ms")))
    says = r"a.parquet: column 't' is timestamp\[ms\], which has no time zone; set events.zone in recon.yaml"
    (tmp_path / "x").write_bytes(content)
    for call in (
        lambda: inspected("a.parquet", tmp_path / "x", EventSpec(("k",), None, "t", {})),
        lambda: load(tmp_path, {"a.parquet": content}, EventSpec(("k",), None, "t", {})),
    ):
        with pytest.raises(WrongInput, match=says):
            call()
    for zone, hour in {"": 9, "America/New_York": 14}.items():
        _, accepted, _ = load(tmp_path, {"a.parquet": content}, EventSpec(("k",), None, "t", {}, zone=zone))
        assert [row["time"] for row in accepted] == [datetime(2026, 11, 5, hour, 30, tzinfo=UTC)]


def test_a_bad_time_is_rejected_and_its_money_can_still_be_totalled(tmp_path: Path) -> None:
    _, _, rejected = load(tmp_path, {"a.csv": (HEADER + "a,,yesterday,7.25,\n").encode()})
    assert rejected[0]["reason"] == "t: 'yesterday' is not a time such as 2026-11-01T09:30:00Z"
    assert rejected[0]["c_amount"] == Decimal("7.25")


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("", "k: the key is empty"),
        ("a\0b", "k: the key holds a NUL character"),
        ("ä" * 2049, "k: the key is longer than 4096 bytes"),
    ],
)
def test_a_key_that_is_none_is_rejected(tmp_path: Path, key: str, reason: str) -> None:
    found = reasons(tmp_path, "a.jsonl", json.dumps({"k": key}) + "\n", EventSpec(("k",), None, None, {}))
    assert [found_reason for _, found_reason, _ in found] == [reason]


def test_a_key_of_4096_bytes_is_a_key(tmp_path: Path) -> None:
    assert load(tmp_path, {"a.csv": f"{HEADER}{'ä' * 2048},,,,\n".encode()})[1][0]["key"] == "ä" * 2048


def test_raw_is_cut_at_64_kib(tmp_path: Path) -> None:
    found = reasons(tmp_path, "a.csv", f"{HEADER},,,,{'ä' * 50_000}\n")
    assert len(found[0][2].encode()) in (65_535, 65_536)


# --------------------------------------------------------------------------------------------------------- whole files


def faults(folder: Path, name: str, content: bytes, columns: tuple[str, ...] = ("k", "v")) -> str:
    path = folder / "landed"
    path.write_bytes(content)
    with pytest.raises((WrongInput, WrongUsage)) as caught:
        inspect(name, path, columns)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(name)
    return text


GOOD = b"k,v\n" + b"".join(b"%d,1\n" % i for i in range(20_000))


def parquet_bytes(**columns: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.xlsx", b"x", "the name tells no format"),
        ("a.parquet.gz", b"x", "the name tells no format"),
        ("a.csv", b"", "the file is empty"),
        ("a.csv", parquet_bytes(k=["a"]), "the content is Parquet"),
        ("a.csv", gzip.compress(GOOD, mtime=0), "the content is gzip, the name says plain text"),
        ("a.csv.gz", GOOD, "the content is not gzip"),
        ("a.csv.gz", zstandard.compress(GOOD), "the content is zstd, the name says gzip"),
        ("a.csv.gz", gzip.compress(parquet_bytes(k=["a"]), mtime=0), "the content is Parquet"),
        ("a.csv", b'{"k":"a","v":1}\n', "line 1 is a JSON object"),
        ("a.jsonl", GOOD, "line 1 is no JSON object"),
        ("a.json", b'[\n{"k":1}]', "line 1 begins a JSON array"),
        ("a.json", b'{\n"k":1}', "line 1 begins an object that goes on below"),
        ("a.csv", "k,v\n".encode("utf-16"), "UTF-16"),
        ("a.csv", b"\xff\xe4k,v\na,1\n", "line 1: the header is not UTF-8"),
        ("a.csv", b"k,v\ra,1\r", "carriage returns only"),
        ("a.csv", b"k,Value\na,1\n", "has no column 'v'; it has: k, Value"),
        ("a.csv", b"k,V\na,1\n", "has no column 'v'; did you mean 'V'? it has: k, V"),
        ("a.csv", b"k;v\na;1\n", "separated by ';'; expected ','"),
        ("a.csv", b"k,v,k\na,1,b\n", "has column 'k' twice"),
        ("a.parquet", parquet_bytes(k=["a"]), "the schema has no column 'v'"),
        ("a.parquet", parquet_bytes(k=["a"], v=[1])[:-3], "not a whole Parquet file"),
        ("a.parquet", b"k,v\n", "the content is not Parquet"),
        *(("a.csv.gz", gzip.compress(GOOD, mtime=0)[:cut], "the gzip data is cut off") for cut in (-3, 30)),
        *(("a.csv.zst", zstandard.compress(GOOD)[:cut], "the zstd data is cut off") for cut in (-3, 30)),
        ("a.csv.gz", gzip.compress(GOOD, mtime=0)[:40] + b"\xff" * 40 + gzip.compress(GOOD, mtime=0)[80:], "damaged gzip"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_what_its_name_says_is_refused_in_one_line(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    assert says in faults(tmp_path, name, content)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", b"k,v\na,1\n" + b"x" * 40_000_000, "a.csv: line 3 is longer than 16,777,216 bytes"),
        ("a.csv", b'k,v\na,1\n"' + b"x" * 40_000_000, "a.csv: line 3 is longer than 16,777,216 bytes"),
        ("a.jsonl", b'{"k":"a","v":1}\n{"k":"' + b"x" * 40_000_000, "a.jsonl: line 2 is longer than 16,777,216 bytes"),
        ("a.csv.gz", gzip.compress(GOOD, mtime=0)[:-9], "the gzip data is cut off"),
        ("a.csv", b"k\na\n", "line 1: the header has no column 'v'"),
        ("a.parquet", parquet_bytes(k=["a"], v=[[1]]), "column 'v' is a list"),
    ],
)
def test_a_file_that_can_not_be_read_to_its_end_stops_the_load(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    with pytest.raises(WrongInput) as caught:
        load(tmp_path, {name: content}, EventSpec(("k",), None, None, {"v": Type("text")}))
    assert says in str(caught.value)


@pytest.mark.parametrize("values", [[9, 10], [Decimal("1.5")], [1.5], [date(2026, 11, 1)]])
def test_parquet_numbers_that_no_one_declared_are_never_ordered_as_text(tmp_path: Path, values: list[Any]) -> None:
    path, content = tmp_path / "x", parquet_bytes(k=["a"] * len(values), v=values)
    path.write_bytes(content)
    says = r"a.parquet: column 'v' is [^ ].* and would be compared as text, in which 9 is more than 10; declare it under events.types"
    with pytest.raises(WrongInput, match=says):
        inspect("a.parquet", path, ["k", "v"], {"v"})
    with pytest.raises(WrongInput, match=says):
        load(tmp_path, {"a.parquet": content}, EventSpec(("k",), None, None, {"v": Type("text")}, frozenset("v")))
    # Declared, or not asked for its order, it is read as ever; and so is text, however it is stored.
    inspect("a.parquet", path, ["k", "v"])
    path.write_bytes(parquet_bytes(k=["a"], v=pa.array(["9"]).dictionary_encode()))
    inspect("a.parquet", path, ["k", "v"], {"v"})


def test_a_nested_parquet_column_is_refused_when_it_lands(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(parquet_bytes(k=["a"], v=[[1]]))
    with pytest.raises(WrongInput, match="column 'v' is a list"):
        inspect("a.parquet", tmp_path / "x", ["k", "v"])
    inspect("a.parquet", tmp_path / "x", ["k"])


def test_a_damaged_page_of_parquet_stops_the_load(tmp_path: Path) -> None:
    content = bytearray(parquet_bytes(k=[f"key {i}" for i in range(5000)]))
    content[200:400] = bytes(200)
    with pytest.raises(WrongInput, match="damaged Parquet"):
        load(tmp_path, {"a.parquet": bytes(content)}, EventSpec(("k",), None, None, {}))


def limited(**limits: int) -> EventSpec:
    return EventSpec(("k",), None, None, {"v": Type("text")}, limits=Limits(**limits))


LONG = b"k,v\na,1\nb," + b"x" * 1000 + b"\n"
MANY = b"k,v\n" + b"a,1\n" * 1000
RATIO = "times as many; if it is meant, raise limits.ratio"


def repeated(rows: int) -> bytes:
    """Parquet of equal rows."""
    column = pa.repeat("a", rows)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"k": column, "v": column}), sink)
    return bytes(sink.getvalue())


# The bytes are made in the test: nothing large is made, and no time of day gets into an id, where tests are only listed.
@pytest.mark.parametrize(
    ("name", "content", "limits", "says"),
    [
        pytest.param(name, content, limits, says, id=what)
        for what, name, content, limits, says in (
            (
                "line of csv",
                "a.csv",
                lambda: LONG,
                {"line": 1000},
                "a.csv: line 3 is longer than 1,000 bytes; end its lines with line feeds, or raise limits.line",
            ),
            ("line of gzip", "a.csv.gz", lambda: gzip.compress(LONG), {"line": 1000}, "a.csv.gz: line 3 is longer than 1,000 bytes"),
            (
                "line of json",
                "a.jsonl",
                lambda: b'{"k":"a","v":1}\n{"k":"' + b"x" * 1000 + b'"}\n',
                {"line": 1000},
                "a.jsonl: line 2 is longer than 1,000 bytes",
            ),
            ("bytes", "a.csv.gz", lambda: gzip.compress(MANY), {"bytes": 4000}, "a.csv.gz: it expands to more than 4,000 bytes; split it"),
            ("ratio of zstd", "a.csv.zst", lambda: zstandard.compress(b"k,v\n" + b"a,1\n" * 17_000_000), {}, RATIO),
            ("ratio of gzip", "a.csv.gz", lambda: gzip.compress(b"k,v\n" + b"\n" * 68_000_000), {}, RATIO),
            ("ratio of parquet", "a.parquet", lambda: repeated(9_000_000), {}, RATIO),
            ("rows", "a.parquet", lambda: repeated(1001), {"rows": 1000}, "a.parquet: it has 1,001 rows, at most 1,000"),
        )
    ],
)
def test_a_file_beyond_the_limits_is_refused_when_it_lands_and_when_it_is_read(
    tmp_path: Path, name: str, content: Callable[[], bytes], limits: dict[str, int], says: str
) -> None:
    made = content()
    (tmp_path / "x").write_bytes(made)
    with pytest.raises(WrongInput) as caught:
        inspected(name, tmp_path / "x", limited(**limits))
    assert says in str(caught.value)
    with pytest.raises(WrongInput) as caught:
        load(tmp_path, {name: made}, limited(**limits))
    assert says.partition(";")[0] in str(caught.value)


def test_a_file_of_more_rows_than_allowed_stops_the_load(tmp_path: Path) -> None:
    for name, content in {"a.csv": MANY + b"a,1\n", "a.jsonl": b'{"k":"a","v":1}\n' * 1001}.items():
        with pytest.raises(WrongInput, match=f"{name}: it has more than 1,000 rows; split it, or raise limits.rows"):
            load(tmp_path, {name: content}, limited(rows=1000))
        load(tmp_path, {name: content}, limited(rows=1001))


BLANK_LINES = r"""
import re, sys
from pathlib import Path
import duckdb
from recon.storage.hashing import define
from recon.intake.files import EventSpec, SourceFile, load_events
connection = duckdb.connect(config={"threads": 1})
define(connection, "")
path = Path(sys.argv[1])
counts = load_events(connection, [SourceFile("a.csv.gz", path)], EventSpec(("k",), None, None, {}), "events")
peak = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())  # getrusage has the parent's, too
print(counts[0].rows, int(peak[1]) >> 10, *connection.execute("SELECT line FROM events").fetchone())
"""


def test_blank_lines_take_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(gzip.compress(b"k,v\n" + b"\n" * 24_000_000 + b"a,1\n"))
    child = subprocess.run([sys.executable, "-c", BLANK_LINES, str(path)], capture_output=True, text=True, check=True)
    rows, mebibytes, line = map(int, child.stdout.split()[-3:])
    assert (rows, line) == (1, 24_000_002)
    assert mebibytes < 600


def test_good_files_pass_inspection(tmp_path: Path) -> None:
    for name, content in {
        "a.csv": GOOD,
        "b.csv": b"k,v\n",
        "c.csv.gz": gzip.compress(GOOD, mtime=0) * 2,
        "d.jsonl": b'{"k":1,"v":null}\n',
    }.items():
        path = tmp_path / "landed"
        path.write_bytes(content)
        inspect(name, path, ["k", "v"])


def test_columns_that_differ_in_case_only_are_refused() -> None:
    with pytest.raises(WrongUsage, match="differ in case only"):
        _ = EventSpec(("Key",), None, None, {"key": MONEY}).names


# -------------------------------------------------------------------------------------------- exactness of each format


@settings(max_examples=25, deadline=None)
@given(st.lists(st.decimals(allow_nan=False, allow_infinity=False), max_size=20), st.data())
def test_json_numbers_come_out_as_exact_as_their_text(numbers: list[Decimal], data: st.DataObject) -> None:
    plain = st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?", fullmatch=True)
    tokens = data.draw(st.lists(plain, min_size=1, max_size=30)) + [token for n in numbers if JSON_NUMBER.fullmatch(token := str(n))]
    behind, comma = data.draw(
        st.sampled_from([("", ""), (" ", " "), ("\t", ""), ("", "  ")])
    )  # lines without blanks are searched otherwise
    text = "".join(f'{{"k":{json.dumps(str(i))},{comma}"v":{behind}{token}}}\n' for i, token in enumerate(tokens))
    with tempfile.TemporaryDirectory() as folder:
        kind = Type("decimal", 38, 10)
        _, accepted, rejected = load(Path(folder), {"a.jsonl": text.encode()}, EventSpec(("k",), None, None, {"v": kind}))
    values = {row["line"]: row["c_v"] for row in accepted} | {row["line"]: None for row in rejected}
    for line, token in enumerate(tokens, 1):
        assert values[line] == expected_decimal(token, 38, 10), token


JSON_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?")


def expected_decimal(token: str, precision: int, scale: int) -> Decimal | None:
    """The exact value if it has at most ``scale`` decimals and fits; by Python's integers only."""
    sign, digits, exponent = Decimal(token.strip()).as_tuple()
    assert isinstance(exponent, int)
    number = int("".join(map(str, digits)) or "0") * (-1 if sign else 1)
    shift = exponent + scale
    if shift < 0 and number % 10**-shift:
        return None
    scaled = number * 10**shift if shift >= 0 else number // 10**-shift if number >= 0 else -(-number // 10**-shift)
    return Decimal(scaled).scaleb(-scale) if abs(scaled) < 10**precision and precision <= 28 else exact(scaled, precision, scale)


def exact(scaled: int, precision: int, scale: int) -> Decimal | None:
    if abs(scaled) >= 10**precision:
        return None
    return Decimal((int(scaled < 0), tuple(map(int, str(abs(scaled)))), -scale))


def test_text_columns_have_the_same_text_however_the_line_is_parsed(tmp_path: Path) -> None:
    members = ["1.10", "100.00", "-0", "7", "true", "null", '"a\\u00e4\\n"', "[]", '"1.10"']
    members.append('{"x" : [1, 2.50, "q\\"", false, null],"x":{}}')
    spec = EventSpec(("k",), None, None, {"v": Type("text")})
    for member in members:
        lines = f'{{"k":"a","v":{member}}}\n{{"k":"a","v":{member},"x":1e5}}\n'
        fast, exact_row = load(tmp_path, {"a.jsonl": lines.encode()}, spec)[1]
        assert fast["c_v"] == exact_row["c_v"], member


def test_parquet_types_come_out_exactly(tmp_path: Path) -> None:
    table = pa.table(
        {
            "k": pa.array(["a", "b", "c"]).dictionary_encode(),
            "dec": pa.array([Decimal("0.00000001"), Decimal("12345678901234567890.12"), None], pa.decimal128(38, 8)),
            "flt": pa.array([1e-07, 0.1, float("nan")]),
            "int": pa.array([2**63 - 1, -1, None], pa.int64()),
            "day": pa.array([date(2026, 2, 28), None, date(1, 1, 1)]),
            "utc": pa.array([0, 1, None], pa.timestamp("us", "America/New_York")),
            "ns": pa.array([1000, None, 1], pa.timestamp("ns")),
            "ok": pa.array([True, False, None]),
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink)
    types = {"dec": Type("decimal", 38, 8), "flt": Type("decimal", 18, 7), "int": Type("integer"), "day": Type("date")}
    types |= {"utc": Type("timestamp"), "ns": Type("timestamp"), "ok": Type("boolean")}
    _, accepted, rejected = load(tmp_path, {"a.parquet": sink.getvalue()}, EventSpec(("k",), None, None, types, zone=""), "Asia/Tokyo")
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    micro = timedelta(microseconds=1)
    values = [tuple(row[f"c_{name}"] for name in types) for row in accepted]
    assert values == [
        (Decimal("0.00000001"), Decimal("0.0000001"), 2**63 - 1, date(2026, 2, 28), epoch, epoch + micro, True),
        (Decimal("12345678901234567890.12"), Decimal("0.1"), -1, None, epoch + micro, None, False),
    ]
    assert [row["reason"] for row in rejected] == ["flt: 'nan' is not a number"]
    assert json.loads(rejected[0]["raw"])["day"] == "0001-01-01"


@pytest.mark.parametrize(
    ("column", "texts"),
    [
        (pa.array([1.0, 5678901234567.0, -(2.0**53) + 1, None]), ["1", "5678901234567", "-9007199254740991", None]),
        (pa.array([1.0, 16777215.0], pa.float32()), ["1", "16777215"]),
        (pa.array([Decimal("10.00"), Decimal("1.50")], pa.decimal128(9, 2)), ["10", "1.50"]),
        (pa.array([Decimal("1.0000000001"), Decimal(7)], pa.decimal256(60, 10)), ["1.0000000001", "7"]),
        (pa.array([2**64 - 1], pa.uint64()), ["18446744073709551615"]),
        (pa.array(["1.00", "1.0"]), ["1.00", "1.0"]),
        (pa.array([date(1, 1, 1), date(9999, 12, 31)]), ["0001-01-01", "9999-12-31"]),
        (pa.array([2**31 - 1, -(2**31) + 1], pa.int32()).view(pa.date32()), ["a day beyond the year 9999"] * 2),
    ],
)
def test_numbers_and_days_of_parquet_that_are_used_as_text_are_their_own_digits(tmp_path: Path, column: Any, texts: list[str]) -> None:
    content = parquet_bytes(k=column, v=column)
    spec = EventSpec(("k",), None, None, {"v": Type("text")})
    _, accepted, _ = load(tmp_path, {"a.parquet": content}, spec)
    assert [row["key"] for row in accepted] == [text for text in texts if text is not None]
    assert [row["c_v"] for row in accepted] == [row["key"] for row in accepted]
    path = tmp_path / "landed"
    path.write_bytes(content)
    inspect("a.parquet", path, ["k", "v"], (), ["k", "v"])


def test_a_float_that_is_used_as_text_and_no_whole_number_is_refused(tmp_path: Path) -> None:
    for column in (pa.array([1.0, 1.5]), pa.array([2.0**24], pa.float32()), pa.array([float("nan")])):
        content, path = parquet_bytes(k=["a"] * len(column), v=column), tmp_path / "landed"
        path.write_bytes(content)
        inspect("a.parquet", path, ["k", "v"])  # as a number it can be read
        says = r"a.parquet: column 'v' is .* and is used as text, but holds .*, which is no whole number below 2\^"
        with pytest.raises(WrongInput, match=says):
            inspect("a.parquet", path, ["k", "v"], (), ["v"])
        with pytest.raises(WrongInput, match=says):
            load(tmp_path, {"a.parquet": content}, EventSpec(("k",), None, None, {"v": Type("text")}))


def test_times_of_96_bits_are_exact_in_every_year(tmp_path: Path) -> None:
    first, last = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
    times = [
        first,
        last,
        datetime(1677, 1, 1, tzinfo=UTC),
        datetime(2262, 12, 31, tzinfo=UTC),
        datetime(2026, 11, 1, 9, 30, tzinfo=UTC),
        None,
    ]
    sink = io.BytesIO()
    table = pa.table({"k": [str(i) for i in range(len(times))], "t": pa.array(times, pa.timestamp("us", "UTC"))})
    pq.write_table(table, sink, use_deprecated_int96_timestamps=True, row_group_size=2)
    spec = EventSpec(("k",), None, "t", {}, zone="")
    _, accepted, _ = load(tmp_path, {"a.parquet": sink.getvalue()}, spec)
    assert [row["time"] for row in accepted] == times
    fine = io.BytesIO()
    nanos = pa.array([1_793_491_200_000_000_001, -1], pa.timestamp("ns"))
    pq.write_table(pa.table({"k": ["a", "b"], "t": nanos}), fine, use_deprecated_int96_timestamps=True)
    _, _, rejected = load(tmp_path, {"a.parquet": fine.getvalue()}, spec)
    assert [row["reason"].split("'")[1] for row in rejected] == ["2026-11-01 00:00:00.000000001", "1969-12-31 23:59:59.999999999"]


def test_a_parquet_decimal_of_finer_scale_is_rejected_not_rounded(tmp_path: Path) -> None:
    content = parquet_bytes(k=["a", "b"], v=pa.array([Decimal("1.005"), Decimal("1.010")], pa.decimal128(9, 3)))
    _, accepted, rejected = load(tmp_path, {"a.parquet": content}, EventSpec(("k",), None, None, {"v": MONEY}))
    assert [row["c_v"] for row in accepted] == [Decimal("1.01")]
    assert [row["reason"] for row in rejected] == ["v: '1.005' has more than 2 decimals"]


# ----------------------------------------------------------------------------------------------- keys, and all formats


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=2, max_size=3))
def test_a_key_of_several_columns_has_the_same_text_in_python_and_duckdb(values: list[str]) -> None:
    row = CONNECTION.execute("SELECT to_json(?::VARCHAR[])::VARCHAR", [values]).fetchone()
    assert row is not None
    assert key_text(values) == row[0]


def test_key_text_is_the_value_or_a_compact_array() -> None:
    assert key_text(["a\\u000b"]) == "a\\u000b"
    assert key_text(["v1", 'i"2']) == '["v1","i\\"2"]'
    assert key_text(["\x0b\n", "\\u000b"]) == '["\\u000B\\n","\\\\u000b"]'


def test_every_column_of_a_key_must_be_there(tmp_path: Path) -> None:
    spec = EventSpec(("v", "i"), None, None, {})
    _, accepted, rejected = load(tmp_path, {"a.csv": b"v,i\nv1,i2\nv1,\n"}, spec)
    assert [row["key"] for row in accepted] == ['["v1","i2"]']
    assert [row["reason"] for row in rejected] == ["i: the key is empty"]


def encoded(name: str, rows: list[dict[str, str | None]], header: list[str]) -> bytes:
    """Rows of texts as a file of the format that ``name`` tells."""
    form = formats.format_of(name)
    if form.kind == "parquet":
        return parquet_bytes(**{column: pa.array([row[column] for row in rows], pa.string()) for column in header})
    if form.kind == "json":
        content = "".join(json.dumps(row, ensure_ascii=len(rows) % 2 == 0) + "\n" for row in rows)
    else:
        text = io.StringIO()
        writer = csv.writer(text, delimiter="\t" if form.kind == "tsv" else ",", lineterminator="\r\n")
        writer.writerow(header)
        writer.writerows([[row[column] or "" for column in header] for row in rows])
        content = text.getvalue()
    if form.codec is None:
        return content.encode()
    return gzip.compress(content.encode()) if form.codec == "gzip" else zstandard.compress(content.encode())


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufffe"), max_size=12) | st.sampled_from(
    ['a"b', '"', "a,b", "x\ty", "line\nfeed", "cr\r\nlf", "🎉", "é" * 1000, " ", "\ufffd", "NULL", "k"]
)
AMOUNTS = st.decimals(-(10**6), 10**6, places=2).map(str) | st.from_regex(r"[ +-]?[0-9]{1,20}(\.[0-9]{0,4})?([eE]-?[0-9])?", fullmatch=True)
ROWS = st.fixed_dictionaries(
    {
        "k": TEXTS,
        "id": st.none() | TEXTS,
        "t": st.datetimes().map(lambda t: t.isoformat() + "Z") | st.sampled_from(["", "yesterday", "2026-13-01"]),
        "amount": AMOUNTS | st.sampled_from(["", "NaN", "1,0"]),
        "note": TEXTS,
    }
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ROWS, max_size=12))
def test_every_format_gives_the_events_and_rejects_that_plain_python_expects(rows: list[dict[str, str | None]]) -> None:
    header = ["k", "id", "t", "amount", "note"]
    expected = [(*expected_row(row),) for row in rows]
    names = ("a.csv", "a.tsv.gz", "a.jsonl", "a.json.zst", "a.parquet")
    with tempfile.TemporaryDirectory() as folder:
        counts, *tables = load(Path(folder), {name: encoded(name, rows, header) for name in names})
    for number, name in enumerate(names):
        assert counts[number].rows == len(rows)
        got = sorted((row for table in tables for row in table if row["file"] == number), key=lambda row: row["line"])
        for row, (good, wanted) in zip(got, expected, strict=True):
            assert ("reason" not in row) == good, (name, row)
            if good:
                assert (row["key"], row["id"], row["time"], row["c_amount"], row["c_note"]) == wanted


def expected_row(row: dict[str, str | None]) -> tuple[bool, Any]:
    key, time, amount = row["k"], row["t"] or None, row["amount"] or None
    if not key or len(key.encode()) > 4096 or time in ("yesterday", "2026-13-01"):
        return False, None
    value = None
    if amount is not None:
        if amount in ("NaN", "1,0"):
            return False, None
        value = expected_decimal(amount, 18, 2)
        if value is None:
            return False, None
    return True, (key, row["id"] or None, datetime.fromisoformat(time) if time else None, value, row["note"] or None)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("name", ["v", "amt", "date", "amount"])
def test_a_member_twice_is_found_however_short_its_name_and_whatever_the_other_lines(tmp_path: Path, name: str, rows: int) -> None:
    """All lines alike: what stands before a short name must not make two of one name look like different ones."""
    spec = EventSpec(("order_id",), None, None, {name: Type("decimal", 18, 2)})
    content = "".join(f'{{"order_id":"{row}","{name}":10.00,"{name}":99.00}}\n' for row in range(rows))
    assert [(row, found) for row, found, _ in reasons(tmp_path, "a.jsonl", content, spec)] == [
        (row + 1, f"member '{name}' twice") for row in range(rows)
    ]
