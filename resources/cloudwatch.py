"""Sends the lags of the watermark and of the index table to CloudWatch, for the alarms of ``infra/template.yaml``.

dagster-aws has no resource for CloudWatch, so this uses boto3 with the standard credential chain.
"""

from __future__ import annotations

import os
from datetime import timedelta

STACK = "RECON_CLOUDWATCH_STACK"
"""Environment variable: name of the stack whose alarms use the figures. Nothing is sent if it is unset."""
NAMESPACE, SECONDS_BEHIND, TABLE_COMMITS_BEHIND = "Recon", "SecondsBehind", "TableCommitsBehind"
EVERY_S = 60
"""Seconds between two figures. A sensor ticks more often than an alarm evaluates."""
_TIMEOUT_S = 3.0


def send(reconciliation: str, behind: timedelta, table_commits_behind: int | None) -> str:
    """Sends the lags with the dimension of the stack, for its alarms, and with that of the reconciliation. ``table_commits_behind``: None
    without an index table. Returns the reason of a failure, "" after success.

    Never raises: if CloudWatch is unreachable, slow or refuses, only the figure is missing."""
    stack = os.environ.get(STACK, "")
    if not stack:
        return ""
    dimensions = [{"Name": "Stack", "Value": stack}]
    lags: list[tuple[str, float, str]] = [(SECONDS_BEHIND, max(0.0, behind.total_seconds()), "Seconds")]
    if table_commits_behind is not None:
        lags.append((TABLE_COMMITS_BEHIND, float(table_commits_behind), "Count"))
    figures = [
        {"MetricName": name, "Dimensions": of, "Value": value, "Unit": unit}
        for name, value, unit in lags
        for of in (dimensions, [*dimensions, {"Name": "Reconciliation", "Value": reconciliation}])
    ]
    try:
        import boto3
        from botocore.config import Config

        quick = Config(connect_timeout=_TIMEOUT_S, read_timeout=_TIMEOUT_S, retries={"total_max_attempts": 1})
        boto3.client("cloudwatch", config=quick).put_metric_data(Namespace=NAMESPACE, MetricData=figures)
    except ImportError:
        return "CloudWatch got no figure: boto3 is not installed; pip install 'dagster-recon[aws]'"
    except Exception as error:
        answer = getattr(error, "response", None)
        why = answer.get("Error", {}).get("Code", "") if isinstance(answer, dict) else type(error).__name__
        return f"CloudWatch got no figure: {why}; the role needs cloudwatch:PutMetricData in the namespace {NAMESPACE}"
    return ""
