"""Verification's decoder of records: the words of many records as Arrow tables, and every byte that is not as docs/format.md says.

It shares nothing with ``recon.records`` and ``recon.model.record``, by which the other commands write and read records, so that one
mistake cannot be on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from recon.model.form import BLOCK, IDS_ABSENT, NEAR_BITS, NO_IDS, SUPPRESSED, TEXT, WIDE, WITHDRAWN, WORD, Form
from recon.verification.slots import FIRST_MINUTE, Bools, Faults, Ints, Place, Slots, Words, ranges, table_of

if TYPE_CHECKING:
    import duckdb

_TABLES = ("artifacts", "contributions", "blocks")
_SHORTEST = 3 * WORD
_FLAGS = WIDE | SUPPRESSED | TEXT | WITHDRAWN | BLOCK | NO_IDS
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_FAR = np.uint64(1 << 40)
"""More than the bytes of any record: larger counts are taken for this one, so that sums of counts do not overflow."""


@dataclass(frozen=True)
class Decoded:
    """Decoded records. ``row`` is a record's number in the batch; columns of measures are ``m_<name>``, of derived values ``x_<name>``.

    ``artifacts``: row, key, status, windows (number of contributions), withdrawn. ``contributions``: row, w, n, d, u if events have a
    currency, ids. ``blocks``: row, first, last, windows, runs, n, d, u. ``broken``: row → why a record can't be decoded; it is in no
    table. ``odd``: row → why its bytes are others than those of an equal artifact."""

    artifacts: pa.Table
    contributions: pa.Table
    blocks: pa.Table
    broken: dict[int, str]
    odd: dict[int, str]

    def only(self, keep: Bools) -> Decoded:
        """The records for whose rows ``keep`` is true."""
        return self._changed(lambda table, row: table.filter(pa.array(keep[row])))

    def numbered(self, rows: Ints) -> Decoded:
        """The same with ``rows[row]`` for each row."""
        broken, odd = ({int(rows[row]): reason for row, reason in found.items()} for found in (self.broken, self.odd))
        return replace(self._changed(lambda table, row: table.set_column(0, "row", pa.array(rows[row]))), broken=broken, odd=odd)

    def _changed(self, change: Callable[[pa.Table, Ints], pa.Table]) -> Decoded:
        tables = {name: getattr(self, name) for name in _TABLES}
        return replace(self, **{name: change(table, table.column("row").to_numpy()) for name, table in tables.items()})

    @contextmanager
    def registered(self, connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
        """Makes the tables the views ``artifacts``, ``contributions`` and ``blocks``, with the records' keys in each."""
        keys, rows = self.artifacts.column("key"), self.artifacts.column("row").to_numpy()
        connection.register("artifacts", self.artifacts)
        for name, table in (("contributions", self.contributions), ("blocks", self.blocks)):
            place = np.searchsorted(rows, table.column("row").to_numpy())
            connection.register(name, table.append_column("key", keys.take(pa.array(place))))
        try:
            yield
        finally:
            for name in _TABLES:
                connection.unregister(name)


