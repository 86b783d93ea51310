"""The two ports of the record queue: queues with SQS's rules, and the record store that says what became of every record."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from recon.intake.queues.parcels import Parcel, Record, Text

TRIES = 3
"""How often a message is received before it is a dead letter."""
VISIBILITY_S = 360.0
"""How long a received message is invisible: six times as long as a step may take."""
Process = Callable[[list[Record]], Sequence[object]]
"""The user's function: records → as many results; each a dict of texts, or an exception for a record that failed."""


@dataclass(frozen=True)
class Delivery:
    """A received message. ``id``: of the message. ``receipt``: of this delivery. ``received``: how often, this time included."""

    id: str
    receipt: str
    received: int
    body: str


class DeadLetterQueue(Protocol):
    """Messages that were received too often."""

    def receive(self, count: int) -> list[Delivery]: ...

    def delete(self, deliveries: Sequence[Delivery]) -> None: ...


class Queue(Protocol):
    """A queue that delivers at least once, in any order. A message that is neither deleted nor released becomes visible again after the
    visibility timeout; one that was received ``TRIES`` times is a dead letter instead. Errors: TryAgain where the queue is away."""

    @property
    def dead(self) -> DeadLetterQueue: ...

    def send(self, bodies: Sequence[str]) -> None:
        """Sends all, or raises; then some may have been sent."""
        ...

    def receive(self, count: int) -> list[Delivery]:
        """At most ``count``, and at most ten, visible messages."""
        ...

    def delete(self, deliveries: Sequence[Delivery]) -> None:
        """Deletes messages. One that was delivered again since stays."""
        ...

    def release(self, deliveries: Sequence[Delivery], after_s: float) -> None:
        """Makes messages visible again after so many seconds."""
        ...


@dataclass(frozen=True)
class Progress:
    """How far a file is cleaned. ``rows``: records sent, up to line ``line``. ``complete``: whether these are all."""

    line: int = 0
    rows: int = 0
    complete: bool = False


@dataclass(frozen=True)
class Counts:
    """Records of a file. ``rows``: sent by the cleaner, which may not be ``complete``. ``open``: known to be in process. ``dead`` includes
    ``discarded``."""

    rows: int
    complete: bool
    open: int
    finished: int
    dead: int
    discarded: int

    @property
    def in_progress(self) -> int:
        """Neither finished nor dead: open, or on their way to the store."""
        return self.rows - self.finished - self.dead

    @property
    def done(self) -> bool:
        """Whether every record is finished or dead."""
        return self.complete and self.in_progress == 0


@dataclass(frozen=True)
class DeadLetter:
    """Records that could not be processed. ``parcel`` has their texts. ``name``: of the file."""

    parcel: Parcel
    name: str
    reason: str
    since: datetime
    discarded: bool = False


@dataclass(frozen=True)
class Action:
    """What somebody did to a parcel. ``what``: edit, redrive or discard a dead one, resend an open one. ``before``: the records before an
    edit."""

    what: str
    reason: str
    at: datetime
    before: str | None = None


class RecordStore(Protocol):
    """Parcels and their states. Each method is atomic per parcel, and changes nothing where the store knows better: a parcel with other
    lines, another round or another state. Whatever becomes open is on the process queue soon after. Errors: TryAgain where it is away."""

    def begin(self, file: str, name: str) -> Progress:
        """Registers a file, unless it is; where its cleaner goes on."""
        ...

    def started(self, file: str) -> bool:
        """Whether the file is registered."""
        ...

    def advance(self, file: str, progress: Progress) -> None:
        """Commits how far the cleaner is. Never goes back."""
        ...

    def put(self, parcels: Sequence[Parcel]) -> None:
        """Opens parcels that are new. One that is ``refused`` is dead at once."""
        ...

    def are_open(self, parcels: Sequence[Parcel]) -> list[bool]:
        """Which parcels are open just so, with these lines in this round."""
        ...

    def split(self, parcel: Parcel, parts: Sequence[Parcel]) -> bool:
        """Replaces an open parcel by its parts. False if it was not open."""
        ...

    def note(self, parcel: Parcel, reason: str) -> None:
        """Keeps why the last try failed."""
        ...

    def finish(self, results: Sequence[Parcel]) -> None:
        """Finishes parcels that are open, or dead in the same round, with their results."""
        ...

    def bury(self, parcel: Parcel, reason: str) -> None:
        """Makes an open parcel dead. ``reason``: if none was noted."""
        ...

    def counts(self, file: str) -> Counts:
        """The records of a file by state, of one moment."""
        ...

    def stored_firsts(self, file: str) -> set[int]:
        """The first lines of the parcels that were put, in whatever state they or their parts are."""
        ...

    def open_parcels(self, file: str) -> Iterator[Parcel]:
        """The open parcels with their records, in the order of their lines."""
        ...

    def reopen(self, parcel: Parcel, reason: str) -> bool:
        """Sends an open parcel to the process queue again, in a new round: an older message of it takes no effect. False if it is not
        open."""
        ...

    def results(self, file: str) -> Iterator[Parcel]:
        """The finished parcels in the order of their lines, with their results."""
        ...

    def result_names(self, file: str) -> list[str]:
        """The columns of all results, in order of appearance."""
        ...

    def dead_letters(self, prefix: str, discarded: bool = False) -> Iterator[DeadLetter]:
        """Dead letters of files whose name in the store begins with ``prefix``."""
        ...

    def actions(self, parcel: Parcel) -> list[Action]:
        """What was done to a parcel, oldest first."""
        ...

    def edit(self, parcel: Parcel, records: str, reason: str) -> bool:
        """Replaces a dead parcel's records, in a new round. False if it is not dead."""
        ...

    def redrive(self, parcel: Parcel, reason: str) -> bool:
        """Opens a dead parcel in a new round. False if it is not dead."""
        ...

    def discard(self, parcel: Parcel, reason: str) -> bool:
        """Gives a dead parcel up for good. False if it is not dead."""
        ...


__all__ = ["Action", "Counts", "DeadLetter", "Delivery", "Process", "Progress", "Queue", "Record", "RecordStore", "Text"]
