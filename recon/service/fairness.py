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
    """The owner whose turn it is; between equal turns the one with the oldest request."""
    return min(waiting, key=lambda one: (one.turn, one.oldest), default=None)


def ahead(waiting: list[Waiting], owner: str, before: int) -> int:
    """How many requests of a lane will be claimed before the one of ``owner`` that has ``before`` of its own before it, if nothing
    else arrives."""
    own = next(one for one in waiting if one.owner == owner)
    start = (own.turn + before * step(own.weight), own.oldest)
    total = before
    for other in waiting:
        if other.owner == owner:
            continue
        each, gap = step(other.weight), start[0] - other.turn
        if gap < 0:
            continue
        earlier = gap // each  # those whose turn is lower, but for the last
        equal = gap % each == 0
        total += min(other.count, earlier + (1 if not equal or (other.oldest < start[1]) else 0))
    return total
