"""Files that their sources expect in a window, and that had not landed when they were due."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from recon.intake.sources.arrivals import arrivals
from recon.intake.sources.site import Intake
from recon.intake.sources.tracking import by_window
from recon.model.windows import name_of

_WINDOWS_MAX = 400


@dataclass(frozen=True)
class Late:
    """A missing file. ``text``: its name, and when it was due."""

    window: str
    source: str
    text: str


def late_files(intake: Intake, now: datetime) -> list[Late]:
    """The files that are late at ``now``, in order of time: of the newest 400 windows, from that of the first received file on."""
    grid = intake.config.grid
    first, last = intake.tracking.first_window(), grid.index(now)
    begin = max(grid.index(grid.parse(first)), last - _WINDOWS_MAX) if first is not None else last + 1
    windows = [grid.at(index) for index in range(begin, last + 1)]
    landed = by_window(intake.tracking.files(state="landed", window=tuple(map(name_of, windows))))
    return [
        Late(name_of(window), arrival.source, arrival.missing)
        for window in windows
        for arrival in arrivals(grid, intake.sources, window, landed.get(name_of(window), []))
        if arrival.late(now)
    ]
