"""Errors of the operating system and of other libraries that pass by themselves, as kinds of TryAgain.

Belongs here: telling which kind a foreign error is, by the classes it descends from, its AWS error code or its errno; no library has to be
imported for that. Does not belong here: how often each kind is tried again (recon_assets.failures), and the texts of failures.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping

from recon.errors import ConnectionLost, OutOfCapacity, Throttled, TimedOut, TryAgain

Kind = type[TryAgain]

_BY_CLASS: dict[str, Kind] = {
    # The operating system, urllib3 and botocore name their errors alike.
    **dict.fromkeys(("TimeoutError", "ReadTimeoutError", "ConnectTimeoutError", "TimeoutException"), TimedOut),
    **dict.fromkeys(
        ("ConnectionError", "EndpointConnectionError", "ConnectionClosedError", "HTTPClientError", "ProtocolError", "IncompleteReadError"),
        ConnectionLost,
    ),
}
_BY_CODE: dict[str, Kind] = {
    **dict.fromkeys(
        (
            *("Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled", "RequestThrottledException", "SlowDown"),
            *("TooManyRequestsException", "ProvisionedThroughputExceededException", "RequestLimitExceeded", "BandwidthLimitExceeded"),
            *("PriorRequestNotComplete", "TransactionInProgressException", "EC2ThrottledException"),
        ),
        Throttled,
    ),
    **dict.fromkeys(
        ("InsufficientInstanceCapacity", "InsufficientCapacityException", "InstanceLimitExceeded", "ServiceQuotaExceededException"),
        OutOfCapacity,
    ),
    **dict.fromkeys(("RequestTimeout", "RequestTimeoutException"), TimedOut),
    **dict.fromkeys(
        (
            *("InternalError", "InternalFailure", "InternalServerError", "InternalServerException", "ServiceUnavailable"),
            *("ServiceUnavailableException", "500", "502", "503"),
        ),
        ConnectionLost,
    ),
}
_BY_ERRNO: dict[int, Kind] = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE), OutOfCapacity),
    **dict.fromkeys((errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ESTALE), ConnectionLost),
    errno.EAGAIN: Throttled,
}


def passing(error: BaseException) -> Kind | None:
    """The kind of an error that passes by itself; None for one that does not, or that nobody knows."""
    if isinstance(error, TryAgain):
        return type(error)
    response = getattr(error, "response", None)
    if isinstance(response, Mapping) and isinstance(told := response.get("Error"), Mapping):  # botocore's ClientError
        return _BY_CODE.get(str(told.get("Code", ""))) or _by_status(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if isinstance(error, OSError) and error.errno in _BY_ERRNO:
        return _BY_ERRNO[error.errno]
    return next((_BY_CLASS[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in _BY_CLASS), None)


def _by_status(status: int) -> Kind | None:
    """Of an answer whose code nobody knows, such as that of a gateway before the service. 501 is for what the service never does."""
    if status == 429:
        return Throttled
    return ConnectionLost if status >= 500 and status != 501 else None
