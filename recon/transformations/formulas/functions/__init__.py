"""The functions of formulas: a module a family, each function with Excel's rule in its docstring."""

from __future__ import annotations

from collections.abc import Mapping

from recon.transformations.formulas.compile import Function
from recon.transformations.formulas.functions.aggregates import AGGREGATES
from recon.transformations.formulas.functions.dates import DATES
from recon.transformations.formulas.functions.formats import FORMATS
from recon.transformations.formulas.functions.information import INFORMATION
from recon.transformations.formulas.functions.logic import LOGIC
from recon.transformations.formulas.functions.multiples import MULTIPLES
from recon.transformations.formulas.functions.numbers import NUMBERS
from recon.transformations.formulas.functions.searching import SEARCHING
from recon.transformations.formulas.functions.texts import TEXTS
from recon.transformations.formulas.functions.workdays import WORKDAYS

FAMILIES = (LOGIC, INFORMATION, NUMBERS, MULTIPLES, AGGREGATES, TEXTS, SEARCHING, FORMATS, DATES, WORKDAYS)
FUNCTIONS: Mapping[str, Function] = {name: function for family in FAMILIES for name, function in family.items()}
"""Name, or sign, → function."""
