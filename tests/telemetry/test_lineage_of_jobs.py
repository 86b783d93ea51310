"""OpenLineage events of deliveries, aggregations and transformations, as a backend on the loopback receives them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aggregation_site as shops
import duckdb
import pytest
import service_site
import sources_site
from lineage_events import check_types, datasets, statistics
from loopback_http import Posts
from openlineage.client.naming.dataset import Postgres, Redshift

import recon
from recon.aggregations.runs.carry_out import carry_out
from recon.aggregations.tick import tick
from recon.aggregations.warehouse.names import table_dataset
from recon.errors import Cancelled, WrongUsage
from recon.intake.sources.deliver import Delivered, process_open
from recon.intake.sources.inbox import Item
from recon.intake.sources.used import Delivery
from recon.service.worker import Worker

HEADER = "Konto;Betrag\n"
GOOD, BAD = HEADER + "A;1,50\nB;2,00\n", HEADER + "C;viel\n"


def lineage(backend: Posts, more: str = "") -> str:
    return f"\nobservability: {{lineage: {{url: {backend.url}{more}}}}}\n"


def bank(folder: Path, backend: Posts, more: str = "") -> recon.Reconciliation:
    """A site whose source takes files that are right as a whole only."""
    opened = sources_site.site(folder, extra="rejects: file\nversion: {part: part}" if more == "file" else "")
    path = opened.config.path
    path.write_text(path.read_text() + lineage(backend))
    return recon.open(path)


def pair(backend: Posts, job: str, end: str = "COMPLETE") -> tuple[dict[str, Any], dict[str, Any]]:
    """The two events of the one run of a job: its beginning and its end."""
    found = [event for event in backend.taken if event["job"]["name"] == job]
    assert [event["eventType"] for event in found] == ["START", end], backend.taken
    assert found[0]["run"]["runId"] == found[1]["run"]["runId"]
    for event in found:
        check_types(event)
    return found[0], found[1]


def checks(event: dict[str, Any], side: str = "inputs") -> dict[str, bool]:
    return {
        one["assertion"]: one["success"]
        for used in event[side]
        for one in used.get("inputFacets", {}).get("dataQualityAssertions", {}).get("assertions", [])
    }


# ---- deliveries ------------------------------------------------------------------------------------------------------


def test_a_delivery_reports_the_inbox_and_where_its_files_went(tmp_path: Path, backend: Posts) -> None:
    opened = bank(tmp_path, backend)
    inbox, store = sources_site.inbox(opened), str(opened.config.store_path)
    (inbox / "bank_20261101_1.csv").write_text(GOOD)
    (inbox / "bank_20261102_1.csv").write_text("no header\n")
    found = opened.deliver(inbox)
    assert {file.name: file.state for file in found.files} == {"bank_20261101_1.csv": "landed", "bank_20261102_1.csv": "rejected"}
    start, end = pair(backend, "bank.deliver")
    assert datasets(start, "inputs") == {str(inbox): {}}
    size = len(GOOD) + len("no header\n")
    assert datasets(end, "inputs") == {str(inbox): statistics(rowCount=2, size=size, fileCount=2)}
    assert datasets(end, "outputs") == {
        f"{store}/received": statistics(rowCount=2, size=size, fileCount=2),
        f"{store}/events": statistics(rowCount=2, fileCount=1),
    }
    assert {one["namespace"] for event in (start, end) for side in ("inputs", "outputs") for one in event[side]} == {"file"}
    assert checks(end) == {"bank_20261101_1.csv has landed": True, "bank_20261102_1.csv has landed": False}


def test_files_that_were_received_earlier_are_a_run_of_their_own_and_none_without_files(tmp_path: Path, backend: Posts) -> None:
    opened = bank(tmp_path, backend)
    rejected = sources_site.deliver_one(opened, "no header\n")
    intake = opened.intake()
    backend.taken.clear()
    process_open(intake, Delivered())
    assert backend.taken == []
    intake.tracking.retried(rejected, "again")
    process_open(intake, Delivered())
    _, end = pair(backend, "bank.process")
    assert list(datasets(end, "inputs")) == [f"{opened.config.store_path}/received"]
    assert checks(end) == {"bank_20261101_1.csv has landed": False}


def test_a_delivery_that_cannot_begin_fails(tmp_path: Path, backend: Posts) -> None:
    opened = bank(tmp_path, backend)
    with pytest.raises(WrongUsage):
        opened.deliver(tmp_path / "elsewhere")
    _, end = pair(backend, "bank.deliver", "FAIL")
    assert end["run"]["facets"]["errorMessage"]["message"].startswith("WrongUsage: ")


def test_reference_data_has_a_place_of_its_own(tmp_path: Path, backend: Posts) -> None:
    site = shops.made(tmp_path, more=lineage(backend))
    (tmp_path / "inbox").mkdir()
    (tmp_path / "sources" / "sales.yaml").unlink()
    (tmp_path / "aggregations" / "daily.yaml").unlink()
    (tmp_path / "inbox" / "items1.csv").write_text("item\nX\nY\n")
    recon.open(site.config.path).deliver(tmp_path / "inbox")
    _, end = pair(backend, "shops.deliver")
    outputs = {name.removeprefix(f"{site.config.store_path}/"): found for name, found in datasets(end, "outputs").items()}
    assert outputs["received/reference"] == statistics(rowCount=2, fileCount=1)
    assert outputs["events"] == statistics(rowCount=0, fileCount=0)


def test_the_inputs_of_a_queue_are_the_buckets_of_its_objects(tmp_path: Path) -> None:
    intake = sources_site.site(tmp_path).intake()
    delivery = Delivery(intake, "https://sqs.eu-west-1.amazonaws.com/123456789012/arrivals", [], [])
    assert delivery.used()[0] == []
    delivery.items += [Item("a.csv", f"s3://{bucket}/2026/11/{day}/a.csv", "1") for bucket in ("one", "two") for day in (1, 2)]
    assert [one.place for one in delivery.used(done=True)[0]] == [("s3://one", "/"), ("s3://two", "/")]


# ---- aggregations ----------------------------------------------------------------------------------------------------


def test_an_aggregation_reports_its_files_and_the_table_that_it_loaded(tmp_path: Path, backend: Posts) -> None:
    site = shops.made(tmp_path, more=lineage(backend))
    shops.land(site, "a.csv", [("A", "4", "1.00"), ("A", "5", "1.00"), ("B", "4", "2.50")])
    (done,) = shops.run(site)[1]
    assert done.state == "completed", done.reason
    start, end = pair(backend, "shops.aggregations.daily")
    store, file = str(site.config.store_path), tmp_path / "warehouse.duckdb"
    assert datasets(start, "inputs") == {f"{store}/events": {}}
    assert datasets(end, "inputs") == {f"{store}/events": statistics(rowCount=3, size=100, fileCount=1)}
    assert datasets(end, "outputs") == {"warehouse.main.daily": statistics(rowCount=2)}
    assert [one["namespace"] for one in end["outputs"]] == [f"duckdb://{file}"]
    with duckdb.connect(str(file)) as warehouse:  # the name is one by which DuckDB finds the table
        assert warehouse.execute("SELECT count(*) FROM warehouse.main.daily").fetchall() == [(2,)]
    facet = end["run"]["facets"]["nominalTime"]
    assert (facet["nominalStartTime"], facet["nominalEndTime"]) == ("2026-11-01T00:00:00.000Z", "2026-11-02T00:00:00.000Z")


def test_a_run_that_fails_and_one_that_is_cancelled_differ(tmp_path: Path, backend: Posts) -> None:
    site = shops.made(tmp_path, {"daily": shops.DAILY.replace("keys: shop", "keys: code")}, more=lineage(backend))
    shops.land(site, "a.csv", [("A", "SECRET-KEY", "1.00")])
    (done,) = shops.run(site)[1]
    assert (done.state, "SECRET-KEY" in done.reason) == ("failed", True)
    _, end = pair(backend, "shops.aggregations.daily", "FAIL")
    assert "SECRET-KEY" not in json.dumps(backend.taken)
    assert [one["name"] for one in end["outputs"]] == ["warehouse.main.daily"]
    backend.taken.clear()
    shops.land(site, "b.csv", [("1", "4", "1.00")], window=shops.NEXT)
    (claimed,) = [run for run in tick(site).claimed if run.scope == shops.NEXT]
    site.runs.start(claimed, "test")
    site.runs.end(claimed, "cancelled", "by a person")
    with pytest.raises(WrongUsage):
        carry_out(site, claimed, "test")
    assert backend.taken == []  # it was never begun here


def test_an_interrupted_aggregation_is_aborted(tmp_path: Path, backend: Posts) -> None:
    site = shops.made(tmp_path, more=lineage(backend))
    shops.land(site)
    (claimed,) = tick(site).claimed

    def interrupted(*_: Any) -> Any:
        raise Cancelled("a person ended it")

    with pytest.raises(Cancelled):
        carry_out(site, claimed, "test", reduce=interrupted)
    pair(backend, "shops.aggregations.daily", "ABORT")


@pytest.mark.parametrize(
    ("warehouse", "named"),
    [
        (
            "{kind: postgresql, url: 'postgresql://db.example:6432/books?sslmode=require', user: me, secret: PG}",
            Postgres("db.example", "6432", "books", "public", "daily"),
        ),
        ("{kind: postgresql, url: 'postgresql://db.example/books'}", Postgres("db.example", "5432", "books", "public", "daily")),
        (
            "{kind: redshift, workgroup: finance, database: books, staging: 's3://staging/x/'}",
            Redshift("finance", "eu-west-1", "5439", "books", "public", "daily"),
        ),
        (
            "{kind: redshift, cluster: main-1, database: books, staging: 's3://staging/x/', "
            "secret: 'arn:aws:secretsmanager:us-east-2:123456789012:secret:books'}",
            Redshift("main-1", "us-east-2", "5439", "books", "public", "daily"),
        ),
    ],
)
def test_tables_have_the_names_that_openlineage_gives_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warehouse: str, named: Postgres | Redshift
) -> None:
    """By the names of OpenLineage's own library. A schema of a target takes the place of the database's default one."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    config = shops.made(tmp_path, more=f"warehouse: {warehouse}\n").config
    assert table_dataset(config, "daily") == (named.get_namespace(), named.get_name())
    assert table_dataset(config, "sales.daily").name == named.get_name().replace(".public.", ".sales.")


