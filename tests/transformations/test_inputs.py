"""Inputs of one file or of many, and Parquet files that are read where they are."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recon.errors import WrongInput, WrongUsage
from recon.transformations.engines.duckdb import DuckDB
from recon.transformations.run import carry_out, read_request

ROWS = ["A1,10.50", "A2,x", "A3,", "A4,2.25", "A5,3.00"]
TYPES = {"amount": "decimal(18,2)"}


def done(
    folder: Path, path: str, operations: list[dict[str, Any]] | None = None, types: dict[str, str] = TYPES
) -> tuple[str, dict[str, Any]]:
    """The output and the certificate of a request over one input."""
    request = {"inputs": {"sales": {"path": path, "types": types}}, "operations": operations or []}
    (folder / "request.json").write_text(json.dumps({**request, "outputs": [{"table": "sales", "path": "out/of.csv"}]}))
    certificate = carry_out(read_request(folder / "request.json"))
    return (folder / "out" / "of.csv").read_text(), certificate


def written(folder: Path, name: str, rows: list[str]) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("\n".join(["item,amount", *rows]) + "\n")


@pytest.mark.parametrize("path", ["parts", "parts/sales-*.csv"])
def test_many_files_are_one_table_in_order_of_their_names(tmp_path: Path, path: str) -> None:
    written(tmp_path, "one.csv", ROWS)
    for name, rows in (("sales-2.csv", ROWS[2:4]), ("sales-1.csv", ROWS[:2]), ("sales-3.csv", ROWS[4:]), ("_SUCCESS", [])):
        written(tmp_path, f"parts/{name}", rows)
    operations = [{"number_rows": {"table": "sales", "to": "row"}}]
    expected, _ = done(tmp_path, "one.csv", operations)
    found, certificate = done(tmp_path, path, operations)
    assert found == expected
    (given,) = certificate["inputs"]
    assert (given["rows"], given["sums"]) == (5, {"amount": "15.75"})
    assert [one["file"] for one in given["files"]] == [f"parts/sales-{number}.csv" for number in (1, 2, 3)]


def test_files_of_one_input_have_the_same_columns(tmp_path: Path) -> None:
    written(tmp_path, "parts/1.csv", ROWS)
    (tmp_path / "parts" / "2.csv").write_text("item,total\nA1,3\n")
    with pytest.raises(WrongInput, match=r"input sales: 2\.csv has no column 'amount', which 1\.csv has"):
        done(tmp_path, "parts")
    with pytest.raises(WrongUsage, match=r"input sales: .*none-\*\.csv: no file in .* has such a name"):
        done(tmp_path, "none-*.csv")


def test_a_row_that_cannot_be_read_is_named_with_its_file(tmp_path: Path) -> None:
    written(tmp_path, "parts/1.csv", ROWS)
    written(tmp_path, "parts/2.csv", ["A6,1.00", "A7"])
    with pytest.raises(WrongInput, match=r"input sales: 2\.csv: line 3: "):
        done(tmp_path, "parts")


def test_parquet_of_the_tables_types_comes_to_what_csv_comes_to(tmp_path: Path) -> None:
    days = [date(2026, 11, 1), None, date(2026, 12, 24)]
    columns = {
        "item": pa.array(["a", "", None]),
        "amount": pa.array([Decimal("1.50"), None, Decimal("-2.25")], pa.decimal128(9, 2)),
        "qty": pa.array([1, 2, None], pa.int32()),
        "due": pa.array(days, pa.date32()),
        "open": pa.array([True, None, False]),
    }
    types = {"amount": "decimal(18,3)", "qty": "integer", "due": "date", "open": "boolean"}
    pq.write_table(pa.table(columns), tmp_path / "sales.parquet")
    (tmp_path / "sales.csv").write_text("item,amount,qty,due,open\na,1.50,1,2026-11-01,true\n,,2,,\n,-2.25,,2026-12-24,false\n")
    assert done(tmp_path, "sales.parquet", types=types)[0] == done(tmp_path, "sales.csv", types=types)[0]
    narrow = {**types, "amount": "decimal(3,1)"}
    assert done(tmp_path, "sales.parquet", types=narrow)[0] == done(tmp_path, "sales.csv", types=narrow)[0]


def test_a_file_that_changes_while_it_is_read_is_refused_and_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, "one.csv", ROWS)
    table = pa.table({"item": ["a", "b"]})
    pq.write_table(table, tmp_path / "one.parquet")
    changes = {
        "one.csv": lambda: written(tmp_path, "one.csv", ROWS[1:]),
        "one.parquet": lambda: pq.write_table(table[:1], tmp_path / "one.parquet"),
    }
    write = DuckDB.copy
    for path, change in changes.items():
        monkeypatch.setattr(DuckDB, "copy", lambda *given, change=change: (write(*given), change()))
        with pytest.raises(WrongInput, match=rf"input sales: {path} changed while it was read; nothing was written"):
            done(tmp_path, path, types={})
        assert list((tmp_path / "out").iterdir()) == []
