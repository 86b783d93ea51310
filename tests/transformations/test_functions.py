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
    "TRUE()": "TRUE",
    "FALSE()": "FALSE",
    "AND([@blank],TRUE)": "TRUE",
    "AND([@blank])": "#VALUE!",
    "AND([@a],TRUE)": "TRUE",
    'AND("x",TRUE)': "#VALUE!",
    "OR([@a],FALSE)": "FALSE",
    "XOR(TRUE,TRUE,TRUE)": "TRUE",
    "XOR(TRUE,1)": "FALSE",
    'SWITCH(2,1,"a",2,"b","c")': "b",
    'SWITCH("B","a",1,"b",2)': "2",
    'SWITCH(9,1,"a","other")': "other",
    "SWITCH(9,1,2)": "#N/A",
    "SWITCH(1,1,2,1/0,3)": "2",
    'CHOOSE(2.9,"a","b")': "b",
    'CHOOSE(3,"a","b")': "#VALUE!",
    "CHOOSE(1,5,1/0)": "5",
    "ISERR(1/0)": "TRUE",
    "ISERR(NA())": "FALSE",
    "ISNA(NA())": "TRUE",
    "ISNA(1/0)": "FALSE",
    "ISNUMBER(TODAY())": "TRUE",
    'ISNUMBER("1")': "FALSE",
    "ISNUMBER(1/0)": "FALSE",
    "ISTEXT([@a])": "TRUE",
    "ISTEXT([@blank])": "FALSE",
    "ISNONTEXT([@blank])": "TRUE",
    "ISNONTEXT([@a])": "FALSE",
    "ISLOGICAL(1=1)": "TRUE",
    "ERROR.TYPE(NA())": "7",
    "ERROR.TYPE(1/0)": "2",
    "ERROR.TYPE(1)": "#N/A",
    "N(TRUE)": "1",
    "N([@a])": "0",
    "N(DATE(1900,3,1))": "61",
    'T("a")': "a",
    "T(1)": "",
    "SIGN(-2.5)": "-1",
    "ROUND(1250,-2)": "1300",
    "ROUND(-1249.99,-2)": "-1200",
    "ROUND(99,-2)": "100",
    "ROUNDUP(1201,-2)": "1300",
    "ROUNDDOWN(-1299,-2)": "-1200",
    "TRUNC(-8.97)": "-8",
    "TRUNC(8.979,2)": "8.97",
    "QUOTIENT(-10,3)": "-3",
    "QUOTIENT(5,2.5)": "2",
    "QUOTIENT(1,0)": "#DIV/0!",
    "CEILING(2.5,1)": "3",
    "CEILING(-2.5,-2)": "-4",
    "CEILING(-2.5,2)": "-2",
    "CEILING(1.5,0.1)": "1.5",
    "CEILING(0.234,0.01)": "0.24",
    "CEILING(2.5,-2)": "#NUM!",
    "CEILING(2.5,0)": "0",
    "FLOOR(3.7,2)": "2",
    "FLOOR(-2.5,-2)": "-2",
    "FLOOR(-2.5,2)": "-4",
    "FLOOR(2.5,-2)": "#NUM!",
    "FLOOR(2.5,0)": "#DIV/0!",
    "MROUND(10,3)": "9",
    "MROUND(-10,-3)": "-9",
    "MROUND(1.3,0.2)": "1.4",
    "MROUND(5,-2)": "#NUM!",
    "MROUND(5,0)": "0",
    "EVEN(1.5)": "2",
    "EVEN(-1)": "-2",
    "EVEN(2)": "2",
    "ODD(1.5)": "3",
    "ODD(-2)": "-3",
    "ODD(0)": "1",
    'SUM("3",TRUE)': "4",
    'SUM("x")': "#VALUE!",
    "SUM([@a],2)": "2",
    'MAX("7",2)': "7",
    "MIN([@blank],[@a])": "0",
    "AVERAGE(1,[@blank],2.5,[@a])": "1.75",
    "AVERAGE([@blank])": "#DIV/0!",
    'COUNT(1,"2","x",[@a],[@blank],1/0,TODAY())': "3",
    'COUNTA(1,"",[@blank],1/0)': "3",
    'COUNTBLANK([@blank],[@a],"")': "2",
    "PROPER(\"it's o'neil 2nd ÉCOLE\")": "It'S O'Neil 2Nd École",
    'CLEAN("a")': "a",
    'REPLACE("abcdefghijk",6,5,"*")': "abcde*k",
    'REPLACE("2009",3,2,"10")': "2010",
    'REPLACE("abc",0,1,"x")': "#VALUE!",
    'REPT("*-",3)': "*-*-*-",
    'REPT("a",-1)': "#VALUE!",
    'REPT("abc",20000)': "#VALUE!",
    'EXACT("word","Word")': "FALSE",
    'EXACT(1,"1")': "TRUE",
    'FIND("m","Miriam McGovern")': "6",
    'FIND("M","Miriam McGovern",3)': "8",
    'FIND("x","abc")': "#VALUE!",
    'FIND("","abc",4)': "4",
    'FIND("a","abc",5)': "#VALUE!",
    'SEARCH("e","Statements",6)': "7",
    'SEARCH("MARGIN","Profit margin")': "8",
    'SEARCH("a?c","xxaBc")': "3",
    'SEARCH("b*d","abcd")': "2",
    'SEARCH("~?","a.b?")': "4",
    'SEARCH("~~","a~")': "2",
    'SEARCH("(a","x(a)")': "2",
    'SEARCH("x","abc")': "#VALUE!",
    'SUBSTITUTE("Quarter 1, 2011","1","2",3)': "Quarter 1, 2012",
    'SUBSTITUTE("aaa","a","b",4)': "aaa",
    'TEXTBEFORE("a-b-c","-")': "a",
    'TEXTBEFORE("a-b-c","-",2)': "a-b",
    'TEXTBEFORE("a-b-c","-",-1)': "a-b",
    'TEXTBEFORE("abc","-")': "#N/A",
    'TEXTAFTER("a-b-c","-")': "b-c",
    'TEXTAFTER("a-b-c","-",-1)': "c",
    'TEXTAFTER("a-b-c","-",3)': "#N/A",
    'TEXTAFTER("abc","")': "abc",
    'TEXT(1234.565,"#,##0.00")': "1,234.57",
    'TEXT(-1234567,"#,##0")': "-1,234,567",
    'TEXT(7,"000")': "007",
    'TEXT(0.285,"0%")': "29%",
    'TEXT(0.2856,"0.0%")': "28.6%",
    'TEXT(1234.5,"$#,##0.00")': "$1,234.50",
    'TEXT(0.5,"0")': "1",
    'TEXT(1.10,"General")': "1.1",
    'TEXT("abc","0.00")': "abc",
    'TEXT("12","0.00")&"!"': "12.00!",
    'TEXT([@blank],"0.00")&"!"': "0.00!",
    'TEXT(TRUE,"0")': "TRUE",
    'TEXT(DATE(2026,3,5),"yyyy-mm-dd")': "2026-03-05",
    'TEXT(DATE(2026,3,5),"dd/mm/yyyy")': "05/03/2026",
    'TEXT(DATE(2026,3,5),"mmm yyyy")': "Mar 2026",
    'TEXT(DATE(2026,3,5),"dddd, d mmmm yy")': "Thursday, 5 March 26",
    'VALUE("-$1,000")': "-1000",
    'VALUE("(5.5)")': "-5.5",
    'VALUE("12.5%")': "0.125",
    '"50%"*2': "1",
    'VALUE("{}")': "#VALUE!",
    'DATEVALUE("2026-03-05")-DATE(2026,3,5)': "0",
    'DATEVALUE("3/5/2026")-DATE(2026,3,5)': "0",
    'DATEVALUE("5-mar-2026")-DATE(2026,3,5)': "0",
    'DATEVALUE("March 5, 2026")-DATE(2026,3,5)': "0",
    'DATEVALUE("31/31/2026")': "#VALUE!",
    "YEAR(NOW())": "2026",
    "EDATE(DATE(2026,1,31),1)-DATE(2026,2,28)": "0",
    "EDATE(DATE(2026,1,31),-2)-DATE(2025,11,30)": "0",
    "EDATE(DATE(2026,1,31),-2000)": "#NUM!",
    "EOMONTH(DATE(2024,1,15),1)-DATE(2024,2,29)": "0",
    "EOMONTH(DATE(2026,1,15),-1.9)-DATE(2025,12,31)": "0",
    'DATEDIF(DATE(2001,1,1),DATE(2003,1,1),"Y")': "2",
    'DATEDIF(DATE(2001,6,1),DATE(2002,8,15),"D")': "440",
    'DATEDIF(DATE(2001,6,1),DATE(2002,8,15),"ym")': "2",
    'DATEDIF(DATE(2001,6,20),DATE(2002,8,15),"M")': "13",
    'DATEDIF(DATE(2001,6,20),DATE(2002,8,15),"MD")': "26",
    'DATEDIF(DATE(2003,1,1),DATE(2001,1,1),"Y")': "#NUM!",
    "DAYS(DATE(2021,3,15),DATE(2021,2,1))": "42",
    "WEEKDAY(DATE(2008,2,14))": "5",
    "WEEKDAY(DATE(2008,2,14),2)": "4",
    "WEEKDAY(DATE(2008,2,14),3)": "3",
    "WEEKDAY(DATE(2008,2,14),16)": "6",
    "WEEKNUM(DATE(2012,3,9))": "10",
    "WEEKNUM(DATE(2012,3,9),2)": "11",
    "WEEKNUM(DATE(2027,1,1),21)": "53",
    "ISOWEEKNUM(DATE(2012,3,9))": "10",
    "NETWORKDAYS(DATE(2012,10,1),DATE(2013,3,1))": "110",
    "NETWORKDAYS(DATE(2026,11,30),DATE(2026,12,31))": "23",
    "NETWORKDAYS(DATE(2026,12,31),DATE(2026,11,30))": "-23",
    "NETWORKDAYS(DATE(2026,11,28),DATE(2026,11,29))": "0",
    "WORKDAY(DATE(2026,12,24),1)-DATE(2026,12,28)": "0",
    "WORKDAY(DATE(2026,12,28),-1)-DATE(2026,12,24)": "0",
    "WORKDAY(DATE(2026,11,28),0)-DATE(2026,11,28)": "0",
    "WORKDAY(DATE(2026,1,1),-40000)": "#NUM!",
    "SQRT(16)": "4",
    "SQRT(-1)": "#NUM!",
    "2^0.5": "1.4142135624",
    "POWER(4,-1)": "0.25",
    "0^-1": "#DIV/0!",
}
"""Formula → what Excel shows; TODAY is 2026-11-30, and 2026-12-25 a holiday."""


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
    request = {
        "as_of": "2026-11-30",
        "holidays": ["2026-12-25"],
        "approximate": True,
        "inputs": {"one": {"path": "one.csv"}},
        "outputs": OUTPUTS,
    }
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
