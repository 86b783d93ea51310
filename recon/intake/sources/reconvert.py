"""Converts landed files again from their received bytes, after their source's rules have changed."""

from __future__ import annotations

from dataclasses import dataclass, field

from recon.errors import ReconError
from recon.intake.sources.process import land_again
from recon.intake.sources.site import Intake
from recon.intake.sources.tracking import Tracked
from recon.model.progress import Progress, silent


@dataclass
class Reconverted:
    """``changed``: files whose clean rows differ now. ``same``: how many do not. ``failed``: (name, reason); they stay as they landed."""

    changed: list[Tracked] = field(default_factory=list)
    same: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)


def reconvert(intake: Intake, name: str, window: str | None = None, progress: Progress = silent) -> Reconverted:
    """Converts the landed files of a source again. A file that the rules reject now stays as it landed, and is named."""
    source = intake.source(name)
    only = {} if window is None else {"window": window}
    landed, done = intake.tracking.files(source=name, state="landed", **only), Reconverted()
    for number, file in enumerate(landed):
        progress("reconvert", file.shown, number / len(landed))
        try:
            again = land_again(intake, source, file)
        except ReconError as error:
            done.failed.append((file.shown, str(error)))
            continue
        if again is None:
            done.same += 1
        else:
            done.changed.append(again)
    return done
