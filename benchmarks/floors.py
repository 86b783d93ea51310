"""Each stage beside the least that its work could take, in one run, alternating: CPU seconds, medians, and the ratio.

    python benchmarks/floors.py [--events 2000000] [--keys 659571] [--state 1000000] [--rounds 3] [--out FILE.json]

A floor is a part of the stage's work done bare: it trusts its input, checks nothing and keeps no history. None is a rival: no floor
does all that its stage does.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from command_line import FORMATS, options, write_figures
from core import make_events
from peers.workload import RULES

import recon
from recon.engines.existing import find_existing, touched_keys
from recon.engines.select import engine_of
from recon.planning import due
from recon.stages.merge import merge_windows
from recon.stages.reduce import reduce_windows
from recon.state.reduced import Figures
from recon.state.runs import open_run, read_records, write_merged
from recon.state.runs.entries import COLUMNS, hash_order
from recon.state.timeline import Timeline

_SUMS = "sum(amount) FILTER (WHERE event_type = '{}')"
_GROUPED = ", ".join(
    [
        "order_id AS key",
        *(f"{_SUMS.format(kind)} AS {name}" for name, kind in (("billed", "INVOICE"), ("paid", "PAYMENT"), ("refunded", "REFUND"))),
    ]
)


def status_of(billed: str, paid: str, refunded: str) -> str:
    """SQL of ``RULES``."""
    balance = f"coalesce({billed}, 0) - coalesce({paid}, 0) + coalesce({refunded}, 0)"
    return f"CASE WHEN {balance} = 0 THEN 'MATCHED' WHEN {paid} IS NULL THEN 'UNPAID' ELSE 'BREAK' END"


class Bench:
    """A store with a state, a batch that is landed on it, and the same state as a typed table of DuckDB."""

    def __init__(self, work: Path, events: int, keys: int, state: int, file_format: str) -> None:
        self.work, self.count = work, 0
        self.batch = make_events(work, "batch", events, keys, state - keys // 2, file_format)
        base = make_events(work, "base", state, state, 0, "parquet")
        self.home = work / "home"
        self.home.mkdir()
        (self.home / "recon.yaml").write_text(RULES)
        r = recon.open(self.home / "recon.yaml")
        r.land([base], window="2026-01-01T00:00Z", close=True)
        store, timeline = r.store(), Timeline(r.store())
        figures = reduce_windows(store, r.config, due.due(store, r.config, timeline.head()).ready)
        merge_windows(store, r.config, timeline, figures)
        r.land([self.batch], window="2026-01-01T01:00Z", close=True)
        self.typed = work / "typed.duckdb"
        with duckdb.connect(self.typed) as typed:
            typed.execute(f"CREATE TABLE state AS SELECT *, {status_of('b', 'p', 'r')} AS status FROM ({self._totals(base)}) ORDER BY key")

    @staticmethod
    def _totals(file: Path) -> str:
        kinds = dict.fromkeys(("event_id", "order_id", "event_type", "currency", "booked_at"), "VARCHAR") | {"amount": "DECIMAL(18,2)"}
        rows = f"read_parquet('{file}')" if file.suffix == ".parquet" else f"read_json('{file}', columns = {kinds})"
        return (
            f"SELECT key, billed AS b, paid AS p, refunded AS r, lines FROM (SELECT {_GROUPED}, count(*) AS lines FROM {rows} GROUP BY 1)"
        )

    def fresh(self) -> recon.Reconciliation:
        """The store before the batch, in a folder of its own; files are shared, as they never change."""
        self.count += 1
        place = self.work / f"copy{self.count}"
        shutil.copytree(self.home, place, copy_function=os.link)
        return recon.open(place / "recon.yaml")


def cpu_s(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def write(folder: Path, pieces: list[bytes]) -> None:
    """The bytes, one file each, synced."""
    for number, piece in enumerate(pieces):
        with open(folder / f"bare{number}", "wb") as file:
            file.write(piece)
            os.fsync(file.fileno())


def one_round(bench: Bench, took: dict[str, list[float]]) -> None:
    """Every stage and every floor once."""

    def time_of(name: str, work: Callable[[], Any]) -> Any:
        seconds, result = cpu_s(work)
        took.setdefault(name, []).append(seconds)
        return result

    r = bench.fresh()
    store, timeline, folder = r.store(), Timeline(r.store()), r.config.path.parent
    manifests = due.due(store, r.config, timeline.head()).ready
    figures: list[Figures] = time_of("reduce", lambda: reduce_windows(store, r.config, manifests))
    time_of("reduce: the file read", lambda: bench.batch.read_bytes())
    time_of("reduce: read and grouped by DuckDB", lambda: duckdb.connect().execute(f"CREATE TABLE t AS {bench._totals(bench.batch)}"))
    reduced = [store.get(figures[0].folder + name) for name in ("events.parquet", "artifacts.parquet")]
    time_of("reduce: the same bytes written", lambda: write(folder, reduced))

    state = timeline.head()
    before = set(store.list("state/"))
    fetched = time_of("pre-fetch", lambda: engine_of(r.config).prefetch(store, r.config, state, figures))
    time_of("merge", lambda: merge_windows(store, r.config, timeline, figures, fetched))
    standing = find_existing(store, [run.path for run in state.runs], *touched_keys(store, state, figures))

    time_of("merge: the standing records read and checked", lambda: read_records(store, standing.found))
    parts = [store.get(path) for path in store.list("state/") if path not in before and path.endswith(".words")]
    time_of("merge: the same bytes written", lambda: write(folder, parts))
    typed = folder / "typed.duckdb"
    shutil.copyfile(bench.typed, typed)
    artifacts = store.local(figures[0].folder + "artifacts.parquet")
    time_of("merge: totals only, DuckDB MERGE of typed rows", lambda: upsert(typed, str(artifacts)))

    runs = [open_run(store, run.path) for run in timeline.head().runs]
    time_of("index: two runs into one", lambda: write_merged(store, "state/floor/tier.run", runs))
    time_of("index: the arrays sorted and laid out", lambda: sorted_bare([run.entries() for run in runs]))
    shutil.rmtree(folder)


def upsert(database: Path, artifacts: str) -> None:
    """Totals and status of each key, no contributions, no text: what a table format with a MERGE would keep."""
    sums = {name: f"coalesce(s.{name} + a.{name}, s.{name}, a.{name})" for name in ("b", "p", "r")}
    updates = ", ".join(f"{name} = {value}" for name, value in sums.items())
    with duckdb.connect(database) as typed:
        typed.execute(f"""
            MERGE INTO state s USING (SELECT key, m_billed AS b, m_paid AS p, m_refunded AS r, m_lines AS lines FROM '{artifacts}') a
            ON s.key = a.key
            WHEN MATCHED THEN UPDATE SET {updates}, lines = s.lines + a.lines, status = {status_of(*sums.values())}
            WHEN NOT MATCHED THEN INSERT VALUES (a.key, a.b, a.p, a.r, a.lines, {status_of("a.b", "a.p", "a.r")})""")
        typed.execute("CHECKPOINT")


def sorted_bare(runs: list[Any]) -> dict[str, Any]:
    hi, lo = (np.concatenate([getattr(run, name) for run in runs]) for name in ("hi", "lo"))
    order = hash_order(hi, lo)
    return {name: np.concatenate([getattr(run, name) for run in runs])[order] for name in COLUMNS}


def main() -> None:
    given = options(__doc__, format=FORMATS, events=2_000_000, keys=659_571, state=1_000_000, rounds=3)
    took: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), given.events, given.keys, given.state, given.format)
        for _ in range(given.rounds):
            one_round(bench, took)
    for name, seconds in took.items():
        print(f"    {name:55} {statistics.median(seconds):6.2f} s CPU   {[round(each, 2) for each in seconds]}")
    result: dict[str, Any] = {"sizes": {**vars(given), "out": None}, "duckdb": duckdb.__version__}
    result["cpu_s"] = {name: [round(each, 3) for each in seconds] for name, seconds in took.items()}
    write_figures(given.out, result)


if __name__ == "__main__":
    main()
