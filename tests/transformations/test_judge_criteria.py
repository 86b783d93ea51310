"""LibreOffice Calc as judge of criteria and look-ups: COUNTIF and SUMIFS of every kind of column, VLOOKUP, INDEX and MATCH."""

from __future__ import annotations

import re
from datetime import date
from typing import Any

import calc
import openpyxl
import pytest
import xlsxwriter
from small_requests import carried

ROWS: list[tuple[Any, ...]] = [
    ("North", 10.5, date(2026, 11, 1), True),
    ("north", 3, date(2026, 12, 24), False),
    ("No*th", -7.25, None, None),
    ("007", 12, date(2026, 11, 30), True),
    ("7", 7, date(2026, 11, 30), None),
    ("a?c", None, None, None),
    ("abc", 2.5, None, False),
    (None, 7, None, None),
    ("~x", 100, date(1999, 1, 1), None),
    ("x", 0, None, None),
    ("TRUE", 1, None, None),
    ("x~y", 1, None, None),
    ("1,000", 1000, None, None),
    ("#N/A", 1, None, None),
    ("2026-11-30", 3, None, None),
    ("b", 4, None, None),
    ("B2", -1, None, None),
]
TYPES = {"k": "text", "n": "decimal(9,2)", "d": "date", "f": "boolean"}
CRITERIA = {
    "k": [
        *("north", "NORTH", "n*", "<>north", "no~*th", "?????", "7", "007", "<>7", "", "=", "<>", "*", "?", "<>*", "a~?c", "a?c", "~~x"),
        *("~x", "x~y", "x~~y", "~", "TRUE", ">a", "<=B", ">c", "<north", "#N/A", "<>#N/A", "2026-11-30", "==north", "a*c", "*7*", "=*"),
        "1000",
    ],
    "n": [
        *("7", "=7", "<>7", ">2.5", ">=2.5", "<0", "<=-7.25", "7.0", " 7", ">= 1", "0", "", "=", "<>", "-1", "1,000", ">1,000", "$5"),
        ">1000",
    ],
    "d": ["2026-11-30", ">=2026-11-30", "<>2026-11-30", "", "=", "<>", "<2000-01-01", ">46000", "46356"],
    "f": ["TRUE", "FALSE", "<>TRUE", "true", "", "=", "<>"],
}
ROW_FORMULAS = [
    "VLOOKUP([@k],t,2,FALSE)",
    "INDEX(t[n],MATCH([@k],t[k],0))",
    "SUMIF(t[f],[@f],t[n])",
    "COUNTIF(t[d],[@d])",
    'COUNTIFS(t[n],">="&[@n],t[d],"<"&[@d])',
    'SUMIFS(t[n],t[n],"<>"&[@n])',
    'AVERAGEIFS(t[n],t[n],"<="&[@n])',
    "COUNTIF(t[n],[@n])",
    "SUM(t[n])+COUNT(t[d])+MAX(t[n])-MIN(t[n])",
    "MAXIFS(t[n],t[f],[@f])",
    'MINIFS(t[n],t[n],">"&[@n])',
]
NUMBERS = "Excel takes a text that is a number as that number"
ORDER = "we order texts by their characters' codes"
MEANT = {
    **{f"{how}(t[k],{one})": NUMBERS for one in ('"7"', '"007"', '"<>7"', '"1000"') for how in ("COUNTIF", "SUMIFS")},
    **dict.fromkeys(("SUMIF(t[f],[@f],t[n])", "MAXIFS(t[n],t[f],[@f])"), "Calc's FALSE is 0, which a blank criterion is"),
    **dict.fromkeys(("VLOOKUP([@k],t,2,FALSE)", "INDEX(t[n],MATCH([@k],t[k],0))"), "a blank that is found stays one"),
    **{f"{how}(t[k],{one})": ORDER for one in ('">a"', '"<=B"', '">c"', '"<north"') for how in ("COUNTIF", "SUMIFS")},
}
"""Formula → why Calc differs."""


def formulas() -> list[str]:
    """COUNTIF and SUMIFS in short for the constants."""
    return [f'{how}(t[{column}],"{one}")' for column, listed in CRITERIA.items() for one in listed for how in ("COUNTIF", "SUMIFS")]


