"""Closes a window when every file that its sources expect, by name, has landed."""

from __future__ import annotations

from datetime import datetime

from recon.intake import batches
from recon.intake.manifests import Manifest
from recon.intake.sources.arrivals import arrivals
from recon.intake.sources.site import Intake
from recon.intake.sources.tracking import Tracked
from recon.model.windows import name_of


def close_if_complete(intake: Intake, window: datetime, landing: Tracked | None = None) -> bool:
    """Closes an open window if its expected files have landed. Returns whether the window's newest revision is its closing.

    ``landing``: a file in the window that is not noted as landed yet: a process that dies before it closes the window leaves this file
    open, and the next one comes here again. While a source has a mistake no window closes by itself: its files may be expected."""
    if intake.broken:
        return False
    expected = {(arrival.source, arrival.name) for arrival in arrivals(intake.config.grid, intake.sources, window, ())}
    if not expected:
        return False
    landed = intake.tracking.landed_names(name_of(window)) | ({(landing.source, landing.name)} if landing else set())
    if not expected <= landed:
        return False
    why = f"all {len(expected)} expected files are here"

    def reason(_: Manifest) -> str:
        return why

    manifest, _ = batches.close_if(intake.store, window, reason, len(expected))
    return manifest.cause == "close"
