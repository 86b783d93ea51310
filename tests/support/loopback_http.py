"""An HTTP server on the loopback that keeps what is posted to it, for tests of webhooks and of lineage."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Posts:
    """``taken``: bodies that were answered with a status below 300, in order; ``refused``: the others. ``answers``: the next statuses;
    then 200. ``headers``: of the last request. ``answer_headers``: of each answer. ``answering``: cleared, no request is answered."""

    url: str
    taken: list[Any] = field(default_factory=list)
    refused: list[Any] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    answer_headers: dict[str, str] = field(default_factory=dict)
    answering: threading.Event = field(default_factory=threading.Event)

    @property
    def texts(self) -> list[str]:
        """The texts of the messages that were taken."""
        return [str(body["text"]) for body in self.taken]


@contextmanager
def posts() -> Iterator[Posts]:
    """A server until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found.headers = {name.lower(): value for name, value in self.headers.items()} | {"path": self.path}
            found.answering.wait(30)
            status = found.answers.pop(0) if found.answers else 200
            (found.taken if status < 300 else found.refused).append(body)
            self.send_response(status)
            for name, value in found.answer_headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found = Posts(f"http://127.0.0.1:{server.server_address[1]}")
    found.answering.set()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        found.answering.set()
        server.shutdown()
        server.server_close()
        thread.join()
