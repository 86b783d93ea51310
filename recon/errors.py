"""What can go wrong, by what the caller should do about it."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence


class ReconError(Exception):
    """A failure that is told to the user as one line. ``exit_status`` is the command line's."""

    exit_status = 1


class WrongInput(ReconError):
    """The data, a run or a store is wrong (exit status 1): a failed verification, a batch that does not tie."""

    exit_status = 1


class NotReady(WrongInput):
    """A stage was asked for windows that it cannot take yet; nothing was done. Not the fault of their data. ``windows``: their names."""

    def __init__(self, told: str, windows: Sequence[str] = ()) -> None:
        super().__init__(told)
        self.windows = tuple(windows)


class Damaged(WrongInput):
    """Stored bytes are not what was written: a part-file cut short, a flipped byte. Never answered with data."""


class WrongUsage(ReconError):
    """Wrong arguments or configuration (exit status 2)."""

    exit_status = 2


class Cancelled(ReconError):
    """Somebody has stopped the work where it was carried out. Not the fault of its data; whoever asked for it may ask again."""


class TryAgain(ReconError):
    """Something outside is busy or away for now (exit status 3): a lock, the network, a full disk."""

    exit_status = 3


class Throttled(TryAgain):
    """A service asks to be called less often."""


class OutOfCapacity(TryAgain):
    """There is no room: on the disk, in a quota, or on a cluster that has no instances left."""


class ConnectionLost(TryAgain):
    """The connection to a service was cut or could not be made, or the service failed in itself."""


class TimedOut(TryAgain):
    """No answer within the time that it should take. What was asked for may have been done."""


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
