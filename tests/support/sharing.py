"""How tests are shared out among the processes of ``pytest -n``: a file's tests together, and long ones first.

Tests of a file share what its fixtures have made, such as a server, a deployed stack or a store that was run. Each process would make it
again if it had a part of the file.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableSequence
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

APART = ("test_daemon",)
"""Beginnings of the names of files whose tests share nothing and take long: each of them goes to whichever process is free."""
TOGETHER = {"test_engines": "spark", "test_conformance": "spark"}
"""Files that share what takes long to start: one Spark in one process."""
FIRST = ("daemon", "spark", "server", "process", "hypothesis")
"""Markers of what takes long. Files with such tests go first, in this order, so that no process is left alone with them at the end."""


class ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """``--dist loadfile`` with APART and TOGETHER, in the order of the collection."""

    def __init__(self, config: pytest.Config, log: Any) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        name = Path(file).stem
        return nodeid if name.startswith(APART) else TOGETHER.get(name, file)


def long_ones_first(items: MutableSequence[pytest.Item]) -> None:
    """Sorts files by the first of their tests' markers in FIRST; the order within a file stays."""
    ranks: dict[Path, int] = {}
    for item in items:
        ranks[item.path] = min(ranks.get(item.path, len(FIRST)), _rank(item.iter_markers()))
    items.sort(key=lambda item: ranks[item.path])  # type: ignore[attr-defined]


def _rank(markers: Iterable[pytest.Mark]) -> int:
    names = {one.name for one in markers}
    return next((place for place, name in enumerate(FIRST) if name in names), len(FIRST))
