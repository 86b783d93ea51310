"""CPU of reduce for one large window: DuckDB, and Spark by this checkout and another, in one run over S3.

    python benchmarks/spark_reduce.py [--events 2000000] [--keys 659571] [--files 4] [--one-key 0] [--memory 1GB] [--beside CHECKOUT]
                                      [--once] [--out FILE.json]

The store is a SeaweedFS on this machine; a proxy counts what the driver and the workers ask of it. With ``--beside`` the store is a folder,
since earlier code may need Hadoop for S3. The window is reduced twice in each session, and the second time counts, when Java is warm.
``--one-key``: events of one key on top. ``--memory``: of DuckDB in one task of Spark. ``--once``: the first reduce counts.
``worker_peak_gb`` is the largest resident memory of one of Spark's Python workers. CPU seconds are those of driver, Java and
workers; wall seconds depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import duckdb
import psutil
from command_line import write_figures
from core import make_events
from counted_http import counting
from peers.workload import RULES
from seaweed import server
from spark_s3 import cpu

import recon
from recon.config import Config, load_config
from recon.config.settings import Engine
from recon.engines.select import engine_of
from recon.engines.spark import reduce, reduce_large
from recon.planning import due
from recon.state.timeline import Timeline
from recon.storage.open import open_for

HERE = Path(__file__).parents[1]
WINDOW = "2026-01-01T00:00Z"


def prepare(folder: Path, store: str, given: argparse.Namespace) -> Path:
    """A store with one landed window."""
    config = folder / "recon.yaml"
    config.write_text(RULES.replace("./data", store) + "memory_limit: 2GB\nthreads: 2\n")
    whole = make_events(folder, "batch", given.events, given.keys, 0, "parquet")
    files = [folder / f"part-{number}.parquet" for number in range(given.files)]
    skewed = (
        "UNION ALL BY NAME SELECT 'skew-' || i AS event_id, 'ORD-BIG' AS order_id, 'INVOICE' AS event_type, 1::DECIMAL(18,2) AS amount, "
        f"'EUR' AS currency, '2026-01-01T00:00:00Z' AS booked_at FROM range({given.one_key}) t(i)"
    )
    for number, file in enumerate(files):
        rows = f"FROM (SELECT * FROM '{whole}' {skewed}) WHERE hash(event_id) % {given.files} = {number}"
        duckdb.execute(f"COPY ({rows}) TO '{file}' (FORMAT parquet)")
    recon.open(config).land(files, window=WINDOW, close=True)
    return config


class _Peak:
    """The largest resident memory of this process's Python workers, and of their files, while a block runs."""

    def __init__(self, scratch: Path) -> None:
        self.worker, self.scratch_bytes = 0, 0
        self._scratch, self._done = scratch, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _Peak:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.2):
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    if "python" in process.name():
                        self.worker = max(self.worker, process.memory_info().rss)
            with suppress(OSError):
                size = sum(file.stat().st_blocks * 512 for file in self._scratch.rglob("*") if file.is_file())
                self.scratch_bytes = max(self.scratch_bytes, size)


@contextmanager
def timed_jobs(seconds: dict[str, float]) -> Iterator[None]:
    """Notes the wall seconds of each of Spark's jobs in the block; a name that occurs again replaces the earlier one."""
    carried_out = reduce_large.attempted

    def attempted(config: Config, what: str, *given: Any) -> list[Any]:
        start = time.perf_counter()
        try:
            return carried_out(config, what, *given)
        finally:
            seconds[what] = round(time.perf_counter() - start, 1)

    with patch.object(reduce_large, "attempted", attempted):
        yield


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """The second reduce of the window in this process, or the first with ``--once``."""
    config_file, upstream, kind = Path(given.child[0]), int(given.child[1]), given.child[2]
    with counting(upstream) as counted:
        os.environ["AWS_ENDPOINT_URL_S3"] = counted.endpoint
        config = load_config(config_file)
        if kind == "spark":
            config = replace(config, engine=Engine(kind="spark", master="local[2]", memory_limit=given.memory))
        store = open_for(config)
        manifests = due.due(store, config, Timeline(store).head()).ready
        jobs: dict[str, float] = {}
        with patch.object(reduce, "SMALL_BYTES", 0), _Peak(config_file.parent) as peak, timed_jobs(jobs):
            for _ in range(1 if given.once else 2):
                counted.take()
                before, start = cpu(), time.perf_counter()
                (figures,) = engine_of(config).reduce(store, config, manifests)
                spent, wall, traffic = cpu() - before, time.perf_counter() - start, counted.take()
    return {
        "cpu_s": round(spent, 1),
        "cpu_s_per_million": round(spent / figures.arrived.rows * 1e6, 2),
        "wall_s": round(wall, 1),
        "read_mb": round(traffic.read / 1e6, 1),
        "written_mb": round(traffic.written / 1e6, 1),
        "requests": dict(traffic.requests),
        "keys": figures.keys,
        "events": figures.accepted.rows,
        "wall_s_of_jobs": jobs,
        "worker_peak_gb": round(peak.worker / 1e9, 2),
        "scratch_peak_gb": round(peak.scratch_bytes / 1e9, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"events": 2_000_000, "keys": 659_571, "files": 4, "one-key": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--memory", default="1GB")
    parser.add_argument("--once", action="store_true")
    parser.add_argument("--beside", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", nargs=3)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(measure(given)))
        return
    result: dict[str, Any] = {"sizes": {name: getattr(given, name) for name in ("events", "keys", "files", "one_key", "memory", "once")}}
    ways = {"duckdb": ("duckdb", HERE), **({"spark, before": ("spark", given.beside)} if given.beside else {}), "spark": ("spark", HERE)}
    with server() as seaweed, tempfile.TemporaryDirectory() as name:
        os.environ.update(seaweed.environment)
        config = prepare(Path(name), "./data" if given.beside else f"s3://{seaweed.bucket()}/data", given)
        for way, (kind, checkout) in ways.items():
            environment = {**os.environ, "PYTHONPATH": str(checkout), "SPARK_LOCAL_DIRS": name}
            command = [
                sys.executable,
                __file__,
                "--child",
                str(config),
                str(seaweed.port),
                kind,
                "--memory",
                given.memory,
                *(["--once"] if given.once else []),
            ]
            command += ["--once"] if given.once else []
            done = subprocess.run(command, env=environment, cwd=checkout, stdout=subprocess.PIPE, text=True, check=True)
            result[way] = json.loads(done.stdout.strip().splitlines()[-1])
            print(way, result[way], flush=True)
    write_figures(given.out, result)


if __name__ == "__main__":
    main()
