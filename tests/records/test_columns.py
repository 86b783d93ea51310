"""Records by the column: encoding many records gives the bytes that the plain encoder gives of each, and decoding gives them back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from any_record import forms, records
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from plain_words import encoded

from recon.model.form import Form
from recon.records.append import Append, Arriving, can_append
from recon.records.columns import arrow_type, binary_of, words_of
from recon.records.decode import Decoder, decode
from recon.records.encode import encode
from recon.records.ranges import before
from recon.records.tables import as_table, merged_rows, typed

MANY = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))


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
@given(several(), st.booleans())
def test_appending_the_last_contribution_gives_the_bytes_of_the_whole_record(case: tuple[Form, list[dict[str, Any]]], ids: bool) -> None:
    form, found = case
    assume(can_append(form))
    plain = [r for r in found if r["contributions"] and "carried" not in r and not r["withdrawn"]]
    for record in plain:
        for part in record["contributions"]:
            part["d"], part["ids"] = 0, (part["ids"] or []) if ids else []
    small = [r for r in plain if len(encoded(form, r)) and not int.from_bytes(encoded(form, r)[14:16], "little") & 1]
    without = [r | {"contributions": r["contributions"][:-1]} for r in small]
    words, start, _ = words_of(pa.array([encoded(form, r) for r in without], pa.large_binary()))
    whole = Decoder(form, *words_of(pa.array([encoded(form, r) for r in small], pa.large_binary()))[:2])
    rows, last = whole.rows(), np.cumsum(whole.kept) - 1
    windows = set(rows.window[last].tolist())
    assume(len(windows) == 1)
    arriving = Arriving(windows.pop(), rows.n, rows.c_ids, rows.ids, rows.c_slots).take(last)
    append = Append(form, words, Decoder(form, words, start), arriving)
    out, at = np.zeros(int(append.length.sum()), np.uint64), before(append.length)
    append.write(out, at, rows.status, rows.slots)
    assert [data.as_py() for data in binary_of(out, at, append.length)] == [encoded(form, record) for record in small]
