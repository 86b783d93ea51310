"""Tables of merged artifacts and of reduced artifacts as the rows that ``encode`` takes, and dictionaries of single records as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recon.model.form import Form
from recon.records.columns import Blocks, Column, Rows, arrow_type, column_of, contribution_columns, flat, minutes, numbers, valid_of
from recon.records.ranges import Ints, Words


def merged_rows(form: Form, table: pa.Table) -> Rows:
    """The rows of a table as ``decode`` makes it, with the columns ``m_<name>`` of measures and ``x_<name>`` of derived values."""
    listed = flat(table.column("c"))
    each, kept = listed.flatten(), numbers(pc.list_value_length(listed))
    ids = pc.struct_field(each, "ids")
    gone = flat(table.column("withdrawn"))
    return Rows(
        key=flat(table.column("key")).cast(pa.large_string()).cast(pa.large_binary()),
        status=status_codes(form, table.column("status")),
        slots=header_columns(form, table),
        kept=kept,
        **_counts(each),
        c_slots=_contribution_slots(form, each),
        c_ids=np.where(valid_of(ids), numbers(pc.list_value_length(ids)), -1),
        ids=ids_of(ids),
        withdrawn=numbers(pc.list_value_length(gone)),
        gone=minutes(gone.flatten()),
        blocks=_blocks(form, flat(table.column("block"))),
    )


def reduced_slots(form: Form, table: pa.Table) -> list[Column]:
    """The slots of the contributions in reduced artifacts."""
    currencies = flat(table.column("u")) if form.currency else pa.nulls(table.num_rows)
    return contribution_columns(form, currencies, [flat(table.column(f"m_{item.name}")) for item in form.measures])


def header_columns(form: Form, table: pa.Table) -> list[Column]:
    """The slots of headers from the columns of a table."""
    names = [("status",)] if form.statuses is None else []
    names += [(f"m_{item.name}",) for item in form.measures] + [(f"x_{item.name}",) for item in form.derived]
    return [column_of(item, _value(flat(table.column(name)))) for item, (name,) in zip(form.slots, names, strict=True)]


def _value(array: Any) -> Any:
    """The value of a first or last measure without its time."""
    return pc.struct_field(array, "v") if pa.types.is_struct(array.type) else array


def status_codes(form: Form, statuses: Any) -> Ints:
    """Codes of statuses, 0 for none, and for all where the status is a text."""
    if form.statuses is None:
        return np.zeros(len(statuses), np.int64)
    return numbers(pc.index_in(flat(statuses).cast(pa.string()), pa.array(form.statuses, pa.string()))) + np.where(
        valid_of(flat(statuses)), 1, 0
    )


def _counts(each: Any) -> dict[str, Ints]:
    return {
        "window": minutes(pc.struct_field(each, "w")),
        "n": numbers(pc.struct_field(each, "n")),
        "d": numbers(pc.struct_field(each, "d")),
    }


def _contribution_slots(form: Form, each: Any) -> list[Column]:
    currencies = pc.struct_field(each, "u") if form.currency else pa.nulls(len(each))
    return contribution_columns(form, currencies, [pc.struct_field(each, ["m", item.name]) for item in form.measures])


def ids_of(lists: Any) -> Words:
    """All ids of an array of lists."""
    return np.asarray(lists.flatten().cast(pa.uint64()).to_numpy(zero_copy_only=False), np.uint64)


def _blocks(form: Form, blocks: Any) -> Blocks | None:
    rows = np.flatnonzero(valid_of(blocks))
    if not len(rows):
        return None
    some = blocks.take(pa.array(rows))
    runs = pc.struct_field(some, "runs")
    first, last = (minutes(pc.struct_field(some, name)) for name in ("first", "last"))
    windows, n, d = (numbers(pc.struct_field(some, name)) for name in ("windows", "n", "d"))
    lengths = numbers(runs.flatten())
    return Blocks(rows, (first, last, windows, n, d), _contribution_slots(form, some), numbers(pc.list_value_length(runs)), lengths)


def as_table(form: Form, records: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Records as dictionaries (``recon.model.record.full``) as a table like that of ``decode``."""
    measures = pa.struct([(item.name, _timed(arrow_type(item)) if item.is_timed else arrow_type(item)) for item in form.measures])
    currencies = [("u", pa.list_(pa.string()))] if form.currency else []
    counts = [("n", pa.int64()), ("d", pa.int64()), *currencies]
    contribution = pa.struct([("w", pa.string()), *counts, ("ids", pa.list_(pa.uint64())), ("m", measures)])
    spans = [("first", pa.string()), ("last", pa.string()), ("windows", pa.int64()), ("runs", pa.list_(pa.int64()))]
    schema = pa.schema(
        [
            ("key", pa.string()),
            ("status", pa.string()),
            ("c", pa.list_(contribution)),
            ("withdrawn", pa.list_(pa.string())),
            ("block", pa.struct([*spans, *counts, ("m", measures)])),
        ]
    )
    rows = [
        {"key": r["key"], "status": r["status"], "c": r["contributions"], "withdrawn": r["withdrawn"], "block": r.get("carried")}
        for r in records
    ]
    return pa.Table.from_pylist([typed(row, schema) for row in rows], schema)


def _timed(kind: pa.DataType) -> pa.DataType:
    return pa.struct([("t", pa.string()), ("v", kind)])


def typed(value: Any, kind: Any) -> Any:
    """A value of a record's dictionary as Python's value of an Arrow type: texts of decimals, dates and times are parsed."""
    if value is None:
        return None
    if isinstance(kind, pa.Schema) or pa.types.is_struct(kind):
        return {item.name: typed(value.get(item.name), item.type) for item in kind}
    if pa.types.is_list(kind):
        return [typed(item, kind.value_type) for item in value]
    return pa.scalar(value, pa.string()).cast(kind).as_py() if isinstance(value, str) and not pa.types.is_string(kind) else value
