"""Records as columns of numbers and texts, and Arrow arrays of values as such columns and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recon.model.form import Form, Slot
from recon.records.ranges import Bools, Ints, Words

TIME = "%Y-%m-%dT%H:%M:%SZ"
"""How Arrow writes an instant; it adds the microseconds."""
_INSTANT = pa.timestamp("us", "UTC")


@dataclass
class Column:
    """A slot of many rows. ``high``: the upper word of decimals, None where it is the sign of ``low``. ``valid``: whether there is a value.
    ``text``: of a slot of texts, without nulls; then ``low`` is 0."""

    low: Ints
    high: Ints | None
    valid: Bools
    text: pa.LargeStringArray | None = None

    @property
    def is_wide(self) -> Bools | None:
        """Whether a value needs more than 64 bits; None where none can."""
        return None if self.high is None else (self.low >> 63) != self.high

    def take(self, rows: Ints) -> Column:
        """The values of some rows."""
        high = None if self.high is None else self.high[rows]
        return Column(self.low[rows], high, self.valid[rows], None if self.text is None else self.text.take(pa.array(rows)))


@dataclass
class Rows:
    """Records as columns. ``kept``: contributions of each record; ``window`` (minutes since 1970), ``n``, ``d``, ``c_slots`` and ``c_ids``
    are of contributions, in order of records and windows. ``c_ids``: number of ids, -1 for no list of ids; ``ids``: all of them.
    ``withdrawn``: number of withdrawn windows of each record; ``gone``: all of them."""

    key: pa.LargeBinaryArray
    status: Ints
    slots: list[Column]
    kept: Ints
    window: Ints
    n: Ints
    d: Ints
    c_slots: list[Column]
    c_ids: Ints
    ids: Words
    withdrawn: Ints
    gone: Ints
    blocks: Blocks | None = None


@dataclass
class Blocks:
    """The blocks of some records. ``rows``: their records, ascending. ``spans``: first window, last window, windows, n and d of each.
    ``runs``: number of runs of each; ``lengths`` are the runs."""

    rows: Ints
    spans: tuple[Ints, Ints, Ints, Ints, Ints]
    slots: list[Column]
    runs: Ints
    lengths: Ints


def concatenated(columns: Sequence[Column]) -> Column:
    """The values of one slot, of one part after another."""
    highs = [column.low >> 63 if column.high is None else column.high for column in columns]
    high = None if all(column.high is None for column in columns) else np.concatenate(highs)
    texts = [column.text for column in columns if column.text is not None]
    low, valid = (np.concatenate([getattr(column, name) for column in columns]) for name in ("low", "valid"))
    return Column(low, high, valid, pa.concat_arrays(texts) if texts else None)


def flat(column: Any) -> Any:
    """A chunked column as one array."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def valid_of(array: Any) -> Bools:
    """Whether each value of an array is not null."""
    if not array.null_count:
        return np.ones(len(array), bool)
    return np.asarray(pc.is_valid(array).to_numpy(zero_copy_only=False))


def numbers(array: Any) -> Ints:
    """An array of numbers, booleans, dates or instants as integers, 0 for null."""
    kind = array.type
    if pa.types.is_date(kind):
        array = array.cast(pa.date32()).cast(pa.int32())
    elif pa.types.is_timestamp(kind):
        array = array.cast(pa.timestamp("us", kind.tz)).cast(pa.int64())
    elif pa.types.is_decimal(kind):
        array = array.cast(pa.decimal128(38, 0)).cast(pa.int64())
    array = array.cast(pa.int64())
    return np.asarray(array.fill_null(0).to_numpy(zero_copy_only=False), np.int64)


def column_of(item: Slot, array: Any) -> Column:
    """An Arrow array of values as the column of a slot."""
    valid = valid_of(array)
    if item.type == "text":
        text = array.cast(pa.large_string()).fill_null("")
        return Column(np.zeros(len(array), np.int64), None, valid, text)
    if item.scale is None:
        return Column(numbers(array), None, valid)
    array = array.cast(pa.decimal128(38, item.scale))
    pairs = np.frombuffer(array.buffers()[1], np.int64)[2 * array.offset : 2 * (array.offset + len(array))].reshape(-1, 2)
    low, high = pairs[:, 0].copy(), pairs[:, 1].copy()
    if array.null_count:
        low[~valid], high[~valid] = 0, 0
    return Column(low, high, valid)


def contribution_columns(form: Form, currencies: Any, measures: Sequence[Any]) -> list[Column]:
    """The slots of contributions from arrays: sets of currencies (lists of texts, unused where events have none), and each measure."""
    found, count = [], len(currencies)
    if form.currency:
        found.append(Column(np.zeros(count, np.int64), None, np.ones(count, bool), _set_texts(currencies)))
    for item, array in zip(form.measures, measures, strict=True):
        value = array
        if item.is_timed:
            time, value = (pc.struct_field(array, name) for name in ("t", "v"))
            found.append(Column(numbers(time.cast(_INSTANT)), None, valid_of(array)))
        found.append(column_of(item, value))
    return found


def _set_texts(sets: Any) -> pa.LargeStringArray:
    """Sets of texts as the texts of JSON arrays. There are few different ones, so each of them is written once."""
    joined = _joined_sets(sets)
    encoded = pc.dictionary_encode(joined)
    first = np.unique(encoded.indices.to_numpy(), return_index=True)[1]
    texts = [json.dumps(one, ensure_ascii=False, separators=(",", ":")) for one in sets.take(pa.array(first)).to_pylist()]
    return pa.array(texts, pa.large_string()).take(encoded.indices)


