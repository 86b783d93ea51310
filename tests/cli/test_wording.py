"""Sentences of the command line that were wrong, each read as a user reads it."""

from __future__ import annotations

from pathlib import Path

import pytest
import strategies as s
from cli_calls import FIRST, HEADER, SECOND, Call
from histories import open_in

from recon.cli.screen import say_bounds
from recon.errors import WrongUsage
from recon.model.windows import name_of

W0, W2 = name_of(s.at(0)), name_of(s.at(2))


def test_no_line_of_status_holds_an_escape(recon: Call, fresh: Path) -> None:
    for hour in range(24):
        recon("close", f"2026-11-01T{hour:02d}:00Z")
    out = recon("status").out
    assert "\\n" not in out
    assert "\n\nthe newest 20 of 24 windows; --json has the other 4\n" in out


def test_many_breaks_are_counted_as_more_not_as_mores(recon: Call, tmp_path: Path) -> None:
    r = open_in(tmp_path)
    (tmp_path / "a.csv").write_text(s.to_csv(tuple(s.Row(order_id=f"K{n:02}", event_id=str(n)) for n in range(25))))
    r.land([tmp_path / "a.csv"], W0, close=True)
    r.run()
    out = recon("breaks", "--config", str(r.config.path)).out
    assert "\n5 more: recon breaks breaks.xlsx" in out
    assert "mores" not in out


def test_a_run_says_once_what_it_processed(recon: Call, fresh: Path) -> None:
    (fresh / "wrong.csv").write_text(HEADER + "X1,A114,INVOICE,5.00,USD,2026-11-01T01:05:00Z\n")
    assert recon("land", "events/orders-0000.csv", "-w", FIRST, "--close").status == 0
    assert recon("land", "wrong.csv", "-w", SECOND, "--close", "--expect", "rows=7").status == 0
    answer = recon("run")
    assert answer.status == 1
    assert answer.out.startswith(f"processed 1 window: {FIRST}\n")
    assert "processed no window" not in answer.out
    assert recon("run").out.startswith("processed no window\n")


def test_totals_that_are_declared_later_are_named_with_their_revision(recon: Call, own: Path) -> None:
    said = recon("land", "events/orders-0000.csv", "-w", FIRST, "--expect", "rows=5", "--expect", "amount:USD=154.90").out.splitlines()
    totals = "its declared totals are rows=5, amount:USD=154.90 from revision 2 on"
    assert said == [
        f"orders-0000.csv: the same file has landed already; no rows added, {totals}",
        f"window {FIRST} is closed: revision 2 holds 2 files",
        "next: recon run",
    ]
    again = recon("land", "events/orders-0000.csv", "-w", FIRST, "--expect", "rows=5", "--expect", "amount:USD=154.90").out.splitlines()
    assert again == [
        "orders-0000.csv: the same file has landed already; no rows added",
        f"window {FIRST} is closed: revision 2 holds 2 files",
    ]


def test_a_ratio_above_its_bound_is_not_called_at_most_that(capsys: pytest.CaptureFixture[str]) -> None:
    figures = {"disk": 1.91, "disk_bound": 1.5, "writes": 1.62, "writes_bound": 3, "bound": "disk"}
    say_bounds(figures)
    assert capsys.readouterr().out == "disk ÷ live: 1.91 (above its bound 1.5 until the next compaction); written ÷ changed: 1.62\n"
    say_bounds({**figures, "disk": 1.21})
    assert capsys.readouterr().out == "disk ÷ live: 1.21 (bound 1.5); written ÷ changed: 1.62\n"


def test_declared_totals_that_are_no_numbers_are_told_as_they_are_written(tmp_path: Path) -> None:
    r = open_in(tmp_path)
    (tmp_path / "a.csv").write_text(s.to_csv((s.Row(),)))
    with pytest.raises(WrongUsage, match="expect: rows=1, amount:EUR=ten are not all numbers"):
        r.land([tmp_path / "a.csv"], W0, close=True, expect={"rows": 1, "amount": {"EUR": "ten"}})


def test_a_bad_window_is_named_once_in_a_sentence(recon: Call, fresh: Path) -> None:
    recon("land", "events/orders-0000.csv", "-w", FIRST, "--close", "--expect", "rows=7")
    recon("run")
    status = recon("status")
    assert status.status == 1
    assert status.err.splitlines()[0].startswith(f"recon: window {FIRST} could not be processed: orders-0000.csv: the declared")
    one = recon("status", FIRST)
    assert one.line.startswith(f"window {FIRST}: it could not be processed: orders-0000.csv: ")
    assert f"{FIRST} could not be processed at " in one.out
    assert f": window {FIRST}: orders" not in one.out


def test_nothing_that_was_never_processed_is_called_proved_or_repaired(recon: Call, fresh: Path) -> None:
    recon("land", "events/orders-0000.csv", "-w", FIRST)
    verified = recon("verify")
    assert (verified.status, verified.out) == (1, "")
    assert verified.line == "no window has been processed yet: only landed files were checked"
    assert recon("repair").out == "nothing to repair: no window has been processed yet\n"
    assert "watermark: none yet, the first window is not closed and done" in recon("status").out
    assert recon("breaks", "--status", "UNPAID").out.startswith("no artifact yet")
