"""Records through the embedded queue: cleaned, stored, processed and finished; CPU seconds of each step. Then the same with workers that
are killed, messages that come twice, and calls that are throttled: every record must be finished or dead, once.

    python benchmarks/records.py [--records 558000] [--out FILE.json]

The file has 16 columns and some 147 MB; one cell in twenty is dirty, and one record in a thousand makes the user's function fail.
"""

from __future__ import annotations

import csv
import os
import platform
import random
import resource
import signal
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from command_line import options, write_figures

from recon.config.load import load_place
from recon.config.settings import Limits
from recon.database import open_database
from recon.errors import Throttled, TryAgain
from recon.intake.converters.layouts import Delimited
from recon.intake.converters.opening import open_conversion
from recon.intake.converters.port import Received
from recon.intake.queues import clean, embedded, steps
from recon.intake.queues.aws_handlers import clean_batches
from recon.intake.queues.finished import finished
from recon.intake.queues.parcels import Record, file_of
from recon.model.cleaning import cleaned_sql

YAML = """
name: orders
store: ./data
key: id
windows: {start: 2026-11-01T00:00Z, every: 1h}
measures: {lines: {count: "*"}}
"""
COLUMNS, POISON, DIRTY = 16, 1_000, 0.05
"""One record in ``POISON`` fails; ``DIRTY``: the share of cells."""
KILLED_EVERY_S, VISIBILITY_S = 2.0, 5.0
TWICE, THROTTLED = 0.02, 0.02
"""Shares of messages that are sent again, and of calls that are refused."""
WORKERS = 2
FILE = file_of("orders", "bank", "ab" * 32)