# ---- transformations -------------------------------------------------------------------------------------------------

REQUEST = """
inputs:
  sales: {path: ["in/*.csv"], types: {amount: "decimal(18,2)"}}
  rates: {path: rates.csv}
operations:
  - compute: {table: sales, set: {twice: "=[@amount] * 2"}, as: doubled}
outputs:
  - {table: doubled, path: out/doubled.csv}
  - {table: rates, path: out/rates.csv}
on_error: reject
"""


def transforming(folder: Path, backend: Posts) -> recon.Reconciliation:
    (folder / "recon.yaml").write_text(shops.RECON + lineage(backend))
    (folder / "in").mkdir()
    (folder / "in" / "a.csv").write_text("shop,amount\nA,1.00\n")
    (folder / "in" / "b.csv").write_text("shop,amount\nB,2.00\nC,x\n")
    (folder / "rates.csv").write_text("currency,rate\nEUR,1\n")
    (folder / "request.yaml").write_text(REQUEST)
    return recon.open(folder / "recon.yaml")


def test_a_transformation_reports_its_files_and_what_it_made(tmp_path: Path, backend: Posts) -> None:
    opened = transforming(tmp_path, backend)
    opened.transform(tmp_path / "request.yaml")
    start, end = pair(backend, "shops.transformations.request")
    assert datasets(start, "inputs") == {f"{tmp_path}/in": {}, f"{tmp_path}/rates.csv": {}}
    assert list(datasets(start, "outputs")) == [
        f"{tmp_path}/out/doubled.csv",
        f"{tmp_path}/out/doubled.csv.rejects.csv",
        f"{tmp_path}/out/rates.csv",
        f"{tmp_path}/out/rates.csv.rejects.csv",
    ]
    assert datasets(end, "inputs") == {
        f"{tmp_path}/in": statistics(rowCount=3, fileCount=2),
        f"{tmp_path}/rates.csv": statistics(rowCount=1, fileCount=1),
    }
    assert datasets(end, "outputs") == {
        f"{tmp_path}/out/doubled.csv": statistics(rowCount=2),
        f"{tmp_path}/out/doubled.csv.rejects.csv": statistics(rowCount=1),
        f"{tmp_path}/out/rates.csv": statistics(rowCount=1),
        f"{tmp_path}/out/rates.csv.rejects.csv": statistics(rowCount=0),
    }


