"""Windows of the standard rules that close at two files or 30 minutes after their end."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import strategies as s
from histories import open_in

from recon.api import Reconciliation
from recon.intake.manifests import read_manifest
from recon.model.windows import name_of

W0, W1, W2 = (name_of(s.at(window)) for window in range(3))
DURING, AFTER, LATER = (s.START + timedelta(minutes=minutes) for minutes in (30, 89, 90))


def reconciliation(folder: Path, closing: str = "{files: 2, deadline: 30m}") -> Reconciliation:
    return open_in(folder, s.STANDARD_YAML + f"closing: {closing}\n")


def land(r: Reconciliation, window: int, *names: str, **expect: Any) -> None:
    """One row per file: its id is the file's name, its key A, 10.00 EUR billed."""
    for name in names:
        path = r.config.path.parent / f"{name}.csv"
        path.write_text(s.to_csv((s.Row(event_id=name),)))
        r.land([path], name_of(s.at(window)), expect=expect, again=True)


def reason(r: Reconciliation, window: int) -> str | None:
    """Why a window was closed; None while it is open."""
    manifest = read_manifest(r.store(), s.at(window))
    return manifest.reason if manifest and manifest.closed else None
