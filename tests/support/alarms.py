"""The alarms of infra/template.yaml on figures that Recon sends, and what CloudWatch (moto) has of them."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from aws_template import template

STACK = "ledger"
_COMPARED = {"GreaterThanThreshold": operator.gt, "LessThanThreshold": operator.lt}


def alarms() -> dict[str, dict[str, Any]]:
    """Logical name → properties, of the alarms on Recon's own figures."""
    found = {name: one["Properties"] for name, one in template()["Resources"].items() if one["Type"] == "AWS::CloudWatch::Alarm"}
    return {name: properties for name, properties in found.items() if properties["Namespace"] == "Recon"}


@contextmanager
def cloudwatch(patch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of an empty CloudWatch, to which sensors send."""
    from moto import mock_aws

    for name, value in {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}.items():
        patch.setenv(name, value)
    patch.setenv("RECON_CLOUDWATCH_STACK", STACK)
    with mock_aws():
        yield boto3.client("cloudwatch")


def raised(client: Any) -> set[str]:
    """Logical names of the alarms that the figures of this hour raise, with the template's default thresholds and a daemon that runs
    all the time."""
    return {name for name, one in alarms().items() if _raises(client, one)}


def _raises(client: Any, alarm: dict[str, Any]) -> bool:
    assert alarm["Dimensions"] == [{"Name": "Stack", "Value": {"Ref": "AWS::StackName"}}]
    now = datetime.now(UTC)
    found = client.get_metric_statistics(
        Namespace=alarm["Namespace"],
        MetricName=alarm["MetricName"],
        Dimensions=[{"Name": "Stack", "Value": STACK}],
        StartTime=now - timedelta(hours=1),
        EndTime=now + timedelta(hours=1),
        Period=7200,
        Statistics=[alarm["Statistic"]],
    )["Datapoints"]
    if not found:
        return alarm["TreatMissingData"] == {"Fn::If": ["HasDaemon", "breaching", "notBreaching"]}
    threshold = alarm["Threshold"]
    number = template()["Parameters"][threshold["Ref"]]["Default"] if isinstance(threshold, dict) else threshold
    return bool(_COMPARED[alarm["ComparisonOperator"]](found[-1][alarm["Statistic"]], number))