def test_a_transformation_of_a_loaded_table_names_the_table(tmp_path: Path, backend: Posts) -> None:
    site = shops.made(tmp_path, more=lineage(backend))
    shops.land(site)
    shops.run(site)
    request = {
        "inputs": {"daily": {"from": "table", "table": "daily", "window": shops.WINDOW}},
        "operations": [],
        "outputs": [{"table": "daily", "path": "out.csv"}],
    }
    (tmp_path / "copy.json").write_text(json.dumps(request))
    recon.open(site.config.path).transform(tmp_path / "copy.json")
    _, end = pair(backend, "shops.transformations.copy")
    (loaded,) = [
        event for event in backend.taken if event["eventType"] == "COMPLETE" and event["job"]["name"] == "shops.aggregations.daily"
    ]
    table = [(one["namespace"], one["name"]) for one in loaded["outputs"]]
    assert [(one["namespace"], one["name"]) for one in end["inputs"]] == table  # so that a catalogue joins both jobs
    assert list(datasets(end, "inputs").values()) == [statistics(rowCount=1)]


def test_a_transformation_that_is_wrong_fails(tmp_path: Path, backend: Posts) -> None:
    opened = transforming(tmp_path, backend)
    (tmp_path / "request.yaml").write_text(REQUEST.replace("@amount", "@amounts"))
    with pytest.raises(WrongUsage):
        opened.transform(tmp_path / "request.yaml")
    _, end = pair(backend, "shops.transformations.request", "FAIL")
    assert [len(end[side]) for side in ("inputs", "outputs")] == [2, 4]


