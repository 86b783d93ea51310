"""AWS calls with the standard credential chain, retries for transient errors, and Recon's own error types."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay

from recon.errors import ConnectionLost, ReconError, Throttled, TimedOut, TryAgain, WrongUsage, transient_kind
from recon.storage.redact import redacted

T = TypeVar("T")
INSTALL_AWS = "pip install 'dagster-recon[aws]'"
_RETRIED = (Throttled, ConnectionLost, TimedOut)


@dataclass(frozen=True)
class Pace:
    """Seconds. A step is polled after ``first``, then ever less often, every ``most`` at the end. Transient errors are retried for
    ``patience``. The logs of a failed step are awaited for ``logs``."""

    first: float = 2
    most: float = 30
    patience: float = 300
    logs: float = 120

    def wait_s(self, tries: int, growth: float = 1.5) -> float:
        """Seconds before the next try, ``growth`` times as long each time, with jitter: callers do not all retry at the same instant."""
        return random.uniform(0.5, 1) * min(self.most, self.first * growth ** min(tries - 1, 100))  # noqa: S311 - no secret

    def wait(self, tries: int, growth: float = 1.5) -> None:
        time.sleep(self.wait_s(tries, growth))

    def brief(self) -> Pace:
        """For a process that is about to end."""
        return Pace(min(1.0, self.first), min(2.0, self.most), min(10.0, self.patience), 0)


def client(service: str, connect_s: float = 10, read_s: float = 60) -> Any:
    """A boto3 client with the environment's region, endpoint and credentials. It does not retry by itself: a submission that is sent twice
    runs twice. Raises WrongUsage."""
    try:
        import boto3
        import botocore.config
        import botocore.exceptions
    except ImportError:
        raise WrongUsage(f"{service} needs boto3: {INSTALL_AWS}") from None
    settings = botocore.config.Config(retries={"total_max_attempts": 1}, connect_timeout=connect_s, read_timeout=read_s)
    try:
        return boto3.client(service, config=settings)
    except botocore.exceptions.NoRegionError:
        raise WrongUsage(f"{service}: no region; set AWS_REGION, or region in ~/.aws/config") from None
    except botocore.exceptions.BotoCoreError as error:
        raise WrongUsage(f"{service}: {_in_a_line(error)}") from None


def call(method: Callable[..., T], **arguments: Any) -> T:
    """One call. Raises its errors as Recon's own."""
    try:
        return method(**arguments)
    except Exception as error:
        own = as_recon_error(error, getattr(method, "__name__", "an AWS call"))
        if own is None:
            raise
        raise own from None


def call_with_retries(pace: Pace, method: Callable[..., T], **arguments: Any) -> T:
    """One call, retried until it is answered or ``pace.patience`` is over. Only for calls that may be made twice."""

    def wait_s(state: RetryCallState) -> float:
        throttled = state.outcome is not None and isinstance(state.outcome.exception(), Throttled)
        return pace.wait_s(state.attempt_number, growth=2 if throttled else 1.5)

    tries = Retrying(retry=retry_if_exception_type(_RETRIED), stop=stop_after_delay(pace.patience), wait=wait_s, reraise=True)
    answer: T = tries(call, method, **arguments)
    return answer


def as_recon_error(error: Exception, what: str) -> ReconError | None:
    """An error of botocore as one of Recon's own; None for an error that is not botocore's."""
    from botocore.exceptions import BotoCoreError, ClientError

    kind = transient_kind(error)
    if not isinstance(error, (BotoCoreError, ClientError)) and kind is None:
        return None
    message = f"{what}: {_in_a_line(error)}"
    if kind is not None:
        return kind(f"{message}; it passes by itself, run the same again")
    code = error.response["Error"].get("Code", "") if isinstance(error, ClientError) else type(error).__name__
    if code.startswith("ExpiredToken"):
        return TryAgain(f"{message}; renew the credentials, then run the same again")
    return WrongUsage(message)


def _in_a_line(error: Exception) -> str:
    return redacted(" ".join(str(error).split()))[:500]
