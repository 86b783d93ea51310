"""Redshift's own: the Data API when it times out, repeats, loses answers or answers late; staging in S3; statements that Redshift knows."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import seaweed
import sqlglot
import warehouses
from redshift_data import Fault, RedshiftData
from sqlglot import exp
from warehouses import DEFAULT, Shape, Site, load_of, row

from recon.aggregations.warehouse import statements
from recon.aggregations.warehouse.open import open_warehouse
from recon.aggregations.warehouse.port import Load, Loaded
from recon.aggregations.warehouse.redshift_api import STATEMENT_BYTES_MAX
from recon.config.load import load_place
from recon.errors import ConnectionLost, ReconError, TryAgain, WrongInput, WrongUsage
from recon.storage.aws_calls import Pace
from recon.vocabulary.types import TEXT, decimal

BEFORE: dict[Any, Any] = {("a", code): row(str(code)) for code in range(10)}
AFTER: dict[Any, Any] = {**{key: value for key, value in BEFORE.items() if key[1] != 9}, ("a", 3): row("99.00"), ("b", 1): row("7.00")}
DONE = Loaded(10, 1, 1, 1)
OPERATIONS = ("ExecuteStatement", "DescribeStatement", "GetStatementResult")
FAULTS = ("cut", "lost", "twice", "ThrottlingException", "InternalServerException", "ActiveStatementsExceededException")
IMPATIENT = Pace(first=0.002, most=0.02, patience=0.3)


@pytest.fixture
def redshift(api: RedshiftData, staging: Path) -> Site:
    return warehouses.redshift_site(api, staging)


@pytest.fixture
def impatient(api: RedshiftData, staging: Path) -> Site:
    """It gives up after 0.3 seconds, and its sessions end after a second."""
    return warehouses.redshift_site(api, staging, keep_alive_s=1, pace=IMPATIENT)


def of(operation: str, fault: str, every: int = 2) -> Fault:
    """Each ``every``-th request of the operation goes wrong."""
    count = 0

    def decide(asked: str, request: dict[str, Any]) -> str | None:
        nonlocal count
        count += asked == operation
        return fault if asked == operation and count % every == 0 else None

    return decide


def submitting(beginning: str, fault: str) -> Fault:
    """Each submission of a statement with this beginning goes wrong."""
    return lambda asked, request: fault if asked == "ExecuteStatement" and request["Sql"].startswith(beginning) else None


def changes(api: RedshiftData, since: int = 0) -> list[str]:
    """The statements that must not be repeated."""
    return [one for one in api.sql[since:] if one.startswith(("INSERT", "UPDATE", "DELETE", "COPY", "COMMIT", "CREATE TEMP"))]


# ---- the Data API ----


@pytest.mark.parametrize(
    ("operation", "fault"), [*[(operation, fault) for operation in OPERATIONS for fault in FAULTS[:3]], ("ExecuteStatement", FAULTS[3])]
)
def test_each_statement_happens_once_whatever_becomes_of_its_requests(redshift: Site, tmp_path: Path, operation: str, fault: str) -> None:
    api = redshift.api
    assert api is not None
    redshift.warehouse.load(load_of(tmp_path, BEFORE, 1))
    begun = len(api.sql)
    api.fault = of(operation, fault)
    assert redshift.warehouse.load(load_of(tmp_path, AFTER, 2)) == DONE
    assert redshift.warehouse.find("daily", 2) == DONE
    api.fault = lambda asked, request: None
    assert redshift.table() == AFTER
    done = changes(api, begun)
    assert len(done) == len(set(done)), "no statement ran twice"


def test_any_faults_in_any_order(redshift: Site, tmp_path: Path) -> None:
    api, chance = redshift.api, random.Random(18)
    assert api is not None
    api.fault = lambda asked, request: chance.choice((*FAULTS, *[None] * 12))
    rows = dict(BEFORE)
    for run in range(1, 6):
        rows = {**rows, ("a", run): row(str(100 * run))}
        assert redshift.warehouse.load(load_of(tmp_path, rows, run)).rows == 10
        assert redshift.table() == rows
    assert redshift.sql("SELECT COUNT(*) FROM recon_loads") == [(5,)]


def test_statements_that_take_their_time(redshift: Site, tmp_path: Path) -> None:
    assert redshift.api is not None
    redshift.api.delay_s = 0.03
    assert redshift.warehouse.load(load_of(tmp_path, BEFORE, 1)).inserted == 10


def test_an_answer_that_comes_after_the_client_gave_up_on_it(
    api: RedshiftData, staging: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same submission goes out again, with its token, while the first is still at work."""
    from recon.aggregations.warehouse import redshift

    made = redshift.client
    monkeypatch.setattr(redshift, "client", lambda service: made(service, read_s=0.15))
    site = warehouses.redshift_site(api, staging)
    api.fault = of("ExecuteStatement", "late", every=5)
    assert site.warehouse.load(load_of(tmp_path, BEFORE, 1)).inserted == 10
    assert len(changes(api)) == len(set(changes(api)))
    assert site.table() == BEFORE


