"""Received and clean files in Dagster: a sensor, a delivery run, the two assets before ``event_batches``, and the check of late files."""

from __future__ import annotations

import os
import shutil
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import dagster as dg
import pytest
from folders import EXAMPLES
from franchise import NAMES, WINDOW, arrive, made
from small_reconciliation import QUIET

import recon
from jobs.arrivals import delivery_sensor
from jobs.build import build_definitions
from jobs.sensors import shown
from recon.intake.queues import whole
from recon.intake.sources import quiet
from recon_assets.intake_metadata import masked
from resources.database import SiteDatabase


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return made(tmp_path)


class Site:
    """The definitions of a site, with an instance of Dagster in memory."""

    def __init__(self, folder: Path) -> None:
        self.config, self.instance = folder / "recon.yaml", dg.DagsterInstance.ephemeral()
        self.definitions = build_definitions(self.config)

    def tick(self) -> dg.RunRequest | str:
        sensor = delivery_sensor(recon.open(self.config).config)
        resources = {"franchise_database": SiteDatabase(config_file=str(self.config))}
        with dg.build_sensor_context(instance=self.instance, resources=resources) as context:
            answer = sensor.evaluate_tick(context)
        (request,) = answer.run_requests or (None,)
        return request or str(answer.skip_message)

    def deliver(self) -> dg.ExecuteInProcessResult:
        return self.definitions.resolve_job_def("franchise_deliver").execute_in_process(instance=self.instance, run_config=QUIET)

    def metadata(self, asset: str) -> dict[str, object]:
        event = self.instance.get_latest_materialization_event(dg.AssetKey(["franchise", asset]))
        assert event is not None
        assert event.asset_materialization is not None
        return {name: value.value for name, value in event.asset_materialization.metadata.items()}


def test_files_that_arrive_start_one_run_that_takes_them_to_their_window(site: Path) -> None:
    dagster = Site(site)
    assert "no new files" in str(dagster.tick())
    arrive(site, *NAMES[:-1])
    first, second = dagster.tick(), dagster.tick()
    assert isinstance(first, dg.RunRequest)
    assert isinstance(second, dg.RunRequest)
    assert first.run_key == second.run_key
    assert dagster.deliver().success
    assert "no new files" in str(dagster.tick())
    received, clean = dagster.metadata("received_files"), dagster.metadata("clean_files")
    assert "12 of 13 expected files" in str(received["arrivals"])
    assert NAMES[-1] in str(received["arrivals"])
    assert (clean["rows"], clean["dagster/row_count"], clean["rejected_rows"]) == (98, 96, 2)
    assert "v000" not in str(clean["sample"])
    assert "x000" in str(clean["sample"])


