"""A small store, and a copy of it for a test to damage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from verified_store import begin, land, row, window

import recon
from recon.api import Reconciliation


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two windows, three commits: invoices in window 0, payments in window 1, these corrected, another file taken back."""
    folder = tmp_path_factory.mktemp("small")
    r = begin(folder)
    land(r, 0, "invoices.csv", [row(f"A{n:03}", f"i{n}", "INVOICE", f"{100 + n}.25", 0) for n in range(40)])
    land(r, 1, "one.csv", [row("A005", "p5", "PAYMENT", "95.25", 1), row("A006", "i6", "INVOICE", "106.25", 1)])
    r.run()
    land(
        r,
        1,
        "one-right.csv",
        [row("A005", "p5", "PAYMENT", "96.25", 1), row("A007", "i7", "INVOICE", "1", 1)],
        "one.csv",
    )
    land(r, 1, "wrong.csv", [row("W1", "w1", "INVOICE", "1", 1)])
    r.run()
    r.unland("wrong.csv", window(1), "sent by mistake")
    r.run()
    return folder


@pytest.fixture
def damaged(small: Path, tmp_path: Path) -> Reconciliation:
    """A copy of the small store, for a test to damage."""
    shutil.copytree(small, tmp_path / "copy")
    return recon.open(tmp_path / "copy" / "recon.yaml")
