"""Aggregations on EMR: computed by a step, loaded by the run, and waiting where there is no cluster."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from aggregations_in_dagster import Dagster, aggregated
from emr_server import THROTTLED, EmrCluster, until
from emr_site import Site, at_the_site
from franchise import WINDOW


@pytest.fixture(autouse=True)
def _at_the_site(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    at_the_site(site, monkeypatch)


@pytest.fixture
def cluster(site: Site) -> Iterator[EmrCluster]:
    made = site.emr.cluster(log_uri=f"s3n://{site.logs}/elasticmapreduce/")
    yield made
    site.emr.lose(made, "", "the test is over")


@pytest.fixture(scope="module")
def landed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dagster = Dagster(aggregated(tmp_path_factory.mktemp("landed")))
    dagster.deliver()
    return dagster.folder


def on(cluster: EmrCluster, landed: Path, folder: Path) -> Dagster:
    site = Path(shutil.copytree(landed, folder / "franchise", dirs_exist_ok=True))
    text = (landed / "recon.yaml").read_text()
    (site / "recon.yaml").write_text(f"{text}engine: {{package: /home/hadoop/recon, kind: emr, cluster: {cluster.id}}}\n")
    return Dagster(site)


def test_a_step_computes_what_the_run_loads_and_is_named_by_it(site: Site, cluster: EmrCluster, landed: Path, tmp_path: Path) -> None:
    dagster = on(cluster, landed, tmp_path)
    assert dagster.launched(dagster.requested()).success
    metadata, (run,) = dagster.metadata(), dagster.runs()
    assert metadata["totals"] == "sale 11,550.00, tax 10,020.00, discount 11,220.00"
    assert metadata["emr_cluster"] == cluster.id
    assert metadata["emr_step"] == run.figures["place"]["emr_step"]
    assert metadata["emr_logs"].startswith(f"s3://{site.logs}/elasticmapreduce/{cluster.id}/steps/")
    (step,) = cluster.steps
    assert f"aggregate {WINDOW}" in step.name
    assert not list((dagster.folder / "store" / "steps").rglob("*.json"))


def test_a_failed_step_fails_the_run_with_the_place_of_its_logs(site: Site, cluster: EmrCluster, landed: Path, tmp_path: Path) -> None:
    dagster = on(cluster, landed, tmp_path)
    site.does("echo 'recon: file IL-101.tdf, line 2: bad' >&2; echo 'exited with 1' >&2; exit 1")
    assert not dagster.launched(dagster.requested()).success
    (run,) = dagster.runs()
    assert run.state == "failed"
    assert f"logs: s3://{site.logs}/elasticmapreduce/{cluster.id}/steps/" in run.reason
    (step,) = cluster.steps
    assert run.figures == {"place": {"emr_cluster": cluster.id, "emr_step": step.id}}


def test_no_cluster_is_a_reason_to_wait_and_another_one_takes_the_run(
    site: Site, cluster: EmrCluster, landed: Path, tmp_path: Path
) -> None:
    dagster = on(cluster, landed, tmp_path)
    site.emr.lose(cluster, "USER_REQUEST", "terminated by a person")
    said = dagster.tick()
    assert f"it is due, and waits for cluster {cluster.id} is TERMIN" in said
    assert "terminated by a person" in said
    assert dagster.runs() == []
    site.emr.refuse(THROTTLED, 1, "DescribeCluster")
    assert "could not be asked" in dagster.tick()
    other = site.emr.cluster()
    again = on(other, landed, tmp_path)
    assert again.launched(again.requested()).success
    assert [run.state for run in again.runs()] == ["completed"]


def test_a_step_is_noted_with_its_run_while_it_runs(site: Site, cluster: EmrCluster, landed: Path, tmp_path: Path) -> None:
    dagster = on(cluster, landed, tmp_path)
    gate = tmp_path / "gate"
    site.does(f"waits for {gate}")
    request = dagster.requested()
    thread = Thread(target=dagster.launched, args=(request,), daemon=True)
    thread.start()
    until(lambda: dagster.runs()[0].figures, "the note")
    (run,) = dagster.runs()
    assert (run.state, run.figures["place"]["emr_step"]) == ("running", cluster.steps[0].id)
    gate.touch()
    thread.join()
    assert [one.state for one in dagster.runs()] == ["completed"]
