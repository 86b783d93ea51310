"""Two judges of what formulas come to: LibreOffice Calc, and formualizer's evaluator for what Calc 7.4 does not have.

One workbook has every formula over a small sheet; cells are compared at 15 digits, which is what a spreadsheet has. Where a judge differs
and we mean it, ``MEANT`` says why; a difference that is no more there is a failure, too."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Context, Decimal
from typing import Any

import calc
import formualizer
import openpyxl
import pytest
import xlsxwriter
from excel_formulas import EXCEL, OVER_ROWS, ROWS, TYPES
from folders import ROOT

from recon.storage import parquet
from recon.transformations.formulas.functions import FUNCTIONS
from recon.transformations.formulas.parse import parsed
from recon.transformations.formulas.tree import ERRORS, Call, Tree
from recon.transformations.run import carry_out, read_request

DAY_0, TODAY, HOLIDAY = date(1899, 12, 30), date(2026, 11, 30), date(2026, 12, 25)
FIFTEEN = Context(prec=15)
NOT_IN_CALC = {"TEXTBEFORE", "TEXTAFTER"}
SIGNS = {"NEG", "%", "^", "&", *["+", "-", "*", "/", "=", "<>", "<", "<=", ">", ">="]}
EXACT = "we are exact, or have ten digits after the point"
TRUTHS = "Calc's truth values are numbers"
ERR_502 = "Calc has an error of its own, which the file has as #VALUE!"
WEEK_1 = "Calc counts the days of the week of January 1 in the old year as week 1, Excel as 53"
MEANT: dict[str, dict[str, str]] = {
    "calc": {
        **dict.fromkeys(("7/3", "2^0.5", "SQRT(ABS([@p]))", "ABS([@p])^0.5", "MOD([@m],[@k])", 'TEXT(0.285,"0%")'), EXACT),
        **dict.fromkeys(('1&"a"&TRUE', 'TEXT(TRUE,"0")', 'TEXT([@f],"0")', "[@f]&[@k]", "[@f]>[@t]"), TRUTHS),
        **dict.fromkeys(("SUM([@m],[@t],[@f],[@blank])", "COUNT([@m],[@t],[@d],[@f],[@blank])"), TRUTHS),
        **dict.fromkeys(("QUOTIENT(1,0)", "CEILING(2.5,-2)", "FLOOR(2.5,-2)", "FLOOR(2.5,0)", "SQRT(-1)"), ERR_502),
        **dict.fromkeys(('DATEDIF(DATE(2003,1,1),DATE(2001,1,1),"Y")', 'DATEDIF([@e],[@d],"D")'), ERR_502),
        **dict.fromkeys((*(f"WEEKNUM([@d],{kind})" for kind in (1, 2, 13)), "WEEKNUM([@e])"), WEEK_1),
        **dict.fromkeys(("EDATE(DATE(2026,1,31),-2000)", "WORKDAY(DATE(2026,1,1),-40000)"), "Calc has days before 1900"),
        **dict.fromkeys(("0^0", "0^-1"), "Excel has #NUM! and #DIV/0!"),
        **dict.fromkeys(("MROUND(5,-2)", "MROUND([@p],1)"), "Excel has #NUM! for two signs"),
        **dict.fromkeys(('SUM("3",TRUE)', 'MAX("7",2)'), "Excel takes a text that is written in the formula as a number"),
        "DATE(108,1,2)": "Excel counts a year below 1900 from 1900",
        'FIND("","abc",3)': "Excel finds an empty text where it begins to look",
        'COUNTBLANK([@blank],[@a],"")': "Calc takes a range only",
        **dict.fromkeys(('REPT("abc",20000)', 'SEARCH(REPT("a",256),REPT("a",300))'), "Calc's texts may be longer than Excel's"),
    },
    "formualizer": {'TEXTAFTER("abc","")': "Excel has an empty delimiter at the beginning"},
}
"""Judge → formula → why it differs."""
FORMULAS = [*EXCEL, *OVER_ROWS]
Cells = dict[tuple[str, int], Any]


def functions(tree: Tree) -> set[str]:
    return {tree.name}.union(*map(functions, tree.args)) if isinstance(tree, Call) else set()


USED = {formula: functions(parsed(f"={formula}")) for formula in FORMULAS}


def rows_of(formula: str) -> range:
    return range(len(ROWS)) if formula in OVER_ROWS else range(1)


def value_of(column: str, text: str) -> Any:
    kind = TYPES.get(column, "text")
    if text == "":
        return None
    return {"date": date.fromisoformat, "boolean": lambda _: text == "TRUE", "integer": int, "text": str}.get(kind, Decimal)(text)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Cells:
    """What a request gives, by formula and row."""
    folder = tmp_path_factory.mktemp("ours")
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(ROWS[0]))
        writer.writeheader()
        writer.writerows(ROWS)
    request = {"as_of": str(TODAY), "holidays": [str(HOLIDAY)], "approximate": True, "inputs": {"t": {"path": "rows.csv", "types": TYPES}}}
    columns = {f"f{number}": f"={formula}" for number, formula in enumerate(FORMULAS)}
    outputs = [{"table": "t", "path": name} for name in ("out.csv", "out.parquet")]
    (folder / "request.json").write_text(
        json.dumps({**request, "operations": [{"compute": {"table": "t", "set": columns}}], "outputs": outputs})
    )
    carry_out(read_request(folder / "request.json"))
    table = parquet.read(folder / "out.parquet").to_pydict()
    with (folder / "out.csv").open(newline="") as file:
        texts = list(csv.DictReader(file))
    found: Cells = {}
    for number, formula in enumerate(FORMULAS):
        for row in rows_of(formula):
            value, text = table[f"f{number}"][row], texts[row][f"f{number}"]
            found[formula, row] = text if value is None and text in ERRORS else value
    return found


def for_a_sheet(formula: str, row: int) -> str:
    """The formula over the cells of a row, with the day and the holidays of the request."""
    columns = list(ROWS[0])
    text = re.sub(r"\[@(\w+)\]", lambda found: f"{chr(ord('A') + columns.index(found[1]))}{row + 2}", formula)
    text = re.sub(r"\b(TODAY|NOW)\(\)", "DATE(2026,11,30)", text)
    for name in ("NETWORKDAYS(", "WORKDAY(", "NETWORKDAYS.INTL(", "WORKDAY.INTL("):
        for found in reversed(list(re.finditer(rf"\b{re.escape(name)}", text))):
            depth, end = 1, found.end()
            while depth:
                depth += {"(": 1, ")": -1}.get(text[end], 0)
                end += 1
            text = f"{text[: end - 1]},DATE(2026,12,25){text[end - 1 :]}"
    return f"={text}"


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Cells:
    """What Calc has, by formula and row."""
    if calc.SOFFICE is None and os.environ.get("CI") != "true":
        pytest.skip("no LibreOffice; as root 'make services' installs it")
    folder = tmp_path_factory.mktemp("calc")
    asked = [(formula, row) for formula in FORMULAS if not USED[formula] & NOT_IN_CALC for row in rows_of(formula)]
    with xlsxwriter.Workbook(folder / "book.xlsx", {"use_future_functions": True}) as book:
        sheet, day = book.add_worksheet(), book.add_format({"num_format": "yyyy-mm-dd"})
        for at, name in enumerate(ROWS[0]):
            sheet.write(0, at, name)
            for row, cells in enumerate(ROWS, 1):
                value = value_of(name, cells[name])
                if isinstance(value, date):
                    sheet.write_datetime(row, at, datetime(value.year, value.month, value.day), day)  # noqa: DTZ001
                elif isinstance(value, str):
                    sheet.write_string(row, at, value)
                elif value is not None:
                    sheet.write(row, at, value)
        for number, (formula, row) in enumerate(asked):
            sheet.write_formula(10 + number, 0, for_a_sheet(formula, row))
    sheet = openpyxl.load_workbook(calc.recalculated(folder / "book.xlsx", folder), data_only=True).active
    return {key: sheet.cell(11 + number, 1).value for number, key in enumerate(asked)}


def evaluated(formula: str, row: int) -> Any:
    """What formualizer's evaluator has."""
    book = formualizer.Workbook()
    book.sheet("S")
    for at, (name, text) in enumerate(ROWS[row].items(), 1):
        value = value_of(name, text)
        if value is not None:
            book.set_value("S", row + 2, at, float(value) if isinstance(value, Decimal) else value)
    book.set_formula("S", 20, 1, for_a_sheet(formula, row))
    found = book.evaluate_cell("S", 20, 1)
    return {"Na": "#N/A", "Value": "#VALUE!"}.get(found["kind"], found["kind"]) if isinstance(found, dict) else found


