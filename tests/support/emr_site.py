"""EMR's stand-in with S3 for its logs, for tests of what runs do about steps and jobs; what these do $EMR_DOES says
(tests/support/emr_submit.py).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread

import pytest
import seaweed
from daemons import end_with_parent
from dagster._core.pipes import utils
from emr_server import EmrServer, Running, emr_server, until
from folders import ROOT, SUPPORT
from small_reconciliation import YAML, landed

import recon
from recon.api import Reconciliation
from recon.remote import clusters
from recon.storage.aws_calls import Pace
from recon_assets import retries
from resources import emr, emr_serverless

CARRIES_OUT = "carries out"
PATIENCE_S = 120


@dataclass(frozen=True)
class Site:
    """``logs``: a bucket. ``environment`` leads processes there."""

    emr: EmrServer
    s3: seaweed.Seaweed
    logs: str
    environment: Mapping[str, str]
    _does: Path

    def does(self, what: str) -> None:
        """What the steps and jobs do from now on: ``CARRIES_OUT``, or a shell command."""
        self._does.write_text(what)


@contextmanager
def emr_site(folder: Path, s3: seaweed.Seaweed) -> Iterator[Site]:
    does, bin_folder = folder / "does", folder / "bin"
    bin_folder.mkdir()
    submit = bin_folder / "spark-submit"
    submit.write_text(f'#!/bin/sh\nexec {sys.executable} {SUPPORT / "emr_submit.py"} "$@"\n')
    submit.chmod(0o755)
    path = f"{bin_folder}{os.pathsep}{os.environ['PATH']}"
    of_steps = {**os.environ, **s3.environment, "PATH": path, "EMR_DOES": str(does), "PYTHONPATH": str(ROOT)}

    def put_log(bucket: str, key: str, body: bytes) -> None:
        s3.client().put_object(Bucket=bucket, Key=key, Body=body)

    with emr_server(folder / "steps", of_steps, put_log) as server:
        environment = {**s3.environment, "AWS_ENDPOINT_URL_EMR": server.url, "AWS_ENDPOINT_URL_EMR_SERVERLESS": server.url}
        # The PATH is for the thread that starts processes.
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", path)
            yield Site(server, s3, s3.bucket(), environment, does)


def at_the_site(site: Site, patch: pytest.MonkeyPatch) -> None:
    """Leads this process there, and has it hurry: a thousandth of the waits between a stage's attempts."""
    for name, value in site.environment.items():
        patch.setenv(name, value)
    for module in (emr, emr_serverless, clusters):
        patch.setattr(module, "PACE", Pace(first=0.05, most=0.2, patience=30, logs=30))
    patch.setattr(emr_serverless, "MESSAGES_S", 0.2)
    patch.setattr(utils, "DEFAULT_SLEEP_INTERVAL", 0.05)
    for table in (retries.COMPUTE, retries.INDEX):
        for kind, rule in table.items():
            patch.setitem(table, kind, replace(rule, wait_s=rule.wait_s / 1000))  # type: ignore[arg-type]
    site.does(CARRIES_OUT)


def answer_at_next_attempt(site: Site, operation: str, found: Callable[[], Running], gate: Path) -> None:
    """In a thread: once the next attempt calls ``operation`` nothing is refused any more, and the step or job, which waits for the file
    ``gate``, may end."""

    def answer() -> None:
        first, seen = found(), site.emr.calls[operation]
        until(lambda: site.emr.calls[operation] > seen, "the next attempt")
        site.emr.refusals.clear()
        assert first.state == "RUNNING"
        gate.touch()

    Thread(target=answer, daemon=True).start()


def reconciliation(folder: Path, engine: str, hours: int = 1) -> Reconciliation:
    """``orders`` with so many closed windows, in a folder; ``engine``: the section's fields."""
    path = folder / "orders.yaml"
    path.write_text(f"{YAML.format(name='orders')}engine: {{package: /home/hadoop/recon, {engine}}}\n")
    opened = recon.open(path)
    opened.store(create=True)
    for hour in range(hours):
        landed(opened, hour)
    return opened


def recon_run(opened: Reconciliation, **more: str) -> subprocess.Popen[str]:
    """``recon run``, in a process of its own."""
    command = [sys.executable, "-m", "recon.cli", "run", "--config", str(opened.config.path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **more}
    folder, pipe = opened.config.path.parent, subprocess.PIPE
    return subprocess.Popen(command, env=environment, cwd=folder, stdout=pipe, stderr=pipe, text=True, preexec_fn=end_with_parent)
