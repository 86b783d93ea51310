"""The window grid: fixed UTC cells named by their start. All of it is arithmetic; nothing ever lists the grid.

Belongs here: windows, ranges of windows and their names. Does not belong here: what lies in a window.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from recon.errors import WrongUsage

FIRST_YEAR, LAST_YEAR = 1900, 2999
"""Years in which windows and times that are asked for may lie: arithmetic with them cannot leave Python's years 1 to 9999."""
LONGEST = timedelta(days=36_525)
"""The longest duration: a hundred years."""

_DURATION = re.compile(r"(\d+)(m|h|d)\Z")
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_NAME = "%Y-%m-%dT%H:%MZ"


def parse_duration(text: str, field: str) -> timedelta:
    """``15m``, ``1h``, ``31d`` → timedelta. Raises WrongUsage naming ``field``."""
    match = _DURATION.match(text)
    if not match or not match[1].strip("0"):
        raise WrongUsage(f"{field}: {text!r} is not a duration; write minutes, hours or days such as 15m, 1h or 31d")
    if len(match[1]) > 9 or int(match[1]) * _UNITS[match[2]] > LONGEST:
        raise WrongUsage(f"{field}: {text[:40]} is too long; at most {LONGEST.days:,}d, a hundred years")
    return int(match[1]) * _UNITS[match[2]]


def parse_instant(text: str, field: str) -> datetime:
    """An ISO 8601 time with a zone → UTC datetime. Raises WrongUsage naming ``field``."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise WrongUsage(f"{field}: {text!r} is not a time; write it as 2026-11-01T00:00Z") from None
    if instant.tzinfo is None:
        raise WrongUsage(f"{field}: {text!r} has no zone; write {text}Z for UTC or add an offset such as -05:00")
    if not FIRST_YEAR <= instant.year <= LAST_YEAR:
        raise WrongUsage(f"{field}: {text!r} is not from {FIRST_YEAR} to {LAST_YEAR}; write a time within these years")
    return instant.astimezone(UTC)


def name_of(start: datetime) -> str:
    """The window's name: its start in UTC to the minute, ``2026-11-01T00:00Z``."""
    return start.strftime(_NAME)


@dataclass(frozen=True)
class Grid:
    """Cells of length ``every`` from ``start`` on. ``every`` divides an hour, is whole hours that divide a day, or one day."""

    start: datetime
    every: timedelta

    def __post_init__(self) -> None:
        every, day, hour = self.every, timedelta(days=1), timedelta(hours=1)
        divides_hour = every <= hour and hour % every == timedelta(0)
        whole_hours = every % hour == timedelta(0) and day % every == timedelta(0)
        if not (divides_hour or whole_hours):
            raise WrongUsage(
                f"windows.every: {every} does not fit the clock; it divides an hour (15m), is whole hours that divide a day (6h), or 1d"
            )
        midnight = self.start.replace(hour=0, minute=0, second=0, microsecond=0)
        if (self.start - midnight) % every != timedelta(0):
            raise WrongUsage(f"windows.start: {self.start.isoformat()} does not lie on the grid of {every} counted from midnight UTC")

    def index(self, start: datetime) -> int:
        """The number of the window that starts at ``start``, from 0; negative before the grid's start."""
        return (start - self.start) // self.every

    def at(self, index: int) -> datetime:
        """Start of the window number ``index``."""
        return self.start + index * self.every

    def parse(self, text: str, field: str = "window") -> datetime:
        """A window's name (or its start with any offset) → its start. Raises WrongUsage off the grid, naming the nearest."""
        instant = parse_instant(text, field)
        if instant < self.start:
            raise WrongUsage(f"{field}: {text} lies before the first window, {name_of(self.start)}")
        below = self.at(self.index(instant))
        if below != instant:
            nearest = below if instant - below <= self.every / 2 else below + self.every
            raise WrongUsage(f"{field}: {text} is not on the grid of windows; the nearest is {name_of(nearest)}")
        return instant

    def last_begun(self, now: datetime) -> datetime:
        """Start of the window that ``now`` lies in."""
        return self.at(self.index(now))

    def between(self, first: datetime, last: datetime) -> Iterator[datetime]:
        """Starts of the windows from ``first`` to ``last``, both included."""
        for index in range(self.index(first), self.index(last) + 1):
            yield self.at(index)
