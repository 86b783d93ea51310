"""Bodies and bytes that no good client sends: each is answered with a problem, stores nothing, and leaves the server as it was."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import web_site as w
from raw_http import answer, connection, exchange, received
from service_site import sums

from recon.web import guard, protocol

JSON = {"Content-Type": "application/json"}
MAX = 1_000_000


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[w.Served]:
    with w.served_here(tmp_path_factory.mktemp("site")) as found:
        (found.folder / "in" / "t.csv").write_text("a,b\nx,1.00\n")
        yield found


@pytest.fixture
def client(served: w.Served) -> Iterator[httpx.Client]:
    """A client; afterwards no request is there, and the server answers."""
    with served.client("finance", "submit", "read-own") as found:
        yield found
        assert found.get("/v1/requests").json() == {"items": [], "next": None}
        assert found.get("/health/live").status_code == 200


def head(served: w.Served, *lines: str, path: str = "/v1/requests", method: str = "POST") -> bytes:
    """The head of a request with a token."""
    common = [f"{method} {path} HTTP/1.1", "Host: recon", f"Authorization: Bearer {served.token()}", "Content-Type: application/json"]
    return "\r\n".join([*common, *lines, "", ""]).encode("latin-1")


def good(served: w.Served) -> dict[str, Any]:
    return dict(json.loads(sums(f"{served.folder}/in/t.csv")))


def padded(size: int) -> bytes:
    """A JSON object of so many bytes."""
    return b'{"inputs":"' + b"x" * (size - 13) + b'"}'


def test_a_body_of_1_mb_is_read_and_one_byte_more_is_not(client: httpx.Client) -> None:
    w.problem(client.post("/v1/requests", content=padded(MAX), headers=JSON), 422, "wrong-request")
    w.problem(client.post("/v1/requests", content=padded(MAX + 1), headers=JSON), 413, "too-large")


def test_a_large_body_without_its_length(client: httpx.Client) -> None:
    pieces = (b"x" * 100_000 for _ in range(11))
    w.problem(client.post("/v1/requests", content=pieces, headers=JSON), 413, "too-large")


def test_a_body_that_has_no_end_is_cut_off(served: w.Served, client: httpx.Client) -> None:
    with connection(served.url) as sending:
        sending.sendall(head(served, "Transfer-Encoding: chunked"))
        chunk, sent = b"10000\r\n" + b"x" * 65_536 + b"\r\n", 0
        try:
            while sent < 200_000_000:
                sending.sendall(chunk)
                sent += len(chunk)
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert sent < 100_000_000


def test_a_client_that_asks_before_it_sends_is_told_not_to(served: w.Served, client: httpx.Client) -> None:
    status, headers, found = answer(exchange(served.url, [head(served, f"Content-Length: {MAX + 1}", "Expect: 100-continue")]))
    assert (status, found["code"], headers["connection"]) == (413, "too-large", "close")


@pytest.mark.parametrize("path", ["/v1/requests", "/v1/requests/x/cancel", "/v1/nothing"])
def test_a_large_body_without_a_token(served: w.Served, client: httpx.Client, path: str) -> None:
    with served.anyone() as anyone:
        assert anyone.post(path, content=padded(3 * MAX), headers=JSON).status_code in (401, 404)


@pytest.mark.parametrize("depth", [21, 64, 400_000])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_json_that_is_nested_deep(client: httpx.Client, depth: int, opening: bytes, closing: bytes) -> None:
    depth = min(depth, (MAX - 100) // len(opening + closing))
    body = b'{"operations":' + opening * depth + b"1" + closing * depth + b"}"
    found = w.problem(client.post("/v1/requests", content=body, headers=JSON), 422, "wrong-request")
    assert "nested" in found["detail"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"inputs":', b"[]", b"1", b"null", b'"x"', b"\xff\xfe", b'{"a":1,"a":2}', b"{} {}", b'{"inputs": NaN}', b"\x00", b"{}"],
)
def test_a_body_that_is_no_request(client: httpx.Client, body: bytes) -> None:
    w.problem(client.post("/v1/requests", content=body, headers=JSON), 422, "wrong-request")


@pytest.mark.parametrize("kind", [None, "text/plain", "application/json; charset=latin-1", "multipart/form-data; boundary=x"])
def test_a_body_of_another_type(served: w.Served, client: httpx.Client, kind: str | None) -> None:
    body = json.dumps(good(served)).encode()
    headers = {} if kind is None else {"Content-Type": kind}
    w.problem(client.post("/v1/requests", content=body, headers=headers), 415, "wrong-type")


def test_a_body_that_is_compressed(served: w.Served, client: httpx.Client) -> None:
    body = gzip.compress(json.dumps(good(served)).encode())
    for path, kind in (("/v1/requests", "application/json"), ("/v1/uploads?name=a.csv", "application/octet-stream")):
        headers = {"Content-Type": kind, "Content-Encoding": "gzip"}
        w.problem(client.post(path, content=body, headers=headers), 415, "wrong-type")


@pytest.mark.parametrize("count", [1_001, 10_000])
def test_10_000_operations(served: w.Served, client: httpx.Client, count: int) -> None:
    operation = {"limit": {"table": "t", "rows": 5}}
    found = w.problem(client.post("/v1/requests", json={**good(served), "operations": [operation] * count}), 422, "wrong-request")
    assert "1000" in found["detail"].replace(",", "")


def test_each_error_names_its_operation_and_field(served: w.Served, client: httpx.Client) -> None:
    wrong = {**good(served), "operations": [{"limit": {"table": "t", "rows": 5}}, {"sort": {"table": "t", "bye": ["a"]}}]}
    found = w.problem(client.post("/v1/requests", json=wrong), 422, "wrong-request")
    assert (found["operation"], found["field"]) == (2, "bye")
    found = w.problem(
        client.post("/v1/requests", json={**good(served), "outputs": [{"table": "t", "path": "a.pdf"}]}), 422, "wrong-request"
    )
    assert found["field"] == "outputs[0].path"


@pytest.mark.parametrize("name", ["engine", "spark", "memory_limit", "certificate"])
def test_what_the_service_chooses(served: w.Served, client: httpx.Client, name: str) -> None:
    found = w.problem(client.post("/v1/requests", json={**good(served), name: "x"}), 422, "not-offered")
    assert found["field"] == name


def test_a_body_that_is_shorter_than_it_says(served: w.Served, client: httpx.Client) -> None:
    body = json.dumps(good(served)).encode()
    assert exchange(served.url, [head(served, f"Content-Length: {len(body) + 10}"), body], shut=True) == b""


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET /\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
        b"POST /v1/requests HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nxxxxx",
        b"POST /v1/requests HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/requests HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xx\r\n\r\n",
    ],
)
def test_bytes_that_are_no_http(served: w.Served, client: httpx.Client, sent: bytes) -> None:
    status, headers, found = answer(exchange(served.url, [sent]))
    assert (headers["content-type"], headers["connection"]) == ("application/problem+json", "close")
    assert (status, found["code"]) == (400, "malformed")


def test_a_chunk_that_is_none(served: w.Served, client: httpx.Client) -> None:
    found = exchange(served.url, [head(served, "Transfer-Encoding: chunked"), b"zz\r\nxxxx\r\n"])
    assert answer(found)[0] == 400


def test_length_and_chunks_together_make_one_request(served: w.Served, client: httpx.Client) -> None:
    """Whichever a proxy goes by: what lies behind the last chunk is not taken for a request of the same connection."""
    inner = b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"
    sent = head(served, "Transfer-Encoding: chunked", f"Content-Length: {len(inner) + 5}") + b"0\r\n\r\n" + inner
    assert exchange(served.url, [sent]).count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("path", ["/v1/requests", "/v1/uploads?name=a.csv"])
def test_a_body_that_comes_slowly(served: w.Served, client: httpx.Client, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setattr(guard, "PAUSE_S", 0.2)
    monkeypatch.setattr(guard, "DRAIN_S", 0.2)
    status, headers, found = answer(exchange(served.url, [head(served, "Content-Length: 100", path=path), b'{"inputs"']))
    assert (status, found["code"], headers["connection"]) == (408, "too-slow", "close")


def test_a_body_that_never_pauses_and_never_ends(served: w.Served, client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_S", 0.5)
    monkeypatch.setattr(guard, "PAUSE_S", 10_000.0)
    monkeypatch.setattr(guard, "DRAIN_S", 0.2)

    def drops() -> Iterator[bytes]:
        yield head(served, "Content-Length: 100000")
        end = time.monotonic() + 30
        while time.monotonic() < end:  # the server closes the connection long before
            time.sleep(0.05)
            yield b" "

    assert answer(exchange(served.url, drops()))[0] == 408


def test_headers_that_come_slowly(served: w.Served, client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = b"GET /health/live HTTP/1.1\r\nHost: recon\r\n"
    with connection(served.url) as used:
        used.sendall(begun + b"\r\n")
        assert received(used, b'{"ok":true}').startswith(b"HTTP/1.1 200")
        monkeypatch.setattr(protocol, "HEADERS_S", 0.3)
        used.sendall(begun)  # on a connection that has had an answer
        assert answer(received(used))[0] == 408
    for sent in (b"", begun):
        assert answer(exchange(served.url, [sent]))[0] == 408


def test_more_at_once_than_are_answered(served: w.Served, client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "AT_ONCE", 1)
    with connection(served.url) as sending:
        sending.sendall(head(served, "Content-Length: 10"))
        while (found := client.get("/health/live")).status_code != 503:
            time.sleep(0.01)
        w.problem(found, 503, "busy")
        assert found.headers["retry-after"]


def test_a_client_that_reads_nothing_keeps_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with w.served_here(tmp_path) as served, served.client() as client:
        name = w.submitted(client, tmp_path).json()["name"]
        w.finished(served, name, b"x" * 50_000_000)
        link = client.get(f"/v1/requests/{name}/results/sums.csv").headers["location"]
        monkeypatch.setattr(guard, "SEND_S", 0.5)
        monkeypatch.setattr(guard, "AT_ONCE", 1)
        with connection(served.url) as silent:
            silent.sendall(f"GET {link} HTTP/1.1\r\nHost: recon\r\n\r\n".encode())
            assert received(silent, b"200 OK")
            end = time.monotonic() + w.WAIT_S
            while client.get("/health/live").status_code != 200:
                assert time.monotonic() < end
                time.sleep(0.05)


def test_a_fault_shows_nothing_of_the_inside(
    served: w.Served, client: httpx.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*given: object) -> None:
        raise RuntimeError("password=secret\nINFO forged")

    monkeypatch.setattr("recon.service.requests.Requests.all", broken)
    found = w.problem(client.get("/v1/requests"), 500, "internal")
    monkeypatch.undo()
    number = found["detail"].split()[-1]
    assert "secret" not in json.dumps(found)
    assert any(number in record.getMessage() and record.exc_info for record in caplog.records)


def test_an_upload_is_cut_off_at_its_limit(tmp_path: Path) -> None:
    with w.served_here(tmp_path, upload_max="1MB") as served, served.client() as client:
        taken = client.post("/v1/uploads", params={"name": "a.csv"}, content=b"x" * 1_000_000)
        assert (taken.status_code, taken.json()["bytes"]) == (201, 1_000_000)
        w.problem(client.post("/v1/uploads", params={"name": "a.csv"}, content=b"x" * 1_000_001), 413, "too-large")
        w.problem(client.post("/v1/uploads", params={"name": "a.csv"}, content=iter([b"x" * 600_000] * 2)), 413, "too-large")
        assert len([path for path in (tmp_path / ".recon" / "results").rglob("uploads/*") if path.is_dir()]) == 1


def test_an_upload_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    with w.served_here(tmp_path) as served, served.client() as client:
        with connection(served.url) as sending:
            sending.sendall(head(served, "Content-Length: 1000000", path="/v1/uploads?name=a.csv") + b"x" * 100_000)
        assert client.post("/v1/uploads", params={"name": "b.csv"}, content=b"x").status_code == 201
        folder, end = tmp_path / ".recon" / "results", time.monotonic() + w.WAIT_S
        while len(left := [path for path in folder.rglob("*") if path.is_file()]) > 1:
            assert time.monotonic() < end, left
            time.sleep(0.05)
