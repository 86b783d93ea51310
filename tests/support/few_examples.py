"""Fewer examples of each law, and fewer cases of each test, for the inner loop: ``make check`` sets $RECON_EXAMPLES_MAX."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import settings

T = TypeVar("T")
VARIABLE = "RECON_EXAMPLES_MAX"
_SETTINGS = "_hypothesis_internal_use_settings"
"""Where hypothesis keeps the settings of a decorated test; a profile does not change those that a test has of its own."""


def spread(cases: Sequence[T], most: int) -> list[T]:
    """At most so many of the cases, in equal steps from the first on."""
    step = max(1.0, len(cases) / most)
    return [cases[int(number * step)] for number in range(min(most, len(cases)))]


def cap(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Lowers the examples of each hypothesis test, and the cases of each parametrized test, to the variable's number, where it is set."""
    if not (most := os.environ.get(VARIABLE)):
        return
    cases: dict[tuple[Path, str], list[pytest.Item]] = {}
    for item in items:
        cases.setdefault((item.path, getattr(item, "originalname", item.name)), []).append(item)
    kept = {id(item) for each in cases.values() for item in spread(each, int(most))}
    config.hook.pytest_deselected(items=[item for item in items if id(item) not in kept])
    items[:] = [item for item in items if id(item) in kept]
    for item in items:
        test = getattr(getattr(item, "obj", None), "__func__", getattr(item, "obj", None))
        own = getattr(test, _SETTINGS, None)
        if own is not None and own.max_examples > int(most):
            setattr(test, _SETTINGS, settings(own, max_examples=int(most)))
