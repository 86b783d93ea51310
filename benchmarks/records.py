"""Records through the embedded queue: cleaned, stored, processed and finished, with poison; CPU seconds of each step.

    python benchmarks/records.py [--records 558000] [--out FILE.json]

The file has 16 columns and some 147 MB; one cell in twenty is dirty, and one record in a thousand makes the user's function fail.
"""

from __future__ import annotations

import csv
import os
import platform
import random
import resource
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from command_line import options, write_figures

from recon.config.load import load_place
from recon.config.settings import Limits
from recon.database import open_database
from recon.intake.converters.layouts import Delimited
from recon.intake.converters.opening import open_conversion
from recon.intake.converters.port import Received
from recon.intake.queues import clean, embedded, steps
from recon.intake.queues.finished import finished
from recon.intake.queues.parcels import Record, file_of

YAML = """
name: orders
store: ./data
key: id
windows: {start: 2026-11-01T00:00Z, every: 1h}
measures: {lines: {count: "*"}}
"""
COLUMNS = 16
POISON = 1_000
"""One record in so many fails."""


def write_file(path: Path, records: int) -> None:
    """Some 263 bytes a record."""
    dirt = ["  {}", "{} ", "\t{}", "{}  x ", "'{}'"]
    choose = random.Random(7)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", *(f"column_{number}" for number in range(1, COLUMNS))])
        for number in range(records):
            row = [f"{number:09}", *(f"value {choose.getrandbits(36):010x}" for _ in range(1, COLUMNS))]
            for place in range(COLUMNS):
                if choose.random() < 0.05:
                    row[place] = choose.choice(dirt).format(row[place])
            writer.writerow(row)


def process(records: list[Record]) -> list[Record | Exception]:
    """The user's function: upper case, and an error for every thousandth record."""
    return [
        ValueError("poison") if int(one["id"].strip(" \tx'")) % POISON == 0 else {**one, "column_1": one["column_1"].upper()}  # type: ignore[union-attr]
        for one in records
    ]


@contextmanager
def measured(figures: dict[str, Any], what: str) -> Iterator[None]:
    before, began = os.times(), time.perf_counter()
    yield
    after = os.times()
    cpu = after.user + after.system - before.user - before.system
    figures[what] = {"cpu_s": round(cpu, 2), "wall_s": round(time.perf_counter() - began, 2)}
    print(f"{what:12} {cpu:8.2f} CPU s {time.perf_counter() - began:8.2f} s")


def main() -> None:
    asked = options(__doc__, records=558_000)
    with tempfile.TemporaryDirectory() as folder:
        figures = run(Path(folder), asked.records)
    write_figures(asked.out, figures)


def run(folder: Path, records: int) -> dict[str, Any]:
    (folder / "recon.yaml").write_text(YAML)
    path = folder / "records.csv"
    write_file(path, records)
    size = path.stat().st_size
    figures: dict[str, Any] = {
        "records": records,
        "columns": COLUMNS,
        "bytes": size,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    figures["load"] = os.getloadavg()[0]
    print(f"{records} records, {size / 1e6:.0f} MB")
    file = file_of("orders", "bank", "ab" * 32)
    queues = embedded.record_queues(open_database(load_place(folder / "recon.yaml")), "orders")
    with measured(figures, "clean"):
        conversion = open_conversion(Received("records.csv", path), Delimited(kind="delimited", header=True), None, Limits())
        clean.clean(queues.records, queues.store_queue, file, path.name, batches(conversion))
    with measured(figures, "store"):
        embedded.store_all(queues)
    with measured(figures, "process"):
        step = partial(steps.process_messages, queues.records, queues.finish_queue, lambda source: process)
        while embedded._work(queues.process_queue, step, embedded.PROCESSED_AT_ONCE, 0):
            pass
    with measured(figures, "finish"):
        assert embedded.drain(queues, lambda source: process, again_s=0)
    with measured(figures, "results"):
        rows = sum(batch.num_rows for batch in finished(queues.records, file))
    counts = queues.records.counts(file)
    assert (counts.rows, counts.finished, counts.dead, counts.in_progress) == (records, rows, -(-records // POISON), 0), counts
    figures |= {"finished": counts.finished, "dead": counts.dead, "in_progress": counts.in_progress, "sqlite": sqlite3.sqlite_version}
    figures["peak_memory_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    figures["database_mb"] = round(sum(one.stat().st_size for one in folder.glob(".recon/*")) / 1e6)
    print(figures)
    return figures


def batches(conversion: Any) -> Iterator[pa.RecordBatch]:
    """A conversion's batches as line and texts."""
    for batch in conversion.batches():
        columns = [batch.column("line"), *(batch.column(f"t{number}") for number in range(len(conversion.names)))]
        yield pa.record_batch(columns, names=["line", *conversion.names])


if __name__ == "__main__":
    main()
