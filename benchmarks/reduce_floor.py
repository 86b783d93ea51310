"""Reduce beside a hand-written DuckDB query that gives the same columns, in one run, alternating: CPU seconds and their ratio.

    python benchmarks/reduce_floor.py [--format parquet|jsonl] [--events 2000000] [--keys 659571] [--rounds 3] [--out FILE.json]

The query is what one would write for this very file: it gives the events sorted by key hash and the artifacts with ids and their hashes,
with the same columns and compression. It trusts the file: it does not reject rows, find duplicates, prove digests or tie
totals, and it reads JSON numbers as DuckDB does.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
from command_line import FORMATS, options, write_figures
from core import make_events
from peers.workload import RULES

import recon
from recon.planning import due
from recon.stages.reduce import reduce_windows
from recon.state.timeline import Timeline
from recon.storage.hashing import salt_of

_LOW = "18446744073709551615::UHUGEINT"
_WRITE = "(FORMAT parquet, COMPRESSION snappy, ROW_GROUP_SIZE 61440)"
_COLUMNS = ("event_id", "order_id", "event_type", "amount", "currency", "booked_at")


def by_hand(file: Path, folder: Path, salt: str) -> None:
    """The hand-written query: events.parquet and artifacts.parquet in ``folder``. ``salt``: of the hashes."""
    if file.suffix == ".parquet":
        rows = f"(SELECT *, file_row_number + 1 AS line FROM read_parquet('{file}', file_row_number = true))"
    else:
        kinds = ", ".join(f"{name}: '{'DECIMAL(18,2)' if name == 'amount' else 'VARCHAR'}'" for name in _COLUMNS)
        scan = f"read_json('{file}', format = 'newline_delimited', columns = {{{kinds}}})"
        rows = f"(SELECT *, row_number() OVER () AS line FROM {scan})"
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = false; SET enable_progress_bar = false")
        connection.execute(f"""
            CREATE TEMP TABLE events AS
            SELECT (h >> 64)::UBIGINT AS hi, (h & {_LOW})::UBIGINT AS lo, order_id AS key, event_id AS id,
                   (md5_number('{salt}' || event_id)::UHUGEINT & {_LOW})::UBIGINT AS idh, time, 0 AS file, line, amount, event_type,
                   currency
            FROM (SELECT *, md5_number('{salt}' || order_id)::UHUGEINT AS h, booked_at::TIMESTAMPTZ AS time FROM {rows})""")
        connection.execute(f"""
            COPY (SELECT hi, key, id, time, file, line, amount, event_type, currency FROM events ORDER BY hi)
            TO '{folder / "events.parquet"}' {_WRITE}""")
        connection.execute(f"""
            COPY (
                SELECT any_value(hi) AS hi, any_value(lo) AS lo, key, count(*) AS n, list_sort(list(idh)) AS ids,
                       sum(amount) FILTER (WHERE event_type = 'INVOICE') AS billed,
                       sum(amount) FILTER (WHERE event_type = 'PAYMENT') AS paid,
                       sum(amount) FILTER (WHERE event_type = 'REFUND') AS refunded, count(*) AS lines
                FROM events GROUP BY key ORDER BY hi, lo
            ) TO '{folder / "artifacts.parquet"}' {_WRITE}""")


def by_recon(file: Path, folder: Path) -> tuple[Callable[[], None], str]:
    """What reduces a window of a new store that holds ``file``, and the salt of that store."""
    (folder / "recon.yaml").write_text(RULES)
    r = recon.open(folder / "recon.yaml")
    r.land([file], window="2026-01-01T00:00Z", close=True)
    manifests = due.due(r.store(), r.config, Timeline(r.store()).head()).ready

    def work() -> None:
        reduce_windows(r.store(), r.config, manifests)

    return work, salt_of(r.store())


def same_artifacts(ours: Path, theirs: Path) -> bool:
    """Whether both wrote the same artifacts, in every column."""
    differing = " UNION ALL ".join(f"(FROM '{a}' EXCEPT ALL FROM '{b}')" for a, b in ((ours, theirs), (theirs, ours)))
    return not duckdb.execute(f"SELECT 1 FROM ({differing}) LIMIT 1").fetchall()


def cpu_s(work: Callable[[], None]) -> float:
    start = time.process_time()
    work()
    return round(time.process_time() - start, 2)


def main() -> None:
    given = options(__doc__, format=FORMATS, events=2_000_000, keys=659_571, rounds=3)
    ours: list[float] = []
    theirs: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        file = make_events(work, "batch", given.events, given.keys, 0, given.format)
        for number in range(given.rounds):
            place = work / str(number)
            place.mkdir()
            reduce, salt = by_recon(file, place)
            theirs.append(cpu_s(partial(by_hand, file, place, salt)))
            ours.append(cpu_s(reduce))
            print(
                f"  round {number + 1}: by hand {theirs[-1]:6.2f} s CPU, reduce {ours[-1]:6.2f}, ratio {ours[-1] / theirs[-1]:.2f}",
                flush=True,
            )
            written = next(place.glob("data/stateless/*/*/artifacts.parquet"))
            if not same_artifacts(written, place / "artifacts.parquet"):
                raise SystemExit("the two did not write the same artifacts; correct the query before you compare")
    ratio = round(statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True)), 2)
    print(f"  {given.format}: median by hand {statistics.median(theirs):.2f}, reduce {statistics.median(ours):.2f}, ratio {ratio}")
    result: dict[str, Any] = {"by hand, CPU s": theirs, "reduce, CPU s": ours, "median ratio": ratio}
    write_figures(given.out, {"sizes": vars(given) | {"out": None}, "duckdb": duckdb.__version__, **result})


if __name__ == "__main__":
    main()
