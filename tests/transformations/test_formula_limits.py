"""Long and deep formulas work or are refused in one line; what a formula cannot have is refused by name; what the request allows them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from recon.errors import WrongUsage
from recon.transformations.run import carry_out, read_request


def request(folder: Path, formulas: dict[str, str], **more: Any) -> Path:
    (folder / "rows.csv").write_text("a,b,d\n7,x,2026-12-24\n")
    inputs = {"rows": {"path": "rows.csv", "types": {"a": "integer", "d": "date"}}}
    operations = [{"compute": {"table": "rows", "set": formulas}}]
    content = {"as_of": "2026-11-30", "inputs": inputs, "operations": operations, "outputs": [{"table": "rows", "path": "out.csv"}], **more}
    (folder / "request.json").write_text(json.dumps(content))
    return folder / "request.json"


def computed(folder: Path, formula: str, **more: Any) -> str:
    carry_out(read_request(request(folder, {"x": formula}, **more)))
    with (folder / "out.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    return str(row["x"])


def nested(before: str, depth: int, inner: str, after: str) -> str:
    return f"={before * depth}{inner}{after * depth}"


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        (nested("IF([@a]>0,", 64, "[@a]", ",0)"), "7"),
        (nested("TRIM(", 64, "[@b]", ")"), "x"),
        (nested("(", 64, "[@a]", ")"), "7"),
        (nested("IFERROR(2-", 30, "[@a]", ",0)"), "7"),
        (f"={'+'.join(['[@a]'] * 60)}", "420"),
        (f"={'&'.join(['[@b]'] * 250)}", "x" * 250),
        (f"=SUM({','.join(['[@a]'] * 255)})", "1785"),
        (f"=AND({','.join(['[@a]=7'] * 255)})", "true"),
        (f"=SWITCH(126,{','.join(f'{n},{n}' for n in range(127))})", "126"),
        (f'=LEN("{"x" * 8184}")', "8184"),
    ],
    ids=["if", "trim", "brackets", "iferror", "plus", "ampersand", "sum", "and", "switch", "length"],
)
def test_long_and_deep_formulas_work(tmp_path: Path, formula: str, value: str) -> None:
    assert computed(tmp_path, formula) == value


@pytest.mark.parametrize(
    ("formula", "told"),
    [
        (nested("TRIM(", 65, "[@b]", ")"), "nested at most 64 deep"),
        (nested("TRIM(", 4000, "[@b]", ""), "at most 8,192 characters"),
        (nested("(1+", 60, "1", ")"), "nesting too deep"),
        (f"={'-' * 8000}1", "nesting too deep"),
        (
            f"={'+'.join(['1'] * 4000)}",
            "'=1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1'… is too long a chain of operators: it has 3,999, and at most some 250",
        ),
        (
            f"={'&'.join(['[@b]'] * 300)}",
            "it has 299, and at most some 250 may follow one another; use SUM or CONCAT, or compute a part as a column",
        ),
        (f"=1{'%' * 8000}", "too long a chain of operators: it has 8,000"),
        (f"={'{' * 64}1{'}' * 64}", "array"),
        (f'=LEN("{"x" * 8190}")', "at most 8,192 characters, this one has 8,198"),
        (f"=SUM({','.join(['1'] * 256)})", "SUM takes 1 to 255 arguments, not 256"),
        ("=LET(x,1,x)", "LET is not supported: compute the part as a column of its own"),
        ("=1+LAMBDA(x,x)", "LAMBDA is not supported"),
        ("=LAMBDA(x,x)(1)", "not supported"),
        ("=OFFSET(A1,1,1)", "OFFSET is not supported: there are no cells; name a column"),
        ('=INDIRECT("A1")', "INDIRECT is not supported"),
        ("=RAND()*[@a]", "RAND is not supported: the same request gives the same result"),
        ("=SUM(A1:B9)", "A1:B9"),
        ("=A1", "A1 is a cell of another row; write the formula as it stands in row 2"),
        ("=SUM({1,2})", "an array constant"),
        ("=NPV(1,2)", "the function NPV is not supported"),
        ('=TEXT([@a],"# ?/?")', "the format '# ?/?' of TEXT is not supported; there are numbers such as 0"),
        ('=TEXT([@d],"hh:mm")', "the format 'hh:mm' of TEXT is not supported"),
        ("=TEXT([@a],[@b])", "the format of TEXT has to be a text as it is written"),
        ('=DATEDIF([@d],[@d],"YD")', "the unit of DATEDIF"),
        ("=WEEKDAY([@d],4)", "the type 4 of WEEKDAY"),
        ("=NETWORKDAYS.INTL([@d],[@d],8)", "the days off of NETWORKDAYS.INTL are 8; there are 1 to 7 and 11 to 17"),
        ('=WORKDAY.INTL([@d],1,"1111111")', 'the days off of WORKDAY.INTL are a text such as "0000011"'),
        ("=WORKDAY.INTL([@d],1,[@a])", "the days off of WORKDAY.INTL has to be a number as it is written"),
        ("=YEAR([@a])", "YEAR takes a date, not integer; DATE and DATEVALUE make dates"),
        ("=[@a]^0.5", "write approximate: true in the request"),
        ("=SQRT([@a])", "a root is not exact; write approximate: true"),
        ("=[@a]\0", "character 0"),
    ],
)
def test_what_cannot_be_is_refused_with_operation_column_and_name(tmp_path: Path, formula: str, told: str) -> None:
    with pytest.raises(WrongUsage) as refused:
        read_request(request(tmp_path, {"total": formula}))
    assert str(refused.value).startswith("operation 1 (compute): total: ")
    assert told in str(refused.value)


def test_hundreds_of_columns_some_of_which_build_on_each_other_are_one_operation(tmp_path: Path) -> None:
    columns = {"x0": "=[@a]", **{f"x{number}": f"=[@x{number - 1}]+1" for number in range(1, 45)}}
    columns |= {f"y{number}": f"=[@a]*{number}" for number in range(300)}
    carry_out(read_request(request(tmp_path, columns)))
    with (tmp_path / "out.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["x44"], row["y299"]) == ("51", "2093")


def test_a_named_calendar_is_looked_up_and_its_days_are_in_the_certificate(tmp_path: Path) -> None:
    calendar = {"calendar": "DE-BY", "years": [2026, 2027]}
    formulas = {"x": "=NETWORKDAYS([@d],DATE(2027,1,6))", "later": "=NETWORKDAYS([@d],DATE(2028,1,3))", "next": "=WORKDAY([@d],1)"}
    certificate = carry_out(read_request(request(tmp_path, formulas, holidays=calendar)))
    with (tmp_path / "out.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["x"], row["later"], row["next"]) == ("7", "#NUM!", "2026-12-28")
    assert {"2026-12-25", "2026-12-26", "2027-01-01", "2027-01-06"} <= set(certificate["holidays"])
    assert certificate["holidays"] == sorted(certificate["holidays"])


@pytest.mark.parametrize(
    ("holidays", "told"),
    [
        ({"calendar": "DE-XX", "years": [2026, 2027]}, "does not have subdivision XX"),
        ({"calendar": "Atlantis", "years": [2026, 2027]}, "not available; name a country such as DE"),
        ({"calendar": "DE", "years": [2027, 2026]}, "2027 to 2026 are no years in order"),
        ({"calendar": "DE"}, "years"),
        (["25.12.2026"], "holidays"),
    ],
)
def test_holidays_that_are_none_are_refused(tmp_path: Path, holidays: Any, told: str) -> None:
    with pytest.raises(WrongUsage, match="holidays") as refused:
        read_request(request(tmp_path, {"x": "=NETWORKDAYS([@d],[@d])"}, holidays=holidays))
    assert told in str(refused.value)


def test_an_operation_in_doubles_is_in_the_certificate(tmp_path: Path) -> None:
    certificate = carry_out(read_request(request(tmp_path, {"x": "=SQRT([@a])"}, approximate=True)))
    assert certificate["operations"][0]["approximate"] is True
    certificate = carry_out(read_request(request(tmp_path, {"x": "=[@a]^2"}, approximate=True)))
    assert "approximate" not in certificate["operations"][0]