def test_a_service_that_is_away(impatient: Site, tmp_path: Path) -> None:
    assert impatient.api is not None
    impatient.api.fault = lambda asked, request: "cut"
    with pytest.raises(ConnectionLost, match="warehouse redshift://finance/recon: ") as caught:
        impatient.warehouse.load(load_of(tmp_path, BEFORE, 1))
    assert "run the same again" in str(caught.value)


def test_a_commit_of_which_no_answer_comes_is_found_by_the_next_try(impatient: Site, tmp_path: Path) -> None:
    api = impatient.api
    assert api is not None
    api.fault = submitting("COMMIT", "lost")
    load = load_of(tmp_path, BEFORE, 1)
    with pytest.raises(TryAgain):
        impatient.warehouse.load(load)
    assert changes(api).count("COMMIT") == 1
    api.fault = lambda asked, request: None
    assert impatient.warehouse.load(replace(load, run=2)) == Loaded(10, 10, 0, 0, again=True)
    assert impatient.table() == BEFORE


@pytest.mark.parametrize("beginning", ["COMMIT", "INSERT", "COPY", "BEGIN", "LOCK"])
def test_a_statement_that_never_arrives_ends_with_its_session(impatient: Site, tmp_path: Path, beginning: str) -> None:
    api = impatient.api
    assert api is not None
    api.fault = submitting(beginning, "cut")
    load = load_of(tmp_path, BEFORE, 1)
    with pytest.raises(ConnectionLost):
        impatient.warehouse.load(load)
    api.fault = lambda asked, request: None
    assert impatient.warehouse.load(replace(load, run=2)) == Loaded(10, 10, 0, 0), "once the lock of the lost session is gone"


def test_a_statement_of_unknown_fate_is_never_followed_by_a_rollback(impatient: Site, tmp_path: Path) -> None:
    """It may still be on its way, and after a ROLLBACK it would be a transaction of its own."""
    api = impatient.api
    assert api is not None
    impatient.warehouse.load(load_of(tmp_path, {}, 1))
    api.fault = submitting('INSERT INTO "', "lost")
    with pytest.raises(TryAgain):
        impatient.warehouse.load(load_of(tmp_path, BEFORE, 2))
    assert "ROLLBACK" not in api.sql
    api.fault = lambda asked, request: None
    assert impatient.warehouse.load(load_of(tmp_path, BEFORE, 3)).inserted == 10
    assert impatient.table() == BEFORE


def test_a_failure_is_rolled_back_at_once_so_that_others_need_not_wait(redshift: Site, tmp_path: Path) -> None:
    api = redshift.api
    assert api is not None
    with pytest.raises(WrongInput, match="do not tie"):
        redshift.warehouse.load(replace(load_of(tmp_path, BEFORE, 1), count=9))
    assert api.sql[-1] == "ROLLBACK"
    begun = time.monotonic()
    redshift.warehouse.load(load_of(tmp_path, BEFORE, 2))
    assert time.monotonic() - begun < 30, "the session would have lived for 60 seconds"


def test_a_session_that_is_gone_is_a_reason_to_try_again(redshift: Site, tmp_path: Path) -> None:
    api = redshift.api
    assert api is not None

    def end_sessions(asked: str, request: dict[str, Any]) -> str | None:
        if request.get("Sql", "").startswith("CREATE TEMP"):
            api.close()
        return None

    api.fault = end_sessions
    with pytest.raises(ConnectionLost, match="the session is gone"):
        redshift.warehouse.load(load_of(tmp_path, BEFORE, 1))


