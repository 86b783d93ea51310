"""Which received files are not in their window: rejected ones that nothing has corrected, those still to be processed, and the sources that
they stop."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from recon.database.open import is_there
from recon.intake.sources.inbox import Item
from recon.intake.sources.site import Intake
from recon.intake.sources.tracking import OPEN, Tracked
from recon.intake.sources.window import known_window


@dataclass
class Standing:
    """``rejected``: no later file of their series has landed in their window, and nobody has taken them back or discarded them. ``open``:
    to be processed. Both in order of arrival."""

    rejected: list[Tracked]
    open: list[Tracked]

    def changed(self, file: Tracked) -> None:
        """Takes note of a file that was just processed."""
        if file.state == "rejected":
            self.rejected.append(file)
        elif file.state in ("landed", "superseded"):
            corrected = (file.source, file.series, file.window)
            self.rejected = [
                other for other in self.rejected if (other.source, other.series, other.window) != corrected or other.id > file.id
            ]


def standing_of(intake: Intake) -> Standing:
    """The files as the database has them now; none where there is no database yet, which is not made."""
    if not is_there(intake.config):
        return Standing([], [])
    return Standing(intake.tracking.uncorrected(), intake.tracking.files(state=OPEN))


def stopped(intake: Intake, standing: Standing) -> dict[str, Tracked]:
    """Source → the rejected file that stops it."""
    found: dict[str, Tracked] = {}
    for bad in standing.rejected:
        if (source := intake.sources.get(bad.source)) is not None and source.section.rejects == "stop":
            found.setdefault(bad.source, bad)
    return found


def is_stopped(intake: Intake, standing: Standing, file: Tracked) -> bool:
    """Whether the source of ``file`` stops at a rejected file, which ``file`` does not correct."""
    stop = stopped(intake, standing).get(file.source)
    return stop is not None and not _may_correct(intake, stop, file)


def in_order(intake: Intake, standing: Standing) -> list[Tracked]:
    """The open files: first those that may correct a rejected file which stops their source, then in order of arrival."""
    stops = stopped(intake, standing)

    def correcting(file: Tracked) -> bool:
        return file.source in stops and _may_correct(intake, stops[file.source], file)

    return sorted(standing.open, key=lambda file: (not correcting(file), file.id))


def files_from(items: Iterable[Item], files: Iterable[Tracked], digests: dict[str, str]) -> list[Tracked]:
    """Those of ``files`` that are in an inbox, by themselves or in an archive. ``digests``: place → digest of the bytes received there."""
    by_name: dict[str, list[Tracked]] = {}
    for file in files:
        by_name.setdefault(file.name if file.parent is None else file.parent.split("/")[0], []).append(file)
    return [
        file for item in items for file in by_name.get(item.name, ()) if file.parent is not None or digests.get(item.place) == file.digest
    ]


def _may_correct(intake: Intake, bad: Tracked, file: Tracked) -> bool:
    """Whether an open file may take the place of a rejected one: by source, series and window, as far as the windows are known."""
    if (bad.source, bad.series) != (file.source, file.series):
        return False
    return bad.window is None or known_window(intake, file) in (None, bad.window)
