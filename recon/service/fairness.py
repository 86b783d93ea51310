"""Whose turn it is: start-time fair queueing (Goyal, Vin, Cheng, 1996) between owners.

Each owner has a turn number per lane. The owner with the lowest is next, and its number grows by ``STEP / weight``. An owner that had
nothing waiting starts at the number of the last claim, so that a pause saves nothing up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

STEP = 1_000_000


@dataclass(frozen=True)
class Waiting:
    """An owner's waiting requests in a lane: how many, and the number of the oldest."""

    owner: str
    count: int
    oldest: int
    turn: int
    weight: int = 1


def step(weight: int) -> int:
    """What one claim adds to an owner's turn."""
    return STEP // weight


def turn_of(turns: Mapping[str, int], owner: str) -> int:
    """The turn of an owner's next request. ``turns``: owner → turn; "" is that of the last claim."""
    return max(turns.get(owner, 0), turns.get("", 0))


def next_one(waiting: list[Waiting]) -> Waiting | None:
    """The owner whose turn it is; between equal turns by name, so that ``ahead`` need not know the requests one by one."""
    return min(waiting, key=lambda one: (one.turn, one.owner), default=None)


def ahead(waiting: list[Waiting], owner: str, before: int) -> int:
    """How many requests of a lane will be claimed before the one of ``owner`` that has ``before`` of its own before it, if nothing
    else arrives and no owner is at a limit."""
    own = next(one for one in waiting if one.owner == owner)
    start = own.turn + before * step(own.weight)
    total = before
    for other in waiting:
        if other.owner == owner:
            continue
        each, gap = step(other.weight), start - other.turn
        lower = max(0, -(-gap // each))  # turns below ``start``
        equal = gap >= 0 and gap % each == 0 and other.owner < owner
        total += min(other.count, lower + equal)
    return total