def test_arrivals_that_runs_do_not_take_start_three_runs_and_then_one_an_hour(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dagster = Site(site)
    arrive(site, *NAMES[:1])
    keys = []
    for _ in range(3):
        request = dagster.tick()
        assert isinstance(request, dg.RunRequest)
        keys.append(request.run_key)
        dagster.instance.create_run_for_job(
            dagster.definitions.resolve_job_def("franchise_deliver"), tags=request.tags, status=dg.DagsterRunStatus.FAILURE
        )
    assert len(set(keys)) == 3
    assert "3 runs did not take what has arrived" in str(dagster.tick())
    monkeypatch.setattr("jobs.arrivals.AGAIN", timedelta(0))  # an hour later
    request = dagster.tick()
    assert isinstance(request, dg.RunRequest)
    assert request.run_key not in keys


def test_a_file_that_is_still_written_is_left_for_a_later_tick(site: Path) -> None:
    dagster = Site(site)
    arrive(site, *NAMES[:1], age_s=0)
    with patch.object(quiet, "DEFAULT", timedelta(hours=1)):
        assert f"no new files; still being written: {NAMES[0]}, 1 in all" in str(dagster.tick())
    assert isinstance(dagster.tick(), dg.RunRequest)


def test_the_assets_come_before_event_batches_and_skip_windows_without_files(site: Path) -> None:
    dagster = Site(site)
    graph = dagster.definitions.resolve_asset_graph()
    assert dg.AssetKey(["franchise", "clean_files"]) in graph.get(dg.AssetKey(["franchise", "event_batches"])).parent_keys
    arrive(site)
    chosen = dg.AssetSelection.assets(*(dg.AssetKey(["franchise", name]) for name in ("received_files", "clean_files", "event_batches")))
    job = dg.define_asset_job("chosen", selection=chosen, executor_def=dg.in_process_executor)
    built = dg.Definitions.merge(dagster.definitions, dg.Definitions(jobs=[job])).resolve_job_def("chosen")
    tags = {"dagster/asset_partition_range_start": WINDOW, "dagster/asset_partition_range_end": "2016-06-02T00:00Z"}
    done = built.execute_in_process(instance=dagster.instance, tags=tags, run_config=QUIET, raise_on_error=False)
    assert done.success
    for name in ("received_files", "clean_files", "event_batches"):
        assert dagster.instance.get_materialized_partitions(dg.AssetKey(["franchise", name])) == {WINDOW}, name


def test_a_file_that_is_late_fails_the_check_and_is_named(site: Path) -> None:
    dagster = Site(site)
    arrive(site, *NAMES[1:])
    assert dagster.deliver().success
    dagster.tick()
    assert shown(dagster.instance, dg.AssetCheckKey(dg.AssetKey(["franchise", "clean_files"]), "files_have_arrived")) is False
    graph = dagster.definitions.resolve_asset_graph()
    (key,) = [key for key in graph.asset_check_keys if key.name == "files_have_arrived"]
    job = dg.define_asset_job("checked", selection=dg.AssetSelection.checks(key), executor_def=dg.in_process_executor)
    built = dg.Definitions.merge(dagster.definitions, dg.Definitions(jobs=[job])).resolve_job_def("checked")
    (found,) = built.execute_in_process(instance=dagster.instance, run_config=QUIET).get_asset_check_evaluations()
    assert not found.passed
    assert NAMES[0] in str(found.metadata["late"].value)


def test_a_run_that_rejects_a_file_fails_after_it_took_the_others(site: Path) -> None:
    dagster = Site(site)
    arrive(site, *NAMES[:1])
    (site / "inbox" / NAMES[1]).write_bytes(b"")
    job = dagster.definitions.resolve_job_def("franchise_deliver")
    done = job.execute_in_process(instance=dagster.instance, run_config=QUIET, raise_on_error=False)
    assert not done.success
    (failure,) = [event for event in done.all_events if event.is_step_failure]
    assert NAMES[1] in str(failure.event_specific_data)
    assert "1 of 13 expected files" in str(dagster.metadata("received_files")["arrivals"])
    assert dagster.metadata("clean_files")["dagster/row_count"]


def test_a_window_whose_only_file_is_rejected_is_not_materialized(site: Path) -> None:
    rules = site / "sources" / "stores.yaml"
    rules.write_text(rules.read_text() + "rejects: file\n")
    dagster = Site(site)
    arrive(site, "IL-311.tdf")
    (site / "inbox" / "IL-311.tdf").write_bytes((site / "inbox" / "IL-311.tdf").read_bytes().replace(b"2016", b"20x6", 1))
    os.utime(site / "inbox" / "IL-311.tdf", (0, 0))
    job = dagster.definitions.resolve_job_def("franchise_deliver")
    assert not job.execute_in_process(instance=dagster.instance, run_config=QUIET, raise_on_error=False).success
    dagster.tick()
    for name in ("received_files", "clean_files"):
        assert not dagster.instance.get_materialized_partitions(dg.AssetKey(["franchise", name])), name
    key = dg.AssetCheckKey(dg.AssetKey(["franchise", "clean_files"]), "files_have_arrived")
    assert shown(dagster.instance, key) is False
    (window,) = {str(file.window) for file in recon.open(dagster.config).intake().tracking.files()}
    assert window == WINDOW
    chosen = dg.AssetSelection.assets(dg.AssetKey(["franchise", "clean_files"]))
    built = dg.Definitions.merge(
        dagster.definitions, dg.Definitions(jobs=[dg.define_asset_job("chosen", selection=chosen, executor_def=dg.in_process_executor)])
    ).resolve_job_def("chosen")
    tags = {"dagster/asset_partition_range_start": WINDOW, "dagster/asset_partition_range_end": WINDOW}
    built.execute_in_process(instance=dagster.instance, tags=tags, run_config=QUIET, raise_on_error=False)
    assert not dagster.instance.get_materialized_partitions(dg.AssetKey(["franchise", "clean_files"]))


def test_a_sensor_that_starts_nothing_says_which_source_is_stopped_and_what_is_rejected(site: Path) -> None:
    rules = site / "sources" / "stores.yaml"
    rules.write_text(rules.read_text() + "rejects: stop\n")
    dagster = Site(site)
    arrive(site, "IL-311.tdf", "IL-101.tdf")
    (site / "inbox" / "IL-311.tdf").write_bytes((site / "inbox" / "IL-311.tdf").read_bytes().replace(b"2016", b"20x6", 1))
    os.utime(site / "inbox" / "IL-311.tdf", (0, 0))
    job = dagster.definitions.resolve_job_def("franchise_deliver")
    done = job.execute_in_process(instance=dagster.instance, run_config=QUIET, raise_on_error=False)
    (failure,) = [event for event in done.all_events if event.is_step_failure]
    assert "source stores: stopped by IL-311.tdf, file 2" in str(failure.event_specific_data)
    said = str(dagster.tick())
    assert "source stores is stopped by IL-311.tdf, file 2" in said
    assert "rejected files: 1, first IL-311.tdf" in said


def test_a_source_with_a_mistake_fails_the_run_and_the_check_after_the_others_were_taken(site: Path) -> None:
    (site / "sources" / "other.yaml").write_text("files: x\n")
    dagster = Site(site)
    arrive(site, *NAMES[:1])
    job = dagster.definitions.resolve_job_def("franchise_deliver")
    done = job.execute_in_process(instance=dagster.instance, run_config=QUIET, raise_on_error=False)
    (failure,) = [event for event in done.all_events if event.is_step_failure]
    assert "source other: " in str(failure.event_specific_data)
    assert dagster.metadata("clean_files")["dagster/row_count"]
    assert "source other takes no file: " in str(dagster.tick())
    assert shown(dagster.instance, dg.AssetCheckKey(dg.AssetKey(["franchise", "clean_files"]), "files_have_arrived")) is False


def test_a_masked_value_shows_its_form_only() -> None:
    assert masked("Ärger-42 €") == "xxxxx-00 €"


def test_a_site_without_sources_has_no_intake(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES / "seed-batch", tmp_path / "seed")
    built = build_definitions(tmp_path / "seed" / "recon.yaml")
    assert not [key for key in built.resolve_asset_graph().get_all_asset_keys() if key.path[-1] in ("received_files", "clean_files")]


def with_a_function(folder: Path) -> Site:
    """A site whose source has a function for its records, and one file of three."""
    (folder / "sources").mkdir()
    (folder / "inbox").mkdir()
    (folder / "recon.yaml").write_text(
        'name: franchise\nstore: ./store\nkey: account\nwindows: {start: 2026-11-01T00:00Z, every: 1d}\nmeasures: {lines: {count: "*"}}\n'
    )
    (folder / "accounts.py").write_text("def look_up(records):\n    return [{**record, 'account': 'A'} for record in records]\n")
    (folder / "sources" / "payments.yaml").write_text(
        'files: "payments_{day}.csv"\ninbox: ./inbox\nwindow: {part: day, format: "%Y%m%d"}\nformat: {kind: delimited, header: true}\n'
        "columns: {number: text}\nprocess: accounts:look_up\n"
    )
    (folder / "inbox" / "payments_20261102.csv").write_text("number\n1\n2\n3\n")
    return Site(folder)


def test_records_through_a_function_have_assets_of_their_own(tmp_path: Path) -> None:
    dagster = with_a_function(tmp_path)
    graph = dagster.definitions.resolve_asset_graph()
    assert dg.AssetKey(["franchise", "records_processed"]) in graph.get(dg.AssetKey(["franchise", "event_batches"])).parent_keys
    assert dagster.deliver().success
    assert dagster.metadata("records_stored")["dagster/row_count"] == 3
    processed = dagster.metadata("records_processed")
    assert (processed["records"], processed["dagster/row_count"], processed["dead"], processed["in_progress"]) == (3, 3, 0, 0)


def test_records_in_progress_elsewhere_are_not_processed_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dagster = with_a_function(tmp_path)
    processed = dg.AssetKey(["franchise", "records_processed"])
    with monkeypatch.context() as patch:
        patch.setattr(whole, "drain", lambda *given, **named: False)
        assert dagster.deliver().success, "it is nobody's fault"
        assert dagster.metadata("clean_files")["files"] == 0
        assert dagster.instance.get_latest_materialization_event(processed) is None
        job = dg.define_asset_job("chosen", selection=dg.AssetSelection.assets(processed), executor_def=dg.in_process_executor)
        built = dg.Definitions.merge(dagster.definitions, dg.Definitions(jobs=[job])).resolve_job_def("chosen")
        window = "2026-11-02T00:00Z"
        tags = {"dagster/asset_partition_range_start": window, "dagster/asset_partition_range_end": window}
        done = built.execute_in_process(instance=dagster.instance, tags=tags, run_config=QUIET, raise_on_error=False)
        assert not done.success
        assert "3 records are in progress in the queue" in str([event.event_specific_data for event in done.all_events])
    assert dagster.deliver().success
    assert dagster.metadata("records_processed")["dagster/row_count"] == 3
