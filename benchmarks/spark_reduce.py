"""CPU of reduce for one large window: DuckDB, and Spark by this checkout and another, in one run over S3.

    python benchmarks/spark_reduce.py [--events 2000000] [--keys 659571] [--files 4] [--skew 0] [--beside CHECKOUT] [--out FILE.json]

The store is a SeaweedFS on this machine; a proxy counts what the driver and the workers ask of it. With ``--beside`` the store is a folder,
since earlier code needs Hadoop for S3. The window is reduced twice in each session, and the second time counts, when Java is warm.
``--skew``: events of one key on top. CPU seconds are those of driver, Java and workers; wall seconds depend on what else the machine does.
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
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import duckdb
from command_line import write_figures
from core import make_events
from counted_http import counting
from peers.workload import RULES
from seaweed import server
from spark_s3 import cpu

import recon
from recon.config import load_config
from recon.config.settings import Engine
from recon.engines.select import engine_of
from recon.engines.spark import reduce
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
        f"'EUR' AS currency, '2026-01-01T00:00:00Z' AS booked_at FROM range({given.skew}) t(i)"
    )
    for number, file in enumerate(files):
        rows = f"FROM (SELECT * FROM '{whole}' {skewed}) WHERE hash(event_id) % {given.files} = {number}"
        duckdb.execute(f"COPY ({rows}) TO '{file}' (FORMAT parquet)")
    recon.open(config).land(files, window=WINDOW, close=True)
    return config


def measure(config_file: Path, upstream: int, kind: str) -> dict[str, Any]:
    """The second reduce of the window in this process."""
    with counting(upstream) as counted:
        os.environ["AWS_ENDPOINT_URL_S3"] = counted.endpoint
        config = load_config(config_file)
        if kind == "spark":
            config = replace(config, engine=Engine(kind="spark", master="local[2]"))
        store = open_for(config)
        manifests = due.due(store, config, Timeline(store).head()).ready
        with patch.object(reduce, "SMALL_BYTES", 0):
            for _ in range(2):
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
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"events": 2_000_000, "keys": 659_571, "files": 4, "skew": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--beside", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", nargs=3)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(measure(Path(given.child[0]), int(given.child[1]), given.child[2])))
        return
    result: dict[str, Any] = {"sizes": {name: getattr(given, name) for name in ("events", "keys", "files", "skew")}}
    ways = {"duckdb": ("duckdb", HERE), **({"spark, before": ("spark", given.beside)} if given.beside else {}), "spark": ("spark", HERE)}
    with server() as seaweed, tempfile.TemporaryDirectory() as name:
        os.environ.update(seaweed.environment)
        config = prepare(Path(name), "./data" if given.beside else f"s3://{seaweed.bucket()}/data", given)
        for way, (kind, checkout) in ways.items():
            environment = {**os.environ, "PYTHONPATH": str(checkout), "SPARK_LOCAL_DIRS": name}
            command = [sys.executable, __file__, "--child", str(config), str(seaweed.port), kind]
            done = subprocess.run(command, env=environment, cwd=checkout, stdout=subprocess.PIPE, text=True, check=True)
            result[way] = json.loads(done.stdout.strip().splitlines()[-1])
            print(way, result[way], flush=True)
    write_figures(given.out, result)


if __name__ == "__main__":
    main()
