"""join, append, cast, split, limit, top, sample, share and what a group can be: their borders, and what is refused."""

from __future__ import annotations

import csv
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from small_requests import carried, request

from recon.errors import WrongInput, WrongUsage
from recon.transformations.engines.duckdb import DuckDB
from recon.transformations.request.model import KINDS
from recon.transformations.run import carry_out, read_request

BANK = "day,text,amount\n2026-11-01,SEPA/ACME Ltd/Invoice 7/late,10.50\n2026-11-02,FEE,-1.25\n2026-11-02,,0.75\n"
TYPES = {"bank": {"day": "date", "amount": "decimal(9,2)"}}


def done(folder: Path, *operations: dict[str, Any]) -> list[dict[str, str]]:
    given: list[dict[str, Any]] = [{kind: {"table": "bank", **body}} for one in operations for kind, body in one.items()]
    return carried(folder, {"bank": BANK}, TYPES, *given, out="bank")[0]


def test_a_bank_text_is_split_into_columns_the_last_of_which_has_the_rest(tmp_path: Path) -> None:
    rows = done(tmp_path, {"split": {"column": "text", "by": "/", "into": ["kind", "name", "note"]}})
    assert [(row["kind"], row["name"], row["note"]) for row in rows] == [
        ("SEPA", "ACME Ltd", "Invoice 7/late"),
        ("FEE", "", ""),
        ("", "", ""),
    ]


def test_a_text_is_split_into_rows_that_repeat_the_other_columns(tmp_path: Path) -> None:
    rows = done(tmp_path, {"split": {"column": "text", "by": "/", "rows": True}})
    assert [(row["text"], row["amount"]) for row in rows[:4]] == [(text, "10.50") for text in ("SEPA", "ACME Ltd", "Invoice 7", "late")]
    assert len(rows) == 6
    many = {"bank": "day,text\n1," + "a" * 10_001 + "\n"}
    with pytest.raises(WrongInput, match="a text of 'text' has 10,002 parts, at most 10,000"):
        carried(tmp_path, many, {}, {"split": {"table": "bank", "column": "text", "by": "a", "rows": True}}, out="bank")


def test_a_cast_never_rounds(tmp_path: Path) -> None:
    rows = done(tmp_path, {"cast": {"columns": {"amount": "decimal(9,1)", "text": "integer", "day": "text"}}})
    assert [row["amount"] for row in rows] == ["10.5", "#NUM!", "#NUM!"]
    assert [row["text"] for row in rows] == ["#VALUE!", "#VALUE!", ""]
    assert [row["day"] for row in rows] == ["2026-11-01", "2026-11-02", "2026-11-02"]


def test_the_share_of_a_total_has_ten_digits_and_the_middle_of_two_values_is_exact(tmp_path: Path) -> None:
    rows = done(tmp_path, {"share": {"of": "amount", "to": "part"}})
    assert [row["part"] for row in rows] == ["1.0500000000", "-0.1250000000", "0.0750000000"]
    rows = done(tmp_path, {"share": {"of": "amount", "to": "part", "by": "day"}})
    assert [row["part"] for row in rows] == ["1.0000000000", "2.5000000000", "-1.5000000000"]
    rows = done(tmp_path, {"group": {"by": "day", "values": {"m": {"median": "amount"}, "last": {"last": "text"}}}})
    assert [(row["m"], row["last"]) for row in rows] == [("10.500", "SEPA/ACME Ltd/Invoice 7/late"), ("-0.250", "FEE")]


def test_what_looks_at_other_rows_of_a_wide_table_gives_the_same(tmp_path: Path) -> None:
    wide = "a,b,c,d,e,f,g,h,i,v\n" + "0,1,2,3,4,5,6,7,8,3\n" + "0,1,2,3,4,5,6,7,8,1\n"
    operations: list[dict[str, Any]] = [{"share": {"table": "t", "of": "v", "to": "x"}}, {"lead": {"table": "t", "of": "x", "to": "y"}}]
    rows, _ = carried(tmp_path, {"t": wide}, {"t": {"v": "integer"}}, *operations, out="t")
    assert [(row["x"], row["y"]) for row in rows] == [("0.7500000000", "0.2500000000"), ("0.2500000000", "")]


