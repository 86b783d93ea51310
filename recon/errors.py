"""Recon's errors, by what the caller should do about them, and the kind of a foreign error that is worth a retry."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence


class ReconError(Exception):
    """A failure with a one-line message for the user. ``exit_status``: of the command line."""

    exit_status = 1


class WrongInput(ReconError):
    """The data, a run or a store is wrong (exit status 1): for example a failed verification, or a batch that does not tie."""

    exit_status = 1


class NotReady(WrongInput):
    """A stage was asked for windows that are not ready for it. It did nothing; their data are not at fault. ``windows``: their names."""

    def __init__(self, message: str, windows: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.windows = tuple(windows)


class Damaged(WrongInput):
    """Stored bytes differ from what was written, such as a truncated part-file or a flipped bit. Damaged data are never returned."""


class WrongUsage(ReconError):
    """Wrong arguments or configuration (exit status 2)."""

    exit_status = 2


class Cancelled(ReconError):
    """The work was cancelled where it ran. Its data are not at fault; it may be requested again."""


class TryAgain(ReconError):
    """Something outside Recon is busy or unavailable for now (exit status 3): a lock, the network, a full disk."""

    exit_status = 3


class Throttled(TryAgain):
    """A service throttles requests."""


class OutOfCapacity(TryAgain):
    """A disk is full, a quota is used up, or a cluster has no instances left."""


class ConnectionLost(TryAgain):
    """The connection to a service failed or broke, or the service had an internal error."""


class TimedOut(TryAgain):
    """A service did not respond in time. The request may have been carried out all the same."""


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
            *("ActiveStatementsExceededException", "ActiveSessionsExceededException"),  # of Redshift's Data API, and three below
        ),
        Throttled,
    ),
    **dict.fromkeys(
        ("InsufficientInstanceCapacity", "InsufficientCapacityException", "InstanceLimitExceeded", "ServiceQuotaExceededException"),
        OutOfCapacity,
    ),
    **dict.fromkeys(("RequestTimeout", "RequestTimeoutException", "QueryTimeoutException"), TimedOut),
    **dict.fromkeys(
        (
            *("InternalError", "InternalFailure", "InternalServerError", "InternalServerException", "ServiceUnavailable"),
            *("ServiceUnavailableException", "500", "502", "503", "DatabaseConnectionException", "ExecuteStatementException"),
        ),
        ConnectionLost,
    ),
}

_BY_ERRNO: dict[int, Kind] = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE), OutOfCapacity),
    **dict.fromkeys((errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ESTALE), ConnectionLost),
    errno.EAGAIN: Throttled,
}


def transient_kind(error: BaseException) -> Kind | None:
    """The kind of an error that may pass by itself, so that a retry makes sense; None for any other or unknown error."""
    if isinstance(error, TryAgain):
        return type(error)
    response = getattr(error, "response", None)
    if isinstance(response, Mapping) and isinstance(described := response.get("Error"), Mapping):  # botocore's ClientError
        return _BY_CODE.get(str(described.get("Code", ""))) or _by_status(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if isinstance(error, OSError) and error.errno in _BY_ERRNO:
        return _BY_ERRNO[error.errno]
    return next((_BY_CLASS[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in _BY_CLASS), None)


def _by_status(status: int) -> Kind | None:
    """The kind by HTTP status, for responses with an unknown code, such as those of a gateway in front of the service. 501 means that the
    service does not implement the operation, so it is never retried."""
    if status == 429:
        return Throttled
    return ConnectionLost if status >= 500 and status != 501 else None
