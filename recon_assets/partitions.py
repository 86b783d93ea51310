"""The grid of windows as Dagster partitions, and the windows that a run's tags name.

A partition's key is the window's name. Dagster writes keys in the zone of the partitions, so where windows are the days of a zone, the key
is the local date: ``2026-11-01`` for the window 2026-11-01T04:00Z in New York.

Dagster does not check the tags of a range: an end off the grid includes one window too many, and a range that is reversed or in the
future succeeds without doing anything. So this module reads the range from the tags and checks it, without enumerating the grid.
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
"""Tag of a run whose windows Recon chose, because they were ready, rather than a person."""
WINDOWS_TAG = "recon/windows"
"""Tag for people to read and search: the windows of the run, as `recon replay` takes them."""
_NAME, _DATE = "%Y-%m-%dT%H:%MZ", "%Y-%m-%d"


def partitions_of(grid: Grid) -> dg.TimeWindowPartitionsDefinition:
    """One partition per window, including the current one. All assets of a reconciliation share one definition, else Dagster would split
    their backfills."""
    zone = zone_of(grid)
    return dg.TimeWindowPartitionsDefinition(
        start=key_of(grid, name_of(grid.start)),
        fmt=_DATE if grid.zone else _NAME,
        cron_schedule=cron_of(grid.every),
        timezone=zone,
        end_offset=1,
    )


def zone_of(grid: Grid) -> str:
    """The grid's time zone, as Dagster names it."""
    return grid.zone or "UTC"


def key_of(grid: Grid, window: str) -> str:
    """The partition key of a window. ``window``: its name."""
    return f"{grid.parse(window).astimezone(ZoneInfo(grid.zone)):{_DATE}}" if grid.zone else window


def window_of(grid: Grid, key: str) -> str:
    """The name of the window that a partition key stands for."""
    return name_of(grid.parse(key)) if grid.zone else key


def range_of(grid: Grid, first: str, last: str) -> dict[str, str]:
    """The tags of a run over windows. ``first``, ``last``: names of windows, both included."""
    return range_tags(key_of(grid, first), key_of(grid, last))


def range_tags(first: str, last: str) -> dict[str, str]:
    """The tags of a run over partitions. ``first``, ``last``: partition keys, both included."""
    return {RANGE_START: first, RANGE_END: last, WINDOWS_TAG: first if first == last else f"{first}..{last}"}


def chosen_tags(grid: Grid, first: str, last: str) -> dict[str, str]:
    """The tags of a run over windows that Recon chose because they are ready."""
    return {**range_of(grid, first, last), CHOSEN_TAG: "true"}


def window_tag(tags: Mapping[str, str]) -> dict[str, str]:
    """The tag that names a run's windows, if the run lacks it. Runs launched in the UI have only Dagster's own tags."""
    first, last = tags.get(RANGE_START) or tags.get(PARTITION), tags.get(RANGE_END) or tags.get(PARTITION)
    if WINDOWS_TAG in tags or not first or not last:
        return {}
    return {WINDOWS_TAG: range_tags(first, last)[WINDOWS_TAG]}


def windows_asked(grid: Grid, tags: Mapping[str, str], now: datetime) -> list[datetime]:
    """The starts of the windows that a run's tags name. Raises WrongUsage for a range off the grid, reversed, or in the future."""
    named = tags.get(RANGE_START) or tags.get(PARTITION), tags.get(RANGE_END) or tags.get(PARTITION)
    if named[0] is None or named[1] is None:
        raise WrongUsage("the run names no windows; choose a window, or the first and the last of a range")
    first, last = grid.parse(named[0], "first window"), grid.parse(named[1], "last window")
    if first > last:
        raise WrongUsage(f"{named[0]}..{named[1]}: the range ends before it begins; swap its ends")
    if last > now:
        raise WrongUsage(f"window {name_of(last)} has not begun yet; the newest is {name_of(grid.last_begun(now))}")
    return list(grid.between(first, last))


def cron_of(every: timedelta) -> str:
    """The cron expression of the ends of windows."""
    minutes = int(every.total_seconds()) // 60
    if minutes < 60:
        return f"*/{minutes} * * * *"
    if minutes < 24 * 60:
        return f"0 */{minutes // 60} * * *"
    return "0 0 * * *"
