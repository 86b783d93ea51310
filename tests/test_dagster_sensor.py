"""The sensor that keeps up: which block it takes, how often, and that it says why it takes none."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster_store import QUIET, landed, made, window

from jobs.build import build_definitions
from jobs.sensors import Earlier, choose, digest_of_block
from recon.api import Reconciliation
from recon.pipeline import Due, due
from recon_assets.failures import FAILURE_TAG
from resources.stores import ReconciliationStore

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made_instance:
        yield made_instance


def tick(opened: Reconciliation, instance: dg.DagsterInstance) -> dg.RunRequest | dg.SkipReason:
    (sensor,) = build_definitions(opened.config.path).sensors or ()
    assert isinstance(sensor, dg.SensorDefinition)
    stores = {"orders_store": ReconciliationStore(config_file=str(opened.config.path))}
    with dg.build_sensor_context(instance=instance, resources=stores) as context:
        answer = sensor.evaluate_tick(context)
    (request,) = answer.run_requests or (None,)
    return request or dg.SkipReason(answer.skip_message)


def launched(opened: Reconciliation, request: object, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    """Does what the daemon does with a request."""
    assert isinstance(request, dg.RunRequest), request
    job = build_definitions(opened.config.path).resolve_job_def("orders_everything")
    return job.execute_in_process(instance=instance, tags=dict(request.tags), run_config=QUIET, raise_on_error=False)


def asked(request: object) -> tuple[str, str]:
    assert isinstance(request, dg.RunRequest), request
    return request.tags["dagster/asset_partition_range_start"], request.tags["dagster/asset_partition_range_end"]


def test_a_backlog_is_taken_in_blocks_of_consecutive_windows_oldest_first_and_a_gap_holds_up_nothing(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    opened = made(tmp_path, hours=3)
    landed(opened, 4)
    landed(opened, 5, close=False)
    first = tick(opened, instance)
    assert asked(first) == (window(0), window(2))
    assert launched(opened, first, instance).success
    second = tick(opened, instance)
    assert asked(second) == (window(4), window(4))
    assert launched(opened, second, instance).success
    assert set(opened.state().windows) == {window(hour) for hour in (0, 1, 2, 4)}
    third = tick(opened, instance)
    assert isinstance(third, dg.SkipReason)
    assert third.skip_message == f"{window(5)} is not closed: 1 file landed; 'recon close {window(5)}' closes it"


def test_a_corrected_window_is_launched_again_under_another_run_key(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    opened = made(tmp_path, hours=1)
    first = tick(opened, instance)
    block = digest_of_block(waiting_of(opened).ready)
    assert isinstance(first, dg.RunRequest)
    assert first.run_key == f"orders:everything:{window(0)}..{window(0)}:{block}:1"
    assert launched(opened, first, instance).success
    nothing = tick(opened, instance)
    assert isinstance(nothing, dg.SkipReason)
    assert nothing.skip_message == "everything that is closed is done"
    opened.replay(window(0))
    again = tick(opened, instance)
    assert asked(again) == asked(first)
    assert isinstance(again, dg.RunRequest)
    assert again.run_key != first.run_key


def test_without_a_store_or_with_other_rules_the_tick_says_so(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    opened = made(tmp_path, hours=1)
    assert launched(opened, tick(opened, instance), instance).success
    opened.config.path.write_text(opened.config.path.read_text().replace("balance = 0", "balance = 1"))
    answer = tick(opened, instance)
    assert isinstance(answer, dg.SkipReason)
    assert "the rules changed since commit 1" in str(answer.skip_message)


def test_a_run_under_way_is_waited_for_and_named(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    opened = made(tmp_path, hours=1)
    job = build_definitions(opened.config.path).resolve_job_def("orders_everything")
    run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    answer = tick(opened, instance)
    assert isinstance(answer, dg.SkipReason)
    assert f"run {run.run_id} is still STARTED since" in str(answer.skip_message)


def test_a_range_that_fails_on_its_data_is_halved_until_the_bad_window_stands_alone_and_is_named(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    opened = made(tmp_path)
    opened.config.path.write_text(opened.config.path.read_text() + "rejects: stop\n")
    opened = Reconciliation(opened.config.path)
    for hour in range(5):
        landed(opened, hour, "A,1,INVOICE,bad,EUR\n" if hour == 3 else None)
    runs = []
    while isinstance(answer := tick(opened, instance), dg.RunRequest):
        result = launched(opened, answer, instance)
        run = instance.get_run_by_id(result.run_id)
        assert run is not None
        runs.append((*asked(answer), run.tags.get(FAILURE_TAG)))
        assert len(runs) < 12
    assert runs[0] == (window(0), window(4), "WrongInput")
    assert (window(3), window(3), "WrongInput") in runs
    assert set(opened.state().windows) == {window(hour) for hour in (0, 1, 2, 4)}
    assert f"{window(3)} is left out since run" in str(answer.skip_message)
    landed(opened, 3, replace="file-03.csv")
    assert asked(tick(opened, instance)) == (window(3), window(3))


def waiting_of(opened: Reconciliation) -> Due:
    return due(opened.store(), opened.config, opened.state())


def test_another_failure_is_tried_again_ever_later_and_holds_up_no_other_block(tmp_path: Path) -> None:
    opened = made(tmp_path, hours=1)
    landed(opened, 2)
    waiting = waiting_of(opened)
    failed = digest_of_block(waiting.ready[:1])

    def earlier(runs: int) -> list[Earlier]:
        return [Earlier(f"r{number}", "TryAgain", NOW) for number in range(runs)]

    soon = choose(opened.config, waiting, lambda digest: earlier(1) if digest == failed else [], NOW)
    assert soon.block[0].window == window(2)
    assert "is tried again at 12:01:00Z: run r0 did not succeed" in soon.passed[0]
    later = choose(opened.config, waiting, lambda d: earlier(3) if d == failed else [], NOW + timedelta(seconds=60 * 4 - 1))
    assert later.block[0].window == window(2)
    then = choose(opened.config, waiting, lambda d: earlier(3) if d == failed else [], NOW + timedelta(seconds=60 * 4))
    assert (then.block[0].window, then.attempt) == (window(0), 4)
