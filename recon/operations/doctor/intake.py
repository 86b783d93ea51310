"""Compares the database of received files with the store: each can be told from the other after a loss."""

from __future__ import annotations

from recon.config import Config
from recon.errors import ReconError
from recon.intake.manifests import landed_windows, read_manifest
from recon.intake.sources.folder import has_sources
from recon.intake.sources.site import Intake
from recon.operations.doctor.finding import Finding
from recon.storage.open import open_for

_NAMED_MAX = 5


def examine(config: Config) -> list[Finding]:
    """The database, and how it and the store differ; nothing for a site without sources."""
    if not has_sources(config):
        return []
    try:
        open_for(config)  # where there is none yet, examining must not make one
        intake = Intake(config, "doctor")
        shown, differences = f"database {intake.database.shown}", differing(intake)
    except ReconError as error:
        return [Finding("received files", False, str(error), needed=True, mend="recon land --from INBOX")]
    if not differences:
        return [Finding("received files", True, f"{shown}: its landed files are those of the store", needed=True)]
    more = f" and {len(differences) - _NAMED_MAX} more" if len(differences) > _NAMED_MAX else ""
    told = f"{shown}: {'; '.join(differences[:_NAMED_MAX])}{more}"
    return [Finding("received files", False, told, needed=True, mend="recon land --from INBOX, or restore the one that is older")]


def differing(intake: Intake) -> list[str]:
    """What the database or the store has alone: files that landed, by window, source and digest of the received bytes."""
    landed = [file for file in intake.tracking.files(state="landed") if file.landed_as is not None]  # the others are reference data
    tracked = {(file.window, file.source, file.digest): file.shown for file in landed}
    stored: dict[tuple[str | None, str, str], str] = {}
    for name in landed_windows(intake.store):
        manifest = read_manifest(intake.store, intake.config.grid.parse(name))
        for file in manifest.files if manifest else ():
            if file.origin:
                stored[name, str(file.origin["source"]), str(file.origin["digest"])] = str(file.origin["file"])
    only_tracked = [
        f"{tracked[key]} landed in {key[0]}, but its window lacks it" for key in sorted(tracked.keys() - stored.keys(), key=str)
    ]
    only_stored = [f"{stored[key]} is in window {key[0]}, but not tracked" for key in sorted(stored.keys() - tracked.keys(), key=str)]
    return [*only_tracked, *only_stored]
