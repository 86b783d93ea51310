"""Types that a trial proposes: exact, never for texts that only look like numbers; and the request with them."""

from __future__ import annotations

import csv
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from cli_calls import Call
from hypothesis import given, settings
from hypothesis import strategies as st

from recon.errors import WrongUsage
from recon.transformations.inputs import proposing
from recon.transformations.inputs.files import Scratch
from recon.transformations.inputs.opening import Places, opened_at
from recon.transformations.request.inputs import Input
from recon.transformations.run import carry_out, read_request
from recon.transformations.trial import tried


def proposed(folder: Path, values: list[str], types: dict[str, str] | None = None) -> tuple[str, str]:
    """The proposed type of a column, and why."""
    with (folder / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["row", "x"], *([number, value] for number, value in enumerate(values))])
    inputs = {"t": Input.model_validate({"path": "t.csv", "types": {"row": "integer", **(types or {})}})}
    found = proposing.propose(opened_at(inputs, Places(folder, Scratch()))["t"])
    return next(((str(each.type), each.why) for each in found.columns), ("declared", ""))


@pytest.mark.parametrize(
    ("values", "type_", "why"),
    [
        (["1", "-20", "+3", ""], "integer", ""),
        (["1.50", "-2", "0.125"], "decimal(18,3)", ""),
        (["12345678901234567890.5"], "decimal(38,1)", ""),
        ([f"{'9' * 30}.{'9' * 9}"], "text", "its values need 39 digits, and a decimal has at most 38"),
        (["007", "10", "0100"], "text", "2 values begin with a zero, such as 007"),
        (["0", "0.5", "-0.25"], "decimal(18,2)", ""),
        (["4012888888881881", "1"], "text", "it has numbers of 16 digits, more than a sheet keeps; write integer or decimal(16,0) if they"),
        (["2026-11-30", "2024-02-29", ""], "date", ""),
        (["2026-02-30"], "text", ""),
        (
            ["2026-11-30", "30.11.2026", "1.12.2026"],
            "text",
            "its dates are written in 2 ways: 1 as 2026-11-30 and 2 as 30.11.2026",
        ),
        (["11/30/2026", "1/2/26"], "text", "its dates are written as 11/30/2026; DATEVALUE reads them"),
        (["20261130", "20261201"], "integer", "every value could be a date such as 20261130"),
        (["true", "FALSE"], "boolean", ""),
        (["1,234.50", "2", "3.25"], "text", "1 numbers have commas; VALUE reads them"),
        ([*["1"] * 19, "n/a"], "text", "1 of 20 values are no numbers, first 'n/a' in row 21"),
        (["1.5", "#N/A", "#DIV/0!"], "decimal(18,1)", "2 values are errors"),
        (["#N/A"], "text", "every value is an error"),
        (["a", "1"], "text", ""),
        (["", ""], "text", "every value is blank"),
        (["1e5"], "text", ""),
    ],
)
def test_a_type_is_proposed_where_every_value_has_it_exactly(tmp_path: Path, values: list[str], type_: str, why: str) -> None:
    found = proposed(tmp_path, values)
    assert found[0] == type_
    assert found[1].startswith(why) if why else found[1] == ""


def test_a_declared_column_gets_no_proposal(tmp_path: Path) -> None:
    assert proposed(tmp_path, ["1"], {"x": "text"}) == ("declared", "")


def test_no_more_rows_are_read_than_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposing, "ROWS_MAX", 1)
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text("x\n1\n")
    found = proposing.propose(opened_at({"t": Input(path=("a.csv", "b.csv"))}, Places(tmp_path, Scratch()))["t"])
    assert (found.rows, found.all) == (1, False)


NUMBERS = st.decimals(-(10**12), 10**12, places=4).map(lambda one: f"{one.normalize():f}") | st.integers(-(10**14), 10**14).map(str)


@settings(max_examples=25, deadline=None)
@given(st.lists(NUMBERS | st.just(""), min_size=1, max_size=6))
def test_no_proposed_type_loses_a_digit_or_makes_an_error(tmp_path_factory: pytest.TempPathFactory, values: list[str]) -> None:
    folder = tmp_path_factory.mktemp("proposals")
    kind, _ = proposed(folder, values)
    types = {"row": "integer", **({"x": kind} if kind != "text" else {})}
    request = {"inputs": {"t": {"path": "t.csv", "types": types}}, "outputs": [{"table": "t", "path": "out.csv"}]}
    (folder / "request.json").write_text(json.dumps(request))
    carry_out(read_request(folder / "request.json"))
    with (folder / "out.csv").open(newline="") as file:
        written = [row["x"] for row in csv.DictReader(file)]
    assert [one and Decimal(one) for one in written] == [one and Decimal(one) for one in values]


REQUEST: dict[str, Any] = {
    "inputs": {"sales": {"path": "sales.csv"}},
    "operations": [{"group": {"table": "sales", "by": "region", "values": {"total": {"sum": "amount"}}}}],
    "outputs": [{"table": "sales", "path": "out.csv"}],
}


def test_a_request_without_types_is_written_with_those_that_mend_it(tmp_path: Path, recon: Call) -> None:
    (tmp_path / "sales.csv").write_text("region,amount,due\nNorth,1.50,2026-11-01\nSouth,2,\n")
    file, new = tmp_path / "request.json", tmp_path / "typed.yaml"
    file.write_text(json.dumps(REQUEST))
    answer = recon("transform", str(file), "--dry-run")
    assert (answer.status, answer.out) == (2, 'proposed for sales, by all 2 rows: types: {amount: "decimal(18,2)", due: date}\n')
    assert "'amount' is text" in answer.line
    assert "; with the proposed types the request is good: --dry-run --out FILE writes it with them" in answer.line
    answer = recon("transform", str(file), "--dry-run", "--out", str(new))
    assert (answer.status, answer.out.splitlines()[-1]) == (0, f"written: {new}")
    assert tried(new).tables is not None
    assert recon("transform", str(new)).status == 0
    assert (tmp_path / "out.csv").read_text() == "region,total\nNorth,1.50\nSouth,2.00\n"
    assert "exists already; name a new file" in recon("transform", str(file), "--dry-run", "--out", str(new)).line
    assert "write it beside" in recon("transform", str(file), "--dry-run", "--out", str(tmp_path.parent / "x.yaml")).line
    assert "so it needs --dry-run" in recon("transform", str(file), "--out", str(new)).line


def test_a_mistake_that_no_type_mends_stays_one_and_a_good_request_is_told(tmp_path: Path, recon: Call) -> None:
    (tmp_path / "sales.csv").write_text("region,amount\nNorth,1.50\n007,x\n")
    file = tmp_path / "request.json"
    file.write_text(json.dumps(REQUEST))
    line = recon("transform", str(file), "--dry-run").line
    assert "'amount' is text" in line
    assert "the request is good" not in line
    file.write_text(json.dumps({**REQUEST, "operations": []}))
    found = recon("transform", str(file), "--dry-run", "--json").json
    assert (found["good"], found["tables"]) == (True, {"sales": {"region": "text", "amount": "text"}})
    assert found["proposed"]["sales"]["columns"]["amount"] == {"type": "text"}
    (tmp_path / "sales.csv").unlink()
    with pytest.raises(WrongUsage, match="there is no such file"):
        tried(file)
