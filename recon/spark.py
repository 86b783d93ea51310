"""Recon on Spark, from the command line: what ``spark-submit``, EMR and EMR Serverless run.

    spark-submit --master spark://host:7077 --py-files recon-spark.zip recon_spark.py run --config recon.yaml
    python -m recon.spark run --config recon.yaml        # in the session that recon.yaml names under engine
    python -m recon.spark package --out dist             # recon-spark.zip and recon_spark.py
    python -m recon.spark package --out dist/emr --wheels arm64   # and what EMR's machines have to install

Belongs here: the arguments, and packing the library for executors. Does not belong here: the engine (recon.engines.spark), and anything of
Dagster, which executors do not have.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from recon import wheels
from recon.api import Reconciliation
from recon.engines.spark.session import open_session
from recon.errors import ReconError

ENTRY = """\
\"\"\"What spark-submit runs; the library is in recon-spark.zip (--py-files).\"\"\"

import sys

from recon.spark import main

if __name__ == "__main__":
    sys.exit(main())
"""
_ZIP, _SCRIPT, _WHEELS, _BOOTSTRAP = "recon-spark.zip", "recon_spark.py", "wheels", "emr-bootstrap.sh"
_EARLIEST = (1980, 1, 1, 0, 0, 0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status: 0 done, else that of the failure, which is one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m recon.spark", description="Recon on Spark.")
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="process everything that is closed and not yet done; the report is JSON on stdout")
    running.add_argument("--config", type=Path, default=Path("recon.yaml"), metavar="FILE")
    running.add_argument("--from", dest="first", metavar="W", help="first window; the earliest if not given")
    running.add_argument("--to", dest="last", metavar="W", help="last window; the newest if not given")
    stepping = commands.add_parser("step", help="carry out the stage that was asked for in the store: what a run of Dagster has submitted")
    stepping.add_argument("--store", metavar="LOCATION", help="where the store is; told by Dagster Pipes where that started the job")
    stepping.add_argument("--attempt", metavar="ID", help="what was asked, below steps/ in the store")
    renewing = commands.add_parser("rebuild", help="everything again from the landed events, by the rules as they are now")
    renewing.add_argument("--config", type=Path, default=Path("recon.yaml"), metavar="FILE")
    packing = commands.add_parser("package", help=f"write the library for executors, {_ZIP}, and the file for spark-submit, {_SCRIPT}")
    packing.add_argument("--out", type=Path, default=Path("dist"), metavar="DIR")
    packing.add_argument("--wheels", choices=sorted(wheels.ARCHITECTURES), help="with wheels of all that EMR's machines of this kind need")
    packing.add_argument("--python", default="3.11", metavar="3.x", help="theirs; %(default)s if not given")
    asked = parser.parse_args(arguments)
    try:
        match asked.command:
            case "run":
                return run(asked.config, asked.first, asked.last)
            case "step":
                return step(asked.store, asked.attempt)
            case "rebuild":
                return rebuild(asked.config)
            case _:
                return package(asked.out, asked.wheels, asked.python)
    except ReconError as error:
        print(f"recon: {error}", file=sys.stderr)
        return error.exit_status


def run(config: Path, first: str | None = None, last: str | None = None) -> int:
    """``recon run`` on Spark, whatever engine the file names: by plain calls, without Dagster. Exit status 1 where windows are bad."""
    opened = _on_spark(config)
    start = time.perf_counter()
    open_session(opened.config.engine)
    session_s = time.perf_counter() - start
    report = opened.run(first, last)
    report.took("session", session_s)
    print(json.dumps(asdict(report)))
    for window, reason in report.bad.items():
        print(f"recon: left out: {reason if window in reason else f'window {window}: {reason}'}", file=sys.stderr)
    return 1 if report.bad else 0


def rebuild(config: Path) -> int:
    """``recon rebuild`` on Spark, whatever engine the file names."""
    opened = _on_spark(config)
    open_session(opened.config.engine)
    print(json.dumps(asdict(opened.rebuild())))
    return 0


def step(location: str | None, attempt: str | None) -> int:
    """Carries out what was asked in the store, and answers there. Where Dagster Pipes started the job, it says what; else the arguments."""
    from recon.remote.emr.pipes import opened_pipes
    from recon.remote.worker import carry_out

    with opened_pipes() as pipes:
        store, asked = pipes.told(location, attempt)
        error = carry_out(store, asked, pipes.tell)
    if error is not None:
        raise error
    return 0


def _on_spark(config: Path) -> Reconciliation:
    opened = Reconciliation(config)
    vars(opened)["config"] = replace(opened.config, engine=replace(opened.config.engine, kind="spark"))
    return opened


def package(out: Path, arch: str | None = None, python: str = "3.11") -> int:
    """The library as a zip for ``--py-files`` and the file for spark-submit; for ``arch`` also what else EMR's machines need, with the
    script that installs it there. The same sources give the same bytes."""
    source = Path(__file__).parent
    out.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(out / _ZIP, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(source.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                name = f"recon/{file.relative_to(source).as_posix()}"
                archive.writestr(zipfile.ZipInfo(name, _EARLIEST), file.read_bytes(), zipfile.ZIP_DEFLATED)
    (out / _SCRIPT).write_text(ENTRY, encoding="utf-8")
    print(f"wrote {out / _ZIP} and {out / _SCRIPT}")
    if arch is None:
        print(f"next: spark-submit --py-files {out / _ZIP} {out / _SCRIPT} run --config recon.yaml")
        return 0
    folder = out / _WHEELS
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    wanted = [*wheels.needed("aws", without=["dagster"]), *wheels.installed(["dagster-pipes"])]
    wheels.fetch(wanted, folder, arch, python)
    shutil.copyfile(source / _BOOTSTRAP, out / _BOOTSTRAP)
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"wrote {folder}: {len(wanted)} wheels for python{python} on {arch}, {size / 1e6:.0f} MB; and {out / _BOOTSTRAP}")
    print(f"next: aws s3 sync {out} s3://BUCKET/spark, and engine.package: s3://BUCKET/spark in recon.yaml")
    return 0


if __name__ == "__main__":
    sys.exit(main())
