"""Checks this machine for the engines and services Recon needs, and names the command that fixes each gap."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import socket
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from recon.config import Config
from recon.errors import ReconError, WrongUsage
from recon.operations.doctor import aws, intake
from recon.operations.doctor.finding import Finding
from recon.storage.aws_calls import INSTALL_AWS
from recon.storage.roles import role_of

CONNECT_S_MAX = 3


def examine(config: Config | None) -> list[Finding]:
    """All findings; with ``config`` also of the services that it names."""
    spark = config is not None and config.engine.kind == "spark"
    found = [
        _installed("duckdb engine", "duckdb", needed=not spark, mend="pip install dagster-recon"),
        _installed("spark engine", "pyspark", needed=spark, mend="pip install 'dagster-recon[spark]'"),
        _java(needed=spark),
        _spark_master(config) if config and spark else None,
        _installed("spark in dagster", "dagster-pyspark", needed=spark, mend="pip install 'dagster-recon[spark]'"),
        _scratch(),
        _store(config) if config else None,
        _installed(
            "S3 stores", "obstore", needed=bool(config and config.store.startswith("s3://")), mend="pip install 'dagster-recon[aws]'"
        ),
        _cache(config) if config else None,
        *(aws.examine(config) if config else ()),
        *(intake.examine(config) if config else ()),
        _installed("dagster", "dagster", needed=True, mend="pip install dagster-recon"),
        _installed("dagster on PostgreSQL", "dagster-postgres", needed=False, mend="pip install 'dagster-recon[postgres]'"),
    ]
    return [finding for finding in found if finding is not None]


def _installed(name: str, distribution: str, needed: bool, mend: str) -> Finding:
    try:
        version = importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, False, f"{distribution} is not installed", needed, mend)
    return Finding(name, True, f"{distribution} {version}", needed)


def _java(needed: bool) -> Finding:
    from recon.engines.spark.java import MEND, find_java

    def look() -> str:
        java = find_java()
        return f"Java {java.version} of {java.origin}, {java.home}"

    return _tried("java for spark", look, needed, MEND.partition(",")[0])


def _spark_master(config: Config) -> Finding:
    """Whether the master's port accepts connections."""
    master = config.engine.master
    if not master.startswith("spark://"):
        return Finding("spark master", True, f"{master}: no cluster of its own", needed=True)
    url = urlsplit(master)
    try:
        with socket.create_connection((url.hostname or "", url.port or 7077), CONNECT_S_MAX):
            return Finding("spark master", True, f"{master} listens", needed=True)
    except OSError as error:
        mend = f"spark-class org.apache.spark.deploy.master.Master --host {url.hostname} --port {url.port or 7077}"
        return Finding("spark master", False, f"{master}: {error}", needed=True, mend=mend)


def _scratch() -> Finding:
    place = Path(tempfile.gettempdir())
    free = shutil.disk_usage(place).free
    return Finding(
        "room to spill", free > 1 << 30, f"{free / 1e9:.1f} GB free in {place}", needed=True, mend="export TMPDIR=/a/larger/disk"
    )


def _store(config: Config) -> Finding:
    from recon.storage.open import open_for

    def look() -> str:
        # A run would retry for minutes.
        open_for(replace(config, s3=config.s3.retrying(CONNECT_S_MAX)))
        return f"{config.store_path or config.store} opens"

    found = _tried("store", look, True, "recon land FILE --window W --close")
    if found.there or "there is no store" in found.told:
        return found
    return replace(found, mend=found.told.rpartition("; ")[2])


def _cache(config: Config) -> Finding | None:
    """Whether the cache accepts the user and answers. Runs go on without it, only slower."""
    if config.cache.kind == "none":
        return None
    if config.store_path is not None:
        return Finding("cache", True, "not used: the store is a folder, whose records are mapped")
    from recon.storage.cache import RecordCache, reason

    address = config.cache.address
    cache = RecordCache(config.cache, config.cache.namespace or config.name, bytes)
    try:
        with role_of("prefetch"):  # the role that reads the secret in a run
            cache.try_out()
    except Exception as error:
        mend = "recon.yaml: cache.url, cache.user, cache.secret"
        if isinstance(error, WrongUsage) and "pip install" in str(error):
            mend = INSTALL_AWS
        return Finding("cache", False, f"{address}: {reason(error)}", needed=True, mend=mend)
    return Finding("cache", True, f"{address} answers", needed=True)


def _tried(name: str, look: Callable[[], str], needed: bool, mend: str) -> Finding:
    try:
        return Finding(name, True, look(), needed)
    except ReconError as error:
        return Finding(name, False, str(error), needed, mend)
