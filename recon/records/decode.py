"""Decodes records: the words of docs/format.md become columns, and these an Arrow table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recon.model.form import BLOCK, IDS_ABSENT, NEAR_BITS, SUPPRESSED, TEXT, WIDE, WITHDRAWN, Form, Slot
from recon.records.columns import Blocks, Column, Rows, measures_of, names
from recon.records.ranges import Bools, Ints, Words, before, filled, halves, ranges, summed


class Decoder:
    """Decodes the records that begin at ``start`` in ``words``."""

    def __init__(self, form: Form, words: Words, start: Ints) -> None:
        self._form, self.words, self._start = form, words, start
        self.kept, self.ids = halves(words[start])
        self.key_bytes, rest = halves(words[start + 1])
        self.status, self.flags = rest & 0xFFFF, rest >> 16
        self.width = 1 + (self.flags & WIDE)
        self.suppressed = (self.flags & SUPPRESSED) >> 1
        self.stride = 2 + self.suppressed + form.far_words + form.contribution_slots * self.width
        self.listed_at = start + 2 + form.valid_words + len(form.slots) * self.width
        self.ids_at = self.listed_at + self.kept * self.stride
        self.text_at = self.ids_at + self.ids
        self.text_bytes = self._first_words(self.text_at, TEXT)
        withdrawn_at = self.text_at + np.where(self.flags & TEXT > 0, 1 + filled(self.text_bytes), 0)
        self.withdrawn = self._first_words(withdrawn_at, WITHDRAWN)
        self._gone_at = withdrawn_at + 1
        self._block_at = withdrawn_at + np.where(self.flags & WITHDRAWN > 0, 1 + ((self.withdrawn + 1) >> 1), 0)
        self._of = np.repeat(np.arange(len(start)), self.kept)
        first = self.listed_at - before(self.kept) * self.stride
        self._at = first[self._of] + np.arange(len(self._of)) * self.stride[self._of]

    def _first_words(self, at: Ints, flag: int) -> Ints:
        """The word at ``at`` of the records with a flag, 0 for others."""
        found = np.zeros(len(at), np.int64)
        some = np.flatnonzero(self.flags & flag)
        found[some] = self.words[at[some]].view(np.int64)
        return found

    def contributions(self) -> tuple[Ints, Ints, Ints, Ints]:
        """Window (minutes since 1970), n, d and number of ids of each contribution; -1 ids for no list."""
        window, n = halves(self.words[self._at])
        count, _ = halves(self.words[self._at + 1])
        d = np.zeros(len(self._at), np.int64)
        some = np.flatnonzero(self.suppressed[self._of])
        d[some] = self.words[self._at[some] + 2].view(np.int64)
        return window.astype(np.int32).astype(np.int64), n, d, np.where(count == IDS_ABSENT, -1, count)

    def events(self) -> Ints:
        """Events that count, over all contributions of each record."""
        return summed(halves(self.words[self._at])[1], self.kept)

    def contribution_slots(self) -> list[Column]:
        """The slots of each contribution."""
        _, near = halves(self.words[self._at + 1])
        at = self._at + 2 + self.suppressed[self._of]
        bits = [near, *(self.words[at + place].view(np.int64) for place in range(self._form.far_words))]
        borders = [0, *range(NEAR_BITS, NEAR_BITS + 64 * self._form.far_words, 64)]
        valid = [(bits[k] >> n) & 1 > 0 for k, n in (_bit(number, borders) for number in range(len(self._form.measures)))]
        return self._slots(at + self._form.far_words, self._of, valid)

    def header_slots(self) -> list[Column]:
        """The slots of each header."""
        form, at = self._form, self._start + 2
        bits = [self.words[at + place].view(np.int64) for place in range(form.valid_words)]
        valid = [(bits[number // 64] >> (number % 64)) & 1 > 0 for number in range(len(form.slots))]
        rows, at = np.arange(len(self._start)), at + form.valid_words
        return [self._column(item, at + number * self.width, rows, valid[number]) for number, item in enumerate(form.slots)]

    def all_ids(self) -> Words:
        """The ids of all contributions."""
        return self.words[ranges(self.ids_at, self.ids)]

    def gone(self) -> Ints:
        """The withdrawn windows of all records, minutes since 1970."""
        return self.words.view(np.int32)[ranges(2 * self._gone_at, self.withdrawn)].astype(np.int64)

    def blocks(self) -> Blocks:
        """The blocks of the records that have one."""
        rows = np.flatnonzero(self.flags & BLOCK)
        form, at = self._form, self._block_at[rows]
        first, last = (half.astype(np.int32).astype(np.int64) for half in halves(self.words[at]))
        windows, runs = halves(self.words[at + 1])
        n, d = (self.words[at + place].view(np.int64) for place in (2, 3))
        bits = [self.words[at + 4 + place].view(np.int64) for place in range(form.block_valid_words)]
        valid = [(bits[number // 64] >> (number % 64)) & 1 > 0 for number in range(len(form.measures))]
        at = at + 4 + form.block_valid_words
        slots = self._slots(at, rows, valid)
        lengths = self.words[ranges(at + form.contribution_slots * self.width[rows], runs)].view(np.int64)
        return Blocks(rows, (first, last, windows, n, d), slots, runs, lengths)

    def key_at(self) -> Ints:
        """Where each key begins."""
        at = self._block_at.copy()
        rows = np.flatnonzero(self.flags & BLOCK)
        runs = halves(self.words[at[rows] + 1])[1]
        at[rows] += 4 + self._form.block_valid_words + self._form.contribution_slots * self.width[rows] + runs
        return at

    def keys(self) -> pa.StringArray:
        """The keys."""
        return self._texts(8 * self.key_at(), self.key_bytes).cast(pa.string())

    def rows(self) -> Rows:
        """All columns."""
        window, n, d, counts = self.contributions()
        return Rows(
            key=self.keys().cast(pa.large_binary()),
            status=self.status,
            slots=self.header_slots(),
            kept=self.kept,
            window=window,
            n=n,
            d=d,
            c_slots=self.contribution_slots(),
            c_ids=counts,
            ids=self.all_ids(),
            withdrawn=self.withdrawn,
            gone=self.gone(),
            blocks=self.blocks(),
        )

    def _slots(self, at: Ints, of: Ints, valid: Sequence[Bools]) -> list[Column]:
        """The slots of contributions or blocks that begin at ``at``; ``of``: their records. ``valid``: of each measure."""
        width, found = self.width[of], []
        if self._form.currency:
            found.append(self._column(Slot("", "text"), at, of, np.ones(len(at), bool)))
        for item, bits in zip(self._form.measures, valid, strict=True):
            if item.is_timed:
                found.append(self._column(Slot("", "timestamp"), at + len(found) * width, of, bits))
            found.append(self._column(item, at + len(found) * width, of, bits))
        return found

    def _column(self, item: Slot, at: Ints, of: Ints, valid: Bools) -> Column:
        low = self.words[at].view(np.int64)
        if item.type == "text":
            offset, size = halves(self.words[at])
            return Column(np.zeros(len(at), np.int64), None, valid, self._texts(8 * (self.text_at[of] + 1) + offset, size))
        if item.scale is None:
            return Column(low, None, valid)
        high, some = low >> 63, np.flatnonzero(self.width[of] > 1)
        high[some] = self.words[at[some] + 1].view(np.int64)
        return Column(low, high, valid)

    def _texts(self, at: Ints, size: Ints) -> pa.LargeStringArray:
        """Texts of ``size`` bytes at ``at``, in bytes."""
        content = self.words.view(np.uint8)[ranges(at, size)]
        bounds = np.zeros(len(size) + 1, np.int64)
        np.cumsum(size, out=bounds[1:])
        return pa.Array.from_buffers(pa.large_string(), len(size), [None, pa.py_buffer(bounds), pa.py_buffer(content)])


def _bit(number: int, borders: Sequence[int]) -> tuple[int, int]:
    """The word and the bit of a measure's validity in a contribution."""
    word = 0 if number < NEAR_BITS else 1 + (number - NEAR_BITS) // 64
    return word, number - borders[word]


