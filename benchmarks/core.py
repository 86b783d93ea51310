"""The core's speed: one batch into an empty state and again into a state of a million, per stage, and look-ups.

    python benchmarks/core.py [--format parquet|jsonl] [--events 2000000] [--keys 659571] [--state 1000000] [--out FILE.json]

Prints wall and CPU seconds of the whole process per stage, peak memory, bytes written, and the CPU seconds of the prototype that was
measured before the project began (same sizes, another machine of the same kind; its merge kept totals only, so that what contributions
cost was measured beside it and is added here).
"""

from __future__ import annotations

import platform
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow
from command_line import FORMATS, options, write_figures
from peers.workload import RULES

import recon
from recon.engines.select import engine_of
from recon.planning import due
from recon.stages.certify import certify_windows
from recon.stages.merge import merge_windows
from recon.stages.reduce import reduce_windows
from recon.state.compaction import compact_in_run
from recon.state.tiers import merge_tiers
from recon.state.timeline import Timeline

PROTOTYPE_CPU_S = {"reduce parquet": 6.1, "reduce jsonl": 6.9, "into a state of 1 M": 4.4, "contributions": 1.9 + 2.2}
"""Measured before the first line of code; reduce wrote no sorted events. The stateful part: 4.4 with totals only, JSON written
included; parsing contributions 1.9 and replacing them 2.2 beside it."""


@contextmanager
def timed(figures: dict[str, Any], stage: str) -> Iterator[None]:
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    figures[stage] = {"wall_s": round(time.perf_counter() - wall, 2), "cpu_s": round(time.process_time() - cpu, 2)}
    print(f"    {stage:10} {figures[stage]['wall_s']:7.2f} s wall {figures[stage]['cpu_s']:7.2f} s CPU", flush=True)


def make_events(folder: Path, name: str, events: int, keys: int, first_key: int, file_format: str) -> Path:
    """``events`` events over exactly ``keys`` keys numbered from ``first_key``, deterministic."""
    file = folder / f"{name}.{file_format}"
    form = "FORMAT parquet" if file_format == "parquet" else "FORMAT json"
    amount = "amount" if file_format == "parquet" else "CAST(amount AS VARCHAR)"
    duckdb.execute(f"""
        COPY (
            SELECT '{name}-' || lpad(CAST(i AS VARCHAR), 10, '0') AS event_id,
                   'ORD-' || lpad(CAST({first_key} + CASE WHEN i < {keys} THEN i ELSE hash(i) % {keys} END AS VARCHAR), 9, '0') AS order_id,
                   ['INVOICE', 'INVOICE', 'PAYMENT', 'PAYMENT', 'REFUND'][1 + CAST(hash(i + 1) % 5 AS INTEGER)] AS event_type,
                   {amount} AS amount, ['EUR', 'USD', 'GBP'][1 + CAST(hash(i + 3) % 3 AS INTEGER)] AS currency,
                   strftime(TIMESTAMP '2026-01-01' + to_seconds(CAST(hash(i + 4) % 3600 AS INTEGER)), '%Y-%m-%dT%H:%M:%SZ') AS booked_at
            FROM (SELECT i, CAST(hash(i + 2) % 1000000 AS DECIMAL(18, 2)) / 100 AS raw,
                         CAST((hash(i + 2) % 1000000) / 100 AS DECIMAL(18, 2)) AS amount FROM range({events}) t(i) ORDER BY hash(i + 5))
        ) TO '{file}' ({form})""")
    return file


def run_batch(r: recon.Reconciliation, file: Path, window: str) -> dict[str, Any]:
    """Lands one file and takes its window through every stage."""
    figures: dict[str, Any] = {}
    with timed(figures, "land"):
        r.land([file], window=window, close=True)
    store, timeline = r.store(), Timeline(r.store())
    manifests = due.due(store, r.config, timeline.head()).ready
    with timed(figures, "reduce"):
        reduced = reduce_windows(store, r.config, manifests)
    with timed(figures, "pre-fetch"):
        fetched = engine_of(r.config).prefetch(store, r.config, timeline.head(), reduced)
    with timed(figures, "merge"):
        merged = merge_windows(store, r.config, timeline, reduced, fetched)
    with timed(figures, "index"):
        compact_in_run(store, r.config, timeline)
        merge_tiers(store, r.config, timeline)
    with timed(figures, "certify"):
        certify_windows(store, r.config, timeline.head(), merged.windows)
    figures |= {"keys": reduced[0].keys, "found": fetched.found, "written": merged.written, "part_bytes": merged.bytes}
    figures["peak_memory_gb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)
    return figures


def look_up(r: recon.Reconciliation, keys: int, count: int = 2000) -> dict[str, float]:
    """``show`` of random keys in this process, warm: milliseconds."""
    draw = random.Random(7)
    r.show("ORD-000000001")
    times = []
    for _ in range(count):
        key = f"ORD-{draw.randrange(keys):09d}"
        start = time.perf_counter()
        r.show(key)
        times.append(1000 * (time.perf_counter() - start))
    times.sort()
    return {"p50_ms": round(statistics.median(times), 3), "p99_ms": round(times[int(count * 0.99)], 3)}


def main() -> None:
    given = options(__doc__, format=FORMATS, events=2_000_000, keys=659_571, state=1_000_000)
    result: dict[str, Any] = {
        "machine": {"processor": platform.machine(), "python": platform.python_version()},
        "versions": {"duckdb": duckdb.__version__, "pyarrow": pyarrow.__version__, "recon": recon.__version__},
        "sizes": {"events": given.events, "keys": given.keys, "state": given.state, "format": given.format},
        "prototype_cpu_s": PROTOTYPE_CPU_S,
    }
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        batch = make_events(work, "batch", given.events, given.keys, given.state - given.keys // 2, given.format)
        base = make_events(work, "base", given.state, given.state, 0, "parquet")
        for name, files in (("empty state", [batch]), ("state", [base, batch])):
            place = work / name.replace(" ", "-")
            place.mkdir()
            (place / "recon.yaml").write_text(RULES)
            r = recon.open(place / "recon.yaml")
            for number, file in enumerate(files):
                into = name if number or len(files) == 1 else "nothing"
                title = f"{file.stem} of {given.events if file is batch else given.state:,} events into {into}"
                print(f"  {title}", flush=True)
                result[title] = run_batch(r, file, f"2026-01-01T0{number}:00Z")
            result[f"look-ups, {name}"] = look_up(r, given.state if len(files) > 1 else 1) if len(files) > 1 else {}
        print(f"  look-ups in the state: {result['look-ups, state']}")
    print(f"  prototype, CPU s: {PROTOTYPE_CPU_S}")
    print(f"  peak memory: {round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)} GB")
    write_figures(given.out, result)


if __name__ == "__main__":
    main()
