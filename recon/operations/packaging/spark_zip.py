"""Packs the library for Spark's executors, with the file for spark-submit."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

from recon.operations.packaging import wheels

ENTRY = """\
\"\"\"What spark-submit runs; the library is in recon-spark.zip (--py-files).\"\"\"

import sys

from recon.cli.spark import main

if __name__ == "__main__":
    sys.exit(main())
"""
_ZIP, _SCRIPT, _WHEELS, _BOOTSTRAP = "recon-spark.zip", "recon_spark.py", "wheels", "emr-bootstrap.sh"
_EARLIEST = (1980, 1, 1, 0, 0, 0)


def package(out: Path, arch: str | None = None, python: str = "3.11") -> int:
    """Writes the library as a zip for ``--py-files``, and the file for spark-submit; for ``arch`` also the wheels that EMR's machines need,
    and the script that installs them. The same sources give the same bytes."""
    source = Path(__file__).parents[2]
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
    shutil.copyfile(Path(__file__).with_name(_BOOTSTRAP), out / _BOOTSTRAP)
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"wrote {folder}: {len(wanted)} wheels for python{python} on {arch}, {size / 1e6:.0f} MB; and {out / _BOOTSTRAP}")
    print(f"next: aws s3 sync {out} s3://BUCKET/spark, and engine.package: s3://BUCKET/spark in recon.yaml")
    return 0
