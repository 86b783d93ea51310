"""A pivot of very many columns: 20 rows of decimals, a sum for each of 2,000 to 15,990 values, to CSV, Parquet and a workbook.

    python benchmarks/wide_pivot.py [--memory 2GB] [--out FILE.json]

Each request is a process of its own; CPU seconds, wall seconds and peak memory are those of the process. One that fails has its message.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from command_line import write_figures
from transformations import Watched

REQUEST = """version: v1
as_of: 2026-11-30
memory_limit: {memory}
inputs: {{t: {{path: t.csv, types: {{g: text, k: text, v: "decimal(18,2)"}}}}}}
operations:
- pivot: {{table: t, rows: g, columns: k, values: {{v: {{sum: v}}}}, as: wide}}
outputs: [{{table: wide, path: out.{suffix}}}]
"""
CASES = ((2_000, "csv"), (4_000, "csv"), (8_000, "csv"), (15_990, "csv"), (15_990, "parquet"), (15_990, "xlsx"))
ROWS = 20


def pivoted(folder: Path, columns: int, suffix: str, memory: str) -> dict[str, Any]:
    """What one request took."""
    with (folder / "t.csv").open("w") as file:
        file.write("g,k,v\n")
        file.writelines(f"r{n % ROWS},c{n:05},{n}.25\n" for n in range(columns))
    (folder / "request.yaml").write_text(REQUEST.format(memory=memory, suffix=suffix))
    took = Watched([sys.executable, "-m", "recon.cli", "transform", str(folder / "request.yaml")], folder)
    return {"columns": columns, "to": suffix, **took.figures(), "failed": took.said.strip().splitlines()[-1] if took.status else None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", default="2GB", help="memory_limit of the request")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found, load = [], os.getloadavg()
    for columns, suffix in CASES:
        with tempfile.TemporaryDirectory(prefix="wide-pivot-") as folder:
            found.append(pivoted(Path(folder), columns, suffix, given.memory))
        print(found[-1], flush=True)
    write_figures(given.out, {"load_before": load, "rows": ROWS, "memory_limit": given.memory, "runs": found})


if __name__ == "__main__":
    main()
