"""Transformations as steps of EMR and jobs of EMR Serverless: submitted, found again, looked at, awaited, cancelled; their errors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from daemons import end_with_parent
from emr_server import EmrCluster, until
from emr_site import PATIENCE_S, Site, at_the_site, reconciliation
from folders import ROOT

from recon.api import Reconciliation
from recon.errors import Cancelled, OutOfCapacity, WrongInput, WrongUsage
from recon.operations.transforming import site_of
from recon.remote import transforming
from recon.remote.transforming import Submitted, Transforming
from recon.storage.open import open_store
from recon.storage.port import ObjectStore

APPLICATION = "00f1r2o3m4e5x601"
TRANSIENT = """kind: emr, transient: {release: emr-7.10.0, logs: "s3://%s/own", subnets: subnet-1, service_role: service,
  instance_profile: profile, fleets: {primary: {types: m7g.xlarge, on_demand: 1}, core: {types: r7g.xlarge, on_demand: 1}}}"""
SALES = "item,amount\nA1,10.00\nb2,3.50\nA1,x\n"


@pytest.fixture(autouse=True)
def _at_the_site(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    at_the_site(site, monkeypatch)
    site.emr.jobs.clear()
    yield
    site.emr.refusals.clear()


@pytest.fixture
def cluster(site: Site) -> Iterator[EmrCluster]:
    made = site.emr.cluster(log_uri=f"s3://{site.logs}/elasticmapreduce/")
    yield made
    site.emr.lose(made, "", "the test is over")


@pytest.fixture
def bucket(site: Site) -> ObjectStore:
    made = open_store(f"s3://{site.s3.bucket()}", Path())
    for part, rows in enumerate((SALES, "amount,item\n7.25,a1\n")):
        made.put_new(f"in/sales-{part}.csv", [rows.encode()])
    return made


@pytest.fixture(params=["emr", "emr_serverless"])
def opened(request: pytest.FixtureRequest, site: Site, tmp_path: Path) -> Reconciliation:
    """A reconciliation with breaks, whose stages are done here, and whose engine is on EMR."""
    here = reconciliation(tmp_path, "kind: duckdb")
    here.run()
    path, text = here.config.path, here.config.path.read_text()
    role = "arn:aws:iam::123456789012:role/recon"
    if request.param == "emr":
        there = f"kind: emr, cluster: {request.getfixturevalue('cluster').id}"
    else:
        there = f"kind: emr_serverless, application: {APPLICATION}, role: '{role}', messages: 's3://{site.logs}/pipes'"
    path.write_text(text.replace("kind: duckdb", there))
    return Reconciliation(path)


def at(bucket: ObjectStore, path: str) -> str:
    return f"{bucket.location.url('')}{path}"  # type: ignore[attr-defined]


def asked(opened: Reconciliation, bucket: ObjectStore, *operations: dict[str, Any], **more: Any) -> Path:
    """A request over sales in S3 and the reconciliation's breaks."""
    inputs = {"sales": {"path": at(bucket, "in/sales-*.csv"), "types": {"amount": "decimal(9,2)"}}, "open": {"from": "breaks"}}
    outputs = [{"table": "sales", "path": at(bucket, "out/sales.csv")}, {"table": "open", "path": at(bucket, "out/open.parquet")}]
    file = opened.config.path.parent / "of-sales.json"
    file.write_text(json.dumps({"inputs": inputs, "operations": operations, "outputs": outputs, "engine": "spark", **more}))
    return file


TOTALS = {"group": {"table": "sales", "by": "item", "values": {"sum": {"sum": "amount"}, "rows": {"count": "amount"}}}}


def transforming_of(opened: Reconciliation) -> Transforming:
    return Transforming(opened.config, opened.store())


def submitted(opened: Reconciliation, file: Path) -> Submitted:
    return transforming_of(opened).submit(file, site_of(opened))


def left_of(opened: Reconciliation) -> list[str]:
    """What steps have left in the store, without the attempt's id."""
    return [path.split("/", 2)[2] for path in opened.store().list("steps")]


def test_a_step_comes_to_what_this_process_comes_to_and_its_result_stays(site: Site, opened: Reconciliation, bucket: ObjectStore) -> None:
    file = asked(opened, bucket, TOTALS, certificate="out/certificate.json")
    found = opened.transform(file)
    assert json.loads((opened.config.path.parent / "out" / "certificate.json").read_text()) == found
    written = {path: bucket.get(path) for path in ("out/sales.csv", "out/open.parquet")}
    assert written["out/sales.csv"] == b'item,sum,rows\nA1,"#VALUE!",2\nb2,3.50,1\n'
    for path in written:
        bucket.delete(path)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"engine": "duckdb"}))
    assert {**opened.transform(file), "request": found["request"]} == found
    assert {path: bucket.get(path) for path in written} == written
    assert left_of(opened) == ["answer.json", "asked.json"]


