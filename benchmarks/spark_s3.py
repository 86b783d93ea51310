"""Requests and bytes of Spark's pre-fetch and merge over S3, by the number of slices, of this checkout and of another beside it.

    python benchmarks/spark_s3.py [--keys 200000] [--windows 1] [--beside CHECKOUT] [--out FILE.json]

The store is a SeaweedFS on this machine; a proxy counts what the driver and Spark's Python workers ask of it. A first batch is committed by
DuckDB; the second, with half of its keys among the first's, is reduced by DuckDB. Then each checkout pre-fetches and merges it with 1, 4
and 16 slices, without a commit, so that all start from the same state. CPU seconds are those of the driver, Java and the workers.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from command_line import write_figures
from core import make_events
from counted_http import counting
from peers.workload import RULES
from seaweed import server

import recon
from recon.config import load_config
from recon.config.settings import Engine
from recon.engines.port import MergeTask
from recon.engines.spark.engine import Spark
from recon.engines.spark.tasks import parallelism
from recon.planning import due
from recon.stages.reduce import reduce_windows
from recon.state.timeline import Timeline
from recon.storage import layout
from recon.storage.open import open_for

HERE = Path(__file__).parents[1]
SLICES = (1, 4, 16)


def prepare(folder: Path, store: str, keys: int, windows: int) -> Path:
    """A store with one committed batch, and the events of a second one, landed and reduced."""
    config = folder / "recon.yaml"
    config.write_text(RULES.replace("./data", store) + f"s3: {{}}\nmemory_limit: 2GB\nthreads: 2\ncaps: {{windows: {windows}}}\n")
    r = recon.open(config)
    grid = r.config.grid
    first = [make_events(folder, "base", 3 * keys, keys, 0, "parquet")]
    r.land(first, window="2026-01-01T00:00Z", close=True)
    r.run()
    for number in range(windows):
        some = keys // windows
        file = make_events(folder, f"batch{number}", 3 * some, some, keys // 2 + number * some, "parquet")
        r.land([file], window=f"2026-01-01T{number + 1:02}:00Z", close=True)
    manifests = due.due(r.store(), r.config, Timeline(r.store()).head()).ready
    assert grid is not None
    reduce_windows(r.store(), r.config, manifests)
    return config


def cpu() -> float:
    """CPU seconds of this process and all below it."""
    total = 0.0
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        try:
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
        except psutil.NoSuchProcess:
            continue
    return total


def measure(config_file: Path, upstream: int) -> dict[str, Any]:
    """Both stages with each number of slices, in this process with a Spark of its own."""
    found: dict[str, Any] = {}
    with counting(upstream) as counted:
        os.environ["AWS_ENDPOINT_URL_S3"] = counted.endpoint
        base = load_config(config_file)
        for slices in SLICES:
            config = replace(base, engine=Engine(kind="spark", master="local[2]", slices=slices))
            store = open_for(config)
            parallelism(config)  # starts Spark
            state = Timeline(store).head()
            manifests = due.due(store, config, state).ready
            figures = reduce_windows(store, config, manifests)
            for stage in ("pre-fetch", "merge"):
                counted.take()
                before, start = cpu(), time.perf_counter()
                if stage == "pre-fetch":
                    fetched = Spark().prefetch(store, config, state, figures)
                else:
                    task = MergeTask(state, tuple(figures), fetched, layout.new_attempt())
                    written = Spark().merge(store, config, task, lambda share: None)
                traffic = counted.take()
                found[f"{stage}, {slices} slices"] = {
                    "read_mb": round(traffic.read / 1e6, 2),
                    "written_mb": round(traffic.written / 1e6, 2),
                    "requests": dict(traffic.requests),
                    "read_mb_by_folder": {name: round(size / 1e6, 2) for name, size in traffic.by_kind.items() if size > 5000},
                    "wall_s": round(time.perf_counter() - start, 2),
                    "cpu_s": round(cpu() - before, 2),
                }
            assert written.run is not None
            found[f"records, {slices} slices"] = written.run.entries
            for path in list(store.list(layout.PREFETCHED)):
                store.delete(path)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=200_000)
    parser.add_argument("--windows", type=int, default=1)
    parser.add_argument("--beside", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", nargs=2)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(measure(Path(given.child[0]), int(given.child[1]))))
        return
    result: dict[str, Any] = {"sizes": {"keys": given.keys, "windows": given.windows}}
    with server() as seaweed, tempfile.TemporaryDirectory() as name:
        os.environ.update(seaweed.environment)
        config = prepare(Path(name), f"s3://{seaweed.bucket()}/data", given.keys, given.windows)
        for checkout in ([given.beside] if given.beside else []) + [HERE]:
            environment = {**os.environ, "PYTHONPATH": str(checkout), "SPARK_LOCAL_DIRS": name}
            command = [sys.executable, __file__, "--child", str(config), str(seaweed.port)]
            done = subprocess.run(command, env=environment, cwd=checkout, stdout=subprocess.PIPE, text=True, check=True)
            result["before" if checkout != HERE else "after"] = json.loads(done.stdout.strip().splitlines()[-1])
    print(json.dumps(result, indent=1))
    write_figures(given.out, result)


if __name__ == "__main__":
    main()
