"""The modules in ``examples/`` that read the examples' source data."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from folders import EXAMPLES

ACH = EXAMPLES / "ach" / "data" / "PPD-200-batches-100000-entries.ach.gz"


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = loaded  # dataclasses look their module up
    spec.loader.exec_module(loaded)
    return loaded


ach = module(EXAMPLES / "ach" / "ach_events.py")
transactions = module(EXAMPLES / "transactions" / "prepare.py")
