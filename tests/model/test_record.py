"""The form of records: docs/format.md. Any record of any form is read as it was written, and other bytes raise ValueError."""

from __future__ import annotations

import zlib
from contextlib import suppress
from typing import Any

import pytest
from any_record import forms, records
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from plain_words import encoded

from recon.model.form import HEAD, MAGIC, Form, Slot, head_bytes, read_head
from recon.model.record import full, key_of

MANY = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
PLAIN = Form(("id",), ("2026-11-01T00:00Z", 3600, ""), (Slot("lines", "integer", "count"),), (), ("OPEN",), False, "r1")
EMPTY: dict[str, Any] = {"key": "", "status": None, "measures": {}, "derived": {}, "contributions": [], "withdrawn": []}


@st.composite
def written(draw: st.DrawFn) -> tuple[Form, dict[str, Any]]:
    form = draw(forms())
    return form, draw(records(form))


@MANY
@given(written())
def test_a_record_is_read_as_it_was_written(case: tuple[Form, dict[str, Any]]) -> None:
    form, record = case
    data = encoded(form, record)
    assert len(data) % 8 == 0
    read = full(form, data)
    assert read == record
    assert encoded(form, read) == data
    assert key_of(data) == (record["key"], bool(record["contributions"]) or "carried" in record)


@MANY
@given(written())
def test_a_record_that_is_cut_or_longer_is_refused(case: tuple[Form, dict[str, Any]]) -> None:
    form, record = case
    data = encoded(form, record)
    for other in (b"", data[:8], data[:16], data[:-8], data[:-1], data + bytes(8), data + b"\0"):
        with pytest.raises(ValueError, match=r"."):
            full(form, other)


@MANY
@given(written(), forms(), st.data())
def test_other_bytes_raise_nothing_but_value_errors(case: tuple[Form, dict[str, Any]], other: Form, data: st.DataObject) -> None:
    form, record = case
    content = bytearray(encoded(form, record))
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] = data.draw(st.integers(0, 255))
    for place, changed in ((form, bytes(content)), (other, encoded(form, record)), (form, bytes(content[8:]))):
        for read in (lambda: full(place, changed), lambda: key_of(changed)):  # noqa: B023 - called at once
            with suppress(ValueError):
                read()


@MANY
@given(written(), st.data())
def test_a_flipped_bit_changes_the_check(case: tuple[Form, dict[str, Any]], data: st.DataObject) -> None:
    content = encoded(*case)
    changed = bytearray(content)
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    changed[bit // 8] ^= 1 << bit % 8
    assert zlib.crc32(changed) != zlib.crc32(content)


@pytest.mark.parametrize("at", [0, 4, 8])
def test_counts_that_no_record_has_room_for_are_refused_at_once(at: int) -> None:
    content = bytearray(encoded(PLAIN, EMPTY | {"key": "A"}))
    content[at : at + 4] = b"\xfe\xff\xff\xff"
    with pytest.raises(ValueError, match=r"record|ids"):
        full(PLAIN, bytes(content))


def test_a_set_of_currencies_that_is_none_is_refused() -> None:
    form = Form(("id",), PLAIN.grid, PLAIN.measures, (), (), True, "r1")
    record = EMPTY | {"contributions": [{"w": "2026-11-01T00:00Z", "n": 1, "d": 0, "u": ["x" * 39_996], "ids": [], "m": {}}]}
    content = encoded(form, record)
    listed = b'["' + b"x" * 39_996 + b'"]'
    for wrong in (b"[" * 40_000, b"{}" + b" " * 39_998, b"[1]" + b" " * 39_997):
        with pytest.raises(ValueError, match="currencies"):
            full(form, content.replace(listed, wrong))


@MANY
@given(forms())
def test_a_head_is_read_as_it_was_written(form: Form) -> None:
    head = form.head()
    assert len(head) % 8 == 0
    assert head_bytes(head[: HEAD.size]) == len(head)
    assert read_head(head) == read_head(head + b"records") == form


@MANY
@given(forms(), st.data())
def test_a_head_with_a_flipped_bit_or_cut_is_refused(form: Form, data: st.DataObject) -> None:
    head = bytearray(form.head())
    bit = data.draw(st.one_of(st.integers(0, 8 * HEAD.size - 1), st.integers(0, 8 * len(head) - 1)))
    head[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ValueError, match=r"."):
        read_head(bytes(head))
    with pytest.raises(ValueError, match=r"."):
        read_head(form.head()[: bit // 8])


def test_a_part_file_of_json_lines_is_named_by_its_first_bytes() -> None:
    with pytest.raises(ValueError, match="begins with"):
        head_bytes(b'{"k":"A","s":null,"m":{},"v":{}}\n')
    assert PLAIN.head().startswith(MAGIC)


@MANY
@given(written(), written())
def test_different_records_have_different_bytes(one: tuple[Form, dict[str, Any]], two: tuple[Form, dict[str, Any]]) -> None:
    (form, record), (other, _) = one, two
    assume(form != other)
    assert form.head() != other.head()
    changed = record | {"key": record["key"] + "'"}
    assert encoded(form, changed) != encoded(form, record)
