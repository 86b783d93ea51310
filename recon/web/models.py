"""What the interface answers. Every model is strict and forbids what it does not know."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field

from recon.web.port import Event, LaneName, State, Submission, Upload

NAME = r"^[0-9a-f]{32}$"
OUTPUT = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,115}$"
PAGE = 100
PAGE_MAX = 1_000
Name = Annotated[str, Path(pattern=NAME, description="The name of a request or an upload")]
Most = Annotated[int, Field(ge=1, le=PAGE_MAX)]


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class WhyNot(Model):
    """Why a request failed. ``code``: see docs/service.md. ``operation``: its number, from 1."""

    code: str
    operation: int | None = None
    field: str | None = None
    detail: str


class Progress(Model):
    """How far a request is. ``percent``: of its work; null where it is not known."""

    percent: Annotated[int, Field(ge=0, le=100)] | None
    what: str
    at: datetime


class Result(Model):
    """A file that came out. ``digest``: SHA-256, in hex. ``to``: the owner's place that has a copy. ``link``: where to get it."""

    name: str
    bytes: int
    rows: int | None
    digest: str
    to: str | None
    link: str


class Status(Model):
    """A request. ``size``: bytes of its inputs. ``place_in_queue``: 1 for the next of its lane; null where it does not wait.
    ``cancelling``: its end was asked for and has not come yet. ``expires_at``: when its record and results are removed."""

    name: str
    owner: str
    state: State
    lane: LaneName
    size: int
    tries: int
    received_at: datetime
    queued_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    expires_at: datetime | None
    place_in_queue: int | None
    cancelling: bool
    progress: Progress | None
    problem: WhyNot | None
    results: list[Result]
    links: dict[str, str]


class Requests(Model):
    """A page of requests, the newest first. ``next``: the cursor of the next page; null on the last."""

    items: list[Status]
    next: str | None


class Happened(Model):
    """What happened to a request. ``percent``: of its work."""

    at: datetime
    state: State
    what: str
    percent: int | None


class Events(Model):
    """A page of events, the oldest first. ``next``: the cursor for what happens later; null while nothing has happened."""

    items: list[Happened]
    next: str | None


class Uploaded(Model):
    """An upload. A request reads it by ``path``. ``digest``: SHA-256 of its bytes, in hex."""

    name: str
    path: str
    file: str
    bytes: int
    digest: str
    at: datetime
    expires_at: datetime


class Rows(Model):
    """A page of rows, each an object with the columns that the reconciliation has. ``next``: the cursor of the next page."""

    items: list[dict[str, Any]]
    next: str | None


class Health(Model):
    """Whether the service can work."""

    ok: bool


class Meaning(Model):
    """What a code of a problem means."""

    code: str
    meaning: str
    status: int | None


class Problem(Model):
    """An error, RFC 9457. ``code``: see docs/service.md. ``operation``: of the request, from 1. ``field``: of it, or a parameter."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    operation: int | None = None
    field: str | None = None


def path_of(name: str) -> str:
    """The path of a request."""
    return f"/v1/requests/{name}"


def status_of(one: Submission, place: int | None, last: Event | None) -> Status:
    """A request as it is shown. ``last``: what happened last to one that runs."""
    problem = None
    if one.problem:
        problem = WhyNot(detail=one.reason, **one.problem)
    elif one.reason:
        problem = WhyNot(code="internal" if one.state == "dead" else one.state, detail=one.reason)
    path = path_of(one.name)
    links = {"self": path, "events": f"{path}/events"} | ({} if one.ended else {"cancel": f"{path}/cancel"})
    progress = None if last is None else Progress(percent=last.share, what=last.what, at=last.at)
    times = {name: getattr(one, name) for name in ("received_at", "queued_at", "started_at", "ended_at", "expires_at")}
    return Status(
        **{name: getattr(one, name) for name in ("name", "owner", "state", "lane", "size", "tries")},
        **times,
        place_in_queue=place,
        cancelling=one.cancel_at is not None and not one.ended,
        progress=progress,
        problem=problem,
        results=[_result(path, given) for given in one.results],
        links=links,
    )


def _result(path: str, given: Any) -> Result:
    known = {name: given.get(name) for name in ("name", "bytes", "rows", "digest", "to")}
    return Result(**known, link=f"{path}/results/{given['name']}")


def events_of(found: Sequence[Event], after: str | None) -> Events:
    """A page of events. ``after``: the cursor that it was asked for with."""
    items = [Happened(at=one.at, state=one.state, what=one.what, percent=one.share) for one in found]
    return Events(items=items, next=f"e{found[-1].id}" if found else after)


def uploaded(one: Upload) -> Uploaded:
    """An upload as it is shown."""
    times = {"at": one.at, "expires_at": one.expires_at}
    return Uploaded(name=one.name, path=f"upload:{one.name}", file=one.file, bytes=one.size, digest=one.digest, **times)
