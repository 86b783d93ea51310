"""schemathesis finds nothing: all its checks, all its phases, with links from answers to requests, against the running server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
import web_site as w
from folders import ROOT
from service_site import sums

import recon

WINDOW = "2026-11-01T00:00Z"
CONFIG = ROOT / "tests" / "web" / "schemathesis.toml"


def run(url: str, token: str, values: dict[str, object], folder: Path, examples: int) -> subprocess.CompletedProcess[str]:
    command = [
        "-m",
        "schemathesis.cli",
        "--config-file",
        CONFIG,
        "run",
        f"{url}/v1/openapi.json",
        "--checks",
        "all",
        "--max-examples",
        examples,
    ]
    command += ["--header", f"Authorization: Bearer {token}", "--seed", 20261130, "--continue-on-failure", "--workers", 1]
    hooks = {"SCHEMATHESIS_HOOKS": "real_values", "REAL_VALUES": json.dumps(values), "PYTHONPATH": str(ROOT / "tests" / "support")}
    return subprocess.run(
        [sys.executable, *map(str, command)], cwd=folder, env={**os.environ, **hooks}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("examples", [12, pytest.param(200, marks=pytest.mark.soak)])
def test_schemathesis_finds_nothing(tmp_path: Path, examples: int) -> None:
    (tmp_path / "site").mkdir()
    with w.served_here(tmp_path / "site") as served, served.client("finance", "admin") as client:
        reconciliation = recon.open(served.folder / "recon.yaml")
        (served.folder / "orders.csv").write_text("order_id\nA1\n")
        reconciliation.land([served.folder / "orders.csv"], window=WINDOW, close=True)
        reconciliation.run()
        name = w.submitted(client, served.folder).json()["name"]
        w.finished(served, name)
        dead = w.submitted(client, served.folder).json()["name"]
        w.changed(served, dead, state="dead")
        result = f"/v1/requests/{name}/results/sums.csv"
        values = {
            "POST /v1/requests": {"body": json.loads(sums(f"{served.folder}/in/t.csv"))},
            "POST /v1/requests/{name}/redrive": {"path": {"name": dead}},
            "GET /v1/requests/{name}/results/{output}": {"path": {"name": name, "output": "sums.csv"}},
            "GET /v1/results/{signed}": {"path": {"signed": client.get(result).headers["location"].rpartition("/")[2]}},
            "GET /v1/artifacts/{key}": {"path": {"key": "A1"}},
            "GET /v1/certificates/{window}": {"path": {"window": WINDOW}},
            "GET /v1/problems/{code}": {"path": {"code": "too-large"}},
        }
        found = run(served.url, served.token("finance", "admin"), values, tmp_path, examples)
        assert found.returncode == 0, found.stdout[-20_000:] + found.stderr[-2_000:]
        operations = client.get("/v1/openapi.json").json()["paths"]
        lines = served.audit()
    answered = defaultdict(set)
    for line in lines:
        if "route" in line:
            answered[line["method"], line["route"]].add(line["status"] // 100)
    for path, methods in operations.items():
        for method in methods:
            if not path.startswith(("/health", "/metrics")):
                assert {2, 3} & answered[method.upper(), path], f"{method} {path} was never answered well"
