"""`recon run`, which is a run of Dagster, beside its stages called one after the other, over the same batch into the same state.

    python benchmarks/whole.py [--state 1000000] [--events 2000000] [--keys 659571] [--rounds 3] [--out FILE.json]

Each round copies the store and takes the batch in by either way, each in a process of its own; wall and CPU seconds of the process and
its children, start included.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from command_line import options, write_figures
from core import make_events
from peers.workload import RULES

import recon


def measured(command: list[str], folder: Path) -> dict[str, float]:
    before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "DAGSTER_HOME": ""}
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(done.stdout)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_s": round(time.perf_counter() - wall, 2), "cpu_s": round(cpu, 2)}


def main() -> None:
    given = options(__doc__, state=1_000_000, events=2_000_000, keys=659_571, rounds=3)
    with tempfile.TemporaryDirectory(prefix="recon-whole-") as name:
        work = Path(name)
        store = work / "store"
        store.mkdir()
        (store / "recon.yaml").write_text(RULES)
        r = recon.open(store / "recon.yaml")
        r.land([make_events(work, "base", given.state, given.state, 0, "parquet")], window="2026-01-01T00:00Z", close=True)
        r.run()
        batch = make_events(work, "batch", given.events, given.keys, given.state - given.keys // 2, "parquet")
        r.land([batch], window="2026-01-01T01:00Z", close=True)
        ways = {
            "stages, by plain calls": [sys.executable, "-c", "import recon; assert not recon.open('recon.yaml').run().bad"],
            "recon run": [sys.executable, "-m", "recon.cli", "run"],
        }
        rounds: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        for number in range(given.rounds):
            for way, command in list(ways.items())[:: 1 if number % 2 else -1]:
                place = work / "copy"
                shutil.copytree(store, place)
                rounds[way].append(measured(command, place))
                shutil.rmtree(place)
                print(f"  {way:24} {rounds[way][-1]}", flush=True)
    result: dict[str, Any] = {"sizes": {k: getattr(given, k) for k in ("state", "events", "keys")}, "rounds": rounds}
    for figure in ("wall_s", "cpu_s"):
        medians = {way: statistics.median(one[figure] for one in held) for way, held in rounds.items()}
        result[figure] = medians | {"ratio": round(medians["recon run"] / medians["stages, by plain calls"], 2)}
        print(f"  {figure}: {result[figure]}")
    write_figures(given.out, result)


if __name__ == "__main__":
    main()
