"""What Spark's driver sends and gets for one merge into a state of many windows, of this checkout and of another beside it.

    python benchmarks/spark_driver.py [--windows 100000] [--ranged 48] [--slices 40] [--beside CHECKOUT] [--out FILE.json]

The store is a folder with ``--ranged`` small windows; the state names ``--windows`` committed ones, which no task reads. Bytes are those of
the pickled items, broadcasts and results of all jobs of a pre-fetch and a merge; CPU seconds are those of the driver's Python process.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from command_line import write_figures
from peers.workload import RULES
from pyspark import RDD, SparkContext

import recon
from recon.config.settings import Engine
from recon.engines.port import MergeTask
from recon.engines.spark.engine import Spark
from recon.engines.spark.tasks import parallelism
from recon.planning import due
from recon.stages.reduce import reduce_windows
from recon.state.timeline import CommittedWindow
from recon.storage import layout

HERE = Path(__file__).parents[1]
ROW = "{key},e{window}-{key},INVOICE,1.00,EUR,2026-01-01T00:00:00Z\n"


def count(found: dict[str, int]) -> None:
    """Adds the bytes of every job from now on to ``found``. They are pickled once more for that, outside of the measured seconds."""
    parallelize, broadcast, collect = SparkContext.parallelize, SparkContext.broadcast, RDD.collect

    def pickled(name: str, values: Any) -> None:
        start = time.process_time()
        found[name] += sum(len(pickle.dumps(value)) for value in values)
        found["counting_us"] += int((time.process_time() - start) * 1e6)

    def counted_parallelize(self: Any, items: Any, *more: Any) -> Any:
        pickled("sent", items)
        return parallelize(self, items, *more)

    def counted_broadcast(self: Any, value: Any) -> Any:
        pickled("sent", [value])
        return broadcast(self, value)

    def counted_collect(self: Any) -> Any:
        rows = collect(self)
        pickled("returned", rows)
        return rows

    SparkContext.parallelize, SparkContext.broadcast, RDD.collect = counted_parallelize, counted_broadcast, counted_collect


def measure(windows: int, ranged: int, slices: int) -> dict[str, Any]:
    """One pre-fetch and one merge in this process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "recon.yaml").write_text(RULES.replace("every: 1h", "every: 1m"))
        r = recon.open(folder / "recon.yaml")
        for window in range(ranged):
            rows = "".join(ROW.format(key=key, window=window) for key in range(100))
            (folder / f"{window}.csv").write_text(f"order_id,event_id,event_type,amount,currency,booked_at\n{rows}")
            r.land([folder / f"{window}.csv"], window=f"2026-01-01T00:{window:02}Z", close=True)
        figures = reduce_windows(r.store(), r.config, due.due(r.store(), r.config, r.state()).ready)
        committed = {
            f"w{number:06}": CommittedWindow(1, number, True, layout.stateless(r.config.grid.start, 1, "0" * 16, os.urandom(8).hex()))
            for number in range(windows)
        }
        state = replace(r.state(), windows=committed)
        config = replace(r.config, engine=Engine(kind="spark", master="local[2]", slices=slices))
        parallelism(config)  # starts Spark
        found = {"sent": 0, "returned": 0, "counting_us": 0}
        count(found)
        cpu, start = time.process_time(), time.perf_counter()
        fetched = Spark().prefetch(r.store(), config, state, figures)
        Spark().merge(r.store(), config, MergeTask(state, tuple(figures), fetched, layout.new_attempt()), lambda share: None)
        return {
            "sent_mb": round(found["sent"] / 1e6, 2),
            "returned_mb": round(found["returned"] / 1e6, 2),
            "driver_cpu_s": round(time.process_time() - cpu - found["counting_us"] / 1e6, 2),
            "wall_s": round(time.perf_counter() - start - found["counting_us"] / 1e6, 1),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"windows": 100_000, "ranged": 48, "slices": 40}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--beside", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", action="store_true")
    given = parser.parse_args()
    if given.child:
        print(json.dumps(measure(given.windows, given.ranged, given.slices)))
        return
    sizes = {name: getattr(given, name) for name in ("windows", "ranged", "slices")}
    result: dict[str, Any] = {"sizes": sizes}
    for checkout in ([given.beside] if given.beside else []) + [HERE]:
        options = [word for name, value in sizes.items() for word in (f"--{name}", str(value))]
        command = [sys.executable, __file__, "--child", *options]
        done = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": str(checkout)}, cwd=checkout, stdout=subprocess.PIPE, text=True, check=True
        )
        result["after" if checkout == HERE else "before"] = json.loads(done.stdout.strip().splitlines()[-1])
    print(json.dumps(result, indent=1))
    write_figures(given.out, result)


if __name__ == "__main__":
    main()
