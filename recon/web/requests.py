"""Requests: submitted, listed, shown, cancelled, opened again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from recon.errors import WrongInput
from recon.web.logins import Administrator, Reader, Submitter, refuse_others
from recon.web.models import PAGE, Events, Most, Name, Requests, Status, events_of, path_of, status_of
from recon.web.openapi import answers, documented, link
from recon.web.port import Holder, State, Submission
from recon.web.problems import ProblemError, not_found
from recon.web.site import Site, SiteOf
from recon.web.transformation import FORM, SMALL

router = APIRouter(tags=["requests"])
KEY = r"^[\x21-\x7e]{1,255}$"
Key = Annotated[
    str | None, Header(alias="Idempotency-Key", pattern=KEY, description="The same key and body is the same request, for a day")
]
Cursor = Annotated[str | None, Query(pattern=r"^r[1-9][0-9]{0,17}$", description="`next` of the page before")]
EventCursor = Annotated[str | None, Query(pattern=r"^e[1-9][0-9]{0,17}$", description="`next` of the page before")]
OnlyState = Annotated[State | None, Query(description="Only requests in this state")]
_LINKS = {
    "status": link("show_request", name="$response.body#/name"),
    "events": link("list_events", name="$response.body#/name"),
    "cancel": link("cancel_request", name="$response.body#/name"),
    "redrive": link("redrive_request", name="$response.body#/name"),
}
_BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": FORM, "example": SMALL}}}}
_HEADERS = {
    "Location": {"description": "The path of the request", "schema": {"type": "string"}},
    "Idempotency-Replayed": {
        "description": "Whether the request was there already",
        "schema": {"type": "string", "enum": ["true", "false"]},
    },
}


@router.post(
    "/v1/requests",
    status_code=202,
    operation_id="submit_request",
    responses=documented({202: answers("It waits for its turn", Status, _LINKS, _HEADERS)}, 401, 403, 408, 409, 413, 415, 422, 429),
    openapi_extra=_BODY,
)
async def submit(request: Request, response: Response, site: SiteOf, holder: Submitter, key: Key = None) -> Status:
    """Submits a transformation, docs/transformations.md. It has been stored when this is answered."""
    refuse_other_types(request)
    if len(request.headers.getlist("idempotency-key")) > 1:
        raise ProblemError("wrong-parameter", "Idempotency-Key: it is there twice", field="Idempotency-Key")
    body = await request.body()
    one, new = await run_in_threadpool(site.service.submit, holder, body, key)
    request.state.request = one.name
    response.headers["Location"] = path_of(one.name)
    response.headers["Idempotency-Replayed"] = "false" if new else "true"
    return await run_in_threadpool(shown, site, one)


def refuse_other_types(request: Request) -> None:
    """Raises ProblemError for a body that does not say that it is JSON in UTF-8."""
    kind, _, rest = request.headers.get("content-type", "").partition(";")
    charset = rest.strip().lower().removeprefix("charset=").strip('"')
    if kind.strip().lower() != "application/json" or charset not in ("", "utf-8") or "content-encoding" in request.headers:
        raise ProblemError(
            "wrong-type", "Send JSON in UTF-8, not compressed: Content-Type: application/json", headers={"Accept": "application/json"}
        )


def shown(site: Site, one: Submission) -> Status:
    """A request with its place in the queue, or what happened to it last."""
    return all_shown(site, [one])[0]


def all_shown(site: Site, some: Sequence[Submission]) -> list[Status]:
    """Requests as they are shown."""
    places = site.service.requests.places(some)
    last = {one.id: site.service.requests.last_event(one) for one in some if one.state == "running"}
    return [status_of(one, places.get(one.id), last.get(one.id)) for one in some]


def found(request: Request, site: Site, holder: Holder, name: str) -> Submission:
    """A request that a holder may see. Raises ProblemError."""
    request.state.request = name
    one = site.service.requests.find(holder, name)
    if one is None:
        raise not_found()
    return one


@router.get("/v1/requests", operation_id="list_requests", responses=documented({200: answers("A page", Requests)}, 401, 403, 422))
def list_requests(
    site: SiteOf, holder: Reader, state: OnlyState = None, cursor: Cursor = None, limit: Annotated[Most, Query()] = PAGE
) -> Requests:
    """Lists the requests that the token may see, the newest first."""
    before = None if cursor is None else int(cursor[1:])
    some = site.service.requests.all(holder, state, before, limit + 1)
    return Requests(items=all_shown(site, some[:limit]), next=f"r{some[limit - 1].id}" if len(some) > limit else None)


@router.get(
    "/v1/requests/{name}", operation_id="show_request", responses=documented({200: answers("The request", Status, _LINKS)}, 401, 403, 404)
)
def show_request(request: Request, site: SiteOf, holder: Reader, name: Name) -> Status:
    """Shows a request: its state, its place in the queue, its progress, why it failed, its results."""
    return shown(site, found(request, site, holder, name))


@router.get(
    "/v1/requests/{name}/events", operation_id="list_events", responses=documented({200: answers("A page", Events)}, 401, 403, 404, 422)
)
def list_events(
    request: Request, site: SiteOf, holder: Reader, name: Name, cursor: EventCursor = None, limit: Annotated[Most, Query()] = PAGE
) -> Events:
    """Lists what happened to a request, the oldest first. Asked again with ``next`` it has what happened since."""
    one = found(request, site, holder, name)
    return events_of(site.service.requests.events(one, 0 if cursor is None else int(cursor[1:]), limit), cursor)


@router.post(
    "/v1/requests/{name}/cancel",
    operation_id="cancel_request",
    responses=documented({200: answers("It has ended", Status), 202: answers("Its end was asked for", Status)}, 401, 403, 404),
)
def cancel_request(request: Request, response: Response, site: SiteOf, holder: Submitter, name: Name) -> Status:
    """Cancels a request. One that has ended stays as it is."""
    refuse_others(holder, found(request, site, holder, name).owner)
    one = site.service.requests.cancel(holder, name)
    if one is None:
        raise not_found()
    response.status_code = 200 if one.ended else 202
    return shown(site, one)


@router.post(
    "/v1/requests/{name}/redrive",
    status_code=202,
    operation_id="redrive_request",
    responses=documented({202: answers("It waits for its turn", Status)}, 401, 403, 404, 409, 422),
)
def redrive_request(
    request: Request, site: SiteOf, holder: Administrator, name: Name, reason: Annotated[str, Query(min_length=1, max_length=200)]
) -> Status:
    """Opens a dead request again, with three new tries."""
    found(request, site, holder, name)
    try:
        return shown(site, site.service.requests.redrive(name, reason))
    except WrongInput as error:
        raise ProblemError("not-dead", str(error)) from None
