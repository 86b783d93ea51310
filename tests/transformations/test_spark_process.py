"""recon transform on Spark as a process of its own: objects in S3, workbooks, rejects; nothing is left behind by Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from folders import ROOT

from recon.storage.open import open_store
from recon.transformations.run import carry_out, read_request

SPARK = {
    "master": "local[2]",
    "slices": 2,
    "settings": {"spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC", "spark.sql.codegen.wholeStage": "false"},
}
ROWS = "item,amount,day\na,10.50,2026-11-01\nB,x,2026-11-02\na,12345678901234567.25,\n"
OPERATIONS = [
    {"compute": {"table": "t", "set": {"double": "=[@amount]*2"}}},
    {"group": {"table": "t", "by": "item", "values": {"sum": {"sum": "double"}}, "as": "g"}},
]


def command(request: Path) -> list[str]:
    return [sys.executable, "-c", "import sys; from recon.cli import main; sys.exit(main())", "transform", str(request), "--json"]


def descendants(process: int) -> dict[int, str]:
    """The processes that one has started, directly or not, with their commands."""
    parents, commands = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                commands[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
    found = {process}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return {one: commands.get(one, "") for one in found}


def test_objects_in_s3_workbooks_and_rejects_are_those_that_duckdb_makes(tmp_path: Path, in_s3: str) -> None:
    store = open_store(in_s3, tmp_path)
    for part in range(2):
        store.put_new(f"in/{part}.csv", [ROWS.encode()])
    types = {"amount": "decimal(30,2)", "day": "date"}
    request: dict[str, Any] = {"inputs": {"t": {"path": f"{in_s3}/in/*.csv", "types": types}}, "operations": OPERATIONS, "spark": SPARK}
    found = []
    for engine in ("spark", "duckdb"):
        outputs = [{"table": "t", "path": f"{in_s3}/{engine}/t.csv"}, {"table": "t", "path": f"{engine}.xlsx"}]
        outputs.append({"table": "g", "path": f"{in_s3}/{engine}/g.parquet"})
        (tmp_path / "request.json").write_text(json.dumps({**request, "engine": engine, "outputs": outputs, "on_error": "reject"}))
        if engine == "spark":
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            done = subprocess.run(command(tmp_path / "request.json"), env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            certificate = json.loads(done.stdout)
        else:
            certificate = carry_out(read_request(tmp_path / "request.json"))
        for output in certificate["outputs"]:
            del output["path"], output["rejects"]["path"], output["digest"]
        sheet = openpyxl.load_workbook(tmp_path / f"{engine}.xlsx")["t"]
        texts = {path.partition("/")[2]: store.get(path) for path in store.list(engine) if path.endswith(".csv")}
        figures = {name: certificate[name] for name in ("inputs", "operations", "outputs")}
        found.append(
            (figures, texts, (tmp_path / f"{engine}.xlsx.rejects.csv").read_text(), [[c.value for c in row] for row in sheet.rows])
        )
    assert found[0] == found[1]
    assert sorted(found[0][1]) == ["g.parquet.rejects.csv", "t.csv", "t.csv.rejects.csv"]
    assert (len(found[0][3]), found[0][3][2][1]) == (5, "12345678901234567.25")
    assert not list(store.list(".recon")), "pieces are gone"


@pytest.mark.parametrize("moment", ["bin/java ", "spark.daemon"])
def test_ctrl_c_leaves_neither_a_process_nor_a_file(tmp_path: Path, moment: str) -> None:
    """``moment``: a part of the command of the process that is there when it is interrupted: Java, or one that works for a task."""
    (tmp_path / "t.csv").write_text(ROWS)
    (scratch := tmp_path / "scratch").mkdir()
    sorts = [{"sort": {"table": "t", "by": "item"}}] * 40
    request = {"inputs": {"t": {"path": "t.csv"}}, "outputs": [{"table": "t", "path": "o.csv"}], "engine": "spark"}
    (tmp_path / "request.json").write_text(json.dumps({**request, "operations": sorts, "spark": SPARK}))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(scratch), "SPARK_LOCAL_DIRS": str(scratch)}
    pipe, call = subprocess.PIPE, command(tmp_path / "request.json")
    process = subprocess.Popen(call, env=environment, stderr=pipe, stdout=pipe, text=True, start_new_session=True)
    until, started = time.monotonic() + 240, descendants(process.pid)
    while not any(moment in one for one in started.values()):
        assert process.poll() is None, f"it ended before it was interrupted: {process.communicate()}"
        assert time.monotonic() < until
        time.sleep(0.02)
        started = descendants(process.pid)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, said = process.communicate(timeout=240)  # until nobody has its output any more
    assert process.returncode == 130, said
    assert "recon: interrupted; nothing half-done is visible, run it again to go on" in said
    while time.monotonic() < until and any(Path(f"/proc/{one}").exists() for one in started):
        time.sleep(0.1)
    assert [one for one in started if Path(f"/proc/{one}").exists()] == []
    assert sorted(one.name for one in tmp_path.iterdir()) == ["request.json", "scratch", "t.csv"]
    assert sorted(one.name for one in scratch.iterdir()) == []
