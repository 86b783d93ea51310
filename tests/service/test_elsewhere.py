"""Requests that are steps of a cluster: EMR's stand-in carries them out."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from threading import Thread

import emr_lane
import pytest
import service_site as s
import sqlalchemy as sa
from emr_server import ACTIVE, EmrCluster, Running, until
from emr_site import Site, at_the_site
from emr_worker import hurried

from recon.database.tables import REQUESTS
from recon.service.submissions import Holder, Refused, Submission
from recon.service.worker import Worker
from recon.storage.open import open_store
from recon.storage.port import ObjectStore

PATIENCE_S = 120


@pytest.fixture(autouse=True)
def _at_the_site(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    at_the_site(site, monkeypatch)
    yield
    site.emr.refusals.clear()


@pytest.fixture
def cluster(site: Site) -> Iterator[EmrCluster]:
    made = site.emr.cluster()
    yield made
    site.emr.lose(made, "", "the test is over")


@pytest.fixture
def bucket(site: Site) -> ObjectStore:
    made = open_store(f"s3://{site.s3.bucket()}", Path())
    made.put_new("in/sales.csv", [emr_lane.SALES.encode() + b"z,0\n" * 500])
    return made


@pytest.fixture
def service(site: Site, tmp_path: Path, cluster: EmrCluster, bucket: ObjectStore) -> s.Service:
    return emr_lane.service_on(site, tmp_path, cluster, _name(bucket))


def _name(bucket: ObjectStore) -> str:
    return str(bucket.location.url("")).removeprefix("s3://").strip("/")  # type: ignore[attr-defined]


def _submitted(service: s.Service, bucket: ObjectStore, output: str = "sums.csv") -> tuple[Holder, Submission]:
    who = s.holder(service)
    one, _ = service.submit(who, s.sums(f"s3://{_name(bucket)}/in/sales.csv", output))
    assert one.lane == "large"
    return who, one


def _result(service: s.Service, one: Submission, name: str) -> bytes:
    return service.results.store.get(f"results/{one.place}/{name}")


def _work(service: s.Service, until_ended: Submission, for_s: float = PATIENCE_S) -> Submission:
    """Works until a request has ended."""
    worker = Worker(service, say=lambda line: None)
    thread = Thread(target=worker.work)
    thread.start()
    try:
        return until(lambda: (found := s.now(service, until_ended)).ended and found, "the end of the request", for_s)  # type: ignore[no-any-return]
    finally:
        worker.stop()
        thread.join(PATIENCE_S)


def _running(cluster: EmrCluster) -> list[Running]:
    return [step for step in cluster.steps if step.state in ACTIVE]


def _overdue(service: s.Service) -> None:
    """As if the lease of a worker that was killed were over."""
    with service.database.write() as connection:
        for row in connection.execute(sa.select(REQUESTS).where(REQUESTS.c.state == "running")).all():
            connection.execute(REQUESTS.update().where(REQUESTS.c.id == row.id).values(lease_until=row.lease_until - timedelta(minutes=1)))


def _events(service: s.Service, one: Submission) -> list[str]:
    return [each.what for each in service.requests.events(one)]


def test_a_step_reads_objects_and_uploads_and_writes_results_and_the_owners_copy(
    service: s.Service, bucket: ObjectStore, cluster: EmrCluster
) -> None:
    who = s.holder(service)
    upload = service.uploads.add(who, "more.csv", [emr_lane.SALES.encode()])
    copy = f"s3://{_name(bucket)}/out/month/sums.csv"
    body = json.loads(s.sums("", copy))
    body["inputs"]["t"]["path"] = [f"s3://{_name(bucket)}/in/sales.csv", f"upload:{upload.name}"]
    one, _ = service.submit(who, json.dumps(body).encode())
    done = _work(service, one)
    assert (done.state, done.reason, done.tries, len(cluster.steps)) == ("done", "", 1, 1)
    assert _result(service, done, "sums.csv") == bucket.get("out/month/sums.csv") == b"a,total\nx,2.30\ny,4.00\nz,0.00\n"
    certificate = json.loads(_result(service, done, "certificate.json"))
    (given,) = certificate["inputs"]
    assert [file["file"] for file in given["files"]] == body["inputs"]["t"]["path"]
    assert [output["path"] for output in certificate["outputs"]] == ["sums.csv"]
    assert [(each["name"], each.get("to")) for each in done.results] == [("sums.csv", copy), ("certificate.json", None)]
    assert done.results[0]["digest"] == certificate["outputs"][0]["digest"]
    assert json.loads(done.step or "")["step"] == cluster.steps[0].id


def test_the_certificate_is_the_one_of_this_machine(service: s.Service, bucket: ObjectStore) -> None:
    there = _work(service, _submitted(service, bucket)[1])
    here = s.service_in(service.place.path.parent, owners={"finance": {"read": f"s3://{_name(bucket)}/in/"}})
    one = _work(here, _submitted_small(here, bucket))
    assert json.loads(_result(service, there, "certificate.json")) == json.loads(_result(here, one, "certificate.json"))


def _submitted_small(service: s.Service, bucket: ObjectStore) -> Submission:
    one, _ = service.submit(s.holder(service), s.sums(f"s3://{_name(bucket)}/in/sales.csv"))
    assert one.lane == "small"
    return one


def test_files_in_folders_are_refused_when_they_are_submitted(service: s.Service, site: Site, tmp_path: Path) -> None:
    (tmp_path / "in" / "sales.csv").write_text(emr_lane.SALES * 100)
    settings = {"engine": {"kind": "emr", "cluster": "j-X", "package": "/p"}}
    other = s.service_in(tmp_path, results="s3://results/here", small_up_to="1KB", large=settings)
    with pytest.raises(Refused, match=r"inputs\.t\.path: .*/in/sales\.csv lies in a folder; .* reads S3") as refused:
        other.submit(s.holder(other), s.sums(f"{tmp_path}/in/sales.csv"))
    assert refused.value.problem.code == "not-permitted"


def test_a_full_cluster_costs_no_try(service: s.Service, bucket: ObjectStore, site: Site, cluster: EmrCluster) -> None:
    site.does("sleep 600")
    client = __import__("boto3").client("emr")
    step = {"Name": "other", "ActionOnFailure": "CONTINUE", "HadoopJarStep": {"Jar": "command-runner.jar", "Args": ["sleep", "600"]}}
    for _ in range(256):
        client.add_job_flow_steps(JobFlowId=cluster.id, Steps=[step])
    _, one = _submitted(service, bucket)
    worker = Worker(service, say=lambda line: None)
    thread = Thread(target=worker.work)
    thread.start()
    try:
        full = "has 256 steps pending and running"
        until(lambda: any(full in what for what in _events(service, one)), "no place", PATIENCE_S)
        waits = s.now(service, one)
        assert (waits.state, waits.tries, waits.not_before is not None) == ("queued", 0, True)
        site.does("carries out")
        for step in reversed(_running(cluster)):
            site.emr.cancel(step)
        _due(service)
        done = until(lambda: (found := s.now(service, one)).ended and found, "the end of the request", PATIENCE_S)
    finally:
        worker.stop()
        thread.join(PATIENCE_S)
    assert (done.state, done.tries) == ("done", 1)


def _due(service: s.Service) -> None:
    with service.database.write() as connection:
        connection.execute(REQUESTS.update().values(not_before=None))


def test_a_request_that_is_cancelled_ends_its_step_first(service: s.Service, bucket: ObjectStore, site: Site, cluster: EmrCluster) -> None:
    site.does("trap 'sleep 1; exit 1' TERM; sleep 600 & wait")
    who, one = _submitted(service, bucket)
    worker = Worker(service, say=lambda line: None)
    thread = Thread(target=worker.work)
    thread.start()
    try:
        until(lambda: _running(cluster) and s.now(service, one).step, "the step", PATIENCE_S)
        service.requests.cancel(who, one.name)
        ended = until(lambda: (found := s.now(service, one)).ended and found, "the end of the request", PATIENCE_S)
        assert not _running(cluster)
    finally:
        worker.stop()
        thread.join(PATIENCE_S)
    assert (ended.state, cluster.steps[0].state) == ("cancelled", "CANCELLED")
    assert not list(service.results.store.list("results"))


def test_a_step_that_fails_by_its_data_fails_the_request_and_one_that_dies_is_tried_again(
    service: s.Service, bucket: ObjectStore, site: Site, cluster: EmrCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recon.service.claims.PAUSES", (timedelta(0), timedelta(0)))
    bucket.put_new("in/wrong.csv", [b"a,b\nx,no number\n" + b"z,0\n" * 500])
    body = json.loads(s.sums(f"s3://{_name(bucket)}/in/wrong.csv"))
    wrong, _ = service.submit(s.holder(service), json.dumps({**body, "on_error": "fail"}).encode())
    failed = _work(service, wrong)
    assert (failed.state, failed.tries) == ("failed", 1), failed.reason
    assert failed.problem["code"] == "wrong-input"
    site.does("exit 1")
    _, one = _submitted(service, bucket)
    dead = _work(service, one)
    assert (dead.state, dead.tries, dead.problem["code"]) == ("dead", 3, "may-pass")
    assert [step.state for step in cluster.steps[-3:]] == ["FAILED"] * 3
    service.requests.redrive(one.name, "the cluster is mended")
    site.does("carries out")
    assert _work(service, one).state == "done"


def test_a_step_that_somebody_else_cancels_is_tried_again(service: s.Service, bucket: ObjectStore, site: Site, cluster: EmrCluster) -> None:
    site.does("sleep 600")
    _, one = _submitted(service, bucket)
    worker = Worker(service, say=lambda line: None)
    thread = Thread(target=worker.work)
    thread.start()
    try:
        (step,) = until(lambda: s.now(service, one).step and _running(cluster), "the step", PATIENCE_S)
        site.does("carries out")
        site.emr.cancel(step)
        done = until(lambda: (found := s.now(service, one)).ended and found, "the end of the request", PATIENCE_S)
    finally:
        worker.stop()
        thread.join(PATIENCE_S)
    assert (done.state, done.tries, len(cluster.steps)) == ("done", 2, 2)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_step_of_a_worker_that_ends_is_taken_up_by_the_next(
    service: s.Service, bucket: ObjectStore, site: Site, cluster: EmrCluster, tmp_path: Path, number: signal.Signals
) -> None:
    site.does(f"waits for {tmp_path / 'gate'}")
    _, one = _submitted(service, bucket)
    with emr_lane.worker(service) as first:
        until(lambda: s.now(service, one).step and _running(cluster), "the step", PATIENCE_S)
        os.kill(first.pid, number)
        if number == signal.SIGTERM:
            os.kill(first.pid, number)  # at once, without waiting for what runs
        first.wait(PATIENCE_S)
    _overdue(service)
    (tmp_path / "gate").touch()
    done = _work(service, one)
    assert (done.state, len(cluster.steps)) == ("done", 1)
    assert any("was submitted by an earlier try" in what for what in _events(service, one))
    assert _result(service, done, "sums.csv").startswith(emr_lane.SUMS)


def test_what_a_step_wrote_that_is_gone_is_made_anew(
    service: s.Service, bucket: ObjectStore, site: Site, cluster: EmrCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    site.does(f"waits for {tmp_path / 'gate'}")
    _, one = _submitted(service, bucket)
    with emr_lane.worker(service) as first:
        until(lambda: s.now(service, one).step and _running(cluster), "the step", PATIENCE_S)
        os.kill(first.pid, signal.SIGKILL)
        first.wait(PATIENCE_S)
    (tmp_path / "gate").touch()
    until(lambda: not _running(cluster), "the end of the step", PATIENCE_S)
    service.results.remove(s.now(service, one).place or "")
    _overdue(service)
    done = _work(service, one)
    assert (done.state, len(cluster.steps)) == ("done", 2)


def test_a_transient_cluster_ends_with_its_request(site: Site, tmp_path: Path, bucket: ObjectStore, cluster: EmrCluster) -> None:
    service = emr_lane.service_on(site, tmp_path, cluster, _name(bucket))
    written = service.place.path.read_text()
    fleet = "{types: [m7g.xlarge], on_demand: 1}"
    fields = f"release: emr-spark-8.0.0, fleets: {{primary: {fleet}, core: {fleet}}}, service_role: r, instance_profile: p, subnets: [s]"
    transient = f"transient: {{{fields}}}"
    service.place.path.write_text(written.replace(f"cluster: {cluster.id}", transient))
    service = s.recon.open(service.place.path).service()
    service.open_readers = hurried
    before = set(site.emr.clusters)
    done = _work(service, _submitted(service, bucket)[1])
    (made,) = set(site.emr.clusters) - before
    assert (done.state, site.emr.clusters[made].state) == ("done", "TERMINATED")


def test_the_lane_may_be_serverless(site: Site, tmp_path: Path, bucket: ObjectStore, cluster: EmrCluster) -> None:
    service = emr_lane.service_on(site, tmp_path, cluster, _name(bucket))
    written = service.place.path.read_text()
    role = "application: 00f1r2o3m4e5x601, role: 'arn:aws:iam::123456789012:role/recon', messages: 's3://messages/here'"
    path = service.place.path
    path.write_text(
        written.replace(f"cluster: {cluster.id}", role.replace(", ", "\n      ")).replace("kind: emr\n", "kind: emr_serverless\n")
    )
    service = s.recon.open(path).service()
    service.open_readers = hurried
    done = _work(service, _submitted(service, bucket)[1])
    assert (done.state, done.reason) == ("done", "")
    assert len(site.emr.jobs) == 1
