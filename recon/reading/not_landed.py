"""Received files that are not in their window: of the whole reconciliation for its caveats, of one window for its status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from recon.config import Config
from recon.errors import TryAgain
from recon.intake import landing_log
from recon.intake.manifests import read_manifest
from recon.intake.sources.folder import has_sources
from recon.model.windows import name_of
from recon.storage.port import ObjectStore

if TYPE_CHECKING:
    from recon.intake.sources.site import Intake
    from recon.intake.sources.tracking import Tracked

_LOOKED_AT = 20
"""The newest windows that are looked at for files of sources, where the database has no file."""


@dataclass(frozen=True)
class NotLanded:
    """``rejected``: files that are rejected and not corrected; ``open``: files to be processed, both in order of arrival. ``stopped``:
    source → the rejected file that stops it. ``broken``: source → its mistake, for which it takes no file. ``missing``: names that the
    sources expect in a window. ``unknown``: why nobody knows of any file, None where the database answers."""

    rejected: Sequence[Tracked] = ()
    open: Sequence[Tracked] = ()
    stopped: Mapping[str, Tracked] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)
    missing: Sequence[str] = ()
    unknown: str | None = None

    @property
    def wrong(self) -> list[str]:
        """What a person has to act on, a sentence each."""
        found = [f"the source {name} takes no file: {error}" for name, error in self.broken.items()]
        if self.unknown is not None:
            found.append(f"whether received files are missing is not known: {self.unknown}")
        if self.rejected:
            were = "1 file was" if len(self.rejected) == 1 else f"{len(self.rejected):,} files were"
            listed = ", ".join(f"{file.shown} ({file.reason.removeprefix(f'{file.shown}: ')})" for file in self.rejected)
            retried = " ".join(str(file.id) for file in self.rejected)
            found.append(f"{were} rejected: {listed}; 'recon files retry {retried}' takes up again, 'recon files discard' gives up")
        for name, bad in self.stopped.items():
            found.append(f"the source {name} is stopped by {bad.shown}, file {bad.id}: its other files wait")
        return found

    def to_json(self) -> dict[str, Any]:
        return {
            "rejected": [_shown(file) for file in self.rejected],
            "open": [_shown(file) for file in self.open],
            "stopped": {name: file.id for name, file in self.stopped.items()},
            "broken": dict(self.broken),
            "missing": list(self.missing),
            "unknown": self.unknown,
            "wrong": self.wrong,
        }


def not_landed(store: ObjectStore, config: Config) -> NotLanded:
    """The files as the database has them now; none for a site without sources."""
    return _found(store, config, None)


def not_landed_in(store: ObjectStore, config: Config, window: datetime) -> NotLanded:
    """Those that are of ``window``, or of nobody knows which: a column tells it, and no row of the file was read."""
    return _found(store, config, window)


def _found(store: ObjectStore, config: Config, window: datetime | None) -> NotLanded:
    if not has_sources(config):
        return NotLanded()
    from recon.intake.sources.closing import missing_by_name
    from recon.intake.sources.site import Intake
    from recon.intake.sources.standing import standing_of, stopped
    from recon.intake.sources.window import known_window

    intake = Intake(config, "status")
    broken = {name: str(error) for name, error in intake.broken.items()}
    try:
        standing = standing_of(intake)
        found = NotLanded(standing.rejected, standing.open, stopped(intake, standing), broken, unknown=_lost(store, intake))
        if window is None:
            return found
        name = name_of(window)
        missing = missing_by_name(config, window)
    except TryAgain as error:
        return NotLanded(broken=broken, unknown=str(error))
    waiting = [file for file in found.open if known_window(intake, file) in (None, name)]
    return replace(
        found,
        rejected=[file for file in found.rejected if file.window in (None, name)],
        open=waiting,
        stopped={source: bad for source, bad in found.stopped.items() if any(file.source == source for file in waiting)},
        missing=missing,
    )


def _lost(store: ObjectStore, intake: Intake) -> str | None:
    """Why the database cannot be that of the store: it has no file, and one of the newest windows has a file of a source."""
    from recon.database.open import is_there, shown_of

    there = is_there(intake.config)
    if there and not intake.tracking.is_empty():
        return None
    for name in sorted(landing_log.since(store)[0], reverse=True)[:_LOOKED_AT]:
        manifest = read_manifest(store, intake.config.grid.parse(name))
        origin = next((file.origin for file in (manifest.files if manifest else ()) if file.origin), None)
        if origin is not None:
            what = "has no file" if there else "does not exist"
            return (
                f"the database {shown_of(intake.config)} {what}, but window {name} has {origin['file']} of the source {origin['source']}; "
                "restore the database, or correct 'database' in recon.yaml; 'recon doctor' lists the differences"
            )
    return None


def _shown(file: Tracked) -> dict[str, Any]:
    return {"id": file.id, "file": file.shown, "source": file.source, "window": file.window, "state": file.state, "reason": file.reason}
