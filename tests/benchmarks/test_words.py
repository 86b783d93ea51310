"""The form of decision 022 in benchmarks/words.py: what is encoded is decoded, by columns and by ``struct``; appending gives the bytes that
encoding gives; a flipped bit is noticed."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.words import Columns, Form, Ints, append, decode, encode, record_of

FORM = Form(3, 2)
NARROW = st.integers(-(2**63), 2**63 - 1)
WIDE = st.integers(-(2**126), 2**126 - 1)
Value = st.none() | st.integers(-1000, 1000) | NARROW | WIDE


def contribution(value: st.SearchStrategy[Any], d: st.SearchStrategy[int]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "window": st.integers(0, 2**32 - 1),
            "n": st.integers(0, 2**32 - 1),
            "d": d,
            "ids": st.lists(st.integers(0, 2**64 - 1), max_size=4),
            "values": st.lists(value, min_size=FORM.measures, max_size=FORM.measures),
        }
    )


def record(value: st.SearchStrategy[Any] = Value, d: st.SearchStrategy[int] = st.just(0) | st.integers(0, 2**40)) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(
        {
            "key": st.text(max_size=12),
            "status": st.integers(0, 255),
            "values": st.lists(value, min_size=FORM.values, max_size=FORM.values),
            "contributions": st.lists(contribution(value, d), max_size=4),
        }
    )


def columns(records: list[dict[str, Any]]) -> Columns:
    each = [one for r in records for one in r["contributions"]]

    def parts(rows: list[dict[str, Any]], count: int) -> tuple[Ints, Ints, Ints]:
        values = [[value or 0 for value in row["values"]] for row in rows]
        low = np.array([[v & (1 << 64) - 1 for v in row] for row in values], np.uint64).reshape(len(rows), count).view(np.int64)
        high = np.array([[v >> 64 for v in row] for row in values], np.int64).reshape(len(rows), count)
        valid = [sum(1 << slot for slot, value in enumerate(row["values"]) if value is not None) for row in rows]
        return low, high, np.array(valid, np.int64)

    def ints(values: list[int]) -> Ints:
        return np.array(values, np.int64)

    return Columns(
        [r["key"].encode() for r in records],
        ints([r["status"] for r in records]),
        *parts(records, FORM.values),
        ints([len(r["contributions"]) for r in records]),
        ints([one["window"] for one in each]),
        ints([one["n"] for one in each]),
        ints([one["d"] for one in each]),
        *parts(each, FORM.measures),
        ints([len(one["ids"]) for one in each]),
        np.array([i for one in each for i in one["ids"]], np.uint64),
    )


@settings(deadline=None, max_examples=150)
@given(st.lists(record(), max_size=6))
def test_what_is_encoded_is_decoded_record_by_record_and_by_columns(records: list[dict[str, Any]]) -> None:
    words, start, length = encode(FORM, columns(records))
    data = words.tobytes()
    assert [record_of(FORM, data[8 * a : 8 * (a + n)]) for a, n in zip(start.tolist(), length.tolist(), strict=True)] == records
    again, *_ = encode(FORM, decode(FORM, words, start))
    assert again.tobytes() == data, "what is decoded encodes to the same bytes"


SMALL = st.none() | st.integers(-(2**40), 2**40)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(record(SMALL, st.just(0)), contribution(SMALL, st.just(0))), min_size=1, max_size=6))
def test_appending_by_copying_gives_the_bytes_that_encoding_gives(pairs: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    stood, arriving, after = [], [], []
    for old, new in pairs:
        old = old | {"values": totals(old["contributions"])}
        stood.append(old)
        arriving.append({"key": "", "status": 0, "values": [None] * FORM.values, "contributions": [new]})
        after.append(old | {"contributions": [*old["contributions"], new], "values": totals([*old["contributions"], new]), "status": 7})
    words, start, _ = encode(FORM, columns(stood))

    def judge(sums: Ints, valid: Ints) -> tuple[Ints, Ints, Ints]:
        rows = len(sums)
        return np.full((rows, FORM.derived), 5, np.int64), np.full(rows, 3, np.int64), np.full(rows, 7, np.int64)

    grown, _, _ = append(FORM, words, start, columns(arriving), judge)
    assert grown.tobytes() == encode(FORM, columns(after))[0].tobytes()


def totals(contributions: list[dict[str, Any]]) -> list[int | None]:
    """Sums over the contributions, null where all are; the derived values are what the judge of the test says."""
    by_measure = [[one["values"][slot] for one in contributions if one["values"][slot] is not None] for slot in range(FORM.measures)]
    return [sum(values) if values else None for values in by_measure] + [5] * FORM.derived


@settings(deadline=None, max_examples=60)
@given(record(), st.data())
def test_the_check_notices_any_flipped_bit(one: dict[str, Any], data: st.DataObject) -> None:
    whole = bytearray(encode(FORM, columns([one]))[0].tobytes())
    check = zlib.crc32(whole)
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    whole[bit >> 3] ^= 1 << (bit & 7)
    assert zlib.crc32(whole) != check
