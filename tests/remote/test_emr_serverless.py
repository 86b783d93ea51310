"""What a run does about its jobs on EMR Serverless, through Dagster Pipes: started once, found again, ended with their run, told the
range.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import dagster as dg
import pytest
from dagster_pipes import decode_param
from emr_server import FAILED, THROTTLED, Refused, Running, until
from emr_site import PATIENCE_S, Site, answer_at_next_attempt, at_the_site, recon_run, reconciliation
from small_reconciliation import failures, materialized, run, window

from recon.api import Reconciliation
from recon.errors import ReconError, WrongUsage
from recon.storage.aws_calls import Pace
from recon_assets.partitions import range_tags
from resources import emr_serverless

APPLICATION = "00f1r2o3m4e5x601"


@pytest.fixture(autouse=True)
def _at_the_site(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    at_the_site(site, monkeypatch)
    site.emr.jobs.clear()
    yield
    site.emr.refusals.clear()
    site.emr.lost.clear()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made_instance:
        yield made_instance


def made(site: Site, folder: Path, hours: int = 1) -> Reconciliation:
    role = "arn:aws:iam::123456789012:role/recon"
    engine = f"kind: emr_serverless, application: {APPLICATION}, role: '{role}', messages: 's3://{site.logs}/pipes'"
    return reconciliation(folder, engine, hours)


def reduced(opened: Reconciliation, instance: dg.DagsterInstance, last: int = 0) -> tuple[dg.ExecuteInProcessResult, int, dg.DagsterRun]:
    """A run that reduces the windows up to ``last``, its attempts, and what is kept of it."""
    result = run(opened, range_tags(window(0), window(last)), instance, "reduce")
    kept = instance.get_run_by_id(result.run_id)
    assert kept is not None
    return result, 1 + sum(event.is_step_up_for_retry for event in result.all_events), kept


def messages(site: Site) -> int:
    found: dict[str, Any] = site.s3.client().list_objects_v2(Bucket=site.logs, Prefix="pipes/")
    return int(found["KeyCount"])


def the_job(site: Site) -> Running:
    (job,) = until(lambda: list(site.emr.jobs.values()), "a job", PATIENCE_S)
    assert isinstance(job, Running)
    return job


def test_a_job_is_started_once_however_often_it_is_asked_for_and_is_told_the_whole_range(
    site: Site, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    opened, before = made(site, tmp_path, hours=3), site.emr.calls["StartJobRun"]
    site.emr.refuse(THROTTLED, 2, "StartJobRun", "GetJobRun", "ListJobRuns")
    site.emr.refuse(FAILED, 1, "StartJobRun")
    site.emr.lost.add("StartJobRun")
    result, tried, kept = reduced(opened, instance, last=2)
    assert result.success, failures(result)
    assert (tried, site.emr.calls["StartJobRun"] - before >= 4) == (1, True)
    job = the_job(site)
    told = decode_param(job.environment["DAGSTER_PIPES_CONTEXT"])["data"]
    said = {name: value for name, value in told.items() if name != "extras"}
    assert window(2) not in str(said), "Pipes itself says nothing of the range"
    wanted = {"stage": "reduce", "first": window(0), "last": window(2), "attempt": job.asked["clientToken"]}
    assert {name: told["extras"][name] for name in wanted} == wanted
    shown = materialized(result, "stateless_artifacts")
    assert {name: one["emr_job"] for name, one in shown.items()} == {window(hour): job.id for hour in range(3)}
    assert [shown[window(hour)]["keys"] for hour in range(3)] == [2, 2, 2]
    lines = [event.user_message for event in instance.all_logs(kept.run_id)]
    for said_by_the_job in ("begun", "done after"):
        assert any(f"reduce of {window(0)}..{window(2)}: {said_by_the_job}" in line for line in lines), "through S3, by Pipes"
    assert (list(opened.store().list("steps")), messages(site)) == ([], 0)


def test_a_run_that_is_ended_ends_its_job(site: Site, tmp_path: Path) -> None:
    site.does("sleep 600")
    with recon_run(made(site, tmp_path)) as process:
        job = the_job(site)
        looked = site.emr.calls["GetJobRun"]
        until(lambda: site.emr.calls["GetJobRun"] > looked, "somebody who waits for it", PATIENCE_S)
        site.emr.refuse(THROTTLED, 2, "CancelJobRun")
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, err
    assert job.cancelled_by
    until(lambda: job.state == "CANCELLED", "the end of the job")


def test_the_next_attempt_finds_the_job_of_one_that_was_throttled_out_and_does_not_start_it_twice(
    site: Site, tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emr_serverless, "PACE", Pace(first=0.01, most=0.02, patience=0.2, logs=1))
    site.does(f"waits for {tmp_path / 'gate'}")
    site.emr.refuse(THROTTLED, 1000, "GetJobRun")

    answer_at_next_attempt(site, "ListJobRuns", lambda: the_job(site), tmp_path / "gate")
    opened = made(site, tmp_path)
    result, tried, _ = reduced(opened, instance)
    assert result.success, failures(result)
    assert tried > 1
    assert the_job(site).state == "SUCCESS"
    assert (list(opened.store().list("steps")), messages(site)) == ([], 0)


def test_a_job_of_a_run_that_was_killed_ends_with_the_one_that_has_found_it(site: Site, tmp_path: Path) -> None:
    site.does("sleep 600")
    opened, before = made(site, tmp_path), site.emr.calls["ListJobRuns"]
    with recon_run(opened, RECON_HEARTBEAT_S="0.5") as killed:
        job = the_job(site)
        killed.kill()
    time.sleep(1)
    with recon_run(opened, RECON_HEARTBEAT_S="0.5") as process:
        until(lambda: site.emr.calls["ListJobRuns"] > before + 1, "the next run", PATIENCE_S)
        looked = site.emr.calls["GetJobRun"]
        until(lambda: site.emr.calls["GetJobRun"] > looked, "somebody who waits for it", PATIENCE_S)
        process.terminate()
        process.communicate(timeout=PATIENCE_S)
    assert the_job(site) is job
    until(lambda: job.state == "CANCELLED", "the end of the job")


@pytest.mark.parametrize(
    ("does", "kind", "attempts"),
    [
        ("echo 'recon: the rules changed' >&2; exit 2", "WrongUsage", 1),
        ("echo 'java.io.IOException: No space left on device' >&2; exit 1", "OutOfCapacity", 8),
        ("echo 'A0,e0-1,INVOICE,10.00,EUR' >&2; exit 1", "TryAgain", 3),
    ],
    ids=["WrongUsage", "OutOfCapacity", "TryAgain"],
)
def test_a_job_that_dies_without_an_answer_is_tried_again_by_the_rules_of_its_kind(
    site: Site, tmp_path: Path, instance: dg.DagsterInstance, does: str, kind: str, attempts: int
) -> None:
    site.does(does)
    opened = made(site, tmp_path)
    result, tried, kept = reduced(opened, instance)
    assert (tried, len(site.emr.jobs), kept.tags["recon/failure"]) == (attempts, attempts, kind)
    assert "A0,e0-1" not in failures(result)[0]
    assert list(opened.store().list("steps")) == []


def test_a_job_that_somebody_cancelled_is_not_tried_again_nor_is_one_that_is_refused(
    site: Site, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    site.does("sleep 600")
    opened = made(site, tmp_path)
    Thread(target=lambda: site.emr.cancel(the_job(site)), daemon=True).start()
    _, tried, kept = reduced(opened, instance)
    assert (tried, kept.tags["recon/failure"]) == (1, "Cancelled")
    for code, kind, attempts in (("AccessDeniedException", "WrongUsage", 1), ("ServiceQuotaExceededException", "OutOfCapacity", 8)):
        site.emr.refuse(Refused(code, "said so"), attempts, "StartJobRun")
        _, tried, kept = reduced(opened, instance)
        assert (tried, kept.tags["recon/failure"]) == (attempts, kind)
    assert list(opened.store().list("steps")) == [], "what was asked is taken back"


def test_a_job_of_ones_own_runs_and_says_how_it_failed(site: Site) -> None:
    role, told = "arn:aws:iam::123456789012:role/models", list[str]()
    jobs = emr_serverless.EmrServerlessJobs(application_id=APPLICATION, role=role)
    site.does("exit 0")
    done = jobs.run("mine", "s3://code/model.py", ["--day", "1"], {"spark.executor.memory": "4g"}, told.append)
    assert told == [f"job {done} of application {APPLICATION} is started"]
    (job,) = site.emr.jobs.values()
    assert job.name.startswith("mine ")
    assert "spark.executor.memory=4g" in " ".join(job.command)
    assert job.command[-3:] == ["s3://code/model.py", "--day", "1"]
    site.does("exit 3")
    with pytest.raises(ReconError, match=f"of application {APPLICATION} failed"):
        jobs.run("mine", "s3://code/model.py")
    with pytest.raises(WrongUsage, match="application_id or role is missing"):
        emr_serverless.EmrServerlessJobs(application_id=APPLICATION).run("mine", "s3://code/model.py")
