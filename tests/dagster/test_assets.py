"""Assets on the grid of windows: what they refuse, what they do once and again, and what the UI shows of each window.

On real, short-lived Dagster instances. The library's own laws are tested elsewhere (test_laws).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from range_runs import materialize_range
from small_reconciliation import failures, landed, made, materialized, run, window

from recon.api import Reconciliation
from recon.errors import WrongUsage
from recon.model.windows import Grid, name_of
from recon.storage import layout
from recon_assets.assets import STAGE_ASSETS, asset_key
from recon_assets.partitions import chosen_tags, partitions_of, range_tags, windows_asked
from recon_assets.retries import FAILURE_TAG

TOMORROW = name_of(datetime.now(UTC).replace(minute=0) + timedelta(days=1))
NAMES = [spec.name for spec in STAGE_ASSETS]


def rows_and_money(*sides: str) -> set[str]:
    """Rows and money of each side: money as exact text, and as a number for each currency."""
    numbers = {f"money_{side}_amount_{currency}" for side in sides for currency in ("EUR", "USD")}
    return {f"{what}_{side}" for what in ("rows", "money") for side in sides} | numbers


ROWS_AND_MONEY = {*rows_and_money("in", "accepted", "duplicates", "rejected"), "rows_in_conflict"}
SIDES = ("expected", "received", "late", "duplicates", "rejected")
METADATA = {
    "event_batches": {"window", "revision", "state", "files", "bytes", "file_names", "changed_by", "landed"},
    "stateless_artifacts": {
        *("window", "revision", "dagster/row_count", "keys", "bytes", "seconds", "conflicting_duplicates"),
        *rows_and_money("in", "unique_in_window", "duplicates_in_window", "rejected"),
    },
    "prefetched_artifacts": {
        *("window", "revision", "keys", "merged_before"),
        *("range_keys", "range_records_found", "range_bytes", "range_seconds", "read_at_commit"),
    },
    "stateful_artifacts": {
        *("window", "revision", "commit", "dagster/row_count", "keys", "landed_to_visible_seconds"),
        *("range_windows", "range_records_written", "range_bytes", "range_seconds", "recounted_windows"),
        *("artifacts_BREAK",),
        *ROWS_AND_MONEY,
    },
    "artifact_index": {
        *("window", "commit", "keys", "runs", "runs_merged", "entries", "range_seconds"),
        *("disk_to_live", "written_to_changed", "bounded", "part_files_compacted", "part_files_given_up", "put_off"),
    },
    "window_certificates": {
        *("window", "certificate", "number", "state", "ties", "revision", "commit", "files", "keys", "rules"),
        *("changed_by", "certified", "completeness", "closed", "files_expected", "files_late"),
        *ROWS_AND_MONEY,
    },
}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made_instance:
        yield made_instance


@dataclass(frozen=True)
class Done:
    """Three windows taken through all stages in one run."""

    opened: Reconciliation
    result: dg.ExecuteInProcessResult
    instance: dg.DagsterInstance


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    opened = made(tmp_path_factory.mktemp("done"), hours=2)
    # The third window: one row that repeats an event of the first, one whose amount cannot be read.
    landed(opened, 2, "A0,e0-1,INVOICE,10.00,EUR\nC,e2-9,INVOICE,1O.00,USD\nD,e2-8,INVOICE,3.00,EUR\n")
    with dg.DagsterInstance.ephemeral() as kept:
        yield Done(opened, run(opened, range_tags(window(0), window(2)), kept), kept)


def test_one_run_over_a_range_is_one_commit_and_certifies_each_window(done: Done) -> None:
    assert done.result.success
    assert done.opened.state().commit == 1
    assert [done.opened.certificate(window(hour))["number"] for hour in range(3)] == [1, 1, 1]
    assert done.opened.verify(full=True).problems == []


def test_every_asset_materializes_just_the_windows_of_the_range(done: Done) -> None:
    for name in NAMES:
        assert set(materialized(done.result, name)) == {window(0), window(1), window(2)}
        assert done.instance.get_materialized_partitions(dg.AssetKey(["orders", name])) == {window(h) for h in range(3)}


def test_each_window_shows_its_own_figures(done: Done) -> None:
    for name in NAMES:
        for shown in materialized(done.result, name).values():
            assert set(shown) - {"dagster/code_version", "dagster/data_version"} >= METADATA[name]
            assert {key for key in shown if not key.startswith("dagster/")} <= METADATA[name]
    third = materialized(done.result, "stateful_artifacts")[window(2)]
    assert [third[f"rows_{side}"] for side in ("in", "accepted", "duplicates", "rejected")] == [3, 1, 1, 1]
    assert third["money_in"] == "amount EUR 13.00, amount USD 0"
    first = materialized(done.result, "stateful_artifacts")[window(0)]
    assert first["money_accepted"] == "amount EUR 10.00, amount USD 0.50"


def test_the_certificate_is_shown_as_a_table_that_ties(done: Done) -> None:
    table = materialized(done.result, "window_certificates")[window(0)]["certificate"]
    lines = [record.data for record in table.records]
    assert [line["total"] for line in lines] == ["rows", "amount EUR", "amount USD"]
    assert all(line["ties"] == "ties" for line in lines)
    assert (lines[1]["in"], lines[2]["in"]) == ("10.00", "0.50")


def test_checks_report_what_the_stages_enforced_and_name_the_windows(done: Done) -> None:
    checks = {one.check_name: one for one in done.result.get_asset_check_evaluations()}
    assert checks["windows_tie"].passed
    assert checks["windows_tie"].metadata["windows_checked"].value == 3
    readable = checks["amounts_are_readable"]
    assert not readable.passed
    assert readable.severity is dg.AssetCheckSeverity.WARN
    assert readable.metadata["failing"].value == {window(2): "amount of 1 rejected rows"}


def test_the_certificate_shows_whether_the_window_closed_and_what_was_expected_received_late_and_rejected(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    opened = made(tmp_path)
    opened.config.path.write_text(opened.config.path.read_text() + "closing: {files: 1}\n")
    opened = type(opened)(opened.config.path)
    first = tmp_path / "first.csv"
    first.write_text("order_id,event_id,event_type,amount,currency\nA,1,INVOICE,10.00,EUR\nA,1,INVOICE,10.00,EUR\n")
    opened.land([first], window(0), close=True, expect={"rows": 2, "amount": {"EUR": "20.00"}})
    late = tmp_path / "late.csv"
    late.write_text("order_id,event_id,event_type,amount,currency\nB,2,INVOICE,2.50,USD\nC,3,INVOICE,2.5O,USD\n")
    opened.land([late], window(0))
    shown = materialized(run(opened, range_tags(window(0), window(0)), instance), "window_certificates")[window(0)]
    lines = {record.data["what"]: [record.data[side] for side in SIDES] for record in shown["completeness"].records}
    assert lines == {
        "files": ["1", "2", "1", "–", "1"],
        "rows": ["2", "4", "2", "1", "1"],
        "amount EUR": ["20.00", "20.00", "–", "10.00", "–"],
        "amount USD": ["–", "2.50", "2.50", "0.00", "0"],
    }
    assert (shown["files_expected"], shown["files_late"]) == (1, 1)
    assert " by " in shown["closed"]


def objects(opened: Reconciliation) -> list[str]:
    """All that lies in the store but leases, which say who was at work last."""
    return sorted(path for path in opened.store().list("") if not path.startswith("leases/"))


def test_the_same_range_again_changes_nothing(done: Done) -> None:
    before = objects(done.opened)
    with dg.DagsterInstance.ephemeral() as fresh:
        again = run(done.opened, range_tags(window(0), window(2)), fresh)
    assert again.success
    assert objects(done.opened) == before
    assert set(materialized(again, "stateful_artifacts")) == {window(0), window(1), window(2)}
    assert all(shown["merged_before"] for shown in materialized(again, "prefetched_artifacts").values())


@pytest.mark.parametrize(
    ("first", "last", "told"),
    [
        ("2026-11-01T00:00Z", "2026-11-01T01:30Z", "2026-11-01T01:30Z is not on the grid of windows"),
        ("2026-11-01T01:00Z", "2026-11-01T00:00Z", "the range ends before it begins"),
        ("2026-11-01T00:00Z", TOMORROW, f"window {TOMORROW} has not begun yet"),
        ("2026-10-31T23:00Z", "2026-11-01T00:00Z", "lies before the first window"),
    ],
)
def test_a_range_that_is_none_is_refused_by_every_stage(done: Done, instance: dg.DagsterInstance, first: str, last: str, told: str) -> None:
    before = sorted(done.opened.store().list(""))
    result = run(done.opened, range_tags(first, last), instance, "merge")
    assert not result.success
    assert told in failures(result)[0]
    assert not materialized(result, "stateful_artifacts")
    assert sorted(done.opened.store().list("")) == before


def test_windows_are_asked_for_by_arithmetic_at_any_size_of_the_grid() -> None:
    grid = Grid(datetime(2020, 1, 1, tzinfo=UTC), timedelta(minutes=1))
    tags = range_tags("2026-11-01T00:00Z", "2026-11-01T00:59Z")
    assert len(windows_asked(grid, tags, datetime(2026, 11, 22, tzinfo=UTC))) == 60
    with pytest.raises(WrongUsage, match="names no windows"):
        windows_asked(grid, {}, datetime(2026, 11, 22, tzinfo=UTC))


@pytest.mark.parametrize("minutes", [1, 5, 15, 60, 120, 360, 1440])
def test_partitions_are_the_cells_of_the_grid_and_the_open_one(minutes: int) -> None:
    grid = Grid(datetime(2026, 11, 1, tzinfo=UTC), timedelta(minutes=minutes))
    partitions = partitions_of(grid)
    now = datetime(2026, 11, 3, 10, 7, tzinfo=UTC)
    with dg.partition_loading_context(now):
        keys = partitions.get_partition_keys()
    assert keys[0] == "2026-11-01T00:00Z"
    assert [grid.parse(key) for key in keys] == list(grid.between(grid.start, grid.last_begun(now)))


def test_a_range_with_windows_that_are_not_ready_is_refused_before_any_work(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    opened = made(tmp_path, hours=1)
    landed(opened, 2, close=False)
    before = objects(opened)
    # Windows that Recon itself has chosen were ready; without one that can be taken nothing was done.
    for stage, tags in (("land", chosen_tags(opened.config.grid, window(0), window(4))), ("reduce", range_tags(window(1), window(4)))):
        told = failures(run(opened, tags, instance, stage))
        assert len(told) == 1
        assert "4 windows not ready" in told[0]
        assert f"{window(1)} (nothing has landed), {window(2)} (still open)" in told[0]
        assert f"{window(3)}..{window(4)} (nothing has landed)" in told[0]
    told = failures(run(opened, range_tags(window(0), window(0)), instance, "merge"))
    assert f"{window(0)} (not reduced yet); materialize orders/stateless_artifacts" in told[0]
    told = failures(run(opened, range_tags(window(0), window(0)), instance, "certify"))
    assert f"{window(0)} (not merged yet); materialize orders/stateful_artifacts" in told[0]
    assert objects(opened) == before


def test_of_a_range_the_windows_that_hold_nothing_or_are_open_are_skipped(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    opened = made(tmp_path, hours=1)
    landed(opened, 2, close=False)
    landed(opened, 3)
    result = run(opened, range_tags(window(0), window(4)), instance)
    assert result.success
    assert set(opened.state().windows) == {window(0), window(3)}
    for spec in STAGE_ASSETS:
        assert set(materialized(result, spec.name)) == {window(0), window(3)}, spec.name
        assert instance.get_materialized_partitions(asset_key("orders", spec.name)) == {window(0), window(3)}
    seen = {event.asset_observation_data.asset_observation.partition for event in result.all_events if event.is_asset_observation}
    assert seen == {window(1), window(2), window(4)}
    tags = instance.get_run_by_id(result.run_id)
    assert tags is not None
    assert tags.tags["recon/skipped"] == f"{window(1)}, {window(2)}, {window(4)}"
    assert "dagster/defer_asset_events" not in tags.tags
    (ties,) = [one for one in result.get_asset_check_evaluations() if one.check_name == "windows_tie"]
    assert (ties.passed, ties.metadata["windows_checked"].value) == (True, 2)


def test_a_single_window_chosen_in_the_ui_is_a_range_of_one(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    opened = made(tmp_path, hours=2)
    result = run(opened, {"dagster/partition": window(1)}, instance)
    assert result.success
    assert set(opened.state().windows) == {window(1)}


def test_stages_run_one_by_one_hand_over_through_the_store(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = made(tmp_path, hours=3)
    tags = range_tags(window(0), window(2))
    for stage in ("land", "reduce", "prefetch"):
        assert run(opened, tags, instance, stage).success
    assert len(list(opened.store().list("prefetched/"))) == 1
    again = run(opened, tags, instance, "prefetch")
    assert len(list(opened.store().list("prefetched/"))) == 1, "the file that stands there is taken"
    assert materialized(again, "prefetched_artifacts")[window(0)]["range_keys"] == 4

    def unwanted(*_: object) -> None:
        raise AssertionError("the merge was to take the pre-fetched file")

    monkeypatch.setattr("recon.engines.duckdb.slices.find_existing", unwanted)
    assert run(opened, tags, instance, "merge").success
    assert list(opened.store().list("prefetched/")) == []
    assert run(opened, tags, instance, "certify").success
    assert opened.verify(full=True).problems == []


def test_a_merge_without_a_usable_prefetched_file_reads_the_records_itself(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    opened = made(tmp_path, hours=2)
    tags = range_tags(window(0), window(1))
    assert run(opened, tags, instance, "reduce").success
    opened.store().put_new(layout.prefetched("0" * 16), [b"cut off"])
    for stage in ("merge", "certify"):
        assert run(opened, tags, instance, stage).success
    assert opened.verify(full=True).problems == []


def test_a_prefetched_file_of_other_revisions_is_not_taken(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    opened = made(tmp_path, hours=1)
    tags = range_tags(window(0), window(0))
    for stage in ("reduce", "prefetch"):
        assert run(opened, tags, instance, stage).success
    landed(opened, 0, "A0,e0-1,INVOICE,11.00,EUR\n", replace="file-00.csv")
    assert run(opened, tags, instance, "reduce").success
    assert run(opened, tags, instance, "merge").success
    assert len(list(opened.store().list("prefetched/"))) == 1, "the file of revision 1 was not used"
    assert opened.show("A0")["measures"]["billed"] == "11.00"
    assert run(opened, tags, instance, "certify").success
    assert opened.verify(full=True).problems == []


def test_a_corrected_window_is_merged_and_certified_again(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    opened = made(tmp_path, hours=2)
    assert run(opened, range_tags(window(0), window(1)), instance).success
    landed(opened, 0, "A0,e0-1,INVOICE,12.00,EUR\n", replace="file-00.csv")
    told = failures(run(opened, range_tags(window(0), window(1)), instance, "merge"))
    assert f"{window(0)} (not reduced yet)" in told[0]
    result = run(opened, range_tags(window(0), window(1)), instance)
    assert result.success
    shown = materialized(result, "window_certificates")
    assert (shown[window(0)]["number"], shown[window(1)]["number"]) == (2, 1)
    assert shown[window(0)]["changed_by"] == "replace"
    assert opened.verify(full=True).problems == []


def test_a_window_recounted_by_an_earlier_one_is_certified_and_observed(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    opened = made(tmp_path)
    landed(opened, 1, "A,same,INVOICE,10.00,EUR\n")
    landed(opened, 0, "A,same,INVOICE,10.00,EUR\n")
    assert run(opened, range_tags(window(1), window(1)), instance).success
    result = run(opened, range_tags(window(0), window(0)), instance)
    assert result.success
    assert opened.certificate(window(1))["number"] == 2
    observed = [e.asset_observation_data.asset_observation for e in result.all_events if e.is_asset_observation]
    assert [(one.partition, one.metadata["rows_duplicates"].value) for one in observed] == [(window(1), 1)]
    assert set(materialized(result, "window_certificates")) == {window(0)}


def test_bad_data_fails_at_once_in_one_line_and_marks_the_run(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    opened = made(tmp_path)
    path = tmp_path / "declared.csv"
    path.write_text("order_id,event_id,event_type,amount,currency\nA,1,INVOICE,10.00,EUR\n")
    opened.land([path], window(0), close=True, expect={"amount": {"EUR": "11.00"}})
    result = run(opened, range_tags(window(0), window(0)), instance)
    assert not result.success
    (told,) = failures(result)
    assert told.startswith(f"window {window(0)}: declared.csv: the declared control totals do not tie")
    assert "\n" not in told
    assert instance.get_run_by_id(result.run_id).tags["recon/failure"] == "WrongInput"
    assert not [event for event in result.all_events if event.is_step_up_for_retry]


def test_other_rules_than_the_stores_are_refused_by_each_stage(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    opened = made(tmp_path, hours=1)
    assert run(opened, range_tags(window(0), window(0)), instance).success
    opened.config.path.write_text(opened.config.path.read_text().replace("balance = 0", "balance = 1"))
    for stage in ("land", "reduce", "prefetch", "merge", "index", "certify"):
        result = run(opened, range_tags(window(0), window(0)), instance, stage)
        assert not result.success
        assert "the rules changed since commit 1" in failures(result)[0]
        assert instance.get_run_by_id(result.run_id).tags["recon/failure"] == "WrongUsage"


def test_without_a_store_the_run_says_what_to_do(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    opened = made(tmp_path)
    (tmp_path / "orders_data" / "store.json").unlink()
    (tmp_path / "orders_data" / "tmp").rmdir()
    (tmp_path / "orders_data").rmdir()
    assert "there is no store; land a first file" in failures(run(opened, range_tags(window(0), window(0)), instance))[0]


@pytest.mark.parametrize(
    ("stage", "work"),
    [
        ("reduce", "reduce_windows"),
        ("prefetch", "find_prefetched"),
        ("merge", "merge_windows"),
        ("index", "merge_tiers"),
        ("certify", "certify_windows"),
    ],
)
def test_a_store_that_goes_away_in_the_middle_of_a_stage_blames_no_data(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, stage: str, work: str
) -> None:
    opened, asked = made(tmp_path, hours=2), range_tags(window(0), window(1))
    for before in ("reduce", "prefetch", "merge", "index", "certify"):
        if before == stage:
            break
        assert run(opened, asked, instance, before).success
    module: Any = import_module(f"recon.stages.{stage}")
    real = getattr(module, work)

    def gone(*arguments: Any) -> Any:
        (tmp_path / "orders_data").rename(tmp_path / "away")
        return real(*arguments)

    monkeypatch.setattr(module, work, gone)
    lost = instance.get_run_by_id(run(opened, asked, instance, stage).run_id)
    assert lost is not None
    assert lost.tags[FAILURE_TAG] in ("TryAgain", "WrongUsage"), "anything else would leave the range out for good"
    assert not (tmp_path / "orders_data").exists(), "nothing is made in its place"
    monkeypatch.setattr(module, work, real)
    (tmp_path / "away").rename(tmp_path / "orders_data")
    assert run(opened, asked, instance).success


def test_materialize_range_gives_the_figures_and_the_failure(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    opened = made(tmp_path, hours=1)
    fine = materialize_range(opened.config, window(0), window(0), instance)
    assert fine.failed == {}
    assert fine.metadata["stateful_artifacts"][window(0)]["rows_accepted"] == 2
    tags = instance.get_run_by_id(fine.run_id).tags
    assert (tags["recon/stage"], tags["recon/reconciliation"]) == ("orders.everything", "orders")
    with pytest.raises(WrongUsage, match="the range ends before it begins"):
        materialize_range(opened.config, window(1), window(0), instance)
    bad = materialize_range(opened.config, window(0), window(1), instance)
    assert list(bad.failed) == ["orders__event_batches"]
    assert "nothing has landed" in bad.failed["orders__event_batches"]


def test_a_long_range_is_cut_into_blocks_of_the_configured_size(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    opened = made(tmp_path)
    opened.config.path.write_text(opened.config.path.read_text() + "caps: {windows: 2}\n")
    opened = type(opened)(opened.config.path)
    for hour in range(5):
        landed(opened, hour)
    assert run(opened, range_tags(window(0), window(4)), instance).success
    commits = [opened.state().windows[window(hour)].commit for hour in range(5)]
    assert commits == [1, 1, 2, 2, 3]
    assert list(opened.store().list("prefetched/")) == []
    assert opened.verify(full=True).problems == []
