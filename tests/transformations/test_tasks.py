"""What Spark's tasks do, without Spark: statements over the rows that they get, files that they read, numbers that go on."""

from __future__ import annotations

import pickle
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa

from recon.transformations.engines.spark.tasks import DELETED, DIGEST, LAST, PART, Numbering, Reading, Step
from recon.transformations.inputs.files import Scratch
from recon.transformations.inputs.opening import Places, opened_at
from recon.transformations.request.inputs import Input

RESULT = pa.schema([("n", pa.int64()), ("s", pa.decimal128(38, 2))])


def rows(found: Any) -> list[dict[str, Any]]:
    return [row for batch in found for row in batch.to_pylist()]


def test_a_statement_over_the_rows_of_one_relation_and_again_in_the_same_process() -> None:
    batch = pa.record_batch([pa.array([1, 2, 3]), pa.array(["a", "A", "b"])], names=["n", "k"])
    select = "SELECT min(n) AS n, sum(CAST(n AS DECIMAL(18,2))) AS s FROM r1 GROUP BY lower(k)"
    step = Step(select, (("r1", "n BIGINT, k VARCHAR"),), RESULT, "64MB")
    for _ in range(2):
        found = sorted(rows(step(iter([batch]))), key=lambda row: row["n"])
        assert found == [{"n": 1, "s": Decimal("3.00")}, {"n": 3, "s": Decimal("3.00")}]
    assert rows(step(iter([]))) == []


def test_a_statement_over_two_relations_whose_rows_arrive_together() -> None:
    kind = pa.struct([("n", pa.int64()), ("k", pa.string())])
    sides, one = pa.array([0, 1, 1], pa.int32()), pa.array([{"n": 1, "k": "a"}, None, None], kind)
    two = pa.array([None, {"n": 5, "k": "a"}, {"n": 6, "k": "b"}], kind)
    select = "SELECT t.n, CAST(l.n AS DECIMAL(38,2)) AS s FROM r1 t JOIN r2 l ON t.k = l.k"
    step = Step(select, (("r1", "n BIGINT, k VARCHAR"), ("r2", "n BIGINT, k VARCHAR")), RESULT, "64MB")
    assert rows(step(iter([pa.record_batch([sides, one, two], names=["side", "s0", "s1"])]))) == [{"n": 1, "s": Decimal("5.00")}]


def test_a_statement_over_some_rows_and_all_rows_of_a_small_relation() -> None:
    few = pa.record_batch([pa.array([Decimal("7.50")], pa.decimal128(38, 2))], names=["v"])
    select = "SELECT t.n, a.v AS s FROM r1 t LEFT JOIN r0 a ON true"
    step = Step(select, (("r1", "n BIGINT"),), RESULT, "64MB", ("r0", "v DECIMAL(38,2)", (few,)))
    step = pickle.loads(pickle.dumps(step))  # as Spark sends it
    for numbers in ([1, 2], [3]):
        found = rows(step(iter([pa.record_batch([pa.array(numbers)], names=["n"])])))
        assert sorted(row["n"] for row in found) == numbers
        assert {row["s"] for row in found} == {Decimal("7.50")}
    assert rows(Step(select, (("r1", "n BIGINT"),), RESULT, "64MB", ("r0", "v DECIMAL(38,2)", ()))(iter([]))) == []


def test_numbers_go_on_behind_the_partitions_before() -> None:
    batch = pa.record_batch([pa.array(["x", "y"]), pa.array([1, 1], pa.int32())], names=["a", "placed"])
    assert rows(Numbering([0, 10], 1, "n")(iter([batch]))) == [{"a": "x", "n": 11}, {"a": "y", "n": 12}]


def test_files_are_read_each_with_its_last_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("k,v\na,1\n,x\n")
    (tmp_path / "b.csv").write_text("k,v\nc,3\n")
    given = Input.model_validate({"path": ["a.csv", "b.csv"], "types": {"v": "integer"}})
    opened = opened_at({"s": given}, Places(tmp_path, Scratch()))["s"]
    names = ["n", *(sql for column in opened.columns for sql in column.sql)]
    kinds = [pa.int64(), pa.string(), pa.int64(), pa.int8()]
    schema = pa.schema(
        [*zip(names, kinds, strict=True), (PART, pa.int32()), (LAST, pa.int64()), (DELETED, pa.int64()), (DIGEST, pa.string())]
    )
    found = rows(Reading(opened, schema, "64MB")(iter([pa.record_batch([pa.array([0, 1])], names=["id"])])))
    values = [tuple(row[name] for name in names) for row in found if row["n"] is not None]
    assert values == [(2, "a", 1, None), (3, None, None, 3), (2, "c", 3, None)]
    assert [(row[PART], row[LAST], row[DELETED]) for row in found if row["n"] is None] == [(0, 3, 0), (1, 2, 0)]
