"""Which files of a folder are still being written. Design: docs/decisions/033-quiet-files.md."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from recon.intake.converters.unpacking import ARCHIVES
from recon.intake.sources.receive import fresh, sources_for

if TYPE_CHECKING:
    from recon.intake.sources.inbox import Inbox, Item
    from recon.intake.sources.site import Intake

DEFAULT = timedelta(seconds=2)
"""How long a file must not have changed, where its source does not say."""
WAIT_MAX_S = 5.0
"""How long a delivery waits for files to become quiet; those that need longer are left for the next one."""
_NS = 10**9


def quiet_of(intake: Intake, item: Item) -> timedelta:
    """How long a file must not have changed: the longest time of the sources that may take it."""
    archive = PurePosixPath(item.name).suffix.lower() in ARCHIVES
    sources = [source.section for source in sources_for(intake, item).values() if archive or source.match(item.name)]
    return max((DEFAULT if section.quiet is None else section.quiet for section in sources), default=DEFAULT)


def remaining_s(item: Item, quiet: timedelta, now: float) -> float:
    """Seconds until a file is quiet if it does not change; 0 where it is. ``now``: seconds since 1970.

    A file whose times are all in the future is never quiet by itself: it takes a second look, after a wait of up to ``WAIT_MAX_S``."""
    if item.of or "://" in item.place:
        return 0.0
    _, *times = map(int, item.stamp.split())
    known = [at / _NS for at in times if at <= now * _NS]
    if not known:
        return min(quiet.total_seconds(), WAIT_MAX_S)
    return max(0.0, quiet.total_seconds() - (now - max(known)))


def changing(intake: Intake, items: Iterable[Item]) -> list[Item]:
    """The new files that are not quiet yet, for a sensor, which does not wait: without those whose times are in the future, on which the
    run decides."""
    now = time.time()
    found = (item for item in items if remaining_s(item, quiet_of(intake, item), now) > 0)
    return [item for item in found if any(int(at) <= now * _NS for at in item.stamp.split()[1:])]


def without_changing(
    intake: Intake, inbox: Inbox, items: Sequence[Item], sleep: Callable[[float], None] = time.sleep
) -> tuple[list[Item], list[tuple[str, str]]]:
    """The files of a look that may be taken, and (name, reason) of new ones that are still being written. Waits and looks again where new
    files changed lately."""
    now = time.time()
    needed = {item.place: remaining_s(item, quiet_of(intake, item), now) for item in fresh(intake, items)}
    moving = {place: seconds for place, seconds in needed.items() if seconds > 0}
    if not moving:
        return list(items), []
    again: Mapping[str, str] = {}
    if (wait := max((seconds for seconds in moving.values() if seconds <= WAIT_MAX_S), default=0.0)) > 0:
        sleep(wait)
        again = {item.place: item.stamp for item in inbox.items()}
    left = {item.place: item for item in items if item.place in moving}
    left = {place: item for place, item in left.items() if moving[place] > WAIT_MAX_S or again.get(place) != item.stamp}
    return [item for item in items if item.place not in left], [(item.name, _why(intake, item)) for item in left.values()]


def _why(intake: Intake, item: Item) -> str:
    seconds = quiet_of(intake, item).total_seconds()
    return (
        f"{item.place}: it changed less than {seconds:,.0f} s ago (quiet), and was not received; run the same again when its writer is done"
    )