def decode(form: Form, records: pa.Array) -> Decoded:
    """Decodes an array of binary values, each a record of this form."""
    faults = Faults(np.zeros(len(records), bool))
    array = records.cast(pa.large_binary())
    size = np.diff(_bounds(array))
    whole = (size >= _SHORTEST) & (size % WORD == 0)
    if not whole.all():
        faults.add(np.flatnonzero(~whole), f"its bytes are less than {_SHORTEST}, or no multiple of {WORD}", broken=True)
        array = array.filter(pa.array(whole))
    bounds = _bounds(array)
    content = np.frombuffer(array.buffers()[2] or b"", np.uint8)[bounds[0] : bounds[-1]]
    # Words must be at places that are multiples of 8 in memory.
    words = (content if content.ctypes.data % WORD == 0 else content.copy()).view(np.uint64)
    found = _Batch(form, words, np.flatnonzero(whole), np.diff(bounds) // WORD, faults).decoded()
    return found.only(~faults.broken)


def _bounds(array: pa.LargeBinaryArray) -> Ints:
    """Where each value begins in the array's bytes, and where the last one ends."""
    if not len(array):
        return np.zeros(1, np.int64)
    return np.frombuffer(array.buffers()[1], np.int64)[array.offset : array.offset + len(array) + 1]


@dataclass
class _Shape:
    """Where the parts of each record begin (words), and how long they are. ``row``: the record's number in the batch."""

    row: Ints
    base: Ints
    contributions: Ints
    ids: Ints
    key_bytes: Ints
    status: Ints
    flags: Ints
    width: Ints
    stride: Ints
    parts_at: Ints
    ids_at: Ints
    text_at: Ints
    text_bytes: Ints
    gone_at: Ints
    gone: Ints
    block_at: Ints
    runs: Ints
    key_at: Ints

    def only(self, keep: Bools) -> _Shape:
        return _Shape(*(getattr(self, item.name)[keep] for item in fields(self)))

    def has(self, flag: int) -> Bools:
        return (self.flags & flag) > 0


@dataclass
class _Heads:
    """The first words of contributions. ``of``: the record of each. ``at``: its first word. ``listed``: number of ids, -1 for no list."""

    of: Ints
    at: Ints
    window: Ints
    n: Ints
    d: Words
    listed: Ints
    near: Ints


class _Batch:
    def __init__(self, form: Form, words: Words, row: Ints, size: Ints, faults: Faults) -> None:
        self._form, self._words, self._faults = form, words, faults
        shape, fits = self._shape(row, np.cumsum(size) - size, size)
        faults.add(row[~fits], "its parts have other lengths than its header says", broken=True)
        shape = shape.only(fits)
        heads = self._heads(shape)
        fits = _sums(heads.listed.clip(0), heads.of, len(shape.row)) == shape.ids
        faults.add(shape.row[~fits], "its contributions have other ids than its header says", broken=True)
        self._shape_of, self._heads_of = (shape, heads) if fits.all() else (shape.only(fits), self._heads(shape.only(fits)))
        shape = self._shape_of
        self._slots = Slots(words, faults, shape.row, shape.width > 1, (shape.text_at, shape.text_bytes))

    def decoded(self) -> Decoded:
        artifacts, contributions, blocks = self._artifacts(), self._contributions(), self._blocks()
        self._slots.check_texts()
        self._check_flags()
        reasons, broken = self._faults.reasons, self._faults.broken
        return Decoded(
            artifacts,
            contributions,
            blocks,
            {row: reason for row, reason in reasons.items() if broken[row]},
            {row: reason for row, reason in reasons.items() if not broken[row]},
        )

    def _shape(self, row: Ints, base: Ints, size: Ints) -> tuple[_Shape, Bools]:
        """The shape of each record, and whether its parts end where the record does. Lengths only add up, so then each part is in it."""
        form, words, end = self._form, self._words, base + size

        def word(at: Ints, present: Bools) -> Words:
            inside = present & (at < end)
            return np.where(inside, words[np.where(inside, at, 0)], np.uint64(0)) if len(at) else np.zeros(0, np.uint64)

        contributions, ids = _halves(words[base])
        key_bytes, rest = _halves(words[base + 1])
        status, flags = rest & 0xFFFF, rest >> 16
        width = 1 + (flags & WIDE)
        slots = width * form.contribution_slots
        stride = 2 + ((flags & SUPPRESSED) > 0) + form.far_words + slots
        parts_at = base + 2 + form.valid_words + width * len(form.slots)
        ids_at = parts_at + contributions * stride
        at, has = ids_at + ids, (flags & TEXT) > 0
        text_at, text_bytes = at + 1, np.minimum(word(at, has), _FAR).astype(np.int64)
        at, has = at + has + (text_bytes + 7) // 8, (flags & WITHDRAWN) > 0
        gone_at, gone = at + 1, np.minimum(word(at, has), _FAR).astype(np.int64)
        at, has = at + has + (gone + 1) // 2, (flags & BLOCK) > 0
        block_at, runs = at, _halves(word(at + 1, has))[1]
        key_at = at + has * (4 + form.block_valid_words + slots + runs)
        parts = (contributions, ids, key_bytes, status, flags, width, stride, parts_at, ids_at, text_at, text_bytes, gone_at, gone)
        return _Shape(row, base, *parts, block_at, runs, key_at), key_at + (key_bytes + 7) // 8 == end

    def _heads(self, shape: _Shape) -> _Heads:
        of = np.repeat(np.arange(len(shape.row)), shape.contributions)
        at = np.repeat(shape.parts_at, shape.contributions) + shape.stride[of] * ranges(
            np.zeros(len(shape.row), np.int64), shape.contributions
        )
        window, n = _halves(self._words[at])
        listed, near = _halves(self._words[at + 1])
        suppressed = shape.has(SUPPRESSED)[of]
        d = np.zeros(len(of), np.uint64)
        d[suppressed] = self._words[at[suppressed] + 2]
        return _Heads(of, at, _signed(window), n, d, np.where(listed == IDS_ABSENT, -1, listed), near)

    def _artifacts(self) -> pa.Table:
        form, shape, slots = self._form, self._shape_of, self._slots
        every, count = np.arange(len(shape.row)), len(form.slots)
        valid, rest = self._validity(shape.base + 2, count, form.valid_words)
        self._odd(every[rest], "a bit of validity without a slot is set")
        place = Place(every, shape.base + 2 + form.valid_words)
        values = [slots.read(item, place, valid(number)) for number, item in enumerate(form.slots)]
        own = values if form.statuses is not None else values[1:]
        names = [f"m_{item.name}" for item in form.measures] + [f"x_{item.name}" for item in form.derived]
        self._pads(shape.key_at, shape.key_bytes)
        empty = (shape.contributions == 0) & ~shape.has(BLOCK)
        some = np.logical_or.reduce([valid(number) for number in range(count)] or [np.zeros(len(every), bool)])
        self._odd(every[empty & (some | (shape.status > 0))], "it has no contributions and a value")
        return table_of(
            [
                ("row", shape.row),
                ("key", slots.text_of(8 * shape.key_at, shape.key_bytes, every, np.ones(len(every), bool))),
                ("status", self._status() if form.statuses is not None else values[0]),
                ("windows", shape.contributions),
                ("withdrawn", self._withdrawn()),
                *zip(names, own, strict=True),
            ]
        )

    def _status(self) -> pa.Array:
        shape, names = self._shape_of, self._form.statuses or ()
        wrong = shape.status > len(names)
        self._faults.add(shape.row[wrong], "its status has a code of none", broken=True)
        codes = np.where(wrong, 0, shape.status)
        return pa.array([*names, ""], pa.string()).take(pa.array(codes - 1, mask=codes == 0))

    def _withdrawn(self) -> pa.Array:
        shape = self._shape_of
        of = np.repeat(np.arange(len(shape.row)), shape.gone)
        windows = self._words.view(np.int32)[ranges(2 * shape.gone_at, shape.gone)].astype(np.int64)
        self._ascending(windows, of, of, "its withdrawn windows are not in order")
        self._pads(shape.gone_at, 4 * shape.gone)
        return pa.LargeListArray.from_arrays(np.concatenate([[0], np.cumsum(shape.gone)]), self._names(windows, of))

    def _contributions(self) -> pa.Table:
        form, shape, heads = self._form, self._shape_of, self._heads_of
        count, far_at = len(form.measures), heads.at + 2 + shape.has(SUPPRESSED)[heads.of]
        far, rest = self._validity(far_at, max(0, count - NEAR_BITS), form.far_words)
        self._odd(heads.of[rest | (heads.near >> min(count, NEAR_BITS) > 0)], "a bit of validity without a slot is set")
        self._ascending(heads.window, heads.of, heads.of, "its windows are not in order")

        def valid(number: int) -> Bools:
            return (heads.near >> number & 1) > 0 if number < NEAR_BITS else far(number - NEAR_BITS)

        columns = [("w", self._names(heads.window, heads.of)), ("n", heads.n), ("d", heads.d), ("ids", self._ids())]
        return table_of([("row", shape.row[heads.of]), *columns, *self._measured(Place(heads.of, far_at + form.far_words), valid)])

    def _ids(self) -> pa.Array:
        shape, heads = self._shape_of, self._heads_of
        listed = heads.listed.clip(0)
        ids = self._words[ranges(shape.ids_at, shape.ids)]
        each = np.repeat(np.arange(len(listed)), listed)
        self._ascending(ids, each, heads.of[each], "the ids of a contribution are not in order", equal=True)
        bounds = pa.array(np.concatenate([[0], np.cumsum(listed)]))
        return pa.LargeListArray.from_arrays(bounds, pa.array(ids), mask=pa.array(heads.listed < 0))

    def _blocks(self) -> pa.Table:
        form, shape = self._form, self._shape_of
        of = np.flatnonzero(shape.has(BLOCK))
        at, runs = shape.block_at[of], shape.runs[of]
        first, last = _halves(self._words[at])
        windows, _ = _halves(self._words[at + 1])
        valid, rest = self._validity(at + 4, len(form.measures), form.block_valid_words)
        self._odd(of[rest], "a bit of validity without a slot is set")
        place = Place(of, at + 4 + form.block_valid_words)
        measured = self._measured(place, valid)
        lengths = pa.array(self._words[ranges(place.at, runs)])
        columns = [
            ("row", shape.row[of]),
            ("first", self._names(_signed(first), of)),
            ("last", self._names(_signed(last), of)),
            ("windows", windows),
            ("runs", pa.LargeListArray.from_arrays(np.concatenate([[0], np.cumsum(runs)]), lengths)),
            ("n", self._words[at + 2]),
            ("d", self._words[at + 3]),
        ]
        return table_of([*columns, *measured])

    def _measured(self, place: Place, valid: Callable[[int], Bools]) -> list[tuple[str, Any]]:
        currencies = [("u", self._slots.read_currencies(place))] if self._form.currency else []
        measures = enumerate(self._form.measures)
        return currencies + [(f"m_{item.name}", self._slots.read_measure(item, place, valid(number))) for number, item in measures]

    def _validity(self, at: Ints, count: int, words: int) -> tuple[Callable[[int], Bools], Bools]:
        """A function of a slot's number that gives its bits of validity, and whether bits beyond ``count`` are set."""
        found = [self._words[at + place] for place in range(words)]
        rest = np.zeros(len(at), bool)
        for place, word in enumerate(found):
            used = min(max(count - 64 * place, 0), 64)
            rest |= word >> np.uint64(used) > 0 if used < 64 else False
        return lambda number: (found[number // 64] >> np.uint64(number % 64) & np.uint64(1)) > 0, rest

    def _names(self, windows: Ints, of: Ints) -> pa.Array:
        """The names of windows, minutes since 1970."""
        early = windows < FIRST_MINUTE
        self._faults.add(self._shape_of.row[of[early]], "a window is before the year 1", broken=True)
        known, place = np.unique(np.where(early, 0, windows), return_inverse=True)
        texts = [f"{text}Z" for text in np.datetime_as_string(known.astype("datetime64[m]")).tolist()] if len(known) else []
        return pa.array(texts, pa.string()).take(pa.array(place.astype(np.int64)))

    def _check_flags(self) -> None:
        shape, heads = self._shape_of, self._heads_of
        count = len(shape.row)
        needed = {
            WIDE: self._slots.needs_two,
            SUPPRESSED: _sums(heads.d > 0, heads.of, count) > 0,
            TEXT: shape.text_bytes > 0,
            WITHDRAWN: shape.gone > 0,
            NO_IDS: _sums(heads.listed < 0, heads.of, count) > 0,
        }
        wrong = (shape.flags & ~_FLAGS) > 0
        for flag, reason in needed.items():
            wrong |= shape.has(flag) != reason
        if self._form.statuses is None:
            self._odd(np.flatnonzero(shape.status > 0), "it has a code of a status, which is a text in its form")
        self._odd(np.flatnonzero(wrong), "it has a flag without need")
        self._pads(shape.text_at, shape.text_bytes)

    def _pads(self, at: Ints, size: Ints) -> None:
        """Checks that the bytes behind ``size`` bytes, up to the next word, are 0."""
        partial = np.flatnonzero(size % WORD)
        last = self._words[at[partial] + size[partial] // WORD]
        wrong = last >> (size[partial] % WORD * 8).astype(np.uint64) > 0
        self._odd(partial[wrong], "a part is not filled up with zeros")

    def _ascending(self, values: Any, group: Ints, of: Ints, reason: str, equal: bool = False) -> None:
        """Checks that neighbours of a group ascend. ``of``: the record of each value."""
        falls = values[1:] < values[:-1] if equal else values[1:] <= values[:-1]
        self._odd(of[1:][falls & (group[1:] == group[:-1])], reason)

    def _odd(self, of: Ints, reason: str) -> None:
        self._faults.add(self._shape_of.row[of], reason)


def _halves(words: Words) -> tuple[Ints, Ints]:
    """The lower and the upper 32 bits of each word, unsigned."""
    return (words & _LOW).astype(np.int64), (words >> _HALF).astype(np.int64)


def _signed(halves: Ints) -> Ints:
    return halves.astype(np.uint32).view(np.int32).astype(np.int64)


def _sums(values: Any, of: Ints, count: int) -> Ints:
    """Exact sums of the values of each of ``count`` records."""
    sums = np.zeros(count, np.int64)
    np.add.at(sums, of, values)
    return sums
