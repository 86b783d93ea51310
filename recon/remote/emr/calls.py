"""Calls of AWS as this library makes them: by the standard chain of credentials, patiently, and failing in its own words."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from recon.errors import ConnectionLost, ReconError, Throttled, TimedOut, TryAgain, WrongUsage, passing
from recon.remote.emr.redact import masked

T = TypeVar("T")
MEND = "pip install 'dagster-recon[aws]'"
_WAITED_OUT = (Throttled, ConnectionLost, TimedOut)


@dataclass(frozen=True)
class Pace:
    """Seconds. A step is looked at after ``first``, then ever less often, up to ``most``. What is throttled or cut off is tried again for
    ``patience``. The logs of a failed step are waited for as long as ``logs``."""

    first: float = 2
    most: float = 30
    patience: float = 300
    logs: float = 120

    def waits(self) -> Waits:
        return Waits(self)

    def brief(self) -> Pace:
        """Of who is about to end."""
        return Pace(min(1.0, self.first), min(2.0, self.most), min(10.0, self.patience), 0)


class Waits:
    """One wait after the other, each half as long again as the one before, with jitter: many who wait do not ask at the same instant."""

    def __init__(self, pace: Pace) -> None:
        self._pace, self._next_s = pace, pace.first

    def wait(self, more: bool = False) -> None:
        """``more``: it was throttled, so twice as long."""
        time.sleep(random.uniform(0.5, 1) * self._next_s)  # noqa: S311 - no secret
        self._next_s = min(self._pace.most, self._next_s * (2 if more else 1.5))


def client(service: str, connect_s: float = 10, read_s: float = 60) -> Any:
    """A client of boto3: region, endpoint and credentials as the environment has them. It tries nothing again by itself: what was
    submitted twice would run twice. Raises WrongUsage."""
    try:
        import boto3
        import botocore.config
        import botocore.exceptions
    except ImportError:
        raise WrongUsage(f"{service} needs boto3: {MEND}") from None
    settings = botocore.config.Config(retries={"total_max_attempts": 1}, connect_timeout=connect_s, read_timeout=read_s)
    try:
        return boto3.client(service, config=settings)
    except botocore.exceptions.NoRegionError:
        raise WrongUsage(f"{service}: no region; set AWS_REGION, or region in ~/.aws/config") from None
    except botocore.exceptions.BotoCoreError as error:
        raise WrongUsage(f"{service}: {_in_a_line(error)}") from None


def called(method: Callable[..., T], **arguments: Any) -> T:
    """One call, its errors as ours."""
    try:
        return method(**arguments)
    except Exception as error:
        told = told_as(error, getattr(method, "__name__", "a call of AWS"))
        if told is None:
            raise
        raise told from None


def patiently(pace: Pace, method: Callable[..., T], **arguments: Any) -> T:
    """The call, until it is answered or ``pace.patience`` is over. Only for calls that may be made twice."""
    end, waits = time.monotonic() + pace.patience, pace.waits()
    while True:
        try:
            return called(method, **arguments)
        except _WAITED_OUT as error:
            if time.monotonic() >= end:
                raise
            waits.wait(more=isinstance(error, Throttled))


def told_as(error: Exception, what: str) -> ReconError | None:
    """An error of botocore as one of ours; None for one that is none of its."""
    from botocore.exceptions import BotoCoreError, ClientError

    kind = passing(error)
    if not isinstance(error, (BotoCoreError, ClientError)) and kind is None:
        return None
    told = f"{what}: {_in_a_line(error)}"
    if kind is not None:
        return kind(f"{told}; it passes by itself, run the same again")
    code = error.response["Error"].get("Code", "") if isinstance(error, ClientError) else type(error).__name__
    if code.startswith("ExpiredToken"):
        return TryAgain(f"{told}; renew the credentials, then run the same again")
    return WrongUsage(told)


def _in_a_line(error: Exception) -> str:
    return masked(" ".join(str(error).split()))[:500]