def test_a_step_is_looked_at_while_it_runs_and_the_same_request_finds_it(
    site: Site, opened: Reconciliation, bucket: ObjectStore, tmp_path: Path
) -> None:
    site.does(f"waits for {tmp_path / 'gate'}")
    file = asked(opened, bucket, TOTALS)
    first = submitted(opened, file)
    kept = Submitted(**json.loads(json.dumps(asdict(first))))  # as a program would that asks later
    assert submitted(opened, file) == first
    assert transforming_of(opened).outcome(kept) is None
    (tmp_path / "gate").touch()
    found = until(lambda: transforming_of(opened).outcome(kept), "the certificate", PATIENCE_S)
    assert [one["rows"] for one in found["outputs"]] == [2, found["inputs"][1]["rows"]]
    assert transforming_of(opened).wait(kept) == transforming_of(opened).outcome(kept) == found, "it stays"


def test_what_is_wrong_is_told_before_or_by_the_step_with_operation_field_and_number(
    site: Site, opened: Reconciliation, bucket: ObjectStore, cluster: EmrCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, wrong = ({"sort": {"table": "sales", "by": column}} for column in ("item", "amuont"))
    told = r"operation 2 \(sort\): column 'amuont' is not in 'sales'; did you mean 'amount'\?"
    with pytest.raises(WrongUsage, match=told):
        submitted(opened, asked(opened, bucket, right, wrong))
    with pytest.raises(WrongUsage, match=r"input sales: here\.csv is on this machine, and emr\w* reads and writes S3; copy it there"):
        submitted(opened, asked(opened, bucket, inputs={"sales": {"path": "here.csv"}, "open": {"from": "breaks"}}))
    assert not cluster.steps
    assert not site.emr.jobs
    monkeypatch.setattr(transforming, "HEAD_MAX", 3)
    with pytest.raises(WrongUsage, match=told):
        opened.transform(asked(opened, bucket, right, wrong))
    many = {"vlookup": {"table": "open", "in": "sales", "key": "key", "match": "item", "take": ["amount"], "many": "error"}}
    with pytest.raises(WrongInput, match=r"operation 1 \(vlookup\): .*'sales'"):
        opened.transform(asked(opened, bucket, many))
    assert list(bucket.list("out")) == []
    assert left_of(opened) == ["answer.json", "asked.json"] * 2


def test_a_step_that_is_cancelled_and_one_that_dies_leave_nothing_half_done(
    site: Site, opened: Reconciliation, bucket: ObjectStore
) -> None:
    site.does("sleep 600")
    there = transforming_of(opened)
    one = submitted(opened, asked(opened, bucket, TOTALS))
    there.cancel(one)
    until(lambda: _raised(there, one), "the end of the step", PATIENCE_S)
    with pytest.raises(Cancelled, match=f"{one.step} .* cancelled"):
        there.outcome(one)
    site.does("echo 'java.io.IOException: No space left on device' >&2; exit 1")
    with pytest.raises(OutOfCapacity):
        opened.transform(asked(opened, bucket, TOTALS))
    assert list(bucket.list("out")) == []


def _raised(there: Transforming, one: Submitted) -> bool:
    try:
        return there.outcome(one) is not None
    except Cancelled:
        return True


def test_a_transient_cluster_is_started_for_a_request_and_ends_with_it(site: Site, tmp_path: Path, bucket: ObjectStore) -> None:
    there = reconciliation(tmp_path, TRANSIENT % site.logs)
    before = set(site.emr.clusters)
    file = asked(there, bucket, TOTALS, inputs={"sales": {"path": at(bucket, "in/sales-0.csv")}, "open": {"path": at(bucket, "in/*.csv")}})
    with pytest.raises(WrongUsage, match=r"operation 1 \(group\)"):
        submitted(there, file)
    assert set(site.emr.clusters) == before, "nothing is started for what is wrong"
    file = asked(there, bucket, inputs={"sales": {"path": at(bucket, "in/sales-0.csv")}, "open": {"path": at(bucket, "in/*.csv")}})
    one = submitted(there, file)
    assert one.started
    assert transforming_of(there).wait(one)["outputs"][1]["rows"] == 4
    (made,) = set(site.emr.clusters) - before
    assert (made, site.emr.clusters[made].state) == (one.place, "TERMINATED")


def test_ctrl_c_ends_the_step(site: Site, opened: Reconciliation, bucket: ObjectStore) -> None:
    site.does("sleep 600")
    command = [sys.executable, "-m", "recon.cli", "transform", str(asked(opened, bucket, TOTALS)), "--config", str(opened.config.path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    running = lambda: [*(step for one in site.emr.clusters.values() for step in one.steps), *site.emr.jobs.values()]  # noqa: E731
    before = len(running())
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=end_with_parent) as process:
        until(lambda: len(running()) > before, "a step", PATIENCE_S)
        looked = site.emr.calls["DescribeStep"] + site.emr.calls["GetJobRun"]
        until(lambda: site.emr.calls["DescribeStep"] + site.emr.calls["GetJobRun"] > looked, "somebody who waits", PATIENCE_S)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, said
    until(lambda: running()[-1].state == "CANCELLED", "the end of the step", PATIENCE_S)
