"""Formulas that look at whole columns give what the operations give, and what they cannot do is refused by name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import plain_operations
import pytest
from any_operations import FINDING, FITTING, LEFT, NAMES, RIGHT, Operation, Rows, carried_out, rows, same, typed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_requests import carried, request

from recon.errors import WrongUsage
from recon.transformations.run import read_request

EXAMPLES = int(os.environ.get("RECON_LAW_EXAMPLES", "12"))
MODES = {"exact": 0, "smaller": -1, "larger": 1, "wildcard": 2}


def formula_of(operation: Operation) -> str | None:
    """The formula that does what an operation does."""
    ((kind, body),) = operation.items()
    if kind.endswith("ifs"):
        parts = [f"right[{body['of']}]"] if "of" in body else []
        for column, criterion in body["criteria"].items():
            if isinstance(criterion, dict):
                own = f"[@{criterion['column']}]"
                parts += [f"right[{column}]", own if "is" not in criterion else f'"{criterion["is"]}"&{own}']
            else:
                parts += [f"right[{column}]", f'"{criterion}"']
        return f"={kind.upper()}({', '.join(parts)})"
    if kind == "xlookup" and len(body["key"]) == 1:
        ((key,), missing) = body["key"], body.get("if_missing", "")
        search = 1 if body["many"] == "first" else -1
        return f"=XLOOKUP([@{key}], right[{key}], right[p], {missing}, {MODES[body['find']]}, {search})"
    return None


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists((FITTING | FINDING).filter(formula_of), min_size=1, max_size=6), rows(LEFT), rows(RIGHT))
def test_a_formula_gives_what_plain_python_says_of_the_operation(operations: list[Operation], left: Rows, right: Rows) -> None:
    plain = {"left": typed(left, LEFT), "right": typed(right, RIGHT)}
    set_ = {f"v{number}": str(formula_of(operation)) for number, operation in enumerate(operations)}
    (found,) = carried_out([{"compute": {"set": set_}}], {"left": left, "right": right})
    for number, operation in enumerate(operations):
        ((kind, body),) = operation.items()
        expected = plain_operations.OPERATIONS[kind](plain, {"table": "left", **NAMES, **body})
        for written, row in zip(found, expected, strict=True):
            assert list(written) == [*LEFT, *set_]
            assert same(written[f"v{number}"], row["t" if "t" in row else "x"]), (set_[f"v{number}"], written, row)


SALES = "item,region,amount,qty,due\nA1,North,10.50,2,2026-11-01\na2,South,3.00,1,2026-12-24\nA9,North,4.50,,\n,South,-6.00,3,2026-11-30\n"
ITEMS = "item,name,price\na1,Apple,1.25\nA2,Banana,0.50\nA*,Any,9.00\n"
TYPES = {"sales": {"amount": "decimal(9,2)", "qty": "integer", "due": "date"}, "items": {"price": "decimal(9,2)"}}


@pytest.mark.parametrize(
    ("formula", "values"),
    [
        ("=SUM(sales[amount])", ["12.00"] * 4),
        ("=ROUND([@amount]/SUM([amount]), 3)", ["0.875", "0.250", "0.375", "-0.500"]),
        ("=AVERAGE(sales[qty])", ["2.0000000000"] * 4),
        ("=MIN(items[price], [@amount], 2)", ["0.50", "0.50", "0.50", "-6.00"]),
        ("=MAX(sales[due])", ["2026-12-24"] * 4),
        ("=COUNT(sales[qty])+COUNTA(sales[item])*10+COUNTBLANK(sales[due])*100+ROWS(items[name])*1000", ["3133"] * 4),
        ("=COUNT(sales[item])", ["0"] * 4),
        ("=COUNTIF(sales[qty], TRIM([@due]-[@due]))", ["0"] * 4),
        ('=COUNTIF(sales[qty], TRIM(" "))', ["1"] * 4),
        ("=MEDIAN(sales[amount])", ["3.750"] * 4),
        ("=SUMIF(sales[region], [@region], sales[amount])", ["15.00", "-3.00", "15.00", "-3.00"]),
        ('=SUMIF(sales[amount], ">"&[@qty])', ["18.00", "18.00", "0.00", "15.00"]),
        ('=COUNTIF([region], "n*")', ["2"] * 4),
        ('=COUNTIFS(sales[due], ">="&DATE(2026,11,1+[@qty]), sales[amount], "<5")', ["2", "2", "2", "2"]),
        ("=IFERROR(XLOOKUP([@item], items[item], items[price])*[@qty], 0)", ["2.50", "0.50", "0.00", "0.00"]),
        ('=XLOOKUP([@item], items[item], items[name], "none")', ["Apple", "Banana", "none", "none"]),
        ('=XLOOKUP([@item], items[item], items[name], UPPER("new "&[@item]), 2)', ["Apple", "Banana", "NEW A9", "NEW "]),
        ("=VLOOKUP([@item], items, 3, FALSE)", ["1.25", "0.50", "#N/A", "#N/A"]),
        ("=VLOOKUP([@amount], items, 2)", None),
        ("=INDEX(items[name], MATCH([@item], items[item], 0))", ["Apple", "Banana", "#N/A", "#N/A"]),
        ("=XLOOKUP(XLOOKUP([@item], items[item], items[name]), items[name], items[price])", ["1.25", "0.50", "#N/A", "#N/A"]),
        ('=SUMIFS(sales[amount], sales[item], LEFT([@item], 1)&"*")', ["18.00"] * 4),
    ],
)
def test_a_formula_over_whole_columns(tmp_path: Path, formula: str, values: list[str] | None) -> None:
    operation = {"compute": {"table": "sales", "set": {"x": formula}}}
    if values is None:
        with pytest.raises(WrongUsage, match="never equal"):
            read_request(request(tmp_path, {"sales": SALES, "items": ITEMS}, TYPES, operation, out="sales"))
        return
    found, _ = carried(tmp_path, {"sales": SALES, "items": ITEMS}, TYPES, operation, out="sales")
    assert [row["x"] for row in found] == values
    assert list(found[0]) == ["item", "region", "amount", "qty", "due", "x"]


def test_later_formulas_see_earlier_ones_and_a_filter_looks_at_whole_columns_too(tmp_path: Path) -> None:
    formulas = {"double": "=[@amount]*2", "all": "=SUM([double])", "part": "=[@double]/[@all]", "n": "=COUNTIF([part], [@part])"}
    operations: list[dict[str, Any]] = [
        {"compute": {"table": "sales", "set": formulas}},
        {"filter": {"table": "sales", "where": "=[@double]>AVERAGE(sales[double])"}},
    ]
    found, _ = carried(tmp_path, {"sales": SALES, "items": ITEMS}, TYPES, *operations, out="sales")
    assert [(row["double"], row["all"], row["n"]) for row in found] == [("21.00", "24.00", "1"), ("9.00", "24.00", "1")]


def test_columns_with_any_name_can_be_looked_at(tmp_path: Path) -> None:
    odd = {"net amount": "net amount", "a[b]": "a'[b']", "#1": "'#1", "it's": "it''s", "SUM": "SUM", "x]y": "x']y"}
    table = ",".join(odd) + "\n" + ",".join("1" for _ in odd) + "\n" + ",".join("2" for _ in odd) + "\n"
    formulas = {f"v{at}": f"=SUM(t[{text}])+[@[{text}]]" for at, text in enumerate(odd.values())}
    types = {"t": dict.fromkeys(odd, "integer")}
    found, _ = carried(tmp_path, {"t": table}, types, {"compute": {"table": "t", "set": formulas}}, out="t")
    assert [[row[name] for name in formulas] for row in found] == [["4"] * len(odd), ["5"] * len(odd)]


@pytest.mark.parametrize(
    ("formula", "told"),
    [
        ("=sales[amount]*2", "sales.amount. is a whole column; name a column of the row"),
        ("=SUMIFS(sales[amount], items[item], 1)", "SUMIFS takes columns of one table, not of items and sales"),
        ("=SUMIFS(sales[amount], sales[item])", "SUMIFS takes pairs of a column and its criterion"),
        ("=SUMIFS([@amount], [@item], 1)", "SUMIFS takes a whole column here, such as sales.amount."),
        ("=UPPER(sales[item])", "UPPER does not take sales.item. so"),
        ("=AVERAGE(sales[qty], 1)", "AVERAGE takes one whole column, not 2 arguments"),
        ("=SUM(sales[amont])", "x: column 'amont' is not in 'sales'; did you mean 'amount'"),
        ("=SUM(sale[amount])", "there is no table 'sale' before it; did you mean 'sales'"),
        ("=SUM(sales[#All])", "cells and ranges are not supported"),
        ("=SUM(sales[[item]:[amount]])", "cells and ranges are not supported"),
        ("=XLOOKUP([@item], items[item], items[name], , 0, 2)", "the search mode of XLOOKUP is 2; a whole number from -1 to 1"),
        ("=VLOOKUP([@item], items, 4, FALSE)", "the column of VLOOKUP is 4; a whole number from 1 to 3"),
        ("=VLOOKUP([@item], A1:C9, 2, FALSE)", "cells and ranges are not supported"),
        ("=INDEX(items[name], 2)", "INDEX takes a whole column and MATCH over one of the same table"),
        ("=MATCH([@item], items[item], 0)", "MATCH does not take items.item. so"),
        ('=COUNTIF(sales[item], "="&[@item])', "write the value itself in place of"),
        ('=COUNTIF(sales[amount], ">x")', "needs a number"),
        ("=XLOOKUP([@item], items[item], items[price], [@region])", "IF would give a column of"),
    ],
)
def test_what_a_formula_cannot_do_with_columns_is_refused(tmp_path: Path, formula: str, told: str) -> None:
    operation = {"compute": {"table": "sales", "set": {"x": formula}}}
    with pytest.raises(WrongUsage, match=told):
        read_request(request(tmp_path, {"sales": SALES, "items": ITEMS}, TYPES, operation, out="sales"))
