"""The benchmark beside peers, in small: what it compares must be equal, or its figures mean nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from folders import ROOT

PEERS = ("DuckDB ON CONFLICT",)


@pytest.mark.soak
def test_peers_come_to_the_same_sums_rows_and_contributions(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.peers", "--sizes", "0.004", "--batches", "1", "--events", "6000"]
    command += ["--peers", ",".join(PEERS), "--work", str(tmp_path / "work"), "--out", str(tmp_path / "peers.json")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    size = json.loads((tmp_path / "peers.json").read_text())["sizes"]["0.004"]
    assert len(size["contenders"]) == 1 + 2 * len(PEERS)
    for name, of in size["contenders"].items():
        assert len(of["batches"]) == 1
        if not name.startswith("recon"):
            assert (of["equal sums"], of["equal look-ups"], of["looked up"]) == (True, True, 1000), name
    assert size["contenders"]["recon / same"]["sums"][0] == str(4000 + (6000 * 659_571 // 2_000_000 // 2))
    assert all("sums after a replay" in size["contenders"][f"{peer} / same"] for peer in PEERS)
