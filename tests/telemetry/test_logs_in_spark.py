"""JSON logs of a real Spark: the tasks continue with the fields of what started them, though their environment does not ask for JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from folders import ROOT
from small_reconciliation import made, window

import recon
from recon.remote.exchange import put_request
from recon.remote.transform_step import STAGE, Order
from recon.stages.request import StageRequest
from recon.storage import layout
from recon.telemetry import logs

TRANSFORM = {
    "inputs": {"t": {"path": ["in.csv"], "types": {"b": "decimal(18,2)"}}},
    "operations": [{"group": {"table": "t", "by": ["a"], "values": {"total": {"sum": "b"}}}}],
    "outputs": [{"table": "t", "path": "out.csv"}],
}
TWO_STEPS = """
import json, sys
from recon.cli.spark import main
sys.exit(max(main(arguments) for arguments in json.loads(sys.argv[1])))
"""
FIELDS: dict[str, Any] = {"run": "r-1", "reconciliation": "orders", "window": window(0)}


def asked(opened: recon.Reconciliation, request: StageRequest) -> list[str]:
    """The arguments of a step that carries a request out."""
    store = opened.store()
    return ["step", "--store", opened.config.location, "--attempt", put_request(store, opened.config, request)]


def order(folder: Path, attempt: str) -> str:
    """A transformation of a file in a folder."""
    (folder / "in.csv").write_text("a,b\nx,1.10\ny,2.00\nx,0.05\n")
    inputs = {"t": {**TRANSFORM["inputs"]["t"], "path": [f"{folder}/in.csv"]}}  # type: ignore[index,call-overload]
    request = {**TRANSFORM, "inputs": inputs, "outputs": [{"table": "t", "path": f"{folder}/out.csv"}]}
    pieces = layout.step_pieces(attempt)
    return Order(request=request, as_of="2026-11-01", certificate=None, inputs={}, pieces=pieces).model_dump_json()  # type: ignore[arg-type]


def test_steps_and_their_tasks_log_json_with_the_fields_of_the_run_that_submitted_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made(tmp_path, hours=1).config.path
    path.write_text(path.read_text() + "engine: {kind: spark, master: 'local[2]', slices: 2}\n")
    opened = recon.open(path)
    monkeypatch.setenv(logs.LOG, "json")
    with logs.logged_with(**FIELDS, attempt=3):
        reduce = asked(opened, StageRequest("reduce", window(0), window(0), {window(0): 1}))
        transform = asked(opened, StageRequest(STAGE, "sums", "sums", {"digest": 1}, order(tmp_path, layout.new_attempt())))
    environment = {name: value for name, value in os.environ.items() if name != logs.LOG} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", TWO_STEPS, json.dumps([reduce, transform])]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert (tmp_path / "out.csv").read_text() == "a,total\nx,1.15\ny,2.00\n"
    own = [json.loads(line) for line in ended.stderr.splitlines() if '"recon.' in line]  # Java's lines are its own
    tasks = [line for line in own if line["logger"] == "recon.tasks"]
    assert {line["stage"] for line in tasks} == {"reduce", "transform"}
    assert {line["message"].partition(":")[0] for line in tasks} == {"reduce", "read", "transform", "write"}
    for line in own:
        assert {name: line[name] for name in FIELDS} == FIELDS, line
    assert {(line["task"], line["attempt"]) for line in tasks} <= {(task, 1) for task in range(4)}
    assert {line["attempt"] for line in own if line["logger"] == "recon.stages"} == {3}
