"""What was asked of services, counted: requests and bytes by service and operation, and what of it falls into a stage.

Counted is what this process asks. Spark's tasks and workers in other processes count for themselves.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Counted:
    """Requests of one operation, and bytes of content sent and received by them."""

    requests: int = 0
    sent: int = 0
    received: int = 0

    def __add__(self, other: Counted) -> Counted:
        return Counted(self.requests + other.requests, self.sent + other.sent, self.received + other.received)

    def __sub__(self, other: Counted) -> Counted:
        return Counted(self.requests - other.requests, self.sent - other.sent, self.received - other.received)


NONE = Counted()

Usage = Mapping[tuple[str, str], Counted]
"""(service, operation) → what was counted; operations that were not asked for are left out."""


@dataclass
class Spent:
    """What a stage took: filled when it ends."""

    seconds: float = 0.0
    usage: Usage = field(default_factory=dict)


class Tally:
    """A meter that keeps what it is told."""

    def __init__(self) -> None:
        self._counted: dict[tuple[str, str], Counted] = {}
        self._lock = threading.Lock()

    def count(self, service: str, operation: str, sent: int = 0, received: int = 0) -> None:
        one = Counted(1, sent, received)
        with self._lock:
            self._counted[service, operation] = self._counted.get((service, operation), NONE) + one

    def add(self, usage: Usage) -> None:
        """What another process has counted."""
        with self._lock:
            self._counted = added(self._counted, usage)

    def so_far(self) -> Usage:
        with self._lock:
            return dict(self._counted)


def added(first: Usage, second: Usage) -> dict[tuple[str, str], Counted]:
    return {what: first.get(what, NONE) + second.get(what, NONE) for what in dict.fromkeys([*first, *second])}


def since(now: Usage, then: Usage) -> Usage:
    """What was counted between two looks at a tally."""
    return {what: counted - then.get(what, NONE) for what, counted in now.items() if counted != then.get(what, NONE)}


def to_json(usage: Usage) -> dict[str, Any]:
    """{"s3": {"get": {"requests": 3, "sent": 0, "received": 1024}}}; services and operations in order."""
    told: dict[str, Any] = {}
    for service, operation in sorted(usage):
        told.setdefault(service, {})[operation] = dict(vars(usage[service, operation]))
    return told


def from_json(told: Mapping[str, Mapping[str, Mapping[str, int]]]) -> Usage:
    return {(service, operation): Counted(**counted) for service, held in told.items() for operation, counted in held.items()}


_ASKED = "asked"


def to_counts(usage: Usage) -> dict[str, int]:
    """As numbers by name, which whoever does not know them may add up: ``asked.s3.GetObject.requests``."""
    return {
        f"{_ASKED}.{service}.{operation}.{name}": number
        for (service, operation), counted in usage.items()
        for name, number in vars(counted).items()
        if number
    }


def from_counts(counts: Mapping[str, float]) -> Usage:
    """What ``to_counts`` has told; counts of other things are passed over."""
    found: dict[tuple[str, str], dict[str, int]] = {}
    for path, number in counts.items():
        if path.startswith(f"{_ASKED}."):
            _, service, operation, name = path.split(".")
            found.setdefault((service, operation), {})[name] = int(number)
    return {what: Counted(**counted) for what, counted in found.items()}


def tally_of(store: object) -> Tally | None:
    """What counts the requests of a store, and of the services beside it; None in a folder."""
    meter = getattr(store, "meter", None)
    return meter if isinstance(meter, Tally) else None


def usage_of(store: object) -> Usage:
    """What this process has asked of a store and of the services beside it so far; nothing in a folder."""
    tally = tally_of(store)
    return tally.so_far() if tally else {}
