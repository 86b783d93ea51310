"""Random formulas over random rows come to what plain Python says, to the last digit, with their errors."""

from __future__ import annotations

import csv
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import plain_formulas
import plain_functions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plain_functions import Wrong

from recon.errors import WrongUsage
from recon.storage import parquet
from recon.transformations.formulas.parse import parsed
from recon.transformations.formulas.tree import ERRORS
from recon.transformations.run import carry_out, read_request

EXAMPLES = int(os.environ.get("RECON_LAW_EXAMPLES", "8"))
TODAY = date(2026, 11, 30)
TYPES = {"a": "decimal(12,2)", "b": "decimal(9,3)", "k": "integer", "t": "text", "u": "text", "d": "date", "f": "boolean"}

HOLIDAYS = ", ".join(map(str, plain_functions.HOLIDAYS))
WEEKENDS = st.sampled_from(["1", "2", "7", "11", "13", "17", '"0000011"', '"1111110"', '"0000000"', '"1010101"'])
STEPS = st.sampled_from(["3", "-3", "0.5", "[@k]", "0"])
FORMATS = st.sampled_from(['"0"', '"0.00"', '"#,##0"', '"#,##0.00"', '"0%"', '"0.0%"', '"000"'])
DAY_FORMATS = st.sampled_from(['"yyyy-mm-dd"', '"dd/mm/yyyy"', '"m/d/yy"', '"mmm yyyy"', '"dddd, d mmmm"'])
NUMBERS = st.sampled_from(["0", "1", "2", "-1", "0.5", "1.005", "-7.25", "12.345", "100", "99999.99"])
TEXTS = st.sampled_from(
    ["", "x", "Abc", "abc", " two  words ", "1,234.50", "12", "-3.5", "TRUE", "é", 'a"b', "#N/A", "it's", "5%", "(2)", "a?b", "2026-03-05"]
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "a": st.none() | st.decimals(-99999, 99999, places=2),
            "b": st.none() | st.decimals(-999, 999, places=3),
            "k": st.none() | st.integers(-20, 20),
            "t": TEXTS,
            "u": TEXTS,
            "d": st.none() | st.dates(date(1990, 1, 1), date(2060, 12, 31)),
            "f": st.none() | st.booleans(),
        }
    ),
    min_size=1,
    max_size=6,
)


PATTERNS = st.sampled_from(['"b"', '"a?b"', '"*b"', '"a~?b"', '"o*d"', '"~"', '"."'])


