"""What a compaction and a merge of tiers cost: CPU seconds, and memory, which must not grow with the state.

    python benchmarks/compaction.py [--records 3000000,10000000]

A state of N records, of which four commits have rewritten 0.15 N each. Each figure is of a process of its own, its memory looked at every
10 ms: *anonymous* memory, which cannot be given back, and *resident* memory, in which pages of mapped files are counted, too, which can.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

YAML = """\
name: compaction
store: ./data
key: k
windows: {start: 2026-01-01T00:00Z, every: 1h}
measures: {lines: {count: "*"}}
"""
RECORD_BYTES = 200
PART_RECORDS = 400_000
SHARES = [0.15] * 4


def state_of(folder: Path, count: int, shares: list[float]) -> None:
    """A store of ``count`` records, and commits that each rewrite a share of them."""
    import pyarrow as pa

    import recon
    from recon.config.form import form_of
    from recon.state.runs import checks_of, entries_of, merge_entries, write_run
    from recon.state.timeline import Entry, RunRef, Timeline
    from recon.storage import layout

    (folder / "recon.yaml").write_text(YAML)
    r = recon.open(folder / "recon.yaml")
    store = r.store(create=True)
    timeline, draw = Timeline(store), np.random.default_rng(5)
    head = form_of(r.config).head()
    hi = np.sort(draw.integers(0, 1 << 64, count, dtype=np.uint64))
    lo = draw.integers(0, 1 << 64, count, dtype=np.uint64)
    for number, share in enumerate([1.0, *shares]):
        rows = np.arange(count) if share == 1 else np.flatnonzero(draw.random(count) < share)
        attempt, parts = layout.new_attempt(), []
        for first in range(0, len(rows), PART_RECORDS):
            part = rows[first : first + PART_RECORDS]
            content = np.full((len(part), RECORD_BYTES), ord("."), np.uint8)
            content[:, :16] = np.stack([hi[part] + np.uint64(number), lo[part]], 1).view(np.uint8)
            offsets = pa.py_buffer(np.arange(len(part) + 1, dtype=np.int64) * RECORD_BYTES)
            check = checks_of(pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(part), [None, offsets, pa.py_buffer(content)]))
            path = layout.part_file(attempt, len(parts))
            store.put_new(path, [head, memoryview(content).cast("B")])
            parts.append(entries_of(path, hi[part], lo[part], np.full(len(part), RECORD_BYTES, np.uint32), check, len(head)))
        entries = merge_entries(parts)
        write_run(store, layout.merge_run(attempt), entries)
        written = len(rows) * RECORD_BYTES
        held = timeline.head().totals.get("bytes", {"parts": 0})["parts"]
        totals = {"bytes": {"parts": held + written, "live": count * RECORD_BYTES}}
        run = RunRef(layout.merge_run(attempt), len(entries), written)
        timeline.commit(Entry("merge", attempt, r.config.rules_version, runs_added=(run,), totals=totals), onto=timeline.head())


def compacted(folder: Path) -> dict[str, Any]:
    import recon
    from recon.state.compaction import compact
    from recon.state.timeline import Timeline

    r = recon.open(folder / "recon.yaml")
    done = compact(r.store(), r.config, Timeline(r.store()), always=True)
    return {"rewritten": done.records, "runs": len(r.state().runs)}


def tiered(folder: Path) -> dict[str, Any]:
    """Merges all runs into one, as a tier; commits nothing."""
    import recon
    from recon.state.runs import open_run, write_merged
    from recon.storage import layout

    r = recon.open(folder / "recon.yaml")
    runs = [open_run(r.store(), run.path) for run in r.state().runs]
    path = layout.tier_run(layout.new_attempt())
    write_merged(r.store(), path, runs)
    return {"runs": len(runs), "entries": sum(run.count for run in runs), "kept": open_run(r.store(), path).count}


WORK = {"tiers": tiered, "compaction": compacted}


def memory_mb() -> tuple[float, float]:
    """Anonymous and resident."""
    found = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(("RssAnon", "VmRSS")))
    anonymous, resident = (int(found[name].split()[0]) / 1024 for name in ("RssAnon", "VmRSS"))
    return anonymous, resident


def measured(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What ``work`` says, with its CPU seconds and peaks of memory."""
    import duckdb  # noqa: F401
    import pyarrow  # noqa: F401

    import recon.state.compaction
    import recon.state.tiers  # noqa: F401

    before, peaks, over = memory_mb(), [0.0, 0.0], threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            peaks[:] = map(max, peaks, memory_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    wall, cpu = time.perf_counter(), os.times()
    said = work()
    wall, now = time.perf_counter() - wall, os.times()
    over.set()
    watcher.join()
    spent = now.user + now.system - cpu.user - cpu.system
    figures = {"wall_s": wall, "cpu_s": spent, "anonymous_mb": peaks[0], "anonymous_before_mb": before[0], "resident_mb": peaks[1]}
    return {**said, **{name: round(value, 1) for name, value in figures.items()}}


def in_process(work: str, folder: Path) -> dict[str, Any]:
    done = subprocess.run([sys.executable, __file__, "--work", work, str(folder)], check=True, capture_output=True, text=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--records", default="3000000,10000000")
    options.add_argument("--out", type=Path, help="where to write the figures, as JSON")
    options.add_argument("--folder", help="where the stores are made; some 400 bytes a record are needed")
    options.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.work:
        print(json.dumps(measured(lambda: WORK[asked.work[0]](Path(asked.work[1])))))
        return
    found = []
    for count in map(int, asked.records.split(",")):
        with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
            state_of(Path(folder), count, SHARES)
            for work in WORK:
                found.append({"work": work, "records": count, **in_process(work, Path(folder))})
                print(json.dumps(found[-1]), flush=True)
    if asked.out:
        asked.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
