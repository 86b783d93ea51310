"""Arithmetic on ranges of words: where ranges begin, sums over neighbours, and the indices of many ranges at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def before(lengths: Ints) -> Ints:
    """Where each of these ranges begins, if they lie one behind another from 0 on."""
    starts = np.zeros(len(lengths), np.int64)
    np.cumsum(lengths[:-1], out=starts[1:])
    return starts


def ranges(starts: Ints, lengths: Ints) -> Ints:
    """The indices in the ranges of ``lengths`` from ``starts`` on, one range behind another: ones added up, with a jump where a range
    begins."""
    some = lengths > 0
    if not some.all():
        starts, lengths = starts[some], lengths[some]
    if not len(starts):
        return np.zeros(0, np.int64)
    steps = np.ones(int(lengths.sum()), np.int64)
    steps[0] = starts[0]
    steps[np.cumsum(lengths)[:-1]] = starts[1:] - (starts[:-1] + lengths[:-1] - 1)
    return np.cumsum(steps, out=steps)


def summed(values: npt.NDArray[np.int64 | np.bool_], counts: Ints) -> Ints:
    """Sums of ``counts`` neighbours each."""
    totals = np.zeros(len(values) + 1, np.int64)
    np.cumsum(values, out=totals[1:])
    ends = np.cumsum(counts)
    return np.asarray(totals[ends] - totals[ends - counts])


def halves(words: Words) -> tuple[Ints, Ints]:
    """The low and the high 32 bits of each word, unsigned."""
    signed = words.view(np.int64)
    return signed & 0xFFFFFFFF, (signed >> 32) & 0xFFFFFFFF


def paired(low: Ints, high: Ints) -> Words:
    """Words from their low and high 32 bits."""
    return ((low & 0xFFFFFFFF) | (high << 32)).view(np.uint64)


def filled(size: Ints) -> Ints:
    """Words that hold ``size`` bytes."""
    return (size + 7) >> 3
