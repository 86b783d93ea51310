"""New tables by DynamoDB's import from S3: the same items as by updates, verified before anything reads them.

S3 and DynamoDB are moto's, in one server, since DynamoDB Local has no import. What moto cannot judge is in docs/deploy.md.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import pytest
import strategies as s
from aws_template import REGION, moto_server, template
from folders import ROOT
from histories import carry_out, open_in
from hypothesis import given
from hypothesis import strategies as st
from index_tables import add_window, by_name, in_runs, in_table, indexed, story
from loopback import free_port

from recon.api import Reconciliation
from recon.cli import main
from recon.errors import Damaged, WrongUsage
from recon.metering.prices import Prices
from recon.reading.served import find_served
from recon.serving import builds, imports, watching
from recon.serving.dynamodb import ImportCounts, TableClient, client_of
from recon.serving.sync import rebuild_table, sync, sync_asked
from recon.serving.workers import plans
from recon.serving.workers.sizing import HEADROOM, workers_for
from recon.state.compaction import compact
from recon.state.lookup import find_record
from recon.state.timeline import Timeline

BILLION = 10**9


@dataclass(frozen=True)
class Site:
    r: Reconciliation
    bucket: str

    def tables(self) -> TableClient:
        return client_of(self.r.store(), self.r.config)

    def sync(self) -> Any:
        return sync_asked(self.r.store(), self.r.config, Timeline(self.r.store()))

    def current(self) -> str:
        build = builds.current(self.r.store(), self.r.state())
        return "" if build is None else build.table

    def files(self) -> list[str]:
        return list(self.r.store().list("serving/imports/"))


@pytest.fixture(scope="module")
def aws() -> Iterator[None]:
    with moto_server() as url, pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "testtest",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL_S3": url,
            "AWS_ENDPOINT_URL_DYNAMODB": url,
            "AWS_ALLOW_HTTP": "true",
        }.items():
            patch.setenv(name, value)
        patch.delenv("AWS_PROFILE", raising=False)
        patch.setattr(boto3, "DEFAULT_SESSION", None)
        patch.setattr("recon.serving.dynamodb.IMPORT_LOOK_S", 0.05)
        yield


@pytest.fixture
def site(aws: None, tmp_path: Path, runs_leave_the_table: None) -> Site:
    bucket = f"recon-{uuid.uuid4().hex[:12]}"
    boto3.client("s3", region_name=REGION).create_bucket(Bucket=bucket)
    text = s.STANDARD_YAML.replace("store: ./data", f"store: s3://{bucket}/some/prefix")
    text += f"compaction: {{disk: 1.1}}\nretention: {{grace: 1m}}\nindex: {{kind: dynamodb, table: {bucket}, fill: import}}\n"
    return Site(open_in(tmp_path, text), bucket)


def test_an_import_gives_what_the_runs_have_and_later_commits_are_added_to_it(site: Site) -> None:
    r = site.r
    story(r, range(3))
    compact(r.store(), r.config, Timeline(r.store()), always=True)
    synced = site.sync()
    assert synced.filled
    assert (synced.units, synced.imported_bytes > 0) == (0, True), "no item was written by a request"
    assert synced.cost_usd == Decimal(synced.imported_bytes) * Decimal("0.15") / BILLION
    assert in_table(site.tables(), site.current()) == by_name(in_runs(r, r.state()))
    assert site.files() == []
    add_window(r, 3)
    carry_out(r, s.Unland(0, "w0.csv"))
    carry_out(r, s.Run((0,)))
    later = site.sync()
    assert (later.filled, later.imported_bytes) == (False, 0)
    assert later.units > 0
    expected = by_name(in_runs(r, r.state()))
    assert in_table(site.tables(), site.current()) == expected
    assert () in expected.values(), "a key without contributions is a tombstone"
    for key in expected:
        served = find_served(r.store(), Timeline(r.store()), key, site.tables)
        assert served.record == find_record(r.store(), r.state(), key)


def test_tombstones_are_imported_too(site: Site) -> None:
    story(site.r, range(2))
    carry_out(site.r, s.Unland(0, "w0.csv"))
    carry_out(site.r, s.Run((0,)))
    assert site.sync().tombstones > 0
    found = in_table(site.tables(), site.current())
    assert found == by_name(in_runs(site.r, site.r.state()))
    assert () in found.values()


def test_a_new_table_is_protected_and_recoverable_and_named_after_the_first_one(site: Site) -> None:
    story(site.r, range(1))
    client = boto3.client("dynamodb", region_name=REGION)
    site.tables().create(site.bucket)  # as the template has made it
    site.sync()
    assert site.current().startswith(f"{site.bucket}-")
    table = client.describe_table(TableName=site.current())["Table"]
    assert table["DeletionProtectionEnabled"]
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    backups = client.describe_continuous_backups(TableName=site.current())["ContinuousBackupsDescription"]
    assert backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"


def test_several_files_are_written_by_several_processes(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "FILE_ENTRIES", 4)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    story(site.r, range(2))
    assert site.sync().shares > 2
    assert in_table(site.tables(), site.current()) == by_name(in_runs(site.r, site.r.state()))


def test_a_table_that_lacks_an_item_is_never_read(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    story(site.r, range(2))
    site.sync()
    before = site.current()
    real = TableClient.import_from

    def losing(self: TableClient, table: str, bucket: str, prefix: str, token: str) -> ImportCounts:
        done = real(self, table, bucket, prefix, token)
        return ImportCounts(done.status, done.items - 1, 1, "ItemValidationError")

    with monkeypatch.context() as patched:
        patched.setattr(TableClient, "import_from", losing)
        with pytest.raises(Damaged, match=r"the import took \d+ of \d+ items, with 1 errors \(status COMPLETED, ItemValidationError\)"):
            rebuild_table(site.r.store(), site.r.config, Timeline(site.r.store()))
    assert site.current() == before
    assert site.files() == []
    names = boto3.client("dynamodb", region_name=REGION).list_tables()["TableNames"]
    assert [name for name in names if name.startswith(site.bucket)] == [before], "the bad table is removed"
    assert rebuild_table(site.r.store(), site.r.config, Timeline(site.r.store())).table == site.current() != before


def test_a_process_that_dies_while_the_import_runs_leaves_nothing_but_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    story(site.r, range(2))
    real, begun = TableClient.import_from, []

    def dying(self: TableClient, table: str, bucket: str, prefix: str, token: str) -> ImportCounts:
        real(self, table, bucket, prefix, token)
        begun.append(table)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(TableClient, "import_from", dying)
        patched.setattr(TableClient, "state", lambda self, table: "CREATING" if table in begun else None)
        with pytest.raises(KeyboardInterrupt):
            site.sync()
    client = boto3.client("dynamodb", region_name=REGION)
    assert begun[0] in client.list_tables()["TableNames"], "what is being imported cannot be removed"
    site.sync()
    assert site.current() not in ("", begun[0])
    assert begun[0] not in client.list_tables()["TableNames"]
    assert site.files() == []


def test_a_store_in_a_folder_is_refused_by_name(tmp_path: Path) -> None:
    r = indexed(tmp_path)
    path = r.config.path
    path.write_text(path.read_text().replace("share: 1000", "fill: import"))
    again = Reconciliation(path)
    with pytest.raises(WrongUsage, match=r"index\.fill: import: DynamoDB imports from S3, and the store is .*; write fill: updates"):
        sync(again.store(), again.config, Timeline(again.store()), TableClient(None))


def test_the_cost_of_a_billion_keys(site: Site) -> None:
    """By the bytes of real items, whose part-files' names are as long as they always are."""
    story(site.r, range(2))
    synced = site.sync()
    each = synced.imported_bytes / synced.entries
    assert 150 < each < 260
    assert BILLION * each * 0.15 / BILLION < 40 < 625 == BILLION * 0.625 / 1_000_000


