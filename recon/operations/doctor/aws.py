"""Checks AWS: whether each configured service is reachable, allowed, and has the named resources.

Nothing is changed, started or invoked, and no credentials are shown.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from recon.config import Config
from recon.errors import ReconError, TryAgain, WrongUsage
from recon.operations.doctor.finding import Finding
from recon.remote.emr.failures import GONE
from recon.remote.emr.submit import SCRIPT, ZIP
from recon.serving.builds import current
from recon.state.timeline import Timeline
from recon.storage import layout
from recon.storage.aws_calls import INSTALL_AWS, call, client
from recon.storage.open import open_for, open_store
from recon.storage.roles import SERVICE, STAGE_PROFILE, STAGES, role_of

CONNECT_S_MAX, ANSWER_S_MAX = 3.0, 5.0
_ENDPOINT_OF = {"index table": "DYNAMODB", "index workers": "LAMBDA", "emr": "EMR", "emr serverless": "EMR_SERVERLESS"}
_REFUSED = ("AccessDenied", "UnauthorizedOperation", "not authorized")
_INVALID = ("ExpiredToken", "UnrecognizedClient", "InvalidSignature", "InvalidClientTokenId", "SignatureDoesNotMatch")

Look = Callable[[], str]


def examine(config: Config) -> Iterator[Finding]:
    """Findings of the configured services only."""
    engine, checks = config.engine, list[Callable[[Config], Finding]]()
    if config.index.kind == "dynamodb":
        checks.append(_table)
    if config.workers.kind == "lambda":
        checks.append(_function)
    if engine.kind == "emr":
        checks.append(_cluster)
    if engine.kind == "emr_serverless":
        checks.append(_application)
    if checks or config.store.startswith("s3://"):
        credentials = _credentials()
        yield credentials
        if credentials.there:
            yield from _roles(config)
            yield from (check(config) for check in checks)
            if engine.elsewhere and engine.package.startswith("s3://"):
                yield _package(config)


def _roles(config: Config) -> Iterator[Finding]:
    """For each stage with a role, and for a transformation service: whether the role can be assumed, and reads the store."""
    if not os.environ.get(STAGE_PROFILE):
        return
    for stage in (*STAGES, *([SERVICE] if config.service.owners else [])):

        def look(stage: str = stage) -> str:
            with role_of(stage):
                who = call(_client("sts").get_caller_identity)["Arn"]
                if config.store.startswith("s3://"):
                    s3 = config.s3.retrying(CONNECT_S_MAX)
                    open_store(config.store, config.path.parent, s3).exists(layout.STORE)
            return f"{who} may be taken" + (" and reads the store" if config.store.startswith("s3://") else "")

        yield _tried(f"role of {stage}", look, "sts:AssumeRole", f"write the profile that {STAGE_PROFILE} names into ~/.aws/config")


def _credentials() -> Finding:
    """Where the standard chain found credentials; never the credentials themselves."""
    name, mend = "aws credentials", "set AWS_PROFILE, or sign in, such as with 'aws sso login'"
    try:
        import boto3
        from botocore.exceptions import BotoCoreError
    except ImportError:
        return Finding(name, False, "boto3 is not installed", needed=True, mend=INSTALL_AWS)
    try:
        session = boto3.Session()
        found = session.get_credentials()
        if found is None:
            return Finding(name, False, "none are found by the standard chain", needed=True, mend=mend)
        found.get_frozen_credentials()
    except BotoCoreError as error:
        return Finding(name, False, f"they cannot be had ({type(error).__name__}: {error})", needed=True, mend=mend)
    return Finding(name, True, f"found ({found.method}); region {session.region_name or 'not set'}", needed=True)


def _table(config: Config) -> Finding:
    """The store's current table; while none is complete, only that DynamoDB answers."""
    current_table = _current_table(config)
    table = current_table or config.index.table

    def look() -> str:
        try:
            state = call(_client("dynamodb").describe_table, TableName=table)["Table"]["TableStatus"]
        except WrongUsage as error:
            if current_table or "ResourceNotFoundException" not in str(error):
                raise
            return f"DynamoDB answers; there is no table {table} yet, the first update makes it"
        return f"table {table} is {state}"

    return _tried("index table", look, "dynamodb:DescribeTable", "recon index rebuild", "index")


