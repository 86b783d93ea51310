"""Uploads: small files that requests read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Annotated

import anyio
from anyio import from_thread
from fastapi import APIRouter, Query, Request, Response

from recon.web.logins import Reader, Submitter, refuse_others
from recon.web.models import Name, Uploaded, uploaded
from recon.web.openapi import answers, documented, link
from recon.web.port import Refused, Upload
from recon.web.problems import ProblemError, not_found
from recon.web.site import Site, SiteOf

router = APIRouter(tags=["uploads"])
FILE = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
FileName = Annotated[str, Query(alias="name", pattern=FILE, description="The file's name, whose end says the format: sales.csv")]
_LINKS = {
    "upload": link("show_upload", name="$response.body#/name"),
    "remove": link("remove_upload", name="$response.body#/name"),
}
_BYTES = {"type": "string", "format": "binary", "minLength": 1}
_BODY = {"requestBody": {"required": True, "content": {"application/octet-stream": {"schema": _BYTES}}}}
_HEADERS = {"Location": {"description": "The path of the upload", "schema": {"type": "string"}}}


@router.post(
    "/v1/uploads",
    status_code=201,
    operation_id="add_upload",
    responses=documented({201: answers("It is stored", Uploaded, _LINKS, _HEADERS)}, 401, 403, 408, 413, 415, 429),
    openapi_extra=_BODY,
)
async def add_upload(request: Request, response: Response, site: SiteOf, holder: Submitter, file: FileName) -> Uploaded:
    """Stores the body as a file that the owner's requests may read. It is removed with the last request that reads it."""
    if "content-encoding" in request.headers or request.headers.get("content-type", "").startswith("multipart/"):
        reason = "Send the bytes of the file as they are: Content-Type: application/octet-stream"
        raise ProblemError("wrong-type", reason, headers={"Accept": "application/octet-stream"})
    pieces = request.stream()
    first = await _next(pieces)
    if first is None:
        raise ProblemError("wrong-request", "The body is empty; send the bytes of the file")

    def chunks() -> Iterator[bytes]:
        piece: bytes | None = first
        while piece is not None:
            yield piece
            piece = from_thread.run(_next, pieces)

    added: Upload = await anyio.to_thread.run_sync(site.service.uploads.add, holder, file, chunks())
    request.state.request = added.name
    response.headers["Location"] = f"/v1/uploads/{added.name}"
    return uploaded(added)


async def _next(pieces: AsyncIterator[bytes]) -> bytes | None:
    """The next piece that has bytes; None at the end."""
    async for piece in pieces:
        if piece:
            return piece
    return None


@router.get(
    "/v1/uploads/{name}", operation_id="show_upload", responses=documented({200: answers("The upload", Uploaded, _LINKS)}, 401, 403, 404)
)
def show_upload(request: Request, site: SiteOf, holder: Reader, name: Name) -> Uploaded:
    """Shows an upload."""
    one = _found(request, site, name)
    if one.owner != holder.owner and not holder.has("read-all"):
        raise not_found()
    return uploaded(one)


def _found(request: Request, site: Site, name: str) -> Upload:
    """An upload of any owner. Raises ProblemError."""
    request.state.request = name
    one = site.service.upload(name)
    if one is None:
        raise not_found()
    return one


@router.delete(
    "/v1/uploads/{name}",
    status_code=204,
    operation_id="remove_upload",
    responses=documented({204: {"description": "It is removed"}}, 401, 403, 404, 409),
)
def remove_upload(request: Request, site: SiteOf, holder: Submitter, name: Name) -> None:
    """Removes an upload that no request reads."""
    one = _found(request, site, name)
    refuse_others(holder, one.owner)
    try:
        there = site.service.uploads.remove(one.owner, name)
    except Refused as error:
        raise ProblemError("in-use", str(error)) from None
    if not there:
        raise not_found()
