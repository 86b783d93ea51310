"""The service over HTTP, for tests: in this process, where its clocks and limits can be set, or as ``recon serve``."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from loopback import free_port, listens, running
from service_site import service_in, sums

from recon.database.tables import REQUESTS
from recon.service.paths import Places
from recon.service.results import Made
from recon.service.site import Service
from recon.service.submissions import Submission
from recon.web import server

WAIT_S = 120.0


@dataclass
class Served:
    """A service that listens. ``folder`` has ``recon.yaml``."""

    url: str
    folder: Path
    service: Service
    _tokens: dict[tuple[str, ...], str] = field(default_factory=dict)

    def token(self, owner: str = "finance", *roles: str) -> str:
        """A token of an owner; by default it submits and reads its own."""
        asked = (owner, *(roles or ("submit", "read-own")))
        if asked not in self._tokens:
            self._tokens[asked] = self.service.tokens.add(owner, asked[1:], timedelta(days=1))
        return self._tokens[asked]

    def client(self, owner: str = "finance", *roles: str) -> httpx.Client:
        """A client with such a token, which follows no redirects."""
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {self.token(owner, *roles)}"}, timeout=WAIT_S)

    def anyone(self) -> httpx.Client:
        """A client without a token."""
        return httpx.Client(base_url=self.url, timeout=WAIT_S)

    def audit(self) -> list[dict[str, Any]]:
        """The lines of the audit log."""
        return [json.loads(line) for line in (self.folder / ".recon" / "audit.jsonl").read_bytes().split(b"\n") if line]


@contextmanager
def served_here(folder: Path, **settings: Any) -> Iterator[Served]:
    """A server in a thread of this process, without a worker. ``settings``: of the section ``service``."""
    service = service_in(folder, **settings)
    with serving(folder) as url:
        yield Served(url, folder, service)


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A server in a thread of this process, for the ``recon.yaml`` of a folder: its address."""
    listener = server.listening("127.0.0.1", 0)
    serving = server.server_of(server.site_at(folder / "recon.yaml"))
    thread = threading.Thread(target=serving.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        serving.should_exit = True
        thread.join(WAIT_S)
        listener.close()


@contextmanager
def served(folder: Path, *options: str, **settings: Any) -> Iterator[Served]:
    """``recon serve`` with its worker, as a process."""
    service, port = service_in(folder, **settings), free_port()
    command = [sys.executable, "-m", "recon.cli", "serve", "--port", str(port), "--config", folder / "recon.yaml", *options]
    with running(command, folder, lambda: listens(port)):
        yield Served(f"http://127.0.0.1:{port}", folder, service)


def submitted(client: httpx.Client, folder: Path, name: str = "t.csv", **headers: str) -> httpx.Response:
    """The answer to a small request of a file in ``in/``, which is made where it is not there."""
    file = folder / "in" / name
    if not file.exists():
        file.write_text("a,b\nx,1.10\ny,2.00\nx,0.05\n")
    return client.post("/v1/requests", content=sums(str(file)), headers={"Content-Type": "application/json", **headers})


def running_now(served: Served, name: str) -> Submission:
    """Claims a request, as a worker does."""
    served.service.claims.arrived([name])
    one = served.service.claims.claim("worker", only=name)
    assert one is not None
    return one


def finished(served: Served, name: str, content: bytes = b"a,total\n", output: str = "sums.csv") -> None:
    """Ends a request with a result, as a worker does."""
    one, results = running_now(served, name), served.service.results
    place = results.new_place()
    served.service.claims.put_in(one, place=place)
    file = served.folder / output
    file.write_bytes(content)
    served.service.claims.done(one, results.put(place, [Made(output, file, 0)], Places(served.service.rights(one.owner))), {})


def changed(served: Served, name: str, **values: Any) -> None:
    """Changes a request's row."""
    with served.service.database.write() as connection:
        connection.execute(REQUESTS.update().where(REQUESTS.c.name == name).values(**values))


def ended(client: httpx.Client, name: str) -> dict[str, Any]:
    """A request when it has ended."""
    end = time.monotonic() + WAIT_S
    while (shown := client.get(f"/v1/requests/{name}").json())["state"] in ("received", "queued", "running"):
        assert time.monotonic() < end, shown
        time.sleep(0.1)
    return dict(shown)


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem of an answer, which is one."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert set(found) - {"operation", "field"} == {"type", "title", "status", "detail", "code"}
    assert (found["status"], found["code"], found["type"]) == (status, code, f"/v1/problems/{code}")
    return found