def decode(form: Form, words: Words, start: Ints) -> pa.Table:
    """Records as a table: key, status, ``c`` (a list of w, n, d, u if events have a currency, ids, m), withdrawn, and block, null where
    there is none. Windows are names. Measures and derived values of the header are left out: they follow from the contributions."""
    decoder = Decoder(form, words, start)
    columns = {
        "key": decoder.keys(),
        "status": statuses_of(form, decoder),
        "c": _listed(form, decoder),
        "withdrawn": _lists(decoder.withdrawn, names(decoder.gone())),
        "block": _block_structs(form, decoder),
    }
    return pa.table(columns)


def statuses_of(form: Form, decoder: Decoder) -> pa.Array:
    if form.statuses is None:
        column = decoder.header_slots()[0]
        return pc.if_else(pa.array(column.valid), column.text, None).cast(pa.string())
    known = pa.array([None, *form.statuses], pa.string())
    return known.take(pa.array(decoder.status))


def _listed(form: Form, decoder: Decoder) -> pa.Array:
    window, n, d, counts = decoder.contributions()
    currencies, measures = measures_of(form, decoder.contribution_slots())
    ids = _lists(np.maximum(counts, 0), pa.array(decoder.all_ids()), counts < 0)
    members = {"w": names(window), "n": pa.array(n), "d": pa.array(d), "u": currencies, "ids": ids, "m": measures}
    members = {name: array for name, array in members.items() if array is not None}
    return _lists(decoder.kept, pa.StructArray.from_arrays(list(members.values()), list(members)))


def _lists(counts: Ints, values: pa.Array, absent: Bools | None = None) -> pa.Array:
    """Lists of ``counts`` values each."""
    bounds = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=bounds[1:])
    mask = None if absent is None or not absent.any() else pa.array(absent)
    return pa.LargeListArray.from_arrays(pa.array(bounds), values, mask=mask)


def _block_structs(form: Form, decoder: Decoder) -> pa.Array:
    blocks = decoder.blocks()
    first, last, windows, n, d = blocks.spans
    currencies, measures = measures_of(form, blocks.slots)
    runs = _lists(blocks.runs, pa.array(blocks.lengths))
    members = {"first": names(first), "last": names(last), "windows": pa.array(windows), "runs": runs, "n": pa.array(n), "d": pa.array(d)}
    members |= {"u": currencies, "m": measures}
    members = {name: array for name, array in members.items() if array is not None}
    place = np.full(len(decoder.kept), -1)
    place[blocks.rows] = np.arange(len(blocks.rows))
    found = pa.StructArray.from_arrays(list(members.values()), list(members))
    return found.take(pa.array(place, mask=place < 0))
