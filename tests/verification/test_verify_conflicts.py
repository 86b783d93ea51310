"""What `verify --full` says of conflicts: it counts them again, and names ids that stand under several keys."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

from cases import case
from cli_calls import command
from daily_orders import DAYS, row, run, window

from recon.model import conflicts


def test_a_payment_that_moves_to_another_key_counts_under_both_and_verify_names_it(tmp_path: Path) -> None:
    r = case(tmp_path, "event-moves-to-another-key")
    for name, day in (("day1.csv", "2026-11-01T00:00Z"), ("day2.csv", "2026-11-02T00:00Z")):
        r.land([tmp_path / name], day, close=True)
    r.run()
    assert {key: r.show(key)["status"] for key in ("A", "B")} == {"A": "MATCHED", "B": "MATCHED"}
    found = r.verify(full=True)
    assert found.ok
    told = "id P1: under key A (window 2026-11-01T00:00Z), key B (window 2026-11-02T00:00Z); identity is key and id, so each counts"
    assert found.notes == [told]
    assert r.verify().notes == []
    done = command("verify", "--full", cwd=tmp_path)
    assert (done.returncode, f"note: {told}" in done.stdout) == (0, True)


def test_figures_that_state_other_conflicts_than_the_landed_events_have_are_named(tmp_path: Path) -> None:
    r = case(tmp_path, text=DAYS)
    with patch.object(conflicts, "changed", lambda held, window, change: conflicts.nothing()):
        run(r, (1, [row("1", "10.00"), row("2", "1.00"), row("2", "2.00")]), (2, [row("1", "12.00")]))
    found = r.verify(full=True)
    assert not found.ok
    assert [problem.split(":")[0] for problem in found.problems] == [
        f"window {window(day)}"[: len("window 2026-09-01T00")] for day in (1, 2)
    ]
    assert f"'earlier': {{'{window(1)}': 1}}" in found.problems[1]