def test_a_successor_has_the_alarms_of_the_first_table_as_long_as_it_is_there(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the alarms that the template has on the first table, whose properties are put as CloudFormation would put them."""
    monkeypatch.setenv("RECON_CLOUDWATCH_STACK", "recon")
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH", os.environ["AWS_ENDPOINT_URL_S3"])
    client = boto3.client("cloudwatch", region_name=REGION)
    for name in ("TableWriteThrottlesAlarm", "TableReadThrottlesAlarm"):
        own = {"Dimensions": [{"Name": "TableName", "Value": site.bucket}], "AlarmActions": ["arn:aws:sns:us-east-1:1:alarms"]}
        client.put_metric_alarm(**{**template()["Resources"][name]["Properties"], **own, "AlarmName": f"recon-{name}-1A2B"})
    story(site.r, range(1))
    site.tables().create(site.bucket)
    site.sync()
    first = site.current()
    rebuild_table(site.r.store(), site.r.config, Timeline(site.r.store()))

    def on(table: str) -> dict[str, dict[str, Any]]:
        found = client.describe_alarms()["MetricAlarms"]
        return {one["AlarmName"]: one for one in found if one["Dimensions"] == [{"Name": "TableName", "Value": table}]}

    copies, originals = on(site.current()), on(site.bucket)
    assert len(originals) == 2
    assert set(copies) == {f"{name}-{site.current().removeprefix(site.bucket + '-')}" for name in originals}
    for name, original in originals.items():
        (copy,) = [one for other, one in copies.items() if other.startswith(name)]
        for field in ("MetricName", "Statistic", "Period", "EvaluationPeriods", "Threshold", "ComparisonOperator", "AlarmActions"):
            assert copy[field] == original[field], field
    assert on(first), "which answers to readers that have not looked again"
    monkeypatch.setattr("recon.serving.sync.datetime", _InAnHour)
    site.sync()
    assert first not in boto3.client("dynamodb", region_name=REGION).list_tables()["TableNames"]
    assert not on(first)
    assert set(on(site.current())) == set(copies)


class _InAnHour:
    """The clock an hour later, when a table that was replaced is removed."""

    fromisoformat = datetime.fromisoformat

    @classmethod
    def now(cls, zone: Any) -> datetime:
        return datetime.now(zone) + timedelta(hours=1)


def test_a_successor_serves_where_cloudwatch_refuses(aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("RECON_CLOUDWATCH_STACK", "")
    assert (watching.watch_like("a", "a-1"), watching.forget("a-1")) == ("", "")
    monkeypatch.setenv("RECON_CLOUDWATCH_STACK", "recon")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    assert "its alarms could not be made" in watching.watch_like("a", "a-1")
    assert "its alarms could not be removed" in watching.forget("a-1")


@given(st.integers(1, 10**10), st.floats(1, 1e5))
def test_workers_follow_with_headroom_and_none_is_too_many(keys: int, rate: float) -> None:
    workers, needed = workers_for(keys, rate), keys / 3600 * HEADROOM / rate
    assert needed * (1 - 1e-9) <= workers < max(needed * (1 + 1e-9) + 1, 2)


def test_the_table_of_sizes_in_the_guide_is_computed() -> None:
    page = (ROOT / "docs" / "deploy.md").read_text()
    rows = re.findall(r"^\| (\d+) million \| (\d+) \| ([\d,]+) \| ([\d.]+) \|$", page, re.MULTILINE)
    assert len(rows) == 4
    for millions, workers, units, dollars in rows:
        keys = int(millions) * 10**6
        assert (workers_for(keys), round(keys / 3600)) == (int(workers), int(units.replace(",", "")))
        assert abs(Decimal(keys) * Prices().dynamodb_write_million / 10**6 - Decimal(dollars)) <= Decimal("0.005")


def test_the_size_is_shown_by_the_rate_that_workers_have_shown(configured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    r = Reconciliation(configured)
    add_window(r, 0)
    assert main(["index", "size", "33000000", "--config", str(configured)]) == 0
    said = capsys.readouterr().out
    assert main(["index", "size", "many", "--config", str(configured)]) == 2
    assert "'many' is not a number of keys" in capsys.readouterr().err
    assert "9,167 a second; a worker updates 588, assumed" in said
    assert "needed: 21 workers of one core; workers.count is 4, too few: raise workers.count" in said
    build = builds.begin(r.store(), r.config.index.table, r.state())
    builds.decide(r.store(), build, "stands")
    plan = plans.plan_for(r.store(), build.table, 1, 2, lambda: [{"share": "a", "first": 0, "end": 1_000_000}])
    plans.finish(r.store(), plan, [{"counts": {}, "seconds": 100.0}])
    assert main(["index", "size", "33000000", "--json", "--config", str(configured)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["rate"], found["measured"], found["workers"], found["follows"]) == (10_000.0, True, 2, True)


@pytest.fixture
def configured(tmp_path: Path, runs_leave_the_table: None) -> Path:
    """The configuration of a reconciliation with a table that runs leave alone."""
    return indexed(tmp_path).config.path
