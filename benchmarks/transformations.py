"""50 operations on two tables of many rows: ``recon transform`` beside the same by hand in DuckDB, Polars, pandas and Spark; and requests
over files from 273 bytes to 2 GB.

    python benchmarks/transformations.py [--rows 5000000] [--rounds 1] [--contenders recon,polars] [--memory 2GB]
        [--sweep-mb 2000] [--out FILE.json]

Each contender runs in a process of its own, in an order that rotates from round to round; CPU seconds and memory are those of the process
and of what it started. Outputs are compared cell by cell with recon's, in order of the rows.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import duckdb
import psutil
from command_line import write_figures
from transformations_by_hand import COLUMNS, CONTENDERS

SALES = """COPY (SELECT i AS id,
    CASE WHEN h % 50 = 0 THEN NULL WHEN h % 3 = 0 THEN 'Item-' || h % {keys} ELSE 'ITEM-' || h % {keys} END AS item,
    ['North', 'south', 'East', 'west', 'Centre'][1 + h % 5] AS region, ['Shop', 'Web', 'Phone'][1 + h // 7 % 3] AS channel,
    CAST((h // 11 % 1000000 - 20000) / 100 AS DECIMAL(18,2)) AS amount, CAST((h // 13 % 90000000) / 10000 AS DECIMAL(18,4)) AS cost,
    h // 17 % 12 AS qty, DATE '2026-01-01' + CAST(h // 19 % 700 AS INTEGER) AS due,
    CASE WHEN h % 9 = 0 THEN NULL ELSE '  paid  by ' || h % 97 || '  on  account' END AS note,
    'INV-' || lpad(CAST(h // 23 % 1000000 AS VARCHAR), 6, '0') || '-' || ['DE', 'FR', 'IT'][1 + h % 3] AS ref
    FROM (SELECT i, CAST(hash(i) >> 4 AS BIGINT) AS h FROM range({rows}) r(i))) TO '{folder}/sales.parquet' (COMPRESSION zstd)"""
ITEMS = """COPY (SELECT 'item-' || h % {keys} AS item, 'Name ' || h % 1000003 AS name,
    CAST((h // 7 % 100000) / 100 AS DECIMAL(10,2)) AS price, 'family ' || h % 211 AS family
    FROM (SELECT CAST(hash(-1 - i) >> 4 AS BIGINT) AS h FROM range({rows}) r(i)))
    TO '{folder}/items.parquet' (COMPRESSION zstd)"""


def made(folder: Path, rows: int) -> None:
    """Both inputs. Nine keys in ten of the sales are among the items, some of them several times."""
    with duckdb.connect() as connection:
        for statement in (SALES, ITEMS):
            connection.execute(statement.format(folder=folder, rows=rows, keys=max(1, rows * 9 // 10)))


class Watched:
    """A process and all that it starts, looked at 5 times a second: CPU seconds, peak memory in GB, and the most that its folder took."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str] | None = None) -> None:
        self._spent: dict[int, float] = {}
        self.peak_gb = self.spilled_gb = 0.0
        begun = time.perf_counter()
        with tempfile.TemporaryFile() as said:
            self.process = psutil.Popen(command, stdout=said, stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})})
            over = threading.Event()
            watcher = threading.Thread(target=self._watch, args=(over, folder))
            watcher.start()
            _, status, used = os.wait4(self.process.pid, 0)
            self.wall_s = time.perf_counter() - begun
            over.set()
            watcher.join()
            self.status = os.waitstatus_to_exitcode(status)
            self.cpu_s = max(used.ru_utime + used.ru_stime, sum(self._spent.values()))
            said.seek(0)
            self.said = said.read().decode(errors="replace")

    def _watch(self, over: threading.Event, folder: Path) -> None:
        looked = 0
        while not over.wait(0.2):
            memory = 0
            for process in self._family():
                try:
                    spent = process.cpu_times()
                    memory += process.memory_info().rss - process.memory_info().shared
                except psutil.Error:
                    continue
                self._spent[process.pid] = spent.user + spent.system
            self.peak_gb = max(self.peak_gb, memory / 1e9)
            looked += 1
            if looked % 25 == 0:
                self.spilled_gb = max(self.spilled_gb, _bytes(folder) / 1e9)

    def _family(self) -> list[psutil.Process]:
        try:
            return [self.process, *self.process.children(recursive=True)]
        except psutil.Error:
            return []

    def figures(self) -> dict[str, float]:
        return {
            "cpu_s": round(self.cpu_s, 2),
            "wall_s": round(self.wall_s, 2),
            "peak_gb": round(self.peak_gb, 2),
            "disk_gb": round(self.spilled_gb, 2),
        }


def _bytes(folder: Path) -> int:
    found = 0
    for path in folder.rglob("*"):
        try:
            found += path.lstat().st_size if path.is_file() else 0
        except OSError:
            continue
    return found


def differences(folder: Path, other: Path) -> dict[str, int | str]:
    """Cells that differ from recon's by column, of the same rows in the same order; of decimals the values are compared."""
    with duckdb.connect(config={"memory_limit": "4GB", "temp_directory": str(folder / "compared")}) as connection:
        for name, place in (("a", folder), ("b", other)):
            source = f"read_parquet('{place}/out.parquet', file_row_number = true)"
            if (place / "out").is_dir():  # Spark's part-files, in order of their names
                parts = f"read_parquet('{place}/out/*.parquet', file_row_number = true, filename = true)"
                numbered = "row_number() OVER (ORDER BY filename, file_row_number) - 1 AS file_row_number"
                source = f"(SELECT * EXCLUDE (filename, file_row_number), {numbered} FROM {parts})"
            connection.execute(f"CREATE VIEW {name} AS SELECT * FROM {source}")
        rows = [connection.execute(f"SELECT count(*) FROM {name}").fetchone() for name in "ab"]
        if rows[0] != rows[1]:
            return {"rows": f"{rows[1]} instead of {rows[0]}"}
        found: dict[str, int | str] = {}
        kinds = dict(connection.execute("SELECT column_name, column_type FROM (DESCRIBE a)").fetchall())
        for column in COLUMNS:
            kind = "DECIMAL(38,10)" if kinds[column].startswith(("DECIMAL", "BIGINT")) else kinds[column]
            one, two = f'CAST(a."{column}" AS {kind})', f'TRY_CAST(b."{column}" AS {kind})'
            differ = f"SELECT count(*) FROM a JOIN b USING (file_row_number) WHERE {one} IS DISTINCT FROM {two}"
            if count := connection.execute(differ).fetchall()[0][0]:
                found[column] = count
        pivots = [connection.execute(f"FROM read_csv('{place}/pivot.csv', header = true)").fetchall() for place in (folder, other)]
        return found if pivots[0] == pivots[1] else {**found, "pivot": "differs"}


def compared(work: Path, rows: int, rounds: int, names: list[str], memory: str) -> dict[str, Any]:
    """The figures of each contender, and how its output differs."""
    made(work, rows)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    differ: dict[str, Any] = {}
    for number in range(rounds):
        turn = number % len(names)
        for name in [*names[turn:], *names[:turn]]:
            folder = work / name.replace(" ", "-")
            folder.mkdir(exist_ok=True)
            for file in ("sales.parquet", "items.parquet"):
                (folder / file).unlink(missing_ok=True)
                (folder / file).symlink_to(work / file)
            done = Watched(
                [sys.executable, __file__, "--one", name, "--work", str(folder)],
                folder,
                {"TMPDIR": str(folder), "BENCHMARK_MEMORY": memory},
            )
            if done.status:
                print(f"{name}: exit status {done.status}\n{done.said[-2000:]}", file=sys.stderr)
                differ[name] = f"failed: {done.said.strip().splitlines()[-1][:200] if done.said.strip() else done.status}"
                continue
            runs[name].append(done.figures())
            print(f"{name}: {done.figures()}", flush=True)
    for name in names:
        if runs[name] and name != "recon" and runs.get("recon"):
            differ[name] = differences(work / "recon", work / name.replace(" ", "-")) or "none"
            print(f"{name}: cells that differ: {differ[name]}", flush=True)
    return {"rows": rows, "memory_limit": memory, "runs": runs, "differences": differ}


HEAD = "id,amount,region\n"
SWEEP = """version: v1
as_of: 2026-11-30
inputs: {sales: {path: sales.csv, types: {id: integer, amount: "decimal(18,2)"}}}
operations:
- compute: {table: sales, set: {gross: "=ROUND([@amount]*1.19,2)"}}
- group: {table: sales, by: region, values: {gross: {sum: gross}}, as: totals}
outputs: [{table: sales, path: out.csv}, {table: totals, path: totals.csv}]
"""


def sweep(work: Path, largest: int) -> list[dict[str, Any]]:
    """One request from the shell over a CSV file of 273 bytes, and ten times that, up to ``largest`` bytes; the small ones many times."""
    work.mkdir(exist_ok=True)
    (work / "request.yaml").write_text(SWEEP)
    found, size = [], 273
    while size:
        _csv(work / "sales.csv", size)
        times = 20 if size < 10_000_000 else 3 if size < 500_000_000 else 1
        program = str(Path(sys.executable).with_name("recon"))
        runs = [Watched([program, "transform", str(work / "request.yaml")], work) for _ in range(times)]
        if any(run.status for run in runs):
            raise SystemExit(f"the request over {size} bytes failed: {runs[-1].said}")
        walls = sorted(run.wall_s for run in runs)
        p50, p99 = walls[len(walls) // 2], walls[min(len(walls) - 1, int(0.99 * len(walls)))]
        figures = {"bytes": size, "runs": times, "p50_s": round(p50, 3), "p99_s": round(p99, 3)}
        found.append({**figures, "cpu_s": round(min(run.cpu_s for run in runs), 2), "peak_gb": round(max(run.peak_gb for run in runs), 2)})
        print(found[-1], flush=True)
        size = 0 if size >= largest else min(largest, size * 10)
    return found


def _csv(path: Path, size: int) -> None:
    """A CSV file of exactly ``size`` bytes: the last cell is as long as it takes."""
    block = "".join(
        f"{n},{n * 7 % 100000}.{n % 100:02},{('North', 'South', 'East')[n % 3]}\n" for n in range(min(10_000, max(1, (size - 60) // 20)))
    )
    with path.open("w") as file:
        left = size - file.write(HEAD)
        while left > len(block) + 40:
            left -= file.write(block)
        file.write("1,2.50,W".ljust(left - 1, "w") + "\n")
    assert path.stat().st_size == size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000_000, help="of each table; 0: no comparison")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--contenders", default=",".join(CONTENDERS))
    parser.add_argument("--memory", default="2GB", help="memory_limit of recon and of DuckDB by hand")
    parser.add_argument("--sweep-mb", type=int, default=2_000, help="the largest file of the sweep; 0: no sweep")
    parser.add_argument("--work", type=Path, help="a folder for files; default: a temporary one")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.one:
        CONTENDERS[given.one](given.work)
        return
    with tempfile.TemporaryDirectory(prefix="transformations-", dir=given.work) as folder:
        figures: dict[str, Any] = {"load_before": os.getloadavg()}
        if given.rows:
            figures |= compared(Path(folder), given.rows, given.rounds, given.contenders.split(","), given.memory)
        if given.sweep_mb:
            figures["sweep"] = sweep(Path(folder) / "sweep", given.sweep_mb * 1_000_000)
        write_figures(given.out, {**figures, "load_after": os.getloadavg()})


if __name__ == "__main__":
    main()
