"""recon transform --explain, too little disk, and Ctrl-C."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest
from cli_calls import Call

from recon.errors import OutOfCapacity
from recon.transformations.run import carry_out, explained, read_request

OPERATIONS = [
    {"compute": {"table": "sales", "set": {"double": "=[@amount]*2"}}},
    {"sort": {"table": "sales", "by": "double"}},
    {"running_total": {"table": "sales", "to": "sum", "of": "double"}},
    {"group": {"table": "sales", "by": "item", "values": {"sum": {"sum": "double"}}, "as": "totals"}},
]


def request(folder: Path, rows: int, **more: object) -> Path:
    with (folder / "sales.csv").open("w") as file:
        file.write("item,amount\n")
        file.writelines(f"item {row % 977},{row % 9999}.{row % 100:02}\n" for row in range(rows))
    inputs = {"sales": {"path": "sales.csv", "types": {"amount": "decimal(18,2)"}}}
    outputs = [{"table": "sales", "path": "sales.parquet"}, {"table": "totals", "path": "totals.csv"}]
    (folder / "request.json").write_text(json.dumps({"inputs": inputs, "operations": OPERATIONS, "outputs": outputs, **more}))
    return folder / "request.json"


def test_explain_says_engine_reason_plan_memory_and_disk_and_writes_nothing(tmp_path: Path, recon: Call) -> None:
    path = str(request(tmp_path, 1000))
    answer = recon("transform", path, "--explain")
    assert answer.status == 0
    assert "engine: duckdb; the inputs have" in answer.out
    assert "not more than spark.above: 100 GB" in answer.out
    assert "memory: at most" in answer.out
    found = json.loads(recon("transform", path, "--explain", "--json").out)
    assert 900 < found["rows"]["sales"] < 1100
    assert [one["how"][:11] for one in found["operations"]] == ["in one pass", "reads a tab", "in one pass", "reads a tab"]
    assert found["disk_bytes"] == 0 < found["memory_bytes"] < 1_000_000
    assert sorted(one.name for one in tmp_path.iterdir()) == ["request.json", "sales.csv"]


def test_spark_is_taken_beyond_a_size_and_its_tasks_are_explained(tmp_path: Path) -> None:
    found = explained(read_request(request(tmp_path, 1000, spark={"above": "10KB"}))).as_json()
    assert (found["engine"], found["why"].split(",")[1]) == ("spark", " more than spark.above: 10 kB")
    assert [one["tasks"] for one in found["operations"]] == ["all tasks", "tasks by keys", "one task", "tasks by keys"]


def test_too_little_disk_is_said_before_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = read_request(request(tmp_path, 2_000_000 // 10, memory_limit="32MB"))
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100_000))
    with pytest.raises(OutOfCapacity, match=r"at least \d+(\.\d+)? kB of disk are wanted in .*, and 100 kB are free; free some room"):
        carry_out(asked)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["request.json", "sales.csv"]


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    path, scratch = request(tmp_path, 600_000), tmp_path / "scratch"
    scratch.mkdir()
    command = [sys.executable, "-c", "import sys; from recon.cli import main; sys.exit(main())", "transform", str(path)]
    process = subprocess.Popen(command, env={**os.environ, "TMPDIR": str(scratch)}, stderr=subprocess.PIPE, start_new_session=True)
    until = time.monotonic() + 60
    while not any(scratch.iterdir()) and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(0.3)
    assert process.poll() is None, "it was done before it was interrupted; give it more rows"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, b"recon: interrupted; nothing half-done is visible, run it again to go on\n")
    assert list(scratch.iterdir()) == []
    assert sorted(one.name for one in tmp_path.iterdir()) == ["request.json", "sales.csv", "scratch"]
