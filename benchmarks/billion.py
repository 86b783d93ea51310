"""The planner at 100,000 windows and up to a billion artifacts: real indexes on this machine's disk, records that are only addresses.

    python benchmarks/billion.py [--largest 1000000000] [--keys 33000000] [--windows 100000] [--out FILE.json]

For each size of state the benchmark writes runs in their true format: one with nine tenths of the entries, two with the newer tenth. Then
it carries out one slice of a pre-fetch as a task of Spark does: it opens the runs, looks the slice's keys up, half of which exist, and
plans the requests for their records by the costs of S3. The store is a folder that passes for object storage, so that every byte
goes through the port and is counted. Figures of all slices are those of one, times their number; the hash space is uniform. ``--keys``
an hour are divided by the number of merges an hour.
"""

from __future__ import annotations

import argparse
import pickle
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from command_line import write_figures
from faulty_store import WatchedStore

from recon.engines.duckdb.slices import SLICE_BYTES, SLICE_ROWS
from recon.state.packed import PackedWindows
from recon.state.runs import find_many, open_runs, write_columns
from recon.state.runs.read import _requests
from recon.state.timeline import CommittedWindow
from recon.storage import layout
from recon.storage.local import LocalStore
from recon.storage.port import ReadCost
from recon.storage.s3.store import COST

PIECE = 1 << 22
RECORD_BYTES = 200
PART_ENTRIES = 400_000
SHARES = (0.9, 0.09, 0.01)
MERGES = (1, 12, 60)


class AsObjectStorage(WatchedStore):
    """A folder with the costs of S3 and no mapped files."""

    @property
    def cost(self) -> ReadCost:
        return COST


