"""Usage: requests, and bytes sent and received, by service and operation, as one ``Counter``.

A process counts what it requests itself. Spark's tasks and worker processes count for themselves.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Usage = Counter[tuple[str, str, str]]
"""(service, operation, quantity) → number. A quantity is "requests", or "sent" or "received" in bytes of the bodies."""


def counted(service: str, operation: str, requests: int = 1, sent: int = 0, received: int = 0) -> Usage:
    """The usage of some requests of one operation."""
    numbers = {"requests": requests, "sent": sent, "received": received}
    return Counter({(service, operation, quantity): number for quantity, number in numbers.items()})


def requests_of(usage: Usage) -> dict[tuple[str, str], int]:
    """(service, operation) → number of requests."""
    return {(service, operation): number for (service, operation, quantity), number in usage.items() if quantity == "requests"}


def total(usage: Usage, quantity: str, service: str = "") -> int:
    """The sum of a quantity over all operations; of one ``service`` if it is given."""
    return sum(number for (of, _, what), number in usage.items() if what == quantity and service in ("", of))


@dataclass
class Spent:
    """What a stage took: filled when it ends."""

    seconds: float = 0.0
    usage: Usage = field(default_factory=Counter)


class Tally:
    """A meter that adds up the usage."""

    def __init__(self) -> None:
        self._usage: Usage = Counter()
        self._lock = threading.Lock()

    def count(self, service: str, operation: str, sent: int = 0, received: int = 0) -> None:
        self.add(counted(service, operation, 1, sent, received))

    def add(self, usage: Usage) -> None:
        """Adds usage, such as that of another process."""
        with self._lock:
            self._usage.update(usage)

    def so_far(self) -> Usage:
        with self._lock:
            return self._usage.copy()


def to_json(usage: Usage) -> dict[str, Any]:
    """{"s3": {"GetObject": {"requests": 3, "sent": 0, "received": 1024}}}; services and operations in order."""
    found: dict[str, Any] = {}
    for service, operation in sorted(requests_of(usage)):
        numbers = {quantity: usage[service, operation, quantity] for quantity in ("requests", "sent", "received")}
        found.setdefault(service, {})[operation] = numbers
    return found


def from_json(body: Mapping[str, Mapping[str, Mapping[str, int]]]) -> Usage:
    return Counter(
        {
            (service, operation, quantity): number
            for service, operations in body.items()
            for operation, numbers in operations.items()
            for quantity, number in numbers.items()
        }
    )


_PREFIX = "asked"


def to_counts(usage: Usage) -> dict[str, int]:
    """As numbers by name, which can be added up without knowing the names: ``asked.s3.GetObject.requests``."""
    return {".".join((_PREFIX, *key)): number for key, number in usage.items() if number}


def from_counts(counts: Mapping[str, float]) -> Usage:
    """The inverse of ``to_counts``; other names are ignored."""
    found: Usage = Counter()
    for name, number in counts.items():
        if name.startswith(f"{_PREFIX}."):
            _, service, operation, quantity = name.split(".")
            found[service, operation, quantity] = int(number)
    return found


def tally_of(store: object) -> Tally | None:
    """The tally of a store and of the services beside it; None for a folder."""
    meter = getattr(store, "meter", None)
    return meter if isinstance(meter, Tally) else None


def usage_of(store: object) -> Usage:
    """This process's usage of a store and of the services beside it so far; empty for a folder."""
    tally = tally_of(store)
    return tally.so_far() if tally else Counter()
