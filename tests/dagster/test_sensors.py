"""The sensors that keep up: which block each takes, how often, who is in flight, and that a tick says why it starts nothing."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from sensor_ticks import STAGES, Sensors, asked
from small_reconciliation import QUIET, landed, made, refuse_to_merge, window

import recon
from jobs import in_flight
from jobs.asset_jobs import SENSED
from jobs.build import build_definitions
from jobs.next_block import Earlier, choose, digest_of
from recon.api import Reconciliation
from recon.config import Config
from recon.engines.select import engine_of
from recon.operations.upkeep import tidy
from recon.planning import quarantine
from recon.planning.candidates import Ready
from recon.stages import reduce
from recon.state.certificates import uncertified
from recon.storage import lease
from recon_assets.assets import CERTIFICATES, asset_key
from recon_assets.partitions import range_tags
from recon_assets.retries import AGAIN_AT_TAG
from resources.stores import ReconciliationStore

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made_instance:
        yield made_instance


def test_each_stage_takes_the_oldest_block_that_the_stage_before_has_finished_and_a_gap_holds_up_nothing(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    opened = made(tmp_path, hours=3)
    landed(opened, 4)
    landed(opened, 5, close=False)
    sensors = Sensors(opened, instance)
    assert sensors.tick("merge") == f"{window(0)}..{window(2)} are not reduced yet; {window(4)} is not reduced yet"
    first, second = (window(0), window(2)), (window(4), window(4))
    assert sensors.until_nothing_starts() == [
        *((stage, *first, None) for stage in STAGES),
        *((stage, *second, None) for stage in STAGES),
    ]
    assert set(opened.state().windows) == {window(hour) for hour in (0, 1, 2, 4)}
    assert not uncertified(opened.store(), opened.config, opened.state())
    assert sensors.said["reduce"].startswith(f"{window(5)} is not closed: 1 file, ")
    assert sensors.said["merge"] == "everything that is reduced is merged"
    assert sensors.said["index"] == "everything that is merged is indexed"
    assert sensors.said["certify"] == "everything that is merged is certified"


def test_a_tick_says_what_the_next_window_waits_for(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    sensors = Sensors(made(tmp_path), instance)
    assert sensors.tick("reduce") == f"everything that is closed is reduced; {window(0)} is not closed: no files"


def test_windows_that_land_while_a_range_is_on_its_way_are_taken_together(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    opened = made(tmp_path, hours=1)
    sensors = Sensors(opened, instance)
    assert sensors.launched("reduce", sensors.tick("reduce")).success
    for hour in (1, 2):
        landed(opened, hour)
    assert asked(sensors.tick("merge")) == (window(0), window(0))
    second = sensors.tick("reduce")
    assert asked(second) == (window(1), window(2))
    assert sensors.launched("reduce", second).success
    assert sensors.tick("reduce") == f"everything that is closed is reduced; {window(3)} is not closed: no files"


def test_a_corrected_window_is_launched_again_under_another_run_key(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    opened = made(tmp_path, hours=1)
    sensors = Sensors(opened, instance)
    first = sensors.tick("reduce")
    assert isinstance(first, dg.RunRequest)
    assert first.run_key == f"orders:reduce:{window(0)}:{digest_of(opened.config, 'reduce', [Ready(window(0), 1)])}:attempt 1"
    assert len(sensors.until_nothing_starts()) == 4
    opened.replay(window(0))
    again = sensors.tick("reduce")
    assert asked(again) == asked(first)
    assert isinstance(again, dg.RunRequest)
    assert again.run_key != first.run_key
    assert len(sensors.until_nothing_starts()) == 4


def test_a_store_done_by_others_needs_no_runs_and_a_lost_cursor_starts_none(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    opened = made(tmp_path, hours=3)
    opened.run()
    sensors = Sensors(opened, instance)
    assert sensors.until_nothing_starts() == []
    sensors.cursors = dict.fromkeys(STAGES, "no cursor")
    assert sensors.until_nothing_starts() == []


def test_with_other_rules_the_tick_says_so(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    opened = made(tmp_path, hours=1)
    opened.run()
    opened.config.path.write_text(opened.config.path.read_text().replace("balance = 0", "balance = 1"))
    assert "the rules changed since commit 1" in str(Sensors(opened, instance).tick("merge"))


@pytest.mark.parametrize("stage", STAGES)
def test_with_records_of_an_earlier_version_the_tick_says_so(tmp_path: Path, instance: dg.DagsterInstance, stage: str) -> None:
    with tarfile.open(Path(__file__).parents[1] / "data" / "store-of-format-4.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    said = str(Sensors(recon.open(tmp_path / "recon.yaml"), instance).tick(stage))
    assert said.endswith(
        "its records are JSON lines of an earlier version of Recon; run 'recon rebuild', which makes them again from the landed events"
    )


# ---- in flight -------------------------------------------------------------------------------------------------------


def started(instance: dg.DagsterInstance, opened: Reconciliation, stage: str, status: dg.DagsterRunStatus) -> str:
    job = build_definitions(opened.config.path).resolve_job_def(f"orders_{SENSED[stage]}")
    return instance.create_run_for_job(job, status=status, tags=range_tags(window(0), window(0))).run_id


def test_a_run_at_work_is_waited_for_and_named_but_only_by_its_own_stage(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    opened = made(tmp_path, hours=1)
    sensors = Sensors(opened, instance)
    held = lease.acquire(opened.store(), "stages/reduce", "r1", 60)
    assert held is not None
    assert str(sensors.tick("reduce")).startswith("run r1 is at reduce since ")
    assert "run r1" not in str(sensors.tick("merge"))
    held.release()
    assert asked(sensors.tick("reduce")) == (window(0), window(0))


def test_a_run_whose_heart_stopped_is_failed_in_dagster_and_taken_over(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    opened = made(tmp_path, hours=1)
    dead = started(instance, opened, "reduce", dg.DagsterRunStatus.STARTED)
    long_ago = datetime.now(UTC) - timedelta(minutes=5)
    assert lease.acquire(opened.store(), "stages/reduce", dead, 60, lambda: long_ago) is not None
    assert asked(Sensors(opened, instance).tick("reduce")) == (window(0), window(0))
    run = instance.get_run_by_id(dead)
    assert run is not None
    assert run.status is dg.DagsterRunStatus.FAILURE
    assert lease.current(opened.store(), "stages/reduce") is None


def test_a_range_that_is_still_being_reduced_is_not_merged_piece_by_piece(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    opened = made(tmp_path, hours=2)
    sensors = Sensors(opened, instance)
    assert sensors.launched("reduce", sensors.tick("reduce")).success
    landed(opened, 2)
    job = build_definitions(opened.config.path).resolve_job_def(f"orders_{SENSED['reduce']}")
    at_work = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags=range_tags(window(0), window(2)))
    held = lease.acquire(opened.store(), "stages/reduce", at_work.run_id, 60)
    assert held is not None
    said = f"{window(0)}..{window(1)} is reduced, the rest of its range is not: run {at_work.run_id} is at it up to {window(2)}"
    assert sensors.tick("merge") == said
    held.release()
    assert asked(sensors.tick("merge")) == (window(0), window(1))


def test_a_run_of_the_command_line_that_died_between_two_stages_is_failed_in_dagster(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    opened = made(tmp_path)
    job = build_definitions(opened.config.path).resolve_job_def("orders_everything")
    dead = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags=range_tags(window(0), window(0))).run_id
    long_ago = datetime.now(UTC) - timedelta(minutes=5)
    assert lease.acquire(opened.store(), "stages/everything", dead, 60, lambda: long_ago) is not None
    assert f"run {dead}: no heartbeat since" in str(Sensors(opened, instance).tick("reduce"))
    run = instance.get_run_by_id(dead)
    assert run is not None
    assert run.status is dg.DagsterRunStatus.FAILURE


def test_the_lease_of_a_run_that_is_over_in_dagster_is_not_waited_for(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    opened = made(tmp_path, hours=1)
    dead = started(instance, opened, "reduce", dg.DagsterRunStatus.STARTED)
    assert lease.acquire(opened.store(), "stages/reduce", dead, 60) is not None
    sensors = Sensors(opened, instance)
    assert f"run {dead} is at reduce since" in str(sensors.tick("reduce"))
    run = instance.get_run_by_id(dead)
    assert run is not None
    instance.report_run_failed(run, "Dagster saw its process go")
    assert asked(sensors.tick("reduce")) == (window(0), window(0))
    assert lease.holders(opened.store(), "stages") == {}


def test_a_run_that_waits_for_its_next_attempt_is_not_taken_for_dead_though_it_could_not_give_its_lease_back(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    opened, now = made(tmp_path, hours=1), datetime.now(UTC)
    waits = started(instance, opened, "reduce", dg.DagsterRunStatus.STARTED)
    assert lease.acquire(opened.store(), "stages/reduce", waits, 60, lambda: now - timedelta(minutes=5)) is not None
    instance.add_run_tags(waits, {AGAIN_AT_TAG: (now + timedelta(minutes=1)).isoformat()})
    sensors = Sensors(opened, instance)
    assert f"run {waits} waits for its next attempt at" in str(sensors.tick("reduce"))
    instance.add_run_tags(waits, {AGAIN_AT_TAG: (now - timedelta(seconds=1)).isoformat()})
    began = str(Sensors(opened, instance).tick("reduce"))
    assert f"run {waits} is STARTED without a heartbeat yet" in began, "its attempt has only begun"
    instance.add_run_tags(waits, {AGAIN_AT_TAG: (now - timedelta(minutes=5)).isoformat()})
    assert asked(sensors.tick("reduce")) == (window(0), window(0)), "it did not come back"


def test_a_run_that_never_comes_to_its_lease_is_failed_after_a_while(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    opened = made(tmp_path, hours=1)
    dead = started(instance, opened, "reduce", dg.DagsterRunStatus.STARTED)
    look = lambda before, now: in_flight.look(instance, opened.store(), "orders_land_and_reduce", ("land", "reduce"), before, now)  # noqa: E731
    first = look({}, NOW)
    assert f"run {dead} is STARTED without a heartbeat yet" in first.busy[0]
    assert look(first.unheard, NOW + timedelta(seconds=119)).busy
    after = look(first.unheard, NOW + timedelta(seconds=121))
    assert not after.busy
    assert dead in after.failed[0]


def test_a_stage_beats_while_it_works_and_gives_its_lease_back(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = made(tmp_path, hours=1)
    seen: list[Any] = []
    real = reduce.reduce_windows
    monkeypatch.setattr(reduce, "reduce_windows", lambda *a: (seen.append(lease.current(opened.store(), "stages/reduce")), real(*a))[1])
    sensors = Sensors(opened, instance)
    result = sensors.launched("reduce", sensors.tick("reduce"))
    assert [one.holder for one in seen] == [result.run_id]
    assert lease.holders(opened.store(), "stages") == {}


# ---- failures --------------------------------------------------------------------------------------------------------


def test_a_window_that_cannot_be_reduced_is_put_in_quarantine_and_the_others_go_on(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    opened = made(tmp_path)
    opened.config.path.write_text(opened.config.path.read_text() + "rejects: stop\n")
    opened = Reconciliation(opened.config.path)
    for hour in range(5):
        landed(opened, hour, "A,1,INVOICE,bad,EUR\n" if hour == 3 else None)
    sensors = Sensors(opened, instance)
    runs = sensors.until_nothing_starts()
    assert runs[0] == ("reduce", window(0), window(4), "WrongInput")
    assert [run[:3] for run in runs if run[0] == "merge"] == [("merge", window(0), window(2)), ("merge", window(4), window(4))]
    assert f"{window(3)} could not be processed at" in sensors.said["reduce"]
    assert "file-03.csv, line 2" in sensors.said["reduce"]
    shown = instance.get_materialized_partitions(dg.AssetKey(["orders", "stateless_artifacts"]))
    assert shown == {window(hour) for hour in (0, 1, 2, 4)}
    landed(opened, 3, replace="file-03.csv")
    assert asked(sensors.tick("reduce")) == (window(3), window(3))


BY_CURRENCY, IN_ALL = "control: {amount: {sum: amount, by: currency}}\n", "control: {amount: {sum: amount}}\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (BY_CURRENCY + "rejects: stop\n", BY_CURRENCY),
        (BY_CURRENCY + "limits: {control_groups: 1}\n", BY_CURRENCY),
        (BY_CURRENCY + "limits: {control_groups: 1}\n", IN_ALL + "limits: {control_groups: 1}\n"),
    ],
)
def test_a_window_in_quarantine_is_processed_when_what_it_was_judged_by_has_changed(
    tmp_path: Path, instance: dg.DagsterInstance, before: str, after: str
) -> None:
    opened = made(tmp_path)
    text = re.sub("(?m)^control:.*\n", "", opened.config.path.read_text())
    opened.config.path.write_text(text + before)
    opened = Reconciliation(opened.config.path)
    landed(opened, 0, "A,1,INVOICE,bad,EUR\nB,2,INVOICE,1.00,USD\n")
    sensors = Sensors(opened, instance)
    assert sensors.until_nothing_starts() == [("reduce", window(0), window(0), "WrongInput")]
    assert f"{window(0)} could not be processed at" in sensors.said["reduce"]
    opened.config.path.write_text(text + after)
    runs = Sensors(Reconciliation(opened.config.path), instance).until_nothing_starts()
    assert [(stage, failure) for stage, _, _, failure in runs] == [(stage, None) for stage in ("reduce", "merge", "index", "certify")]


def test_a_range_whose_merge_fails_on_its_data_is_halved_until_the_bad_window_stands_alone(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = made(tmp_path, hours=6)
    refuse_to_merge(monkeypatch, window(4))
    sensors = Sensors(opened, instance)
    runs = [(first, last, failure) for stage, first, last, failure in sensors.until_nothing_starts() if stage == "merge"]
    assert runs[0] == (window(0), window(5), "WrongInput")
    assert (window(4), window(4), "WrongInput") in runs
    assert set(opened.state().windows) == {window(hour) for hour in (0, 1, 2, 3, 5)}
    held = quarantine.read(opened.store(), opened.config.grid.parse(window(4)), 1, opened.config.rules_version)
    assert held is not None
    assert f"{window(4)} could not be processed at {held.time}: the totals do not tie" in sensors.said["merge"]


def earlier(config: Config, block: list[Ready], failure: str, runs: int = 1) -> list[Earlier]:
    digest = digest_of(config, "merge", block)
    return [Earlier(f"r{number}", failure, NOW, block[0].window, block[-1].window, digest) for number in range(runs)]


def test_another_failure_is_tried_again_ever_later_and_holds_up_nothing_behind_it(tmp_path: Path) -> None:
    config = made(tmp_path).config
    block = [Ready(window(0), 1), Ready(window(1), 1)]
    grown = [*block, Ready(window(2), 1)]
    soon = choose(config, "merge", grown, earlier(config, block, "TryAgain"), NOW)
    assert list(soon.block) == grown[2:]
    assert f"{window(0)}..{window(1)} is tried again at 12:01:00Z: run r0 did not succeed" in soon.passed[0]
    three = earlier(config, block, "TryAgain", 3)
    assert not choose(config, "merge", block, three, NOW + timedelta(seconds=60 * 4 - 1)).block
    assert list(choose(config, "merge", grown, three, NOW + timedelta(seconds=60 * 4)).block) == block


def test_a_first_kill_is_taken_over_from_at_once_and_a_block_killed_twice_is_halved(tmp_path: Path) -> None:
    config = made(tmp_path).config
    block = [Ready(window(hour), 1) for hour in range(4)]
    just_failed = earlier(config, block, "")
    assert list(choose(config, "merge", block, just_failed, NOW - timedelta(seconds=1)).block) == block, (
        "the tick that failed it takes over"
    )
    assert list(choose(config, "merge", block, earlier(config, block, "", 2), NOW).block) == block[:2]
    alone = earlier(config, block[:1], "", 3)
    assert not choose(config, "merge", block[:1], alone, NOW + timedelta(seconds=119)).block, "a window is not given up, but waits"
    assert choose(config, "merge", block[:1], alone, NOW + timedelta(seconds=120)).block


def test_a_range_that_a_person_cancelled_is_not_started_again_at_once(tmp_path: Path) -> None:
    config, block = made(tmp_path).config, [Ready(window(0), 1)]
    cancelled = [Earlier("r0", "", NOW, window(0), window(0), digest_of(config, "merge", block), cancelled=True)]
    assert not choose(config, "merge", block, cancelled, NOW + timedelta(seconds=59)).block
    assert choose(config, "merge", block, cancelled, NOW + timedelta(seconds=60)).block


def test_a_block_that_failed_on_its_data_stays_halved_while_the_backlog_grows(tmp_path: Path) -> None:
    config = made(tmp_path).config
    grown = [Ready(window(hour), 1) for hour in range(6)]
    runs = earlier(config, grown[:4], "WrongInput")
    assert list(choose(config, "merge", grown, runs, NOW).block) == grown[:2]
    runs += [*earlier(config, grown[:2], "WrongInput"), *earlier(config, grown[:1], "WrongInput")]
    choice = choose(config, "merge", grown, runs, NOW)
    assert list(choice.block) == grown[1:2]
    assert f"{window(0)} is left out since run r0 failed on its data" in choice.passed[0]
    corrected = [Ready(window(0), 2), *grown[1:]]
    assert list(choose(config, "merge", corrected, runs, NOW).block) == corrected


# ---- closing and upkeep ----------------------------------------------------------------------------------------------


def test_windows_are_closed_by_a_number_of_files_and_by_a_deadline(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    opened = made(tmp_path)
    opened.config.path.write_text(opened.config.path.read_text() + "closing: {files: 1}\n")
    opened = Reconciliation(opened.config.path)
    sensors = Sensors(opened, instance)
    assert sensors.tick("closing") == "nothing to close; 0 windows are open"
    landed(opened, 1, close=False)
    assert sensors.tick("closing") == f"{window(1)} was closed: 1 of 1 file"
    assert sensors.tick("closing") == "nothing to close; 0 windows are open"
    assert sensors.until_nothing_starts()[0] == ("reduce", window(1), window(1), None)
    days = (datetime.now(UTC) - opened.config.grid.start).days - 1
    opened.config.path.write_text(opened.config.path.read_text().replace("{files: 1}", f"{{files: 2, deadline: {days}d}}"))
    told = str(sensors.tick("closing"))
    assert f"{window(0)} was closed: deadline {days}d after the window's end; 0 of 2 files" in told
    assert json.loads(sensors.cursors["closing"] or "")["open"] == []
    assert sensors.tick("closing") == "nothing to close; 0 windows are open"


def test_a_machine_whose_clock_is_ahead_closes_no_window_before_its_deadline(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = made(tmp_path)
    opened.config.path.write_text(opened.config.path.read_text() + "closing: {files: 2, deadline: 36500d}\n")
    sensors = Sensors(Reconciliation(opened.config.path), instance)
    monkeypatch.setattr("recon.storage.clock.here", lambda: datetime.now(UTC) + timedelta(days=36600))
    assert sensors.tick("closing") == "nothing to close; 0 windows are open"
    assert opened_manifest(opened, 0) is None


def test_upkeep_certifies_what_is_not_and_sweeps_what_no_merge_will_use(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    opened = made(tmp_path, hours=3)
    store = opened.store()
    sensors = Sensors(opened, instance)
    assert sensors.launched("reduce", sensors.tick("reduce")).success
    assert sensors.launched("merge", sensors.tick("merge")).success
    assert len(uncertified(store, opened.config, opened.state())) == 3
    landed(opened, 3)
    assert sensors.launched("reduce", sensors.tick("reduce")).success
    done, ahead = (
        engine_of(opened.config).prefetch(
            store, opened.config, opened.state(), [reduce.reduce_windows(store, opened.config, [manifest])[0]]
        )
        for manifest in (opened_manifest(opened, 0), opened_manifest(opened, 3))
    )
    job = build_definitions(opened.config.path).resolve_job_def("orders_upkeep")
    result = job.execute_in_process(instance=instance, run_config=QUIET)
    assert result.success
    assert not uncertified(store, opened.config, opened.state())
    assert not store.exists(done.path)
    assert store.exists(ahead.path)
    again = tidy(store, opened.config, opened.state(), datetime.now(UTC))
    assert (again.certificates, again.prefetched) == (0, 0)


def test_upkeep_says_money_by_status_as_numbers_that_plot(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    path = made(tmp_path).config.path
    path.write_text(path.read_text().replace("id: event_id\n", "id: event_id\n  currency: currency\n"))
    opened = recon.open(path)
    landed(opened, 0, "A,1,INVOICE,10.00,EUR\nB,2,INVOICE,0.50,USD\nC,3,REFUND,7.00,EUR\n")
    landed(opened, 1, "D,4,INVOICE,2.25,EUR\n")
    opened.run()
    job = build_definitions(path).resolve_job_def("orders_upkeep")
    assert job.execute_in_process(instance=instance, run_config=QUIET).success
    (record,) = instance.fetch_observations(asset_key("orders", "stateful_artifacts"), limit=5).records
    observed = record.asset_observation
    assert observed is not None
    assert observed.partition == window(1)
    figures = {name: value.value for name, value in observed.metadata.items()}
    assert (figures["artifacts_BREAK"], figures["artifacts_MATCHED"]) == (3, 1)
    assert (figures["money_BREAK_EUR"], figures["money_BREAK_USD"]) == (12.25, 0.5)
    exact = [(row.data["status"], row.data["currency"], row.data["amount"]) for row in observed.metadata["by_status"].records]
    assert ("BREAK", "EUR", "12.25") in exact
    (record,) = instance.fetch_observations(asset_key("orders", CERTIFICATES), limit=5).records
    observed = record.asset_observation
    assert observed is not None
    assert (observed.partition, observed.metadata["day"].value, observed.metadata["verdict"].value) == (window(1), "2026-11-01", "right")
    assert [row.data["in"] for row in observed.metadata["windows"].records] == [3, 1]
    assert "EUR: 12.25" in str(observed.metadata["open_amounts"].value)


def opened_manifest(opened: Reconciliation, hour: int) -> Any:
    from recon.intake.manifests import read_manifest

    return read_manifest(opened.store(), opened.config.grid.parse(window(hour)))


def test_the_clock_is_off_until_it_is_wanted_and_takes_what_is_closed(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    opened = made(tmp_path, hours=2)
    landed(opened, 3)
    built = build_definitions(opened.config.path).schedules or ()
    schedules = {one.name: one for one in built if isinstance(one, dg.ScheduleDefinition)}
    assert schedules["orders_on_the_clock"].default_status is dg.DefaultScheduleStatus.STOPPED
    assert schedules["orders_nightly"].default_status is dg.DefaultScheduleStatus.RUNNING
    stores = {"orders_store": ReconciliationStore(config_file=str(opened.config.path))}
    with dg.build_schedule_context(instance=instance, resources=stores, scheduled_execution_time=NOW) as context:
        requests = schedules["orders_on_the_clock"].evaluate_tick(context).run_requests or []
    assert [asked(one) for one in requests] == [(window(0), window(1)), (window(3), window(3))]
