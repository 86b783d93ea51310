"""Every engine comes to what plain Python says: DuckDB with one thread and two, in memory and spilling, Spark; from one file and many."""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import plain_operations
import pytest
from any_operations import LEFT, NAMES, OPERATION, RIGHT, Operation, Rows, carried_out, rows, same, typed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recon.transformations.engines import duckdb as on_duckdb
from recon.transformations.engines.duckdb import DuckDB
from recon.transformations.engines.numbering import numbered
from recon.transformations.engines.spark.cutting import Cut, cut_of
from recon.transformations.engines.views import NAME
from recon.transformations.run import carry_out, read_request

EXAMPLES = int(os.environ.get("RECON_LAW_EXAMPLES", "1"))
QUICK = {
    # A session of seconds pays for no compiling.
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
}
LOCAL = {"master": "local[2]", "slices": 2, "settings": QUICK}


def _comes_to(operations: list[Operation], tables: dict[str, Rows], found: list[Rows]) -> None:
    plain = {"left": typed(tables["left"], LEFT), "right": typed(tables["right"], RIGHT)}
    for operation, written in zip(operations, found, strict=True):
        ((kind, body),) = operation.items()
        expected = plain_operations.OPERATIONS[kind](plain, {"table": "left", **NAMES, **body})
        assert len(written) == len(expected), (operation, written, expected)
        for one, row in zip(written, expected, strict=True):
            assert list(one) == list(row), operation
            assert all(same(one[name], value) for name, value in row.items()), (operation, one, row)


TABLES = st.fixed_dictionaries({"left": rows(LEFT).filter(bool), "right": rows(RIGHT).filter(bool)})


OPENED = on_duckdb.opened


def _full(spill: str, memory_limit: str, threads: int) -> duckdb.DuckDBPyConnection:
    """A session whose memory is full from the start, so that what it stores goes to disk, and whose joins, groups and sorts work as if
    their rows did not fit."""
    connection = OPENED(spill, memory_limit, threads)
    connection.execute("SET debug_force_external = true")
    connection.execute("CREATE TEMP TABLE ballast AS SELECT hash(range) AS h FROM range(6_000_000)")
    spilled = connection.execute("SELECT sum(size) FROM duckdb_temporary_files()").fetchall()[0][0]
    assert spilled > 0, "6,000,000 hashes are more than 40 MB"
    return connection


@settings(max_examples=4 * EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(OPERATION, min_size=1, max_size=6), TABLES, st.integers(1, 3), st.sampled_from([1, 2]), st.booleans())
def test_duckdb_with_one_thread_or_two_from_one_file_or_many_with_and_without_spilling(
    operations: list[Operation], tables: dict[str, Rows], files: int, threads: int, full: bool
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "cpu_count", lambda: threads)
        if full:
            patched.setattr(on_duckdb, "opened", _full)
        _comes_to(operations, tables, carried_out(operations, tables, files, memory_limit="40MB"))


