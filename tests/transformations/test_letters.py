"""Columns as letters mean the columns by their places; row 2 is the row's own; all other cells are refused by name and place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_requests import carried, request

from recon.errors import WrongUsage
from recon.transformations.formulas.letters import letters
from recon.transformations.formulas.parse import parsed
from recon.transformations.formulas.tree import Call, Cell
from recon.transformations.run import read_request

SALES = "item,region,amount,qty\nA1,north,10.50,2\na2,south,1.50,\nA1,north,3.00,4\n"
ITEMS = "item,name,price\nA1,Apple,1.25\nA2,Pear,2.00\n"
TYPES = {"sales": {"amount": "decimal(9,2)", "qty": "integer"}, "items": {"price": "decimal(9,2)"}}
TABLES = {"sales": SALES, "items": ITEMS}


@pytest.mark.parametrize(
    ("by_letters", "by_names"),
    [
        ("=C2*D2", "=[@amount]*[@qty]"),
        ("=$C2+d2-c2", "=[@amount]+[@qty]-[@amount]"),
        ("=ROUND(C2/SUM(C:C), 4)", "=ROUND([@amount]/SUM([amount]), 4)"),
        ('=IF(B2="north", C2, 0)', '=IF([@region]="north", [@amount], 0)'),
        ("=SUMIFS(C:C, $A:$A, A2)", "=SUMIFS([amount], [item], [@item])"),
        ("=SUMIFS(sales!C:C, sales!B:B, B2)", "=SUMIFS(sales[amount], sales[region], [@region])"),
        ("=VLOOKUP(A2, items!A:C, 3, FALSE)", "=VLOOKUP([@item], items, 3, FALSE)"),
        ("=VLOOKUP(C2, 'items'!$C:$C, 1, TRUE)", "=XLOOKUP([@amount], items[price], items[price], , -1)"),
        ("=XLOOKUP(A2, items!A:A, items!B:B)", "=XLOOKUP([@item], items[item], items[name])"),
        ("=INDEX(items!C:C, MATCH(A2, items!A:A, 0))", "=INDEX(items[price], MATCH([@item], items[item], 0))"),
        ("=SUM(C2:D2)+COUNT(A2:D2)", "=SUM([@amount], [@qty])+COUNT([@item], [@region], [@amount], [@qty])"),
    ],
)
def test_letters_are_the_columns_at_their_places(tmp_path: Path, by_letters: str, by_names: str) -> None:
    operation = {"compute": {"table": "sales", "set": {"letters": by_letters, "names": by_names}}}
    found, _ = carried(tmp_path, TABLES, TYPES, operation, out="sales")
    assert [row["letters"] for row in found] == [row["names"] for row in found]
    assert any(row["names"] for row in found)


def test_letters_count_the_columns_that_are_there_and_those_before_in_the_operation(tmp_path: Path) -> None:
    operations: list[dict[str, Any]] = [
        {"drop": {"table": "sales", "columns": "region"}},
        {"compute": {"table": "sales", "set": {"double": "=B2*2", "all": "=SUM(D:D)", "part": "=D2+E2"}}},
        {"filter": {"table": "sales", "where": "=B2>AVERAGE(B:B)"}},
    ]
    found, _ = carried(tmp_path, TABLES, TYPES, *operations, out="sales")
    assert [(row["double"], row["all"], row["part"]) for row in found] == [("21.00", "30.00", "51.00")]


@pytest.mark.parametrize(
    ("formula", "told"),
    [
        ("=C2*D3", "x: D3 is a cell of another row; write the formula as it stands in row 2, .* (at character 5 of the formula)"),
        ("=A1", "A1 is a cell of another row; .* A2 is the row's own value. For other rows there are the operations lag, lead"),
        ("=C2-C$2", "C$2 is the same cell for all rows; name a column of the row, such as C2 (at character 5"),
        ("=items!C2", "items!C2 is a cell of another table; look it up, or take its whole column, such as items!B:B"),
        ("=C2+E2", "E2: the table has 4 columns, A to D"),
        ("=SUM(E:E)", "E:E: the table has 4 columns, A to D"),
        ("=SUM(things!A:A)", "there is no table 'things' before it"),
        ("=SUM(A2:C9)", "A2:C9: such cells and ranges are not supported; name a column of the row, such as [@amount] or B2 (at char"),
        ("=UPPER(A2:B2)", "A2:B2: such cells and ranges are not supported"),
        ("=SUM(A3:B3)", "A3:B3 is a cell of another row"),
        ("=SUM(C:D)", "C:D are several whole columns, which VLOOKUP takes; name one"),
        ("=C:C", "sales[amount] is a whole column|[amount] is a whole column"),
        ("=VLOOKUP(A2, items!A:B, 3, FALSE)", "the column of VLOOKUP is 3; a whole number from 1 to 2"),
        ("=ZZZ2", "ZZZ2: a sheet has no column ZZZ; the last is XFD"),
    ],
)
def test_cells_of_other_rows_and_tables_and_columns_that_are_not_there_are_refused(tmp_path: Path, formula: str, told: str) -> None:
    with pytest.raises(WrongUsage) as refused:
        read_request(request(tmp_path, TABLES, TYPES, {"compute": {"table": "sales", "set": {"x": formula}}}, out="sales"))
    said = str(refused.value)
    assert any(all(part in said for part in one.split(" .* ")) for one in told.split("|")), said


@given(st.integers(0, 16_383), st.integers(0, 16_383))
def test_letters_are_read_as_they_are_written(one: int, two: int) -> None:
    tree = parsed(f"={letters(one)}2+{letters(two).lower()}2")
    assert isinstance(tree, Call)
    assert [arg.place for arg in tree.args if isinstance(arg, Cell)] == [one, two]
