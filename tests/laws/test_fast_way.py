"""The fast way of a merge gives the bytes of the general way, which a test can force on every key."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
import strategies as s
from histories import carry_out, fresh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recon.api import Reconciliation
from recon.engines.duckdb import append, carried_forward, reduce
from recon.reading.artifacts import live_records

EXAMPLES = int(os.environ.get("RECON_LAW_EXAMPLES", "12"))
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
        with patch.object(append, "is_quick", lambda config, windows: False):
            carry_out(general, operation)
    assert stored(quick) == stored(general)


@settings(deadline=None, max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
@given(windows_of(), st.sampled_from([EXTREMES, CURRENCIES]), st.data())
def test_both_ways_give_equal_bytes_after_every_window(windows: list[tuple[int, s.File]], rules: str, data: st.DataObject) -> None:
    with both(rules) as (quick, general):
        for number, file in windows:
            again = [s.Replay(number), s.Run((number,))] if data.draw(st.integers(0, 5)) == 0 else []
            carry_out_in_both(quick, general, [s.Land(number, file), s.Close(number), s.Run((number,)), *again])


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


@pytest.mark.parametrize("case", CASES)
def test_both_ways_give_equal_bytes_where_the_fast_way_has_a_limit(case: str) -> None:
    rules, windows = CASES[case]
    with both(rules) as (quick, general):
        for number, rows in windows:
            # Rows of other keys keep the ids apart that no row names.
            named = [replace(row, event_id=row.event_id or f"{number}-{place}") for place, row in enumerate(rows)]
            file = s.File(f"w{number}", (*named, s.Row(f"B{number}", f"b{number}"), s.Row("C", f"c{number}")), "csv")
            carry_out_in_both(quick, general, [s.Land(number, file), s.Close(number), s.Run((number,))])


def test_new_keys_and_appended_windows_take_the_fast_way() -> None:
    rows = [s.Row(key, f"{key}-1", "INVOICE", "10.00", "EUR", "2026-11-01T00:10:00Z") for key in "AB"]
    found = []

    def counted(*asked: Any) -> append.Quick:
        quick = find(*asked)
        found.append((len(quick.new.length), len(quick.append.length), quick.arriving.num_rows))
        return quick

    find = append.find
    with fresh(CURRENCIES) as r, patch.object(append, "find", counted):
        for number in range(3):
            again = [replace(row, event_id=f"{number}{row.event_id}", order_id=row.order_id + "C" * number) for row in rows[:1]]
            kept = [replace(row, event_id=f"{number}{row.event_id}") for row in rows]
            for operation in (s.Land(number, s.File(f"w{number}", tuple(kept + again), "csv")), s.Close(number), s.Run((number,))):
                carry_out(r, operation)
    assert found == [(2, 0, 0), (1, 2, 0), (1, 2, 0)]
