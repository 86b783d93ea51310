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
from typing import Any, Literal, NamedTuple

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


class Revoked(ReconError):
    """The attempt was revoked, or another worker has it. The worker stops; nothing is wrong."""


@dataclass(frozen=True)
class AttemptEntry:
    """One entry of an attempt. ``rows``: rows of the share, from its first on, that are in the table by this attempt and the earlier ones
    that it continues; ``counts``: their counts. ``reason`` and ``kind`` (a class of recon.errors): why the attempt ended."""

    state: State
    worker: str
    rows: int = 0
    counts: Counts = field(default_factory=dict)
    reason: str = ""
    kind: str = ""

    @property
    def ended(self) -> bool:
        return self.state != "beat"


class AttemptId(NamedTuple):
    """``plan``: the folder of the plan."""

    plan: str
    share: str
    attempt: str


@dataclass(frozen=True)
class ShareProgress:
    """A share's attempts in the store: attempt → number of its newest entry, and whether the share is done."""

    done: bool = False
    newest: Mapping[str, int] = field(default_factory=dict)


def progress_of_shares(store: ObjectStore, plan: str) -> dict[str, ShareProgress]:
    """The progress of each share of a plan that has an attempt; one listing."""
    return _progress(plan, store.list(plan))


def progress_of(store: ObjectStore, plan: str, share: str) -> ShareProgress:
    """The progress of one share."""
    return _progress(plan, store.list(f"{plan}{share}/")).get(share, ShareProgress())


def _progress(plan: str, paths: Iterable[str]) -> dict[str, ShareProgress]:
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


def read_entry(store: ObjectStore, of: AttemptId, number: int) -> AttemptEntry:
    """Raises NotFound for a removed entry: a finished worker removes its heartbeats."""
    return _read(store, layout.attempt_entry(*of, number))


def revoke(store: ObjectStore, of: AttemptId, number: int, last: AttemptEntry | None, reason: str) -> bool:
    """Ends an attempt by putting its entry ``number``, after its newest entry ``last``. False if the worker was first with that entry."""
    rows, counts = (last.rows, last.counts) if last else (0, {})
    mine = AttemptEntry("given_away", f"coordinator-{secrets.token_hex(8)}", rows, counts, reason, "TryAgain")
    return _put(store, layout.attempt_entry(*of, number), mine)


def read_done(store: ObjectStore, plan: str, share: str) -> dict[str, Any]:
    """The fields of ShareDone. Raises NotFound where the share is not done, and Damaged."""
    next_step = "delete it, then run the same again: the share is done once more, which changes nothing"
    return documents.read(store, layout.share_done(plan, share), ShareDone, next_step).model_dump()


def _read(store: ObjectStore, path: str) -> AttemptEntry:
    return documents.read(store, path, AttemptEntry, "delete its folder, then run the same again")


def _put(store: ObjectStore, path: str, entry: AttemptEntry) -> bool:
    """Whether the store has this very entry, put by this call or by an earlier try whose reply was lost."""
    try:
        documents.put(store, path, entry, **documents.COMPACT)
    except AlreadyExists:
        try:
            return _read(store, path) == entry
        except (NotFound, Damaged):
            return False
    return True


class Attempt:
    """One attempt, as its worker uses it. Not thread-safe.

    ``beat_s``: seconds between two heartbeats at least. ``rows``, ``counts``: see AttemptEntry; the worker updates them."""

    def __init__(
        self,
        store: ObjectStore,
        of: AttemptId,
        beat_s: float,
        clock: Callable[[], float] = time.monotonic,
        worker: str = "",
    ) -> None:
        self.share, self.attempt = of.share, of.attempt
        self.rows, self.counts = 0, dict[str, float]()
        self._store, self._id, self._beat_s, self._clock = store, of, beat_s, clock
        self._worker = f"{worker}-{secrets.token_hex(8)}"
        self._number, self._beaten = 0, 0.0
        self._began = clock()

    def claim(self) -> None:
        """Raises Revoked if this attempt was claimed before or revoked before it began, or if the share is done."""
        progress = progress_of(self._store, self._id.plan, self.share)
        if progress.done:
            raise Revoked(f"share {self.share}: it is done")
        for other, number in progress.newest.items():
            try:
                entry = read_entry(self._store, self._id._replace(attempt=other), number)
            except NotFound:
                continue
            if entry.rows > self.rows:
                self.rows, self.counts = entry.rows, dict(entry.counts)
        self._put_next("beat", "it was invoked before, or given away before it began")

    def beat(self) -> None:
        """Puts a heartbeat, unless the last one was just put. Raises Revoked."""
        if self._clock() - self._beaten >= self._beat_s:
            self._put_next("beat", "it was given to another worker")

    def hand_back(self, reason: str) -> None:
        """Ends the attempt with the rows that are done; the next attempt continues from there."""
        self._put_next("handed_back", "it was given to another worker", reason)

    def fail(self, error: BaseException) -> None:
        """Ends the attempt with an error. The text of a foreign error is left out: it could quote a record."""
        kind = transient_kind(error)
        name = kind.__name__ if kind else type(error).__name__
        reason = str(error) if isinstance(error, ReconError) else f"{_code(error)} in the worker; see its log"
        self._put_next("failed", "it was given to another worker", reason[:REASON_LENGTH_MAX], name)

    def finish(self) -> bool:
        """Puts the share's counts. False if another attempt has finished the share: then its counts are the share's."""
        done = {
            "attempt": self.attempt,
            "worker": self._worker,
            "seconds": round(self._clock() - self._began, 3),
            "rows": self.rows,
            "counts": self.counts,
        }
        path, body = layout.share_done(self._id.plan, self.share), documents.encoded(done)
        try:
            self._store.put_new(path, [body])
        except AlreadyExists:
            with suppress(NotFound):
                if self._store.get(path) == body:
                    return True  # an earlier try had succeeded though its reply was lost
            return False
        try:
            for number in range(1, self._number):
                self._store.delete(layout.attempt_entry(*self._id, number))
        except TryAgain:
            pass  # the sweep removes them with the plan
        return True

    def _put_next(self, state: State, if_taken: str, reason: str = "", kind: str = "") -> None:
        entry = AttemptEntry(state, self._worker, self.rows, dict(self.counts), reason, kind)
        if not _put(self._store, layout.attempt_entry(*self._id, self._number), entry):
            raise Revoked(f"share {self.share}, attempt {self.attempt}: {if_taken}")
        self._number, self._beaten = self._number + 1, self._clock()


def _code(error: BaseException) -> str:
    """``ClientError AccessDeniedException``: the class, and AWS's code if there is one."""
    response = getattr(error, "response", None)
    code = response.get("Error", {}).get("Code", "") if isinstance(response, Mapping) else ""
    return f"{type(error).__name__} {code}".strip()
