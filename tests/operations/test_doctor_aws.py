"""recon doctor on AWS: each service that is configured, and no other, is asked one reading question, and what fails is told in a line."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import seaweed
from cli_calls import Call, findings
from dynamodb_local import dynamodb_local
from emr_server import Refused, emr_server
from loopback import free_port
from valkey_server import valkey

from recon import open as open_reconciliation
from recon.samples.scenario import write_sample

SECRET = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"
SERVERLESS = "{kind: emr_serverless, application: 00f1, role: 'arn:aws:iam::123456789012:role/recon', package: /p, messages: 's3://bucket'}"
SERVICES = {
    "S3": ("store", "store: s3://there-is-none/orders"),
    "DYNAMODB": ("index table", "index: {kind: dynamodb, table: recon-orders}"),
    "LAMBDA": ("index workers", "workers: {kind: lambda, function: recon-index}"),
    "EMR": ("emr", "engine: {kind: emr, cluster: j-2AXXXXXXGAPLF, package: /p}"),
    "EMR_SERVERLESS": ("emr serverless", f"engine: {SERVERLESS}"),
}
OF_AWS = {"aws credentials", "index table", "index workers", "emr", "emr serverless", "package of recon"}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    given = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_EC2_METADATA_DISABLED": "true"}
    given |= {"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1", "AWS_CONFIG_FILE": str(tmp_path / "none")}
    given |= {"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none")}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)


def configured(folder: Path, *lines: str) -> Path:
    """A configuration with these lines, a ``store`` among them in place of the usual one."""
    if not (folder / "recon.yaml").exists():
        write_sample(folder)
        (folder / "as-it-was").write_text((folder / "recon.yaml").read_text())
    text = (folder / "as-it-was").read_text()
    if any(line.startswith("store:") for line in lines):
        text = "\n".join(line for line in text.splitlines() if not line.startswith("store:"))
    (folder / "recon.yaml").write_text("\n".join([text, *lines, ""]))
    return folder / "recon.yaml"


@contextmanager
def answering(status: int, body: dict[str, Any]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """A service that answers everything so; with the methods and headers that it was asked by."""
    asked: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked.append((self.path, self.headers.get("X-Amz-Invocation-Type", "")))
            content = b"" if status == 204 else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()


def test_nothing_of_aws_is_looked_at_that_is_not_configured(recon: Call, tmp_path: Path) -> None:
    assert not OF_AWS & set(findings(recon, "--config", str(configured(tmp_path / "here"))))


@pytest.mark.parametrize("service", SERVICES)
def test_where_nobody_listens_a_line_says_so_and_what_to_check_and_the_status_is_1(
    service: str, recon: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, (name, line) = free_port(), SERVICES[service]
    monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", f"http://127.0.0.1:{port}")
    file = str(configured(tmp_path / "here", line))
    found = findings(recon, "--config", file)
    assert (found[name]["there"], found[name]["needed"]) == (False, True)
    assert "the network" in str(found[name]["mend"])
    assert "\n" not in str(found[name]["told"])
    assert OF_AWS & set(found) == {"aws credentials", name} & OF_AWS, "of what is configured, and of nothing else"
    answer = recon("doctor", "--config", file)
    assert answer.status == 1
    assert SECRET not in answer.out + answer.err
    assert "AKIAIOSFODNN7EXAMPLE" not in answer.out + answer.err


def test_a_cache_that_nobody_listens_for_is_told_in_a_line(recon: Call, tmp_path: Path) -> None:
    port = free_port()
    file = configured(tmp_path / "here", "store: s3://there-is-none/orders", f"cache: {{kind: redis, url: 'redis://127.0.0.1:{port}/0'}}")
    found = findings(recon, "--config", str(file))["cache"]
    assert not found["there"]
    assert f"127.0.0.1:{port}" in str(found["told"])


def test_without_credentials_that_alone_is_told(recon: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    file = str(configured(tmp_path / "here", SERVICES["DYNAMODB"][1], SERVICES["LAMBDA"][1]))
    found = findings(recon, "--config", file)
    assert OF_AWS & set(found) == {"aws credentials"}
    assert "aws sso login" in str(found["aws credentials"]["mend"])
    assert recon("doctor", "--config", file).status == 1


def test_a_missing_region_is_told(recon: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    found = findings(recon, "--config", str(configured(tmp_path / "here", SERVICES["EMR"][1])))
    assert "AWS_REGION" in str(found["emr"]["mend"])


def test_an_index_table_is_described_and_none_is_made(recon: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3

    with dynamodb_local(tmp_path) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", endpoint)
        file = str(configured(tmp_path / "here", SERVICES["DYNAMODB"][1]))
        found = findings(recon, "--config", file)["index table"]
        assert (found["there"], "there is no table recon-orders" in str(found["told"])) == (True, True)
        tables = boto3.client("dynamodb")
        assert tables.list_tables()["TableNames"] == []
        name = {"AttributeName": "key"}
        tables.create_table(
            TableName="recon-orders",
            KeySchema=[{**name, "KeyType": "HASH"}],
            AttributeDefinitions=[{**name, "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        assert findings(recon, "--config", file)["index table"]["told"] == "table recon-orders is ACTIVE"
        tables.update_table(TableName="recon-orders", DeletionProtectionEnabled=False)
        tables.delete_table(TableName="recon-orders")

        event = str(next((tmp_path / "here" / "events").iterdir()))
        assert recon("land", event, "--window", "2026-11-01T00:00Z", "--close", "--config", file).status == 0
        open_reconciliation(file).run()
        assert recon("index", "rebuild", "--config", file).status == 0
        (table,) = tables.list_tables()["TableNames"][-1:]
        assert findings(recon, "--config", file)["index table"]["told"] == f"table {table} is ACTIVE"
        for one in tables.list_tables()["TableNames"]:
            tables.update_table(TableName=one, DeletionProtectionEnabled=False)
            tables.delete_table(TableName=one)
        gone = findings(recon, "--config", file)["index table"]
        assert (gone["there"], gone["mend"]) == (False, "recon index rebuild")


def test_a_store_in_s3_is_opened_and_none_is_made_and_the_cache_before_it_is_tried(
    recon: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with seaweed.server() as s3, valkey(tmp_path) as cache:
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        bucket = s3.bucket()
        lines = (f"store: s3://{bucket}/orders", f"cache: {{kind: redis, url: '{cache.url}'}}")
        file = str(configured(tmp_path / "here", *lines))
        found = findings(recon, "--config", file)
        assert (found["store"]["there"], found["store"]["mend"]) == (False, "recon land FILE --window W --close")
        assert s3.client().list_objects_v2(Bucket=bucket)["KeyCount"] == 0
        assert found["cache"]["there"]
        assert "env" in str(found["aws credentials"]["told"])
        event = str(next((tmp_path / "here" / "events").iterdir()))
        assert recon("land", event, "--window", "2026-11-01T00:00Z", "--close", "--config", file).status == 0
        before = {one["Key"] for one in s3.client().list_objects_v2(Bucket=bucket)["Contents"]}
        assert findings(recon, "--config", file)["store"]["there"]
        assert {one["Key"] for one in s3.client().list_objects_v2(Bucket=bucket)["Contents"]} == before
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        wrong = findings(recon, "--config", file)["store"]
        assert (wrong["there"], SECRET in str(wrong)) == (False, False)


@pytest.mark.parametrize(
    ("status", "code", "there", "mend"),
    [
        (204, "", True, ""),
        (404, "ResourceNotFoundException", False, "workers.function"),
        (403, "AccessDeniedException", False, "allow lambda:InvokeFunction"),
        (403, "ExpiredTokenException", False, "renew the credentials"),
    ],
)
def test_a_function_is_tried_by_a_dry_run(
    recon: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, code: str, there: bool, mend: str
) -> None:
    with answering(status, {"__type": code, "message": "said so"}) as (url, asked):
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", url)
        found = findings(recon, "--config", str(configured(tmp_path / "here", SERVICES["LAMBDA"][1])))["index workers"]
    assert (found["there"], mend in str(found["mend"])) == (there, True)
    assert [kind for _, kind in asked] == ["DryRun"]


def test_a_cluster_and_an_application_of_emr_are_described(recon: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with emr_server(tmp_path / "steps", {}) as emr:
        for name in ("EMR", "EMR_SERVERLESS"):
            monkeypatch.setenv(f"AWS_ENDPOINT_URL_{name}", emr.url)
        one = emr.cluster(log_uri="s3://bucket/logs")

        def told(name: str, line: str) -> tuple[Any, str]:
            found = findings(recon, "--config", str(configured(tmp_path / "here", line)))[name]
            return found["there"], f"{found['told']}; {found['mend']}"

        named = f"engine: {{kind: emr, cluster: {one.id}, package: /p}}"
        assert told("emr", named) == (True, f"{one.id} is WAITING, 10 steps at once; ")
        emr.refuse(Refused("AccessDeniedException", "User is not authorized"), 1, "DescribeCluster")
        assert told("emr", named)[1].endswith("allow elasticmapreduce:DescribeCluster to the role or user that runs this")
        emr.lose(one, "USER_REQUEST", "")
        there, line = told("emr", named)
        assert (there, "is TERMINATED_WITH_ERRORS; name a running cluster in engine.cluster" in line) == (False, True)
        there, line = told("emr", SERVICES["EMR"][1])
        assert (there, "is not valid" in line) == (False, True)
        assert told("emr serverless", SERVICES["EMR_SERVERLESS"][1]) == (True, "00f1 is STARTED, emr-7.10.0; ")
        fleets = "{primary: {types: m7g.xlarge, on_demand: 1}, core: {types: m7g.xlarge, on_demand: 1}}"
        own = f"{{release: emr-7.10.0, service_role: r, instance_profile: p, subnets: subnet-1, fleets: {fleets}}}"
        emr.refuse(Refused("AccessDeniedException", "User is not authorized"), 1, "ListClusters")
        there, line = told("emr", f"engine: {{kind: emr, package: /p, transient: {own}}}")
        assert (there, "EMR answers; each run starts a cluster of its own" in line) == (True, True)
        assert set(emr.calls) == {"DescribeCluster", "GetApplication", "ListClusters"}, "nothing but reading"
