"""Criteria of filters and conditional aggregates: what fits, what is refused, and what they cost when keys are alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_requests import carried, request

from recon.errors import WrongInput, WrongUsage
from recon.transformations.run import read_request

SALES = """\
region,account,amount,qty,due,paid
North,007,10.50,2,2026-11-01,true
north,7,3.05,0,2026-12-24,false
No*th,a7,x,1,,
South,,-7.25,3,2026-11-30,true
,0,1.00,,2026-11-30,
"""
TYPES = {
    "sales": {"amount": "decimal(9,2)", "qty": "integer", "due": "date", "paid": "boolean"},
    "asked": {"from": "date", "to": "date", "code": "integer", "least": "decimal(9,3)"},
}


@pytest.mark.parametrize(
    ("criteria", "rows"),
    [
        ({"region": "NORTH"}, [1, 2]),
        ({"region": "no*th"}, [1, 2, 3]),
        ({"region": "no~*th"}, [3]),
        ({"region": "<>north"}, [3, 4, 5]),
        ({"region": "?????"}, [1, 2, 3, 4]),
        ({"account": 7}, [1, 2]),
        ({"account": ""}, [4]),
        ({"account": "<>"}, [1, 2, 3, 5]),
        ({"amount": ">3.049"}, [1, 2]),
        ({"amount": 10.5}, [1]),
        ({"amount": ["<=10.5", ">-7.25"]}, [1, 2, 5]),
        ({"amount": ">1000000000"}, []),
        ({"amount": "<1000000000"}, [1, 2, 4, 5]),
        ({"amount": "3.050"}, [2]),
        ({"amount": "3.051"}, []),
        ({"amount": "#value!"}, [3]),
        ({"amount": "<>#VALUE!"}, [1, 2, 4, 5]),
        ({"qty": ">= 1,000"}, []),
        ({"qty": ">0.5"}, [1, 3, 4]),
        ({"qty": "<0.5"}, [2]),
        ({"qty": "=", "region": "="}, [5]),
        ({"due": ">=2026-11-30"}, [2, 4, 5]),
        ({"due": "2026-11-30"}, [4, 5]),
        ({"due": "<>2026-11-30"}, [1, 2, 3]),
        ({"paid": True}, [1, 4]),
        ({"paid": "<>true"}, [2, 3, 5]),
    ],
)
def test_rows_that_fit_criteria_stay(tmp_path: Path, criteria: dict[str, Any], rows: list[int]) -> None:
    number = {"number_rows": {"table": "sales", "to": "row"}}
    found, _ = carried(tmp_path, {"sales": SALES}, TYPES, number, {"filter": {"table": "sales", "criteria": criteria}}, out="sales")
    assert [int(row["row"]) for row in found] == rows


def test_rows_are_compared_with_days_and_numbers_of_their_own(tmp_path: Path) -> None:
    asked = "from,to,code,least\n2026-11-01,2026-11-30,7,3.05\n2026-11-30,2026-12-31,,-10\n,2026-12-31,0,100\n"
    within = {"due": [{"column": "from", "is": ">="}, "<=[@to]"]}
    operations: list[dict[str, Any]] = [
        {"countif": {"table": "asked", "in": "sales", "criteria": within, "to": "n"}},
        {"sumif": {"table": "asked", "in": "sales", "of": "qty", "criteria": {"account": "=[@[code]]"}, "to": "of_code"}},
        {"maxifs": {"table": "asked", "in": "sales", "of": "due", "criteria": {"amount": {"column": "least", "is": ">"}}, "to": "last"}},
        {"averageif": {"table": "asked", "in": "sales", "of": "qty", "criteria": {"qty": {"column": "code", "is": "<>"}}, "to": "mean"}},
    ]
    found, _ = carried(tmp_path, {"asked": asked, "sales": SALES}, TYPES, *operations, out="asked")
    assert [row["n"] for row in found] == ["3", "3", "0"]
    assert [row["of_code"] for row in found] == ["2", "0", "0"]  # 007 and 7; a blank is 0, and so is the account 0
    assert [row["last"] for row in found] == ["2026-11-01", "2026-12-24", ""]
    assert [row["mean"] for row in found] == ["1.5000000000", "1.5000000000", "2.0000000000"]


def test_a_table_can_be_compared_with_itself_and_keeps_its_order(tmp_path: Path) -> None:
    many, half = 4000, 1900
    table = "k,v\n" + "".join(f"{'A' if at > half else at},1\n" for at in range(many))
    operation = {"countifs": {"table": "t", "criteria": {"k": {"column": "k"}}, "to": "n"}}
    found, _ = carried(tmp_path, {"t": table}, {}, operation, out="t")
    assert [row["n"] for row in found] == ["1"] * (half + 1) + [str(many - half - 1)] * (many - half - 1)


def test_a_text_with_a_sign_as_a_rows_criterion_is_refused_by_its_row(tmp_path: Path) -> None:
    tables = {"asked": "region\nNorth\n>5\n", "sales": SALES}
    operation = {"countifs": {"table": "asked", "in": "sales", "criteria": {"region": {"column": "region"}}, "to": "n"}}
    with pytest.raises(WrongInput, match=r"operation 1 \(countifs\): row 3: the criterion in 'region' begins with a sign"):
        carried(tmp_path, tables, TYPES, operation, out="asked")


@pytest.mark.parametrize(
    ("criteria", "told"),
    [
        ({"region": ">5"}, ">5 compares numbers, and 'region' is text; declare its type"),
        ({"amount": ">"}, "the criterion '>' of 'amount' compares with nothing"),
        ({"amount": "many"}, "the criterion many of 'amount', which is decimal.9,2., needs a number"),
        ({"due": ">=11/30/2026"}, "of 'due', which is date, needs 2026-11-30"),
        ({"paid": ">TRUE"}, "needs TRUE or FALSE, with = or <>"),
        ({"regio": "x"}, "column 'regio' is not in 'sales'; did you mean 'region'"),
        ({"region": "[@account]"}, "'\\[@account\\]' is the row's own value"),
        ({}, "say which rows stay"),
    ],
)
def test_a_criterion_that_nothing_can_fit_is_refused_before_anything_is_read(tmp_path: Path, criteria: dict[str, Any], told: str) -> None:
    with pytest.raises(WrongUsage, match=told):
        read_request(request(tmp_path, {"sales": SALES}, TYPES, {"filter": {"table": "sales", "criteria": criteria}}, out="sales"))


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"sumifs": {"of": "region", "criteria": {"amount": "1"}}}, "sum needs numbers, and 'region' is text"),
        ({"sumifs": {"criteria": {"amount": "1"}}}, "of"),
        ({"countifs": {"criteria": {}}}, "criteria"),
        ({"countifs": {"criteria": {"due": {"column": "amount"}}}}, "'amount' is decimal.9,2. and 'due' is date, which do not compare"),
        ({"countifs": {"criteria": {"due": {"column": "due", "is": "~"}}}}, "criteria"),
    ],
)
def test_a_conditional_aggregate_that_cannot_be_is_refused(tmp_path: Path, body: dict[str, Any], told: str) -> None:
    ((kind, given),) = body.items()
    with pytest.raises(WrongUsage, match=told):
        read_request(request(tmp_path, {"sales": SALES}, TYPES, {kind: {"table": "sales", "to": "x", **given}}, out="sales"))
