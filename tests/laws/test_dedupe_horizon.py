"""Duplicates at the edges of 31 days: whatever the order of windows and corrections, what counts is what stood within the horizon
before.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import pytest
import strategies as s
from histories import carry_out, check_store, open_in, slow
from hypothesis import given
from hypothesis import strategies as st

from recon.engines.duckdb import reduce
from recon.verification import expected

HORIZON = 31 * 24
"""In windows of an hour."""
YAML = s.STANDARD_YAML.replace("dedupe: 2h", "dedupe: 31d").replace("start: 2026-11-01T00:00Z", "start: 2026-08-01T00:00Z")
RULES = replace(s.STANDARD_RULES, dedupe=timedelta(days=31))
EDGES = (-2 * HORIZON - 1, -2 * HORIZON, -HORIZON - 1, -HORIZON, -HORIZON + 1, -1, 0)
SLOW = slow(3)


def row(key: str, event_id: str, amount: str = "10.00") -> s.Row:
    return s.Row(order_id=key, event_id=event_id, amount=amount)


@st.composite
def deliveries(draw: st.DrawFn) -> list[s.Operation]:
    """Files in some of the windows, run one by one in any order, then some of them corrected or taken back, and run again."""
    windows = draw(st.lists(st.sampled_from(EDGES), min_size=2, max_size=5, unique=True))
    rows = st.lists(st.builds(row, st.sampled_from("AB"), st.sampled_from("12"), st.sampled_from(["1.00", "2.00"])), min_size=1, max_size=3)
    operations: list[s.Operation] = []
    for window in windows:
        operations += [s.Land(window, s.File(f"w{window}", tuple(draw(rows)))), s.Close(window)]
    for window in draw(st.permutations(windows)):
        operations.append(s.Run((window,)))
    for window in draw(st.lists(st.sampled_from(windows), max_size=2, unique=True)):
        gone = f"w{window}.csv"
        operations.append(
            draw(st.sampled_from([s.Unland(window, gone), s.Replace(window, gone, s.File(f"again{window}", tuple(draw(rows))))]))
        )
        operations.append(s.Run((window,)))
    return operations


@pytest.mark.parametrize("ids_max", [4096, 1], ids=["ids in the records", "ids in the files only"])
@SLOW
@given(operations=deliveries())
def test_an_event_is_a_duplicate_if_its_identity_stood_at_most_31_days_before_and_only_then(
    ids_max: int, operations: list[s.Operation]
) -> None:
    memory = Path("/dev/shm")
    with (
        tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder,
        patch.object(reduce, "IDS_MAX", ids_max),
        patch.object(expected, "IDS_MAX", ids_max),
    ):
        r, state = open_in(Path(folder), YAML), s.State()
        for operation in operations:
            carry_out(r, operation)
            state = s.apply(state, operation)
            if isinstance(operation, s.Run):
                check_store(r, state, RULES)
        assert not r.verify(full=True).problems


def test_a_chain_of_deliveries_a_horizon_apart_is_one_event_however_long_it_is(tmp_path: Path) -> None:
    """Suppressed ones count too: the third is a duplicate of the second, though the first lies beyond its horizon."""
    r, state = open_in(tmp_path, YAML), s.State()
    chain = (-2 * HORIZON, -HORIZON, 0)
    for window in (chain[2], chain[0], chain[1]):  # the middle one last, which makes the third a duplicate
        for operation in (s.Land(window, s.File(f"w{window}", (row("A", "1"),))), s.Close(window), s.Run((window,))):
            carry_out(r, operation)
            state = s.apply(state, operation)
        check_store(r, state, RULES)
    shown = r.show("A")
    assert [part["events"] for part in shown["contributions"]] == [1, 0, 0]
    assert shown["measures"]["lines"] == 1
