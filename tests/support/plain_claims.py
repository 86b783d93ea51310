"""What the service's requests should be, told plainly: a list of requests and the turns of their owners."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction

LEASE, PAUSES, TRIES = timedelta(seconds=30), (timedelta(seconds=5), timedelta(seconds=25)), 3
FAR = timedelta(minutes=10)


@dataclass
class Wanted:
    """A request. ``claim``: of whom it is while it runs. ``passed_by``: others' claims since it was its owner's next that could run."""

    number: int
    owner: str
    lane: str
    key: str | None = None
    state: str = "received"
    tries: int = 0
    claim: str = ""
    lease: datetime | None = None
    pause: datetime | None = None
    cancel: bool = False
    passed_by: dict[str, int] = field(default_factory=dict)


@dataclass
class Plain:
    """``weights``, ``most``: of owners. Turns are fractions here; the service's are whole numbers."""

    at_once: int
    kept: int
    weights: dict[str, int]
    most: dict[str, int]
    requests: list[Wanted] = field(default_factory=list)
    turns: dict[tuple[str, str], Fraction] = field(default_factory=dict)
    last: dict[str, Fraction] = field(default_factory=dict)

    def running(self, **having: str) -> int:
        return sum(one.state == "running" and all(getattr(one, k) == v for k, v in having.items()) for one in self.requests)

    def ready(self, lane: str, owner: str, now: datetime) -> list[Wanted]:
        """An owner's requests of a lane that may run, by arrival."""
        if self.running(owner=owner) >= self.most[owner]:
            return []
        mine = [one for one in self.requests if (one.state, one.lane, one.owner) == ("queued", lane, owner)]
        return [one for one in mine if one.pause is None or one.pause <= now or one.pause > now + FAR]

    def next_one(self, lanes: tuple[str, ...], now: datetime, only: int | None) -> Wanted | None:
        free = self.at_once - self.running()
        for lane in ("small", "large") if self.running(lane="large") else ("large", "small"):
            room = free if lane == "small" else min(free, self.at_once - self.kept - self.running(lane="large"))
            if lane not in lanes or room <= 0:
                continue
            heads = []
            for owner in self.weights:
                ready = [one for one in self.ready(lane, owner, now) if only in (None, one.number)]
                if ready:
                    turn = max(self.turns.get((lane, owner), Fraction(0)), self.last.get(lane, Fraction(0)))
                    heads.append((turn, owner, ready[0]))
            if heads:
                return min(heads, key=lambda head: head[:2])[2]
        return None

    def begin(self, one: Wanted, claim: str, now: datetime) -> None:
        turn = max(self.turns.get((one.lane, one.owner), Fraction(0)), self.last.get(one.lane, Fraction(0)))
        self.turns[one.lane, one.owner] = turn + Fraction(1, self.weights[one.owner])
        self.last[one.lane] = turn
        one.state, one.claim, one.lease, one.pause, one.tries = "running", claim, now + LEASE, None, one.tries + 1

    def end(self, one: Wanted, state: str) -> None:
        one.state, one.lease = state, None

    def again(self, one: Wanted, pause: datetime) -> None:
        one.state, one.claim, one.lease, one.pause = "queued", "", None, pause

    def tried(self, one: Wanted, now: datetime) -> None:
        """A try came to nothing."""
        if one.cancel:
            self.end(one, "cancelled")
        elif one.tries >= TRIES:
            self.end(one, "dead")
        else:
            self.again(one, now + PAUSES[one.tries - 1])