def test_a_load_waits_for_another_and_no_longer_than_it_should(api: RedshiftData, staging: Path, tmp_path: Path) -> None:
    site = warehouses.redshift_site(api, staging, lock_s=0.3)
    site.warehouse.load(load_of(tmp_path, {}, 1))
    connection = api.connect()
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("LOCK recon_load_lock")
        with pytest.raises(TryAgain, match=r"a statement was not over after 0\.3 s"):
            site.warehouse.load(load_of(tmp_path, BEFORE, 2))
        assert site.warehouse.find("daily", 1) == Loaded(0, 0, 0, 0), "readers do not wait"
        cursor.execute("COMMIT")
    connection.close()
    assert site.warehouse.load(load_of(tmp_path, BEFORE, 3)).inserted == 10


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("ERROR: 1023 DETAIL: Serializable isolation violation on table - 100", ConnectionLost),
        ("FATAL: terminating connection due to administrator command", ConnectionLost),
        ("ERROR: permission denied for schema sales", WrongUsage),
        ("ERROR: must be owner of relation daily", WrongUsage),
        ("ERROR: numeric field overflow", WrongInput),
    ],
)
def test_an_error_of_the_database_is_of_its_kind(
    redshift: Site, monkeypatch: pytest.MonkeyPatch, text: str, kind: type[ReconError]
) -> None:
    def fail(self: RedshiftData, connection: object, sql: str) -> None:
        raise ValueError(text)

    monkeypatch.setattr(RedshiftData, "_carried_out", fail)
    with pytest.raises(kind) as caught:
        redshift.warehouse.find("daily", 1)
    assert type(caught.value) is kind
    assert text in str(caught.value)
    assert str(caught.value).startswith("warehouse redshift://finance/recon: ")


# ---- staging ----


def test_staged_files_are_removed_whatever_happens(redshift: Site, staging: Path, tmp_path: Path) -> None:
    api = redshift.api
    assert api is not None
    redshift.warehouse.load(load_of(tmp_path, BEFORE, 1))
    copies = [one for one in api.sql if one.startswith("COPY")]
    assert len(copies) == 1
    assert not list(staging.glob("*.parquet"))
    api.fault = submitting("COPY", "ValidationException")
    with pytest.raises(ReconError):
        redshift.warehouse.load(load_of(tmp_path, AFTER, 2))
    assert not list(staging.glob("*.parquet"))
    assert redshift.table() == BEFORE


def test_each_copy_has_a_name_of_its_own_and_an_empty_scope_has_none(redshift: Site, tmp_path: Path) -> None:
    assert redshift.api is not None
    for run, rows in ((1, BEFORE), (2, {}), (3, BEFORE)):
        redshift.warehouse.load(load_of(tmp_path, rows, run))
    copies = [one for one in redshift.api.sql if one.startswith("COPY")]
    assert len(set(copies)) == len(copies) == 2


CONFIGURATION = """\
name: orders
store: ./data
key: order_id
windows: {{start: 2026-11-01T00:00Z, every: 1h}}
measures: {{lines: {{count: "*"}}}}
warehouse:
  kind: redshift
  {where}
  database: finance
  staging: {staging}
  {more}
"""


def test_the_warehouse_of_a_configuration_stages_in_s3(
    api: RedshiftData, tmp_path: Path, in_s3: str, seaweed_server: seaweed.Seaweed
) -> None:
    client = seaweed_server.client()

    def read(place: str) -> bytes:
        bucket, _, key = place.removeprefix("s3://").partition("/")
        body: bytes = client.get_object(Bucket=bucket, Key=key)["Body"].read()
        return body

    api._read = read
    path = tmp_path / "recon.yaml"
    role = "arn:aws:iam::123456789012:role/recon-copy"
    path.write_text(CONFIGURATION.format(where="workgroup: finance", staging=f"{in_s3}/", more=f"role: {role}"))
    warehouse = open_warehouse(load_place(path))
    assert warehouse.load(load_of(tmp_path, BEFORE, 1)).inserted == 10
    assert [f"IAM_ROLE '{role}' FORMAT AS PARQUET" in one for one in api.sql if one.startswith("COPY")] == [True]
    bucket, _, prefix = in_s3.removeprefix("s3://").partition("/")
    assert "Contents" not in client.list_objects_v2(Bucket=bucket, Prefix=prefix)


