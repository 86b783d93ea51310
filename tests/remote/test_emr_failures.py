"""The end of a step and of a cluster as one of the project's errors, and what a step's log shows."""

from __future__ import annotations

import gzip
import time
from collections.abc import Mapping
from threading import Thread
from typing import Any

import pytest
import seaweed

from recon.errors import Cancelled, ConnectionLost, OutOfCapacity, ReconError, Throttled, TryAgain, WrongInput, WrongUsage
from recon.remote.emr.failures import cluster_error, error_of
from recon.remote.emr.logs import Logs
from recon.storage.aws_calls import Pace

QUICK = Pace(first=0.01, most=0.05, patience=30, logs=10)


# ---- failures by kind


def failed(*details: str) -> dict[str, Any]:
    return {"State": "FAILED", "FailureDetails": dict(zip(("Reason", "Message"), details, strict=False))}


WAITING = {"State": "WAITING"}


@pytest.mark.parametrize(
    ("status", "lines", "kind", "told"),
    [
        (failed(), ["recon: file-02.csv, line 2: bad", "exit code 1"], WrongInput, "file-02.csv, line 2: bad"),
        (failed(), ["recon: the rules changed", "exit code 2"], WrongUsage, "the rules changed"),
        (failed(), ["recon: the store is away", "exit code 3"], TryAgain, "the store is away"),
        (failed(), ["exit code 1"], TryAgain, "exit code 1"),  # of spark-submit itself it says nothing
        (failed("Unknown Error."), [], TryAgain, "no reason"),
        (failed(), ["java.io.IOException: No space left on device"], OutOfCapacity, "No space left"),
        (failed(), ["26/01/01 00:00:00 ERROR YarnScheduler: Lost executor 1 on ip: Container killed by YARN"], OutOfCapacity, "killed"),
        (failed(), ["26/01/01 00:00:00 WARN X: Container marked as failed. Exit status: -100. Container released"], OutOfCapacity, "-100"),
        (failed("", "Requested spot capacity was reclaimed"), [], OutOfCapacity, "see its logs"),
        (failed("Unknown Error.", "java.io.IOException: No space left on device"), [], OutOfCapacity, "No space left"),
        (failed(), ["software.amazon.awssdk.S3Exception: Slow Down (Status Code: 503)"], Throttled, "Slow"),
        (failed(), ["org.apache.spark.SparkException: Lost executor 4"], ConnectionLost, "Lost"),
        (failed(), ["java.net.ConnectException: Connection refused"], ConnectionLost, "refused"),
        ({"State": "CANCELLED"}, [], Cancelled, "by a user"),
    ],
)
def test_a_step_that_left_no_answer_fails_by_what_is_known_best(
    status: Mapping[str, Any], lines: list[str], kind: type[ReconError], told: str
) -> None:
    error = error_of("step s-1 on j-1", status, WAITING, lines)
    assert type(error) is kind
    assert str(error).startswith("step s-1 on j-1")
    assert told in str(error)


@pytest.mark.parametrize("message", ["the row A1,e1-1,INVOICE,1O.00 is odd", "java.lang.Error: cannot read 'A1,e1-1,INVOICE,1O.00'"])
def test_what_emr_quotes_out_of_a_log_is_told_as_its_lines_are(message: str) -> None:
    assert "A1,e1-1" not in str(error_of("step s-1 on j-1", failed("Unknown Error.", message), WAITING, []))


