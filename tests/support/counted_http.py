"""Counts the requests to a server of S3, and the bytes that they move, of all processes together: Spark's workers, too."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from faulty_http import Answered, Cut, FaultyServer, PassOn, in_front_of
from http_requests import Asked

_FOLDER = re.compile(r"/(events|stateless|prefetched|state|timeline|rules)/")


@dataclass
class Traffic:
    """Requests by method, and the bytes of bodies. ``by_kind``: bytes read by folder of the store."""

    requests: Counter[str] = field(default_factory=Counter)
    read: int = 0
    written: int = 0
    by_kind: Counter[str] = field(default_factory=Counter)


@dataclass
class CountingServer(FaultyServer):
    """Passes every request on, and keeps no body. ``traffic``: since the last ``take``."""

    traffic: Traffic = field(default_factory=Traffic)

    def take(self) -> Traffic:
        """The traffic since the last call."""
        with self._turn:
            taken, self.traffic = self.traffic, Traffic()
        return taken

    def carried_out(self, asked: Asked, pass_on: PassOn) -> Answered | Cut:
        answered = pass_on(asked)
        folder = _FOLDER.search(asked.path)
        kind = "list" if asked.lists else folder[1] if folder else "other"
        with self._turn:
            self.traffic.requests["LIST" if asked.lists else asked.method] += 1
            self.traffic.read += len(answered.body)
            self.traffic.written += len(asked.body)
            self.traffic.by_kind[kind] += len(answered.body)
        return answered


@contextmanager
def counting(upstream: int) -> Iterator[CountingServer]:
    """A counting server in front of the one on port ``upstream``, until the end of the block."""
    with in_front_of(upstream, CountingServer) as server:
        yield server