@pytest.mark.parametrize(
    ("where", "more", "expected"),
    [
        ("workgroup: finance", "", {"WorkgroupName": "finance"}),
        ("cluster: finance", "", {"ClusterIdentifier": "finance"}),
        (
            "workgroup: finance",
            "secret: arn:aws:secretsmanager:eu-central-1:123456789012:secret:redshift-AbCdEf",
            {"WorkgroupName": "finance", "SecretArn": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:redshift-AbCdEf"},
        ),
    ],
)
def test_the_first_request_says_where_and_the_others_which_session(
    api: RedshiftData, tmp_path: Path, where: str, more: str, expected: dict[str, str]
) -> None:
    asked: list[dict[str, Any]] = []

    def listen(operation: str, request: dict[str, Any]) -> None:
        if operation == "ExecuteStatement":
            asked.append(request)

    api.fault = listen
    path = tmp_path / "recon.yaml"
    path.write_text(CONFIGURATION.format(where=where, staging="s3://ledger/warehouse", more=more))
    warehouse = open_warehouse(load_place(path))
    warehouse.load(load_of(tmp_path, {}, 1))
    own = ("Sql", "ClientToken", "SessionKeepAliveSeconds", "StatementName", "WithEvent")
    assert {name: value for name, value in asked[0].items() if name not in own} == {**expected, "Database": "finance"}
    assert all(set(one) == {*own, "SessionId"} for one in asked[1:])
    assert {(one["StatementName"], one["WithEvent"]) for one in asked} == {("recon load", True)}, "the rule of the alarm knows them by it"
    assert len({one["ClientToken"] for one in asked}) == len(asked)
    asked.clear()
    warehouse.find("daily", 1)
    assert all("SessionId" not in one and "SessionKeepAliveSeconds" not in one for one in asked)
    assert {(one["StatementName"], one["WithEvent"]) for one in asked} == {("recon read", False)}


# ---- statements ----


def test_every_statement_is_one_that_sqlglot_reads_as_redshifts(redshift: Site, tmp_path: Path) -> None:
    """Statements of a life with everything in it: a schema, widening, adding, a retired measure, deletes, updates, inserts."""
    api, target = redshift.api, "sales.daily"
    assert api is not None

    def shape(**measures: Any) -> Shape:
        return Shape(measures=measures, additive=(), target=target)

    narrow, wide = shape(sale=decimal(5, 2), note=TEXT), shape(sale=decimal(7, 2), tax=decimal(38, 2))
    redshift.warehouse.load(load_of(tmp_path, {("a", code): (1, "x") for code in range(9)}, 1, shape=narrow))
    redshift.warehouse.load(load_of(tmp_path, {("a", code): (1, 2) for code in range(9)}, 2, shape=wide))
    redshift.warehouse.load(load_of(tmp_path, {("a", code): (1 + (code == 3), 2) for code in range(8)} | {("b", 1): (1, 2)}, 3, shape=wide))
    redshift.warehouse.find(target, 1)
    redshift.warehouse.totals(target, "monday", {"sale": decimal(7, 2)})
    redshift.warehouse.audit(target, ["store", "code"])
    redshift.warehouse.sample(target, "monday", 5)
    kinds = {type(sqlglot.parse_one(one, dialect="redshift")) for one in api.sql if not one.startswith("LOCK ")}
    assert kinds == {exp.Select, exp.Create, exp.Alter, exp.Update, exp.Delete, exp.Insert, exp.Copy, exp.Transaction, exp.Commit}
    assert {one for one in api.sql if one.startswith("LOCK ")} == {"LOCK recon_load_lock"}
    assert any('ALTER TABLE "sales"."daily" RENAME COLUMN recon_wider TO "sale"' in one for one in api.sql)


def test_texts_that_differ_by_blanks_at_their_end_are_a_change_in_redshift() -> None:
    """Its = takes them for equal, which PostgreSQL cannot show."""
    load = Load("", 1, "a", "daily", "monday", DEFAULT.keys, {"note": TEXT}, Path(), 0, {})
    assert 'OCTET_LENGTH("daily"."note") <> OCTET_LENGTH(recon_stage."note")' in statements.update(load, statements.REDSHIFT, ())


def test_a_statement_that_is_too_long_is_refused_with_the_next_step(redshift: Site, tmp_path: Path) -> None:
    many = Shape(measures={f"m{number:03}_{'x' * 55}": TEXT for number in range(200)}, additive=())
    rows = {("a", code): ("a",) * 200 for code in range(9)}
    redshift.warehouse.load(load_of(tmp_path, {}, 1, shape=many))
    with pytest.raises(WrongUsage, match=f"Redshift takes {STATEMENT_BYTES_MAX:,}; use fewer measures, or shorter names"):
        redshift.warehouse.load(load_of(tmp_path, rows, 2, shape=many))


def test_no_backslash_comes_into_a_statement() -> None:
    with pytest.raises(ValueError, match="backslash"):
        statements.text("a\\b")
