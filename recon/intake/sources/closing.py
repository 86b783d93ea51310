"""Closes a window when every file that its sources expect, by name, has landed; and says which have not."""

from __future__ import annotations

from datetime import datetime

from recon.config.model import Config
from recon.database.open import is_there
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

    manifest, _ = batches.close_if(intake.store, window, reason, lambda _: len(expected))
    return manifest.cause == "close"


def missing_by_name(config: Config, window: datetime) -> list[str]:
    """The files that the sources of a site expect in a window by name, and that have not landed, with the time by which they should have.
    Raises TryAgain where the database is away."""
    intake = Intake(config, "close")
    files = intake.tracking.files(window=name_of(window)) if is_there(config) else ()
    return [arrival.missing for arrival in arrivals(config.grid, intake.sources, window, files) if arrival.file is None]
