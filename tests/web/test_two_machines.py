"""Two servers with their workers on one PostgreSQL, one of which is killed; and a clock that jumps while requests wait and run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import postgres
import pytest
import sqlalchemy as sa
import web_site as w
from loopback import free_port, listens, running
from service_site import service_in, sums

from recon.database import Database
from recon.service.submissions import Lost

JSON = {"Content-Type": "application/json"}
KEY = "Idempotency-Key"
REQUESTS = 12


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    with postgres.server() as server:
        monkeypatch.setenv("RECON_TEST_PASSWORD", server.password)
        url = f"postgresql://{server.host}:{server.port}/{postgres.new_database(server)}"
        yield {"url": url, "user": server.user, "secret": "RECON_TEST_PASSWORD"}


def test_two_servers_on_postgresql_one_of_which_is_killed(tmp_path: Path, database: dict[str, Any]) -> None:
    service, ports = service_in(tmp_path, database), (free_port(), free_port())
    file = tmp_path / "in" / "t.csv"
    file.write_text("a,b\nx,1.10\ny,2.00\nx,0.05\n")
    commands = [[sys.executable, "-m", "recon.cli", "serve", "--port", str(port), "--config", tmp_path / "recon.yaml"] for port in ports]
    first, second = (w.Served(f"http://127.0.0.1:{port}", tmp_path, service) for port in ports)
    with running(commands[0], tmp_path, lambda: listens(ports[0])) as killed, running(commands[1], tmp_path, lambda: listens(ports[1])):
        names = []
        with first.client() as one, httpx.Client(base_url=second.url, headers=one.headers, timeout=w.WAIT_S) as two:
            for number in range(REQUESTS):
                body, headers = sums(str(file), f"sums{number}.csv"), {**JSON, KEY: f"k{number}"}
                answers = [client.post("/v1/requests", content=body, headers=headers) for client in (one, two)]
                assert [answer.status_code for answer in answers] == [202, 202]
                assert len({answer.json()["name"] for answer in answers}) == 1
                names.append(answers[0].json()["name"])
                if number == REQUESTS // 2:
                    assert one.get(f"/v1/requests/{names[0]}").json()["name"] == names[0]
            killed.kill()
            done = [w.ended(two, name) for name in names]
            assert [(each["state"], each["problem"]) for each in done] == [("done", None)] * REQUESTS
            for number, each in enumerate(done):
                (link,) = (result["link"] for result in each["results"] if result["name"] == f"sums{number}.csv")
                assert two.get(two.get(link).headers["location"]).content == b"a,total\nx,1.15\ny,2.00\n"
            assert sorted(each["name"] for each in two.get("/v1/requests").json()["items"]) == sorted(names)
    with service.database.read() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM request_events WHERE state = 'done'")) == REQUESTS


def test_a_clock_that_jumps_loses_and_doubles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = [timedelta(0)]
    clock = Database.clock
    monkeypatch.setattr(Database, "clock", lambda self, connection: clock(self, connection) + ahead[0])
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "t.csv").write_text("a,b\nx,1.00\n")
    with w.served_here(tmp_path) as served, served.client() as client:
        names = []
        for number, jump in enumerate((0, 2, -72, 48, 0)):
            ahead[0] = timedelta(hours=jump)
            answer = client.post("/v1/requests", content=sums(f"{tmp_path}/in/t.csv"), headers={**JSON, KEY: f"k{number}"})
            if jump == 48:  # the token has expired by this clock
                w.problem(answer, 401, "not-logged-in")
            else:
                names.append(answer.json()["name"])
        assert [each["name"] for each in client.get("/v1/requests").json()["items"]] in (names, names[::-1])
        claims = served.service.claims
        slow = w.running_now(served, names[0])
        assert claims.overdue() == []
        ahead[0] = timedelta(hours=2)  # the lease is over, although its worker is alive
        assert [each.name for each in claims.overdue()] == [names[0]]
        ahead[0] = timedelta(hours=-72)  # what was put off by a later clock does not wait for three days
        again = w.running_now(served, names[0])
        with pytest.raises(Lost):
            claims.done(slow, [], {})
        claims.done(again, [], {})
        shown = client.get(f"/v1/requests/{names[0]}").json()
        assert (shown["state"], shown["tries"]) == ("done", 2)
        for name in names[1:]:
            w.finished(served, name)
        assert {each["state"] for each in client.get("/v1/requests").json()["items"]} == {"done"}
