"""One file through a source, from the inbox to its window: CPU seconds, wall seconds and peak memory of each step.

    python benchmarks/sources.py [--rows 558000] [--out FILE.json]

Rows have 16 columns, and one cell in twenty is dirty: blanks around it, a decimal comma, a date in another form, or a value that no rule
can read.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from command_line import write_figures

import recon

RECON = """
name: records
store: ./store
key: id
windows: {start: 2026-11-01T00:00Z, every: 1d}
events: {types: {amount0: "decimal(18,2)", amount1: "decimal(18,2)"}}
measures: {total: {sum: amount0}, lines: {count: "*"}}
"""
NUMBER = "{type: 'decimal(18,2)', clean: [trim, parentheses, {decimal: ','}]}"
SOURCE = f"""
files: "records_{{day}}.csv"
window: {{part: day, format: "%Y%m%d"}}
format: {{kind: delimited, header: true}}
columns:
  id: {{clean: trim, required: true}}
  day: {{type: date, clean: [trim, {{date: '%d/%m/%Y'}}]}}
  amount0: {NUMBER}
  amount1: {NUMBER}
""" + "".join(f"  text{number}: {{clean: [trim, collapse]}}\n" for number in range(12))


def cell(kind: int, row: int, dirty: random.Random) -> str:
    """A cell of column ``kind`` (0 id, 1 day, 2 and 3 amounts, then texts)."""
    wrong = dirty.random() < 0.05
    if kind == 0:
        return f"  R{row:09} " if wrong else f"R{row:09}"
    if kind == 1:
        return "02/11/2026" if wrong else "2026-11-02"
    if kind < 4:
        return dirty.choice(['"12,50"', "(7.25)", "twelve"]) if wrong else f"{row % 9973}.{row % 100:02}"
    return "  a   text   with blanks " if wrong else f"text {row * kind % 99991:05} of it"


def write(path: Path, rows: int) -> None:
    dirty = random.Random(1)
    names = ["id", "day", "amount0", "amount1", *(f"text{number}" for number in range(12))]
    with path.open("w") as file:
        file.write(",".join(names) + "\n")
        for row in range(rows):
            file.write(",".join(cell(kind, row, dirty) for kind in range(16)) + "\n")


def measure(folder: Path) -> dict[str, Any]:
    """Delivers the folder's inbox; run in a process of its own, so that the peak is the delivery's."""
    r = recon.open(folder / "recon.yaml")
    r.store(create=True)
    began, cpu = time.perf_counter(), time.process_time()
    (file,) = r.deliver(folder / "inbox").files
    found = {"cpu_s": round(time.process_time() - cpu, 2), "wall_s": round(time.perf_counter() - began, 2)}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {
        **found,
        "peak_mb": peak,
        "rows": file.rows,
        "landed": file.kept,
        "rejected": file.rejected_rows,
        "changes": file.figures["changes"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=558_000)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.folder:
        print(json.dumps(measure(Path(given.folder))))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "sources").mkdir()
        (folder / "inbox").mkdir()
        (folder / "recon.yaml").write_text(RECON)
        (folder / "sources" / "records.yaml").write_text(SOURCE)
        path = folder / "inbox" / "records_20261102.csv"
        write(path, given.rows)
        size = os.path.getsize(path)
        command = [sys.executable, __file__, "--folder", name]
        figures = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        figures = {"bytes": size, **figures, "load": os.getloadavg()[0]}
        print(json.dumps(figures))
        write_figures(given.out, figures)


if __name__ == "__main__":
    main()
