"""Records by the column: encoding many records gives the bytes that the plain encoder gives of each, and decoding gives them back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from any_record import forms, records
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plain_words import encoded

from recon.model.form import Form, Slot
from recon.records.columns import Column, arrow_type, binary_of, words_of
from recon.records.contributions import Contributions, joined, of_records, sharing_ids, totals
from recon.records.decode import Decoder, decode
from recon.records.encode import encode
from recon.records.tables import as_table, merged_rows, typed

MANY = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def several(draw: st.DrawFn) -> tuple[Form, list[dict[str, Any]]]:
    """Records of a form. Numbers of events fit 63 bits, as those of SQL do."""
    form = draw(forms())
    found = draw(st.lists(records(form), max_size=4))
    for record in found:
        for part in (*record["contributions"], *([record["carried"]] if "carried" in record else [])):
            part |= {name: part[name] >> 1 for name in ("n", "d")}
            part |= {name: [length >> 1 for length in part[name]] for name in ("runs",) if name in part}
    return form, found


def merged(form: Form, found: list[dict[str, Any]]) -> pa.Table:
    """Records as the merge hands them to ``merged_rows``."""
    table = as_table(form, found)
    for prefix, part, items in (("m_", "measures", form.measures), ("x_", "derived", form.derived)):
        for item in items:
            values = [typed(record[part].get(item.name), arrow_type(item)) for record in found]
            table = table.append_column(prefix + item.name, pa.array(values, arrow_type(item)))
    return table


@MANY
@given(several())
def test_columns_give_the_bytes_of_each_record(case: tuple[Form, list[dict[str, Any]]]) -> None:
    form, found = case
    words, start, length = encode(form, merged_rows(form, merged(form, found)))
    assert [data.as_py() for data in binary_of(words, start, length)] == [encoded(form, record) for record in found]


@MANY
@given(several(), st.integers(0, 3))
def test_columns_are_decoded_as_they_were_encoded(case: tuple[Form, list[dict[str, Any]]], skipped: int) -> None:
    form, found = case
    array = pa.array([encoded(form, record) for record in found], pa.binary_view())[skipped:]
    words, start, length = words_of(array)
    expected = as_table(form, found[skipped:])
    assert decode(form, words, start).select(expected.column_names).to_pylist() == expected.to_pylist()
    again, _, lengths = encode(form, Decoder(form, words, start).rows())
    assert (lengths == length).all()
    assert (again == words).all()


@MANY
@given(several(), st.data())
def test_contributions_that_are_joined_give_the_bytes_of_the_whole_record(
    case: tuple[Form, list[dict[str, Any]]], data: st.DataObject
) -> None:
    form, found = case
    whole = [r for r in found if r["contributions"] and "carried" not in r]
    for part in [part for record in whole for part in record["contributions"]]:
        part["d"], part["ids"] = 0, part["ids"] or []
    bytes_of = [encoded(form, record) for record in whole]
    decoder = Decoder(form, *words_of(pa.array(bytes_of, pa.large_binary()))[:2])
    every = of_records(decoder, np.arange(len(whole)))
    sides = np.array(data.draw(st.lists(st.booleans(), min_size=len(every.of), max_size=len(every.of))), bool)
    some, others = (every.take(np.flatnonzero(side)) for side in (sides, ~sides))
    again = joined(others, some)
    rows = replace(decoder.rows(), kept=again.kept, window=again.window, n=again.n, c_slots=again.slots, c_ids=again.counts, ids=again.ids)
    words, start, length = encode(form, rows)
    assert [each.as_py() for each in binary_of(words, start, length)] == bytes_of


NUMBERS = st.none() | st.integers(-9, 9) | st.integers(-(1 << 63), (1 << 63) - 1)


@MANY
@given(st.lists(st.lists(NUMBERS, min_size=1, max_size=5), max_size=5))
def test_totals_are_those_of_python_and_sums_beyond_64_bits_are_named(records: list[list[int | None]]) -> None:
    kinds = ("sum", "min", "max")
    form = Form(("k",), ("", 3600, ""), tuple(Slot(kind, "integer", kind) for kind in kinds), (), (), False, "")
    values = [value for record in records for value in record]
    slot = Column(np.array([value or 0 for value in values], np.int64), None, np.array([value is not None for value in values], bool))
    of = np.repeat(np.arange(len(records)), [len(record) for record in records])
    zeros = np.zeros(len(values), np.int64)
    found = Contributions(of, zeros, zeros, zeros, np.zeros(0, np.uint64), [slot] * 3)
    totalled, wide = totals(form, found, found.kept)
    some = [[value for value in record if value is not None] for record in records]
    assert wide.tolist() == [not -(1 << 63) <= sum(record) < 1 << 63 for record in some]
    for kind, column in zip(kinds, totalled, strict=True):
        fold = {"sum": sum, "min": min, "max": max}[kind]
        expected = [fold(record) if record else None for record in some]
        shown = [low if valid else None for low, valid in zip(column.low.tolist(), column.valid.tolist(), strict=True)]
        assert [one for one, beyond in zip(shown, wide, strict=True) if not (beyond and kind == "sum")] == [
            one for one, beyond in zip(expected, wide, strict=True) if not (beyond and kind == "sum")
        ]


@MANY
@given(st.lists(st.tuples(st.integers(0, 3), st.lists(st.integers(0, 6) | st.just((1 << 64) - 1), max_size=3, unique=True)), max_size=6))
def test_records_with_an_id_twice_are_found(parts: list[tuple[int, list[int]]]) -> None:
    parts.sort(key=lambda part: part[0])
    of, counts = np.array([part[0] for part in parts], np.int64), np.array([len(part[1]) for part in parts], np.int64)
    ids = [one * 0xD6E8FEB86659FD93 % (1 << 64) for part in parts for one in part[1]]  # scattered, as hashes are
    found = Contributions(of, of, of, counts, np.array(ids, np.uint64), [])
    listed = [[one for number, some in parts if number == record for one in some] for record in range(4)]
    assert sharing_ids(found, 4).tolist() == [len(some) > len(set(some)) for some in listed]