def _joined_sets(sets: Any) -> Any:
    """A different text for each different set: every member is followed by a line feed, and line feeds of members are escaped."""
    members = sets.flatten()
    for text, safe in (("\\", "\\\\"), ("\n", "\\n")):
        members = pc.replace_substring(members, text, safe)
    lengths = pc.list_value_length(sets)
    ended = pc.binary_join_element_wise(members, pa.scalar("", members.type), "\n")
    offsets = np.concatenate([[0], np.cumsum(numbers(lengths))])
    rebuilt = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), ended.cast(pa.string()))
    return pc.binary_join(rebuilt, "")


def sets_of(texts: pa.LargeStringArray) -> pa.Array:
    """The inverse of ``_set_texts``: lists of texts."""
    encoded = pc.dictionary_encode(texts)
    return pa.array([json.loads(text) for text in encoded.dictionary.to_pylist()], pa.list_(pa.string())).take(encoded.indices)


def minutes(names: Any) -> Ints:
    """Windows by name as minutes since 1970."""
    encoded = pc.dictionary_encode(names)
    known = np.array([name.removesuffix("Z") for name in encoded.dictionary.to_pylist()], "datetime64[m]").astype(np.int64)
    return known[encoded.indices.to_numpy()] if len(names) else np.zeros(0, np.int64)


def names(windows: Ints) -> pa.StringArray:
    """The inverse of ``minutes``."""
    known, place = np.unique(windows, return_inverse=True)
    texts = [f"{text}Z" for text in np.datetime_as_string(known.astype("datetime64[m]"), unit="m").tolist()] if len(known) else []
    return pa.array(texts, pa.string()).take(pa.array(place))


def arrow_type(item: Slot) -> pa.DataType:
    """The Arrow type of a slot's values."""
    if item.scale is not None:
        precision = int(item.type.removeprefix("decimal(").partition(",")[0])
        return pa.decimal128(precision, item.scale)
    kinds = {"integer": pa.int64(), "text": pa.string(), "boolean": pa.bool_(), "date": pa.date32(), "timestamp": _INSTANT}
    return kinds[item.type]


def array_of(item: Slot, column: Column) -> pa.Array:
    """The inverse of ``column_of``."""
    if column.text is not None:
        return pc.if_else(pa.array(column.valid), column.text, None).cast(pa.string())
    kind, mask = arrow_type(item), None if column.valid.all() else ~column.valid
    if item.scale is None:
        whole = pa.array(column.low, pa.int64(), mask=mask)
        return whole.cast(pa.int32()).cast(kind) if pa.types.is_date(kind) else whole.cast(kind)
    pairs = np.empty((len(column.low), 2), np.int64)
    pairs[:, 0], pairs[:, 1] = column.low, column.low >> 63 if column.high is None else column.high
    valid = None if mask is None else pa.py_buffer(np.packbits(column.valid, bitorder="little"))
    return pa.Array.from_buffers(kind, len(pairs), [valid, pa.py_buffer(pairs)])


def measures_of(form: Form, slots: Sequence[Column]) -> tuple[pa.Array | None, pa.StructArray]:
    """The sets of currencies, if contributions have one, and the struct of measures, from the slots of contributions."""
    left = iter(slots)
    currencies = None
    if form.currency:
        text = next(left).text
        assert text is not None
        currencies = sets_of(text)
    arrays = []
    for item in form.measures:
        time = next(left) if item.is_timed else None
        column = next(left)
        array = array_of(item, column)
        if time is not None:
            written = pc.strftime(pa.array(time.low, pa.int64()).cast(_INSTANT), TIME)
            array = pa.StructArray.from_arrays([written, array], ["t", "v"], mask=pa.array(~column.valid))
        arrays.append(array)
    return currencies, pa.StructArray.from_arrays(arrays, [item.name for item in form.measures])


def binary_of(words: Words, start: Ints, length: Ints) -> pa.LargeBinaryArray:
    """The records that lie one behind another in ``words``, from ``start[0]`` on, as binary values, without copying."""
    bounds = np.zeros(len(start) + 1, np.int64)
    np.cumsum(length * 8, out=bounds[1:])
    base = int(start[0]) if len(start) else 0
    return pa.Array.from_buffers(pa.large_binary(), len(start), [None, pa.py_buffer(bounds), pa.py_buffer(words[base:])])


def words_of(records: Any) -> tuple[Words, Ints, Ints]:
    """Binary values as words: all of them one behind another, where each begins, and its number of words."""
    array = flat(records)
    array = array if pa.types.is_large_binary(array.type) else array.cast(pa.large_binary())
    _, offsets, content = array.buffers()
    bounds = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1] if len(array) else np.zeros(1, np.int64)
    if content is None or not len(array):
        return np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.int64)
    raw: npt.NDArray[np.uint8] = np.frombuffer(content, np.uint8)[int(bounds[0]) : int(bounds[-1])]
    if raw.ctypes.data % 8 or not raw.flags.c_contiguous:
        raw = raw.copy()
    starts = (bounds - bounds[0]) >> 3
    return raw.view(np.uint64), starts[:-1], np.diff(starts)
