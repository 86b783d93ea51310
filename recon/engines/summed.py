"""Adds up what the slices of a merge found, so that one slice's figures, per window of the range, stand for many slices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from recon.engines.port import Moved, Recount, Slice
from recon.model import conflicts
from recon.model.totals import sum_measures

T = TypeVar("T")


def summed(one: Slice, other: Slice) -> Slice:
    """The figures of both slices; the records are those of ``one``, which are in its part-file already."""
    return Slice(
        one.records,
        _united(one.statuses, other.statuses, lambda a, b: a + b),
        _united(one.counted, other.counted, lambda a, b: a + b),
        _united(one.suppressed, other.suppressed, lambda a, b: a + b),
        _united(one.measures, other.measures, lambda a, b: sum_measures([a, b])),
        _united(one.moved, other.moved, lambda a, b: Moved(a.totals + b.totals, sum_measures([a.measures, b.measures]))),
        _united(one.recounted, other.recounted, lambda a, b: Recount(a.rows + b.rows, sum_measures([a.measures, b.measures]))),
        conflicts.total_of([one.conflicts_before, other.conflicts_before]),
        conflicts.total_of([one.conflicts, other.conflicts]),
    )


def _united(one: Mapping[str, T], other: Mapping[str, T], add: Callable[[T, T], T]) -> dict[str, T]:
    """All members of both, those of one name added."""
    return {**one, **{name: add(one[name], value) if name in one else value for name, value in other.items()}}
