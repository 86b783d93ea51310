"""Requests over HTTP while the server, workers and their processes are killed: the same code as the benchmark, in small."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from folders import ROOT

SIZES = {273: 70.0, 100_000: 25.0, 3_000_000: 5.0}


@pytest.mark.process
def test_requests_end_once_and_right_whatever_is_killed(tmp_path: Path) -> None:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import service

    found = service.soak(tmp_path, 60, over_s=8.0, kill_every_s=2.0, seed=7, sizes=SIZES, small_up_to="1MB")
    assert found["wrong"] == []
    assert found["left"] == []
    assert sum(found["states"].values()) == 60
    assert set(found["states"]) <= {"done", "failed", "cancelled", "dead"}
