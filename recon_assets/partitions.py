"""The grid of windows as Dagster partitions, and the windows that a run is asked for.

A partition's key is the window's name. Dagster writes keys in the partitions' own zone, so that where windows are the days of a zone
the key is the local date: ``2026-11-01`` for the window 2026-11-01T04:00Z in New York.

Dagster does not check the tags of a range: an end off the grid takes in one window too many, and a range that is reversed or lies in
the future succeeds with nothing done. So the range is read from the tags and checked here, by arithmetic: nothing lists the grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import dagster as dg

from recon.errors import WrongUsage
from recon.model.windows import Grid, name_of

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
PARTITION = "dagster/partition"
CHOSEN_TAG = ".dagster/recon_chosen"
"""Tag of a run whose windows Recon has chosen because they were ready, not a person."""
WINDOWS_TAG = "recon/windows"
"""Tag that people read and search for: the windows of the run, as `recon replay` takes them."""
_NAME, _DATE = "%Y-%m-%dT%H:%MZ", "%Y-%m-%d"


def partitions_of(grid: Grid) -> dg.TimeWindowPartitionsDefinition:
    """One partition a window, the open one too. All assets of a reconciliation share one, else their backfills are split."""
    zone = zone_of(grid)
    return dg.TimeWindowPartitionsDefinition(
        start=key_of(grid, name_of(grid.start)),
        fmt=_DATE if grid.zone else _NAME,
        cron_schedule=cron_of(grid.every),
        timezone=zone,
        end_offset=1,
    )


def zone_of(grid: Grid) -> str:
    """The zone of the grid's clock, as Dagster names it."""
    return grid.zone or "UTC"


def key_of(grid: Grid, window: str) -> str:
    """The partition's key of a window by name."""
    return f"{grid.parse(window).astimezone(ZoneInfo(grid.zone)):{_DATE}}" if grid.zone else window


def window_of(grid: Grid, key: str) -> str:
    """The window's name of a partition's key."""
    return name_of(grid.parse(key)) if grid.zone else key


def range_of(grid: Grid, first: str, last: str) -> dict[str, str]:
    """``range_tags`` of windows by name."""
    return range_tags(key_of(grid, first), key_of(grid, last))


def range_tags(first: str, last: str) -> dict[str, str]:
    """The tags of a run over the partitions from ``first`` to ``last``, both included, by their keys."""
    return {RANGE_START: first, RANGE_END: last, WINDOWS_TAG: first if first == last else f"{first}..{last}"}


def chosen_tags(grid: Grid, first: str, last: str) -> dict[str, str]:
    """The same of a run whose windows were chosen because they are ready."""
    return {**range_of(grid, first, last), CHOSEN_TAG: "true"}


def window_tag(tags: Mapping[str, str]) -> dict[str, str]:
    """The tag for people that a run lacks: one that was launched in the UI has only Dagster's own."""
    first, last = tags.get(RANGE_START) or tags.get(PARTITION), tags.get(RANGE_END) or tags.get(PARTITION)
    if WINDOWS_TAG in tags or not first or not last:
        return {}
    return {WINDOWS_TAG: range_tags(first, last)[WINDOWS_TAG]}


def windows_asked(grid: Grid, tags: Mapping[str, str], now: datetime) -> list[datetime]:
    """Starts of the windows that a run's tags name. Raises WrongUsage off the grid, reversed, or not begun yet."""
    named = tags.get(RANGE_START) or tags.get(PARTITION), tags.get(RANGE_END) or tags.get(PARTITION)
    if named[0] is None or named[1] is None:
        raise WrongUsage("the run names no windows; choose a window, or the first and the last one of a range")
    first, last = grid.parse(named[0], "first window"), grid.parse(named[1], "last window")
    if first > last:
        raise WrongUsage(f"{named[0]}..{named[1]}: the range ends before it begins; swap its ends")
    if last > now:
        raise WrongUsage(f"window {name_of(last)} has not begun yet; the newest is {name_of(grid.last_begun(now))}")
    return list(grid.between(first, last))


def cron_of(every: timedelta) -> str:
    """The clock of the grid: when a window ends and the next begins."""
    minutes = int(every.total_seconds()) // 60
    if minutes < 60:
        return f"*/{minutes} * * * *"
    if minutes < 24 * 60:
        return f"0 */{minutes // 60} * * *"
    return "0 0 * * *"
