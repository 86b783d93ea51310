"""The benchmark of converters, in small: its files tie, and are read to their end in bounded memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from folders import ROOT

PEAK_MB_MAX = 600
"""Libraries alone take some 150."""


def test_files_of_the_benchmark_tie_and_are_read_in_bounded_memory(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/converters.py", "--megabytes", "12", "--kinds", "delimited,nacha,bai2"]
    subprocess.run([*command, "--out", str(tmp_path / "figures.json")], cwd=ROOT, check=True, capture_output=True)
    formats = json.loads((tmp_path / "figures.json").read_text())["formats"]
    assert {kind: (found["problems"], found["controls"] - found["tie"]) for kind, found in formats.items()} == dict.fromkeys(
        formats, (0, 0)
    )
    assert formats["nacha"]["controls"] > 50
    assert max(found["peak_mb"] for found in formats.values()) < PEAK_MB_MAX
