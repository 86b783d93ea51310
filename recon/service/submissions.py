"""A request of the service, its states, and why one is not taken."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Literal

from recon.errors import Cancelled, ReconError, TryAgain, WrongUsage

UPLOAD = "upload:"
CERTIFICATE = "certificate.json"
State = Literal["received", "queued", "running", "done", "failed", "cancelled", "dead"]
STATES: tuple[State, ...] = ("received", "queued", "running", "done", "failed", "cancelled", "dead")
ENDED: tuple[State, ...] = ("done", "failed", "cancelled", "dead")
LaneName = Literal["small", "large"]
LANES: tuple[LaneName, ...] = ("small", "large")
Role = Literal["submit", "read-own", "read-all", "admin"]
ROLES: tuple[Role, ...] = ("submit", "read-own", "read-all", "admin")


@dataclass(frozen=True)
class Holder:
    """Who asks: the owner of a token, with its roles. ``token``: its number, None for a login by a proxy."""

    owner: str
    roles: frozenset[str]
    token: int | None = None

    def has(self, role: Role) -> bool:
        """Whether it may do what a role may; an administrator may do everything, and who reads all reads its own."""
        return bool(self.roles & {role, "admin", *({"read-all"} if role == "read-own" else ())})


@dataclass(frozen=True)
class Problem:
    """Why a request was not taken or failed. ``code``: one of CODES. ``operation``: its number, from 1. ``field``: of the
    request."""

    code: str
    operation: int | None = None
    field: str | None = None

    def written(self) -> str:
        """JSON without what is None."""
        return json.dumps({name: value for name, value in vars(self).items() if value is not None})


CODES: dict[str, str] = {
    "wrong-request": "the request is not a transformation as docs/transformations.md describes it",
    "not-permitted": "the request names a file or an object that its owner may not read or write",
    "not-offered": "the request sets what the service chooses: engine, spark, memory_limit or certificate",
    "no-such-input": "an input is not there, or is an upload that is not there any more",
    "too-large": "the inputs are larger than the owner's limit, or the body is larger than 1 MB",
    "wrong-input": "the files do not allow the request: a row, a type, a limit of a format",
    "exists-already": "another object lies where an output was to be copied",
    "time-limit": "it took longer than its lane allows",
    "memory-limit": "it needed more memory than its lane allows",
    "may-pass": "a store or a service was away, or a disk full; the request was tried three times",
    "died": "its process died three times",
    "internal": "a fault of the service; its log names the request",
}
"""Code of a problem → what it means."""


class Refused(WrongUsage):
    """What was submitted is not taken."""

    def __init__(self, problem: Problem, reason: str) -> None:
        super().__init__(reason)
        self.problem = problem


class KeyTaken(WrongUsage):
    """The same Idempotency-Key came with another body."""


class TooMany(TryAgain):
    """An owner's limit is reached. ``wait_s``: when to try again."""

    def __init__(self, reason: str, wait_s: int) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class Lost(ReconError):
    """The request is no longer this worker's: it was ended, or another worker has it."""


class ToldToEnd(Cancelled):
    """The worker ends the process of a request."""


class NoPlace(TryAgain):
    """What carries requests out has no place now; this costs no try."""


_OPERATION = re.compile(r"(?:[^:]*: )?operation (\d+) \((\w+)\): (?:([A-Za-z_][\w.\[\]]*): )?")
_FIELD = re.compile(r"(?:request: )?((?:inputs|operations|outputs|version|as_of|holidays|on_error|approximate)[\w.\[\]]*): ")


def problem_in(text: str, code: str) -> Problem:
    """The operation and field that an error's text names at its beginning."""
    if (found := _OPERATION.match(text)) is not None:
        return Problem(code, int(found[1]), found[3])
    found = _FIELD.match(text)
    return Problem(code, None, None if found is None else found[1])


@dataclass(frozen=True)
class Submission:
    """A request; the fields are columns of ``recon.database.tables.REQUESTS``."""

    id: int
    name: str
    owner: str
    token: int | None
    lane: LaneName
    size: int
    body: str
    digest: str
    state: State
    reason: str
    problem: Mapping[str, Any]
    tries: int
    not_before: datetime | None
    received_at: datetime
    queued_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    worker: str
    lease_until: datetime | None
    cancel_at: datetime | None
    step: str | None
    place: str | None
    results: Sequence[Mapping[str, Any]]
    expires_at: datetime | None
    figures: Mapping[str, Any]

    @property
    def ended(self) -> bool:
        return self.state in ENDED


_JSON = ("problem", "results", "figures")
COLUMNS = tuple(field.name for field in fields(Submission))


def submission(row: Any) -> Submission:
    """From a row of the table."""
    values = {name: row._mapping[name] for name in COLUMNS}
    return Submission(**values | {name: json.loads(values[name]) for name in _JSON})


@dataclass(frozen=True)
class Event:
    """What happened to a request. ``share``: of its work, in percent."""

    id: int
    at: datetime
    state: State
    what: str
    share: int | None
