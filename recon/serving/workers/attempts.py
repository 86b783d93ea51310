"""Records of each attempt to load a share: claim, heartbeats, end or revocation; and the share's single ``done`` marker.

Protocol: docs/decisions/013-index-workers.md. An attempt is a sequence of numbered entries, each created once. Entry 0 is the claim. The
worker puts the next entry as its heartbeat; the coordinator revokes the attempt by putting that same entry. So only one of them succeeds.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel

from recon.errors import Damaged, ReconError, TryAgain, transient_kind
from recon.storage import documents, layout
from recon.storage.port import AlreadyExists, NotFound, ObjectStore

State = Literal["beat", "given_away", "failed", "handed_back"]
Counts = Mapping[str, int | float]


class ShareDone(BaseModel):
    """The counts of a share that is done, by the attempt that did it in ``seconds``."""

    attempt: str
    worker: str
    seconds: float
    rows: int
    counts: Counts


REASON_LENGTH_MAX = 500
_OBJECT = re.compile(r"([^/]+)/(?:(done)|([0-9a-f]{16})/(\d{6}))\Z")


class GivenAway(ReconError):
    """The attempt is somebody else's, was given away, or has been invoked before. Whoever meets this stops; nothing is wrong."""


@dataclass(frozen=True)
class AttemptEntry:
    """One entry of an attempt. ``rows``: so many rows of the share, from its first on, are in the table, by this attempt and those that it
    took up; ``counts``: what they came to. ``reason`` and ``kind`` (a class of recon.errors): why it ended."""

    state: State
    worker: str
    rows: int = 0
    counts: Counts = field(default_factory=dict)
    reason: str = ""
    kind: str = ""

    @property
    def ended(self) -> bool:
        return self.state != "beat"


@dataclass(frozen=True)
class ShareProgress:
    """What lies in the store of one share: attempt → number of its newest entry, and whether it is done."""

    done: bool = False
    newest: Mapping[str, int] = field(default_factory=dict)


def progress_of_shares(store: ObjectStore, plan: str) -> dict[str, ShareProgress]:
    """Share → what lies in the store of it, of each share of a plan that anybody has begun; one listing."""
    return _noted(plan, store.list(plan))


def progress_of(store: ObjectStore, plan: str, share: str) -> ShareProgress:
    """The same of one share."""
    return _noted(plan, store.list(f"{plan}{share}/")).get(share, ShareProgress())


def _noted(plan: str, paths: Iterable[str]) -> dict[str, ShareProgress]:
    done: set[str] = set()
    newest: dict[str, dict[str, int]] = {}
    for path in paths:
        found = _OBJECT.match(path[len(plan) :])
        if found is None:
            continue  # the plan itself
        share, is_done, attempt, number = found.groups()
        if is_done:
            done.add(share)
        else:
            of_share = newest.setdefault(share, {})
            of_share[attempt] = max(of_share.get(attempt, 0), int(number))
    return {share: ShareProgress(share in done, newest.get(share, {})) for share in done | set(newest)}


def read_entry(store: ObjectStore, plan: str, share: str, attempt: str, number: int) -> AttemptEntry:
    """Raises NotFound for one that was removed: a worker that is done removes its beats."""
    return _read(store, layout.attempt_entry(plan, share, attempt, number))


def give_away(store: ObjectStore, plan: str, share: str, attempt: str, number: int, last: AttemptEntry | None, reason: str) -> bool:
    """Ends an attempt by putting its entry ``number``, the next after ``last``, the newest. False if the worker has put one meanwhile."""
    rows, counts = (last.rows, last.counts) if last else (0, {})
    mine = AttemptEntry("given_away", f"coordinator-{secrets.token_hex(8)}", rows, counts, reason, "TryAgain")
    return _put(store, layout.attempt_entry(plan, share, attempt, number), mine)


def read_done(store: ObjectStore, plan: str, share: str) -> dict[str, Any]:
    """The fields of ShareDone. Raises NotFound where the share is not done, and Damaged."""
    next_step = "delete it, then run the same again: the share is done once more, which changes nothing"
    return documents.read(store, layout.share_done(plan, share), ShareDone, next_step).model_dump()


