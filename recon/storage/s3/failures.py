"""Turns failed requests to S3 into Recon's errors.

An error's body may name the access key and the signed text, so only its code is ever shown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from recon.errors import ConnectionLost, OutOfCapacity, ReconError, Throttled, TimedOut, TryAgain, WrongUsage

_STATUS = re.compile(r"status code: (\d{3})\b")
_CODE = re.compile(r"<Code>([A-Za-z0-9._-]{1,80})</Code>")
_REGION = re.compile(r"<Region>([a-z0-9-]{1,40})</Region>")
_TIMED_OUT = re.compile(r"kind: Timeout|TimedOut|operation timed out")

_THROTTLED = {"SlowDown", "SlowDownRead", "SlowDownWrite", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests"}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"}
_INVALID = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "InvalidClientTokenId", "AuthFailure"}
_ELSEWHERE = {"PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
_GARBLED = {"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "IncompleteBody"}
_FULL = {"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull"}


@dataclass(frozen=True)
class Failure:
    """A failed request. ``status``: of HTTP, 0 without a response. ``code``: S3's error code, "" without one."""

    status: int
    code: str
    timed_out: bool = False
    region: str = ""

    @property
    def not_found(self) -> bool:
        return self.status == 404 and self.code not in ("NoSuchBucket", "NoSuchUpload")

    @property
    def exists(self) -> bool:
        """The conditional put was refused."""
        return self.status == 412 or self.code == "PreconditionFailed"

    @property
    def beyond(self) -> bool:
        """The range begins beyond the end of the object."""
        return self.status == 416

    @property
    def expired(self) -> bool:
        """New credentials may help. The response to HEAD has no body, hence no code."""
        return self.code in _EXPIRED | _INVALID or (not self.code and self.status in (400, 401, 403))

    @property
    def out_of_date(self) -> bool:
        """The credentials were valid and have expired."""
        return self.code in _EXPIRED

    @property
    def passes(self) -> bool:
        """Whether the same request may succeed a little later."""
        return (
            self.status in (0, 408, 409, 429)
            or self.status >= 500
            or self.code in _THROTTLED | _GARBLED | {"RequestTimeout", "OperationAborted", "ConditionalRequestConflict"}
        ) and self.code not in _FULL


def failure_of(error: Exception) -> Failure | None:
    """The failure behind an error of boto3 or obstore; None for any other error."""
    from botocore.exceptions import BotoCoreError, ClientError

    if isinstance(error, ClientError):
        detail, status_code = error.response.get("Error", {}), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        named = re.sub(r"[^A-Za-z0-9._-]", "", str(detail.get("Code", "")))[:80]
        return Failure(int(status_code), "" if named.isdigit() else named, region=str(detail.get("Region", "")))
    if isinstance(error, BotoCoreError):
        return Failure(0, "", timed_out="Timeout" in type(error).__name__)
    from obstore.exceptions import BaseError

    if not isinstance(error, (BaseError, FileNotFoundError)):
        return None
    # obstore's errors have everything but their class in their text.
    text = str(error)
    status, code, region = _STATUS.search(text), _CODE.search(text), _REGION.search(text)
    if status is None and "redirect" in text.lower():
        return Failure(301, "PermanentRedirect", region=region[1] if region else "")
    return Failure(
        int(status[1]) if status else 404 if isinstance(error, FileNotFoundError) else 0,
        code[1] if code else "",
        timed_out=status is None and _TIMED_OUT.search(text) is not None,
        region=region[1] if region else "",
    )


def raised(failure: Failure, action: str, url: str, region: str, after: str) -> ReconError:
    """The failure as one of Recon's errors. ``action``: such as s3:GetObject. ``url``: the object's. ``after``: tries and seconds."""
    shown = f"{failure.status} {failure.code}".strip() if failure.status else "no answer"
    what = f"{url}: {action} failed ({shown}{after})"
    if failure.code == "NoSuchBucket":
        return WrongUsage(f"{url}: the bucket does not exist; make it, or name another in 'store'")
    if failure.code in _ELSEWHERE or failure.status in (301, 307, 308):
        there = f"it is in {failure.region}; set AWS_REGION={failure.region}" if failure.region else "set AWS_REGION to the bucket's own"
        return WrongUsage(f"{url}: the bucket is not in the region {region}: {there}")
    if failure.code == "RequestTimeTooSkewed":
        return WrongUsage(f"{what}: the clock of this machine is off; set it, then run the same again")
    if failure.code.startswith("KMS.") or failure.code in ("KMSDisabledException", "KMSNotFoundException", "KMSInvalidStateException"):
        return WrongUsage(f"{what}: the key can't be used; check 's3.kms_key' and the key's policy")
    if failure.code in _EXPIRED:
        return TryAgain(f"{what}: the AWS credentials have expired; sign in again, such as with 'aws sso login', then run the same again")
    if failure.code in _INVALID:
        return WrongUsage(f"{what}: the AWS credentials are not valid; check AWS_PROFILE and the variables that begin with AWS_")
    if failure.status in (401, 403) or (failure.status == 400 and not failure.code):
        return WrongUsage(
            f"{what}: access is denied; allow {action} there to the role or user that runs this, and sign in again if the session has ended"
        )
    return _passing(failure, what)


def _passing(failure: Failure, what: str) -> ReconError:
    if failure.code in _FULL or failure.status == 507:
        return OutOfCapacity(f"{what}: the storage is full; free some space, then run the same again")
    if failure.code in _THROTTLED or failure.status in (429, 503):
        return Throttled(f"{what}: S3 asks to be called less often; run the same again later")
    if failure.timed_out or failure.status == 408 or failure.code == "RequestTimeout":
        return TimedOut(f"{what}: no response in time; check the network, then run the same again")
    if failure.code in _GARBLED:
        return ConnectionLost(f"{what}: the bytes that arrived are not those that were sent; check the network, then run the same again")
    if failure.status == 0 or failure.status >= 500:
        return ConnectionLost(f"{what}: check the network and the endpoint, then run the same again")
    if failure.passes:
        return TryAgain(f"{what}: a concurrent request conflicted; run the same again")
    return WrongUsage(f"{what}: S3 refuses the request; check 'store' and the AWS settings")
