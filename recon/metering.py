"""Counting what is asked of services: the port. Adapters of services count each request; nobody has to listen.

Belongs here: the Protocol. Does not belong here: keeping the counts (recon.usage), and what they cost (recon.pricing).
"""

from __future__ import annotations

from typing import Protocol


class Meter(Protocol):
    """Told of each request. ``sent``, ``received``: bytes of content. May be called from many threads at once."""

    def count(self, service: str, operation: str, sent: int = 0, received: int = 0) -> None: ...
