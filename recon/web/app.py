"""The application: routes, problems, and the guard around them."""

from __future__ import annotations

from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import Response

from recon.errors import ReconError
from recon.web import health, lookups, openapi, requests, results, uploads
from recon.web.guard import Faults, Guard
from recon.web.problems import ProblemError, problem_of, problem_of_parameters, problem_of_status
from recon.web.site import Site

ROUTERS = (requests.router, uploads.router, results.router, lookups.router, health.router)


def application(site: Site) -> Guard:
    """The whole application, for a server."""
    return Guard(routes(site), site)


def routes(site: Site) -> FastAPI:
    """The routes with their problems."""
    app = FastAPI(
        title="Recon",
        description="Submits transformations and collects their results; looks artifacts, breaks, duplicates and certificates up.",
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Depends(_refuse_unknown)],
    )
    app.state.site = site
    for router in ROUTERS:
        app.include_router(router)
    app.openapi = lambda: openapi.document(app, health.OPEN)  # type: ignore[method-assign]
    app.state.parameters = _parameters(app.openapi())
    app.state.routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    handlers: dict[type[Exception], Any] = {
        ProblemError: _answered,
        ReconError: _answered_recon,
        RequestValidationError: _answered_parameters,
        HTTPException: _answered_status,
    }
    app.add_middleware(Faults)
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
    return app


def _refuse_unknown(request: Request) -> None:
    """Raises ProblemError for a parameter that the route does not have, or that is there twice and is no list."""
    route = request.scope["route"]
    known: dict[str, bool] = request.app.state.parameters[route.path_format, request.method]
    for name in request.query_params:
        if name not in known:
            raise ProblemError("wrong-parameter", f"There is no parameter {name[:60]!r} here", field=name[:60])
        if not known[name] and len(request.query_params.getlist(name)) > 1:
            raise ProblemError("wrong-parameter", f"{name}: it is there twice", field=name)


def _parameters(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, bool]]:
    """Path and method → name of each parameter in the query, and whether it is a list."""
    found = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            given = [one for one in operation.get("parameters", []) if one["in"] == "query"]
            found[path, method.upper()] = {one["name"]: '"array"' in str(one["schema"]).replace("'", '"') for one in given}
    return found


async def _answered(request: Request, error: ProblemError) -> Response:
    return error.response()


async def _answered_recon(request: Request, error: ReconError) -> Response:
    return problem_of(error).response()


async def _answered_parameters(request: Request, error: RequestValidationError) -> Response:
    return problem_of_parameters(error).response()


async def _answered_status(request: Request, error: HTTPException) -> Response:
    return problem_of_status(error.status_code, request).response()
