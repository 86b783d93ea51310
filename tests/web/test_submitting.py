"""Submitting: the same key is the same request for a day, limits are told, nothing is lost or doubled, and one flood holds nobody up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import web_site as w
from service_site import sums

from recon.database.tables import REQUESTS

JSON = {"Content-Type": "application/json"}
KEY = "Idempotency-Key"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[w.Served]:
    with w.served_here(tmp_path) as found:
        (tmp_path / "in" / "t.csv").write_text("a,b\nx,1.00\n")
        yield found


def sent(served: w.Served, client: httpx.Client, output: str = "sums.csv", **headers: str) -> httpx.Response:
    return client.post("/v1/requests", content=sums(f"{served.folder}/in/t.csv", output), headers={**JSON, **headers})


def test_the_same_key_and_body_is_the_same_request(served: w.Served) -> None:
    with served.client() as client:
        first, again = sent(served, client, **{KEY: "k"}), sent(served, client, **{KEY: "k"})
        assert (first.status_code, again.status_code) == (202, 202)
        assert first.json()["name"] == again.json()["name"]
        assert [one.headers["idempotency-replayed"] for one in (first, again)] == ["false", "true"]
        w.finished(served, first.json()["name"])
        assert sent(served, client, **{KEY: "k"}).json()["state"] == "done"
        found = w.problem(sent(served, client, "other.csv", **{KEY: "k"}), 409, "key-taken")
        assert found["field"] == KEY
        assert sent(served, client).json()["name"] != sent(served, client).json()["name"]
    with served.client("sales") as other:  # keys are an owner's own
        assert sent(served, other, "other.csv", **{KEY: "k"}).status_code == 202


def test_the_same_body_is_the_same_however_it_is_written(served: w.Served) -> None:
    body: dict[str, Any] = json.loads(sums(f"{served.folder}/in/t.csv"))
    with served.client() as client:
        names = {
            client.post("/v1/requests", content=text, headers={**JSON, KEY: "k"}).json()["name"]
            for text in (json.dumps(body), json.dumps(body, indent=2))
        }
    assert len(names) == 1


def test_after_a_day_the_key_names_another_request(served: w.Served) -> None:
    with served.client() as client:
        first = sent(served, client, **{KEY: "k"}).json()
        one = served.service.requests.all(served.service.tokens.holder(served.token()))[0]  # type: ignore[arg-type]
        w.changed(served, one.name, key_until=one.received_at + timedelta(seconds=0))
        again = sent(served, client, "other.csv", **{KEY: "k"})
        assert again.status_code == 202
        assert again.json()["name"] != first["name"]


def test_a_key_sent_many_times_at_once_to_two_servers_is_one_request(served: w.Served) -> None:
    with w.serving(served.folder) as second, served.client() as one, httpx.Client(base_url=second, headers=one.headers, timeout=60) as two:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda number: sent(served, (one, two)[number % 2], **{KEY: "k"}), range(24)))
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.json()["name"] for answer in answers}) == 1
        assert sum(answer.headers["idempotency-replayed"] == "false" for answer in answers) == 1
        assert len(two.get("/v1/requests").json()["items"]) == 1


def test_more_requests_a_minute_than_the_owner_may_submit(tmp_path: Path) -> None:
    owners = {"finance": {"read": f"{tmp_path}/in", "a_minute": 5}, "sales": {"read": f"{tmp_path}/in"}}
    with w.served_here(tmp_path, owners=owners) as served, served.client() as client, served.client("sales") as other:
        (tmp_path / "in" / "t.csv").write_text("a,b\nx,1.00\n")
        assert [sent(served, client).status_code for _ in range(5)] == [202] * 5
        refused = sent(served, client)
        w.problem(refused, 429, "too-many")
        assert 1 <= int(refused.headers["retry-after"]) <= 61
        assert sent(served, other).status_code == 202
        with served.service.database.write() as connection:
            connection.execute(REQUESTS.update().values(received_at=REQUESTS.c.received_at))
        one = client.get("/v1/requests").json()["items"][-1]["name"]
        w.changed(served, one, received_at=served.service.tokens.all()[0].made_at - timedelta(minutes=2))
        assert sent(served, client).status_code == 202


def test_more_requests_than_may_wait(tmp_path: Path) -> None:
    owners = {"finance": {"read": f"{tmp_path}/in", "waiting": 2}}
    with w.served_here(tmp_path, owners=owners) as served, served.client() as client:
        (tmp_path / "in" / "t.csv").write_text("a,b\nx,1.00\n")
        names = [sent(served, client).json()["name"] for _ in range(2)]
        w.problem(sent(served, client), 429, "too-many")
        client.post(f"/v1/requests/{names[0]}/cancel")
        assert sent(served, client).status_code == 202


def test_larger_inputs_than_the_owner_may_read_and_more_uploads_than_it_may_store(tmp_path: Path) -> None:
    owners = {"finance": {"read": f"{tmp_path}/in", "bytes": "1KB", "uploads": "3KB"}}
    with w.served_here(tmp_path, owners=owners) as served, served.client() as client:
        (tmp_path / "in" / "t.csv").write_bytes(b"a,b\n" + b"x,1.00\n" * 200)
        assert w.problem(sent(served, client), 413, "too-large")["field"] == "inputs"
        assert client.post("/v1/uploads", params={"name": "a.csv"}, content=b"x" * 2_000).status_code == 201
        w.problem(client.post("/v1/uploads", params={"name": "a.csv"}, content=b"x" * 2_000), 413, "too-large")
        kept = client.post("/v1/uploads", params={"name": "a.csv"}, content=b"x" * 1_000).json()
        full = client.post("/v1/uploads", params={"name": "a.csv"}, content=b"x")
        w.problem(full, 429, "too-many")
        assert full.headers["retry-after"]
        assert client.delete(f"/v1/uploads/{kept['name']}").status_code == 204
        assert client.post("/v1/uploads", params={"name": "a.csv"}, content=b"x").status_code == 201


def test_an_upload_that_a_request_reads_stays(served: w.Served) -> None:
    with served.client() as client:
        upload = client.post("/v1/uploads", params={"name": "a.csv"}, content=b"a,b\nx,1.00\n").json()
        assert client.post("/v1/requests", content=sums(upload["path"]), headers=JSON).status_code == 202
        w.problem(client.delete(f"/v1/uploads/{upload['name']}"), 409, "in-use")
        assert client.get(f"/v1/uploads/{upload['name']}").json() == upload


def test_a_thousand_submits_of_one_owner_while_another_has_one(tmp_path: Path) -> None:
    owners = {name: {"read": f"{tmp_path}/in", "a_minute": 10_000} for name in ("finance", "sales")}
    with w.served_here(tmp_path, owners=owners) as served, served.client() as flood, served.client("sales") as other:
        (tmp_path / "in" / "t.csv").write_text("a,b\nx,1.00\n")
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: sent(served, flood), range(1_000)))
        assert {answer.status_code for answer in answers} == {202}
        names = {answer.json()["name"] for answer in answers}
        assert len(names) == 1_000
        mine = sent(served, other).json()
        assert mine["place_in_queue"] <= 2
        assert flood.get(answers[-1].json()["links"]["self"]).json()["place_in_queue"] > 900
        listed, cursor = list[str](), None
        while True:
            page = flood.get("/v1/requests", params={"limit": 300, **({"cursor": cursor} if cursor else {})}).json()
            listed += [one["name"] for one in page["items"]]
            if (cursor := page["next"]) is None:
                break
        assert (len(listed), set(listed)) == (1_000, names)
        waiting = flood.get("/v1/requests", params={"limit": 1_000}).json()["items"]
        alone = {one["name"]: flood.get(one["links"]["self"]).json()["place_in_queue"] for one in waiting[::100]}
        assert {one["name"]: one["place_in_queue"] for one in waiting[::100]} == alone


def test_cancelled_where_it_waits_and_where_it_runs(served: w.Served) -> None:
    with served.client() as client:
        waits, runs = (sent(served, client).json()["name"] for _ in range(2))
        one = w.running_now(served, runs)
        served.service.claims.progress(one, "sorts", 40)
        shown = client.get(f"/v1/requests/{runs}").json()
        assert (shown["state"], shown["progress"]["percent"], shown["progress"]["what"]) == ("running", 40, "sorts")
        at_once, later = (client.post(f"/v1/requests/{name}/cancel") for name in (waits, runs))
        assert (at_once.status_code, at_once.json()["state"]) == (200, "cancelled")
        assert (later.status_code, later.json()["state"], later.json()["cancelling"]) == (202, "running", True)
        served.service.claims.cancelled(one)
        again = client.post(f"/v1/requests/{runs}/cancel")
        assert (again.status_code, again.json()["state"], again.json()["cancelling"]) == (200, "cancelled", False)
        assert "cancel" not in again.json()["links"]


def test_events_are_read_page_by_page_and_continued(served: w.Served) -> None:
    with served.client() as client:
        name = sent(served, client).json()["name"]
        one = w.running_now(served, name)
        for share in range(0, 100, 10):
            served.service.claims.progress(one, "works", share)
        found, cursor = list[dict[str, Any]](), None
        while (page := client.get(f"/v1/requests/{name}/events", params={"limit": 3, **({"cursor": cursor} if cursor else {})}).json())[
            "items"
        ]:
            found, cursor = [*found, *page["items"]], page["next"]
        assert found == client.get(f"/v1/requests/{name}/events", params={"limit": 1000}).json()["items"]
        assert [one["percent"] for one in found if one["percent"] is not None] == list(range(0, 100, 10))
        served.service.claims.progress(one, "works", 99)
        assert [one["percent"] for one in client.get(f"/v1/requests/{name}/events", params={"cursor": cursor}).json()["items"]] == [99]


def test_only_a_dead_request_is_opened_again(served: w.Served) -> None:
    with served.client() as client, served.client("finance", "admin") as admin:
        name = sent(served, client).json()["name"]
        path = f"/v1/requests/{name}/redrive"
        w.problem(admin.post(path, params={"reason": "again"}), 409, "not-dead")
        w.changed(served, name, state="dead")
        w.problem(admin.post(path), 422, "wrong-parameter")
        opened = admin.post(path, params={"reason": "the bucket\r\nis back"})
        assert (opened.status_code, opened.json()["state"]) == (202, "received")
        assert "is back" in client.get(f"/v1/requests/{name}/events").json()["items"][-1]["what"]


@pytest.mark.parametrize("state", ["received", "done"])
def test_the_list_of_one_state(served: w.Served, state: str) -> None:
    with served.client() as client:
        names = [sent(served, client).json()["name"] for _ in range(4)]
        for name in names[:2]:
            w.finished(served, name)
        found = client.get("/v1/requests", params={"state": state}).json()
        assert [one["name"] for one in found["items"]] == (names[1::-1] if state == "done" else names[:1:-1])


def test_a_result_in_s3_is_behind_a_link_of_s3(served: w.Served, monkeypatch: pytest.MonkeyPatch) -> None:
    signed = "https://bucket.s3.amazonaws.com/results/x/sums.csv?X-Amz-Signature=abc"
    monkeypatch.setattr("recon.service.results.Results.link", lambda self, one, name: signed)
    with served.client() as client:
        name = sent(served, client).json()["name"]
        w.finished(served, name)
        found = client.get(f"/v1/requests/{name}/results/sums.csv")
    assert (found.status_code, found.headers["location"]) == (302, signed)
