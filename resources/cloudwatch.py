"""Sends figures of the sensors to CloudWatch, for the alarms of ``infra/template.yaml``.

dagster-aws has no resource for CloudWatch, so this uses boto3 with the standard credential chain.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from recon.serving.watching import STACK

NAMESPACE = "Recon"
SECONDS_BEHIND = "SecondsBehind"
"""Seconds from the end of the watermark's window until now."""
TABLE_SECONDS_BEHIND = "TableSecondsBehind"
"""Seconds since the oldest commit that the index table lacks, 0 if it lacks none."""
DAEMON_TICKS = "DaemonTicks"
"""1 for each minute in which Dagster's daemon evaluated the freshness sensor, whatever the sensor found."""
TICKS_FAILED = "TicksFailed"
"""1 if the freshness sensor could not read the store, else 0."""
WINDOWS_QUARANTINED = "WindowsQuarantined"
"""Windows in quarantine, or whose manifest cannot be read."""
CERTIFICATES_NOT_TYING = "CertificatesNotTying"
"""Windows whose newest certificate does not tie."""
FILES_MISSING = "FilesMissing"
"""Expected files that are late, received files that are rejected and not corrected, and sources that take no file."""
EVERY_S = 60
"""Seconds between two figures. A sensor ticks more often than an alarm evaluates."""
_UNITS = {SECONDS_BEHIND: "Seconds", TABLE_SECONDS_BEHIND: "Seconds"}
_TIMEOUT_S = 3.0


def due(kept: Mapping[str, Any]) -> bool:
    """Whether a minute has passed since the figures that a sensor's cursor records under ``cloudwatch``. False without a stack."""
    at = kept.get("cloudwatch", 0)
    return bool(os.environ.get(STACK)) and not at <= time.time() < at + EVERY_S  # also if the clock was set back


def send(reconciliation: str, figures: Mapping[str, float]) -> str:
    """Sends each figure with the dimension of the stack, for its alarms, and with that of the reconciliation. Returns the reason of a
    failure, "" after success.

    Never raises: if CloudWatch is unreachable, slow or refuses, only the figures are missing."""
    stack = os.environ.get(STACK, "")
    if not stack:
        return ""
    dimensions = [{"Name": "Stack", "Value": stack}]
    data = [
        {"MetricName": name, "Dimensions": of, "Value": float(value), "Unit": _UNITS.get(name, "Count")}
        for name, value in figures.items()
        for of in (dimensions, [*dimensions, {"Name": "Reconciliation", "Value": reconciliation}])
    ]
    try:
        import boto3
        from botocore.config import Config

        quick = Config(connect_timeout=_TIMEOUT_S, read_timeout=_TIMEOUT_S, retries={"total_max_attempts": 1})
        boto3.client("cloudwatch", config=quick).put_metric_data(Namespace=NAMESPACE, MetricData=data)
    except ImportError:
        return "CloudWatch got no figure: boto3 is not installed; pip install 'dagster-recon[aws]'"
    except Exception as error:
        answer = getattr(error, "response", None)
        why = answer.get("Error", {}).get("Code", "") if isinstance(answer, dict) else type(error).__name__
        return f"CloudWatch got no figure: {why}; the role needs cloudwatch:PutMetricData in the namespace {NAMESPACE}"
    return ""
