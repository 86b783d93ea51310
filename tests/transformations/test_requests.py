"""Requests from files to files: each operation, its mistakes by number and column, and the certificate."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from cli_calls import Call

from recon.errors import WrongInput, WrongUsage
from recon.transformations.run import carry_out, read_request

SALES = """\
item,region,amount,qty,due
A1,North,10.50,2,2026-11-01
a2,South,3.005,0,2026-12-24
A9,North,x,1,
A1,South,-7.25,3,2026-11-30
,North,1.00,4,2026-11-29
"""
ITEMS = "item,name,price\na1,Apple,1.25\nA2,Banana,0.5\nA1,Apple again,9.99\n"
INPUTS: dict[str, Any] = {
    "sales": {"path": "sales.csv", "types": {"amount": "decimal(18,3)", "qty": "integer", "due": "date"}},
    "items": {"path": "items.csv", "types": {"price": "decimal(10,2)"}},
}
LOOKUP = {"table": "sales", "in": "items", "key": "item", "take": ["name", "price"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sales.csv").write_text(SALES)
    (tmp_path / "items.csv").write_text(ITEMS)
    return tmp_path


def request(folder: Path, *operations: dict[str, Any], table: str = "sales", **more: Any) -> Path:
    path = folder / "request.json"
    outputs = [{"table": table, "path": "out.csv"}]
    path.write_text(
        json.dumps({"version": "v1", "as_of": "2026-11-30", "inputs": INPUTS, "operations": operations, "outputs": outputs, **more})
    )
    return path


def done(folder: Path, *operations: dict[str, Any], **more: Any) -> tuple[list[str], dict[str, Any]]:
    """The lines of the output, and the certificate."""
    certificate = carry_out(read_request(request(folder, *operations, **more)))
    return (folder / "out.csv").read_text().splitlines(), certificate


def test_vlookup_takes_the_first_match_keeps_every_row_in_order_and_says_what_was_not_found(folder: Path) -> None:
    lines, certificate = done(folder, {"vlookup": LOOKUP}, {"select": {"table": "sales", "columns": ["item", "name", "price"]}})
    assert lines[1:] == ["A1,Apple,1.25", "a2,Banana,0.50", 'A9,"#N/A","#N/A"', "A1,Apple,1.25", ',"#N/A","#N/A"']
    step = certificate["operations"][0]
    assert (step["rows_in"], step["rows_out"], step["keys_with_several_rows"]) == (5, 5, 1)
    assert step["errors"]["name"] == {"#N/A": {"count": 2, "first_row": 4}}


def test_a_key_with_several_rows_is_refused_where_that_is_asked_for(folder: Path) -> None:
    with pytest.raises(WrongInput, match=r"operation 1 \(vlookup\): 1 keys have several rows in 'items', first a1; many: first takes"):
        done(folder, {"vlookup": {**LOOKUP, "many": "error"}})
    assert not (folder / "out.csv").exists()


def test_filter_sort_group_and_duplicates(folder: Path) -> None:
    good = {"filter": {"table": "sales", "where": "=NOT(ISERROR([@amount]))"}}
    lines, _ = done(folder, good, {"sort": {"table": "sales", "by": [{"column": "amount", "descending": True}]}})
    assert [line.split(",")[2] for line in lines[1:]] == ["10.500", "3.005", "1.000", "-7.250"]
    values = {"total": {"sum": "amount"}, "n": {"count": "amount"}, "mean": {"average": "amount"}}
    lines, _ = done(folder, good, {"group": {"table": "sales", "by": "region", "values": values}})
    assert lines == ["region,total,n,mean", "North,11.500,2,5.7500000000", "South,-4.245,2,-2.1225000000"]
    lines, _ = done(folder, {"remove_duplicates": {"table": "sales", "on": "item"}})
    assert [line.split(",")[0] for line in lines[1:]] == ["A1", "a2", "A9", ""]


def test_an_error_is_the_result_of_a_sum_over_it_and_a_filter_refuses_it_by_its_row(folder: Path) -> None:
    lines, _ = done(folder, {"group": {"table": "sales", "by": "region", "values": {"total": {"sum": "amount"}}}})
    assert lines[1:] == ['North,"#VALUE!"', "South,-4.245"]
    with pytest.raises(WrongInput, match=r"operation 1 \(filter\): row 4: the condition is #VALUE!; use IFERROR"):
        done(folder, {"filter": {"table": "sales", "where": "=[@amount]>0"}})


def test_a_pivot_has_a_column_for_each_value_and_totals(folder: Path) -> None:
    operations: list[dict[str, Any]] = [
        {"compute": {"table": "sales", "set": {"late": '=IF([@due]<TODAY(),"late","open")', "net": "=IFERROR([@amount],0)"}}},
        {"pivot": {"table": "sales", "as": "out", "rows": "region", "columns": "late", "values": {"net": {"sum": "net"}}, "totals": True}},
    ]
    lines, _ = done(folder, *operations, table="out")
    assert lines == ["region,late,open,Total", "North,11.500,0.000,11.500", "South,0.000,-4.245,-4.245", "Total,11.500,-4.245,7.255"]


@pytest.mark.parametrize(
    ("operation", "told"),
    [
        ({"vlookup": {**LOOKUP, "take": ["prise"]}}, r"operation 1 \(vlookup\): column 'prise' is not in 'items'; did you mean 'price'\?"),
        (
            {"compute": {"table": "sales", "set": {"x": "=[@amont]*2"}}},
            r"operation 1 \(compute\): x: column 'amont' is not there; did you mean",
        ),
        ({"compute": {"table": "sales", "set": {"x": "=LET(a,1,a)"}}}, "LET is not supported: compute the part as a column of its own"),
        ({"compute": {"table": "sales", "set": {"x": "=SUM(A1:B9)"}}}, "A1:B9: such cells and ranges are not supported"),
        ({"compute": {"table": "sales", "set": {"x": "={1,2}"}}}, "an array constant such as .1,2. is not supported"),
        ({"compute": {"table": "sales", "set": {"x": "=1+"}}}, "is no formula"),
        ({"compute": {"table": "sales", "set": {"x": '=IF(TRUE,1,"a")'}}}, "would give a column of integer and text"),
        ({"compute": {"table": "sales", "set": {"Amount": "=1"}}}, "column 'Amount' is in 'sales' already"),
        ({"compute": {"table": "sales", "set": {"x": "=" + "(" * 65 + "1" + ")" * 65}}}, "nested at most 64 deep"),
        ({"compute": {"table": "sales", "set": {"x": "=" + "1+" * 5000 + "1"}}}, "at most 8,192 characters"),
        ({"group": {"table": "sales", "by": "region", "values": {"x": {"sum": "item"}}}}, "sum needs numbers, and 'item' is text"),
        (
            {"filter": {"table": "sale", "where": "=TRUE"}},
            r"operation 1 \(filter\): there is no table 'sale' before it; did you mean 'sales'\?",
        ),
        ({"filter": {"tabel": "sales", "where": "=TRUE"}}, r"operation 1 \(filter\): tabel: not known here; did you mean table\?"),
        ({"top": {"table": "sales"}}, r"operation 1 \(top\): rows: is missing"),
        (
            {"sort": {"table": "sales", "by": [{"colum": "qty"}]}},
            r"operation 1 \(sort\): by\[0\]\.colum: not known here; did you mean column\?",
        ),
        ({"vlookup": None}, r"operation 1 \(vlookup\): .* is no section; write \{table: …\}, with names such as table, as, in"),
        (
            {"group": {"table": "sales", "by": "region", "values": {"x": {"sum": "qty", "count": "qty"}}}},
            "name exactly one of sum, count, average, min, max",
        ),
        ({"vlookop": LOOKUP}, "there is no operation 'vlookop'; did you mean vlookup"),
        ({"filter": {"table": "sales", "wear": "=TRUE"}}, "wear: not known here|is missing"),
    ],
)
def test_a_mistake_is_named_before_anything_is_read(folder: Path, operation: dict[str, Any], told: str) -> None:
    with pytest.raises(WrongUsage, match=told):
        read_request(request(folder, operation))


def test_the_command_checks_carries_out_and_says_what_came_of_each_operation(folder: Path, recon: Call) -> None:
    path = str(request(folder, {"vlookup": LOOKUP}))
    answer = recon("transform", path, "--dry-run")
    assert answer.status == 0
    assert "the request is good; TODAY is 2026-11-30" in answer.out
    assert not (folder / "out.csv").exists()
    answer = recon("transform", path)
    assert answer.status == 0
    assert "name: 2 #N/A, first in row 4" in answer.out
    assert "out.csv: 5 rows" in answer.out
    certificate = json.loads(recon("transform", path, "--json").out)
    assert certificate["inputs"][0]["sums"] == {"amount": "7.255", "qty": "10"}


def test_a_text_may_be_what_a_relation_is_called_inside(folder: Path) -> None:
    texts = {f"x{number}": f'="r{number}"' for number in range(4)}
    operations: list[dict[str, Any]] = [{"compute": {"table": "sales", "set": {name: text}}} for name, text in texts.items()]
    lines, _ = done(folder, *operations)
    assert all(line.endswith(",r0,r1,r2,r3") for line in lines[1:])


def test_errors_can_be_a_reason_to_fail_with_nothing_written(folder: Path) -> None:
    with pytest.raises(WrongInput, match=r"output out\.csv: column 'amount' has errors"):
        done(folder, on_error="fail")
    assert not (folder / "out.csv").exists()


@pytest.mark.parametrize(
    ("outputs", "told"),
    [
        (["sales.csv"], "output 1: sales.csv is the input sales; choose another path"),
        (["out.csv", "./out.csv"], "output 2: ./out.csv is output 1; choose another path"),
        (["out.csv", "out"], "'out' does not say its format; write .csv, .tsv, .parquet or .xlsx"),
    ],
)
def test_an_output_takes_no_other_files_place(folder: Path, outputs: list[str], told: str) -> None:
    path = request(folder, outputs=[{"table": "sales", "path": output} for output in outputs])
    with pytest.raises(WrongUsage, match=re.escape(told)):
        read_request(path)
    assert (folder / "sales.csv").read_text() == SALES


def test_where_one_output_cannot_be_written_none_is(folder: Path) -> None:
    (folder / "b.csv").mkdir()
    asked = read_request(request(folder, outputs=[{"table": "sales", "path": "a.csv"}, {"table": "sales", "path": "b.csv/c/d.csv"}]))
    (folder / "b.csv").rmdir()
    (folder / "b.csv").write_text("in the way of the folder")
    with pytest.raises(WrongUsage, match=r"d\.csv: its folder cannot be made \((Not a directory|File exists)\); choose another path"):
        carry_out(asked)
    assert sorted(path.name for path in folder.iterdir()) == ["b.csv", "items.csv", "request.json", "sales.csv"]


def test_names_of_tables_that_differ_only_in_case_are_refused(folder: Path) -> None:
    with pytest.raises(WrongUsage, match="differ only in their case"):
        read_request(request(folder, inputs={**INPUTS, "Sales": INPUTS["items"]}))


def test_a_total_of_more_than_38_digits_is_named_with_its_operation(folder: Path) -> None:
    (folder / "sales.csv").write_text("region,amount\n" + f"North,{'9' * 38}\n" * 20)
    wide = {"sales": {"path": "sales.csv", "types": {"amount": "decimal(38,0)"}}}
    with pytest.raises(WrongInput, match="more than 38 digits"):
        done(folder, {"group": {"table": "sales", "by": "region", "values": {"x": {"sum": "amount"}}}}, inputs=wide)


def test_a_request_that_is_no_request_leads_to_the_right_page(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("")
    with pytest.raises(WrongUsage, match=r"see docs/transformations\.md for an example"):
        read_request(tmp_path / "empty.yaml")
    with pytest.raises(WrongUsage, match="no such file; name the file of a request"):
        read_request(tmp_path / "none.yaml")


def test_a_group_is_written_as_its_first_row_writes_it(folder: Path) -> None:
    (folder / "sales.csv").write_text("region,amount\nnorth,1.00\nNorth,2.00\nSOUTH,3.00\nsouth,4.00\n")
    inputs = {"sales": {"path": "sales.csv", "types": {"amount": "decimal(9,2)"}}}
    values = {"total": {"sum": "amount"}}
    lines, _ = done(folder, {"group": {"table": "sales", "by": "region", "values": values}}, inputs=inputs)
    assert lines[1:] == ["north,3.00", "SOUTH,7.00"]