def test_a_request_of_the_service_names_neither_uploads_nor_the_secret_place_of_results(tmp_path: Path, backend: Posts) -> None:
    service_site.service_in(tmp_path)
    path = tmp_path / "recon.yaml"
    path.write_text(path.read_text() + lineage(backend))
    service = recon.open(path).service()
    who = service_site.holder(service)
    upload = service.uploads.add(who, "sales.csv", [b"a,b\n", b"x,1.10\n"])
    one, _ = service.submit(who, service_site.sums(f"upload:{upload.name}"))
    Worker(service, say=lambda line: None).work(for_s=60, idle_s=1.0)
    done = service_site.now(service, one)
    assert done.state == "done", done.reason
    _, end = pair(backend, "orders.service.small")
    assert [name.rpartition("/")[2] for name in datasets(end, "inputs")] == ["uploads"]
    assert [name.rpartition("/")[2] for name in datasets(end, "outputs")] == ["results"]
    assert list(datasets(end, "outputs").values()) == [statistics(rowCount=1)]
    assert done.place is not None
    assert not [secret for secret in (done.place, upload.name) if secret in json.dumps(backend.taken)]


def test_a_backend_that_is_away_costs_no_delivery_aggregation_or_transformation(tmp_path: Path, backend: Posts) -> None:
    backend.answers = [500] * 100
    opened = bank(tmp_path, backend)
    assert sources_site.deliver_one(opened, GOOD).state == "landed"
    assert (len(backend.refused), backend.taken) == (1, [])
