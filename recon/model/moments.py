"""The moments of a query: ``--as-of``, ``--through`` and ``--known-at``.

``--as-of T`` counts every window that *ended* by T; ``--through W`` counts every window up to and including W. Printed times are valid
arguments: a time without a fraction means the end of its second.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from recon.errors import WrongUsage
from recon.model.windows import Grid, is_date, local_midnight, name_of, parse_instant

_FRACTION = re.compile(r":\d\d[.,](\d{1,6})")
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True)
class Upto:
    """``last``: start of the last window that counts. ``end``: its end. ``ended``: whether that has passed."""

    last: datetime
    end: datetime
    ended: bool = True

    @property
    def named(self) -> dict[str, str]:
        """``as_of`` and ``through`` as results show them; both are valid arguments."""
        as_of = {"as_of": name_of(self.end)} if self.ended else {}
        return as_of | {"through": name_of(self.last)}


def upto(grid: Grid, as_of: str | None, through: str | None, now: datetime) -> Upto | None:
    """The windows that count, None for all. Raises WrongUsage for a time that no window begins or ends at, for one in the future, and where
    both arguments are given."""
    if as_of is not None and through is not None:
        raise WrongUsage("--as-of and --through: give one of them; --through W is --as-of the end of W")
    if through is not None:
        last = grid.parse(through, "--through")
        if last > now:
            newest = name_of(grid.last_begun(now))
            raise WrongUsage(f"--through {through}: this window is in the future; the newest that has begun is {newest}")
        return Upto(last, grid.after(last), grid.after(last) <= now)
    if as_of is None:
        return None
    instant = local_midnight(as_of, grid.zone, "--as-of") if grid.zone and is_date(as_of) else parse_instant(as_of, "--as-of")
    first = grid.after(grid.start)
    if instant <= grid.start:
        raise WrongUsage(f"--as-of {as_of}: no window had ended by then; the first ends at {name_of(first)}")
    if instant > now:
        ended = grid.last_begun(now)
        raise WrongUsage(f"--as-of {as_of}: this is in the future; the newest window that has ended did so at {name_of(ended)}")
    below = grid.at(grid.index(instant))
    if below != instant:
        above = grid.after(below)
        nearest = below if instant - below <= above - instant or above > now else above
        nearest = max(nearest, first)
        raise WrongUsage(f"--as-of {as_of}: no window ends then; the nearest end of a window is {name_of(nearest)}")
    return Upto(grid.before(instant), instant)


def known_instant(text: str, newest: str, now: datetime) -> datetime:
    """The last instant that ``--known-at TEXT`` means. ``newest``: time of the newest commit, or "". Raises WrongUsage for a time in
    the future."""
    begin = parse_instant(text, "--known-at")
    latest = max(now, datetime.fromisoformat(newest)) if newest else now
    if begin > latest:
        raise WrongUsage(f"--known-at {text}: this is in the future (now {latest.astimezone(UTC).isoformat(timespec='seconds')})")
    found = _FRACTION.search(text)
    length = timedelta(microseconds=10 ** (6 - (len(found[1]) if found else 0)))
    return begin + length - _TICK