@settings(max_examples=max(2, EXAMPLES // 25), deadline=None, suppress_health_check=list(HealthCheck), derandomize=EXAMPLES == 1)
@given(st.lists(OPERATION, min_size=6, max_size=6), TABLES, st.integers(1, 3))
def test_spark_from_one_file_or_many(operations: list[Operation], tables: dict[str, Rows], files: int) -> None:
    _comes_to(operations, tables, carried_out(operations, tables, files, engine="spark", spark=LOCAL))


def test_spark_comes_to_the_certificate_and_the_files_that_duckdb_comes_to(tmp_path: Path) -> None:
    (tmp_path / "sales").mkdir()
    for place in range(2):
        rows = [f"a{row % 5},{['North', 'south'][row % 2]},{row * 7 % 13}.{row % 10}0" for row in range(place * 9, place * 9 + 9)]
        (tmp_path / "sales" / f"{place}.csv").write_text("\n".join(["item,region,amount", *rows, "A1,North,x", ""]))
    (tmp_path / "items.csv").write_text("item,name\nA1,Apple\na3,Cherry\na1,Apple again\n")
    operations = [
        {"vlookup": {"table": "sales", "in": "items", "key": "item", "take": ["name"]}},
        {"compute": {"table": "sales", "set": {"third": "=ROUND([@amount]/3, 2)"}}},
        {"sort": {"table": "sales", "by": ["region", {"column": "third", "descending": True}]}},
        {"group": {"table": "sales", "by": "name", "values": {"mean": {"average": "third"}}, "as": "means"}},
    ]
    inputs = {"sales": {"path": "sales", "types": {"amount": "decimal(9,2)"}}, "items": {"path": "items.csv"}}
    request = {"inputs": inputs, "operations": operations, "spark": LOCAL}
    outputs = [{"table": name, "path": f"{name}.csv"} for name in ("sales", "means")]
    found = []
    for engine in ("duckdb", "spark"):
        (tmp_path / "request.json").write_text(json.dumps({**request, "engine": engine, "outputs": outputs}))
        certificate = carry_out(read_request(tmp_path / "request.json"))
        assert certificate.pop("engine") == engine
        certificate.pop("request")
        found.append((certificate, [(tmp_path / output["path"]).read_text() for output in outputs]))
    assert found[0] == found[1]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["items.csv", "means.csv", "request.json", "sales", "sales.csv"]


WIDE = [
    {"vlookup": {"table": "sales", "in": "items", "key": "item", "take": ["name"], "match": "item"}},
    {"compute": {"table": "sales", "set": {"net": "=ROUND([@amount]/7, 2)", "label": '=UPPER([@item])&"-"&[@note]'}}},
    {"running_total": {"table": "sales", "to": "so_far", "of": "net", "by": "item"}},
    {"sort": {"table": "sales", "by": ["label", {"column": "net", "descending": True}]}},
    {"group": {"table": "sales", "by": "note", "values": {"net": {"sum": "net"}}, "as": "totals"}},
]


@contextmanager
def _watched(folder: Path) -> Iterator[set[str]]:
    """The names of DuckDB's temporary files that are in a folder at some moment of the block."""
    seen, over = set[str](), threading.Event()

    def watch() -> None:
        while not over.wait(0.005):
            seen.update(path.name for path in folder.rglob("duckdb_temp_*"))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def test_spilling_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "sales.csv").open("w") as file:
        file.write("item,amount,note\n")
        file.writelines(f"item {row * 7919 % 40_009},{row % 9999}.{row % 100:02},note {row * 31 % 50_021:030}\n" for row in range(60_000))
    (tmp_path / "items.csv").write_text("item,name\n" + "".join(f"ITEM {row},name {row:040}\n" for row in range(30_000)))
    inputs = {"sales": {"path": "sales.csv", "types": {"amount": "decimal(9,2)"}}, "items": {"path": "items.csv"}}
    outputs = [{"table": name, "path": f"out-{name}.csv"} for name in ("sales", "totals")]
    (scratch := tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    spilled, found = [], []
    for memory in ("32MB", "2GB"):
        (tmp_path / "request.json").write_text(
            json.dumps({"inputs": inputs, "operations": WIDE, "outputs": outputs, "memory_limit": memory})
        )
        with _watched(scratch) as seen:
            certificate = carry_out(read_request(tmp_path / "request.json"))
        spilled.append(len(seen))
        found.append([certificate["operations"], *((tmp_path / output["path"]).read_text() for output in outputs)])
    assert found[0] == found[1]
    assert spilled[0] > 0 == spilled[-1]


PARTS = 3
Make = Callable[[DuckDB, str, str, bool], None]


class _InParts:
    """Makes relations as DuckDB does, and carries out each SELECT on parts of the relations as well, as Spark's tasks would."""

    def __init__(self, make: Make) -> None:
        self.make, self.cuts = make, Counter[str]()
        self.known: set[str] = set()

    def __call__(self, engine: DuckDB, relation: str, select: str, stored: bool) -> None:
        found = numbered(select)
        self._compared(engine, select if found is None else found.select)
        self.make(engine, relation, select, stored)
        self.known.add(relation)

    def _compared(self, engine: DuckDB, select: str) -> None:
        names = self.known & set(NAME.findall(select))
        cut = cut_of(select, names)
        self.cuts[cut.kind] += 1
        if cut.kind == "whole" or not names:
            return
        whole = Counter(map(repr, engine.query(select)))
        parts = Counter[str]()
        for part in range(PARTS):
            with duckdb.connect() as task:
                for name in names:
                    rows = f"SELECT * FROM {name} WHERE {part if name == cut.beside else self._part(engine, name, cut)} % {PARTS} = {part}"
                    task.register(
                        f"arrow_{name}",
                        engine._running(lambda rows=rows: engine._connection.sql(engine._views.over(rows)).to_arrow_table()),
                    )
                    task.execute(f"CREATE TABLE {name} AS SELECT * FROM arrow_{name}")
                parts += Counter(map(repr, task.execute(select).fetchall()))
        assert parts == whole, (cut, select)

    def _part(self, engine: DuckDB, name: str, cut: Cut) -> str:
        if cut.kind == "rows":
            return f"hash({name})"
        keys = cut.keys[name]
        if cut.nulls_meet:
            return f"hash({', '.join(keys)})"
        return f"CASE WHEN {' OR '.join(f'({key}) IS NULL' for key in keys)} THEN hash({name}) ELSE hash({', '.join(keys)}) END"


@settings(max_examples=4 * EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(OPERATION, min_size=1, max_size=6), TABLES)
def test_what_can_be_cut_comes_to_the_same_in_parts(operations: list[Operation], tables: dict[str, Rows]) -> None:
    with pytest.MonkeyPatch.context() as patched:
        check = _InParts(DuckDB.make)
        patched.setattr(DuckDB, "late", False)  # the statements that Spark gets
        patched.setattr(DuckDB, "make", lambda engine, relation, select, stored: check(engine, relation, select, stored))
        _comes_to(operations, tables, carried_out(operations, tables))
    assert check.cuts["rows"] > 0


@pytest.mark.parametrize(
    ("select", "cut"),
    [
        ("SELECT n, a || 'x' AS b FROM (SELECT *, CAST(x AS DECIMAL(38,10)) // 3 AS t0 FROM r1)", Cut("rows")),
        ("SELECT n, a FROM r1 UNION ALL SELECT n, a FROM r2", Cut("rows")),
        ("SELECT lower(m) AS k, arg_min({'v': c}, n) AS f FROM r1 WHERE m IS NOT NULL GROUP BY 1", Cut("keys", {"r1": ["LOWER(m)"]})),
        ("SELECT t.n, l.f.v FROM r1 t LEFT JOIN r2 l ON lower(t.a) = l.k", Cut("keys", {"r1": ["LOWER(a)"], "r2": ["k"]}, False)),
        ("SELECT t.n, l.v FROM r1 t LEFT JOIN r2 l ON t.a IS NOT DISTINCT FROM l.k", Cut("keys", {"r1": ["a"], "r2": ["k"]})),
        ("SELECT l.n FROM r1 l WHERE NOT EXISTS (SELECT 1 FROM r2 r WHERE l.k = r.k)", Cut("keys", {"r1": ["k"], "r2": ["k"]}, False)),
        ("SELECT n FROM r1 WHERE n IN (SELECT min(n) FROM r1 GROUP BY lower(k))", Cut("keys", {"r1": ["LOWER(k)"]})),
        (
            "SELECT n, rank() OVER (PARTITION BY k ORDER BY a), lag(a) OVER (PARTITION BY a, k ORDER BY n) FROM r1",
            Cut("keys", {"r1": ["k"]}),
        ),
        ("SELECT t.n, a.v FROM r1 t LEFT JOIN r2 a ON true", Cut("rows", beside="r2")),
        ("SELECT t.n, a.v FROM r1 t RIGHT JOIN r2 a ON true", Cut("whole")),
        ("SELECT t.n, sum(a.v) FROM r1 t LEFT JOIN r2 a ON true", Cut("whole")),
        ("SELECT n, sum(a) OVER (ORDER BY n) FROM r1", Cut("whole")),
        ("SELECT n, rank() OVER (PARTITION BY k ORDER BY a), lag(a) OVER (PARTITION BY a ORDER BY n) FROM r1", Cut("whole")),
        ("SELECT count(*) FROM r1", Cut("whole")),
        ("SELECT kurtosis(a), entropy(a) FROM r1", Cut("whole")),
        ("SELECT n FROM r1 ORDER BY n LIMIT 3", Cut("whole")),
        ("SELECT DISTINCT lower(t.a) FROM r1 t", Cut("keys", {"r1": ["LOWER(a)"]})),
        ("SELECT t.n FROM r1 t LEFT JOIN r2 l ON t.a < l.k", Cut("whole")),
        ("SELECT t.n FROM r1 t JOIN r1 l ON t.a = l.k", Cut("whole")),
        ("SELECT n FROM r1 WHERE a IN (SELECT min(a) FROM r1 GROUP BY k)", Cut("whole")),
        ("SELECT k, sum(a) FROM r1 GROUP BY GROUPING SETS ((k), ())", Cut("whole")),
        ('SELECT k, "0_v" AS c FROM r1 PIVOT (min(v) AS v FOR i IN (0, 1) GROUP BY k, l)', Cut("keys", {"r1": ["k", "l"]})),
        ('SELECT "0_v" AS c FROM r1 PIVOT (min(v) AS v FOR i IN (0, 1))', Cut("whole")),
        ('SELECT sum("0_v") AS c FROM r1 PIVOT (min(v) AS v FOR i IN (0, 1) GROUP BY k)', Cut("whole")),
        ("this is no SELECT", Cut("whole")),
    ],
)
def test_how_a_select_is_cut(select: str, cut: Cut) -> None:
    assert cut_of(select, {"r1", "r2"}) == cut


def test_a_number_among_all_rows_is_taken_out_of_its_select() -> None:
    found: Any = numbered(
        "SELECT a AS b, row_number() OVER (ORDER BY lower(a) DESC NULLS LAST, concat(b, ', ('), n) AS n FROM (SELECT 1, 2)"
    )
    assert found.select == "SELECT lower(a) AS o0, concat(b, ', (') AS o1, n AS o2, a AS b FROM (SELECT 1, 2)"
    assert (found.order, found.name, found.place) == (((True, False), (False, False), (False, False)), "n", 1)
    assert numbered("SELECT row_number() OVER (PARTITION BY a ORDER BY n) AS n FROM r1") is None
    assert numbered("SELECT row_number() OVER (ORDER BY n) AS n FROM r1 UNION ALL SELECT 1 FROM r2") is None
