"""Requests to the servers of these tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit


class JsonHandler(BaseHTTPRequestHandler):
    """Answers in the form of AWS's JSON services, and logs nothing."""

    def answer(self, status: int, body: object) -> None:
        """Sends an answer; who asked may be gone."""
        content = json.dumps(body).encode()
        with suppress(OSError):
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@dataclass(frozen=True)
class Asked:
    """One request as it came in. ``path``: decoded, with the bucket. ``query``: as written. ``headers``: by names in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def parameters(self) -> dict[str, str]:
        """Of the query, decoded."""
        return dict(parse_qsl(self.query, keep_blank_values=True))

    @property
    def lists(self) -> bool:
        """Whether it lists objects of a bucket."""
        return self.method == "GET" and "list-type=2" in self.query


def read_request(request: BaseHTTPRequestHandler) -> Asked:
    url, headers = urlsplit(request.path), {name.lower(): value for name, value in request.headers.items()}
    return Asked(request.command, unquote(url.path), url.query, headers, read_body(request))


def read_body(request: BaseHTTPRequestHandler) -> bytes:
    """The body of a request, of a given length or in chunks."""
    if request.headers.get("Transfer-Encoding", "").lower() != "chunked":
        return request.rfile.read(int(request.headers.get("Content-Length") or 0))
    pieces = []
    while size := int(request.rfile.readline().split(b";")[0], 16):
        pieces.append(request.rfile.read(size))
        request.rfile.readline()
    request.rfile.readline()
    return b"".join(pieces)
