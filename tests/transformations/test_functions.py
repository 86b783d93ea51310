"""Each function beside values that Excel shows: an independent check of what the random formulas compare with plain Python."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from recon.storage import parquet
from recon.transformations.formulas.functions import FUNCTIONS
from recon.transformations.formulas.parse import parsed
from recon.transformations.formulas.tree import Call, Tree
from recon.transformations.run import carry_out, read_request

EXCEL = {
    "-2^2": "4",
    "2^3^2": "64",
    "0^0": "#NUM!",
    "POWER(1.5,2)": "2.25",
    "10%": "0.1",
    "1/0": "#DIV/0!",
    "7/3": "2.3333333333",
    "-7/2": "-3.5",
    '"2"*3': "6",
    '"two"*3': "#VALUE!",
    '1&"a"&TRUE': "1aTRUE",
    '0.10&"€"': "0.1€",
    'IF(1>2,"a","b")': "b",
    "IF(FALSE,TRUE)": "FALSE",
    "IFS(FALSE,1,TRUE,2)": "2",
    "IFS(FALSE,1)": "#N/A",
    "IFERROR(1/0,5)": "5",
    "IFNA(NA(),5)": "5",
    "IFNA(1/0,5)": "#DIV/0!",
    "AND(TRUE,1)": "TRUE",
    "OR(FALSE,0)": "FALSE",
    "NOT(0)": "TRUE",
    "ISBLANK([@blank])": "TRUE",
    'ISBLANK("")': "FALSE",
    "ISERROR(1/0)": "TRUE",
    "ABS(-3.5)": "3.5",
    "ROUND(2.5,0)": "3",
    "ROUND(-2.5,0)": "-3",
    "ROUND(1.005,2)": "1.01",
    "ROUNDUP(1.001,2)": "1.01",
    "ROUNDUP(-1.001,2)": "-1.01",
    "ROUNDDOWN(-1.009,2)": "-1",
    "ROUNDUP(LEN([@blank])+[@blank],0)": "0",
    "INT(-1.5)": "-2",
    "MOD(-10,3)": "2",
    "MOD(10,-3)": "-2",
    "MOD(3,0)": "#DIV/0!",
    "SUM(1,[@blank],2.5)": "3.5",
    "MIN(3,1.5)": "1.5",
    "MAX(3,1.5)": "3",
    'CONCAT("a",1.50)': "a1.5",
    'CONCATENATE("a","b")': "ab",
    'LEN("  ab")': "4",
    'UPPER("aé")': "AÉ",
    'LOWER("AÉ")': "aé",
    'TRIM("  a   b ")': "a b",
    'LEFT("abc",2)': "ab",
    'LEFT("abc")': "a",
    'LEFT("abc",-1)': "#VALUE!",
    'RIGHT("abc",5)': "abc",
    'MID("abcdef",2,3)': "bcd",
    'MID("abc",0,1)': "#VALUE!",
    'SUBSTITUTE("a.b.c",".","-")': "a-b-c",
    'VALUE("1,234.50")': "1234.5",
    'VALUE("x")': "#VALUE!",
    "YEAR(DATE(2026,13,1))": "2027",
    "MONTH(DATE(2026,0,1))": "12",
    "DAY(DATE(2024,3,0))": "29",
    "DATE(2026,1,2)-DATE(2026,1,1)": "1",
    "TODAY()-DATE(1900,3,1)": "46295",
    '"a"="A"': "TRUE",
    '"b">"A"': "TRUE",
    '1<"a"': "TRUE",
    "[@blank]=0": "TRUE",
    '[@blank]=""': "TRUE",
}
"""Formula → what Excel shows; TODAY is 2026-11-30."""


def _functions(tree: Tree) -> set[str]:
    return {tree.name}.union(*map(_functions, tree.args)) if isinstance(tree, Call) else set()


def test_every_function_is_in_the_table() -> None:
    assert set(FUNCTIONS) - set().union(*(_functions(parsed(f"={formula}")) for formula in EXCEL)) == set()


OUTPUTS = [{"table": "one", "path": "out.csv"}, {"table": "one", "path": "out.parquet"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of a request that computes all formulas."""
    folder = tmp_path_factory.mktemp("functions")
    (folder / "one.csv").write_text("a,blank\nx,\n")
    columns = {f"f{number}": f"={formula}" for number, formula in enumerate(EXCEL)}
    request = {"as_of": "2026-11-30", "inputs": {"one": {"path": "one.csv"}}, "outputs": OUTPUTS}
    (folder / "request.json").write_text(json.dumps({**request, "operations": [{"compute": {"table": "one", "set": columns}}]}))
    carry_out(read_request(folder / "request.json"))
    return folder


@pytest.fixture(scope="module")
def computed(folder: Path) -> dict[str, str]:
    """Formula → the cell of the output."""
    with (folder / "out.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    return {formula: row[f"f{number}"] for number, formula in enumerate(EXCEL)}


def _general(cell: str) -> str:
    """A number in the General format: without zeros at its end; a truth value in capitals."""
    if cell.lower() in ("true", "false"):
        return cell.upper()
    is_number = cell.lstrip("-").replace(".", "", 1).isdigit() and "." in cell
    return cell.rstrip("0").rstrip(".") if is_number else cell


@pytest.mark.parametrize("formula", EXCEL)
def test_a_formula_shows_what_excel_shows(computed: dict[str, str], formula: str) -> None:
    assert _general(computed[formula]) == EXCEL[formula]


def test_a_value_that_is_an_error_is_null(folder: Path) -> None:
    (row,) = parquet.read(folder / "out.parquet").to_pylist()
    errors = {formula: row[f"f{number}"] for number, formula in enumerate(EXCEL) if EXCEL[formula].startswith("#")}
    assert len(errors) > 8
    assert set(errors.values()) == {None}
