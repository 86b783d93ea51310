"""Freshness: how late the watermark is and may be, and that the UI is told whether anything runs or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import boto3
import dagster as dg
import pytest
from loopback import free_port
from moto import mock_aws
from small_reconciliation import landed, made, run, window

from jobs.build import build_definitions
from recon.api import Reconciliation
from recon.config import load_config
from recon.errors import WrongUsage
from recon.planning.freshness import freshness
from recon_assets.partitions import range_tags
from resources.stores import ReconciliationStore

AGES = timedelta(days=36_500)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made_instance:
        yield made_instance


def allowing(opened: Reconciliation, text: str) -> Reconciliation:
    opened.config.path.write_text(opened.config.path.read_text() + text)
    return Reconciliation(opened.config.path)


def test_a_watermark_may_be_late_by_a_window_its_deadline_and_half_an_hour_unless_told_otherwise(tmp_path: Path) -> None:
    opened = made(tmp_path)
    assert opened.config.freshness == timedelta(hours=1, minutes=30)
    assert allowing(opened, "closing: {deadline: 2h}\n").config.freshness == timedelta(hours=3, minutes=30)
    assert allowing(opened, "freshness: 5h\n").config.freshness == timedelta(hours=5)
    opened.config.path.write_text(opened.config.path.read_text().replace("freshness: 5h", "freshness: soon"))
    with pytest.raises(WrongUsage, match=r"orders\.yaml:\d+: freshness: 'soon' is not a duration"):
        load_config(opened.config.path)


def test_lag_is_from_the_end_of_the_watermarks_window_and_the_next_one_says_what_it_waits_for(tmp_path: Path) -> None:
    opened = made(tmp_path, hours=2)
    landed(opened, 2, close=False)

    def at(hour: int, minute: int) -> tuple[str, timedelta, bool, str]:
        found = freshness(opened.store(), opened.config, opened.state(), datetime(2026, 11, 1, hour, minute, tzinfo=UTC))
        return found.watermark, found.lag, found.fresh, found.waits_for

    assert at(1, 30)[:3] == ("", timedelta(hours=1, minutes=30), True)
    assert at(1, 31)[2] is False
    opened.run()
    watermark, lag, fresh, waits_for = at(3, 30)
    assert (watermark, lag, fresh) == (window(1), timedelta(hours=1, minutes=30), True)
    assert waits_for.startswith(f"{window(2)} is not closed: 1 file, ")
    assert at(3, 31)[2] is False


def verdict(instance: dg.DagsterInstance) -> dg.AssetCheckEvaluation:
    key = dg.AssetCheckKey(dg.AssetKey(["orders", "window_certificates"]), "watermark_is_fresh")
    (record,) = instance.event_log_storage.get_latest_asset_check_execution_by_key([key]).values()
    assert record.event is not None
    found = record.event.dagster_event.event_specific_data  # type: ignore[union-attr]
    assert isinstance(found, dg.AssetCheckEvaluation)
    return found


def test_a_run_tells_watermark_lag_and_what_is_waited_for(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    opened = made(tmp_path, hours=1)
    assert run(opened, range_tags(window(0), window(0)), instance).success, "a late watermark is a warning; the run is done"
    told = verdict(instance)
    assert (told.passed, told.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert told.metadata["watermark"].value == window(0)
    assert told.metadata["next_window_waits_for"].value == f"{window(1)} is not closed: no files"
    assert float(str(told.metadata["lag_seconds"].value)) > float(str(told.metadata["allowed_seconds"].value)) == 5400


def ticks(opened: Reconciliation, instance: dg.DagsterInstance) -> Callable[[], str]:
    """Each call is the sensor's next tick, by the configuration as it then is; what it says."""
    stores = {"orders_store": ReconciliationStore(config_file=str(opened.config.path))}
    cursor: str | None = None

    def tick() -> str:
        nonlocal cursor
        (sensor,) = [one for one in build_definitions(opened.config.path).sensors or () if one.name == "orders_freshness_sensor"]
        assert isinstance(sensor, dg.SensorDefinition)
        with dg.build_sensor_context(instance=instance, resources=stores, cursor=cursor) as context:
            answer = sensor.evaluate_tick(context)
        cursor = answer.cursor
        return str(answer.skip_message)

    return tick