def _read(store: ObjectStore, path: str) -> AttemptEntry:
    return documents.read(store, path, AttemptEntry, "delete its folder, then run the same again")


def _put(store: ObjectStore, path: str, entry: AttemptEntry) -> bool:
    """Whether this entry is the one that stands; also where an earlier try had put it though its reply was lost."""
    try:
        documents.put(store, path, entry, **documents.COMPACT)
    except AlreadyExists:
        try:
            return _read(store, path) == entry
        except (NotFound, Damaged):
            return False
    return True


class Attempt:
    """One attempt, in its worker's hands. Not for several threads.

    ``beat_s``: seconds between two heartbeats at least. ``rows``, ``counts``: see AttemptEntry; the worker updates them."""

    def __init__(
        self,
        store: ObjectStore,
        plan: str,
        share: str,
        attempt: str,
        beat_s: float,
        clock: Callable[[], float] = time.monotonic,
        worker: str = "",
    ) -> None:
        self.share, self.attempt = share, attempt
        self.rows, self.counts = 0, dict[str, float]()
        self._store, self._plan, self._beat_s, self._clock = store, plan, beat_s, clock
        self._worker = f"{worker}-{secrets.token_hex(8)}"
        self._number, self._beaten = 0, 0.0
        self._began = clock()

    def claim(self) -> None:
        """Raises GivenAway where this very attempt was claimed before, given away before it began, or the share is done."""
        standing = progress_of(self._store, self._plan, self.share)
        if standing.done:
            raise GivenAway(f"share {self.share}: it is done")
        for other, number in standing.newest.items():
            try:
                entry = read_entry(self._store, self._plan, self.share, other, number)
            except NotFound:
                continue
            if entry.rows > self.rows:
                self.rows, self.counts = entry.rows, dict(entry.counts)
        self._put_next("beat", "it was invoked before, or given away before it began")

    def beat(self) -> None:
        """Says that the worker lives, unless it has just done so. Raises GivenAway."""
        if self._clock() - self._beaten >= self._beat_s:
            self._put_next("beat", "it was given to another worker")

    def hand_back(self, reason: str) -> None:
        """Ends it with what is done so far; the next attempt goes on from there."""
        self._put_next("handed_back", "it was given to another worker", reason)

    def fail(self, error: BaseException) -> None:
        """Ends it by an error. Of an error that is not Recon's own only its name is told: its text could hold what stands in a record."""
        kind = transient_kind(error)
        name = kind.__name__ if kind else type(error).__name__
        told = str(error) if isinstance(error, ReconError) else f"{_code(error)} in the worker; see its log"
        self._put_next("failed", "it was given to another worker", told[:REASON_LENGTH_MAX], name)

    def finish(self) -> bool:
        """Puts the share's counts. False if another attempt has done the share before: then its counts stand."""
        told = {
            "attempt": self.attempt,
            "worker": self._worker,
            "seconds": round(self._clock() - self._began, 3),
            "rows": self.rows,
            "counts": self.counts,
        }
        path, body = layout.share_done(self._plan, self.share), documents.encoded(told)
        try:
            self._store.put_new(path, [body])
        except AlreadyExists:
            with suppress(NotFound):
                if self._store.get(path) == body:
                    return True  # an earlier try had succeeded though its reply was lost
            return False
        try:
            for number in range(1, self._number):
                self._store.delete(layout.attempt_entry(self._plan, self.share, self.attempt, number))
        except TryAgain:
            pass  # the sweep removes them with the plan
        return True

    def _put_next(self, state: State, if_taken: str, reason: str = "", kind: str = "") -> None:
        entry = AttemptEntry(state, self._worker, self.rows, dict(self.counts), reason, kind)
        if not _put(self._store, layout.attempt_entry(self._plan, self.share, self.attempt, self._number), entry):
            raise GivenAway(f"share {self.share}, attempt {self.attempt}: {if_taken}")
        self._number, self._beaten = self._number + 1, self._clock()


def _code(error: BaseException) -> str:
    """``ClientError AccessDeniedException``: the class, and the code where AWS told one."""
    response = getattr(error, "response", None)
    told = response.get("Error", {}).get("Code", "") if isinstance(response, Mapping) else ""
    return f"{type(error).__name__} {told}".strip()
