"""What a load costs on Spark, from what was measured here and a user's own numbers: cores, minutes, requests, dollars.

    python benchmarks/scale.py [--events 100e6] [--keys 33e6] [--found 0.5] [--artifacts 1e9] [--record 200] [--merges 1] [--cores 128]

Per hour. Every formula stands in ``figures``, with its units; docs/scale.md explains them. Measured costs come from
docs/benchmarks/spark-s3-sizes.json and spark-2m.json; prices, and how fast a core reads from S3, are arguments.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from recon.storage.s3.store import COST

BENCHMARKS = Path(__file__).parents[1] / "docs" / "benchmarks"
GAP_BYTES, REQUEST_BYTES, ENTRY_BYTES = COST.gap_max_bytes, COST.request_max_bytes, 36
"""How ranged reads are joined in S3, and what an entry of a run takes."""
BLOCK_ENTRIES, FENCE_BYTES = 1_024, 12
"""Entries of a run that are checked together, and the bytes of each such block that every slice reads when it opens the run."""
ARTIFACT_BYTES, FOOTER_BYTES = 61, 1_100
"""Of a key in a reduced file, and of one of its row groups in the footer: docs/benchmarks/spark-s3.json."""
JOINED_BYTES, WINDOW_BYTES = 94, 19
"""Read to join the runs of slices, for each entry (spark-s3.json); sent for each window of the state, by each of two jobs
(spark-driver.json)."""
SLICE_ROWS, SLICE_EVENTS = 400_000, 1_000_000
"""Of recon.engines.duckdb.slices and recon.engines.spark.reduce_large."""


def measured(way: str) -> tuple[float, float]:
    """CPU seconds per million events, and those of a start. ``way``: ``cut`` (large windows: reduce, pre-fetch and merge over S3, the slope
    of three sizes) or ``whole`` (windows that one task takes: all stages, 2 M events into a state)."""
    if way == "cut":
        return slope([(size["events"] / 1e6, stages_cpu_s(size)) for size in sizes_over_s3()]), START_CPU_S
    batch = json.loads((BENCHMARKS / "spark-2m.json").read_text())
    second = list(batch["batches"].values())[-1]["spark"]
    return (second["cpu_s"] - START_CPU_S) / (batch["sizes"]["events"] / 1e6), START_CPU_S


def sizes_over_s3() -> list[dict[str, Any]]:
    """What reduce, pre-fetch and merge took on Spark over S3, by the number of events."""
    found: list[dict[str, Any]] = json.loads((BENCHMARKS / "spark-s3-sizes.json").read_text())["sizes"]
    return found


def stages_cpu_s(size: dict[str, Any]) -> float:
    """CPU seconds of reduce, and of pre-fetch and merge in four slices."""
    stages = (size["stages"][f"{stage}, 4 slices"]["cpu_s"] for stage in ("pre-fetch", "merge"))
    return float(size["reduce"]["spark"]["cpu_s"] + sum(stages))


def slope(points: list[tuple[float, float]]) -> float:
    """Of the line with the least squares."""
    return float(np.polyfit(*zip(*points, strict=True), 1)[0])


def join_s() -> float:
    """Seconds in which one task joins the pieces of a million events over S3, by the slope of three sizes."""
    return slope([(size["events"] / 1e6, size["reduce"]["spark"]["wall_s_of_jobs"]["join pieces"]) for size in sizes_over_s3()])


START_CPU_S = 33.0
"""CPU seconds of a run of 100,000 events: Java, two executors and their Pythons, mostly."""


def figures(given: argparse.Namespace) -> dict[str, Any]:
    per_million, start_cpu_s = measured(given.way)
    merges, found = given.merges, given.keys * given.found
    state_bytes = given.artifacts * given.record
    cpu_s = given.events / 1e6 * per_million + merges * start_cpu_s
    each = given.keys / merges
    record_gets, record_bytes = ranged(found / merges, state_bytes / max(found / merges, 1), given.record)
    # hi and lo of the blocks that may have a key, then the place of each key that is found.
    blocks = given.artifacts / BLOCK_ENTRIES * (1 - math.exp(-each * BLOCK_ENTRIES / given.artifacts))
    hash_gets, hash_bytes = ranged(blocks, 8 * given.artifacts / blocks, 8 * BLOCK_ENTRIES)
    place_gets, place_bytes = ranged(found / merges, 5 * given.artifacts / max(found / merges, 1), 5)
    index_gets, index_bytes = 2 * hash_gets + 4 * place_gets, 2 * hash_bytes + 4 * place_bytes
    record_gets, record_bytes, index_gets, index_bytes = (merges * one for one in (record_gets, record_bytes, index_gets, index_bytes))
    slices = merges * math.ceil((given.keys + found) / merges / SLICE_ROWS)
    opened_bytes = slices * given.artifacts / BLOCK_ENTRIES * FENCE_BYTES
    reduced_bytes, reduced_gets = read_by_slices(given, slices)
    cuts = given.windows * math.ceil(given.events / given.windows / SLICE_EVENTS)
    puts = given.files * 3 + cuts * 3 + given.windows * 8 + slices * 2
    gets = record_gets + index_gets + reduced_gets + given.files + cuts * 3 + slices * 12
    written_bytes = (given.keys + found) * given.record + given.keys * (ARTIFACT_BYTES + 2 * ENTRY_BYTES)
    again_bytes = found * given.record + given.keys * JOINED_BYTES
    read_bytes = record_bytes + index_bytes + opened_bytes + reduced_bytes + again_bytes
    read_core_s = read_bytes / 1e9 / given.read_gb_s
    core_s = cpu_s / given.busy + read_core_s
    join_s = given.join_s * given.events / given.windows / 1e6 if given.way == "cut" else 0.0
    minutes = (core_s / given.cores + join_s) / 60
    dollars = {
        "compute": core_s / 3600 * (given.core_hour + given.core_gb * given.gb_hour),
        "S3 requests": puts / 1000 * given.put_1000 + gets / 1000 * given.get_1000,
        "S3 kept, live state and index": (state_bytes * given.disk + given.artifacts * ENTRY_BYTES) / 1e9 * given.gb_month / 730,
        "DynamoDB, if look-ups are served from it": given.keys / 1e6 * given.million_writes,
    }
    return {
        "CPU seconds": cpu_s,
        "core seconds, waits and reading included": core_s,
        "cores, at the least": math.ceil(core_s / 3600),
        f"minutes on {given.cores:.0f} cores": minutes,
        "S3 PUT": puts,
        "S3 GET": gets,
        "GB read of the state": record_bytes / 1e9,
        "GB read of the index": index_bytes / 1e9,
        "GB read of the index, by slices that open it": opened_bytes / 1e9,
        "GB read of reduced files": reduced_bytes / 1e9,
        "GB read again: pre-fetched records, slices' runs": again_bytes / 1e9,
        "GB written": written_bytes / 1e9,
        "MB sent by the driver": merges * 2 * WINDOW_BYTES * given.state_windows / 1e6,
        "DynamoDB write units": given.keys,
        **{f"$ {name}": amount for name, amount in dollars.items()},
        "$ together, without DynamoDB": sum(amount for name, amount in dollars.items() if not name.startswith("DynamoDB")),
    }


def ranged(count: float, spacing: float, length: float) -> tuple[float, float]:
    """Requests and bytes for ``count`` ranges of ``length`` bytes, whose starts are ``spacing`` bytes apart on average, at random: those
    with gaps of up to GAP_BYTES are read together, with the gaps."""
    if spacing <= length:
        return count * spacing / REQUEST_BYTES, count * spacing
    apart = math.exp(-GAP_BYTES / spacing)
    size = count * (length + spacing * (1 - apart * (1 + GAP_BYTES / spacing)))
    return max(count * apart, size / REQUEST_BYTES), min(size, count * spacing)


def read_by_slices(given: argparse.Namespace, slices: int) -> tuple[float, float]:
    """Bytes and requests of all slices' reads of reduced files, by pre-fetch and by merge: their share of each window of their merge, one
    row group at its border, and the footer."""
    groups = min(2 * 256, max(1, given.events / given.windows / 2_048), max(256, given.events / given.windows / 61_440))
    pairs = slices * max(1.0, given.windows / given.merges)
    file_bytes = given.keys / given.windows * ARTIFACT_BYTES
    border = min(1.0, 1 / groups) * file_bytes
    return 2 * (given.keys * ARTIFACT_BYTES + pairs * (border + groups * FOOTER_BYTES)), 2 * pairs * 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers = {
        "events": (100e6, "an hour"),
        "keys": (33e6, "keys touched an hour"),
        "found": (0.5, "share of these keys that stand already"),
        "artifacts": (1e9, "in the state"),
        "record": (200, "bytes of a record: of those that a batch of docs/benchmarks/peers-words.json writes"),
        "windows": (1, "an hour"),
        "merges": (1, "an hour: each a range of windows that becomes visible by one commit"),
        "files": (400, "landed an hour"),
        "state_windows": (100_000, "committed windows in the state"),
        "cores": (128, "of the cluster"),
        "read_gb_s": (0.1, "GB a second that one core reads from S3; not measured"),
        "join_s": (join_s(), "seconds in which one task joins the pieces of a million events"),
        "busy": (0.5, "share of the time in which cores have work"),
        "disk": (1.5, "compaction.disk"),
        "core_hour": (0.0526, "$ a core an hour"),
        "core_gb": (4, "GB a core"),
        "gb_hour": (0.00578, "$ a GB an hour"),
        "put_1000": (0.005, "$"),
        "get_1000": (0.0004, "$"),
        "gb_month": (0.023, "$"),
        "million_writes": (0.625, "$"),
    }
    for name, (value, what) in numbers.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=value, help=f"{what} ({value:g})")
    parser.add_argument("--way", choices=["cut", "whole"], default="cut", help="large windows, or small ones that one task each takes")
    given = parser.parse_args()
    for name, value in figures(given).items():
        print(f"{name:50} {value:>18,.2f}")


if __name__ == "__main__":
    main()
