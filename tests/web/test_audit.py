"""The audit log has a line for each answer, and none says more than it should; figures and faults."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import web_site as w

from recon.web.audit import Audit


@pytest.fixture
def served(tmp_path: Path) -> Iterator[w.Served]:
    with w.served_here(tmp_path) as found:
        yield found


def test_every_answer_but_health_and_figures_is_a_line(served: w.Served) -> None:
    with served.client() as client, served.anyone() as anyone:
        name = w.submitted(client, served.folder).json()["name"]
        upload = client.post("/v1/uploads", params={"name": "a.csv"}, content=b"a\n").json()["name"]
        client.get(f"/v1/requests/{name}")
        client.get("/v1/breaks")
        anyone.get(f"/v1/requests/{name}")
        anyone.get("/v1/nothing")
        anyone.put("/v1/requests")
        client.get("/v1/requests", params={"unknown": 1})
        for path in ("/health/live", "/health/ready", "/metrics"):
            assert anyone.get(path).status_code == 200
    start, *lines = served.audit()
    assert start["event"] == "start"
    own = {"owner": "finance", "token": 1}
    nobody = {"owner": None, "token": None}
    assert [{key: value for key, value in line.items() if key != "time"} for line in lines] == [
        {**own, "method": "POST", "route": "/v1/requests", "status": 202, "request": name},
        {**own, "method": "POST", "route": "/v1/uploads", "status": 201, "request": upload},
        {**own, "method": "GET", "route": "/v1/requests/{name}", "status": 200, "request": name},
        {**own, "method": "GET", "route": "/v1/breaks", "status": 403, "request": None},
        {**nobody, "method": "GET", "route": "/v1/requests/{name}", "status": 401, "request": None},
        {**nobody, "method": "GET", "route": None, "status": 404, "request": None},
        {**nobody, "method": "PUT", "route": "/v1/requests", "status": 405, "request": None},
        {**nobody, "method": "GET", "route": "/v1/requests", "status": 422, "request": None},
    ]


def test_no_token_link_or_path_is_in_it(served: w.Served) -> None:
    wrong = "recon_" + "x" * 43
    with served.client() as client, served.anyone() as anyone:
        name = w.submitted(client, served.folder).json()["name"]
        w.finished(served, name)
        link = client.get(f"/v1/requests/{name}/results/sums.csv").headers["location"]
        client.get(link)
        anyone.get("/v1/requests", headers={"Authorization": f"Bearer {wrong}"})
        client.get(f"/v1/{served.token()}", params={"token": served.token()})
        client.get("/v1/artifacts/secret-key")
    text = (served.folder / ".recon" / "audit.jsonl").read_text()
    for secret in (served.token(), wrong, link.rpartition("/")[2], "secret-key", "sums.csv"):
        assert secret not in text
    assert [line["owner"] for line in served.audit() if line.get("route") == "/v1/results/{signed}"] == ["finance"]


def test_control_characters_make_no_line(tmp_path: Path) -> None:
    audit = Audit(tmp_path / "audit.jsonl")
    audit.add({"owner": 'a\r\n{"owner": "forged"}\x00\u2028\x85'})
    assert (tmp_path / "audit.jsonl").read_bytes().count(b"\n") == 2
    assert (tmp_path / "audit.jsonl").read_bytes().isascii()
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o077 == 0


def test_the_log_may_be_moved_away(served: w.Served) -> None:
    with served.client() as client:
        client.get("/v1/requests")
        (served.folder / ".recon" / "audit.jsonl").rename(served.folder / "old.jsonl")
        client.get("/v1/requests")
    assert len(served.audit()) == 1


def test_nothing_is_answered_that_cannot_be_noted(served: w.Served) -> None:
    file = served.folder / ".recon" / "audit.jsonl"
    file.unlink()
    file.mkdir()
    with served.client() as client:
        found = client.get("/v1/requests")
        w.problem(found, 503, "may-pass")
        assert found.headers["retry-after"]
        assert client.get("/health/live").status_code == 200
        file.rmdir()
        assert client.get("/v1/requests").status_code == 200


def test_figures_count_answers_and_requests_and_name_no_owner(served: w.Served) -> None:
    with served.client() as client, served.anyone() as anyone:
        names = [w.submitted(client, served.folder).json()["name"] for _ in range(3)]
        w.finished(served, names[0])
        client.request("BREW", "/v1/requests")
        text = anyone.get("/metrics").text
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert lines['recon_http_answers_total{method="POST",route="/v1/requests",status="202"}'] == "3.0"
    assert lines['recon_http_answers_total{method="other",route="/v1/requests",status="405"}'] == "1.0"
    assert lines['recon_requests{lane="small",state="received"}'] == "2.0"
    assert lines['recon_requests{lane="small",state="done"}'] == "1.0"
    assert not {"finance", *names} & set(text.replace('"', " ").split())


def test_not_ready_without_a_store_or_a_database(served: w.Served, monkeypatch: pytest.MonkeyPatch) -> None:
    with served.anyone() as anyone:
        assert anyone.get("/health/ready").json() == {"ok": True}
        for broken in ("recon.database.Database.clock", "recon.storage.local.LocalStore.size"):
            with monkeypatch.context() as patch:
                patch.setattr(broken, _away)
                found = anyone.get("/health/ready")
                w.problem(found, 503, "may-pass")
                assert found.headers["retry-after"]
                assert anyone.get("/health/live").json() == {"ok": True}


def _away(*given: object) -> None:
    raise OSError("disk full at /secret/place")


def test_a_store_that_fails_stores_nothing_and_says_so(served: w.Served) -> None:
    results = served.folder / ".recon" / "results"
    with served.client() as client:
        assert client.post("/v1/uploads", params={"name": "a.csv"}, content=b"a\n").status_code == 201
        results.rename(served.folder / "away")
        results.write_text("no folder")
        found = client.post("/v1/uploads", params={"name": "a.csv"}, content=b"a\n")
        assert found.status_code in (500, 503)
        assert "results" not in found.text
        results.unlink()
        (served.folder / "away").rename(results)
        assert client.post("/v1/uploads", params={"name": "a.csv"}, content=b"a\n").status_code == 201


def test_answers_cannot_be_framed_run_or_kept(served: w.Served) -> None:
    with served.client() as client:
        found: list[httpx.Response] = [client.get("/v1/requests"), client.get("/v1/nothing"), client.get("/health/live")]
    for one in found:
        assert one.headers["x-content-type-options"] == "nosniff"
        assert one.headers["cache-control"] == "no-store"
        assert one.headers["content-security-policy"].startswith("default-src 'none'")
        assert "server" not in one.headers


def test_no_page_with_documentation_is_served(served: w.Served) -> None:
    with served.anyone() as anyone:
        for path in ("/docs", "/redoc", "/openapi.json", "/", "/v1", "/v1/requests/"):
            w.problem(anyone.get(path), 404, "not-found")
        assert anyone.get("/v1/openapi.json").json()["openapi"].startswith("3.")
