"""Counting what is asked of services that bill by the request."""

from __future__ import annotations

from typing import Protocol


class Meter(Protocol):
    """Is told of every request, also of one that failed or was tried again. May be called from many threads at once, and must not raise."""

    def count(self, service: str, operation: str, sent: int = 0, received: int = 0) -> None:
        """``service``: "s3", "dynamodb", …; ``operation``: as its API names it, such as "GetObject". ``sent``, ``received``: bytes of the
        bodies, without headers."""
        ...


class NoMeter:
    """Counts nothing."""

    def count(self, service: str, operation: str, sent: int = 0, received: int = 0) -> None:
        pass
