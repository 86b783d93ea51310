"""The sensor of aggregations: claims what is due once, follows its runs in Dagster, and mends what died."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

import dagster as dg
import pytest
from aggregations_in_dagster import DEFINITION, KEY, NAME, Dagster, aggregated
from dagster._core.errors import DagsterExecutionInterruptedError
from franchise import NAMES, WINDOW

import recon.aggregations.runs.carry_out as carrying
from recon.aggregations.warehouse.duckdb import DuckDBWarehouse
from recon.errors import WrongUsage
from recon.model.progress import silent
from recon_assets.aggregations import RUN_TAG

STATUS = dg.DagsterRunStatus


@pytest.fixture(scope="module")
def landed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site in which all files have landed."""
    dagster = Dagster(aggregated(tmp_path_factory.mktemp("landed")))
    dagster.deliver()
    return dagster.folder


@pytest.fixture
def dagster(landed: Path, tmp_path: Path) -> Dagster:
    return Dagster(Path(shutil.copytree(landed, tmp_path / "franchise")))


def states(dagster: Dagster) -> list[str]:
    return [run.state for run in dagster.runs()]


def test_twelve_of_thirteen_files_start_nothing_and_the_thirteenth_does(tmp_path: Path) -> None:
    dagster = Dagster(aggregated(tmp_path))
    assert dagster.tick() == "nothing new to aggregate"
    dagster.deliver(*NAMES[:-1])
    said = dagster.tick()
    assert f"{NAME}, {WINDOW} waits: 12 of 13 files: IL-911.tdf is missing; it has never come" in said
    assert dagster.observations() == ["waits: 12 of 13 files: IL-911.tdf is missing; it has never come"]
    again = dagster.tick()
    assert "IL-911.tdf is missing since" in again
    assert len(dagster.observations()) == 1
    dagster.deliver(NAMES[-1])
    request = dagster.requested()
    assert (request.partition_key, request.tags[RUN_TAG]) == (WINDOW, "1")
    assert dagster.launched(request).success
    assert states(dagster) == ["completed"]
    assert dagster.instance.get_materialized_partitions(KEY) == {WINDOW}
    assert dagster.tick() == "nothing new to aggregate"


def test_a_claim_whose_daemon_died_is_asked_for_again_by_the_same_key(dagster: Dagster) -> None:
    first, second = dagster.requested(), dagster.requested()
    assert first.run_key == second.run_key
    assert states(dagster) == ["claimed"]
    dagster.lapse()  # the daemon was away for longer than the lease
    assert dagster.requested().run_key == first.run_key
    assert dagster.launched(second).success
    assert states(dagster) == ["completed"]


def test_two_runs_of_dagster_for_one_claim_carry_it_out_once(dagster: Dagster) -> None:
    request = dagster.requested()
    assert dagster.launched(request).success
    assert dagster.launched(request).success
    assert len(dagster.runs()) == 1


def test_a_claim_in_dagsters_queue_is_kept_for_as_long_as_it_waits_there(dagster: Dagster) -> None:
    dagster.queued(dagster.requested(), STATUS.QUEUED)
    dagster.lapse()
    assert "run 1 is claimed by dagster" in dagster.tick()
    assert dagster.aggregations.runs.overdue() == []


def test_a_new_database_whose_numbers_begin_anew_is_not_mistaken_for_the_old_runs(dagster: Dagster, landed: Path) -> None:
    first = dagster.requested()
    dagster.queued(first, STATUS.SUCCESS)
    shutil.rmtree(dagster.folder)
    shutil.copytree(landed, dagster.folder.with_name("other"))
    other = Dagster(dagster.folder.with_name("other"), dagster.instance)
    request = other.requested()
    assert request.tags[RUN_TAG] == first.tags[RUN_TAG] == "1"
    assert request.run_key != first.run_key
    assert isinstance(other.tick(), list), "it was not launched yet"


def test_a_run_that_is_cancelled_in_the_queue_is_cancelled_and_waits_for_a_person(dagster: Dagster) -> None:
    dagster.queued(dagster.requested(), STATUS.CANCELED)
    said = dagster.tick()
    assert states(dagster) == ["cancelled"]
    assert "run 1 was cancelled" in said
    assert "recon aggregation run daily_sales" in said
    assert dagster.executed({"dagster/partition": WINDOW}).success
    assert states(dagster) == ["completed", "cancelled"]


def test_a_run_that_dagster_fails_before_it_begins_is_tried_three_times_each_its_own_record(dagster: Dagster) -> None:
    for attempt in (1, 2, 3):
        dagster.queued(dagster.requested(), STATUS.FAILURE)
        said = dagster.tick()
        assert f"attempt {attempt} of 3" in said
        assert "has ended; its log says why" in said
        dagster.wait()
    assert "waits for new input" in dagster.tick()
    assert [(run.state, run.attempt) for run in dagster.runs()] == [("failed", 3), ("failed", 2), ("failed", 1)]


