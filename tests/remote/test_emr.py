"""EMR and EMR Serverless with a store in S3: stages as steps and jobs that run the real ``spark-submit`` on a real cluster of two workers.

Executors read and write the store by themselves: credentials and endpoint reach them through the environment of the workers, as on AWS
those of the instance role do.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import seaweed
from cluster import cluster
from emr_server import EmrServer, emr_server
from histories import records
from small_reconciliation import YAML, failures, landed, materialized, run, window

import recon
from recon.api import Reconciliation
from recon.errors import WrongInput
from recon.operations.packaging.spark_zip import package
from recon.remote import clusters
from recon.storage.aws_calls import Pace
from recon.storage.open import open_store
from recon_assets.partitions import range_tags
from resources import emr, emr_serverless

BAD = "A1,e1-1,INVOICE,10.00,EUR\n"
STAGES = {"reduce": "stateless_artifacts", "prefetch": "prefetched_artifacts", "merge": "stateful_artifacts"}


@dataclass(frozen=True)
class Site:
    """EMR's stand-in, S3, and the library's package for them."""

    emr: EmrServer
    s3: seaweed.Seaweed
    package: Path
    environment: dict[str, str]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("emr")
    with seaweed.server() as s3, pytest.MonkeyPatch.context() as patch:
        for name, value in s3.environment.items():
            patch.setenv(name, value)
        with cluster(folder) as spark:
            conf = folder / "conf"
            conf.mkdir()
            # As EMR does it: where Spark runs stands in its defaults.
            settings = {"spark.master": spark.master, "spark.driver.host": "127.0.0.1", "spark.ui.enabled": "false"}
            settings |= {"spark.driver.memory": "512m", "spark.executor.memory": "512m"}
            (conf / "spark-defaults.conf").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
            path = f"{spark.environment['SPARK_HOME']}/bin{os.pathsep}{os.environ['PATH']}"
            environment = {**spark.environment, "SPARK_CONF_DIR": str(conf), "PATH": path}
            package(folder / "dist")

            def put_log(bucket: str, key: str, body: bytes) -> None:
                s3.client().put_object(Bucket=bucket, Key=key, Body=body)

            with emr_server(folder / "steps", environment, put_log) as server:
                yield Site(server, s3, folder / "dist", environment)


@pytest.fixture(autouse=True)
def _at_the_site(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL_EMR", "AWS_ENDPOINT_URL_EMR_SERVERLESS"):
        monkeypatch.setenv(name, site.emr.url)
    for module in (emr, emr_serverless, clusters):
        monkeypatch.setattr(module, "PACE", Pace(first=0.1, most=0.5, patience=30, logs=30))
    monkeypatch.setattr(emr_serverless, "MESSAGES_S", 0.2)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made_instance:
        yield made_instance


def reconciliation(folder: Path, store: str, more: str) -> Reconciliation:
    folder.mkdir()
    text = YAML.format(name="orders").replace("store: ./orders_data", f"store: {store}")
    (folder / "orders.yaml").write_text(f"{text}{more}\n")
    opened = recon.open(folder / "orders.yaml")
    opened.store(create=True)
    return opened


@pytest.mark.soak
def test_a_range_through_steps_equals_duckdbs_and_a_window_that_is_bad_there_is_told_here(
    site: Site, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    bucket = site.s3.bucket()
    long_running = site.emr.cluster(log_uri=f"s3://{bucket}/logs/")
    engine = f"engine: {{kind: emr, cluster: {long_running.id}, package: {site.package}, slices: 2}}\nrejects: stop"
    there, here = reconciliation(tmp_path / "there", f"s3://{bucket}/orders", engine), reconciliation(tmp_path / "here", "./data", "")
    for r in (there, here):
        landed(r, 0)
        landed(r, 1)
    landed(there, 2, "A2,e2-1,INVOICE,1O.00,EUR\n")

    result = run(there, range_tags(window(0), window(2)), instance, "land_and_reduce")
    (told,) = failures(result)
    assert told.startswith("window 2026-11-01T02:00Z: file-02.csv, line 2: ")
    kept = instance.get_run_by_id(result.run_id)
    assert kept is not None
    assert kept.tags["recon/failure"] == "WrongInput"
    done = instance.get_materialized_partitions(dg.AssetKey(["orders", STAGES["reduce"]]))
    assert done == {window(0), window(1)}, "the others are done all the same"
    (step,) = long_running.steps
    assert (step.state, step.exit_status) == ("FAILED", 1)

    result = run(there, range_tags(window(0), window(1)), instance)
    assert result.success, failures(result)
    assert [one.name.split(" ")[2] for one in long_running.steps] == ["reduce", "merge"], "what was reduced is not submitted again"
    here.run()
    assert records(there) == records(here)
    assert there.state().commit == 1
    assert there.verify(full=True).problems == []

    # What only the step knew has come back through the store, window by window.
    merged, last = materialized(result, STAGES["merge"]), long_running.steps[-1].id
    assert set(merged) == {window(0), window(1)}
    for shown in merged.values():
        assert (shown["range_records_written"], shown["prefetched_keys"]) == (3, 3)
        assert shown["emr_step"] == last
        assert shown["emr_logs"] == f"s3://{bucket}/logs/{long_running.id}/steps/{last}/"
        assert shown["emr_console"].startswith("https://us-east-1.console.aws.amazon.com/")
    assert "emr_step" not in materialized(result, STAGES["reduce"])[window(0)], "that one was done before"
    assert list(there.store().list("steps")) == []

    assert run(there, range_tags(window(0), window(1)), instance).success
    assert len(long_running.steps) == 2, "nothing to do: nothing is submitted"


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["emr", "emr_serverless"])
def test_a_transformation_as_a_step_reads_and_writes_s3_and_comes_to_what_duckdb_comes_to(site: Site, tmp_path: Path, kind: str) -> None:
    bucket = site.s3.bucket()
    role = "arn:aws:iam::123456789012:role/recon"
    place = f"cluster: {site.emr.cluster().id}" if kind == "emr" else f"application: 00f1r2o3m4e5x601, role: '{role}'"
    there = reconciliation(
        tmp_path / "there", f"s3://{bucket}/orders", f"engine: {{kind: {kind}, {place}, package: {site.package}, slices: 2}}"
    )
    store = open_store(f"s3://{bucket}", tmp_path)
    for part in range(3):
        rows = [f"a{row % 5},{['North', 'south'][row % 2]},{row * 7 % 13}.{row % 10}0" for row in range(part * 9, part * 9 + 9)]
        store.put_new(f"in/sales-{part}.csv", ["\n".join(["item,region,amount", *rows, "A1,North,x", ""]).encode()])
    store.put_new("in/items.csv", [b"item,name\nA1,Apple\na3,Cherry\na1,Apple again\n"])
    inputs = {"sales": {"path": f"s3://{bucket}/in/sales-*.csv", "types": {"amount": "decimal(9,2)"}}}
    inputs["items"] = {"path": f"s3://{bucket}/in/items.csv"}
    operations = [
        {"vlookup": {"table": "sales", "in": "items", "key": "item", "take": ["name"]}},
        {"compute": {"table": "sales", "set": {"third": "=ROUND([@amount]/3, 2)"}}},
        {"sort": {"table": "sales", "by": ["region", {"column": "third", "descending": True}]}},
        {"group": {"table": "sales", "by": "name", "values": {"mean": {"average": "third"}}, "as": "means"}},
    ]
    found = []
    for name in ("spark", "duckdb"):
        paths = {"sales.csv": "sales", "means.xlsx": "means", "all.parquet": "sales"}
        outputs = [{"table": table, "path": f"s3://{bucket}/{name}/{path}"} for path, table in paths.items()]
        request = {"inputs": inputs, "operations": operations, "outputs": outputs, "engine": name, "on_error": "reject"}
        (tmp_path / "request.json").write_text(json.dumps(request))
        certificate = there.transform(tmp_path / "request.json")
        assert (certificate.pop("engine"), certificate.pop("request") != "") == (name, True)
        for output in certificate["outputs"]:  # the same rows are other bytes in a workbook, which has its time, and in Parquet's groups
            output.pop("path")
            output["rejects"].pop("path")
            output.pop("digest")
        texts = {path.partition("/")[2]: store.get(path) for path in store.list(name) if path.endswith(".csv")}
        found.append((certificate, texts, pq.read_table(pa.BufferReader(store.get(f"{name}/all.parquet"))).to_pylist()))
    assert found[0] == found[1]
    assert sorted(found[0][1]) == ["all.parquet.rejects.csv", "means.xlsx.rejects.csv", "sales.csv", "sales.csv.rejects.csv"]
    assert [path.rpartition("/")[2] for path in there.store().list("steps")] == ["answer.json", "asked.json"]
    wrong = {
        **request,
        "engine": "spark",
        "operations": [*operations, {"vlookup": {**operations[0]["vlookup"], "take": {"again": "name"}, "many": "error"}}],
    }
    wrong["outputs"] = [{"table": "sales", "path": f"s3://{bucket}/wrong.csv"}]
    (tmp_path / "request.json").write_text(json.dumps(wrong))
    with pytest.raises(WrongInput, match=r"operation 5 \(vlookup\): "):
        there.transform(tmp_path / "request.json")
    assert not store.exists("wrong.csv")


# In `make test` test_emr_serverless.py shows the same with DuckDB in the place of Spark.
@pytest.mark.soak
def test_a_range_through_a_job_of_emr_serverless_arrives_whole_and_pipes_brings_its_lines(
    site: Site, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    bucket = site.s3.bucket()
    role = "arn:aws:iam::123456789012:role/recon"
    more = f"engine: {{kind: emr_serverless, application: 00f1r2o3m4e5x601, role: '{role}', package: {site.package}, slices: 2}}"
    there = reconciliation(tmp_path / "there", f"s3://{bucket}/orders", more)
    for hour in range(3):
        landed(there, hour)
    result = run(there, range_tags(window(0), window(2)), instance, "land_and_reduce")
    assert result.success, failures(result)
    (job,) = site.emr.jobs.values()
    shown = materialized(result, STAGES["reduce"])
    assert {name: one["emr_job"] for name, one in shown.items()} == {window(hour): job.id for hour in range(3)}
    assert [shown[window(hour)]["keys"] for hour in range(3)] == [2, 2, 2], "figures of each window, not of one stamped on all"
    told = [event.user_message for event in instance.all_logs(result.run_id)]
    assert any("reduce of 2026-11-01T00:00Z..2026-11-01T02:00Z: begun" in line for line in told), "through S3, by Pipes"
    assert any("reduce of 2026-11-01T00:00Z..2026-11-01T02:00Z: done after" in line for line in told)
    assert list(there.store().list("steps")) == [], "messages, too, are removed"
    secrets = site.s3.environment["AWS_SECRET_ACCESS_KEY"]
    assert not any(secrets in line for line in told)
