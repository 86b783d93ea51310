"""Appends one window's contribution to each of many records by copying: only the header and the new contribution are made anew.

It gives the bytes that ``recon.records.encode`` gives for the same artifacts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recon.model.form import NEAR_BITS, TEXT, Form
from recon.records.columns import Column
from recon.records.decode import Decoder
from recon.records.encode import bits_of, bytes_of, measured, put_bits, put_slots
from recon.records.ranges import Bools, Ints, Words, before, filled, paired, ranges


@dataclass
class Arriving:
    """One contribution of ``window`` (minutes since 1970) for each record: n, ids (``counts`` of each) and slots."""

    window: int
    n: Ints
    counts: Ints
    ids: Words
    slots: list[Column]

    def take(self, rows: Ints) -> Arriving:
        """The contributions of some records."""
        ids = self.ids[ranges(before(self.counts)[rows], self.counts[rows])]
        return Arriving(self.window, self.n[rows], self.counts[rows], ids, [column.take(rows) for column in self.slots])


def can_append(form: Form) -> bool:
    """Whether records of this form can be appended to: no slot of a header is a text, and no measure depends on a time."""
    return not any(item.type == "text" or item.is_timed for item in form.slots)


class Append:
    """Appends ``arriving`` to the ``old`` records, in which nothing is wide, suppressed, withdrawn, carried forward or without ids."""

    def __init__(self, form: Form, words: Words, old: Decoder, arriving: Arriving) -> None:
        self._form, self._words, self._old, self._new = form, words, old, arriving
        text = arriving.slots[0].text if form.currency else None
        self._text = None if text is None else bytes_of(text)
        self._text_bytes = np.zeros(len(old.kept), np.int64) if self._text is None else np.diff(self._text[1])
        self._stride = 2 + form.far_words + form.contribution_slots
        self._header = 2 + form.valid_words + len(form.slots)
        texts = old.text_bytes + self._text_bytes
        self._ids_at = self._header + (old.kept + 1) * self._stride
        self._text_at = self._ids_at + old.ids + arriving.counts
        self._key_at = self._text_at + np.where(texts > 0, 1 + filled(texts), 0)
        self.length = self._key_at + filled(old.key_bytes)

    def totals(self) -> tuple[list[Column], Bools]:
        """The measures of the new records, and for which of them a sum needs more than 64 bits: these cannot be appended to."""
        form, wide, found = self._form, np.zeros(len(self._old.kept), bool), []
        slots = self._old.header_slots()[: len(form.measures)]
        for item, old, new in zip(form.measures, slots, measured(form, self._new.slots), strict=True):
            both = old.valid & new.valid
            if item.kind in ("min", "max"):
                pick = np.minimum if item.kind == "min" else np.maximum
                low = np.where(both, pick(old.low, new.low), np.where(new.valid, new.low, old.low))
            else:
                low = old.low + new.low  # a slot without a value is 0
                wide |= ((old.low ^ low) & (new.low ^ low)) < 0
            if (found_wide := new.is_wide) is not None:
                wide |= found_wide
            found.append(Column(low, None, old.valid | new.valid))
        return found, wide

    def write(self, out: Words, start: Ints, status: Ints, slots: list[Column]) -> None:
        """Writes each record at its ``start`` in ``out``, which is zero there. ``slots``: of the headers, none of them wide."""
        form, words, old, new = self._form, self._words, self._old, self._new
        ones = np.ones(len(old.kept), np.int64)
        text = old.text_bytes + self._text_bytes
        out[start] = paired(old.kept + 1, old.ids + new.counts)
        out[start + 1] = paired(old.key_bytes, status | (TEXT * (text > 0)) << 16)
        put_bits(out, start + 2, slots, 0, len(slots))
        put_slots(out, start + 2 + form.valid_words, ones, slots, [None] * len(slots))
        at = start + self._header
        kept = old.kept * self._stride
        out[ranges(at, kept)] = words[ranges(old.listed_at, kept)]
        self._write_contribution(out, at + kept)
        at = start + self._ids_at
        out[ranges(at, old.ids)] = words[ranges(old.ids_at, old.ids)]
        out[ranges(at + old.ids, new.counts)] = new.ids
        self._write_texts(out, start + self._text_at, text)
        key = filled(old.key_bytes)
        out[ranges(start + self._key_at, key)] = words[ranges(old.key_at(), key)]

    def _write_contribution(self, out: Words, at: Ints) -> None:
        form, new = self._form, self._new
        values = measured(form, new.slots)
        out[at] = paired(np.full(len(at), new.window), new.n)
        out[at + 1] = paired(new.counts, bits_of(values[:NEAR_BITS]))
        put_bits(out, at + 2, values, NEAR_BITS, len(values))
        places: list[Words | None] = [None] * len(new.slots)
        if self._text is not None:
            # As in ``encode``, a text without bytes has its place, too.
            places[0] = paired(self._old.text_bytes, self._text_bytes)
        put_slots(out, at + 2 + form.far_words, np.ones(len(at), np.int64), new.slots, places)

    def _write_texts(self, out: Words, at: Ints, text: Ints) -> None:
        if self._text is None:
            return
        some = np.flatnonzero(text)
        out[at[some]] = text[some].view(np.uint64)
        size = np.where(self._old.text_bytes > 0, filled(self._old.text_bytes), 0)
        out[ranges(at + 1, size)] = self._words[ranges(self._old.text_at + 1, size)]
        content, bounds = self._text
        out.view(np.uint8)[ranges(8 * (at + 1) + self._old.text_bytes, self._text_bytes)] = content[int(bounds[0]) : int(bounds[-1])]


def last_at(old: Decoder) -> Ints:
    """Where the newest contribution of each record begins. Records have at least one."""
    return old.listed_at + (old.kept - 1) * old.stride


def sharing_ids(old: Decoder, arriving: Arriving) -> Bools:
    """Which records have an id twice, among old and arriving ones. Compares mixtures of id and record of 64 bits: a record without such
    an id may be among them, but none is missed."""
    count = len(old.kept)
    step = np.uint64(0x9E3779B97F4A7C15)
    record = np.concatenate([np.repeat(np.arange(count), old.ids), np.repeat(np.arange(count), arriving.counts)])
    mixed = (np.concatenate([old.all_ids(), arriving.ids]) + record.view(np.uint64)) * step
    shared = np.zeros(count, bool)
    ordered = np.sort(mixed)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(twice):
        shared[record[np.isin(mixed, twice)]] = True
    return shared
