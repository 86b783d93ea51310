"""Recon on Spark, from the command line: what ``spark-submit``, EMR and EMR Serverless run.

    spark-submit --master spark://host:7077 --py-files recon-spark.zip recon_spark.py run --config recon.yaml
    python -m recon.cli.spark run --config recon.yaml        # in the session that recon.yaml names under engine
    spark-submit --master spark://host:7077 --py-files recon-spark.zip recon_spark.py transform request.yaml
    python -m recon.cli.spark package --out dist             # recon-spark.zip and recon_spark.py
    python -m recon.cli.spark package --out dist/emr --wheels arm64   # and the wheels that EMR's machines install

``--help`` after any of them lists its options.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from recon.api import Reconciliation
from recon.engines.spark.session import open_session
from recon.errors import ReconError
from recon.operations.packaging import wheels
from recon.operations.packaging.spark_zip import _SCRIPT, _ZIP, package
from recon.telemetry import logs
from recon.transformations.run import carry_out, read_request
from recon.transformations.site import Site

_LOG = logging.getLogger("recon.cli")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status: 0 if done, else the exit status of the error, which is one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m recon.cli.spark", description="Recon on Spark.")
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="process everything that is closed and not yet done; the report is JSON on stdout")
    running.add_argument("--config", type=Path, default=Path("recon.yaml"), metavar="FILE", help="default: %(default)s")
    running.add_argument("--from", dest="first", metavar="W", help="first window; default: the earliest")
    running.add_argument("--to", dest="last", metavar="W", help="last window; default: the newest")
    stepping = commands.add_parser("step", help="carry out the stage that a Dagster run requested through the store")
    stepping.add_argument("--store", metavar="LOCATION", help="location of the store; default: the one that Dagster Pipes passes")
    stepping.add_argument("--attempt", metavar="ID", help="id of the request, below steps/ in the store")
    renewing = commands.add_parser("rebuild", help="compute everything again from the landed events, by the current rules")
    renewing.add_argument("--config", type=Path, default=Path("recon.yaml"), metavar="FILE", help="default: %(default)s")
    transforming = commands.add_parser("transform", help="carry out a transformation request; the certificate is JSON on stdout")
    transforming.add_argument("file", type=Path, metavar="FILE", help="the request, YAML or JSON")
    packing = commands.add_parser("package", help=f"write the library for executors, {_ZIP}, and the file for spark-submit, {_SCRIPT}")
    packing.add_argument("--out", type=Path, default=Path("dist"), metavar="DIR", help="a folder; default: %(default)s")
    packing.add_argument("--wheels", choices=sorted(wheels.ARCHITECTURES), help="add the wheels that EMR's machines of this kind need")
    packing.add_argument("--python", default="3.11", metavar="3.x", help="Python version of these machines; default: %(default)s")
    given = parser.parse_args(arguments)
    try:
        logs.set_up()
        match given.command:
            case "run":
                return run(given.config, given.first, given.last)
            case "step":
                return step(given.store, given.attempt)
            case "rebuild":
                return rebuild(given.config)
            case "transform":
                return transform(given.file)
            case _:
                return package(given.out, given.wheels, given.python)
    except ReconError as error:
        logs.complain(_LOG, str(error))
        return error.exit_status


def run(config: Path, first: str | None = None, last: str | None = None) -> int:
    """``recon run`` on Spark, whatever engine the file names: by plain calls, without Dagster. Exit status 1 if a window was left out."""
    opened = _on_spark(config)
    start = time.perf_counter()
    open_session(opened.config.engine)
    session_s = time.perf_counter() - start
    report = opened.run(first, last)
    report.took("session", session_s)
    print(json.dumps(asdict(report)))
    for window, reason in report.bad.items():
        logs.complain(_LOG, f"left out: {reason if window in reason else f'window {window}: {reason}'}")
    return 1 if report.bad else 0


def rebuild(config: Path) -> int:
    """``recon rebuild`` on Spark, whatever engine the file names."""
    opened = _on_spark(config)
    open_session(opened.config.engine)
    print(json.dumps(asdict(opened.rebuild())))
    return 0


def transform(file: Path) -> int:
    """``recon transform`` on Spark, whatever engine the request names."""
    print(json.dumps(carry_out(read_request(file, site=Site(engine="spark")))))
    return 0


def step(location: str | None, attempt: str | None) -> int:
    """Carries out the stage requested in the store and writes the result there. Dagster Pipes names the request if it started the job,
    else the arguments do."""
    from recon.remote.emr.pipes import open_pipes
    from recon.remote.worker import carry_out

    with open_pipes() as pipes:
        store, asked = pipes.request(location, attempt)
        error = carry_out(store, asked, pipes.tell)
    if error is not None:
        raise error
    return 0


def _on_spark(config: Path) -> Reconciliation:
    opened = Reconciliation(config)
    vars(opened)["config"] = replace(opened.config, engine=opened.config.engine.model_copy(update={"kind": "spark"}))
    return opened


if __name__ == "__main__":
    sys.exit(main())
