"""An evaluation of all aggregations: 1,000 configurations and a million files, in CPU seconds and statements.

    python benchmarks/aggregations.py [--configurations 1000] [--files 1000000] [--windows 10] [--sources 1000] [--out FILE.json]

The files are rows of the database, spread evenly over sources and windows; each configuration aggregates a source by window. Measured is
one evaluation of every configuration: by a process that has just begun, and by one that evaluates again and again, as a sensor does;
while nothing is new, while one file is new in each source, and before any aggregation has ever run; and a tick of the sensor, which reads
the definitions, too. Statements are counted as SQLAlchemy
executes them; a configuration may need at most one, beside those for all.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

import recon
from recon.aggregations.definitions.load import Definition
from recon.aggregations.preconditions.evaluate import Evaluator
from recon.aggregations.runs.site import Aggregations
from recon.aggregations.tick import look
from recon.model.windows import name_of

RECON = """
name: many
store: ./store
key: shop
windows: {start: 2026-01-01T00:00Z, every: 1d}
events: {types: {amount: "decimal(18,2)"}}
measures: {total: {sum: amount}}
"""
SOURCE = """
files: "s{number}-{file}.csv"
format: {kind: delimited, delimiter: ",", header: true}
columns: {shop: {}, amount: {type: "decimal(18,2)"}}
"""
DEFINITION = """
source: s{source}
expect: {expect}
least_rows: 1
keys: shop
measures: {{total: {{sum: amount}}}}
target: t{number}
"""
NAMES = 20
"""Files that every other configuration expects by name; the rest expect a number."""
REPEATS = 5
AT = "2026-11-01T00:00:00.000000+00:00"


def site(folder: Path, configurations: int, sources: int, expect: int) -> Aggregations:
    """A site with the configurations' files."""
    for name in ("sources", "aggregations"):
        (folder / name).mkdir()
    (folder / "recon.yaml").write_text(RECON)
    for number in range(sources):
        (folder / "sources" / f"s{number}.yaml").write_text(SOURCE.replace("{number}", str(number)))
    for number in range(configurations):
        names = [f"s{number % sources}-f{one}.csv" for one in range(min(expect, NAMES))]
        text = DEFINITION.format(source=number % sources, number=number, expect=expect if number % 2 else json.dumps(names))
        (folder / "aggregations" / f"a{number}.yaml").write_text(text)
    return Aggregations(recon.open(folder / "recon.yaml").intake("benchmark"))


def windows_of(count: int) -> list[str]:
    first = datetime(2026, 1, 1, tzinfo=UTC)
    return [name_of(first + timedelta(days=day)) for day in range(count)]


