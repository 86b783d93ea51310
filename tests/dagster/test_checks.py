"""Asset checks: none is green while a window is short, in conflict, rejected as a whole, or could not be processed, whatever ran last.

On real stores and instances.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from small_reconciliation import landed, made, materialized, run, window

from recon.api import Reconciliation
from recon_assets.assets import asset_key
from recon_assets.partitions import range_tags


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


def checked(opened: Reconciliation, instance: dg.DagsterInstance, hour: int, stage: str = "everything") -> dict[str, str]:
    """Takes one window, and gives the checks that fail then, with what they say."""
    result = run(opened, range_tags(window(hour), window(hour)), instance, stage)
    told = {one.check_name: one for one in result.get_asset_check_evaluations() if one.check_name != "watermark_is_fresh"}
    return {name: str(one.description) for name, one in told.items() if not one.passed}


def expecting(folder: Path, files: int) -> Reconciliation:
    opened = made(folder)
    opened.config.path.write_text(f"{opened.config.path.read_text()}closing: {{files: {files}}}\n")
    return Reconciliation(opened.config.path)


def test_a_short_window_fails_files_complete_until_its_files_are_there_and_counted(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    opened = expecting(tmp_path, 2)
    landed(opened, 0, close=False)
    opened.close(window(0), "the bank is closed")
    told = f"{window(0)}: closed with 1 of 2 files"
    result = run(opened, range_tags(window(0), window(0)), instance)
    assert materialized(result, "event_batches")[window(0)]["state"] == "SHORT"
    assert materialized(result, "window_certificates")[window(0)]["state"] == "SHORT"
    assert {one.check_name: one.description for one in result.get_asset_check_evaluations() if not one.passed}["files_complete"] == told
    # A window that is complete does not turn the check green.
    for name in ("a", "b"):
        path = tmp_path / f"{name}.csv"
        path.write_text(f"order_id,event_id,event_type,amount,currency\nA,{name},INVOICE,10.00,EUR\n")
        opened.land([path], window(1))
    opened.close(window(1))
    assert checked(opened, instance, 1) == {"files_complete": told}
    path.write_text("order_id,event_id,event_type,amount,currency\nA,c,INVOICE,10.00,EUR\n")
    opened.land([path], window(0))
    assert checked(opened, instance, 0) == {}


def test_a_window_of_which_every_row_was_rejected_fails_until_it_is_corrected(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    opened = made(tmp_path)
    landed(opened, 0, "A,1,INVOICE,1O.00,EUR\nB,2,INVOICE,2O.00,EUR\n")
    told = {
        "rows_are_accepted": f"{window(0)}: every row was rejected, 2 in all",
        "amounts_are_readable": f"{window(0)}: amount of 2 rejected rows",
    }
    assert checked(opened, instance, 0) == told
    landed(opened, 1)
    assert checked(opened, instance, 1) == told
    landed(opened, 0, "A,1,INVOICE,10.00,EUR\n", replace="file-00.csv")
    assert checked(opened, instance, 0) == {}


def test_duplicates_that_differ_fail_in_their_window_and_across_windows(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    opened = made(tmp_path)
    landed(opened, 0, "A,1,INVOICE,10.00,EUR\nA,1,INVOICE,11.00,EUR\n")
    assert checked(opened, instance, 0) == {"duplicates_agree": f"{window(0)}: 1 duplicates differ from the row that counts"}
    landed(opened, 0, "A,1,INVOICE,10.00,EUR\nA,1,INVOICE,10.00,EUR\n", replace="file-00.csv")
    assert checked(opened, instance, 0) == {}
    landed(opened, 1, "A,1,INVOICE,12.00,EUR\n")
    told = checked(opened, instance, 1)["duplicates_agree"]
    assert told == (
        f"{window(0)}: 1 duplicates in {window(1)} differ from its rows; {window(1)}: 1 duplicates differ from rows of {window(0)}"
    )
    shown = materialized(run(opened, range_tags(window(0), window(1)), instance), "stateful_artifacts")
    assert [shown[window(hour)]["rows_in_conflict"] for hour in (0, 1)] == [1, 1]


def test_a_closed_window_that_could_not_be_processed_fails_at_the_next_run(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    opened = made(tmp_path)
    path = tmp_path / "spoiled.csv"
    path.write_text("order_id,event_id,event_type,amount,currency\nA,1,INVOICE,10.00,EUR\n")
    opened.land([path], window(0), close=True, expect={"amount": {"EUR": "9"}})
    assert not run(opened, range_tags(window(0), window(0)), instance).success
    landed(opened, 1)
    told = checked(opened, instance, 1)
    assert list(told) == ["windows_are_processed"]
    assert told["windows_are_processed"].startswith(f"window {window(0)} could not be processed: ")
    landed(opened, 0, replace="spoiled.csv")
    assert checked(opened, instance, 0) == {}


def test_the_reason_of_a_window_that_failed_is_among_its_events(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    opened = made(tmp_path, hours=1)
    path = tmp_path / "spoiled.csv"
    path.write_text("order_id,event_id,event_type,amount,currency\nA,1,INVOICE,10.00,EUR\n")
    opened.land([path], window(1), close=True, expect={"amount": {"EUR": "9"}})
    assert not run(opened, range_tags(window(0), window(1)), instance).success
    (record,) = instance.fetch_observations(asset_key("orders", "stateless_artifacts"), limit=9).records
    told = record.asset_observation
    assert told is not None
    assert told.partition == window(1)
    assert "the declared control totals do not tie" in str(told.description)
    assert str(told.description).startswith(f"failed: window {window(1)}")
    assert instance.get_materialized_partitions(asset_key("orders", "stateless_artifacts")) == {window(0)}


def test_accepted_and_duplicates_mean_one_thing_and_numbers_are_numbers(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    opened = made(tmp_path, hours=1)
    landed(opened, 1, "A0,e0-1,INVOICE,10.00,EUR\nC,c-1,INVOICE,0.10,EUR\nC,c-1,INVOICE,0.10,EUR\nD,d-1,INVOICE,0,USD\n")
    result = run(opened, range_tags(window(0), window(1)), instance)
    shown = {
        asset: materialized(result, asset)[window(1)] for asset in ("stateless_artifacts", "stateful_artifacts", "window_certificates")
    }
    for name in ("rows_accepted", "rows_duplicates", "rows_rejected", "rows_in"):
        assert len({asset[name] for asset in shown.values() if name in asset}) == 1, name
    # What only the merge knows is not shown of the window alone.
    reduced = shown["stateless_artifacts"]
    assert (reduced["rows_unique_in_window"], reduced["rows_duplicates_in_window"]) == (3, 1)
    assert "rows_accepted" not in reduced
    merged = shown["stateful_artifacts"]
    assert (merged["rows_accepted"], merged["rows_duplicates"]) == (2, 2)
    # Numbers plot; the exact amount is the text beside them.
    assert (merged["artifacts_BREAK"], merged["artifacts_MATCHED"]) == (3, 1)
    assert (merged["money_accepted"], merged["money_accepted_amount_EUR"]) == ("amount EUR 0.10, amount USD 0", 0.1)
    assert merged["money_rejected_amount_EUR"] == 0.0