def _binary(signs: Sequence[str], one: st.SearchStrategy[str], two: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(lambda sign, left, right: f"({left}{sign}{right})", st.sampled_from(signs), one, two)


def _call(names: Sequence[str], *args: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(lambda name, *given: f"{name}({','.join(given)})", st.sampled_from(names), *args)


def formulas(depth: int) -> tuple[st.SearchStrategy[str], st.SearchStrategy[str], st.SearchStrategy[str]]:
    """Strategies of formulas that give numbers, texts and truth values."""
    number = st.sampled_from(["[@a]", "[@b]", "[@k]"]) | NUMBERS
    text = st.sampled_from(["[@t]", "[@u]", '"x"', '"Ab c"', '""'])
    truth = st.sampled_from(["TRUE", "FALSE", "[@f]"])
    day = st.sampled_from(["[@d]", "TODAY()", "DATE(2026,[@k],[@k])", "DATEVALUE([@t])", "DATE(2026,12,24)", "DATE(2027,1,2)"])
    for _ in range(depth):
        digits = st.sampled_from(["0", "1", "2", "3"])
        small = st.sampled_from(["0", "1", "2", "3", "-1", "[@k]"])
        deeper_number = (
            _binary(["+", "-", "*", "/"], number, number)
            | _call(["ABS", "INT"], number)
            | _call(["ROUND", "ROUNDUP", "ROUNDDOWN"], number, digits)
            | _call(["ROUND", "ROUNDUP", "ROUNDDOWN", "TRUNC"], number, st.sampled_from(["-2", "-1"]))
            | _call(["SIGN", "EVEN", "ODD", "TRUNC", "N"], number)
            | _call(["MOD", "QUOTIENT", "CEILING", "FLOOR", "MROUND"], number, STEPS)
            | _call(["SUM", "MIN", "MAX", "AVERAGE"], number, number | text | truth)
            | _call(["COUNT", "COUNTA", "COUNTBLANK"], number, text, truth | st.sampled_from(["[@d]", "(1/0)"]))
            | _call(["FIND", "SEARCH"], text | PATTERNS, text)
            | _call(["FIND", "SEARCH"], text | PATTERNS, text, small)
            | _call(["CHOOSE"], small, number, number)
            | _call(["SWITCH"], number | text, number | text, number, number)
            | _call(["SWITCH", "IFS"], truth, number, truth, number)
            | _call(["ERROR.TYPE"], number)
            | _call(["DATEDIF"], day, day, st.sampled_from(['"Y"', '"M"', '"D"', '"YM"', '"MD"']))
            | _call(["DAYS", "NETWORKDAYS"], day, day)
            | _call(["NETWORKDAYS.INTL"], day, day, WEEKENDS)
            | _call(["WEEKDAY"], day, st.sampled_from(["1", "2", "3", "13"]))
            | _call(["WEEKNUM"], day, st.sampled_from(["1", "2", "15", "21"]))
            | _call(["ISOWEEKNUM"], day)
            | _call(["LEN", "VALUE"], text)
            | _call(["IF"], truth, number, number)
            | _call(["IFERROR", "IFNA"], number, number)
            | st.builds(lambda one: f"-{one}", st.sampled_from(["[@a]", "[@k]", "2"]))
            | st.builds(lambda one: f"{one}%", st.sampled_from(["[@a]", "5"]))
            | st.builds(lambda one, power: f"({one})^{power}", st.sampled_from(["[@k]", "-2", "1.5"]), st.integers(0, 3))
            | _call(["YEAR", "MONTH", "DAY"], day)
            | st.sampled_from(["([@d]-TODAY())", "(TODAY()-[@d])"])
        )
        deeper_text = (
            _binary(["&"], text, number | text)
            | _call(["UPPER", "LOWER", "TRIM", "PROPER", "CLEAN"], text)
            | _call(["T"], text | number)
            | _call(["REPT"], text, small)
            | _call(["REPLACE"], text, small, small, text)
            | _call(["TEXTBEFORE", "TEXTAFTER"], text, text, st.sampled_from(["1", "2", "-1", "-2"]))
            | _call(["SUBSTITUTE"], text, text, text, st.sampled_from(["1", "2"]))
            | _call(["TEXT"], number | text | truth, FORMATS)
            | _call(["TEXT"], day, DAY_FORMATS)
            | _call(["LEFT", "RIGHT"], text, small)
            | _call(["MID"], text, small, small)
            | _call(["SUBSTITUTE"], text, text, text)
            | _call(["IF"], truth, text, text)
            | _call(["IFERROR"], text, text)
            | _call(["CONCAT"], text, number, truth)
            | _call(["TEXTJOIN"], text, truth, text, text, number)
        )
        deeper_truth = (
            _binary(["=", "<>", "<", "<=", ">", ">="], number, number)
            | _binary(["=", "<>", "<", ">="], text, text | number | truth)
            | _binary(["=", "<>", ">", "<="], number | truth, text)
            | _call(["AND", "OR", "XOR"], truth, truth | number)
            | _call(["AND", "OR", "XOR"], truth | st.sampled_from(["[@t]"]), truth)
            | _call(["EXACT"], text, text | number)
            | _call(["ISNUMBER", "ISTEXT", "ISNONTEXT", "ISLOGICAL", "ISNA", "ISERR"], number | text | truth)
            | _call(["NOT"], truth | number)
            | _call(["ISERROR"], number)
            | st.sampled_from(["ISBLANK([@a])", "ISBLANK([@d])", "ISBLANK([@a]/0)", "[@d]<TODAY()", "[@d]>=DATE(2026,1,1)"])
        )
        moved = _binary(["+", "-"], st.sampled_from(["TODAY()", "DATE(2026,12,24)"]), st.sampled_from(["[@k]", "30", "LEN([@t])"]))
        deeper_day = (
            moved
            | _call(["EDATE", "EOMONTH", "WORKDAY"], day, small | st.sampled_from(["-12", "25"]))
            | _call(["WORKDAY.INTL"], day, small | st.sampled_from(["-12", "25"]), WEEKENDS)
            | _call(["IF"], truth, day, day)
        )
        day = day | deeper_day
        number, text, truth = number | deeper_number, text | deeper_text, truth | deeper_truth
    return number, text, truth


ANY = st.one_of(*formulas(3))


def computed(formulas: Sequence[str], rows: Sequence[Mapping[str, Any]], check_only: bool = False) -> list[list[Any]]:
    """The values of formulas by a request, row by row; none where the request is only checked."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (folder / "rows.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["row", *TYPES])
            for number, row in enumerate(rows):
                writer.writerow([number, *("" if row[name] is None else str(row[name]) for name in TYPES)])
        columns = {f"x{number}": f"={formula}" for number, formula in enumerate(formulas)}
        lines = [f"    {name}: {_quoted(text)}" for name, text in columns.items()]
        types = ", ".join(f'{name}: "{kind}"' for name, kind in TYPES.items())
        (folder / "request.yaml").write_text(
            f"version: v1\nas_of: {TODAY}\nmemory_limit: 1GB\nholidays: [{HOLIDAYS}]\n"
            f"inputs:\n  rows: {{path: rows.csv, types: {{{types}}}}}\noperations:\n"
            "- compute:\n    table: rows\n    set:\n" + "\n".join(f"  {line}" for line in lines) + "\noutputs:\n"
            "- {table: rows, path: out.parquet}\n- {table: rows, path: out.csv}\n"
        )
        asked = read_request(folder / "request.yaml")
        if check_only:
            return []
        carry_out(asked)
        table = parquet.read(folder / "out.parquet").to_pydict()
        with (folder / "out.csv").open(newline="") as file:
            written = list(csv.DictReader(file))
        return [
            [Wrong(ERRORS[row[name]]) if table[name][at] is None and row[name] in ERRORS else table[name][at] for name in columns]
            for at, row in enumerate(written)
        ]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def same(found: Any, expected: Any) -> bool:
    if isinstance(found, Wrong) or isinstance(expected, Wrong):
        return bool(found == expected)
    if isinstance(expected, Decimal) and found is not None and not isinstance(found, bool | str):
        return Decimal(str(found)) == expected if not isinstance(found, date) else Decimal((found - plain_functions.DAY_0).days) == expected
    return found == expected and type(found) is type(expected)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(ANY, min_size=1, max_size=6), ROWS)
def test_formulas_come_to_what_plain_python_says(formulas: list[str], rows: list[dict[str, Any]]) -> None:
    rows = [{name: value if value != "" else None for name, value in row.items()} for row in rows]
    kept, reasons = [], list[str]()
    for formula in formulas:
        try:
            computed([formula], rows[:1], check_only=True)
        except WrongUsage as refused:
            reasons.append(f"={formula}: {refused}")
        else:
            kept.append(formula)
    assert all(re.search("would give a column of|digits|takes a date", reason) for reason in reasons), reasons
    if not kept:
        return
    found = computed(kept, rows)
    for at, row in enumerate(rows):
        for formula, value in zip(kept, found[at], strict=True):
            expected = plain_formulas.evaluated(parsed(f"={formula}"), row, TODAY)
            assert same(value, expected), f"={formula} over {row}: {value!r}, not {expected!r}"