def add_files(found: Aggregations, files: int, sources: int, windows: list[str], name: str = "f") -> None:
    """Rows of landed files, source by source in each window."""
    columns = "reconciliation, source, name, series, digest, size, window, state, received_at, rows, kept, landings, landed_at"
    rows = (
        (
            "many",
            f"s{n % sources}",
            f"s{n % sources}-{name}{n // sources // len(windows)}.csv",
            "",
            f"{n:064}",
            1000,
            windows[n // sources % len(windows)],
            "landed",
            AT,
            10,
            10,
            1,
            AT,
        )
        for n in range(files)
    )
    with sqlite3.connect(str(found.intake.database.engine.url.database)) as connection:
        connection.executemany(f"INSERT INTO files ({columns}) VALUES ({', '.join('?' * 13)})", rows)
        connection.execute("ANALYZE")


def complete(found: Aggregations, definitions: list[Definition]) -> int:
    """A completed run of every scope that is due. Returns their number."""
    evaluations = Evaluator(found.intake.database, "many").evaluate(definitions)
    columns = (
        "reconciliation, aggregation, scope, evaluation, attempt, state, lease_until, claimed_at, ended_at, versions, definition, load"
    )
    due = [one for one in evaluations if one.due]
    with sqlite3.connect(str(found.intake.database.engine.url.database)) as connection:
        connection.execute(
            "INSERT INTO aggregation_evaluations (reconciliation, aggregation, scope, at, due, answers, versions, rules) "
            "VALUES ('many', 'a0', 'all', ?, 1, '[]', '', '')",
            [AT],
        )
        rows = (
            (
                "many",
                one.definition.name,
                one.scope,
                1,
                1,
                "completed",
                AT,
                AT,
                AT,
                one.versions,
                "{}",
                one.definition.load_id(one.scope, one.versions),
            )
            for one in due
        )
        connection.executemany(f"INSERT INTO aggregation_runs ({columns}) VALUES ({', '.join('?' * 12)})", rows)
        connection.execute("ANALYZE")
    return len(due)


@contextmanager
def counting(found: Aggregations) -> Iterator[list[str]]:
    """The statements that the block executes."""
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    sa.event.listen(found.intake.database.engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        sa.event.remove(found.intake.database.engine, "before_cursor_execute", note)


def measured(found: Aggregations, evaluate: Callable[[], list[Any]], repeats: int = REPEATS) -> dict[str, Any]:
    """Median CPU seconds of an evaluation, its statements, and its results."""
    seconds, walls = [], []
    for _ in range(repeats):
        with counting(found) as statements:
            begun, wall = time.process_time(), time.perf_counter()
            evaluations = evaluate()
            seconds.append(time.process_time() - begun)
            walls.append(time.perf_counter() - wall)
    due = sum(one.due for one in evaluations)
    return {
        "cpu_s": round(statistics.median(seconds), 3),
        "cpu_s_max": round(max(seconds), 3),
        "wall_s": round(statistics.median(walls), 3),
        "statements": len([text for text in statements if text.startswith("SELECT")]),
        "due": due,
        "waiting": len(evaluations) - due,
    }


def measure(folder: Path, configurations: int, files: int, windows: int, sources: int) -> dict[str, Any]:
    """All states, one after the other."""
    expect = files // sources // windows
    found = site(folder, configurations, sources, expect)
    begun = time.process_time()
    definitions = list(found.definitions().good.values())
    read_cold = time.process_time() - begun
    begun = time.process_time()
    found.definitions()
    read_warm = time.process_time() - begun
    assert len(definitions) == configurations
    names = windows_of(windows)
    add_files(found, files, sources, names)
    database = found.intake.database

    def fresh() -> list[Any]:
        return Evaluator(database, "many").evaluate(definitions)

    kept = Evaluator(database, "many")
    result: dict[str, Any] = {"definitions_read_cpu_s": round(read_cold, 3), "definitions_read_again_cpu_s": round(read_warm, 3)}
    result["never run, a new process"] = measured(found, fresh, 1)
    kept.evaluate(definitions)
    result["never run, again"] = measured(found, lambda: kept.evaluate(definitions))
    result["scopes"] = complete(found, definitions)
    result["nothing new, a new process"] = measured(found, fresh)
    kept = Evaluator(database, "many")
    kept.evaluate(definitions)
    result["nothing new, again"] = measured(found, lambda: kept.evaluate(definitions))
    add_files(found, sources, sources, [names[-1]], "n")
    result["a new file in each source, a new process"] = measured(found, fresh)
    result["a new file in each source"] = measured(found, lambda: kept.evaluate(definitions), 1)
    result["a new file in each source, again"] = measured(found, lambda: kept.evaluate(definitions))
    look(found)
    result["a whole tick"] = measured(found, lambda: list(look(found).due))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configurations", type=int, default=1_000)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--windows", type=int, default=10)
    parser.add_argument("--sources", type=int, default=1_000)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), given.configurations, given.files, given.windows, given.sources)
    machine = {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "cores": os.cpu_count(),
        "processor": platform.machine(),
    }
    shape = {name: getattr(given, name) for name in ("configurations", "files", "windows", "sources")}
    text = json.dumps({"machine": machine, **shape, **result}, indent=2)
    print(text)
    if given.out:
        given.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
