"""The fast way of a merge gives the bytes of the general way, which a test can force on every key."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any
from unittest.mock import patch

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
events: {types: {amount: "decimal(18,2)"}, id: event_id, time: booked_at, dedupe: 2h}
measures:
  lines: {count: "*"}
  billed: {sum: amount, where: "event_type = 'INVOICE'"}
  least: {min: amount}
  most: {max: amount}
derived: {span: "most - least", huge: "billed * 1000000000000000"}
status: [{FLAT: "span = 0"}, {LARGE: "billed > 10"}]
control: {rows: {count: "*"}}
"""
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


@settings(deadline=None, max_examples=3 * EXAMPLES, suppress_health_check=list(HealthCheck))
@given(windows_of(), st.sampled_from([EXTREMES, CURRENCIES]), st.data())
def test_both_ways_give_equal_bytes_after_every_window(windows: list[tuple[int, s.File]], rules: str, data: st.DataObject) -> None:
    with fresh(rules) as quick, fresh(rules) as general, patch.object(reduce, "IDS_MAX", 5), patch.object(carried_forward, "FOLD_MIN", 4):
        # Hashes are salted per store; equal salts make them comparable.
        assert quick.config.store_path is not None
        assert general.config.store_path is not None
        (general.config.store_path / "store.json").write_bytes((quick.config.store_path / "store.json").read_bytes())
        for number, file in windows:
            operations = [s.Land(number, file), s.Close(number), s.Run((number,))]
            if data.draw(st.integers(0, 5)) == 0:
                operations += [s.Replay(number), s.Run((number,))]
            for operation in operations:
                carry_out(quick, operation)
                with patch.object(append, "is_quick", lambda config, windows: False):
                    carry_out(general, operation)
            assert stored(quick) == stored(general)


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
