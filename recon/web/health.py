"""Whether the service works, what it counts, and what codes mean. None of these needs a token, or names an owner."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response
from prometheus_client import CONTENT_TYPE_LATEST

from recon.web.metrics import of_daemon
from recon.web.models import Health, Meaning
from recon.web.openapi import answers, documented
from recon.web.problems import STATUS, ProblemError, meaning, not_found
from recon.web.site import SiteOf

router = APIRouter(tags=["health"])
Code = Annotated[str, Path(pattern=r"^[a-z][a-z-]{0,39}$")]
OPEN = ("/health/", "/metrics", "/v1/problems/", "/v1/results/")
"""Beginnings of the paths that need no login."""
_TEXT = {"description": "Figures for Prometheus", "content": {CONTENT_TYPE_LATEST: {"schema": {"type": "string"}}}}


@router.get("/health/live", operation_id="is_live", responses=documented({200: answers("The server answers", Health)}))
async def is_live() -> Health:
    """Whether the server answers."""
    return Health(ok=True)


@router.get("/health/ready", operation_id="is_ready", responses=documented({200: answers("Database and store answer", Health)}))
def is_ready(site: SiteOf) -> Health:
    """Whether database and store answer."""
    try:
        site.service.ready()
    except Exception:
        raise ProblemError("may-pass", "The database or the store does not answer", headers={"Retry-After": "10"}) from None
    return Health(ok=True)


@router.get("/metrics", operation_id="show_metrics", responses=documented({200: _TEXT}), response_class=Response)
def show_metrics(site: SiteOf) -> Response:
    """Figures for Prometheus."""
    text = site.metrics.text(site.service.requests.counts()) + of_daemon(site.service.place.observability.metrics)
    return Response(text, media_type=CONTENT_TYPE_LATEST)


@router.get("/v1/problems/{code}", operation_id="show_problem", responses=documented({200: answers("The code", Meaning)}, 404))
async def show_problem(code: Code) -> Meaning:
    """What a code means, of an answer or of a request that failed."""
    if (found := meaning(code)) is None:
        raise not_found()
    return Meaning(code=code, meaning=found, status=STATUS.get(code))
