"""Arrivals: how long a batch takes from landed to visible while batches keep coming, under a real Dagster daemon as `make ui` starts it.

    python benchmarks/arrivals.py [--events 2000000] [--keys 659571] [--every 300] [--batches 4] [--state 1000000]
                                  [--format parquet|jsonl] [--out FILE.json]

A batch is landed and closed every ``--every`` seconds by the clock, however far the daemon has come; all settings are the defaults. Landed
to visible is what the metadata of each merge run says: from the manifest that closed the window to the commit that holds it. ``--state``
artifacts are there before the first batch; half of each batch's keys are among those known then.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
from core import make_events
from peers.workload import RULES

import recon
from jobs.asset_jobs import SENSED
from recon.model.windows import name_of, parse_instant
from recon_assets.assets import asset_key
from resources.dagster_instance import open_instance, prepared_home

ROOT = Path(__file__).resolve().parents[1]
START = parse_instant("2026-01-01T00:00Z", "start")
PATIENCE = 20
"""Intervals that are waited for the last batch."""


@contextmanager
def daemon(config: Path) -> Iterator[None]:
    """``dagster-daemon`` with its code server and its runs, by the default settings."""
    env = {**os.environ, "DAGSTER_HOME": str(prepared_home(config)), "RECON_CONFIG": str(config), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "dagster._daemon", "run", "-w", str(ROOT / "workspace.yaml")]
    with (config.parent / "daemon.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=config.parent, env=env, stdout=log, stderr=log, start_new_session=True)
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def every(seconds: int) -> str:
    """The grid: its windows are as long as a batch takes to come, rounded up to minutes that divide an hour."""
    minutes = next(m for m in (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60) if 60 * m >= min(seconds, 3600))
    return "1h" if minutes == 60 else f"{minutes}m"


def land_by_the_clock(r: recon.Reconciliation, batches: list[Path], first: datetime, interval_s: int) -> list[float]:
    """Lands each batch when its time has come; the seconds that each landing took."""
    begun, took = time.monotonic(), []
    for number, batch in enumerate(batches):
        time.sleep(max(0.0, begun + number * interval_s - time.monotonic()))
        start = time.monotonic()
        r.land([batch], name_of(first + number * r.config.grid.every), close=True)
        took.append(round(time.monotonic() - start, 2))
        print(f"    {time.monotonic() - begun:7.1f} s: batch {number + 1} has landed; {len(r.state().windows)} windows visible", flush=True)
    return took


def measured(instance: dg.DagsterInstance, names: list[str]) -> tuple[dict[str, float], dict[str, int]]:
    """Window → seconds from landed to visible, by the metadata of the merges; and runs by stage."""
    seconds: dict[str, float] = {}
    for run in instance.get_runs(dg.RunsFilter(job_name=f"orders_{SENSED['merge']}")):
        for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION):
            made = entry.asset_materialization
            told = made and made.asset_key == asset_key("orders", "stateful_artifacts") and made.metadata.get("landed_to_visible_seconds")
            if made and told and made.partition in names:
                seconds[made.partition] = float(str(told.value))
    runs = {stage: instance.get_runs_count(dg.RunsFilter(job_name=f"orders_{job}")) for stage, job in SENSED.items()}
    return seconds, runs


def percentile(values: list[float], share: float) -> float:
    """The smallest value that ``share`` of all do not exceed: with few batches p95 is the slowest."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--keys", type=int, default=659_571)
    parser.add_argument("--every", type=int, default=300, help="seconds between two batches")
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--state", type=int, default=1_000_000, help="artifacts before the first batch; 0 for none")
    parser.add_argument("--format", choices=["parquet", "jsonl"], default="parquet")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.batches < 3:
        parser.error("--batches: at least 3, else nothing is shown of batches that keep coming")
    keys = min(given.keys, given.events)
    with tempfile.TemporaryDirectory(prefix="recon-arrivals-") as folder:
        work = Path(folder)
        (work / "recon.yaml").write_text(RULES.replace("every: 1h", f"every: {every(given.every)}"))
        r = recon.open(work / "recon.yaml")
        r.store(create=True)
        first = START
        if given.state:
            r.land([make_events(work, "base", given.state, given.state, 0, "parquet")], name_of(first), close=True)
            r.run()
            first += r.config.grid.every
        batches = [
            make_events(work, f"batch{number}", given.events, keys, max(0, given.state - keys // 2) + number * keys // 2, given.format)
            for number in range(given.batches)
        ]
        names = [name_of(first + number * r.config.grid.every) for number in range(given.batches)]
        print(
            f"{given.batches} batches of {given.events:,} events, {keys:,} keys, one every {given.every} s, onto {given.state:,} artifacts"
        )
        with daemon(work / "recon.yaml"):
            took = land_by_the_clock(r, batches, first, given.every)
            end = time.monotonic() + PATIENCE * max(given.every, 30)
            while not set(names) <= r.state().windows.keys() or r.certificate(names[-1]) is None:
                if time.monotonic() > end:
                    sys.exit((work / "daemon.log").read_text()[-4000:] + f"\nonly {len(r.state().windows)} windows are visible; see above")
                time.sleep(1)
        with open_instance(work / "recon.yaml") as instance:
            seconds, runs = measured(instance, names)
        assert seconds.keys() == set(names), f"no time is told of {set(names) - seconds.keys()}"
        found = r.verify()
        assert found.ok, found
    report(given, keys, [seconds[name] for name in names], took, runs)


def report(given: argparse.Namespace, keys: int, seconds: list[float], landing_s: list[float], runs: dict[str, int]) -> None:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    result: dict[str, Any] = {
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
        "versions": {"dagster": dg.__version__, "duckdb": duckdb.__version__, "recon": recon.__version__},
        "sizes": {"events": given.events, "keys": keys, "state": given.state, "format": given.format, "batches": given.batches},
        "every_s": given.every,
        "landed_to_visible_s": {
            "p50": round(statistics.median(seconds), 1),
            "p95": round(percentile(seconds, 0.95), 1),
            "max": round(max(seconds), 1),
            "each": [round(one, 1) for one in seconds],
        },
        "landing_s": landing_s,
        "runs": runs,
        "daemon_and_runs_cpu_s": round(children.ru_utime + children.ru_stime, 1),
        "load_average_at_the_end": [round(one, 2) for one in os.getloadavg()],
    }
    shown = result["landed_to_visible_s"]
    print(f"landed to visible: p50 {shown['p50']} s, p95 {shown['p95']} s, slowest {shown['max']} s; each: {shown['each']}")
    print(f"runs: {runs}; CPU of the daemon and its runs {result['daemon_and_runs_cpu_s']} s; load {result['load_average_at_the_end']}")
    if given.out:
        given.out.write_text(json.dumps(result, indent=1) + "\n")
        print(f"written to {given.out}")


if __name__ == "__main__":
    main()
