"""The grid of windows: fixed cells in UTC, or the days of a zone, named by their start in UTC. No function enumerates the grid."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from recon.errors import WrongUsage

FIRST_YEAR, LAST_YEAR = 1900, 2999
"""The years allowed for windows and for times of queries, so that arithmetic stays within Python's years 1 to 9999."""
LONGEST = timedelta(days=36_525)
"""The longest duration: a hundred years."""

ZONE_FIRST_YEAR = 1980
_FAR_AHEAD = datetime(2100, 1, 1, tzinfo=UTC)
_ZONE = re.compile(r"(?!posix|right)[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*\Z")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}\Z")
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


def duration_text(duration: timedelta) -> str:
    """A duration as ``parse_duration`` reads it, in its largest whole unit: 60 minutes → ``1h``."""
    unit = next(unit for unit in reversed(_UNITS) if not duration % _UNITS[unit])
    return f"{duration // _UNITS[unit]}{unit}"


def parse_instant(text: str, field: str) -> datetime:
    """An ISO 8601 time with a zone → UTC datetime. Raises WrongUsage naming ``field``."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise WrongUsage(f"{field}: {text!r} is not a time; write it as 2026-11-01T00:00Z") from None
    if instant.tzinfo is None:
        in_utc = instant.isoformat(timespec="minutes" if instant.second == instant.microsecond == 0 else "auto")
        raise WrongUsage(f"{field}: {text!r} has no zone; write {in_utc}Z for UTC or add an offset such as -05:00")
    if not FIRST_YEAR <= instant.year <= LAST_YEAR:
        raise WrongUsage(f"{field}: {text!r} is not from {FIRST_YEAR} to {LAST_YEAR}; write a time within these years")
    return instant.astimezone(UTC)


def name_of(start: datetime) -> str:
    """The window's name: its start in UTC to the minute, ``2026-11-01T00:00Z``."""
    return start.strftime(_NAME)


def zone_of(name: str, field: str) -> str:
    """The name of an IANA zone; "" for UTC. Raises WrongUsage with the most similar name."""
    if name.upper() in ("UTC", "ETC/UTC", "Z"):
        return ""
    try:
        if _ZONE.match(name):
            _zone(name)
            return name
    except (ZoneInfoNotFoundError, ValueError, OSError):
        pass
    known = {zone.casefold(): zone for zone in available_timezones()}
    folded = name.casefold().replace(" ", "_")
    cities = {zone.rpartition("/")[2].casefold(): zone for zone in sorted(known.values(), reverse=True)}
    near = known.get(folded) or cities.get(folded) or next((known[close] for close in difflib.get_close_matches(folded, known, 1)), None)
    hint = f"did you mean {near}?" if near else "write a name such as America/New_York"
    raise WrongUsage(f"{field}: {name[:60]!r} is no time zone; {hint}")


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