@pytest.mark.parametrize(
    ("state", "code", "message", "kind"),
    [
        ("TERMINATED_WITH_ERRORS", "INSTANCE_FAILURE", "The master was terminated: Spot interruption", OutOfCapacity),
        ("TERMINATED_WITH_ERRORS", "INSTANCE_FLEET_TIMEOUT", "Timed out to provision Spot", OutOfCapacity),
        ("TERMINATED_WITH_ERRORS", "VALIDATION_ERROR", "You have exceeded your EC2 quota of vCPU", OutOfCapacity),
        ("TERMINATED_WITH_ERRORS", "VALIDATION_ERROR", "The subnet does not exist", WrongUsage),
        ("TERMINATED_WITH_ERRORS", "BOOTSTRAP_FAILURE", "bootstrap action 1 returned 127", WrongUsage),
        ("TERMINATED_WITH_ERRORS", "INTERNAL_ERROR", "Failed to start", ConnectionLost),
        ("TERMINATED_WITH_ERRORS", "INTERNAL_ERROR", "Rate exceeded", Throttled),
        ("TERMINATING", "USER_REQUEST", "Terminated by user request", Cancelled),
        ("TERMINATED", "USER_REQUEST", "Terminated by user request", Cancelled),
        ("TERMINATED_WITH_ERRORS", "", "", OutOfCapacity),
        ("TERMINATED", "ALL_STEPS_COMPLETED", "Steps completed", TryAgain),
    ],
)
def test_the_end_of_a_cluster_is_told_by_its_reason(state: str, code: str, message: str, kind: type[ReconError]) -> None:
    error = cluster_error("step s-1 was INTERRUPTED", {"State": state, "StateChangeReason": {"Code": code, "Message": message}})
    assert type(error) is kind
    assert state in str(error)


# ---- logs


def test_the_last_lines_of_a_steps_stderr_are_told_without_secrets_and_without_events(
    seaweed_server: seaweed.Seaweed, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in seaweed_server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ORDERS_PASSWORD", "correct horse battery")
    bucket = seaweed_server.bucket()
    lines = [
        *("26/01/01 00:00:00 INFO SparkContext: Running Spark version 3.5" for _ in range(5000)),
        "A1,e1-1,INVOICE,10.00,EUR",
        "26/01/01 00:00:00 ERROR Executor: connecting with password=correct horse battery as AKIAABCDEFGHIJKLMNOP",
        "pyarrow.lib.ArrowInvalid: could not convert 'A1,e1-1,INVOICE,1O.00,EUR'",
        'java.lang.IllegalStateException: s3 said aws_secret_access_key="wJalrXUtnFEMI/K7MDENG"',
        "recon: file-02.csv, line 2: amount is no number",
    ]
    found = Logs.of_step(f"s3n://{bucket}/logs/", "j-1", "s-1")
    assert found is not None
    assert found.folder == f"s3://{bucket}/logs/j-1/steps/s-1/"
    body = gzip.compress("\n".join(lines).encode())
    late = Thread(
        target=lambda: (time.sleep(0.3), seaweed_server.client().put_object(Bucket=bucket, Key="logs/j-1/steps/s-1/stderr.gz", Body=body))
    )
    late.start()
    told = found.awaited(QUICK)
    late.join()
    assert told[-1] == "recon: file-02.csv, line 2: amount is no number"
    assert len(told) == 3, "not the lines that may be anything"
    shown = "\n".join(told)
    for secret in ("correct horse", "AKIA", "wJalr", "A1,e1-1"):
        assert secret not in shown
    assert found.awaited(Pace(first=0.01, most=0.02, logs=0.1), "controller") == [], "what does not come in time is done without"


def test_logs_that_may_not_be_read_are_said_to_be_so(seaweed_server: seaweed.Seaweed, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**seaweed_server.environment, "AWS_SECRET_ACCESS_KEY": "another"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)  # it keeps credentials
    bucket = seaweed_server.bucket()
    found = Logs.of_step(f"s3://{bucket}", "j-1", "s-1")
    assert found == Logs(f"s3://{bucket}/j-1/steps/s-1/")
    (told,) = found.awaited(QUICK)
    # botocore names the class of the error by its code where it has made such a class before
    assert told.startswith("recon: its logs cannot be read: ")
    assert "SignatureDoesNotMatch" in told
    assert "another" not in told


@pytest.mark.parametrize("log_uri", [None, "", "hdfs:///logs"])
def test_a_cluster_without_logs_in_s3_has_none(log_uri: str | None) -> None:
    assert Logs.of_step(log_uri, "j-1", "s-1") is None
