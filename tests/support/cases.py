"""Small reconciliations for single examples: the situations in ``tests/data/cases``, or a text of one's own."""

from __future__ import annotations

import shutil
from pathlib import Path

from folders import CASES

import recon
from recon.api import Reconciliation


def case(folder: Path, name: str | None = None, config: str = "recon.yaml", text: str | None = None) -> Reconciliation:
    """The reconciliation of a case (a copy of its folder), or of the configuration ``text``, with an empty store."""
    folder.mkdir(parents=True, exist_ok=True)
    if name is not None:
        shutil.copytree(CASES / name, folder, dirs_exist_ok=True)
    if text is not None:
        (folder / config).write_text(text)
    opened = recon.open(folder / config)
    opened.store(create=True)
    return opened
