"""An HTTP API of API Gateway for tests: each call becomes an event of the format 2.0 for a function of tests/support/lambda_runtime.py.

What it is not: routes, authorizers, throttling, 10 MB of a body.
"""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

from http_requests import read_body
from lambda_runtime import Function, Lambda

_TEXT = ("application/json", "text/", "application/xml", "application/javascript")


@contextmanager
def api_of(account: Lambda, function: Function) -> Iterator[str]:
    """The address of an API whose every call the function answers."""
    handler = type("Calls", (_Calls,), {"account": account, "function": function})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


class _Calls(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    account: Lambda
    function: Function

    def _call(self) -> None:
        invocation = self.account.invoke(self.function, json.dumps(self._event(read_body(self))).encode())
        if invocation.wait() != "answered":
            self._answer(502, {"content-type": "application/json"}, b'{"message":"Internal Server Error"}')
            return
        answer = invocation.answer
        body = answer.get("body", "")
        content = base64.b64decode(body) if answer.get("isBase64Encoded") else body.encode()
        headers = {name: value for name, value in answer.get("headers", {}).items() if name.lower() != "content-length"}
        self._answer(answer["statusCode"], headers, content)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_OPTIONS = do_TRACE = _call  # noqa: N815 - http.server calls them so

    def _event(self, body: bytes) -> dict[str, Any]:
        """As docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html has it."""
        url, headers = urlsplit(self.path), dict[str, str]()
        for name, value in self.headers.items():
            key = name.lower()
            headers[key] = f"{headers[key]},{value}" if key in headers else value
        text = headers.get("content-type", "").startswith(_TEXT)
        path = unquote(url.path)
        told = {"method": self.command, "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1"}
        context = {
            "accountId": "123456789012",
            "apiId": "api",
            "domainName": headers.get("host", ""),
            "http": {**told, "userAgent": headers.get("user-agent", "")},
            "requestId": uuid.uuid4().hex,
            "routeKey": "$default",
            "stage": "$default",
            "timeEpoch": round(time.time() * 1000),
        }
        event = {"version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": url.query, "headers": headers}
        if body:
            event["body"] = body.decode() if text else base64.b64encode(body).decode()
        return {**event, "requestContext": context, "isBase64Encoded": bool(body) and not text}

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response_only(status)  # without a date, which would differ from call to call
        for name, value in headers.items():
            self.send_header(name, value)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass
