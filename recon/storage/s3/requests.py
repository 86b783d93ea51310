"""Sends requests to S3: retries with back-off and jitter, renews credentials, and counts every try.

obstore and boto3 do not retry by themselves: a conditional put that they repeated unseen would be refused though it had succeeded.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from itertools import count
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from recon.config.settings import S3Settings
from recon.errors import ReconError
from recon.metering.meter import Meter, NoMeter
from recon.storage.s3.failures import Failure, failure_of, raised
from recon.storage.s3.session import PROFILE, Location, Session

BACK_OFF = wait_random_exponential(multiplier=0.1, max=5)
"""Seconds before the next try: full jitter below a bound that doubles."""
RENEWALS_MAX = 2
"""How often credentials are renewed for one request that is refused because of them."""

T = TypeVar("T")


class Refused(Exception):
    """S3's answer is for the caller to judge: the object is not found, exists already, or ends before the range."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.code)
        self.failure = failure


class _Failed(Exception):
    """One try has failed, with the clients of ``session``."""

    def __init__(self, failure: Failure, session: Session) -> None:
        super().__init__(failure.code)
        self.failure, self.session = failure, session


class Requests:
    """Sends the requests of one store. Safe for any number of threads."""

    def __init__(self, location: Location, settings: S3Settings, meter: Meter | None) -> None:
        self.location, self.settings = location, settings
        self.meter: Meter = meter or NoMeter()
        self._sessions: dict[str | None, Session] = {}
        self._opening = threading.Lock()
        self.session()

    def session(self, in_place_of: Session | None = None) -> Session:
        """The clients of the process's current profile, which changes with the stage's role.
        ``in_place_of``: a session whose credentials were refused; it is replaced, unless another thread has replaced it already."""
        profile = os.environ.get(PROFILE)
        with self._opening:
            found = self._sessions.get(profile)
            if found is None or found is in_place_of:
                found = self._sessions[profile] = Session(self.location, self.settings)
            return found

    def send(
        self, operation: str, key: str, work: Callable[[Session], T], sent: int = 0, received: Callable[[T], int] = lambda answer: 0
    ) -> T:
        """Returns the result of ``work``. ``operation``: S3's name of it. ``sent``, ``received``: bytes of the bodies.

        Raises Refused, and the failure as a ReconError if it does not pass, or not within ``s3.retry``."""
        retry_s, renewals = self.settings.retry_s, count()

        def may_succeed(error: BaseException) -> bool:
            """Whether another try may succeed. Replaces credentials that were refused."""
            if not isinstance(error, _Failed):
                return False
            if error.failure.expired and next(renewals) < (RENEWALS_MAX if error.failure.out_of_date else 1):
                self.session(in_place_of=error.session)
                return True
            return error.failure.passes

        def wait_s(state: RetryCallState) -> float:
            """The last try begins when ``retry_s`` is over."""
            return min(BACK_OFF(state), max(0.0, retry_s - (state.seconds_since_start or 0.0)))

        tries = Retrying(retry=retry_if_exception(may_succeed), stop=stop_after_delay(retry_s), wait=wait_s, reraise=True)
        try:
            answer: T = tries(self._once, operation, work, sent, received)
            return answer
        except _Failed as failed:
            number, spent_s = tries.statistics["attempt_number"], tries.statistics["delay_since_first_attempt"]
            after = f", {number} tries in {spent_s:.0f} s" if number > 1 else ""
            raise raised(failed.failure, f"s3:{action_of(operation)}", self.location.url(key), failed.session.region, after) from None

    def _once(self, operation: str, work: Callable[[Session], T], sent: int, received: Callable[[T], int]) -> T:
        session = self.session()
        try:
            answer = work(session)
        except ReconError:
            raise
        except Exception as error:
            self.meter.count("s3", operation, sent)
            failure = failure_of(error)
            if session.credentials.failed is not None:
                raise session.credentials.failed from None
            if failure is None:
                raise
        else:
            self.meter.count("s3", operation, sent, received(answer))
            return answer
        if failure.not_found or failure.exists or failure.beyond or failure.code == "NoSuchUpload":
            raise Refused(failure)
        raise _Failed(failure, session)


def action_of(operation: str) -> str:
    """The permission of IAM that an operation needs."""
    if operation == "ListObjectsV2":
        return "ListBucket"
    if operation == "HeadObject":
        return "GetObject"
    if operation == "AbortMultipartUpload":
        return operation
    return "PutObject" if operation in ("CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload") else operation
