"""HTTP before it is a request: headers that come too slowly, and bytes that are no HTTP, are answered as every other error is."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from recon.web.problems import MEDIA_TYPE, ProblemError

HEADERS_S = 15.0
"""Seconds for the line and the headers of a request."""


class Protocol(H11Protocol):
    """uvicorn's, which waits for ever for the end of headers."""

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._waiting = self.loop.call_later(HEADERS_S, self._too_slow)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._waiting = self._waiting or self.loop.call_later(HEADERS_S, self._too_slow)
        else:
            self._wait_no_more()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_more()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        self._refuse(ProblemError("malformed", "This is not HTTP, or its headers are too large"))

    def _too_slow(self) -> None:
        self._waiting = None
        if not self.transport.is_closing() and self.conn.their_state is h11.IDLE:
            self._refuse(ProblemError("too-slow", "The headers came too slowly; send them again"))

    def _wait_no_more(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _refuse(self, problem: ProblemError) -> None:
        self._wait_no_more()
        body = problem.body()
        headers = [("content-type", MEDIA_TYPE), ("content-length", str(len(body))), ("connection", "close")]
        events: list[Any] = [h11.Response(status_code=problem.status, headers=headers), h11.Data(data=body), h11.EndOfMessage()]
        try:
            for event in events:
                self.transport.write(self.conn.send(event) or b"")
        except h11.LocalProtocolError:
            pass  # an answer has begun: it breaks off
        self.transport.close()