def in_full(formula: str) -> str:
    return formula.replace("SUMIFS(t[", "SUMIFS(t[n],t[", 1) if re.match(r"SUMIFS\(t\[\w\],\"", formula) else formula


def for_a_sheet(formula: str, row: int) -> str:
    """The formula with cells of the sheet t."""
    last = len(ROWS) + 1
    text = in_full(formula).replace(",t,", f",t!$A$2:$D${last},")
    letters = dict(zip(TYPES, "ABCD", strict=True))
    text = re.sub(r"\[@(\w)\]", lambda found: f"t!${letters[found[1]]}${row + 1}", text)
    return "=" + re.sub(r"t\[(\w)\]", lambda found: f"t!${letters[found[1]]}$2:${letters[found[1]]}${last}", text)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Any]:
    folder = tmp_path_factory.mktemp("calc")
    with xlsxwriter.Workbook(str(folder / "criteria.xlsx")) as book:
        sheet, results, day = book.add_worksheet("t"), book.add_worksheet("results"), book.add_format({"num_format": "yyyy-mm-dd"})
        for at, row in enumerate(ROWS, 1):
            for column, value in enumerate(row):
                if isinstance(value, date):
                    sheet.write_datetime(at, column, value, day)
                elif isinstance(value, str):
                    sheet.write_string(at, column, value)
                elif value is not None:
                    sheet.write(at, column, value)
        places = [(formula, 0) for formula in formulas()]
        places += [(formula, row) for formula in ROW_FORMULAS for row in range(1, len(ROWS) + 1)]
        for at, (formula, row) in enumerate(places):
            results.write_formula(at, 0, re.sub(r"\b(MAXIFS|MINIFS)\(", r"_xlfn.\1(", for_a_sheet(formula, row)))
    found = openpyxl.load_workbook(calc.recalculated(folder / "criteria.xlsx", folder), data_only=True)["results"]
    return {place: found.cell(at, 1).value for at, place in enumerate(places, 1)}


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], str]:
    folder = tmp_path_factory.mktemp("ours")
    table = "k,n,d,f\n" + "".join(",".join("" if value is None else f'"{value}"' for value in row) + "\n" for row in ROWS)
    types = {"t": {name: kind for name, kind in TYPES.items() if kind != "text"}}
    named = {f"x{at}": formula for at, formula in enumerate(formulas())}
    operations = [{"compute": {"table": "one", "set": {name: f"={in_full(formula)}" for name, formula in named.items()}}}]
    (found,), _ = carried(folder, {"one": "a\n1\n", "t": table}, types, *operations, out="one")
    cells = {(formula, 0): found[name] for name, formula in named.items()}
    named = {f"y{at}": formula for at, formula in enumerate(ROW_FORMULAS)}
    operations = [{"compute": {"table": "t", "set": {name: f"={formula}" for name, formula in named.items()}}}]
    rows, _ = carried(folder, {"t": table}, types, *operations, out="t")
    return cells | {(formula, at): row[name] for name, formula in named.items() for at, row in enumerate(rows, 1)}


def same(one: str, two: Any) -> bool:
    if isinstance(two, int | float) and not isinstance(two, bool) and re.fullmatch(r"-?[0-9.]+", one):
        return abs(float(one) - two) < 1e-9 * max(1, abs(two))
    return one == str(two)


def test_calc_has_the_same_counts_sums_and_rows(ours: dict[tuple[str, int], str], theirs: dict[tuple[str, int], Any]) -> None:
    differing: dict[str, list[tuple[int, str, Any]]] = {}
    for (formula, row), value in ours.items():
        if not same(value, theirs[formula, row]):
            differing.setdefault(formula, []).append((row, value, theirs[formula, row]))
    assert {formula: seen for formula, seen in differing.items() if formula not in MEANT} == {}
    assert set(MEANT) <= set(differing), "a reason that is none any more"
    of_rows = [place for formula in MEANT if "[@" in formula for place in differing[formula]]
    assert all(value == "" or ROWS[row - 1][3] is None for row, value, _ in of_rows), "only blanks are meant to differ"
