"""The tables of aggregations as assets: their place in the graph, their metadata and checks, and materializing them by hand."""

from __future__ import annotations

import shutil
from pathlib import Path

import dagster as dg
import duckdb
import pytest
from aggregations_in_dagster import DEFINITION, KEY, NAME, Dagster, aggregated
from dagster._core.storage.tags import PARENT_RUN_ID_TAG
from franchise import NAMES, WINDOW
from small_reconciliation import failures

import recon.aggregations.runs.carry_out as carrying
from jobs.build import build_definitions
from recon.aggregations.tick import tick
from recon_assets.aggregations import RUN_TAG
from recon_assets.partitions import PARTITION, RANGE_END, RANGE_START

BY_HAND = {PARTITION: WINDOW}


@pytest.fixture(scope="module")
def twelve(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site in which twelve of thirteen files have landed."""
    dagster = Dagster(aggregated(tmp_path_factory.mktemp("twelve")))
    dagster.deliver(*NAMES[:-1])
    return dagster.folder


@pytest.fixture
def dagster(twelve: Path, tmp_path: Path) -> Dagster:
    return Dagster(Path(shutil.copytree(twelve, tmp_path / "franchise")))


@pytest.fixture
def complete(dagster: Dagster) -> Dagster:
    """All thirteen files have landed."""
    dagster.deliver(NAMES[-1])
    return dagster


def specs(folder: Path) -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in build_definitions(folder / "recon.yaml").resolve_all_asset_specs()}


def test_a_table_is_downstream_of_the_clean_files_and_says_what_it_holds(tmp_path: Path) -> None:
    site = aggregated(tmp_path)
    (site / "aggregations" / "all_time.yaml").write_text(
        DEFINITION.replace("daily_sales", "all_time").replace("expect:", "per: all\nexpect:")
    )
    (site / "aggregations" / "after.yaml").write_text(DEFINITION.replace("daily_sales", "after") + "needs: {aggregation: daily_sales}\n")
    found = specs(site)
    table = found["franchise/aggregations/daily_sales"]
    assert [dep.asset_key.path[-1] for dep in table.deps] == ["clean_files"]
    assert sorted(dep.asset_key.path[-1] for dep in found["franchise/aggregations/after"].deps) == ["clean_files", NAME]
    columns = {column.name: (column.type, column.description) for column in table.metadata["dagster/column_schema"].columns}
    assert list(columns) == ["vendor", "item", "date", "sale", "tax", "discount"]
    assert columns["date"] == ("date", "key")
    assert columns["tax"][1] == "sum of amount where code = 5"
    assert "one row per vendor, item and date" in str(table.description)
    assert table.partitions_def == found["franchise/clean_files"].partitions_def
    assert found["franchise/aggregations/all_time"].partitions_def is None


def test_a_broken_definition_disables_only_itself_visibly(tmp_path: Path) -> None:
    site = aggregated(tmp_path)
    (site / "aggregations" / "wrong.yaml").write_text(DEFINITION.replace("amount", "amuont").replace("daily_sales", "wrong"))
    found = specs(site)
    assert "franchise/aggregations/daily_sales" in found
    assert "franchise/aggregations/wrong" not in found
    marker = found["franchise_wrong_configuration_error"]
    assert marker.group_name == "configuration_errors"
    assert "the source stores has no column 'amuont'" in str(marker.description)
    said = Dagster(site).tick()
    assert "wrong is disabled by a mistake" in said
    assert "amuont" in said


def test_loading_makes_neither_store_nor_database_and_needs_none(tmp_path: Path) -> None:
    site = aggregated(tmp_path)
    assert "franchise/aggregations/daily_sales" in specs(site)
    assert not (site / ".recon").exists()
    assert not (site / "store").exists()
    with (site / "recon.yaml").open("a") as file:
        file.write("database: {url: postgresql://127.0.0.1:1/none}\n")
    found = specs(site)
    assert "franchise/aggregations/daily_sales" in found
    assert "aggregations without a file are here after Reload" in str(found["franchise_aggregations_configuration_error"].description)


def test_a_row_that_was_inserted_by_sql_is_an_asset_after_a_reload_and_named_before(dagster: Dagster) -> None:
    dagster.tick()
    with dagster.aggregations.intake.database.write() as connection:
        connection.exec_driver_sql(
            'INSERT INTO aggregations (reconciliation, name, source, keys, measures, target) VALUES ("franchise", "by_vendor", "stores", '
            """'["vendor"]', '{"lines": {"count": "*"}}', "by_vendor")"""
        )
    said = dagster.tick()
    assert "by_vendor: new since this code location was loaded; press Reload" in said
    reloaded = Dagster(dagster.folder, dagster.instance)
    assert "franchise/aggregations/by_vendor" in specs(dagster.folder)
    request = reloaded.requested()
    assert request.asset_selection == [dg.AssetKey(["franchise", "aggregations", "by_vendor"])]


def test_a_window_by_hand_that_waits_says_why_and_is_not_green(dagster: Dagster) -> None:
    done = dagster.executed(BY_HAND)
    assert not done.success
    (said,) = failures(done)
    assert "12 of 13 files: IL-911.tdf is missing; it has never come" in said
    assert dagster.instance.get_materialized_partitions(KEY) == set()
    assert "12 of 13 files" in dagster.observations()[0]
    assert dagster.runs() == []


def test_a_window_by_hand_that_is_due_runs_and_again_changes_nothing(complete: Dagster) -> None:
    assert complete.executed(BY_HAND).success
    metadata = complete.metadata()
    assert metadata["totals"] == "sale 11,550.00, tax 10,020.00, discount 11,220.00"
    assert (metadata["dagster/row_count"], metadata["inserted"], metadata["run"], metadata["files"]) == (38, 38, 1, 13)
    assert "IL-911.tdf (version 13)" in metadata["file_names"]
    assert "x000" in metadata["sample"]
    assert "v101" not in metadata["sample"]
    assert (complete.folder / "store" / metadata["certificate"]).is_file()
    assert complete.executed(BY_HAND).success
    assert complete.metadata()["run"] == 1
    assert len(complete.runs()) == 1


def test_a_range_by_hand_reports_each_window_by_itself(complete: Dagster) -> None:
    done = complete.executed({RANGE_START: WINDOW, RANGE_END: "2016-06-02T00:00Z"})
    assert not done.success
    (said,) = failures(done)
    assert f"{NAME}, 2016-06-02T00:00Z waits: " in said
    assert "0 of 13 files" in said
    assert complete.instance.get_materialized_partitions(KEY) == {WINDOW}
    assert complete.runs()[0].state == "completed"


def test_the_checks_of_a_loaded_table_pass_and_fail_when_somebody_changes_it(complete: Dagster) -> None:
    assert complete.executed(BY_HAND).success
    found = complete.checks()
    assert {name for name, check in found.items() if check.passed} == {
        *("keys_are_unique", "keys_are_not_null", "totals_tie", "inputs_are_complete")
    }
    assert found["totals_tie"].description == "38 rows tie"
    with duckdb.connect(str(complete.folder / "warehouse.duckdb")) as connection:
        connection.execute("INSERT INTO daily_sales SELECT * FROM daily_sales WHERE sale IS NOT NULL ORDER BY ALL LIMIT 1")
        connection.execute("INSERT INTO daily_sales (recon_scope, recon_run) VALUES ('2016-07-01T00:00Z', 99)")
    assert complete.executed(BY_HAND).success
    found = complete.checks()
    assert found["keys_are_unique"].description == "1 keys are there more than once"
    assert found["keys_are_not_null"].description == "1 rows lack a key's value"
    said = str(found["totals_tie"].description)
    assert f"{WINDOW}: 39 rows, its last load had 38" in said
    assert "2016-07-01T00:00Z: 1 rows that no load has put there" in said


def test_checks_do_not_pass_before_anything_is_loaded(dagster: Dagster) -> None:
    dagster.executed(BY_HAND)
    key = dg.AssetSelection.checks_for_assets(KEY)
    job = dg.define_asset_job("checked", selection=key, executor_def=dg.in_process_executor)
    built = dg.Definitions.merge(dagster.definitions, dg.Definitions(jobs=[job])).resolve_job_def("checked")
    found = built.execute_in_process(instance=dagster.instance).get_asset_check_evaluations()
    assert len(found) == 5
    assert not any(check.passed for check in found)
    assert not (dagster.folder / "warehouse.duckdb").exists()


def test_a_window_loaded_at_its_deadline_fails_the_check_of_its_inputs_until_the_file_comes(twelve: Path, tmp_path: Path) -> None:
    site = Path(shutil.copytree(twelve, tmp_path / "franchise"))
    with (site / "aggregations" / f"{NAME}.yaml").open("a") as file:
        file.write("deadline: 6h\n")
    dagster = Dagster(site)
    assert dagster.launched(dagster.requested()).success
    check = dagster.checks()["inputs_are_complete"]
    assert not check.passed
    assert f"{WINDOW}: files set aside: the deadline 2016-06-02T06:00Z has passed" in str(check.description)
    assert "the deadline 2016-06-02T06:00Z has passed" in dagster.metadata()["set_aside"]
    dagster.deliver(NAMES[-1])
    assert dagster.launched(dagster.requested()).success
    assert dagster.checks()["inputs_are_complete"].passed
    assert "set_aside" not in dagster.metadata()


def test_an_aggregation_of_all_windows_has_no_partitions(complete: Dagster) -> None:
    (complete.folder / "aggregations" / f"{NAME}.yaml").write_text(DEFINITION.replace("expect:", "per: all\nexpect:"))
    dagster = Dagster(complete.folder)
    request = dagster.requested()
    assert request.partition_key is None
    assert dagster.launched(request).success
    assert dagster.metadata()["dagster/row_count"] == 38


def test_a_failed_run_is_red_is_not_tried_again_by_dagster_and_by_hand_it_is(complete: Dagster, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(carrying, "compute", broken)
        done = complete.launched(complete.requested())
    assert not done.success
    assert [run.state for run in complete.runs()] == ["failed"]
    assert "No space left" in complete.runs()[0].reason
    assert complete.instance.get_materialized_partitions(KEY) == set()
    assert "attempt 1 of 3" in complete.tick()
    tags = {**BY_HAND, RUN_TAG: str(complete.runs()[0].id)}
    assert not complete.executed(tags).success, "the claim was given up"
    assert len(complete.runs()) == 1
    tags |= {PARENT_RUN_ID_TAG: done.run_id}  # as a re-execution has them
    assert complete.executed(tags).success
    assert [run.state for run in complete.runs()] == ["completed", "failed"]


def test_a_run_of_the_command_line_is_shown_by_the_next_tick_once(complete: Dagster) -> None:
    site = complete.aggregations
    (claimed,) = tick(site).claimed
    carrying.carry_out(site, claimed, "somebody")
    complete.tick()
    assert complete.instance.get_materialized_partitions(KEY) == {WINDOW}
    assert complete.metadata()["run"] == 1
    assert complete.checks()["totals_tie"].passed
    complete.tick()
    assert len(complete.instance.fetch_materializations(KEY, limit=9).records) == 1