def main() -> None:
    asked = options(__doc__, records=558_000)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records.csv"
        write_file(path, asked.records)
        figures: dict[str, Any] = {"records": asked.records, "columns": COLUMNS, "bytes": path.stat().st_size, "dirty_cells": DIRTY}
        figures |= {"cores": os.cpu_count(), "python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
        figures |= {"load_before": round(os.getloadavg()[0], 2), "poison_one_in": POISON}
        print(f"{asked.records} records, {figures['bytes'] / 1e6:.0f} MB")
        quiet(Path(folder), path, asked.records, figures)
        figures["with_faults"] = faulty(Path(folder) / "faulty", Path(folder) / "clean.parquet", asked.records)
    write_figures(asked.out, figures)


def write_file(path: Path, records: int) -> None:
    """Some 263 bytes a record."""
    dirt = ["  {}", "{} ", "\t{}", "\u00a0{}", "{}\u200b"]
    choose = random.Random(7)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", *(f"column_{number}" for number in range(1, COLUMNS))])
        for number in range(records):
            row = [f"{number:09}", *(f"value {choose.getrandbits(36):010x}" for _ in range(1, COLUMNS))]
            writer.writerow([choose.choice(dirt).format(cell) if choose.random() < DIRTY else cell for cell in row])


def process(records: list[Record]) -> list[Record | Exception]:
    """The user's function: upper case, and an error for every thousandth record."""
    return [
        ValueError("poison") if int(one["id"] or 0) % POISON == 0 else {**one, "column_1": (one["column_1"] or "").upper()}
        for one in records
    ]


def quiet(folder: Path, path: Path, records: int, figures: dict[str, Any]) -> None:
    """One process does one step after the other."""
    queues = opened(folder)
    with measured(figures, "clean"):
        convert(path, folder / "clean.parquet")
        clean.clean(queues.records, queues.store_queue, FILE, path.name, clean_batches(folder / "clean.parquet", 0))
    with measured(figures, "store"):
        embedded.store_all(queues)
    with measured(figures, "process"):
        step = partial(steps.process_messages, queues.records, queues.finish_queue, lambda source: process)
        while embedded._work(queues.process_queue, step, embedded.PROCESSED_AT_ONCE, 0):
            pass
    with measured(figures, "finish"):
        assert embedded.drain(queues, lambda source: process, again_s=0)
    with measured(figures, "results"):
        rows = sum(batch.num_rows for batch in finished(queues.records, FILE))
    figures |= checked(queues, records, rows)
    figures["peak_memory_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    figures["database_mb"] = round(sum(one.stat().st_size for one in folder.glob(".recon/*")) / 1e6)


def convert(path: Path, clean_file: Path) -> None:
    """Every cell trimmed, in normal form, without invisible characters; as Parquet."""
    conversion = open_conversion(Received(path.name, path), Delimited(kind="delimited", header=True), None, Limits())
    names = list(conversion.names)
    cells = [f'{cleaned_sql(f"t{number}", ["trim", "nfc", "strip_format"])} AS "{name}"' for number, name in enumerate(names)]
    query = f'SELECT line AS "recon.line", {", ".join(cells)} FROM batch'
    schema = pa.schema([("recon.line", pa.int64()), *((name, pa.string()) for name in names)])
    with duckdb.connect() as connection, pq.ParquetWriter(clean_file, schema, compression="zstd") as writer:
        for batch in conversion.batches():
            connection.register("batch", pa.table(batch) if isinstance(batch, dict) else pa.Table.from_batches([batch]))
            writer.write_table(connection.sql(query).to_arrow_table().cast(schema))


def faulty(folder: Path, clean_file: Path, records: int) -> dict[str, Any]:
    """Workers in processes of their own, one of which is killed every two seconds, until all is done."""
    folder.mkdir()
    queues, choose, kills = opened(folder), random.Random(11), 0
    start = partial(_start, folder, clean_file)
    workers, began = [start(number) for number in range(WORKERS)], time.monotonic()
    while not queues.records.counts(FILE).done:
        time.sleep(KILLED_EVERY_S * choose.uniform(0.5, 1.5))
        victim = choose.randrange(WORKERS)
        os.kill(workers[victim].pid or 0, signal.SIGKILL)
        kills += 1
        workers[victim].join()
        workers[victim] = start(kills + WORKERS)
    for worker in workers:
        worker.kill()
        worker.join()
    assert embedded.drain(opened(folder), lambda source: process, again_s=0)
    rows = sum(batch.num_rows for batch in finished(queues.records, FILE))
    lines = {line for batch in finished(queues.records, FILE) for line in batch.column(0).to_pylist()}
    assert len(lines) == rows, "each record once"
    figures = {"kills": kills, "workers": WORKERS, "sent_twice": TWICE, "throttled": THROTTLED, "wall_s": round(time.monotonic() - began)}
    figures |= checked(queues, records, rows, exactly=False)
    print(figures)
    return figures


def _start(folder: Path, clean_file: Path, seed: int) -> BaseProcess:
    context = get_context("forkserver")  # imports once; each worker opens the database itself
    context.set_forkserver_preload(["__main__", "sqlalchemy.dialects.sqlite", "pyarrow.parquet", "pyarrow.compute"])
    worker = context.Process(target=work, args=(folder, clean_file, seed))
    worker.start()
    return worker


def work(folder: Path, clean_file: Path, seed: int) -> None:
    """A worker: cleans if that is not done, and works on messages, over calls that may be refused; it sends some messages again."""
    queues, choose = opened(folder), random.Random(seed)
    refused = _Refusing(queues.records, choose)
    faulty_queues = embedded.RecordQueues(*(_Twice(one, choose) for one in queues.queues[::-1]), refused)  # type: ignore[arg-type]
    while True:
        with suppress(TryAgain):
            clean.clean(refused, faulty_queues.store_queue, FILE, "records.csv", clean_batches(clean_file, 0))
            if embedded.drain(faulty_queues, lambda source: process, again_s=0.1):
                time.sleep(0.2)


class _Refusing:
    """A record store of which some calls are refused."""

    def __init__(self, store: Any, choose: random.Random) -> None:
        self._store, self._choose = store, choose

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if self._choose.random() < THROTTLED:
            raise Throttled("too many requests")
        found: Callable[..., Any] = getattr(self._store, name)
        return found


class _Twice:
    """A queue that sends some messages twice."""

    def __init__(self, queue: Any, choose: random.Random) -> None:
        self._queue, self._choose = queue, choose

    def send(self, bodies: list[str]) -> None:
        self._queue.send([*bodies, *(body for body in bodies if self._choose.random() < TWICE)])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)


def opened(folder: Path) -> embedded.RecordQueues:
    (folder / "recon.yaml").write_text(YAML)
    return embedded.record_queues(open_database(load_place(folder / "recon.yaml")), "orders", VISIBILITY_S)


def checked(queues: embedded.RecordQueues, records: int, rows: int, exactly: bool = True) -> dict[str, Any]:
    """The counts; every record is finished or dead. ``exactly``: no record is dead but poison."""
    counts = queues.records.counts(FILE)
    poison = -(-records // POISON)
    assert (counts.rows, counts.finished, counts.in_progress, counts.finished + counts.dead) == (records, rows, 0, records), counts
    assert counts.dead == poison if exactly else counts.dead >= poison, counts
    return {"rows": counts.rows, "finished": counts.finished, "dead": counts.dead, "in_progress": counts.in_progress}


@contextmanager
def measured(figures: dict[str, Any], what: str) -> Iterator[None]:
    before, began = os.times(), time.perf_counter()
    yield
    after = os.times()
    cpu = after.user + after.system - before.user - before.system
    figures[what] = {"cpu_s": round(cpu, 2), "wall_s": round(time.perf_counter() - began, 2)}
    print(f"{what:12} {cpu:8.2f} CPU s {time.perf_counter() - began:8.2f} s")


if __name__ == "__main__":
    main()
