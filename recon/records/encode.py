"""Encodes records: columns become the words of docs/format.md, every part by arithmetic on whole arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from recon.errors import WrongInput
from recon.model.form import BLOCK, IDS_ABSENT, NEAR_BITS, NO_IDS, SUPPRESSED, TEXT, WIDE, WITHDRAWN, Form
from recon.records.columns import Blocks, Column, Rows
from recon.records.ranges import Bools, Ints, Words, before, filled, paired, ranges, summed

_NUMBER_MAX = (1 << 32) - 1


@dataclass
class Layout:
    """Where the parts of each record lie, in words from its start: ``listed`` (contributions), ``ids``, ``text``, ``withdrawn``, ``block``
    and ``key``. ``width``: words of a slot. ``stride``: words of a contribution."""

    width: Ints
    suppressed: Ints
    stride: Ints
    listed: Ints
    ids: Ints
    text: Ints
    withdrawn: Ints
    block: Ints
    key: Ints
    length: Ints


class Encoder:
    """Encodes ``rows``. ``length``: words of each record; ``write`` puts the records where the caller wants them."""

    def __init__(self, form: Form, rows: Rows) -> None:
        self._form, self._rows = form, rows
        self._of = np.repeat(np.arange(len(rows.kept)), rows.kept)
        self._id_count = np.maximum(rows.c_ids, 0)
        self._ids = summed(self._id_count, rows.kept)
        self._texts = _Texts(rows)
        self._key_bytes = _lengths(rows.key)
        self._layout = self._laid_out()

    @property
    def length(self) -> Ints:
        return self._layout.length

    def _laid_out(self) -> Layout:
        form, rows = self._form, self._rows
        width = 1 + self._wide().astype(np.int64)
        suppressed = (summed(rows.d > 0, rows.kept) > 0).astype(np.int64)
        stride = 2 + suppressed + form.far_words + form.contribution_slots * width
        listed = 2 + form.valid_words + len(form.slots) * width
        ids = listed + rows.kept * stride
        text = ids + self._ids
        withdrawn = text + np.where(self._texts.bytes > 0, 1 + filled(self._texts.bytes), 0)
        block = withdrawn + np.where(rows.withdrawn > 0, 1 + ((rows.withdrawn + 1) >> 1), 0)
        key = block.copy()
        if rows.blocks is not None:
            at = rows.blocks.rows
            key[at] += 4 + form.block_valid_words + form.contribution_slots * width[at] + rows.blocks.runs
        return Layout(width, suppressed, stride, listed, ids, text, withdrawn, block, key, key + filled(self._key_bytes))

    def _wide(self) -> Bools:
        rows = self._rows
        wide = np.zeros(len(rows.kept), bool)
        for column in rows.slots:
            if (found := column.is_wide) is not None:
                wide |= found
        for column in rows.c_slots:
            if (found := column.is_wide) is not None and found.any():
                wide |= summed(found, rows.kept) > 0
        for column in rows.blocks.slots if rows.blocks is not None else ():
            if rows.blocks is not None and (found := column.is_wide) is not None:
                wide[rows.blocks.rows[found]] = True
        return wide

    def write(self, out: Words, start: Ints) -> None:
        """Writes each record at its ``start`` in ``out``, which is zero there. Raises WrongInput where a number of events needs more than
        32 bits."""
        rows, at = self._rows, self._layout
        if len(rows.n) and int(rows.n.max()) > _NUMBER_MAX:
            raise WrongInput("a key has more than 4,294,967,295 events in one window; choose shorter windows, or a finer key")
        without = summed(rows.c_ids < 0, rows.kept) > 0
        flags = WIDE * (at.width - 1) | SUPPRESSED * at.suppressed | TEXT * (self._texts.bytes > 0) | WITHDRAWN * (rows.withdrawn > 0)
        flags |= NO_IDS * without
        if rows.blocks is not None:
            flags[rows.blocks.rows] |= BLOCK
        out[start] = paired(rows.kept, self._ids)
        out[start + 1] = paired(self._key_bytes, rows.status | flags << 16)
        put_bits(out, start + 2, rows.slots, 0, len(rows.slots))
        put_slots(out, start + 2 + self._form.valid_words, at.width, rows.slots, self._texts.header)
        self._write_contributions(out, start)
        out[ranges(start + at.ids, self._ids)] = rows.ids
        self._texts.write(out, start + at.text)
        gone = np.flatnonzero(rows.withdrawn)
        out[(start + at.withdrawn)[gone]] = rows.withdrawn[gone].view(np.uint64)
        out.view(np.int32)[ranges(2 * (start + at.withdrawn + 1), rows.withdrawn)] = rows.gone
        if rows.blocks is not None:
            self._write_blocks(out, (start + at.block)[rows.blocks.rows], rows.blocks)
        out.view(np.uint8)[ranges(8 * (start + at.key), self._key_bytes)] = _content(rows.key)

    def _write_contributions(self, out: Words, start: Ints) -> None:
        rows, layout, of, form = self._rows, self._layout, self._of, self._form
        if not len(of):
            return
        first = start + layout.listed - before(rows.kept) * layout.stride
        at = first[of] + np.arange(len(of)) * layout.stride[of]
        out[at] = paired(rows.window, rows.n)
        values = measured(form, rows.c_slots)
        out[at + 1] = paired(np.where(rows.c_ids < 0, IDS_ABSENT, rows.c_ids), bits_of(values[:NEAR_BITS]))
        some = np.flatnonzero(layout.suppressed[of])
        out[at[some] + 2] = rows.d[some].view(np.uint64)
        at = at + 2 + layout.suppressed[of]
        put_bits(out, at, values, NEAR_BITS, len(values))
        put_slots(out, at + form.far_words, layout.width[of], rows.c_slots, self._texts.listed)

    def _write_blocks(self, out: Words, at: Ints, blocks: Blocks) -> None:
        first, last, windows, n, d = blocks.spans
        for place, word in enumerate((paired(first, last), paired(windows, blocks.runs), n.view(np.uint64), d.view(np.uint64))):
            out[at + place] = word
        values, width = measured(self._form, blocks.slots), self._layout.width[blocks.rows]
        put_bits(out, at + 4, values, 0, len(values))
        at = at + 4 + self._form.block_valid_words
        put_slots(out, at, width, blocks.slots, self._texts.blocks)
        out[ranges(at + self._form.contribution_slots * width, blocks.runs)] = blocks.lengths.view(np.uint64)


def encode(form: Form, rows: Rows) -> tuple[Words, Ints, Ints]:
    """The words of all records one behind another, where each begins, and how many words it has."""
    encoder = Encoder(form, rows)
    start = before(encoder.length)
    out = np.zeros(int(encoder.length.sum()), np.uint64)
    encoder.write(out, start)
    return out, start, encoder.length


def measured(form: Form, slots: Sequence[Column]) -> list[Column]:
    """The columns of measures' values among the slots of contributions."""
    found, at = [], int(form.currency)
    for item in form.measures:
        at += item.is_timed
        found.append(slots[at])
        at += 1
    return found


