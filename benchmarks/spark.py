"""DuckDB and a standalone Spark cluster beside each other: two batches, the second into the state that the first left, in one run.

    python benchmarks/spark.py [--events 2000000] [--keys 659571] [--files 4] [--out FILE.json]

The cluster is a master and two workers of one core each on this machine; DuckDB has two threads. Each batch is a process of its own on
either engine, in turn; its wall seconds hold the start, of Spark also its session, which is told beside the stages. CPU seconds are those
of all processes, the cluster's daemons included, as sampled.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import duckdb
import psutil
import pyspark

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from cluster import Cluster, cluster
from command_line import options, write_figures
from core import make_events
from peers.workload import RULES

import recon
from recon.engines.spark.reduce import SMALL_BYTES
from recon.operations.packaging.spark_zip import package
from recon.reading.artifacts import live_records

WINDOWS = ("2026-01-01T00:00Z", "2026-01-01T01:00Z")
SAMPLE_S = 0.3
RUN_HERE = """\
import dataclasses, json, sys, recon
print(json.dumps(dataclasses.asdict(recon.open(sys.argv[1]).run(sys.argv[2], sys.argv[2]))))
"""


class Cpu:
    """CPU seconds of process trees, those that end meanwhile included up to their last sample; and their greatest memory together."""

    def __init__(self, roots: list[int]) -> None:
        self._roots, self._seen, self._over = roots, {}, threading.Event()
        self._first: dict[tuple[int, float], float] = {}
        self.peak_bytes = 0
        self._sample(self._first)
        self._thread = threading.Thread(target=self._follow)
        self._thread.start()

    def stop(self) -> float:
        self._over.set()
        self._thread.join()
        return sum(seconds - self._first.get(process, 0.0) for process, seconds in self._seen.items())

    def _follow(self) -> None:
        while not self._over.wait(SAMPLE_S):
            self._sample(self._seen)
        self._sample(self._seen)

    def _sample(self, into: dict[tuple[int, float], float]) -> None:
        memory = 0
        for root in self._roots:
            try:
                tree = [psutil.Process(root), *psutil.Process(root).children(recursive=True)]
            except psutil.NoSuchProcess:
                continue
            for process in tree:
                try:
                    times = process.cpu_times()
                    memory += process.memory_info().rss
                    into[process.pid, process.create_time()] = times.user + times.system
                except psutil.NoSuchProcess:
                    continue
        self.peak_bytes = max(self.peak_bytes, memory)


def prepare(folder: Path, events: int, keys: int, files: int) -> dict[str, list[Path]]:
    """Two batches of ``events`` events over ``keys`` keys, half of the second's among the first's, in ``files`` files each."""
    made: dict[str, list[Path]] = {}
    for name, window, first in (("base", WINDOWS[0], 0), ("batch", WINDOWS[1], keys // 2)):
        whole = make_events(folder, name, events, keys, first, "parquet")
        made[window] = [folder / f"{name}-{number}.parquet" for number in range(files)]
        for number, file in enumerate(made[window]):
            part = f"SELECT * FROM '{whole}' WHERE hash(event_id) % {files} = {number}"
            duckdb.execute(f"COPY ({part}) TO '{file}' (FORMAT parquet)")
        whole.unlink()
    return made


def run(engine: str, config: Path, window: str, running: Cluster, dist: Path) -> dict[str, Any]:
    """One batch on one engine."""
    start, roots = time.perf_counter(), [process.pid for process in running.processes.values()] if engine == "spark" else []
    if engine == "spark":
        entry = ["--py-files", dist / "recon-spark.zip", dist / "recon_spark.py"]
        arguments = [*entry, "run", "--config", config, "--from", window, "--to", window]
        child: subprocess.Popen[str] = running.submit(arguments, executor_memory="1g")
    else:
        command = [sys.executable, "-c", RUN_HERE, str(config), window]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    cpu = Cpu([*roots, child.pid])
    out, err = child.communicate()
    wall = time.perf_counter() - start
    seconds = cpu.stop()
    assert child.returncode == 0, err[-3000:]
    report = json.loads(out.strip().splitlines()[-1])
    found = {
        "wall_s": round(wall, 1),
        "cpu_s": round(seconds, 1),
        "peak_memory_gb": round(cpu.peak_bytes / 1e9, 2),
        "stages_s": {stage: round(taken, 2) for stage, taken in report["seconds"].items()},
        "written": report["written"],
        "part_bytes": report["bytes"],
    }
    print(f"{window} {engine:7} {json.dumps(found)}", flush=True)
    return found


def same_records(one: recon.Reconciliation, two: recon.Reconciliation) -> bool:
    """Whether both hold the same records, by number and sum of their hashes, whatever order their part-files have."""
    sums = []
    for r in (one, two):
        count, total = 0, 0
        for batch in live_records(r.store(), r.state()):
            counted = "SELECT count(*), sum(md5_number(record) & 18446744073709551615)::HUGEINT"
            ((rows, part),) = duckdb.from_arrow(batch).query("held", f"{counted} FROM held").fetchall()
            count, total = count + rows, total + int(part or 0)
        sums.append((count, total))
    return sums[0] == sums[1]


def main() -> None:
    given = options(__doc__, events=2_000_000, keys=659_571, files=4)
    result: dict[str, Any] = {
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "load_at_start": round(os.getloadavg()[0], 1)},
        "versions": {"duckdb": duckdb.__version__, "pyspark": pyspark.__version__, "recon": recon.__version__},
        "sizes": {"events": given.events, "keys": given.keys, "files": given.files, "state_after_first_batch": given.keys},
        "batches": {},
    }
    with tempfile.TemporaryDirectory() as name, cluster(Path(name), memory="2g") as running:
        folder = Path(name)
        batches, opened = prepare(folder, given.events, given.keys, given.files), {}
        package(folder / "dist")
        result["sizes"]["landed_bytes"] = [sum(file.stat().st_size for file in files) for files in batches.values()]
        result["sizes"]["one_task_a_window"] = max(result["sizes"]["landed_bytes"]) <= SMALL_BYTES
        for engine in ("duckdb", "spark"):
            (folder / engine).mkdir()
            (folder / engine / "recon.yaml").write_text(RULES + "threads: 2\n")
            opened[engine] = recon.open(folder / engine / "recon.yaml")
            for window, files in batches.items():
                opened[engine].land(files, window=window, close=True)
        for window in batches:
            for engine in opened:
                found = run(engine, folder / engine / "recon.yaml", window, running, folder / "dist")
                result["batches"].setdefault(window, {})[engine] = found
        result["equal"] = same_records(opened["duckdb"], opened["spark"])
        result["machine"]["load_at_end"] = round(os.getloadavg()[0], 1)
    print(f"equal records: {result['equal']}")
    write_figures(given.out, result)


if __name__ == "__main__":
    main()