def test_the_sensor_tells_each_change_of_the_verdict_once_while_nothing_runs(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    opened = made(tmp_path, hours=1)
    opened.run()
    tick = ticks(opened, instance)

    def told() -> int:
        key = dg.AssetCheckKey(dg.AssetKey(["orders", "window_certificates"]), "watermark_is_fresh")
        return len(instance.event_log_storage.get_asset_check_execution_history(key, limit=10))

    assert tick().startswith(f"late: watermark {window(0)}, ")
    assert (told(), verdict(instance).passed) == (1, False)
    tick()
    assert told() == 1
    allowing(opened, f"freshness: {AGES.days}d\n")
    assert tick().startswith("fresh: ")
    assert (told(), verdict(instance).passed) == (2, True)


def test_the_sensor_tells_cloudwatch_once_a_minute_where_a_stack_is_named(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = made(tmp_path, hours=1)
    opened.run()
    for name, value in {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("RECON_CLOUDWATCH_STACK", raising=False)
    with mock_aws():
        client, now = boto3.client("cloudwatch"), datetime.now(UTC)
        ticks(opened, instance)()
        assert client.list_metrics(Namespace="Recon")["Metrics"] == []
        monkeypatch.setenv("RECON_CLOUDWATCH_STACK", "ledger")
        tick = ticks(opened, instance)
        assert "CloudWatch" not in tick() + tick()

        def told(*dimensions: str) -> dict[str, float]:
            found = client.get_metric_statistics(
                Namespace="Recon",
                MetricName="SecondsBehind",
                Dimensions=[{"Name": name, "Value": value} for name, value in zip(("Stack", "Reconciliation"), dimensions, strict=False)],
                StartTime=now - timedelta(hours=1),
                EndTime=now + timedelta(hours=1),
                Period=7200,
                Statistics=["Maximum", "SampleCount"],
            )
            return cast(dict[str, float], found["Datapoints"][0])

        border = datetime(2026, 11, 1, 1, tzinfo=UTC)
        least, most = ((instant - border).total_seconds() for instant in (now, datetime.now(UTC)))
        assert least - 1 <= told("ledger")["Maximum"] <= most + 1
        assert told("ledger", "orders")["SampleCount"] == 1  # moto counts what has more dimensions, too
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH", f"http://127.0.0.1:{free_port()}")
    tick = ticks(opened, instance)
    assert "; CloudWatch got no figure: EndpointConnectionError; the role needs" in tick()
    assert "CloudWatch" not in tick(), "it is tried again a minute later"


def test_there_is_one_verdict_on_freshness_and_the_sensor_corrects_one_that_is_out_of_date(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    # Dagster's own policy goes by when anything was materialized: a replay of an old window would turn it green.
    opened = made(tmp_path, hours=1)
    text = opened.config.path.read_text()
    assert {spec.freshness_policy for spec in build_definitions(opened.config.path).resolve_all_asset_specs()} == {None}
    opened.config.path.write_text(f"{text}freshness: {AGES.days}d\n")
    opened.run()
    tick = ticks(opened, instance)
    assert tick().startswith("fresh: ")
    assert verdict(instance).passed
    opened.config.path.write_text(f"{text}freshness: 90m\n")
    assert run(opened, range_tags(window(0), window(0)), instance).success
    assert not verdict(instance).passed, "the run has told its own verdict"
    opened.config.path.write_text(f"{text}freshness: {AGES.days}d\n")
    tick()
    assert verdict(instance).passed
