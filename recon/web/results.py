"""Results: by the request's name with a token, which leads to a signed link; by a signed link without a token."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import StreamingResponse

from recon.errors import WrongUsage
from recon.web.logins import Reader
from recon.web.models import OUTPUT, Name
from recon.web.openapi import documented
from recon.web.problems import not_found
from recon.web.requests import found
from recon.web.site import SiteOf

router = APIRouter(tags=["results"])
OutputName = Annotated[str, Path(pattern=OUTPUT, description="The name of a result")]
Signed = Annotated[str, Path(pattern=r"^[A-Za-z0-9_.-]{1,2000}$", description="A signed link")]
_TEXT = {"schema": {"type": "string"}}
_BYTES = {
    "description": "The bytes of the result",
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    "headers": {"Content-Disposition": _TEXT, "Content-Length": {"schema": {"type": "integer"}}},
}


@router.get(
    "/v1/requests/{name}/results/{output}",
    status_code=302,
    operation_id="show_result",
    responses=documented({302: {"description": "The signed link", "headers": {"Location": _TEXT}}}, 401, 403, 404),
    response_class=Response,
)
def show_result(request: Request, site: SiteOf, holder: Reader, name: Name, output: OutputName) -> Response:
    """Leads to a link to the result that is valid for a while without a token."""
    one = found(request, site, holder, name)
    if one.state != "done":
        raise not_found()
    try:
        link = site.service.results.link(one, output)
    except WrongUsage:
        raise not_found() from None
    return Response(status_code=302, headers={"Location": link if "://" in link else f"/v1/results/{link}"})


@router.get(
    "/v1/results/{signed}",
    operation_id="open_result",
    responses=documented({200: _BYTES}, 404),
    response_class=StreamingResponse,
)
def open_result(request: Request, site: SiteOf, signed: Signed) -> Response:
    """The bytes of a result, by a signed link."""
    opened = site.service.results.open(signed)
    if opened is None:
        raise not_found()
    request.state.owner = opened.owner
    headers = {"Content-Disposition": f'attachment; filename="{opened.name}"', "Content-Length": str(opened.size)}
    return StreamingResponse((bytes(piece) for piece in opened.pieces), headers=headers, media_type="application/octet-stream")
