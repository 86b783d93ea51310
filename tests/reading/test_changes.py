"""What a window touched and what a commit wrote, read alone, is what all artifacts say."""

from __future__ import annotations

from typing import Any

import pytest
import strategies as s
from histories import carry_out, fresh, slow
from hypothesis import given

from recon.api import Reconciliation
from recon.errors import WrongInput, WrongUsage
from recon.reading.artifacts import artifacts
from recon.state.reduced import ARTIFACTS
from recon.state.timeline import Timeline
from recon.storage import parquet

YAML = s.STANDARD_YAML


def _by_key(table: Any) -> dict[str, dict[str, Any]]:
    return {row["key"]: row for row in table.to_pylist()}


def _keys(r: Reconciliation, window: str) -> set[str]:
    place = r.store().local(r.state().windows[window].folder + ARTIFACTS)
    assert place is not None
    return set(parquet.read(place, ["key"]).column("key").to_pylist())


@slow(2)
@given(s.histories(max_windows=4, max_operations=8))
def test_each_window_and_each_commit(history: s.History) -> None:
    with fresh(YAML) as r:
        for operation in history.operations:
            carry_out(r, operation)
        everything = _by_key(r.artifacts())
        for window in r.state().windows:
            found = _by_key(r.artifacts_of(window))
            assert found == {key: everything[key] for key in _keys(r, window) if key in everything}
        timeline, before = Timeline(r.store()), dict[str, dict[str, Any]]()
        for commit in range(1, r.state().commit + 1):
            entry = timeline.entry(commit)
            assert entry is not None
            now = _by_key(artifacts(r.store(), r.config, timeline.at(commit), then=True))
            if entry.kind == "merge":
                changed = _by_key(r.changed_in(commit))
                assert changed == {key: now[key] for key in changed}
                assert {key for key in now if now[key] != before.get(key)} <= changed.keys()
            before = now


def test_a_rebuild_may_have_changed_everything() -> None:
    with fresh(YAML) as r:
        file = r.config.path.with_name("a.csv")
        file.write_text("order_id,event_id,event_type,amount,currency,booked_at\nA,1,INVOICE,1.00,EUR,2026-11-01T00:00:00Z\n")
        r.land([file], "2026-11-01T00:00Z", close=True)
        r.run()
        r.rebuild()
        rebuilt = r.state().commit
        with pytest.raises(WrongUsage, match=f"commit {rebuilt} switched to a rebuild"):
            r.changed_in(rebuilt)


def test_what_is_not_there() -> None:
    with fresh(YAML) as r:
        with pytest.raises(WrongInput, match="not committed yet"):
            r.artifacts_of("2026-11-01T00:00Z")
        with pytest.raises(WrongUsage, match="there is no commit 7; the newest is 0"):
            r.changed_in(7)
