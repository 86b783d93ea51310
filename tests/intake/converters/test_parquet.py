"""Parquet: exact text of every column."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from converted import convert

from recon.config.settings import Limits
from recon.errors import WrongInput


def parquet(folder: Path, columns: dict[str, Any]) -> bytes:
    pq.write_table(pa.table(columns), folder / "written")
    return (folder / "written").read_bytes()


def test_values_are_their_exact_text(tmp_path: Path) -> None:
    content = parquet(
        tmp_path,
        {
            "id": pa.array([5678901234567.0, None, 0.1], pa.float64()),
            "amount": pa.array([Decimal("1.10"), None, Decimal("-0.05")], pa.decimal128(18, 2)),
            "day": pa.array([date(2026, 11, 1), None, None]),
            "at": pa.array([datetime(2026, 11, 1, 9, 30, tzinfo=UTC), None, None], pa.timestamp("us", "UTC")),
            "tags": pa.array([["a"], None, []]),
        },
    )
    found = convert(tmp_path, content, "parquet", ["id"])
    assert found.good == [
        ("5678901234567", "1.10", "2026-11-01", "2026-11-01 09:30:00.000000Z", '["a"]'),
        (None, None, None, None, None),
        ("0.1", "-0.05", None, None, "[]"),
    ]
    assert [row.line for row in found.rows] == [1, 2, 3]


def test_bytes_that_are_not_utf8_are_a_problem_of_their_row(tmp_path: Path) -> None:
    found = convert(tmp_path, parquet(tmp_path, {"k": pa.array([b"\xff", b"a"])}), "parquet")
    assert (found.good, found.problems) == ([("a",)], {1: "bytes that are not UTF-8"})


@pytest.mark.parametrize(
    ("columns", "declared", "limits", "says"),
    [
        ({"k": ["a"]}, ["v"], {}, "received: the schema has no column 'v'; it has: k"),
        ({"k": [["a"]]}, ["k"], {}, "received: column 'k' is a list"),
        ({"k": ["a", "b"]}, None, {"rows": 1}, "received: it has 2 rows, at most 1"),
    ],
)
def test_what_can_not_be_read_exactly_is_refused(tmp_path: Path, columns: Any, declared: Any, limits: Any, says: str) -> None:
    with pytest.raises(WrongInput, match=says):
        convert(tmp_path, parquet(tmp_path, columns), "parquet", declared, Limits.model_validate(limits))


@pytest.mark.parametrize(("cut", "says"), [(0, "the file is empty"), (-4, "not a whole Parquet file")])
def test_a_damaged_file_is_refused(tmp_path: Path, cut: int, says: str) -> None:
    with pytest.raises(WrongInput, match=f"received: {says}"):
        convert(tmp_path, parquet(tmp_path, {"k": ["a"]})[:cut], "parquet")