def test_a_sample_is_the_same_for_a_seed_and_about_as_large_as_its_share(tmp_path: Path) -> None:
    tables = {"t": "k\n" + "".join(f"{at}\n" for at in range(5000))}

    def taken(**body: Any) -> list[int]:
        rows, _ = carried(tmp_path, tables, {}, {"sample": {"table": "t", **body}}, out="t")
        return [int(row["k"]) for row in rows]

    tenth = taken(seed=7, share="0.1")
    assert 400 < len(tenth) < 600
    assert tenth == sorted(tenth) == taken(seed=7, share="0.1") != taken(seed=8, share="0.1")
    assert len(taken(seed=7, rows=50)) == 50 == len(set(taken(seed=7, rows=50)) & set(tenth))


def test_a_pivot_with_too_many_values_is_refused_with_their_count(tmp_path: Path) -> None:
    tables = {"t": "g,k,v\n" + "".join(f"a,{at},1\n" for at in range(16_003))}
    operation = {"pivot": {"table": "t", "rows": "g", "columns": "k", "values": {"n": {"count": "v"}}}}
    with pytest.raises(WrongInput, match=r"operation 1 \(pivot\): 'k' has 16,003 values; a pivot has a column for each of at most 16,000"):
        carried(tmp_path, tables, {}, operation, out="t")


@pytest.mark.parametrize(("memory", "count"), [("2GB", 500), ("420MB", 3_000)])
def test_a_wide_pivot_is_the_plain_one_also_where_the_memory_is_enough_for_one_thread_only(tmp_path: Path, memory: str, count: int) -> None:
    cells = {(row, at): Decimal(row * at % 1000 - 300) / 100 for row in range(7) for at in range(count) if (row + at) % 5}
    texts = {cell: "x" if cell == (3, count - 1) else str(amount) for cell, amount in cells.items()}
    (tmp_path / "t.csv").write_text("g,k,a\n" + "".join(f"g{row},k{at:04},{text}\n" for (row, at), text in texts.items()))
    values = {"total": {"sum": "a"}, "n": {"count": "g"}, "mean": {"average": "a"}} if memory == "2GB" else {"total": {"sum": "a"}}
    pivot = {"pivot": {"table": "t", "rows": "g", "columns": "k", "values": values}}
    inputs = {"t": {"path": "t.csv", "types": {"a": "decimal(18,2)"}}}
    body = {"inputs": inputs, "operations": [pivot], "outputs": [{"table": "t", "path": "out.csv"}], "memory_limit": memory}
    (tmp_path / "request.json").write_text(json.dumps(body))
    certificate = carry_out(read_request(tmp_path / "request.json"))
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    total = "k{:04}" if len(values) == 1 else "k{:04} total"
    for row, found in enumerate(rows):
        for at in range(count):
            wrong = texts.get((row, at)) == "x"
            assert found[total.format(at)] == ("#VALUE!" if wrong else f"{cells.get((row, at), 0):.2f}")
            if len(values) == 3:
                assert found[f"k{at:04} n"] == str(int((row, at) in cells))
                expected = "#VALUE!" if wrong else "#DIV/0!" if (row, at) not in cells else None
                assert found[f"k{at:04} mean"] == expected or (expected is None and Decimal(found[f"k{at:04} mean"]) == cells[row, at])
    assert certificate["outputs"][0]["errors"][total.format(count - 1)] == {"#VALUE!": {"count": 1, "first_row": 4}}


def test_rows_that_are_too_wide_to_be_sorted_are_refused_with_what_to_do(tmp_path: Path) -> None:
    columns = ", ".join(f"CAST(i AS VARCHAR) AS c{at}" for at in range(16_400))
    with DuckDB.session(tmp_path, "2GB") as engine, pytest.raises(WrongInput, match=r"too many columns to be sorted.*select fewer columns"):
        engine.run(f"SELECT {columns} FROM range(3) t(i) ORDER BY i DESC")


