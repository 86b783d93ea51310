"""The service's function from its zip, under Lambda's true runtime client, behind an API Gateway: its requests are in PostgreSQL, its
messages in SQS, its results in S3."""

from __future__ import annotations

import importlib.util
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import postgres
import pytest
import record_services
import seaweed
import web_site as w
import yaml
from api_gateway import api_of
from lambda_runtime import Function, running_lambda, unzipped
from ministack_server import ministack
from service_site import CONFIG, sums

import recon
from recon.operations.packaging import lambda_zip
from recon.service.worker import Worker

WINDOW = "2026-11-01T00:00Z"
WITHOUT_DUCKDB = ("/v1/breaks", "/v1/duplicates")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, seaweed_server: seaweed.Seaweed) -> Iterator[Path]:
    """A folder with ``recon.yaml`` of a service on AWS, and a reconciliation of one window; the environment leads there."""
    made = tmp_path_factory.mktemp("service")
    for name in ("in", "out"):
        (made / name).mkdir()
    with postgres.server() as running, ministack(made) as aws, pytest.MonkeyPatch.context() as patch:
        for name, value in {**seaweed_server.environment, "AWS_ENDPOINT_URL_SQS": aws.endpoint, "DATABASE": running.password}.items():
            patch.setenv(name, value)
        bucket = seaweed_server.bucket()
        rights = {"read": str(made / "in"), "write": str(made / "out")}
        section = {
            "owners": {"finance": dict(rights), "sales": dict(rights)},
            "results": f"s3://{bucket}/service",
            "queue": record_services.sqs_queue(aws.client("sqs"), 30).url,
        }
        url = f"postgresql://{running.host}:{running.port}/{postgres.new_database(running)}"
        database = {"url": url, "user": running.user, "secret": "DATABASE"}
        written = {**CONFIG, "store": f"s3://{bucket}/recon", "database": database, "service": section}
        (made / "recon.yaml").write_text(yaml.safe_dump(written))
        reconciliation = recon.open(made / "recon.yaml")
        reconciliation.store(create=True)
        (made / "orders.csv").write_text("order_id\nA1\n")
        reconciliation.land([made / "orders.csv"], window=WINDOW, close=True)
        reconciliation.run()
        environment = {**seaweed_server.environment, "AWS_ENDPOINT_URL_SQS": aws.endpoint, "DATABASE": running.password}
        (made / "environment.json").write_text(json.dumps(environment))
        yield made


@pytest.fixture(scope="module")
def package(folder: Path) -> tuple[Path, int]:
    """The zip, as ``make service-package`` makes it, and its bytes when it is unzipped."""
    own = [folder / "recon.yaml"]
    return lambda_zip.package(folder / "dist", lambda_zip.here(), lambda_zip.python_here(), lambda_zip.FUNCTIONS["service"], own)


@pytest.fixture(scope="module")
def served(folder: Path, package: tuple[Path, int]) -> Iterator[w.Served]:
    """What ``w.served_here`` gives of a server, of the deployed function."""
    (logs := folder / "logs").mkdir()
    with running_lambda(logs) as account:
        code = unzipped(package[0], logs)
        environment = {**json.loads((folder / "environment.json").read_text()), "RECON_CONFIG": str(code / "recon.yaml")}
        handler = lambda_zip.FUNCTIONS["service"].handler
        function: Function = account.deploy(code, handler, environment, timeout_s=120)
        with api_of(account, function) as url:
            yield w.Served(url, folder, recon.open(folder / "recon.yaml").service())
        sys.stderr.write(account.log_of(function)[-4000:])


def test_the_zip_has_room_to_spare_and_lacks_what_the_function_does_not_need(package: tuple[Path, int]) -> None:
    assert package[1] < lambda_zip.UNZIPPED_MAX_BYTES - 10e6
    with zipfile.ZipFile(package[0]) as archive:
        tops = {name.split("/")[0].split("-")[0].removesuffix(".py") for name in archive.namelist()}
    assert not tops & {"duckdb", "_duckdb", "pandas", "dagster", "typer", "uvicorn", "boto3"}
    assert {"recon", "recon.yaml", "mangum", "fastapi", "psycopg2"} <= tops


def test_a_request_from_its_file_through_sqs_to_its_result(served: w.Served) -> None:
    with served.client() as client, served.anyone() as anyone:
        assert anyone.get("/health/ready").json() == {"ok": True}
        upload = client.post("/v1/uploads", params={"name": "sales.csv"}, content=b"a,b\nx,1.10\ny,2.00\nx,0.05\n")
        assert upload.status_code == 201, upload.text
        headers = {"Content-Type": "application/json", "Idempotency-Key": "once"}
        first, again = (client.post("/v1/requests", content=sums(upload.json()["path"]), headers=headers) for _ in range(2))
        assert (first.status_code, again.status_code, again.headers["idempotency-replayed"]) == (202, 202, "true")
        name = first.json()["name"]
        assert (first.json()["state"], first.headers["location"]) == ("received", f"/v1/requests/{name}")
        Worker(served.service, say=lambda line: None).work(for_s=w.WAIT_S, idle_s=5)
        done = w.ended(client, name)
        assert (done["state"], done["problem"]) == ("done", None)
        link = client.get(next(one["link"] for one in done["results"] if one["name"] == "sums.csv"))
        assert link.status_code == 302
        assert httpx.get(link.headers["location"]).content == b"a,total\nx,1.15\ny,2.00\n"
        with served.client("sales") as other:
            w.problem(other.get(f"/v1/requests/{name}"), 404, "not-found")
        assert client.delete(f"/v1/uploads/{upload.json()['name']}").status_code == 409


def test_what_needs_duckdb_is_not_here_and_a_key_is(served: w.Served) -> None:
    with served.client("finance", "admin") as client:
        assert client.get("/v1/artifacts/A1").json()["key"] == "A1"
        assert client.get(f"/v1/certificates/{WINDOW}").status_code == 200
        for path in WITHOUT_DUCKDB:
            w.problem(client.get(path), 501, "not-here")


def _matrix() -> ModuleType:
    found = importlib.util.spec_from_file_location("matrix", Path(__file__).with_name("test_matrix.py"))
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


MATRIX: Any = _matrix()
"""Of tests/web/test_matrix.py, but for what S3 answers itself, and what is not here."""
PATHS = [one for one in MATRIX.operations() if "{signed}" not in one[1] and one[1] not in WITHOUT_DUCKDB]


@pytest.mark.parametrize("role", [MATRIX.NOBODY, "submit", "admin"])
@pytest.mark.parametrize(("method", "path"), PATHS)
def test_each_path_answers_each_role_as_the_table_says(served: w.Served, method: str, path: str, role: str) -> None:
    MATRIX.test_each_path_answers_each_role_as_the_table_says(served, method, path, role)


def test_bodies_that_are_wrong_have_the_servers_answers(served: w.Served) -> None:
    kind = {"Content-Type": "application/json"}
    with served.client() as client:
        w.problem(client.post("/v1/requests", content=b"[" * 100, headers=kind), 422, "wrong-request")
        w.problem(client.post("/v1/requests", content=b" " * 1_000_001, headers=kind), 413, "too-large")
        w.problem(client.post("/v1/requests", content=b"{}", headers={"Content-Type": "text/plain"}), 415, "wrong-type")
        w.problem(client.get("/v1/requests", params={"limit": "x"}), 422, "wrong-parameter")
        w.problem(client.put("/v1/requests"), 405, "method-not-allowed")
