"""The fast way of a merge gives the bytes of the general way, which a test can force on every key."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import pytest
import strategies as s
from histories import carry_out, fresh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recon.api import Reconciliation
from recon.engines.duckdb import carried_forward, fast, reduce
from recon.reading.artifacts import live_records

EXAMPLES = int(os.environ.get("RECON_LAW_EXAMPLES", "3"))
EXTREMES = """\
name: orders
store: ./data
key: order_id
windows: {start: 2026-11-01T00:00Z, every: 1h}
events: {types: {amount: "decimal(24,2)"}, id: event_id, time: booked_at, dedupe: 2h}
measures:
  lines: {count: "*"}
  billed: {sum: amount, where: "event_type = 'INVOICE'"}
  least: {min: amount}
  most: {max: amount}
derived: {span: "most - least", huge: "billed * 1000000000000000"}
status: [{FLAT: "span = 0"}, {LARGE: "billed > 10"}]
control: {rows: {count: "*"}}
"""
NARROW = EXTREMES.replace(', huge: "billed * 1000000000000000"', "")
CURRENCIES = EXTREMES.replace("  id: event_id", "  currency: currency\n  id: event_id").replace(
    "id: event_id, time", "id: event_id, currency: currency, time"
)
"""Rules whose keys take the fast way: sums, counts, least and greatest; a derived value that may need more than 64 bits."""


def stored(r: Reconciliation) -> dict[tuple[int, int], bytes]:
    """The bytes of every live record, by its hash."""
    state = r.state()
    found = {}
    for batch in live_records(r.store(), state) if state.runs else ():
        columns = (batch.column(name).to_pylist() for name in ("hi", "lo", "record"))
        found |= {(hi, lo): record for hi, lo, record in zip(*columns, strict=True)}
    return found


@st.composite
def windows_of(draw: st.DrawFn) -> list[tuple[int, s.File]]:
    """Windows with their files, in the order in which they are processed. Ids seldom meet: such keys take the general way."""
    found = []
    for number in draw(st.permutations(range(draw(st.integers(2, 5)))) | st.just([0, 1, 2, 3])):
        file = draw(s.files(f"w{number}"))
        apart = draw(st.integers(0, 4)) > 0
        rows = [replace(row, event_id=row.event_id and f"{number}-{row.event_id}") for row in file.rows] if apart else file.rows
        found.append((number, replace(file, rows=tuple(rows))))
    return found


@contextmanager
def both(rules: str) -> Iterator[tuple[Reconciliation, Reconciliation]]:
    """Two stores, of which the second takes the general way, with small limits."""
    limits = [patch.object(reduce, "IDS_MAX", 9), patch.object(carried_forward, "FOLD_MIN", 4), patch.object(carried_forward, "STEP", 1)]
    with fresh(rules) as quick, fresh(rules) as general, limits[0], limits[1], limits[2]:
        yield quick, general


def carry_out_in_both(quick: Reconciliation, general: Reconciliation, operations: Sequence[s.Operation]) -> None:
    for operation in operations:
        carry_out(quick, operation)
        with patch.object(fast, "is_fast", lambda config: False):
            carry_out(general, operation)
    assert stored(quick) == stored(general)


@st.composite
def ranges_of(draw: st.DrawFn) -> list[list[s.Operation]]:
    """Ranges of windows, in any order, and then a range in which windows come again: replayed, or corrected by another file."""
    windows = draw(windows_of())
    borders = draw(st.sets(st.integers(1, len(windows) - 1))) | {0, len(windows)}
    ranges: list[list[s.Operation]] = []
    for first, end in pairwise(sorted(borders)):
        landed = [operation for number, file in windows[first:end] for operation in (s.Land(number, file), s.Close(number))]
        ranges.append([*landed, s.Run(tuple(number for number, _ in windows[first:end]))])
    again = draw(st.lists(st.sampled_from(windows), unique_by=lambda window: window[0], max_size=3))
    changes: list[s.Operation] = []
    for number, file in again:
        other = replace(draw(s.files(f"x{number}", formats=["csv"])), rows=draw(st.permutations(file.rows)) if file.rows else ())
        rows = tuple(replace(row, amount=draw(st.sampled_from([row.amount, "7.00"]))) for row in other.rows)
        corrected = draw(st.booleans()) and rows
        changes += [s.Replace(number, file.name, replace(other, rows=rows)), s.Close(number)] if corrected else [s.Replay(number)]
    return [*ranges, [*changes, s.Run(tuple(number for number, _ in again))]]


@settings(deadline=None, max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
@given(ranges_of(), st.sampled_from([EXTREMES, CURRENCIES]))
def test_both_ways_give_equal_bytes_after_every_range(ranges: list[list[s.Operation]], rules: str) -> None:
    with both(rules) as (quick, general):
        for operations in ranges:
            carry_out_in_both(quick, general, operations)


def bill(amount: str | None = "10.00", **more: str) -> s.Row:
    return replace(s.Row("A", None, "INVOICE", amount, "EUR", "2026-11-01T00:10:00Z"), **more)


CASES: dict[str, tuple[str, list[tuple[int, list[s.Row]]]]] = {
    "an id of the window before": (EXTREMES, [(0, [bill(event_id="1")]), (1, [bill(event_id="1"), bill(event_id="2")])]),
    "another currency, and then a window more": (CURRENCIES, [(0, [bill()]), (1, [bill(currency="USD")]), (2, [bill(currency="USD")])]),
    "two currencies at once": (CURRENCIES, [(0, [bill(), bill(currency="USD")]), (1, [bill(), bill(currency="USD")]), (2, [bill()])]),
    "two currencies in a later window": (CURRENCIES, [(0, [bill()]), (1, [bill(), bill(currency="USD")]), (2, [bill()])]),
    "a window before the newest": (EXTREMES, [(0, [bill()]), (2, [bill("2.00")]), (1, [bill("3.00")]), (3, [bill()])]),
    "more windows than a record keeps": (EXTREMES, [(number, [bill()]) for number in range(12)]),
    "many ids in one window": (EXTREMES, [(0, [bill(event_id=f"{number}") for number in range(10)]), (1, [bill()])]),
    "many ids in all": (EXTREMES, [(n, [bill(event_id=f"{n}-{each}") for each in range(4)]) for n in range(3)]),
    "a sum beyond 64 bits": (EXTREMES, [(0, [bill("50000000000000000.00")]), (1, [bill("50000000000000000.00")]), (2, [bill()])]),
    "an amount beyond 64 bits": (
        NARROW,
        [(0, [bill()]), (1, [bill("100000000000000000000.00")]), (2, [bill("-100000000000000000000.00")])],
    ),
    "a derived value beyond 64 bits": (EXTREMES, [(0, [bill("1.00")]), (1, [bill("100.00")]), (2, [bill("-100.00")])]),
    "values come and go": (
        EXTREMES,
        [(0, [bill(None)]), (1, [bill("5.00")]), (2, [bill(None)]), (3, [bill("-7.00")]), (4, [bill("6.00")])],
    ),
}


@pytest.mark.parametrize(
    "size",
    [
        pytest.param(1, id="each window alone"),
        pytest.param(2, id="two windows in a range", marks=pytest.mark.soak),
        pytest.param(12, id="all windows in a range"),
    ],
)
@pytest.mark.parametrize("case", CASES)
def test_both_ways_give_equal_bytes_where_the_fast_way_has_a_limit(case: str, size: int) -> None:
    rules, windows = CASES[case]
    with both(rules) as (quick, general):
        for first in range(0, len(windows), size):
            operations: list[s.Operation] = []
            for number, rows in windows[first : first + size]:
                # Rows of other keys keep the ids apart that no row names.
                named = [replace(row, event_id=row.event_id or f"{number}-{place}") for place, row in enumerate(rows)]
                file = s.File(f"w{number}", (*named, s.Row(f"B{number}", f"b{number}"), s.Row("C", f"c{number}")), "csv")
                operations += [s.Land(number, file), s.Close(number)]
            carry_out_in_both(quick, general, [*operations, s.Run(tuple(number for number, _ in windows[first : first + size]))])


def test_both_ways_give_equal_bytes_where_a_key_is_gone_from_one_of_two_corrected_windows() -> None:
    again = [
        operation
        for number, keys in ((0, "A"), (1, "AB"))
        for operation in (
            s.Replace(number, lines(number, "AB").name, replace(lines(number, keys, "9.00"), stem=f"x{number}")),
            s.Close(number),
        )
    ]
    with both(CURRENCIES) as (quick, general):
        for operations in ([*landed(0, "AB"), *landed(1, "AB"), s.Run((0, 1))], [*again, s.Run((0, 1))]):
            carry_out_in_both(quick, general, operations)


@contextmanager
def counted() -> Iterator[list[tuple[int, int, int]]]:
    """Of each merge: reduced artifacts that took the fast way, those that did not, and records that the fast way changed."""
    found: list[tuple[int, int, int]] = []

    def counting(*asked: Any) -> fast.Fast:
        taken = find(*asked)
        found.append((taken.arrived.num_rows, taken.arriving.num_rows, len(taken.records.length)))
        return taken

    find = fast.find
    with patch.object(fast, "find", counting):
        yield found


def lines(number: int, keys: str, amount: str = "10.00") -> s.File:
    """One event of each key, with an id of its own."""
    return s.File(f"w{number}", tuple(bill(amount, order_id=key, event_id=f"{number}{key}") for key in keys), "csv")


def landed(number: int, keys: str) -> list[s.Operation]:
    return [s.Land(number, lines(number, keys)), s.Close(number)]


ABC = [*landed(0, "AB"), s.Run((0,)), *landed(1, "ABC"), s.Run((1,))]
FAST: dict[str, tuple[list[s.Operation], tuple[int, int, int]]] = {
    "new keys and a later window": (ABC, (3, 0, 3)),
    "several windows in a range": ([*landed(0, "AB"), *landed(1, "BC"), *landed(2, "B"), s.Run((0, 1, 2))], (5, 0, 3)),
    "a window before the newest": ([*landed(2, "AB"), s.Run((2,)), *landed(1, "AB"), s.Run((1,))], (2, 0, 2)),
    "a replay": ([*ABC, s.Replay(0), s.Run((0,))], (2, 0, 0)),
    "a correction of all amounts": (
        [*ABC, s.Replace(0, lines(0, "AB").name, replace(lines(0, "AB", "9.00"), stem="x")), s.Close(0), s.Run((0,))],
        (2, 0, 2),
    ),
    "an id of another window": ([*landed(0, "AB"), s.Land(1, lines(0, "AC")), s.Close(1), s.Run((0, 1))], (2, 2, 2)),
}


@pytest.mark.parametrize("case", FAST)
def test_these_keys_take_the_fast_way(case: str) -> None:
    operations, last = FAST[case]
    with fresh(CURRENCIES) as r, counted() as found:
        for operation in operations:
            carry_out(r, operation)
    assert found[-1] == last