def bits_of(columns: Sequence[Column]) -> Ints:
    """The bits of validity of up to 64 columns, as one number a row."""
    bits = np.zeros(len(columns[0].low) if columns else 0, np.int64)
    for number, column in enumerate(columns):
        bits |= column.valid.astype(np.int64) << number
    return bits


def put_bits(out: Words, at: Ints, columns: Sequence[Column], first: int, end: int) -> None:
    """The bits of validity of the columns from ``first`` on, 64 in a word."""
    for place, number in enumerate(range(first, end, 64)):
        out[at + place] = bits_of(columns[number : number + 64]).view(np.uint64)


def put_slots(out: Words, at: Ints, width: Ints, columns: Sequence[Column], texts: Sequence[Words | None]) -> None:
    """The slots from ``at`` on, of ``width`` words each. ``texts``: for slots of texts, the words that refer to them."""
    some = np.flatnonzero(width > 1)
    for number, (column, places) in enumerate(zip(columns, texts, strict=True)):
        to = at + number * width
        out[to] = column.low.view(np.uint64) if places is None else places
        if len(some) and places is None:
            high = column.low >> 63 if column.high is None else column.high
            out[to[some] + 1] = high[some].view(np.uint64)


class _Texts:
    """The texts of records, in the order of their slots: header, contributions, block. ``bytes``: of all texts of a record. ``header``,
    ``listed`` and ``blocks``: for each slot the words that refer to its texts, None for a slot of numbers."""

    def __init__(self, rows: Rows) -> None:
        count = len(rows.kept)
        of_listed = np.repeat(np.arange(count), rows.kept)
        parts = [(rows.slots, np.arange(count)), (rows.c_slots, of_listed)]
        if rows.blocks is not None:
            parts.append((rows.blocks.slots, rows.blocks.rows))
        placed: list[list[Words | None]] = [[None] * len(slots) for slots, _ in parts]
        self.bytes = np.zeros(count, np.int64)
        self._content: list[tuple[Ints, Ints, Ints, pa.LargeStringArray]] = []
        for (slots, of), places in zip(parts, placed, strict=True):
            self._place(slots, of, places)
        self.header, self.listed = placed[0], placed[1]
        self.blocks = placed[2] if len(placed) > 2 else []

    def _place(self, slots: Sequence[Column], of: Ints, places: list[Words | None]) -> None:
        """Gives the texts of one part their places: row by row, and in a row slot by slot."""
        columns = [(number, column) for number, column in enumerate(slots) if column.text is not None]
        if not columns:
            return
        sizes = np.stack([np.where(column.valid, _lengths(column.text), 0) for _, column in columns], axis=1)
        within = np.cumsum(sizes.ravel()) - sizes.ravel()
        # ``of`` ascends, so the first row of a record is where its number first occurs.
        first = np.searchsorted(of, of)
        offset = within.reshape(sizes.shape) - within.reshape(sizes.shape)[first, :1] + self.bytes[of][:, None]
        for place, (number, column) in enumerate(columns):
            words = paired(offset[:, place], sizes[:, place])
            words[~column.valid] = 0
            places[number] = words
            assert column.text is not None
            self._content.append((of, offset[:, place], sizes[:, place], column.text))
        np.add.at(self.bytes, of, sizes.sum(axis=1))

    def write(self, out: Words, at: Ints) -> None:
        """Writes the texts of each record at ``at``: the number of bytes, then the bytes."""
        some = np.flatnonzero(self.bytes)
        out[at[some]] = self.bytes[some].view(np.uint64)
        for of, offset, size, text in self._content:
            content, bounds = bytes_of(text)
            out.view(np.uint8)[ranges(8 * (at[of] + 1) + offset, size)] = content[ranges(bounds[:-1], size)]


def bytes_of(array: pa.LargeStringArray | pa.LargeBinaryArray) -> tuple[np.ndarray[tuple[int], np.dtype[np.uint8]], Ints]:
    """The bytes of an array of texts, and where each text begins and ends in them."""
    _, offsets, content = array.buffers()
    if not len(array):
        return np.zeros(0, np.uint8), np.zeros(1, np.int64)
    bounds = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    return np.frombuffer(content or b"", np.uint8), bounds


def _lengths(array: pa.LargeStringArray | pa.LargeBinaryArray | None) -> Ints:
    assert array is not None
    return np.diff(bytes_of(array)[1])


def _content(array: pa.LargeBinaryArray) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    content, bounds = bytes_of(array)
    return content[int(bounds[0]) : int(bounds[-1])]


def pieces(words: Words, start: Ints, length: Ints, words_max: int) -> Iterator[Words]:
    """Neighbouring records in pieces of up to ``words_max`` words, or of one record."""
    ends, first = start + length, 0
    while first < len(start):
        end = max(first + 1, int(np.searchsorted(ends, int(start[first]) + words_max, side="right")))
        yield words[int(start[first]) : int(ends[end - 1])]
        first = end
