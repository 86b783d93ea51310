"""recon transform over files, which is to answer fast: what it does not load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from folders import ROOT

REQUEST = """version: v1
inputs: {sales: {path: sales.csv, types: {amount: "decimal(18,2)"}}}
operations: [{compute: {table: sales, set: {gross: "=ROUND([@amount]*1.19,2)"}}}]
outputs: [{table: sales, path: out.csv}]
"""


def test_a_request_over_files_loads_neither_dagster_nor_a_database(tmp_path: Path) -> None:
    (tmp_path / "sales.csv").write_text("region,amount\nNorth,2.50\n")
    (tmp_path / "request.yaml").write_text(REQUEST)
    code = (
        "import sys; from recon.cli import main; status = main(['transform', 'request.yaml']);"
        "print(status, sorted({'dagster', 'sqlalchemy', 'alembic', 'recon.database'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.stdout.endswith("0 []\n"), done.stdout + done.stderr
    assert (tmp_path / "out.csv").read_text() == "region,amount,gross\nNorth,2.50,2.98\n"
