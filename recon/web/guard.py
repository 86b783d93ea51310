"""Around all routes: bodies are limited in bytes and time while they come, every answer has the headers that keep browsers from running
it, is noted in the audit log before it is sent, and counted. No fault shows anything of the inside."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import anyio
from starlette.requests import ClientDisconnect

from recon.web.port import BODY_MAX
from recon.web.problems import RETRY_S, ProblemError
from recon.web.site import Site

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HEADERS_MAX = 32_768
"""Bytes of the path and all headers of a request."""
AT_ONCE = 256
"""Requests that are answered at the same time; more get the answer to come again."""
BODY_S, UPLOAD_S, PAUSE_S = 30.0, 900.0, 20.0
"""Seconds for a whole body, for a whole upload, and between two pieces of either."""
SEND_S = 60.0
"""Seconds for a client to read a piece of an answer."""
DRAINED_MAX, DRAIN_S = 8_000_000, 3.0
"""What is still read of a body that is not wanted, so that its sender sees the answer rather than a broken connection."""
UPLOADS = "/v1/uploads"
NOT_AUDITED = ("/health/", "/metrics")
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; sandbox"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"strict-transport-security", b"max-age=31536000"),
)
_LOG = logging.getLogger("recon.web")


class Guard:
    """The application with all that lies around it."""

    def __init__(self, app: App, site: Site) -> None:
        self._app, self._site, self._at_once = app, site, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = Body(receive, scope)
        answer = Answer(self._site, scope, body, send)
        self._at_once += 1
        try:
            if self._at_once > AT_ONCE:
                problem = ProblemError("busy", "Too many requests are being answered; try again", headers={"Retry-After": str(RETRY_S)})
                await problem.response()(scope, body.receive, answer.send)
            elif (why := _malformed(scope)) is not None:
                await ProblemError("malformed", why, headers={"Connection": "close"}).response()(scope, body.receive, answer.send)
            else:
                await self._app(scope, body.receive, answer.send)
        finally:
            self._at_once -= 1


def _malformed(scope: Scope) -> str | None:
    """Why a head is refused. Length and chunks together: a proxy may go by the length, and take the rest for a request of its own."""
    size = len(scope["raw_path"]) + len(scope["query_string"]) + sum(len(name) + len(value) for name, value in scope["headers"])
    if size > HEADERS_MAX:
        return f"The headers have more than {HEADERS_MAX:,} bytes"
    if {b"content-length", b"transfer-encoding"} <= {name for name, _ in scope["headers"]}:
        return "Content-Length and Transfer-Encoding exclude each other"
    return None


class Faults:
    """Answers what no route foresaw, inside of the framework, which would answer in its own words."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except ClientDisconnect:
            _LOG.info("a client went away in the middle of a request")
        except Exception:
            number = secrets.token_hex(8)
            _LOG.exception("fault %s", number)
            if started:
                raise  # the answer breaks off
            problem = ProblemError("internal", f"A fault of the service; its log has it under {number}")
            await problem.response()(scope, receive, send)


class Body:
    """A body as it comes. ``receive`` raises ProblemError for one that is too large or too slow."""

    def __init__(self, receive: Receive, scope: Scope) -> None:
        self._receive, self._size, self._ended = receive, 0, False
        upload = scope["path"] == UPLOADS
        self._most = None if upload else BODY_MAX
        self._end = time.monotonic() + (UPLOAD_S if upload else BODY_S)
        headers = dict(scope["headers"])
        self._waits = headers.get(b"expect", b"").lower() == b"100-continue"
        length = headers.get(b"content-length", b"0")
        self._announced = int(length) if length.isdigit() else 0
        self._none = b"content-length" not in headers and b"transfer-encoding" not in headers

    async def receive(self) -> Message:
        if self._ended:
            return await self._receive()  # waits until the client goes away
        if self._most is not None and self._announced > self._most:
            raise self._too_large()
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, min(PAUSE_S, self._end - time.monotonic())))
        except TimeoutError:
            raise ProblemError("too-slow", "The body came too slowly; send it again") from None
        if message["type"] == "http.disconnect":
            self._ended = True
            return message
        self._waits = False
        self._ended = not message.get("more_body", False)
        self._size += len(message.get("body", b""))
        if self._most is not None and self._size > self._most:
            raise self._too_large()
        return message

    async def drain(self) -> bool:
        """Reads what is left, up to a limit. Returns whether the connection may be used again."""
        if self._ended or self._none:
            return True
        if self._waits or self._announced > DRAINED_MAX + BODY_MAX:
            return False
        size, end = 0, time.monotonic() + DRAIN_S
        while not self._ended:
            try:
                message = await asyncio.wait_for(self._receive(), max(0.0, end - time.monotonic()))
            except TimeoutError:
                return False
            size += len(message.get("body", b""))
            self._ended = message["type"] == "http.disconnect" or not message.get("more_body", False)
            if size > DRAINED_MAX:
                return False
        return True

    def _too_large(self) -> ProblemError:
        return ProblemError("too-large", f"The body has more than {self._most:,} bytes")


class Answer:
    """An answer as it is sent."""

    def __init__(self, site: Site, scope: Scope, body: Body, send: Send) -> None:
        self._site, self._scope, self._body, self._send = site, scope, body, send
        self._replaced, self._since = False, time.monotonic()

    async def send(self, message: Message) -> None:
        if self._replaced:
            return
        if message["type"] == "http.response.start":
            try:
                await self._note(message["status"])
            except OSError:
                _LOG.exception("the audit log cannot be written")
                await self._replace()
                return
            message = {**message, "headers": await self._headers(message)}
        try:
            await asyncio.wait_for(self._send(message), SEND_S)
        except TimeoutError:
            raise ClientDisconnect from None  # it reads nothing, and would keep a place for ever

    async def _replace(self) -> None:
        """Answers that nothing is answered, in place of what was to be sent."""
        self._replaced = True
        problem = ProblemError("may-pass", "The audit log cannot be written", headers={"Retry-After": str(RETRY_S)})
        given = problem.response()
        start = {"type": "http.response.start", "status": given.status_code, "headers": given.raw_headers}
        await self._send({**start, "headers": await self._headers(start)})
        await self._send({"type": "http.response.body", "body": given.body})

    async def _headers(self, message: Message) -> list[tuple[bytes, bytes]]:
        given = [(name.lower(), value) for name, value in message.get("headers", [])]
        kept = {name for name, _ in given}
        close = [] if await self._body.drain() else [(b"connection", b"close")]
        return [*given, *(pair for pair in HEADERS if pair[0] not in kept), *close]

    async def _note(self, status: int) -> None:
        """Counts the answer and adds it to the audit log."""
        scope = self._scope
        route = getattr(scope.get("route"), "path_format", "")
        self._site.metrics.answered(scope["method"], route, status, time.monotonic() - self._since)
        if scope["path"].startswith(NOT_AUDITED):
            return
        state = scope.get("state", {})
        holder = state.get("holder")
        line = {
            "owner": state.get("owner") if holder is None else holder.owner,
            "token": None if holder is None else holder.token,
            "method": scope["method"],
            "route": route or None,
            "status": status,
            "request": state.get("request"),
        }
        await anyio.to_thread.run_sync(self._site.audit.add, line)
