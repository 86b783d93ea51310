"""Fewer examples of each law, for the inner loop: ``make check`` sets $RECON_EXAMPLES_MAX."""

from __future__ import annotations

import os
from collections.abc import Iterable

import pytest
from hypothesis import settings

VARIABLE = "RECON_EXAMPLES_MAX"
_SETTINGS = "_hypothesis_internal_use_settings"
"""Where hypothesis keeps the settings of a decorated test; a profile does not change those that a test has of its own."""


def cap(items: Iterable[pytest.Item]) -> None:
    """Lowers the number of examples of each hypothesis test to the variable's, where it is set."""
    if not (most := os.environ.get(VARIABLE)):
        return
    for item in items:
        test = getattr(getattr(item, "obj", None), "__func__", getattr(item, "obj", None))
        own = getattr(test, _SETTINGS, None)
        if own is not None and own.max_examples > int(most):
            setattr(test, _SETTINGS, settings(own, max_examples=int(most)))
