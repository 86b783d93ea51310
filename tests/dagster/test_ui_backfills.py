"""Backfills over windows that are missing, open, bad and good, in a real webserver with its daemon: what the UI shows of each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from small_reconciliation import landed, made, window
from webserver import asked, backfilled, served

from recon.api import Reconciliation
from recon_assets.assets import STAGE_ASSETS

STATUSES = """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode { assetPartitionStatuses {
  ... on TimePartitionStatuses { ranges { startKey endKey status } } } } } }"""
OBSERVED = """query($key: AssetKeyInput!, $of: [String!]) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
  assetObservations(partitions: $of) { description } } } }"""
RUNS = """query($id: String!) { runsOrError(filter: {tags: [{key: "dagster/backfill", value: $id}]}) { ... on Runs {
  results { status tags { key value } } } } }"""
KEYS = [{"path": ["orders", spec.name]} for spec in STAGE_ASSETS]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Reconciliation:
    """Window 0 is good, 1 holds nothing, 2 is open, 3 does not come to what its sender declared, 4 and 5 hold nothing."""
    opened = made(tmp_path_factory.mktemp("backfills"), hours=1)
    landed(opened, 2, close=False)
    path = opened.config.path.parent / "spoiled.csv"
    path.write_text("order_id,event_id,event_type,amount,currency\nA,1,INVOICE,10.00,EUR\n")
    opened.land([path], window(3), close=True, expect={"amount": {"EUR": "9"}})
    return opened


@pytest.fixture(scope="module")
def ui(site: Reconciliation) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch, served(site, sensors=False) as address:
        patch.delenv("DAGSTER_HOME", raising=False)
        yield address


def shown(ui: str, asset: str) -> dict[str, str]:
    """Window → its status, of all that are not missing."""
    found = asked(ui, STATUSES, key={"path": ["orders", asset]})["assetNodeOrError"]["assetPartitionStatuses"]["ranges"]
    return {window(hour): one["status"] for one in found for hour in range(24) if one["startKey"] <= window(hour) <= one["endKey"]}


def observed(ui: str, asset: str, hour: int) -> list[str]:
    found = asked(ui, OBSERVED, key={"path": ["orders", asset]}, of=[window(hour)])["assetNodeOrError"]["assetObservations"]
    return [str(one["description"]) for one in found]


def runs(ui: str, backfill: str) -> list[tuple[str, dict[str, str]]]:
    found = asked(ui, RUNS, id=backfill)["runsOrError"]["results"]
    return [(run["status"], {tag["key"]: tag["value"] for tag in run["tags"]}) for run in found]


def test_a_backfill_leaves_windows_missing_that_hold_nothing_or_are_open_and_says_why(ui: str, site: Reconciliation) -> None:
    # Of a range with a window that can be taken: the run does that one.
    backfill, status = backfilled(ui, KEYS, [window(0), window(1), window(2)])
    assert status == "COMPLETED_FAILED", "the backfill was to materialize two windows more"
    ((ended, tags),) = runs(ui, backfill)
    assert (ended, tags["recon/skipped"]) == ("SUCCESS", f"{window(1)}, {window(2)}")
    assert tags["recon/windows"] == f"{window(0)}..{window(2)}"
    for spec in STAGE_ASSETS:
        assert shown(ui, spec.name) == {window(0): "MATERIALIZED"}, spec.name
        assert observed(ui, spec.name, 1) == [f"skipped: {window(1)} is not closed: no files"]
        assert observed(ui, spec.name, 2)[0].startswith(f"skipped: {window(2)} is not closed: 1 file, ")
    assert set(site.state().windows) == {window(0)}
    # Of a range with a window that fails: that one is red, and its reason stands with it.
    backfill, status = backfilled(ui, KEYS, [window(1), window(2), window(3)])
    assert status == "COMPLETED_FAILED"
    ((ended, tags),) = runs(ui, backfill)
    assert (ended, tags["recon/failure"]) == ("FAILURE", "WrongInput")
    assert shown(ui, "event_batches") == {window(0): "MATERIALIZED", window(3): "MATERIALIZED"}
    for spec in STAGE_ASSETS[1:]:
        assert shown(ui, spec.name) == {window(0): "MATERIALIZED", window(3): "FAILED"}, spec.name
    assert any(told.startswith("failed: ") and "do not tie" in told for told in observed(ui, "stateless_artifacts", 3))
    # A window that is done stays green in the assets that such a run does not come to.
    backfilled(ui, KEYS, [window(hour) for hour in range(4)])
    for spec in STAGE_ASSETS[1:]:
        assert shown(ui, spec.name) == {window(0): "MATERIALIZED", window(3): "FAILED"}, spec.name
    # Of a range without one that can be taken: nothing was done, which is no success, but no window is at fault.
    backfill, status = backfilled(ui, KEYS, [window(4), window(5)])
    ((ended, tags),) = runs(ui, backfill)
    assert (ended, tags["recon/failure"]) == ("FAILURE", "NotReady")
    for spec in STAGE_ASSETS[1:]:
        assert shown(ui, spec.name) == {window(0): "MATERIALIZED", window(3): "FAILED"}, spec.name
