"""The functions of formulas: a module a family, each function with Excel's rule in its docstring."""

from __future__ import annotations

from collections.abc import Mapping

from recon.transformations.formulas.compile import Function
from recon.transformations.formulas.functions.dates import DATES
from recon.transformations.formulas.functions.logic import LOGIC
from recon.transformations.formulas.functions.numbers import NUMBERS
from recon.transformations.formulas.functions.texts import TEXTS

FUNCTIONS: Mapping[str, Function] = {**LOGIC, **NUMBERS, **TEXTS, **DATES}
"""Name, or sign, → function."""