def plain(value: Any) -> Any:
    """A number with the 15 digits that a sheet has; a date is one; a blank is an empty text."""
    if isinstance(value, time):  # openpyxl's day 0
        return Decimal(0)
    if isinstance(value, datetime):
        days = (value.date() - DAY_0).days
        return Decimal(days - 1 if 1 < days <= 60 else days)  # openpyxl's days before the one that 1900 did not have
    if isinstance(value, date):
        return Decimal((value - DAY_0).days)
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return FIFTEEN.create_decimal(repr(value) if isinstance(value, float) else value)
    return "" if value is None else value


def differences(ours: Cells, theirs: Mapping[tuple[str, int], Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for (formula, row), their in theirs.items():
        if plain(ours[formula, row]) != plain(their):
            found.setdefault(formula, f"row {row}: {ours[formula, row]!r}, the judge has {str(their)[:40]!r}")
    return found


def meant(found: dict[str, str], judge: str) -> None:
    reasons = MEANT[judge]
    assert {formula: why for formula, why in found.items() if formula not in reasons} == {}
    assert set(reasons) - set(found) == set(), "these are differences no more"


def test_there_are_enough_formulas_and_each_function_is_judged() -> None:
    assert len(FORMULAS) >= 300
    assert set(FUNCTIONS) - set().union(*USED.values()) == set()


def test_every_reason_is_in_the_documentation() -> None:
    page = (ROOT / "docs" / "transformations.md").read_text().replace("`", "")
    assert [why for reasons in MEANT.values() for why in reasons.values() if f"| {why} |" not in page] == []


def test_calc_has_the_same_cells(ours: Cells, theirs: Cells) -> None:
    meant(differences(ours, theirs), "calc")


def test_formualizer_has_the_same_cells_where_calc_has_no_such_function(ours: Cells) -> None:
    asked = [key for key in ours if USED[key[0]] & NOT_IN_CALC]
    assert len(asked) > 15
    meant(differences(ours, {key: evaluated(*key) for key in asked}), "formualizer")
