"""Every path × role × owner, as the OpenAPI document has them, answers as the table in docs/service.md says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

import httpx
import pytest
import sqlalchemy as sa
import web_site as w
from folders import ROOT
from service_site import sums

import recon
from recon.service.submissions import ROLES
from recon.web import app

NOBODY = ""
OWN, OTHER = "finance", "sales"
UNKNOWN = "0" * 32
WINDOW = "2026-11-01T00:00Z"


@cache
def told() -> dict[tuple[str, str], list[str]]:
    """Method and path → the cells of no token and of each role in the table."""
    page = (ROOT / "docs" / "service.md").read_text()
    rows = re.findall(r"^\| `([A-Z]+) (/\S+)` \|(.*)\|[^|]*\|$", page, re.MULTILINE)
    return {(method, path): [cell.strip() for cell in rest.split("|")] for method, path, rest in rows}


def operations() -> list[tuple[str, str]]:
    """Method and path of each operation of the OpenAPI document."""
    document = app.routes(None).openapi()  # type: ignore[arg-type]
    return [(method.upper(), path) for path, found in document["paths"].items() for method in found]


def test_the_table_has_the_operations_of_the_document() -> None:
    assert sorted(told()) == sorted(operations())


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[w.Served]:
    folder = tmp_path_factory.mktemp("site")
    with w.served_here(folder) as found:
        reconciliation = recon.open(folder / "recon.yaml")
        (folder / "orders.csv").write_text("order_id\nA1\n")
        reconciliation.land([folder / "orders.csv"], window=WINDOW, close=True)
        reconciliation.run()
        yield found


def as_role(served: w.Served, role: str) -> httpx.Client:
    return served.client(OWN, role) if role else served.anyone()


def thing(served: w.Served, path: str, owner: str) -> str:
    """A new request or upload of an owner, as the path needs it."""
    with served.client(owner, "submit") as client:
        if path.startswith("/v1/uploads"):
            return str(client.post("/v1/uploads", params={"name": "t.csv"}, content=b"a\n").json()["name"])
        name = str(w.submitted(client, served.folder).json()["name"])
    if path.endswith("/{output}"):
        w.finished(served, name)
    if path.endswith("/redrive"):
        w.changed(served, name, state="dead")
    return name


def asked(served: w.Served, client: httpx.Client, method: str, path: str, name: str) -> httpx.Response:
    """The answer to a good request of the operation, of the thing that is named."""
    filled = path.replace("{name}", name).replace("{output}", "sums.csv").replace("{key}", "A1").replace("{window}", WINDOW)
    filled = filled.replace("{code}", "not-found")
    if "{signed}" in path:
        with served.client(OWN) as own:
            filled = own.get(f"/v1/requests/{thing(served, '/{output}', OWN)}/results/sums.csv").headers["location"]
    if (method, path) == ("POST", "/v1/requests"):
        file = served.folder / "in" / "m.csv"
        file.write_text("a,b\nx,1\n")
        return client.post(filled, content=sums(str(file)), headers={"Content-Type": "application/json"})
    if (method, path) == ("POST", "/v1/uploads"):
        return client.post(filled, params={"name": "t.csv"}, content=b"a\n")
    return client.request(method, filled, params={"reason": "again"} if path.endswith("/redrive") else {})


@pytest.mark.parametrize("role", [NOBODY, *ROLES])
@pytest.mark.parametrize(("method", "path"), operations())
def test_each_path_answers_each_role_as_the_table_says(served: w.Served, method: str, path: str, role: str) -> None:
    cell = told()[method, path][(NOBODY, *ROLES).index(role)]
    own, _, others = cell.partition(" / ")
    with as_role(served, role) as client:
        of_own = thing(served, path, OWN) if "{name}" in path else ""
        assert str(asked(served, client, method, path, of_own).status_code) == own
        if "{name}" not in path:
            assert not others
            return
        of_other = thing(served, path, OTHER)
        answer = asked(served, client, method, path, of_other)
        assert str(answer.status_code) == (others or own)
        if answer.status_code == 404:
            unknown = asked(served, client, method, path, UNKNOWN)
            assert shown(unknown) == shown(answer)
        elif role and answer.status_code < 400:
            assert asked(served, client, method, path, UNKNOWN).status_code == 404


def shown(answer: httpx.Response) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """All that is sent, but for the time."""
    return answer.status_code, [pair for pair in answer.headers.raw if pair[0] != b"date"], answer.content


def test_who_submits_and_reads_all_cancels_nothing_of_others(served: w.Served) -> None:
    name = thing(served, "", OTHER)
    with served.client(OWN, "submit", "read-all") as client:
        w.problem(client.post(f"/v1/requests/{name}/cancel"), 403, "not-permitted")
        assert client.get(f"/v1/requests/{name}").json()["state"] == "received"


@pytest.mark.parametrize("path", ["/v1/requests/{}", "/v1/requests/{}/events", "/v1/requests/{}/results/sums.csv", "/v1/uploads/{}"])
def test_what_is_anothers_costs_the_statements_that_the_unknown_costs(served: w.Served, path: str) -> None:
    name, statements = thing(served, path.replace("{}", "{name}"), OTHER), list[str]()

    def note(connection: object, cursor: object, statement: str, *rest: object) -> None:
        statements.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        with served.client(OWN) as client:
            counted = []
            for one in (name, UNKNOWN):
                statements.clear()
                assert client.get(path.format(one)).status_code == 404
                counted.append(list(statements))
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
    assert counted[0] == counted[1] != []


def test_the_list_has_what_the_role_may_see(served: w.Served) -> None:
    mine, others = thing(served, "", OWN), thing(served, "", OTHER)
    with served.client(OWN, "read-own") as client:
        names = {one["name"] for one in client.get("/v1/requests", params={"limit": 1000}).json()["items"]}
    assert mine in names
    assert others not in names
    with served.client(OWN, "read-all") as client:
        assert {mine, others} <= {one["name"] for one in client.get("/v1/requests", params={"limit": 1000}).json()["items"]}
