"""What can go wrong, by what the caller should do about it.

Belongs here: the exception classes and their exit statuses. Does not belong here: texts of particular failures; those stand
where the failure is found, and name the file, line or field, what was expected and the next step.
"""

from __future__ import annotations

from collections.abc import Sequence


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