def begun(dagster: Dagster, status: dg.DagsterRunStatus = STATUS.STARTED) -> dg.DagsterRun:
    """The claimed run has begun in a run of Dagster."""
    launched = dagster.queued(dagster.requested(), status)
    dagster.aggregations.runs.start(dagster.runs()[0], launched.run_id)
    return launched


def test_a_killed_run_of_which_dagster_knows_is_ended_at_once(dagster: Dagster) -> None:
    begun(dagster, STATUS.FAILURE)
    dagster.tick()
    assert states(dagster) == ["failed"]


def test_a_run_that_is_cancelled_while_it_runs_ends_as_cancelled_though_its_process_is_gone(dagster: Dagster) -> None:
    begun(dagster, STATUS.CANCELED)
    dagster.tick()
    assert states(dagster) == ["cancelled"]


def test_a_killed_run_of_which_dagster_does_not_know_ends_with_its_lease_and_fails_in_dagster(dagster: Dagster) -> None:
    launched = begun(dagster)
    assert "run 1 is running by" in dagster.tick()
    dagster.lapse()
    said = dagster.tick()
    assert "gave no sign of life since" in said
    assert states(dagster) == ["failed"]
    run = dagster.instance.get_run_by_id(launched.run_id)
    assert run is not None
    assert run.status is STATUS.FAILURE


@pytest.mark.parametrize("status", [STATUS.STARTED, STATUS.FAILURE])
def test_a_run_that_died_after_its_load_is_completed_by_the_ledger_and_green(dagster: Dagster, status: dg.DagsterRunStatus) -> None:
    begun(dagster, status)
    carrying._figures(dagster.aggregations, dagster.runs()[0], silent)
    dagster.lapse()
    dagster.tick()
    assert states(dagster) == ["completed"]
    assert dagster.instance.get_materialized_partitions(KEY) == {WINDOW}
    assert "the warehouse's ledger has it" in dagster.metadata()["note"]
    assert dagster.tick() == "nothing new to aggregate"


@pytest.mark.parametrize(("asked", "state"), [(True, "cancelled"), (False, "failed")])
def test_an_interruption_is_a_cancellation_only_if_a_person_asked_for_it(
    dagster: Dagster, monkeypatch: pytest.MonkeyPatch, asked: bool, state: str
) -> None:
    def interrupted(*_: object) -> None:
        (run,) = dagster.instance.get_runs(dg.RunsFilter(statuses=[STATUS.STARTED]))
        if asked:
            dagster.instance.report_run_canceling(run)
        raise DagsterExecutionInterruptedError

    monkeypatch.setattr(carrying, "compute", interrupted)
    with suppress(DagsterExecutionInterruptedError):
        dagster.launched(dagster.requested())
    assert states(dagster) == [state]
    assert dagster.runs()[0].reason == "interrupted"


def test_a_warehouse_that_may_not_be_asked_keeps_no_run_from_starting(dagster: Dagster, monkeypatch: pytest.MonkeyPatch) -> None:
    begun(dagster)
    carrying._figures(dagster.aggregations, dagster.runs()[0], silent)
    dagster.lapse()
    (dagster.folder / "aggregations" / "other.yaml").write_text(DEFINITION.replace("daily_sales", "other"))
    again = Dagster(dagster.folder, dagster.instance)

    def denied(*_: object) -> None:
        raise WrongUsage("warehouse: access is denied")

    with monkeypatch.context() as patch:
        patch.setattr(DuckDBWarehouse, "find", denied)
        assert again.requested().tags["recon/aggregation"] == "other"
    with monkeypatch.context() as patch:
        patch.setattr(DuckDBWarehouse, "sample", denied)
        patch.setattr(DuckDBWarehouse, "audit", denied)
        assert [request.tags["recon/aggregation"] for request in again.tick() if isinstance(request, dg.RunRequest)] == ["other"]
    assert dagster.instance.get_materialized_partitions(KEY) == set()
    again.tick()
    assert dagster.instance.get_materialized_partitions(KEY) == {WINDOW}


def test_what_is_late_is_reported_without_a_run(tmp_path: Path) -> None:
    dagster = Dagster(aggregated(tmp_path))
    dagster.deliver(*NAMES[:-1])
    dagster.tick()
    check = dagster.checks()["table_is_fresh"]
    assert not check.passed
    assert "0 of 13 files" in str(check.description)
    failing = check.metadata["failing"].value
    assert isinstance(failing, dict)
    assert dagster.runs() == []