def _current_table(config: Config) -> str:
    """Name of the store's current table; "" if there is none, or the store cannot be opened, which has a finding of its own."""
    try:
        store = open_for(replace(config, s3=config.s3.retrying(CONNECT_S_MAX)))
        found = current(store, Timeline(store).head())
    except ReconError:
        return ""
    return found.table if found else ""


def _function(config: Config) -> Finding:
    """A dry run checks the permission to invoke the function and invokes nothing."""
    function = config.workers.function

    def look() -> str:
        call(_client("lambda").invoke, FunctionName=function, InvocationType="DryRun")
        return f"function {function} may be invoked"

    return _tried(
        "index workers", look, "lambda:InvokeFunction", f"deploy {function} ('make lambda-package'), or correct workers.function", "index"
    )


def _cluster(config: Config) -> Finding:
    cluster = config.engine.cluster
    if cluster is None:
        return _tried("emr", _emr_answers, "elasticmapreduce:RunJobFlow", stage="reduce")

    def look() -> str:
        found = call(_client("emr").describe_cluster, ClusterId=cluster)["Cluster"]
        if (state := found["Status"]["State"]) in GONE:
            raise WrongUsage(f"{cluster} is {state}")
        at_once = found.get("StepConcurrencyLevel", 1)
        logs = "" if found.get("LogUri") else "; it keeps no logs in S3, so that why a step failed may stay unknown"
        return f"{cluster} is {state}, {at_once} steps at once{logs}"

    return _tried("emr", look, "elasticmapreduce:DescribeCluster", "name a running cluster in engine.cluster", "reduce")


def _emr_answers() -> str:
    """For runs that start clusters: starting one cannot be checked without starting it."""
    try:
        call(_client("emr").list_clusters, ClusterStates=["STARTING"])
    except WrongUsage as error:
        if not any(sign in str(error) for sign in _REFUSED):
            raise  # a run does not list clusters, so this may be denied
    return "EMR answers; each run starts a cluster of its own, whether it may is not checked"


def _application(config: Config) -> Finding:
    application = config.engine.application

    def look() -> str:
        found = call(_client("emr-serverless").get_application, applicationId=application)["application"]
        if (state := found["state"]) == "TERMINATED":
            raise WrongUsage(f"{application} is {state}")
        return f"{application} is {state}, {found['releaseLabel']}"

    return _tried("emr serverless", look, "emr-serverless:GetApplication", "name an application in engine.application", "reduce")


def _package(config: Config) -> Finding:
    place = config.engine.package
    bucket, _, prefix = place.removeprefix("s3://").partition("/")

    def look() -> str:
        for name in (ZIP, SCRIPT):
            call(_client("s3").head_object, Bucket=bucket, Key="/".join(filter(None, (prefix, name))))
        return f"{place} has {ZIP} and {SCRIPT}"

    return _tried("package of recon", look, "s3:GetObject", f"make spark-package; aws s3 cp --recursive dist {place}")


def _client(service: str) -> Any:
    return client(service, CONNECT_S_MAX, ANSWER_S_MAX)


def _tried(name: str, look: Look, action: str, mend: str = "", stage: str = "") -> Finding:
    """``action``: the permission that the call needs. ``mend``: the fix if the named resource does not exist. ``stage``: whose role makes
    the call in a run; "" for the process's own role."""
    try:
        with role_of(stage) if stage else nullcontext():
            return Finding(name, True, look(), needed=True)
    except ReconError as error:
        return Finding(name, False, str(error), needed=True, mend=_mend(name, error, action, mend))


def _mend(name: str, error: ReconError, action: str, otherwise: str) -> str:
    text = str(error)
    if "pip install" in text:
        return INSTALL_AWS
    if "no region" in text:
        return "export AWS_REGION=…"
    if any(sign in text for sign in _INVALID):
        return "renew the credentials, such as with 'aws sso login'"
    if any(sign in text for sign in _REFUSED):
        return f"allow {action} to the role or user that runs this"
    if isinstance(error, TryAgain):
        endpoint = f"AWS_ENDPOINT_URL_{_ENDPOINT_OF[name]}" if name in _ENDPOINT_OF else "AWS_ENDPOINT_URL_S3"
        return f"check the network, AWS_REGION and {endpoint}"
    return otherwise or f"allow {action} to the role or user that runs this"
