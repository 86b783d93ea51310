"""CloudWatch is told how far behind the watermark is, for the alarm of ``infra/template.yaml``.

Belongs here: telling it, where the environment names a stack. Does not belong here: the lag itself (recon.freshness), and the alarm.
dagster-aws has no resource for CloudWatch, so it is boto3, by the standard chain of credentials.
"""

from __future__ import annotations

import os
from datetime import timedelta

STACK = "RECON_CLOUDWATCH_STACK"
"""Environment: name of the stack whose alarm is told. Unset: nothing is told."""
NAMESPACE, SECONDS_BEHIND = "Recon", "SecondsBehind"
EVERY_S = 60
"""A sensor ticks more often than an alarm looks."""
_TIMEOUT_S = 3.0


def tell_behind(reconciliation: str, behind: timedelta) -> str:
    """Puts the lag under the stack, for its alarm, and under the reconciliation. What hindered it, in a few words; "" if nothing did.

    A CloudWatch that is away, slow or refuses costs the figure, never the sensor that tells it."""
    stack = os.environ.get(STACK, "")
    if not stack:
        return ""
    dimensions = [{"Name": "Stack", "Value": stack}]
    figures = [
        {"MetricName": SECONDS_BEHIND, "Dimensions": of, "Value": max(0.0, behind.total_seconds()), "Unit": "Seconds"}
        for of in (dimensions, [*dimensions, {"Name": "Reconciliation", "Value": reconciliation}])
    ]
    try:
        import boto3
        from botocore.config import Config

        quick = Config(connect_timeout=_TIMEOUT_S, read_timeout=_TIMEOUT_S, retries={"total_max_attempts": 1})
        boto3.client("cloudwatch", config=quick).put_metric_data(Namespace=NAMESPACE, MetricData=figures)
    except ImportError:
        return "CloudWatch was not told: boto3 is not installed; pip install 'recon[aws]'"
    except Exception as error:
        answer = getattr(error, "response", None)
        why = answer.get("Error", {}).get("Code", "") if isinstance(answer, dict) else type(error).__name__
        return f"CloudWatch was not told: {why}; the role needs cloudwatch:PutMetricData in the namespace {NAMESPACE}"
    return ""
