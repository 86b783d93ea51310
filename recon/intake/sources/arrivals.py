"""The files that a window should get, by name and by when; which are there and which are missing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from recon.intake.sources.load import Source
from recon.intake.sources.sections import Expected
from recon.intake.sources.tracking import Tracked
from recon.model.windows import Grid, name_of

_WINDOW = re.compile(r"\{window:([^}]*)\}")


@dataclass(frozen=True)
class Arrival:
    """One expected file of a window. ``file``: the landed file; None where it is missing. ``due``: the end of the time in which it should
    arrive, None where the source names none."""

    source: str
    name: str
    file: Tracked | None
    due: datetime | None

    def late(self, now: datetime) -> bool:
        """Whether it is missing after it was due."""
        return self.file is None and self.due is not None and now > self.due

    @property
    def missing(self) -> str:
        """What is missing, for messages: "IL-911.tdf, due by 2026-11-02T06:00Z"."""
        return self.name + (f", due by {name_of(self.due)}" if self.due else "")


def arrivals(grid: Grid, sources: Mapping[str, Source], window: datetime, files: Sequence[Tracked]) -> list[Arrival]:
    """The expected files of a window, over all sources, in the order in which the sources list them. ``files``: of the window, perhaps of
    others, too."""
    landed = {(file.source, file.name): file for file in files if file.state == "landed" and file.window == name_of(window)}
    found = []
    for source in sources.values():
        if (expect := source.section.expect) is None:
            continue
        due = None if expect.by is None else grid.after(window) + expect.by
        for entry in expect.files:
            if expected_here(entry, grid, window):
                name = expected_name(entry.name, grid, window)
                found.append(Arrival(source.name, name, landed.get((source.name, name)), due))
    return found


def complete(expected: Iterable[Arrival]) -> bool:
    """Whether files are expected and all of them have landed."""
    listed = list(expected)
    return bool(listed) and all(arrival.file is not None for arrival in listed)


def expected_name(template: str, grid: Grid, window: datetime) -> str:
    """``bank_{window:%Y%m%d}.csv`` with the window's start, in the zone of the windows."""
    if "{window:" not in template:
        return template
    local = _local(grid, window)
    return _WINDOW.sub(lambda found: local.strftime(found[1]), template)


def expected_here(entry: Expected, grid: Grid, window: datetime) -> bool:
    """Whether a file is expected in a window: its days ``from`` and ``until`` contain it."""
    if entry.from_ is None and entry.until is None:
        return True
    day = _local(grid, window).strftime("%Y-%m-%d")
    return (entry.from_ is None or entry.from_ <= day) and (entry.until is None or day < entry.until)


def _local(grid: Grid, window: datetime) -> datetime:
    from zoneinfo import ZoneInfo

    return window.astimezone(ZoneInfo(grid.zone)) if grid.zone else window


def last_seen(file: Tracked | None) -> str:
    """``; the last one landed 2026-11-01T07:12Z``, of the newest file of a name."""
    if file is None or file.landed_at is None:
        return "; none has ever landed"
    return f"; the last one landed {name_of(file.landed_at)}"
