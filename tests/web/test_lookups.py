"""Look-ups over HTTP answer as the Python interface does, page by page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import web_site as w
from looked_up import FIRST, SECOND, landed, looked_up

from recon.api import Reconciliation

KEYS = [f"A{number:03d}" for number in range(25)] + ["M/1", "ä&?#", "a b", '"q"', "100%", "=1+1"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[w.Served, Reconciliation]]:
    with looked_up(tmp_path_factory.mktemp("site")) as (served, opened):
        rows = [f'"{key.replace(chr(34), chr(34) * 2)}",e{number},{number}.50\n' for number, key in enumerate(KEYS)]
        landed(opened, FIRST, "".join(rows) + "Z,z,0.00\n" + "".join(rows[:12]))
        landed(opened, SECOND, "A000,f1,9.50\nA001,e1,1.50\n")
        yield served, opened


@pytest.fixture
def client(site: tuple[w.Served, Reconciliation]) -> Iterator[httpx.Client]:
    with site[0].client("finance", "read-all") as found:
        yield found


def pages(client: httpx.Client, path: str, cursor: str, **given: Any) -> list[dict[str, Any]]:
    """The items of all pages, each of which but the last is full."""
    found, after = list[dict[str, Any]](), None
    while True:
        page = client.get(path, params={**given, **({cursor: after} if after else {})}).json()
        found += page["items"]
        if (after := page["next"]) is None:
            return found
        assert len(page["items"]) == given["limit"]


@pytest.mark.parametrize("key", KEYS)
def test_an_artifact_by_its_key(site: tuple[w.Served, Reconciliation], client: httpx.Client, key: str) -> None:
    found = client.get(f"/v1/artifacts/{quote(key, safe='')}")
    assert found.status_code == 200
    assert found.json() == json.loads(json.dumps(site[1].show(key), default=str))


def test_an_artifact_as_of_a_moment(site: tuple[w.Served, Reconciliation], client: httpx.Client) -> None:
    now = client.get("/v1/artifacts/A000").json()
    then = client.get("/v1/artifacts/A000", params={"through": FIRST}).json()
    assert (now["measures"]["balance"], then["measures"]["balance"]) == ("10.00", "0.50")
    assert client.get("/v1/artifacts/A000", params={"as_of": "2026-11-01T01:00Z"}).json()["measures"] == then["measures"]
    w.problem(client.get("/v1/artifacts/A000", params={"known_at": "2026-11-01T00:00Z"}), 422, "wrong-parameter")
    for given in (
        {"as_of": "yesterday"},
        {"through": "2026-11-01T00:30Z"},
        {"as_of": "2200-01-01T00:00Z"},
        {"as_of": SECOND, "through": FIRST},
    ):
        found = w.problem(client.get("/v1/artifacts/A000", params=given), 422, "wrong-parameter")
        assert "--" not in found["detail"]


@pytest.mark.parametrize("key", ["nothing", "a000", "A000 ", "A0", "../A000", "'; DROP TABLE", "A" * 2_000])
def test_a_key_that_is_none(client: httpx.Client, key: str) -> None:
    w.problem(client.get(f"/v1/artifacts/{quote(key, safe='')}"), 404, "not-found")


@pytest.mark.parametrize("limit", [1, 7, 29, 30, 1000])
def test_breaks_page_by_page(site: tuple[w.Served, Reconciliation], client: httpx.Client, limit: int) -> None:
    found = pages(client, "/v1/breaks", "after", limit=limit)
    table = site[1].breaks().sort_by("key")
    assert [one["key"] for one in found] == table["key"].to_pylist()
    assert [one["balance"] for one in found] == [str(value) for value in table["balance"].to_pylist()]
    assert {one["status"] for one in found} == {"BREAK"}


def test_breaks_that_are_chosen(site: tuple[w.Served, Reconciliation], client: httpx.Client) -> None:
    large = client.get("/v1/breaks", params={"min_amount": "20"}).json()["items"]
    assert {one["key"] for one in large} == {key for number, key in enumerate(KEYS) if number + 0.5 >= 20}
    assert client.get("/v1/breaks", params=[("status", "MATCHED")]).json()["items"] == []
    assert len(client.get("/v1/breaks", params=[("status", "MATCHED"), ("status", "BREAK")]).json()["items"]) == len(KEYS)
    unknown = w.problem(client.get("/v1/breaks", params=[("status", "BREAK"), ("status", "UNPIAD")]), 404, "not-found")
    assert (unknown["field"], unknown["detail"]) == ("status", "No artifact can have the status 'UNPIAD'; there are BREAK, MATCHED")
    assert client.get("/v1/breaks", params={"min_age": "100000"}).json()["items"] == []
    for given in ({"min_amount": "1e3"}, {"min_amount": "-1"}, {"min_age": "-1"}, {"min_age": "x"}, {"after": "x" * 2001}):
        w.problem(client.get("/v1/breaks", params=given), 422, "wrong-parameter")


def test_each_break_is_on_one_page_whatever_is_committed_between(tmp_path: Path) -> None:
    with looked_up(tmp_path) as (served, opened), served.client("finance", "read-all") as client:
        landed(opened, FIRST, "".join(f"K{number},e{number},1.00\n" for number in range(6)))
        first = client.get("/v1/breaks", params={"limit": 3}).json()
        landed(opened, SECOND, "K0,f0,-1.00\nK2a,f1,1.00\nA,f2,1.00\nK5,f3,-1.00\nL,f4,1.00\n")
        second = client.get("/v1/breaks", params={"limit": 10, "after": first["next"]}).json()
        assert [one["key"] for one in first["items"] + second["items"]] == ["K0", "K1", "K2", "K2a", "K3", "K4", "L"]


def test_duplicates_page_by_page(site: tuple[w.Served, Reconciliation], client: httpx.Client) -> None:
    expected = site[1].duplicates().to_pylist()
    assert len(expected) == 13
    found = pages(client, "/v1/duplicates", "cursor", limit=5)
    assert [(one["window"], one["key"], one["line"]) for one in found] == [(one["window"], one["key"], one["line"]) for one in expected]
    assert len(client.get("/v1/duplicates", params={"window": SECOND}).json()["items"]) == 1
    w.problem(client.get("/v1/duplicates", params={"window": "2026-11-01T00:30Z"}), 422, "wrong-parameter")
    w.problem(client.get("/v1/duplicates", params={"cursor": "d1-5"}), 409, "outdated")
    assert client.get("/v1/duplicates", params={"cursor": f"d{site[1].state().commit}-500"}).json() == {"items": [], "next": None}


def test_the_certificate_of_a_window(site: tuple[w.Served, Reconciliation], client: httpx.Client) -> None:
    assert client.get(f"/v1/certificates/{FIRST}").json() == json.loads(json.dumps(site[1].certificate(FIRST), default=str))
    for window in ("2026-11-01T05:00Z", "2026-11-01T00:30Z", "2025-11-01T00:00Z", "x", "2026-13-01T00:00Z"):
        w.problem(client.get(f"/v1/certificates/{window}"), 404, "not-found")


def test_nothing_is_there_before_the_first_file(tmp_path: Path) -> None:
    with looked_up(tmp_path) as (served, _), served.client("finance", "read-all") as client:
        for path in ("/v1/artifacts/A", "/v1/breaks", "/v1/duplicates", f"/v1/certificates/{FIRST}"):
            w.problem(client.get(path), 404, "not-found")


def test_a_key_of_several_columns(tmp_path: Path) -> None:
    with looked_up(tmp_path, key=["order_id", "event_id"], events={"types": {"amount": "decimal(18,2)"}}) as (served, opened):
        landed(opened, FIRST, "A,1,2.00\nA,2,3.00\n")
        with served.client("finance", "read-all") as client:
            found = client.get("/v1/artifacts/" + quote('["A","2"]', safe=""))
            assert found.json()["measures"]["balance"] == "3.00"
            for key in ("A", '["A"]', '["A","3"]', '["A",2]'):
                w.problem(client.get("/v1/artifacts/" + quote(key, safe="")), 404, "not-found")
            listed = pages(client, "/v1/breaks", "after", limit=1)
            assert [json.loads(one["key"]) for one in listed] == [["A", "1"], ["A", "2"]]


def test_many_look_ups_at_once(site: tuple[w.Served, Reconciliation], client: httpx.Client) -> None:
    paths = [f"/v1/artifacts/{key}" for key in KEYS[:25]] + ["/v1/breaks", "/v1/duplicates", f"/v1/certificates/{FIRST}"]
    alone = [client.get(path).json() for path in paths]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda path: client.get(path).json(), paths * 2))
    shorn = [json.loads(json.dumps(one)) for one in together]
    assert shorn == alone * 2
