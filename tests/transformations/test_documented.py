"""Every operation of requests and every function of formulas has a row in the documentation."""

from __future__ import annotations

import re
from pathlib import Path

from recon.transformations.formulas.functions import FUNCTIONS
from recon.transformations.operations.over_tables import FUNCTIONS as OF_COLUMNS
from recon.transformations.request.model import KINDS

OPERATORS = {"NEG", "%", "^", "&"}
PAGE = Path(__file__).parents[2] / "docs" / "transformations.md"


def test_every_operation_has_a_row_in_the_documentation_and_every_row_is_an_operation() -> None:
    section = PAGE.read_text().split("## Operations")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    named = [name for row in rows for name in re.findall("`([a-z_]+)`", row)]
    assert sorted(named) == sorted(KINDS)


def test_every_function_has_a_row_in_the_documentation_and_every_row_is_a_function() -> None:
    section = PAGE.read_text().split("## Formulas")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`([A-Z.]+)\(", row)]
    assert sorted(named) == sorted(name for name in FUNCTIONS if name not in OPERATORS)


def test_the_documentation_counts_operations_and_functions() -> None:
    functions = {*FUNCTIONS, *OF_COLUMNS} - OPERATORS
    assert f"There are {len(KINDS)} operations and {len(functions)} functions" in PAGE.read_text()


def test_every_function_of_whole_columns_has_a_row_in_the_documentation() -> None:
    section = PAGE.read_text().split("## Formulas over whole columns")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall("[A-Z]{3,}", row)} == OF_COLUMNS
