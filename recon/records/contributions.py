"""Contributions of many records as columns: those of existing records and those that arrive, joined and added up."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from recon.model.form import Form
from recon.records.columns import Column, concatenated
from recon.records.decode import Decoder
from recon.records.encode import measured
from recon.records.ranges import Bools, Ints, Words, before, ranges

_WORD_MAX = (1 << 63) - 1


@dataclass
class Contributions:
    """``of``: number of each one's record; ``window``: minutes since 1970; ``n``: events that count; ``counts``: ids of each; ``ids``: all
    of them, in the same order; ``slots``: as in a record. None of them has suppressed events, or no list of ids."""

    of: Ints
    window: Ints
    n: Ints
    counts: Ints
    ids: Words
    slots: list[Column]

    def take(self, rows: Ints) -> Contributions:
        """Some contributions, in this order."""
        ids = self.ids[ranges(before(self.counts)[rows], self.counts[rows])]
        return Contributions(
            self.of[rows], self.window[rows], self.n[rows], self.counts[rows], ids, [column.take(rows) for column in self.slots]
        )

    @property
    def kept(self) -> Ints:
        """How many each record has, of the records that have any. They are in order of records."""
        return np.diff(np.flatnonzero(np.diff(self.of, prepend=-1, append=-1)))

    @property
    def place(self) -> Ints:
        """A number for record and window, in the order of both."""
        return (self.of << 32) + self.window

    @property
    def is_wide(self) -> Bools:
        """Which contributions have a decimal that needs more than 64 bits."""
        wide = np.zeros(len(self.of), bool)
        for column in self.slots:
            if (found := column.is_wide) is not None:
                wide |= found
        return wide

    def narrow(self) -> Contributions:
        """The same without the upper words of decimals: less to join, where none is wide or those that are wide will be left out."""
        return replace(self, slots=[replace(column, high=None) for column in self.slots])


def of_records(decoder: Decoder, numbers: Ints) -> Contributions:
    """The contributions of records, which get these ``numbers``."""
    window, n, _, counts = decoder.contributions()
    return Contributions(np.repeat(numbers, decoder.kept), window, n, counts, decoder.all_ids(), decoder.contribution_slots())


def joined(some: Contributions, others: Contributions) -> Contributions:
    """Both, in order of records and windows."""
    slots = [concatenated(pair) for pair in zip(some.slots, others.slots, strict=True)]
    of, window, n, counts, ids = (
        np.concatenate([getattr(side, name) for side in (some, others)]) for name in ("of", "window", "n", "counts", "ids")
    )
    both = Contributions(of, window, n, counts, ids, slots)
    return both.take(np.argsort(both.place, kind="stable"))


def totals(form: Form, found: Contributions, kept: Ints) -> tuple[list[Column], Bools]:
    """The measures of records with ``kept`` contributions each, at least one and none of them wide; and for which records a sum needs more
    than 64 bits. There is no first, last or text among the measures."""
    first, wide, columns = before(kept), np.zeros(len(kept), bool), []
    for item, column in zip(form.measures, measured(form, found.slots), strict=True):
        if item.kind in ("min", "max"):
            pick, other = (np.minimum, _WORD_MAX) if item.kind == "min" else (np.maximum, -_WORD_MAX - 1)
            low = _reduced(pick, np.where(column.valid, column.low, other), first)
        else:  # a slot without a value is 0
            low = _reduced(np.add, column.low, first)
            wide |= _overflowing(column.low, kept, first)
        valid = _reduced(np.logical_or, column.valid, first) > 0
        columns.append(Column(np.where(valid, low, 0), None, valid))
    return columns, wide


def _reduced(of: np.ufunc, values: Ints | Bools, first: Ints) -> Ints:
    return np.asarray(of.reduceat(values, first)) if len(first) else np.zeros(0, np.int64)


def _overflowing(values: Ints, kept: Ints, first: Ints) -> Bools:
    """Which sums need more than 64 bits."""
    if not len(values) or max(int(values.max()), -int(values.min())) * int(kept.max()) <= _WORD_MAX:
        return np.zeros(len(kept), bool)
    high = _reduced(np.add, values >> 32, first) + (_reduced(np.add, values & 0xFFFFFFFF, first) >> 32)
    return np.asarray((high >> 31) != (high >> 63))


def sharing_ids(found: Contributions, records: int) -> Bools:
    """Which of ``records`` records have an id twice. Compares mixtures of id and record of 64 bits: a record without such an id may be
    among them, but none is missed."""
    record = np.repeat(found.of, found.counts)
    mixed = (found.ids + record.view(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
    shared = np.zeros(records, bool)
    ordered = np.sort(mixed)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(twice):
        shared[record[np.isin(mixed, twice)]] = True
    return shared
