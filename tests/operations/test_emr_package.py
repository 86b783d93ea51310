"""What EMR's machines install: it is enough for the library, and nothing of Dagster; the bootstrap action installs it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from folders import ROOT

from recon.cli.spark import main
from recon.operations.packaging import wheels

SCRIPT = ROOT / "recon" / "operations" / "packaging" / "emr-bootstrap.sh"
STANDS_IN = {
    "sudo": 'exec "$@"',
    # aws s3 cp --recursive --only-show-errors s3://bucket/… FOLDER
    "aws": 'test "$1 $2" = "s3 cp" && exec cp -r "$BUCKETS/${5#s3://}." "$6"',
}


def test_what_is_named_for_emr_is_all_that_the_library_imports_there(tmp_path: Path) -> None:
    assert main(["package", "--out", str(tmp_path)]) == 0
    others = tmp_path / "others"
    others.mkdir()
    named = [
        *wheels.needed("aws", without=["dagster"]),
        *wheels.installed(["dagster-pipes", "pyspark", "py4j"]),
    ]  # the last two are Spark's
    assert not {one.name for one in named} & {"dagster", "dagster-aws", "recon"}
    for one in named:
        for top in {Path(file).parts[0] for file in one.files or ()} - {"..", "__pycache__"}:
            if not (others / top).exists():
                (others / top).symlink_to(Path(str(one.locate_file(top))))
    work = (
        "import sys; import recon.remote.worker, recon.engines.spark.reduce_large, recon.engines.spark.merge\n"
        "import recon.storage.s3.store, recon.storage.cache\n"
        "from recon.cli.spark import main; from recon.remote.emr.pipes import open_pipes\n"
        "import boto3, obstore, redis, dagster_pipes\n"
        "print(recon.cli.spark.__file__, 'dagster' in sys.modules); main(['step', '--help'])"
    )
    path = os.pathsep.join([str(tmp_path / "recon-spark.zip"), str(others)])
    command = [sys.executable, "-S", "-c", work]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": path}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == f"{tmp_path / 'recon-spark.zip'}/recon/cli/spark.py False"


def test_the_bootstrap_action_installs_what_lies_beside_it_in_s3_without_the_internet(tmp_path: Path) -> None:
    done = bootstrap(tmp_path, "s3://code/spark/")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"recon: what it needs is installed in {tmp_path / 'home'}\n"
    asked = [str(tmp_path / "home" / "bin" / "python"), "-c", "import ledger; print(ledger.__file__)"]
    told = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    assert Path(told.strip()).is_relative_to(tmp_path / "home")
    again = bootstrap(tmp_path, "s3://code/spark")
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize(("given", "told"), [("", "name the folder in S3"), ("s3://code/elsewhere", "elsewhere")])
def test_a_bootstrap_action_that_finds_no_wheels_fails_so_that_the_cluster_does(tmp_path: Path, given: str, told: str) -> None:
    done = bootstrap(tmp_path, given)
    assert done.returncode != 0
    assert told in done.stderr


def bootstrap(folder: Path, *given: str) -> subprocess.CompletedProcess[str]:
    """The script with a folder for S3, and sudo that changes nobody."""
    bucket, commands = folder / "buckets" / "code" / "spark" / "wheels", folder / "commands"
    for path in (bucket, commands):
        path.mkdir(parents=True, exist_ok=True)
    for name, text in STANDS_IN.items():
        (commands / name).write_text(f"#!/bin/sh\n{text}\n")
        (commands / name).chmod(0o755)
    with zipfile.ZipFile(bucket / "ledger-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("ledger.py", "")
        wheel.writestr("ledger-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: ledger\nVersion: 1.0\n")
        wheel.writestr("ledger-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("ledger-1.0.dist-info/RECORD", "")
    (bucket / wheels.REQUIREMENTS).write_text("ledger==1.0\n")
    environment = {
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
        "BUCKETS": f"{folder / 'buckets'}/",
        "RECON_ENVIRONMENT": str(folder / "home"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    command = ["bash", str(SCRIPT), *given, *([sys.executable] if given[0] else [])]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
