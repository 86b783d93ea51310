"""The log of landings: the windows that changed since a cursor, without listing all windows.

Protocol, and why no manifest is missed: docs/decisions/005-leases-and-landings.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from recon.errors import WrongUsage
from recon.model.windows import Grid
from recon.storage import layout
from recon.storage.port import ObjectStore

OVERLAP = timedelta(minutes=10)
"""How far a follower looks back behind its cursor. Covers differences between clocks and the delay until a note is visible."""
_VISIBLE_WITHIN = OVERLAP / 2
_WAITING = "landed"
_RANGE_MAX = 1_000
"""Number of windows of a range up to which reading the manifest of each is cheaper than reading the log."""

_NOTE = re.compile(r"landings/\d{4}-\d\d-\d\d/\d\d/\d{4}\.\d{6}-(\d{4}-\d\d-\d\dT\d\d)(\d\dZ)-(\d{6,})-[0-9a-f]+\Z")


def _now() -> datetime:
    return datetime.now(UTC)


def note(store: ObjectStore, window: datetime, revision: int, now: Callable[[], datetime] = _now) -> None:
    """Notes that ``revision`` of ``window`` is about to be put. Must be called before every put of a manifest.

    A note that took so long that a follower may have missed it is written again."""
    while True:
        noted = now()
        store.put_new(layout.landing(noted, window, revision, layout.new_attempt()), [b""])
        if timedelta(0) <= now() - noted < _VISIBLE_WITHIN:
            return


def since(store: ObjectStore, cursor: str | None = None, now: Callable[[], datetime] = _now) -> tuple[dict[str, int], str]:
    """Windows with notes since the cursor (all windows without a cursor) → newest noted revision, in order of time; and the new cursor.

    A window may be returned more than once, and a noted revision may not exist yet, or never: the manifests decide. Remember a window until
    its noted revision is committed, as ``recon.planning.due.follow`` does. Raises WrongUsage for a text that is no cursor."""
    begun = now()
    first = None if cursor is None else min(_instant(cursor), begun) - OVERLAP
    earliest = "" if first is None else layout.landing_instant(first)  # paths sort as their times do
    touched: dict[str, int] = {}
    for path in store.list(layout.LANDINGS) if first is None else _listed(store, first, begun + OVERLAP):
        found = _NOTE.match(path)
        if found is not None and path >= earliest:
            window = f"{found[1]}:{found[2]}"
            touched[window] = max(touched.get(window, 0), int(found[3]))
    return dict(sorted(touched.items())), begun.isoformat()


def between(store: ObjectStore, grid: Grid, first: datetime, last: datetime) -> Iterator[datetime]:
    """The windows from ``first`` to ``last`` in which files may have landed: all of a short range, the noted ones of a long range."""
    if grid.index(last) - grid.index(first) < _RANGE_MAX:
        return grid.between(first, last)
    return (start for start in map(grid.parse, since(store)[0]) if first <= start <= last)


def _instant(cursor: str) -> datetime:
    try:
        return datetime.fromisoformat(cursor).astimezone(UTC)
    except ValueError:
        raise WrongUsage(f"cursor {cursor[:60]!r} is not a time; clear it to read all windows once") from None


def _listed(store: ObjectStore, first: datetime, last: datetime) -> Iterator[str]:
    """Notes of the hours from ``first`` to ``last``, listed by hour, or by day for the days between."""
    hour = first
    while hour.replace(minute=0, second=0, microsecond=0) <= last:
        if hour.hour == 0 and first.date() < hour.date() < last.date():
            yield from store.list(layout.landing_day(hour))
            hour += timedelta(days=1)
        else:
            yield from store.list(layout.landing_hour(hour))
            hour += timedelta(hours=1)
