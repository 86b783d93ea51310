"""The OpenAPI document: what FastAPI makes of the routes, with every problem as what it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from recon import __version__
from recon.web.models import Model, Problem
from recon.web.problems import MEDIA_TYPE, STATUS

Answers = dict[int | str, dict[str, Any]]
ALWAYS = (405, 422, 503)
_LOGIN = "token"
_TEXT = {"schema": {"type": "string"}}
_HEADERS = {401: "WWW-Authenticate", 405: "Allow", 415: "Accept", 429: "Retry-After", 503: "Retry-After"}


def answers(
    what: str, model: type[Model], links: Mapping[str, Any] | None = None, headers: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A good answer. ``links``: to operations that take something from it."""
    more = {"links": links, "headers": headers}
    return {"description": what, "model": model} | {name: value for name, value in more.items() if value}


def documented(good: Mapping[int, dict[str, Any]], *statuses: int) -> Answers:
    """What a route may answer: ``good`` answers, and the problems of some statuses beside those of every route."""
    found: Answers = dict(good.items())
    return found | {status: _problem(status) for status in sorted({*statuses, *ALWAYS})}


def _problem(status: int) -> dict[str, Any]:
    codes = ", ".join(f"`{code}`" for code, of in STATUS.items() if of == status)
    found: dict[str, Any] = {"description": codes, "model": Problem}
    if status in _HEADERS:
        found["headers"] = {_HEADERS[status]: _TEXT}
    return found


def link(operation: str, **parameters: str) -> dict[str, Any]:
    """A link to an operation with values from an answer."""
    return {"operationId": operation, "parameters": parameters}


def document(app: FastAPI, open_paths: tuple[str, ...]) -> dict[str, Any]:
    """The document. ``open_paths``: beginnings of paths that need no login."""
    if app.openapi_schema is None:
        made = get_openapi(title=app.title, version=__version__, description=app.description, routes=app.routes)
        made["components"].setdefault("securitySchemes", {})[_LOGIN] = {"type": "http", "scheme": "bearer"}
        for path, operations in made["paths"].items():
            for operation in operations.values():
                _tell_problems(operation)
                operation["security"] = [] if path.startswith(open_paths) else [{_LOGIN: []}]
        made["components"]["schemas"] = {
            name: schema for name, schema in made["components"]["schemas"].items() if "ValidationError" not in name
        }
        app.openapi_schema = made
    return app.openapi_schema


def _tell_problems(operation: dict[str, Any]) -> None:
    for status, answer in operation["responses"].items():
        content = answer.get("content", {})
        if status.isdigit() and int(status) >= 400 and "application/json" in content:
            content[MEDIA_TYPE] = content.pop("application/json")
