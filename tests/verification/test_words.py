"""Verification's decoder of records: it reads what the plain encoder writes, and notices every byte that is not as docs/format.md says."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from any_record import decimal_text, forms, records
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plain_words import encoded

from recon.model.form import Form, Slot
from recon.model.record import full
from recon.verification.words import Decoded, decode

MANY = settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def batches(draw: st.DrawFn) -> tuple[Form, list[dict[str, Any]]]:
    form = draw(forms())
    return form, [draw(records(form)) for _ in range(draw(st.integers(0, 4)))]


def decoded(form: Form, contents: list[bytes], kind: pa.DataType | None = None) -> Decoded:
    return decode(form, pa.array(contents, kind or pa.binary_view()))


def dictionaries(form: Form, found: Decoded) -> dict[int, dict[str, Any]]:
    """The tables as dictionaries like those of ``full``."""
    parts = {row: [] for row in found.artifacts.column("row").to_pylist()}  # type: ignore[var-annotated]
    for part in found.contributions.to_pylist():
        ids = {"ids": part["ids"]}
        parts[part["row"]].append({"w": part["w"], "n": part["n"], "d": part["d"], **of_set(form, part), **ids, "m": measures(form, part)})
    records = {}
    for made in found.artifacts.to_pylist():
        records[made["row"]] = {
            "key": made["key"],
            "status": made["status"],
            "measures": {x.name: shown(x, made[f"m_{x.name}"]) for x in form.measures if made[f"m_{x.name}"] is not None},
            "derived": {x.name: shown(x, made[f"x_{x.name}"]) for x in form.derived if made[f"x_{x.name}"] is not None},
            "contributions": parts[made["row"]],
            "withdrawn": made["withdrawn"],
        }
        assert made["windows"] == len(parts[made["row"]])
    for block in found.blocks.to_pylist():
        spans = {name: block[name] for name in ("first", "last", "windows", "runs", "n", "d")}
        records[block["row"]]["carried"] = {**spans, **of_set(form, block), "m": measures(form, block)}
    return records


def of_set(form: Form, part: dict[str, Any]) -> dict[str, Any]:
    return {"u": part["u"]} if form.currency else {}


def measures(form: Form, part: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for item in form.measures:
        value = part[f"m_{item.name}"]
        if item.is_timed and value is not None:
            found[item.name] = {"t": shown(Slot("t", "timestamp"), value["t"]), "v": shown(item, value["v"])}
        elif value is not None:
            found[item.name] = shown(item, value)
    return found


def shown(item: Slot, value: Any) -> Any:
    if item.scale is not None:
        sign, digits, _ = value.as_tuple()
        return decimal_text((-1) ** sign * int("".join(map(str, digits))), item.scale)
    if item.type == "timestamp":
        return value.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    return value.isoformat() if item.type == "date" else value


@MANY
@given(batches(), st.sampled_from([pa.binary(), pa.large_binary(), pa.binary_view()]))
def test_it_reads_what_the_plain_encoder_writes(batch: tuple[Form, list[dict[str, Any]]], kind: pa.DataType) -> None:
    form, listed = batch
    found = decoded(form, [encoded(form, record) for record in listed], kind)
    assert (found.broken, found.odd) == ({}, {})
    assert dictionaries(form, found) == dict(enumerate(listed))


@MANY
@given(batches(), st.data())
def test_each_changed_bit_gives_another_record_or_is_noticed(batch: tuple[Form, list[dict[str, Any]]], data: st.DataObject) -> None:
    """The record beside it is read as before."""
    form, listed = batch
    record = data.draw(records(form))
    content = encoded(form, record)
    for bit in data.draw(st.lists(st.integers(0, 8 * len(content) - 1), min_size=8, max_size=8)):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        found = decoded(form, [bytes(changed), *(encoded(form, one) for one in listed)])
        again = dictionaries(form, found)
        assert {row: one for row, one in again.items() if row} == dict(enumerate(listed, 1))
        assert set(found.broken) | set(found.odd) <= {0}
        if 0 in again:
            assert full(form, bytes(changed)) == again[0]
            assert encoded(form, again[0]) == bytes(changed) or found.odd
        assert 0 in again or found.broken
        assert again.get(0) != record or found.odd


@MANY
@given(batches(), forms(), st.data())
def test_bytes_of_another_form_and_cut_records_are_broken_or_read(
    batch: tuple[Form, list[dict[str, Any]]], other: Form, data: st.DataObject
) -> None:
    form, listed = batch
    contents = [encoded(form, record) for record in listed]
    decoded(other, contents)
    cut = [content[: data.draw(st.integers(0, len(content) - 1))] for content in contents]
    assert set(decoded(form, [*cut, *(content + bytes(8) for content in contents)]).broken) == set(range(2 * len(contents)))


FORM = Form(
    ("id",),
    ("2026-11-01T00:00:00+00:00", 3600, ""),
    (Slot("sum", "decimal(38,2)", "sum"), Slot("first", "text", "first")),
    (Slot("flag", "boolean"), Slot("day", "date")),
    ("OPEN",),
    True,
    "r1",
)
RECORD: dict[str, Any] = {
    "key": "A",
    "status": "OPEN",
    "measures": {"sum": "3.00"},
    "derived": {"flag": True},
    "contributions": [
        {"w": f"2026-11-01T0{hour}:00Z", "n": 1, "d": 0, "u": ["EUR", "USD"], "ids": [3, 5, 5], "m": {"sum": "1.50"}} for hour in range(2)
    ],
    "withdrawn": ["2026-11-01T04:00Z", "2026-11-01T05:00Z", "2026-11-01T06:00Z"],
}
IDS = b"".join(number.to_bytes(8, "little") for number in (3, 5, 5))
SETS = b'["EUR","USD"]["EUR","USD"]'


def wide(content: bytes) -> bytes:
    """The record written with two words a slot, without need."""
    big = json.loads(json.dumps(RECORD))
    big["measures"]["sum"] = "1" + "0" * 20 + ".00"
    number = 10**22
    return encoded(FORM, big).replace(number.to_bytes(16, "little"), (300).to_bytes(16, "little"))


ODD = {
    "the slot of a null": ("null", lambda content: content[:32] + b"\1" + content[33:]),
    "the bit of no slot": ("validity", lambda content: content[:16] + bytes([content[16] | 1 << 7]) + content[17:]),
    "the bit of no measure": ("validity", lambda content: content.replace(b"\3\0\0\0\1\0\0\0", b"\3\0\0\0\5\0\0\0", 1)),
    "padding of the key": ("zeros", lambda content: content[:-1] + b"\1"),
    "padding of the texts": ("zeros", lambda content: content.replace(SETS + b"\0", SETS + b"x")),
    "padding of the withdrawn": ("zeros", lambda content: content[:-9] + b"\1" + content[-8:]),
    "two words": ("flag", wide),
    "another flag": ("flag", lambda content: content[:15] + b"\1" + content[16:]),
    "ids": ("ids", lambda content: content.replace(IDS, IDS[8:] + IDS[:8], 1)),
    "windows": ("windows", lambda content: swapped(content, "2026-11-01T00:00Z", "2026-11-01T01:00Z")),
    "the same window": ("windows", lambda content: content.replace(minutes("2026-11-01T00:00Z"), minutes("2026-11-01T01:00Z"))),
    "withdrawn": ("withdrawn", lambda content: swapped(content, "2026-11-01T04:00Z", "2026-11-01T05:00Z")),
    "currencies": ("currencies", lambda content: content.replace(b'["EUR","USD"]', b'["USD","EUR"]', 1)),
    "blanks in a set": ("currencies", lambda content: content.replace(b'["EUR","USD"]', b'["EUR", "US"]', 1)),
    "one text for two slots": ("texts", lambda content: content.replace(place(13, 13), place(0, 13))),
    "texts that no slot refers to": (
        "texts",
        lambda content: content.replace(place(13, 13), place(13, 12)).replace(SETS, SETS[:13] + b'["EUR","US"]x'),
    ),
}


def minutes(name: str) -> bytes:
    return ((int(name[11:13]) * 60) + 29_891_520).to_bytes(4, "little")


def swapped(content: bytes, one: str, other: str) -> bytes:
    first, second = minutes(one), minutes(other)
    return content.replace(first, b"....").replace(second, first).replace(b"....", second)


def place(offset: int, size: int) -> bytes:
    return offset.to_bytes(4, "little") + size.to_bytes(4, "little")


@pytest.mark.parametrize("what", ODD)
def test_bytes_that_say_the_same_in_another_way_are_odd(what: str) -> None:
    reason, change = ODD[what]
    content = encoded(FORM, RECORD)
    changed = change(content)
    assert changed != content
    found = decoded(FORM, [content, changed, content])
    assert (set(found.odd), found.broken) == ({1}, {})
    assert reason in found.odd[1]
    assert full(FORM, changed)["key"] == "A"


NAMELESS = Form(("id",), FORM.grid, (Slot("n", "integer", "count"),), (), None, False, "r1")
BARE: dict[str, Any] = {"key": "A", "status": None, "measures": {}, "derived": {}, "contributions": [], "withdrawn": []}
ONE = {"w": "2026-11-01T00:00Z", "n": 1, "d": 0, "ids": [], "m": {"n": 1}}
LISTED = BARE | {"contributions": [ONE]}


def flagged(record: dict[str, Any], flag: int, at: int | None = None) -> bytes:
    """A record with one more flag, and a word of zeros at a place."""
    content = bytearray(encoded(NAMELESS, record))
    content[14] |= flag
    return bytes(content if at is None else content[:at] + bytes(8) + content[at:])


UNNEEDED = {
    "suppressed": (flagged(LISTED, 2, 56), "flag"),
    "no ids": (flagged(LISTED, 32), "flag"),
    "texts": (flagged(BARE, 4, 40), "flag"),
    "withdrawn": (flagged(BARE, 8, 40), "flag"),
    "a code beside a status": (encoded(NAMELESS, LISTED)[:12] + b"\1" + encoded(NAMELESS, LISTED)[13:], "code"),
    "a value of nothing": (encoded(NAMELESS, BARE | {"measures": {"n": 1}}), "no contributions and a value"),
    "a status of nothing": (encoded(NAMELESS, BARE | {"status": "OPEN"}), "no contributions and a value"),
}


@pytest.mark.parametrize("what", UNNEEDED)
def test_flags_and_values_without_need_are_odd(what: str) -> None:
    content, reason = UNNEEDED[what]
    found = decoded(NAMELESS, [content])
    assert found.broken == {}
    assert reason in found.odd[0]


def typed(kind: str, number: int) -> tuple[Form, bytes]:
    """A record whose measure has this number, which its type does not allow."""
    form = Form(("id",), FORM.grid, (Slot("v", kind, "max"),), (), (), False, "r1")
    right = {"boolean": True, "date": "1970-01-02", "timestamp": "1970-01-01T00:00:00.000001Z", "text": "A"}.get(kind, "1")
    content = encoded(form, BARE | {"contributions": [ONE | {"m": {"v": right}}]})
    return form, content[:48] + number.to_bytes(8, "little", signed=True) + content[56:]  # behind 4 words of header and 2 of contribution


BROKEN = {
    "no boolean": (*typed("boolean", 2), "boolean"),
    "a date before the year 1": (*typed("date", -(10**9)), "date"),
    "a time after the year 9999": (*typed("timestamp", 1 << 62), "timestamp"),
    "too many digits": (*typed("decimal(2,0)", 100), "more digits than decimal(2,0)"),
    "a text outside": (*typed("text", 2 << 32), "outside"),
    "a code of no status": (FORM, encoded(FORM, RECORD)[:12] + b"\2" + encoded(FORM, RECORD)[13:], "code of none"),
    "a key that is no text": (FORM, encoded(FORM, RECORD)[:-8] + b"\xff" + bytes(7), "not UTF-8"),
    "a text that is none": (FORM, encoded(FORM, RECORD).replace(b"EUR", b"E\xffR", 1), "not UTF-8"),
    "no set": (FORM, encoded(FORM, RECORD).replace(b'["EUR","USD"]', b'["EUR","USD" ', 1), "set of currencies"),
    "a window before the year 1": (FORM, encoded(FORM, RECORD).replace(minutes("2026-11-01T00:00Z"), b"\0\0\0\x80"), "year 1"),
    "other ids": (FORM, encoded(FORM, RECORD).replace(b"\3\0\0\0\1\0\0\0", b"\2\0\0\0\1\0\0\0", 1), "other ids"),
    "other contributions": (FORM, b"\3" + encoded(FORM, RECORD)[1:], "other lengths"),
    "no whole words": (FORM, encoded(FORM, RECORD) + b"\0", "multiple of 8"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_record_that_cannot_be_decoded_is_named_with_the_reason(what: str) -> None:
    form, content, reason = BROKEN[what]
    found = decoded(form, [content, content])
    assert list(found.broken) == [0, 1]
    assert reason in found.broken[1]
    assert found.artifacts.num_rows == found.contributions.num_rows == 0
