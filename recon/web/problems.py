"""Every error of the interface: RFC 9457, with a code that programs read. docs/service.md lists the codes."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.requests import Request
from starlette.responses import Response

from recon.errors import ReconError, TryAgain, WrongUsage
from recon.web.port import CODES, KeyTaken, Refused, TooMany

MEDIA_TYPE = "application/problem+json"
RETRY_S = 10
"""When to try again what a store or a database did not do, in seconds."""

STATUS: dict[str, int] = {
    "not-logged-in": 401,
    "not-permitted": 403,
    "not-found": 404,
    "method-not-allowed": 405,
    "too-slow": 408,
    "key-taken": 409,
    "not-dead": 409,
    "in-use": 409,
    "outdated": 409,
    "too-large": 413,
    "wrong-type": 415,
    "wrong-parameter": 422,
    "wrong-request": 422,
    "not-offered": 422,
    "no-such-input": 422,
    "too-many": 429,
    "malformed": 400,
    "internal": 500,
    "not-here": 501,
    "may-pass": 503,
    "busy": 503,
}
"""Code → HTTP status."""

TITLES: dict[str, str] = {
    "not-logged-in": "There is no valid token",
    "not-permitted": "This is not permitted",
    "not-found": "There is nothing here that you may see",
    "method-not-allowed": "There is no such method here",
    "too-slow": "The request came too slowly",
    "key-taken": "The Idempotency-Key belongs to another body",
    "not-dead": "Only a dead request can be opened again",
    "in-use": "A request reads this upload",
    "outdated": "The cursor is of an earlier commit",
    "too-large": "This is too large",
    "wrong-type": "The body has another type",
    "wrong-parameter": "A parameter is wrong",
    "wrong-request": "This is not a transformation that can be carried out",
    "not-offered": "The service chooses this itself",
    "no-such-input": "An input is not there",
    "too-many": "A limit is reached",
    "malformed": "This is not HTTP",
    "internal": "A fault of the service",
    "not-here": "This server cannot answer it",
    "may-pass": "Something that the service needs is away",
    "busy": "The service has too much to do",
}


@dataclasses.dataclass
class ProblemError(Exception):
    """An error that is answered. ``code``: of STATUS. ``detail``: for people; without what another owner has."""

    code: str
    detail: str
    operation: int | None = None
    field: str | None = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def status(self) -> int:
        return STATUS[self.code]

    def document(self) -> dict[str, Any]:
        """As RFC 9457 wants it."""
        known = {"type": f"/v1/problems/{self.code}", "title": TITLES[self.code], "status": self.status, "detail": self.detail}
        named = {"code": self.code, "operation": self.operation, "field": self.field}
        return known | {name: value for name, value in named.items() if value is not None}

    def body(self) -> bytes:
        return json.dumps(self.document(), ensure_ascii=True).encode("ascii")

    def response(self) -> Response:
        return Response(self.body(), self.status, dict(self.headers), MEDIA_TYPE)


def not_found() -> ProblemError:
    """The same answer for what is not there and for what is another's."""
    return ProblemError("not-found", "There is nothing of this name that you may see")


def problem_of(error: ReconError) -> ProblemError:
    """The answer to an error of the library."""
    if isinstance(error, Refused):
        code = error.problem.code if error.problem.code in STATUS else "wrong-request"
        return ProblemError(code, str(error), error.problem.operation, error.problem.field)
    if isinstance(error, KeyTaken):
        return ProblemError("key-taken", str(error), field="Idempotency-Key")
    if isinstance(error, TooMany):
        return ProblemError("too-many", str(error), headers={"Retry-After": str(error.wait_s)})
    if isinstance(error, TryAgain):
        return ProblemError("may-pass", "Something that the service needs is away; try again", headers={"Retry-After": str(RETRY_S)})
    raise error  # a damaged store, or a mistake in the configuration, is nothing that a client can mend


def problem_of_parameters(error: RequestValidationError) -> ProblemError:
    """The answer to parameters that the models refuse. What is no name of anything in a path is not found."""
    first = error.errors()[0]
    place, *names = [str(part) for part in first["loc"]]
    if place == "path":
        return not_found()
    name = ".".join(names)
    return ProblemError("wrong-parameter", f"{name}: {first['msg']}", field=name)


def problem_of_status(status: int, request: Request) -> ProblemError:
    """The answer to what the framework refuses."""
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(methods_at(request))
        return ProblemError("method-not-allowed", f"There is {allowed} here", headers={"Allow": allowed})
    if status == HTTPStatus.NOT_FOUND:
        return not_found()
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return ProblemError("too-large", "The body is too large")
    return ProblemError("malformed", "The request cannot be read")


def methods_at(request: Request) -> list[str]:
    """The methods of a path, in order."""
    found: set[str] = set()
    for route in request.app.state.routes:
        if route.path_regex.match(request.scope["path"]):
            found |= set(route.methods)
    return sorted(found)


def wrong_parameter(error: WrongUsage) -> ProblemError:
    """The answer to a value that the library refuses. It names options of the command line: ``--as-of`` is ``as_of`` here."""
    text = re.sub(r"--([a-z][a-z-]*)", lambda found: found[1].replace("-", "_"), str(error))
    return ProblemError("wrong-parameter", text)


def meaning(code: str) -> str | None:
    """What a code means, of an answer or of a request that failed; None for none."""
    return CODES.get(code) or TITLES.get(code)
