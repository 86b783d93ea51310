"""Watches a successor of the index table as the first table is watched: by copies of its CloudWatch alarms.

CloudFormation makes alarms on the first table alone, since it does not know the names of later ones.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

STACK = "RECON_CLOUDWATCH_STACK"
"""Environment variable: name of the stack that has the alarms. Nothing is copied if it is unset."""
NAMESPACE, METRICS = "AWS/DynamoDB", ("WriteThrottleEvents", "ReadThrottleEvents")
_COPIED = (
    *("AlarmDescription", "ActionsEnabled", "OKActions", "AlarmActions", "InsufficientDataActions", "MetricName", "Namespace", "Statistic"),
    *("Period", "EvaluationPeriods", "DatapointsToAlarm", "Threshold", "ComparisonOperator", "TreatMissingData"),
)
_TIMEOUT_S = 5.0


def watch_like(first: str, table: str) -> str:
    """Copies the alarms of the table ``first`` for ``table``. Returns why it could not, "" after success and without a stack.

    Never raises: a table without alarms serves as well."""
    if not os.environ.get(STACK) or first == table:
        return ""
    try:
        client = _client()
        for alarm in _alarms(client, first):
            of = {name: alarm[name] for name in _COPIED if alarm.get(name) not in (None, [])}
            client.put_metric_alarm(AlarmName=_named(alarm, first, table), Dimensions=_dimensions(table), **of)
    except Exception as error:
        return f"table {table}: its alarms could not be made ({_code(error)}); the role needs cloudwatch:PutMetricAlarm"
    return ""


def forget(table: str) -> str:
    """Removes the alarms on a table that is gone. Returns why it could not, "" after success and without a stack."""
    if not os.environ.get(STACK):
        return ""
    try:
        client = _client()
        names = [str(alarm["AlarmName"]) for alarm in _alarms(client, table)]
        if names:
            client.delete_alarms(AlarmNames=names)
    except Exception as error:
        return f"table {table}: its alarms could not be removed ({_code(error)}); the role needs cloudwatch:DeleteAlarms"
    return ""


def _alarms(client: Any, table: str) -> Iterator[dict[str, Any]]:
    for metric in METRICS:
        found = client.describe_alarms_for_metric(Namespace=NAMESPACE, MetricName=metric, Dimensions=_dimensions(table))["MetricAlarms"]
        yield from (alarm for alarm in found if alarm["Dimensions"] == _dimensions(table))


def _named(alarm: dict[str, Any], first: str, table: str) -> str:
    """The name of the copy: that of the alarm, with what the table's name adds to the first one's."""
    return f"{alarm['AlarmName']}-{table.removeprefix(first).lstrip('-')}"


def _dimensions(table: str) -> list[dict[str, str]]:
    return [{"Name": "TableName", "Value": table}]


def _client() -> Any:
    import boto3
    from botocore.config import Config

    quick = Config(connect_timeout=_TIMEOUT_S, read_timeout=_TIMEOUT_S)
    return boto3.session.Session().client("cloudwatch", region_name=os.environ.get("AWS_REGION") or None, config=quick)


def _code(error: Exception) -> str:
    answer = getattr(error, "response", None)
    return str(answer.get("Error", {}).get("Code", "")) if isinstance(answer, dict) else type(error).__name__