@dataclass(frozen=True)
class Grid:
    """Windows of length ``every`` from ``start`` on. ``every`` divides an hour, is whole hours that divide a day, or is one day.

    With a ``zone`` the windows are its days, from local midnight to local midnight: 23, 24 or 25 hours. They too are named by their start
    in UTC."""

    start: datetime
    every: timedelta
    zone: str = ""

    def __post_init__(self) -> None:
        if self.zone:
            self._check_zone()
            return
        every, day, hour = self.every, timedelta(days=1), timedelta(hours=1)
        divides_hour = every <= hour and hour % every == timedelta(0)
        whole_hours = every % hour == timedelta(0) and day % every == timedelta(0)
        if not (divides_hour or whole_hours):
            raise WrongUsage(
                f"windows.every: {every} does not fit the clock; it divides an hour (15m), is whole hours that divide a day (6h), or 1d"
            )
        midnight = self.start.replace(hour=0, minute=0, second=0, microsecond=0)
        if (self.start - midnight) % every != timedelta(0):
            raise WrongUsage(
                f"windows.start: {self.start.isoformat()} does not lie on the grid of {every} counted from midnight UTC; "
                "for days that begin at another midnight write windows.zone, such as zone: America/New_York"
            )

    def _check_zone(self) -> None:
        if self.every != timedelta(days=1):
            raise WrongUsage("windows.zone: windows of a zone are its days; write every: 1d, or leave the zone out")
        if self.start.year < ZONE_FIRST_YEAR:
            raise WrongUsage(f"windows.start: with a zone windows begin in {ZONE_FIRST_YEAR} or later, when clocks were set to the minute")
        offsets = [at.astimezone(_zone(self.zone)).utcoffset() or timedelta(0) for at in (self.start, _FAR_AHEAD)]
        if abs(offsets[0] - offsets[1]) >= timedelta(hours=12):
            raise WrongUsage(f"windows.start: {self.zone} has crossed the date line since {name_of(self.start)}; begin after it has")
        if self.at(self.index(self.start)) != self.start:
            raise WrongUsage(
                f"windows.start: {name_of(self.start)} is no midnight in {self.zone}; the nearest is {name_of(self._nearest(self.start))}"
            )

    @property
    def longest(self) -> timedelta:
        """The length of the longest window."""
        return self.every + timedelta(hours=1) if self.zone else self.every

    @property
    def slack(self) -> timedelta:
        """The largest difference between a window's start and ``start + index * every``: half a window with a zone, else zero."""
        return self.every / 2 if self.zone else timedelta(0)

    def index(self, instant: datetime) -> int:
        """The number of the window that contains ``instant``: 0 for the first, negative before the grid's start."""
        if not self.zone:
            return (instant - self.start) // self.every
        zone = _zone(self.zone)
        index = (instant.astimezone(zone).date() - self.start.astimezone(zone).date()).days
        # Where clocks go back across midnight, a date occurs twice.
        while self.at(index) > instant:
            index -= 1
        while self.at(index + 1) <= instant:
            index += 1
        return index

    def at(self, index: int) -> datetime:
        """The start of window number ``index``."""
        if not self.zone:
            return self.start + index * self.every
        zone = _zone(self.zone)
        day = self.start.astimezone(zone).date() + timedelta(days=index)
        # A midnight that clocks skip is the instant of the change; of a midnight that occurs twice, the first counts.
        return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)

    def after(self, window: datetime) -> datetime:
        """The start of the next window, which is the end of ``window``."""
        return self.at(self.index(window) + 1)

    def before(self, window: datetime) -> datetime:
        """The start of the window before ``window``."""
        return self.at(self.index(window) - 1)

    def reaches_back(self, length: timedelta) -> int:
        """The number of windows that start at most ``length`` before a window. A window of a zone counts as 24 hours."""
        return length // self.every

    def reach(self, length: timedelta) -> timedelta:
        """The longest time between the starts of two windows that are at most ``reaches_back(length)`` windows apart."""
        return self.reaches_back(length) * self.every + self.slack

    def parse(self, text: str, field: str = "window") -> datetime:
        """The start of a window, from its name, its start with any offset, or, with a zone, its date. Raises WrongUsage with the nearest
        window for a time that is not on the grid."""
        if self.zone and _DATE.match(text):
            text = local_midnight(text, self.zone, field).isoformat()
        instant = parse_instant(text, field)
        if instant < self.start:
            raise WrongUsage(f"{field}: {text} lies before the first window, {name_of(self.start)}")
        if self.at(self.index(instant)) != instant:
            raise WrongUsage(f"{field}: {text} is not on the grid of windows; the nearest is {name_of(self._nearest(instant))}")
        return instant

    def _nearest(self, instant: datetime) -> datetime:
        below = self.at(self.index(instant))
        above = self.after(below)
        return below if instant - below <= above - instant else above

    def last_begun(self, now: datetime) -> datetime:
        """The start of the window that contains ``now``."""
        return self.at(self.index(now))

    def between(self, first: datetime, last: datetime) -> Iterator[datetime]:
        """The starts of the windows from ``first`` to ``last``, both included."""
        for index in range(self.index(first), self.index(last) + 1):
            yield self.at(index)


def is_date(text: str) -> bool:
    """Whether a text is a date without a time, ``2026-11-01``."""
    return _DATE.match(text) is not None


def is_local(text: str) -> bool:
    """Whether a text is a date, or a time without zone."""
    try:
        return datetime.fromisoformat(text).tzinfo is None
    except ValueError:
        return False


def local_midnight(text: str, zone: str, field: str) -> datetime:
    """``2026-11-01``, or ``2026-11-01T00:00``, in a zone → the instant. Raises WrongUsage naming ``field``."""
    try:
        local = datetime.fromisoformat(text)
    except ValueError:
        raise WrongUsage(f"{field}: {text!r} is no date; write it as 2026-11-01") from None
    if not FIRST_YEAR <= local.year <= LAST_YEAR:
        raise WrongUsage(f"{field}: {text!r} is not from {FIRST_YEAR} to {LAST_YEAR}; write a time within these years")
    return local.replace(tzinfo=_zone(zone)).astimezone(UTC)


def day_begin(instant: datetime, zone: str | None) -> datetime:
    """The start of the business day that contains an instant. A midnight that clocks skip is the instant of the change; of a midnight that
    occurs twice, the first counts."""
    local = instant.astimezone(_zone(zone or "UTC"))
    return local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0).astimezone(UTC)
