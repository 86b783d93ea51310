"""Rows of landed files, in all formats: each is accepted or rejected, with file, line and reason."""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loaded_files import (
    CONNECTION,
    HEADER,
    MONEY,
    MONEY_SPEC,
    encoded,
    expected_decimal,
    inspect,
    load,
    reasons,
)

from recon.errors import WrongInput
from recon.intake.files import EventSpec, formats, key_text
from recon.vocabulary.types import Type

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
