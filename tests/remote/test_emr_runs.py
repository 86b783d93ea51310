"""What a run does about its steps on EMR: failures by the retry rules, steps found again, ended with their run; clusters of a run's own."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import dagster as dg
import pytest
from emr_server import THROTTLED, EmrCluster, Refused, until
from emr_site import PATIENCE_S, Site, answer_at_next_attempt, at_the_site, recon_run, reconciliation
from small_reconciliation import failures, materialized, run, window

from recon.api import Reconciliation
from recon.cli.dagster_runs import Materializing
from recon.errors import OutOfCapacity, TimedOut, TryAgain, WrongUsage
from recon.storage import lease
from recon.storage.aws_calls import Pace
from recon_assets.partitions import range_tags
from recon_assets.retries import COMPUTE
from resources import emr

TRANSIENT = """kind: emr, transient: {release: emr-7.10.0, idle: 10m, logs: "s3://%s/own", subnets: subnet-1, service_role: service,
  instance_profile: profile, bootstrap: "s3://bucket/install.sh", tags: {team: finance},
  fleets: {primary: {types: m7g.xlarge, on_demand: 1}, core: {types: [r7g.xlarge, r6g.xlarge], on_demand: 1, spot: 3}}}"""


@pytest.fixture(autouse=True)
def _at_the_site(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    at_the_site(site, monkeypatch)
    yield
    site.emr.refusals.clear()
    site.emr.lost.clear()
    site.emr.unstartable.clear()


@pytest.fixture
def cluster(site: Site) -> Iterator[EmrCluster]:
    made = site.emr.cluster(log_uri=f"s3n://{site.logs}/elasticmapreduce/")
    yield made
    site.emr.lose(made, "", "the test is over")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made_instance:
        yield made_instance


def on(cluster: EmrCluster, folder: Path, hours: int = 1) -> Reconciliation:
    return reconciliation(folder, f"kind: emr, cluster: {cluster.id}", hours)


def reduced(opened: Reconciliation, instance: dg.DagsterInstance) -> tuple[dg.ExecuteInProcessResult, int, dg.DagsterRun]:
    """A run that reduces the first window, its attempts, and what is kept of it."""
    result = run(opened, range_tags(window(0), window(0)), instance, "reduce")
    kept = instance.get_run_by_id(result.run_id)
    assert kept is not None
    return result, 1 + sum(event.is_step_up_for_retry for event in result.all_events), kept


def logged(instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult) -> str:
    return "\n".join(event.user_message for event in instance.all_logs(result.run_id))


# ---- failures by the retry rules


@pytest.mark.parametrize(
    ("does", "kind", "attempts"),
    [
        ("echo 'recon: file-00.csv, line 2: bad' >&2; echo 'exited with 1' >&2; exit 1", "WrongInput", 1),
        ("echo 'recon: the rules changed' >&2; echo 'exited with 2' >&2; exit 2", "WrongUsage", 1),
        ("echo 'recon: the store is away' >&2; echo 'exited with 3' >&2; exit 3", "TryAgain", 3),
        ("echo 'java.io.IOException: No space left on device' >&2; exit 1", "OutOfCapacity", 8),
        ("echo 'com.amazonaws.AmazonS3Exception: Slow Down' >&2; exit 1", "Throttled", 6),
        ("echo 'org.apache.spark.SparkException: Lost executor 4' >&2; exit 1", "ConnectionLost", 5),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isalpha() else "",
)
def test_a_step_that_dies_without_an_answer_is_tried_again_by_the_rules_of_its_kind(
    site: Site, cluster: EmrCluster, tmp_path: Path, instance: dg.DagsterInstance, does: str, kind: str, attempts: int
) -> None:
    site.does(does)
    opened = on(cluster, tmp_path)
    _, tried, kept = reduced(opened, instance)
    assert (tried, len(cluster.steps), kept.tags["recon/failure"]) == (attempts, attempts, kind)
    assert list(opened.store().list("steps")) == [], "what was asked is taken back"


def test_the_logs_of_a_failed_step_are_named_in_the_run_with_its_last_lines_but_no_event_and_no_secret(
    site: Site, cluster: EmrCluster, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    lines = [
        "A0,e0-1,INVOICE,10.00,EUR",
        "26/01/01 00:00:00 ERROR X: token=abcdefgh of 'A0,e0-1'",
        "recon: the rules changed",
        "exited with 2",
    ]
    site.does("; ".join(f'echo "{line}" >&2' for line in lines) + "; exit 2")
    result, _, _ = reduced(on(cluster, tmp_path), instance)
    folder = f"s3://{site.logs}/elasticmapreduce/{cluster.id}/steps/{cluster.steps[0].id}/"
    told = logged(instance, result)
    assert f"logs: {folder}" in told
    assert "ERROR X: token=[…] of […]" in told
    assert "recon: the rules changed" in told
    (step,) = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    assert step.user_failure_data is not None
    notes = str(step.user_failure_data.metadata["notes"].value)
    assert folder in notes
    for text in (told, notes, *failures(result)):
        assert "abcdefgh" not in text
        assert "A0,e0-1" not in text


def test_a_step_that_somebody_cancelled_is_not_tried_again(
    site: Site, cluster: EmrCluster, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    site.does("sleep 600")
    Thread(target=lambda: site.emr.cancel(until(lambda: cluster.steps, "a step")[0]), daemon=True).start()
    _, tried, kept = reduced(on(cluster, tmp_path), instance)
    assert (tried, kept.tags["recon/failure"]) == (1, "Cancelled")


def test_a_cluster_that_is_configured_and_gone_is_wrong_usage_and_told_with_why_it_is(
    site: Site, cluster: EmrCluster, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    site.emr.lose(cluster, "INSTANCE_FAILURE", "The master instance was lost")
    opened = on(cluster, tmp_path)
    result, tried, kept = reduced(opened, instance)
    (told,) = failures(result)
    assert (tried, kept.tags["recon/failure"]) == (1, "WrongUsage")
    assert "INSTANCE_FAILURE, The master instance was lost" in told
    assert "engine.cluster: name one that runs" in told
    assert list(opened.store().list("steps")) == []


# ---- found again


def test_the_next_attempt_finds_the_step_of_one_that_was_throttled_out_and_does_not_submit_it_twice(
    site: Site, cluster: EmrCluster, tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emr, "PACE", Pace(first=0.01, most=0.02, patience=0.2, logs=1))
    site.does(f"waits for {tmp_path / 'gate'}")
    site.emr.refuse(THROTTLED, 1000, "DescribeStep")

    answer_at_next_attempt(site, "ListSteps", lambda: until(lambda: cluster.steps, "a step")[0], tmp_path / "gate")
    result, tried, _ = reduced(on(cluster, tmp_path), instance)
    assert result.success, failures(result)
    assert tried > 1
    assert len(cluster.steps) == 1
    assert "is at reduce of 2026-11-01T00:00Z..2026-11-01T00:00Z already; waiting for that one" in logged(instance, result)


def test_the_next_run_finds_the_step_of_one_that_was_killed_and_takes_what_it_did(
    site: Site, cluster: EmrCluster, tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.does(f"waits for {tmp_path / 'gate'}")
    opened = on(cluster, tmp_path)
    with recon_run(opened, RECON_HEARTBEAT_S="0.5") as killed:
        until(lambda: cluster.steps, "a step", PATIENCE_S)
        killed.kill()
    monkeypatch.setattr(lease, "SKEW_S", 0.1)
    time.sleep(1)
    found = site.emr.calls["ListSteps"]

    def open_gate() -> None:
        until(lambda: site.emr.calls["ListSteps"] > found, "the next run")
        (tmp_path / "gate").touch()

    Thread(target=open_gate, daemon=True).start()
    with Materializing() as way:
        report = opened.run(None, None, None, way)
    assert report.windows == [window(0)]
    assert [one.name.split(" ")[2] for one in cluster.steps] == ["reduce", "merge"], "what the killed one had submitted was not again"
    assert opened.verify(full=True).problems == []
    assert list(opened.store().list("steps")) == []


# ---- ended with its run


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C, and Dagster's own termination"])
def test_a_run_that_is_ended_ends_its_step_and_its_own_cluster(site: Site, tmp_path: Path, number: signal.Signals) -> None:
    site.does("sleep 600")
    opened, before = reconciliation(tmp_path, TRANSIENT % site.logs), set(site.emr.clusters)
    with recon_run(opened) as process:
        until(lambda: set(site.emr.clusters) - before, "a cluster", PATIENCE_S)
        (own,) = (site.emr.clusters[name] for name in set(site.emr.clusters) - before)
        until(lambda: own.steps and own.steps[0].state == "RUNNING", "a step", PATIENCE_S)
        looked = site.emr.calls["DescribeStep"]
        until(lambda: site.emr.calls["DescribeStep"] > looked, "somebody who waits for it", PATIENCE_S)
        process.send_signal(number)
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, err
    (step,) = own.steps
    assert (step.cancelled_by, own.state) == ("SEND_INTERRUPT", "TERMINATED")
    until(lambda: step.process is not None and step.process.poll() is not None, "the end of its process")


# ---- clusters of a run's own


def test_a_cluster_is_made_for_a_range_takes_all_its_steps_and_is_terminated_at_its_end(
    site: Site, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    opened, before = reconciliation(tmp_path, TRANSIENT % site.logs, hours=2), set(site.emr.clusters)
    assert set(site.emr.clusters) == before
    result = run(opened, range_tags(window(0), window(1)), instance)
    assert result.success, failures(result)
    (own,) = (site.emr.clusters[name] for name in set(site.emr.clusters) - before)
    assert own.asked["Name"] == f"recon-orders-{result.run_id}"
    assert [one.name.split(" ")[2] for one in own.steps] == ["reduce", "merge"]
    assert own.state == "TERMINATED"
    assert materialized(result, "stateful_artifacts")[window(1)]["emr_cluster"] == own.id
    assert own.concurrency == 10
    assert own.asked["AutoTerminationPolicy"] == {"IdleTimeout": 600}
    assert own.asked["Instances"]["KeepJobFlowAliveWhenNoSteps"]
    fleets = {one["InstanceFleetType"]: one for one in own.asked["Instances"]["InstanceFleets"]}
    assert (fleets["CORE"]["TargetSpotCapacity"], fleets["CORE"]["TargetOnDemandCapacity"]) == (3, 1)
    assert fleets["CORE"]["LaunchSpecifications"]["SpotSpecification"]["TimeoutAction"] == "SWITCH_TO_ON_DEMAND"
    assert "LaunchSpecifications" not in fleets["MASTER"]
    assert own.asked["LogUri"] == f"s3://{site.logs}/own"
    assert {"Key": "team", "Value": "finance"} in own.asked["Tags"]

    again = run(opened, range_tags(window(0), window(1)), instance)
    assert again.success, failures(again)
    assert set(site.emr.clusters) - before == {own.id}, "nothing to do: none is started"


def test_a_cluster_ends_also_where_the_step_fails(site: Site, tmp_path: Path, instance: dg.DagsterInstance) -> None:
    site.does("echo 'recon: the rules changed' >&2; echo 'exited with 2' >&2; exit 2")
    before = set(site.emr.clusters)
    site.emr.refuse(THROTTLED, 2, "TerminateJobFlows")
    _, _, kept = reduced(reconciliation(tmp_path, TRANSIENT % site.logs), instance)
    assert kept.tags["recon/failure"] == "WrongUsage"
    (own,) = set(site.emr.clusters) - before
    assert site.emr.clusters[own].state == "TERMINATED"


def test_a_cluster_that_is_lost_with_its_spot_instances_is_followed_by_another_and_all_are_gone_in_the_end(
    site: Site, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    gate = tmp_path / "gate"
    site.does(f"waits for {gate}")
    before = set(site.emr.clusters)

    def lose() -> None:
        until(lambda: set(site.emr.clusters) - before, "a cluster")
        (own,) = (site.emr.clusters[name] for name in set(site.emr.clusters) - before)
        until(lambda: own.steps and own.steps[0].state == "RUNNING", "a step")
        site.emr.lose(own, "INSTANCE_FAILURE", "All spot instances were reclaimed")
        gate.touch()

    Thread(target=lose, daemon=True).start()
    result, tried, _ = reduced(reconciliation(tmp_path, TRANSIENT % site.logs), instance)
    assert result.success, failures(result)
    own = [site.emr.clusters[name] for name in sorted(set(site.emr.clusters) - before)]
    assert (tried, [one.state for one in own]) == (2, ["TERMINATED_WITH_ERRORS", "TERMINATED"])
    assert [[step.state for step in one.steps] for one in own] == [["INTERRUPTED"], ["COMPLETED"]]


@pytest.mark.parametrize(
    ("code", "message", "kind", "attempts"),
    [
        ("VALIDATION_ERROR", "The subnet subnet-1 does not exist", "WrongUsage", 1),
        ("INSTANCE_FLEET_TIMEOUT", "Timed out to provision instances", "OutOfCapacity", COMPUTE[OutOfCapacity].attempts),
    ],
)
def test_a_cluster_that_does_not_start_is_tried_again_by_the_rules_of_its_reason(
    site: Site, tmp_path: Path, instance: dg.DagsterInstance, code: str, message: str, kind: str, attempts: int
) -> None:
    before = set(site.emr.clusters)
    site.emr.unstartable += [(code, message)] * attempts
    result, tried, kept = reduced(reconciliation(tmp_path, TRANSIENT % site.logs), instance)
    assert (tried, kept.tags["recon/failure"]) == (attempts, kind)
    assert message in failures(result)[0]
    assert len(set(site.emr.clusters) - before) == attempts


def test_what_emr_refuses_to_start_is_told_and_a_throttled_start_is_tried_again(
    site: Site, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    before, opened = set(site.emr.clusters), reconciliation(tmp_path, TRANSIENT % site.logs)
    site.emr.refuse(Refused("ValidationException", "InstanceProfile is required"), 1, "RunJobFlow")
    result, tried, _ = reduced(opened, instance)
    assert (tried, "InstanceProfile is required" in failures(result)[0]) == (1, True)
    site.emr.refuse(THROTTLED, 2, "RunJobFlow")
    result, tried, _ = reduced(opened, instance)
    assert (result.success, tried) == (True, 3)
    (own,) = set(site.emr.clusters) - before
    assert site.emr.clusters[own].state == "TERMINATED"


def test_a_step_of_ones_own_runs_and_is_found_again(site: Site, cluster: EmrCluster) -> None:
    steps, told = emr.EmrSteps(cluster_id=cluster.id), list[str]()
    done = steps.run("mine", ["true"], told.append)
    assert told[-1] == f"step {done} on {cluster.id}: COMPLETED"
    waiting: list[str] = []
    first = Thread(target=lambda: waiting.append(steps.run("mine", ["sleep", "2"])))
    first.start()
    until(lambda: any(step.state == "RUNNING" for step in cluster.steps), "the step runs")
    found = steps.run("mine", ["sleep", "2"])
    first.join()
    assert waiting == [found]


def test_a_step_of_ones_own_that_fails_or_has_no_cluster_says_so(site: Site, cluster: EmrCluster) -> None:
    with pytest.raises(TryAgain, match=rf"step s-\w+ on {cluster.id} failed without an answer"):
        emr.EmrSteps(cluster_id=cluster.id).run("mine", ["false"])
    with pytest.raises(TimedOut, match="it was cancelled"):
        emr.EmrSteps(cluster_id=cluster.id, timeout_s=1).run("mine", ["sleep", "60"])
    with pytest.raises(WrongUsage, match="cluster_id is missing; name a running cluster"):
        emr.EmrSteps().run("mine", ["true"])
