"""The callback that counts requests to services that bill by the request."""

from __future__ import annotations

from typing import Protocol


class Meter(Protocol):
    """Called once per request, including failed and retried ones. Must be thread-safe and must not raise."""

    def count(self, service: str, operation: str, sent: int = 0, received: int = 0) -> None:
        """``service``: "s3", "dynamodb", …; ``operation``: as its API names it, such as "GetObject". ``sent``, ``received``: bytes of the
        bodies, without headers."""
        ...


class NoMeter:
    """Counts nothing."""

    def count(self, service: str, operation: str, sent: int = 0, received: int = 0) -> None:
        pass
