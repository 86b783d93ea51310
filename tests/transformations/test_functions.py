"""Each function beside values that Excel shows: an independent check of what the random formulas compare with plain Python."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from excel_formulas import EXCEL

from recon.storage import parquet
from recon.transformations.formulas.functions import FUNCTIONS
from recon.transformations.formulas.parse import parsed
from recon.transformations.formulas.tree import Call, Tree
from recon.transformations.run import carry_out, read_request


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
