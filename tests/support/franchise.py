"""The franchise's example as a site of its own, whose inbox is empty."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from folders import EXAMPLES

DATA = EXAMPLES / "franchise" / "data"
NAMES = sorted(path.name for path in DATA.iterdir())
WINDOW = "2016-06-01T00:00Z"


def made(folder: Path) -> Path:
    """A copy of the example in ``folder``, without its files."""
    site = folder / "franchise"
    shutil.copytree(EXAMPLES / "franchise", site, ignore=shutil.ignore_patterns("data"))
    (site / "inbox").mkdir()
    return site


def arrive(site: Path, *names: str, age_s: float = 60) -> None:
    """Puts files into the inbox, all of them unless some are named; they changed ``age_s`` ago."""
    for name in names or NAMES:
        path = site / "inbox" / name
        shutil.copy(DATA / name, path)
        os.utime(path, (time.time() - age_s,) * 2)
