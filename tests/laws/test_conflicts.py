"""Conflicting duplicates: events of one identity that differ, in one window, across windows, weeks later; ids under two keys."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import pytest
from cases import case
from daily_orders import DAYS, row, run, window

from recon.api import Reconciliation
from recon.engines.duckdb import reduce
from recon.model import conflicts

NONE = {"within": 0, "ids_under_two_keys": 0, "earlier": {}, "later": {}}


def named(r: Reconciliation, day: int) -> dict[str, object]:
    certificate = r.certificate(window(day))
    assert certificate is not None
    assert certificate["ties"]
    found: dict[str, object] = certificate["conflicts"]
    return found


@pytest.mark.parametrize("differing", ["amount", "kind", "time"])
def test_a_resent_event_that_differs_is_named_by_the_certificates_of_both_windows(tmp_path: Path, differing: str) -> None:
    again = {
        "amount": row("1", "12.00"),
        "kind": row("1", "10.00", kind="REFUND"),
        "time": row("1", "10.00", booked="2026-09-30T10:00:00Z"),
    }
    r = case(tmp_path, text=DAYS)
    run(r, (1, [row("1", "10.00"), row("2", "5.00")]))
    assert named(r, 1) == NONE
    assert run(r, (30, [again[differing], row("3", "1.00")])) == [window(1)]
    assert named(r, 1) == {**NONE, "later": {window(30): 1}}
    assert named(r, 30) == {**NONE, "earlier": {window(1): 1}}
    first, second = (r.certificate(window(day)) for day in (1, 30))
    assert first is not None
    assert (first["number"], first["accepted"]["rows"], first["changed_by"]["cause"]) == (2, 2, "recount")
    assert first["changed_by"]["reason"] == f"conflicts changed by {window(30)}"
    assert second is not None
    assert (second["accepted"]["rows"], second["duplicates"]["rows"]) == (1, 1)
    assert (conflicts.rows_of(first), conflicts.rows_of(second)) == (1, 1)
    assert r.show("A")["measures"]["paid"] == "16.00"
    assert r.verify(full=True).ok


def test_an_event_that_is_sent_again_unchanged_is_no_conflict(tmp_path: Path) -> None:
    r = case(tmp_path, text=DAYS)
    run(r, (1, [row("1", "10.00")]))
    assert run(r, (30, [row("1", "10")])) == []
    assert (named(r, 1), named(r, 30)) == (NONE, NONE)


@pytest.mark.parametrize("order", [(1, 20, 40), (40, 20, 1), (20, 1, 40)])
@pytest.mark.parametrize("limit", [4096, 2])
def test_every_resent_row_is_compared_with_the_one_that_counts_whatever_came_first(
    tmp_path: Path, order: tuple[int, ...], limit: int
) -> None:
    rows = {1: [row("1", "10.00"), row("2", "1.00")], 20: [row("1", "12.00"), row("4", "1.00")], 40: [row("1", "12.00"), row("5", "1.00")]}
    r = case(tmp_path, text=DAYS)
    with patch.object(reduce, "IDS_MAX", limit):
        for day in order:
            run(r, (day, rows[day]))
    assert named(r, 1) == {**NONE, "later": {window(20): 1, window(40): 1}}
    assert named(r, 20) == {**NONE, "earlier": {window(1): 1}}
    assert named(r, 40) == {**NONE, "earlier": {window(1): 1}}
    assert r.show("A")["measures"]["paid"] == "13.00"


def test_a_correction_ends_a_conflict_and_both_windows_are_certified_again(tmp_path: Path) -> None:
    r = case(tmp_path, text=DAYS)
    run(r, (1, [row("1", "10.00")]), (2, [row("1", "12.00"), row("1", "13.00")]))
    assert named(r, 2) == {**NONE, "within": 1, "earlier": {window(1): 1}}
    assert run(r, (1, [row("1", "12.00")]), replace="d1-1-0-f.csv") == [window(2)]
    assert named(r, 1) == NONE
    assert named(r, 2) == {**NONE, "within": 1}
    assert run(r, (2, [row("1", "12.00")]), replace="d2-2-1-f.csv") == []
    assert named(r, 2) == NONE
    assert r.verify(full=True).ok


def test_a_later_window_is_certified_again_once_the_event_arrives_in_an_earlier_one(tmp_path: Path) -> None:
    r = case(tmp_path, text=DAYS)
    run(r, (20, [row("1", "12.00")]))
    assert run(r, (1, [row("1", "10.00")])) == [window(20)]
    certificate = r.certificate(window(20))
    assert certificate is not None
    assert (certificate["accepted"]["amount"], certificate["duplicates"]["amount"]) == ("0.00", "12.00")
    assert certificate["changed_by"]["reason"] == f"duplicates changed by {window(1)}"
    assert certificate["conflicts"] == {**NONE, "earlier": {window(1): 1}}


def test_an_id_under_two_keys_of_a_window_is_a_conflict_and_both_events_count(tmp_path: Path) -> None:
    r = case(tmp_path, text=DAYS)
    run(r, (1, [row("P1", "10.00"), row("P1", "10.00", key="B"), row("P2", "1.00"), row("P2", "1.00")]))
    assert named(r, 1) == {**NONE, "ids_under_two_keys": 1}
    assert (r.show("A")["measures"]["paid"], r.show("B")["measures"]["paid"]) == ("11.00", "10.00")
    assert r.verify(full=True).ok


def test_within_a_window_the_row_that_landed_first_counts(tmp_path: Path) -> None:
    for first, second in (("10.00", "12.00"), ("12.00", "10.00")):
        r = case(tmp_path / first, text=DAYS)
        run(r, (1, [row("1", first)]), (1, [row("1", second), row("1", first)]))
        assert r.show("A")["measures"]["paid"] == first
        assert named(r, 1) == {**NONE, "within": 1}


def test_one_id_from_two_sources_is_a_conflict(tmp_path: Path) -> None:
    r = case(tmp_path, "same-id-from-two-sources")
    r.land([tmp_path / "erp.csv", tmp_path / "psp.csv"], "2026-11-01T00:00Z", close=True, again=True)
    r.run()
    certificate = r.certificate("2026-11-01T00:00Z")
    assert certificate is not None
    assert certificate["conflicts"] == {**NONE, "within": 1}
