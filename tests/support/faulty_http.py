"""An HTTP server in front of a real one, that passes every request on and does harm to those that it is told to."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

from http_requests import Asked, read_request

_OWN = {"connection", "transfer-encoding", "content-length", "keep-alive"}


@dataclass(frozen=True)
class Answered:
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


When = Callable[[Asked], bool]
PassOn = Callable[[Asked], Answered]
Harm = Callable[[Asked, PassOn], "Answered | Cut"]


@dataclass(frozen=True)
class Cut:
    """The connection ends: after the head and ``share`` of the body of ``answered``, or without any answer."""

    answered: Answered | None = None
    share: float = 0.5


@dataclass
class _Fault:
    when: When
    harm: Harm
    left: int


@dataclass
class FaultyServer:
    """``asked``: all requests so far. The methods tell what becomes of the next ``times`` requests for which ``when`` holds."""

    upstream: int
    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    _faults: list[_Fault] = field(default_factory=list)
    _first: dict[tuple[str, str], Answered] = field(default_factory=dict)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def harm(self, when: When, harm: Harm, times: int = 1) -> None:
        with self._turn:
            self._faults.append(_Fault(when, harm, times))

    def answer(self, when: When, status: int, code: str, times: int = 1, more: str = "") -> None:
        """An error of S3's own, without passing anything on."""
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>told to</Message>{more}</Error>".encode()
        self.harm(when, lambda asked, pass_on: Answered(status, (("Content-Type", "application/xml"),), body), times)

    def throttle(self, when: When, times: int) -> None:
        self.answer(when, 503, "SlowDown", times)

    def swallow(self, when: When, times: int = 1) -> None:
        """The request is carried out, and nobody is told."""

        def swallow(asked: Asked, pass_on: PassOn) -> Cut:
            pass_on(asked)
            return Cut()

        self.harm(when, swallow, times)

    def drop(self, when: When, times: int = 1) -> None:
        """The connection ends before the request is passed on."""
        self.harm(when, lambda asked, pass_on: Cut(), times)

    def cut(self, when: When, times: int = 1) -> None:
        """The connection ends in the middle of the answer's body."""
        self.harm(when, lambda asked, pass_on: Cut(pass_on(asked)), times)

    def garble_answer(self, when: When, times: int = 1) -> None:
        def garble(asked: Asked, pass_on: PassOn) -> Answered:
            answered = pass_on(asked)
            return Answered(answered.status, answered.headers, garbled(answered.body))

        self.harm(when, garble, times)

    def garble_request(self, when: When, times: int = 1) -> None:
        """What arrives differs from what was sent and signed."""

        def garble(asked: Asked, pass_on: PassOn) -> Answered:
            return pass_on(Asked(asked.method, asked.path, asked.query, asked.headers, garbled(asked.body)))

        self.harm(when, garble, times)

    def hang(self, when: When, seconds: float, times: int = 1) -> None:
        """No answer for a while; then the request is carried out and the connection cut."""

        def hang(asked: Asked, pass_on: PassOn) -> Cut:
            time.sleep(seconds)
            pass_on(asked)
            return Cut()

        self.harm(when, hang, times)

    def age(self, when: When, times: int) -> None:
        """The answer that the same request got the first time."""
        self.harm(when, lambda asked, pass_on: self._first.get((asked.path, asked.query)) or pass_on(asked), times)

    def mend(self) -> None:
        with self._turn:
            self._faults.clear()

    def carried_out(self, asked: Asked, pass_on: PassOn) -> Answered | Cut:
        with self._turn:
            self.asked.append(asked)
            fault = next((one for one in self._faults if one.left and one.when(asked)), None)
            if fault is not None:
                fault.left -= 1
        answered = pass_on(asked) if fault is None else fault.harm(asked, pass_on)
        if asked.method == "GET" and isinstance(answered, Answered):
            with self._turn:
                self._first.setdefault((asked.path, asked.query), answered)
        return answered


def garbled(body: bytes) -> bytes:
    """The same with one byte in its middle turned over."""
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :] if body else body


Server = TypeVar("Server", bound=FaultyServer)


@contextmanager
def in_front_of(upstream: int, kind: type[Server] = FaultyServer) -> Iterator[Server]:  # type: ignore[assignment]
    """Listens on a port of its own until the end of the block, in front of the server on port ``upstream``."""
    faulty = kind(upstream)

    class Handler(_Handler):
        server_of = faulty

    with _Server(("127.0.0.1", 0), Handler) as server:
        faulty.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield faulty
        finally:
            server.shutdown()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # whoever asked was killed
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of: FaultyServer

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def handle_one(self) -> None:
        answered = self.server_of.carried_out(read_request(self), self._pass_on)
        if isinstance(answered, Cut):
            if answered.answered is not None:
                whole = answered.answered
                self._tell(Answered(whole.status, whole.headers, whole.body[: int(len(whole.body) * answered.share)]), len(whole.body))
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self._tell(answered, len(answered.body))

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_one  # noqa: N815

    def _pass_on(self, asked: Asked) -> Answered:
        upstream = HTTPConnection("127.0.0.1", self.server_of.upstream, timeout=60)
        try:
            upstream.putrequest(asked.method, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("connection", "transfer-encoding", "content-length", "expect"):
                    upstream.putheader(name, value)
            if asked.body or asked.method in ("PUT", "POST"):
                upstream.putheader("Content-Length", str(len(asked.body)))
            upstream.endheaders(asked.body or None)
            answer = upstream.getresponse()
            headers: list[tuple[str, str]] = [one for one in answer.getheaders() if one[0].lower() not in _OWN]
            if asked.method == "HEAD" and answer.getheader("Content-Length"):
                headers.append(("X-Length", str(answer.getheader("Content-Length"))))
            return Answered(answer.status, tuple(headers), answer.read())
        finally:
            upstream.close()

    def _tell(self, answered: Answered, length: int) -> None:
        self.send_response_only(answered.status)
        for name, value in answered.headers:
            if name == "X-Length":
                length = int(value)
            else:
                self.send_header(name, value)
        if answered.status != 204:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answered.body)
        self.wfile.flush()

    def log_message(self, *args: Any) -> None:
        pass