def test_a_pivot_that_is_too_wide_for_the_memory_is_refused_before_it_is_made(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("g,k,a\n" + "".join(f"g,{number},1.00\n" for number in range(2_000)))
    inputs = {"t": {"path": "t.csv", "types": {"a": "decimal(18,2)"}}}
    pivot = {"pivot": {"table": "t", "rows": "g", "columns": "k", "values": {"n": {"sum": "a"}}}}
    body = {"inputs": inputs, "operations": [pivot], "outputs": [{"table": "t", "path": "out.csv"}], "memory_limit": "120MB"}
    (tmp_path / "request.json").write_text(json.dumps(body))
    told = "the pivot has 2,000 columns, which need about 328MB of memory at once, and memory_limit is 120MB; write memory_limit: 328MB in"
    with pytest.raises(WrongInput, match=told):
        carry_out(read_request(tmp_path / "request.json"))
    assert not (tmp_path / "out.csv").exists()


def test_a_pivot_has_a_column_for_each_value_and_each_aggregate_and_totals_of_both(tmp_path: Path) -> None:
    table = "region,month,amount\nNorth,1,1.00\nSouth,2,2.00\nnorth,2,4.00\n"
    values = {"sum": {"sum": "amount"}, "n": {"count": "amount"}}
    operation = {"pivot": {"table": "t", "rows": "region", "columns": "month", "values": values, "totals": True}}
    rows, _ = carried(tmp_path, {"t": table}, {"t": {"amount": "decimal(9,2)"}}, operation, out="t")
    assert list(rows[0]) == ["region", "1 sum", "1 n", "2 sum", "2 n", "Total sum", "Total n"]
    assert [list(row.values()) for row in rows] == [
        ["North", "1.00", "1", "4.00", "1", "5.00", "2"],
        ["South", "0.00", "0", "2.00", "1", "2.00", "1"],
        ["Total", "1.00", "1", "6.00", "2", "7.00", "3"],
    ]


def test_no_table_can_be_made_of_one_that_comes_after_it(tmp_path: Path) -> None:
    first = {"join": {"table": "bank", "with": "later", "on": "day", "as": "both"}}
    second = {"filter": {"table": "both", "criteria": {"day": "<>"}, "as": "later"}}
    with pytest.raises(WrongUsage, match="there is no table 'later' before it; there are bank"):
        read_request(request(tmp_path, {"bank": BANK}, TYPES, first, second, out="later"))


@pytest.mark.parametrize(
    ("operation", "told"),
    [
        ({"split": {"column": "text", "by": "/"}}, "name the columns of the parts in into, or write rows: true"),
        ({"split": {"column": "amount", "by": ".", "into": "a"}}, "only texts have parts, and 'amount' is decimal.9,2.; cast it to text"),
        ({"split": {"column": "text", "by": "/", "into": ["a", "A"]}}, "column 'A' is in 'bank' already"),
        ({"cast": {"columns": {"amount": "float"}}}, "float does not hold money exactly"),
        ({"cast": {"columns": {"amount": "date"}}}, "cast leads from decimal.9,2. to decimal, integer, text, not to date|leads from"),
        ({"sample": {"seed": 1}}, "say how many: rows: 1000, or share"),
        ({"sample": {"seed": 1, "share": "1.5"}}, "share"),
        ({"limit": {"rows": 0}}, "rows"),
        ({"share": {"of": "text", "to": "x"}}, "a share needs numbers, and 'text' is text"),
        ({"group": {"by": "day", "values": {"m": {"median": "text"}}}}, "median needs numbers, and 'text' is text"),
        ({"join": {"with": "bank", "on": "day", "how": "outer"}}, "how"),
    ],
)
def test_an_operation_that_cannot_be_is_refused_before_anything_is_read(tmp_path: Path, operation: dict[str, Any], told: str) -> None:
    ((kind, body),) = operation.items()
    assert kind in KINDS
    with pytest.raises(WrongUsage, match=told):
        read_request(request(tmp_path, {"bank": BANK}, TYPES, {kind: {"table": "bank", **body}}, out="bank"))