def hashes(count: int, seed: int, piece: int) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """The ``hi`` of one piece of a run: sorted, uniform over its share of the hash space."""
    pieces = -(-count // PIECE)
    rows = min(PIECE, count - piece * PIECE)
    width = (1 << 64) // pieces
    found = np.random.default_rng((seed, piece)).integers(0, width, rows, dtype=np.uint64)
    found.sort()
    return found + np.uint64(piece * width)


def column(name: str, count: int, seed: int) -> Iterator[np.ndarray[Any, Any]]:
    """A column of a run, in pieces."""
    for piece in range(-(-count // PIECE)):
        rows = min(PIECE, count - piece * PIECE)
        row = np.arange(piece * PIECE, piece * PIECE + rows, dtype=np.uint64)
        if name == "hi":
            yield hashes(count, seed, piece)
        elif name == "lo":
            yield row
        elif name == "file":
            yield (row // PART_ENTRIES).astype(np.uint32)
        elif name == "offset":
            yield row % PART_ENTRIES * RECORD_BYTES
        else:
            yield np.full(rows, RECORD_BYTES if name == "length" else 7, np.uint32)


def write_runs(store: AsObjectStorage, artifacts: int) -> list[str]:
    """Runs of a state of so many artifacts, newest first."""
    paths = []
    for seed, share in enumerate(SHARES):
        count = int(artifacts * share)
        path = layout.tier_run(f"{artifacts:012}{seed:04}")
        parts = [layout.part_file(f"{seed:016}", number) for number in range(-(-count // PART_ENTRIES))]
        names = ("hi", "lo", "offset", "length", "file", "check")
        write_columns(store, path, count, parts, {name: partial(column, name, count, seed) for name in names})
        paths.append(path)
    return paths[::-1]


def touched(artifacts: int, keys: int, first: int, end: int) -> tuple[Any, Any]:
    """The hashes of a slice's keys, sorted: half of them exist, spread over the runs by their sizes."""
    rng = np.random.default_rng(99)
    existing_hi, existing_lo = [], []
    for seed, share in enumerate(SHARES):
        count = int(artifacts * share)
        wanted = int(keys * share / 2)
        pieces, width = -(-count // PIECE), (1 << 64) // -(-count // PIECE)
        for piece in range(first // width, min(pieces, -(-end // width))):
            hi = hashes(count, seed, piece)
            rows = np.flatnonzero((hi >= np.uint64(first)) & (hi < np.uint64(min(end, (1 << 64) - 1))))
            part = max(1, int(wanted * (min(end, (piece + 1) * width) - max(first, piece * width)) / (end - first)))
            rows = np.unique(rng.choice(rows, min(part, len(rows))))
            existing_hi.append(hi[rows])
            existing_lo.append((rows + piece * PIECE).astype(np.uint64))
    new = rng.integers(first, min(end, (1 << 64) - 1), keys // 2, dtype=np.uint64)
    hi = np.concatenate([*existing_hi, new])
    lo = np.concatenate([*existing_lo, np.full(len(new), (1 << 64) - 1, np.uint64)])
    order = np.lexsort((lo, hi))
    return hi[order], lo[order]


def one_slice(store: AsObjectStorage, paths: list[str], artifacts: int, keys: int, slices: int) -> dict[str, Any]:
    """The look-ups of one slice in the middle of the hash space, and the requests for the records that it finds."""
    number = slices // 2
    first, end = number * (1 << 64) // slices, (number + 1) * (1 << 64) // slices
    hi, lo = touched(artifacts, keys // slices, first, end)
    store.calls.clear()
    cpu, start = time.process_time(), time.perf_counter()
    runs = open_runs(store, paths)
    opened = sum(call.bytes for call in store.calls)
    found = find_many(runs, hi, lo)
    index = sum(call.bytes for call in store.calls)
    requests = sum(call.kind in ("get_range", "size") for call in store.calls)
    order = np.lexsort((found.offset, found.part))
    part, offset, length = found.part[order], found.offset[order].astype(np.int64), found.length[order].astype(np.int64)
    starts = _requests(part, offset, length, COST)
    ends = np.maximum.reduceat(offset + length, starts)
    return {
        "keys": len(hi),
        "found": len(found),
        "cpu_s": round(time.process_time() - cpu, 3),
        "wall_s": round(time.perf_counter() - start, 3),
        "index_mb_opening": round(opened / 1e6, 2),
        "index_mb": round(index / 1e6, 2),
        "index_requests": requests,
        "record_requests": len(starts),
        "record_mb": round(int((ends - offset[starts]).sum()) / 1e6, 2),
        "record_mb_wanted": round(len(found) * RECORD_BYTES / 1e6, 2),
    }


def of_all(slice_figures: dict[str, Any], slices: int) -> dict[str, Any]:
    """The figures of all slices of a merge."""
    gigabytes = {f"{name.replace('_mb', '')}_gb": round(slice_figures[name] * slices / 1e3, 2) for name in slice_figures if "_mb" in name}
    counts = {name: slice_figures[name] * slices for name in ("index_requests", "record_requests")}
    return {**counts, **gigabytes, "cpu_s": round(slice_figures["cpu_s"] * slices, 1)}


def packed_windows(count: int) -> dict[str, Any]:
    """The state's windows, as they are sent to each machine."""
    folder = "stateless/2026-01-01T0000Z/000001-{0:016x}-{1:016x}/"
    windows = {
        f"w{number:06}": CommittedWindow(1, number, True, folder.format(7, number * 0x9E3779B97F4A7C15 % (1 << 64)))
        for number in range(count)
    }
    start = time.process_time()
    packed = PackedWindows(windows, [])
    size = len(pickle.dumps(packed))
    made = time.process_time() - start
    start = time.process_time()
    assert packed["w000001"].commit == 1
    unpacked = time.process_time() - start
    return {"windows": count, "mb": round(size / 1e6, 2), "pack_cpu_s": round(made, 2), "unpack_cpu_s": round(unpacked, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest", type=int, default=1_000_000_000)
    parser.add_argument("--keys", type=int, default=33_000_000)
    parser.add_argument("--windows", type=int, default=100_000)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    result: dict[str, Any] = {"sizes": vars(given) | {"out": ""}, "windows": packed_windows(given.windows), "states": {}}
    for artifacts in (given.largest // 100, given.largest // 10, given.largest):
        with tempfile.TemporaryDirectory() as name:
            store = AsObjectStorage(LocalStore(Path(name)), mapped=lambda path: False)
            start = time.perf_counter()
            paths = write_runs(store, artifacts)
            found: dict[str, Any] = {"index_gb": round(artifacts * 36 / 1e9, 2), "written_s": round(time.perf_counter() - start, 1)}
            for merges in MERGES:
                keys = given.keys // merges
                slices = max(1, -(-int(1.5 * keys) // SLICE_ROWS), -(-(keys // 2 * RECORD_BYTES) // SLICE_BYTES))
                one = one_slice(store, paths, artifacts, keys, slices)
                found[f"{merges} merges an hour"] = {"slices": slices, "slice": one, "merge": of_all(one, slices)}
            found["peak_memory_gb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)
            result["states"][f"{artifacts:,}"] = found
            print(artifacts, found, flush=True)
            write_figures(given.out, result)


if __name__ == "__main__":
    main()
