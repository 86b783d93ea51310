"""One request to S3, tried again for a while: back-off with jitter, renewed credentials, every try counted.

obstore and boto3 try nothing again themselves: a conditional put that is repeated unseen comes back as refused though it succeeded.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from recon.config.settings import S3Settings
from recon.errors import ReconError
from recon.metering.meter import Meter, NoMeter
from recon.storage.s3.failures import Failure, failure_of, raised
from recon.storage.s3.session import PROFILE, Location, Session

BACK_OFF_FIRST_S = 0.05
BACK_OFF_S_MAX = 5.0
RENEWALS_MAX = 2
"""So often credentials are renewed for one request that is refused for them."""

T = TypeVar("T")


class Refused(Exception):
    """S3 answered what the caller has to judge: not found, exists already, behind the end."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.code)
        self.failure = failure


class Requests:
    """Carries out requests of one store, from any number of threads at once."""

    def __init__(self, location: Location, settings: S3Settings, meter: Meter | None) -> None:
        self.location, self.settings = location, settings
        self.meter: Meter = meter or NoMeter()
        self._sessions: dict[str | None, Session] = {}
        self._opening = threading.Lock()
        self.session()

    def session(self, in_place_of: Session | None = None) -> Session:
        """The clients of the profile that the process has now, since a stage has a role of its own only while it is at work.
        ``in_place_of``: a session whose credentials were refused; another is opened, unless another thread has done so since."""
        profile = os.environ.get(PROFILE)
        with self._opening:
            found = self._sessions.get(profile)
            if found is None or found is in_place_of:
                found = self._sessions[profile] = Session(self.location, self.settings)
            return found

    def send(
        self, operation: str, key: str, work: Callable[[Session], T], sent: int = 0, received: Callable[[T], int] = lambda answer: 0
    ) -> T:
        """What ``work`` answers. ``operation``: as S3 names it. Raises Refused, or the failure once it was tried for long enough."""
        begun, tries, renewals = time.monotonic(), 0, 0
        while True:
            session, tries = self.session(), tries + 1
            try:
                answer = work(session)
            except ReconError:
                raise
            except Exception as error:
                self.meter.count("s3", operation, sent)
                failure = failure_of(error)
                if failure is None:
                    if session.credentials.failed is not None:
                        raise session.credentials.failed from None
                    raise
            else:
                self.meter.count("s3", operation, sent, received(answer))
                return answer
            if session.credentials.failed is not None:
                raise session.credentials.failed
            if failure.not_found or failure.exists or failure.beyond or failure.code == "NoSuchUpload":
                raise Refused(failure)
            spent = time.monotonic() - begun
            if failure.expired and renewals < (RENEWALS_MAX if failure.out_of_date else 1):
                renewals += 1
                self.session(in_place_of=session)
            elif not failure.passes or spent >= self.settings.retry_s:
                after = f", {tries} tries in {spent:.0f} s" if tries > 1 else ""
                raise raised(failure, f"s3:{action_of(operation)}", self._url(key), session.region, after)
            self._wait(tries, self.settings.retry_s - spent)

    def _wait(self, tries: int, left_s: float) -> None:
        longest = min(BACK_OFF_S_MAX, BACK_OFF_FIRST_S * 2**tries)
        time.sleep(min(max(left_s, 0.0), random.uniform(0, longest)))  # noqa: S311

    def _url(self, key: str) -> str:
        return f"s3://{self.location.bucket}/{key}"


def action_of(operation: str) -> str:
    """The permission of IAM that an operation needs."""
    if operation == "ListObjectsV2":
        return "ListBucket"
    if operation == "HeadObject":
        return "GetObject"
    if operation == "AbortMultipartUpload":
        return operation
    return "PutObject" if operation in ("CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload") else operation
