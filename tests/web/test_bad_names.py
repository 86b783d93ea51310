"""Paths, names, tokens and links that others have, that lead elsewhere, or that say more than a name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import web_site as w
from itsdangerous import TimestampSigner
from raw_http import answer, exchange
from service_site import sums

from recon.database.tables import TOKENS

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[w.Served]:
    folder = tmp_path_factory.mktemp("site")
    (folder / "secret").mkdir()
    (folder / "secret" / "t.csv").write_text("a,b\nx,1.00\n")
    with w.served_here(folder) as found:
        (folder / "in" / "t.csv").write_text("a,b\nx,1.00\n")
        (folder / "in" / "link.csv").symlink_to(folder / "secret" / "t.csv")
        (folder / "in" / "below").symlink_to(folder / "secret")
        yield found


@pytest.fixture
def client(served: w.Served) -> Iterator[httpx.Client]:
    with served.client() as found:
        yield found


def asked(client: httpx.Client, path: str, output: str = "sums.csv") -> httpx.Response:
    return client.post("/v1/requests", content=sums(path, output), headers=JSON)


NOT_PERMITTED = [
    *("file:///etc/passwd", "file://localhost/etc/passwd", "/etc/passwd", "//host/share/t.csv", "\\\\host\\share\\t.csv"),
    *("in/t.csv", "./in/t.csv", "../t.csv", "{in}/../secret/t.csv", "{in}/./t.csv", "{in}//t.csv", "{in}/..", "{in}x/t.csv"),
    *(
        "s3://of-others/t.csv",
        "s3://",
        "S3://bucket/t.csv",
        "http://127.0.0.1/t.csv",
        "https://host/t.csv",
        "{in}/t.csv\x00",
        "{in}\\t.csv",
    ),
    *(
        "{in}/**/t.csv",
        "{in}/*/t.csv",
        "{in}/\n.csv",
        "{in}/%2e%2e/secret/../t.csv",
        "/proc/self/environ",
        "/dev/stdin",
        "~/t.csv",
        "$HOME/t.csv",
    ),
]


@pytest.mark.parametrize("path", NOT_PERMITTED)
def test_an_input_that_is_no_place_of_the_owner(served: w.Served, client: httpx.Client, path: str) -> None:
    found = w.problem(asked(client, path.replace("{in}", str(served.folder / "in"))), 403, "not-permitted")
    assert found["field"] == "inputs.t.path"


@pytest.mark.parametrize(
    "path", ["{in}/link.csv", "{in}/below/t.csv", "{in}/nothing.csv", "{in}/nothing*.csv", "upload:nothing", "upload:" + "0" * 32]
)
def test_an_input_that_is_not_there_or_a_link(served: w.Served, client: httpx.Client, path: str) -> None:
    w.problem(asked(client, path.replace("{in}", str(served.folder / "in"))), 422, "no-such-input")


@pytest.mark.parametrize(
    "path", [path for path in NOT_PERMITTED if path.endswith(".csv") and path.startswith(("file", "/", "{", "s3", "http"))]
)
def test_an_output_that_is_no_place_of_the_owner(served: w.Served, client: httpx.Client, path: str) -> None:
    inner = served.folder / "in"
    answered = asked(client, f"{inner}/t.csv", path.replace("{in}", str(inner)))
    assert answered.status_code in (403, 422)
    assert answered.json()["field"] == "outputs[0].path"


@pytest.mark.parametrize(
    "name",
    [
        "=1+1.csv",
        "+1.csv",
        "-1.csv",
        "@a.csv",
        "=cmd|'/C calc'!A0.csv",
        '".csv',
        "a\r\nb.csv",
        "..csv",
        ".csv",
        "a/b.csv",
        "ä.csv",
        "x" * 200 + ".csv",
    ],
)
def test_a_formula_or_worse_as_a_name(served: w.Served, client: httpx.Client, name: str) -> None:
    answered = asked(client, f"{served.folder}/in/t.csv", name)
    assert (answered.status_code, answered.headers["content-type"]) in (
        (422, "application/problem+json"),
        (403, "application/problem+json"),
    )
    w.problem(client.post("/v1/uploads", params={"name": name}, content=b"a\n"), 422, "wrong-parameter")


def test_two_results_with_one_name(served: w.Served, client: httpx.Client) -> None:
    body = json.loads(sums(f"{served.folder}/in/t.csv"))
    body["outputs"] = [{"table": "t", "path": "a.csv"}, {"table": "t", "path": "A.csv"}]
    w.problem(client.post("/v1/requests", json=body), 422, "wrong-request")
    body["outputs"] = [{"table": "t", "path": "certificate.json", "format": "csv"}]
    w.problem(client.post("/v1/requests", json=body), 422, "wrong-request")


def test_anothers_upload_is_not_there(served: w.Served, client: httpx.Client) -> None:
    with served.client("sales") as other:
        name = other.post("/v1/uploads", params={"name": "a.csv"}, content=b"a,b\nx,1\n").json()["name"]
    theirs = w.problem(asked(client, f"upload:{name}"), 422, "no-such-input")
    nothing = w.problem(asked(client, f"upload:{'0' * 32}"), 422, "no-such-input")
    assert theirs["detail"].replace(name, "0" * 32) == nothing["detail"]


def test_data_of_the_reconciliation_need_the_role(served: w.Served, client: httpx.Client) -> None:
    body: dict[str, Any] = {"inputs": {"t": {"from": "artifacts"}}, "outputs": [{"table": "t", "path": "a.csv"}]}
    found = w.problem(client.post("/v1/requests", json=body), 403, "not-permitted")
    assert found["field"] == "inputs.t.from"


@pytest.mark.parametrize(
    "given",
    [
        *(
            "",
            "Bearer",
            "Bearer x",
            "Basic eDp5",
            "recon_x",
            "Bearer {token}x",
            "Bearer x{token}",
            "Bearer {token} {token}",
            "Bearer {upper}",
        ),
        *(
            "Bearer {token}, Bearer {token}",
            "Token {token}",
            "Bearer ' OR 1=1 --",
            "Bearer " + "x" * 10_000,
            "Bearer {digest}",
        ),
    ],
)
def test_a_wrong_token(served: w.Served, given: str) -> None:
    token = served.token()
    with served.service.database.read() as connection:
        digest = connection.scalar(TOKENS.select().with_only_columns(TOKENS.c.digest).limit(1))
    text = given.replace("{token}", token).replace("{upper}", token.upper()).replace("{digest}", str(digest))
    with served.anyone() as anyone:
        found = anyone.get("/v1/requests", headers={"Authorization": text} if text else {})
    w.problem(found, 401, "not-logged-in")
    assert found.headers["www-authenticate"].startswith("Bearer")


def test_two_tokens_in_one_request(served: w.Served) -> None:
    line = f"Authorization: Bearer {served.token()}\r\n"
    sent = f"GET /v1/requests HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{line}{line}\r\n".encode()
    assert answer(exchange(served.url, [sent]))[0] == 401


def test_a_token_that_expired_or_was_withdrawn(served: w.Served) -> None:
    with served.anyone() as anyone:
        for change in ("expire", "withdraw"):
            text = served.service.tokens.add("finance", ["read-own"], timedelta(days=1))
            headers = {"Authorization": f"Bearer {text}"}
            assert anyone.get("/v1/requests", headers=headers).status_code == 200
            one = served.service.tokens.all()[-1]
            if change == "withdraw":
                served.service.tokens.withdraw(one.id)
            else:
                with served.service.database.write() as connection:
                    connection.execute(TOKENS.update().where(TOKENS.c.id == one.id).values(expires_at=one.made_at))
            w.problem(anyone.get("/v1/requests", headers=headers), 401, "not-logged-in")


def test_a_header_that_names_an_owner_counts_only_where_it_is_configured(served: w.Served, tmp_path: Path) -> None:
    with served.anyone() as anyone:
        for header in ("X-Recon-Owner", "X-Forwarded-User", "X-Remote-User", "Remote-User"):
            assert anyone.get("/v1/requests", headers={header: "finance"}).status_code == 401
    with w.served_here(tmp_path, oidc_header="X-Recon-Owner") as proxied, proxied.anyone() as anyone:
        assert w.submitted(anyone, tmp_path, **{"X-Recon-Owner": "finance"}).json()["owner"] == "finance"
        assert anyone.get("/v1/requests", headers={"X-Recon-Owner": "sales"}).json()["items"] == []
        w.problem(anyone.get("/v1/breaks", headers={"X-Recon-Owner": "finance"}), 403, "not-permitted")
        for wrong in ({}, {"X-Recon-Owner": "nobody"}, {"X-Recon-Owner": ""}, {"X-Recon-Owner": "finance, sales"}):
            w.problem(anyone.get("/v1/requests", headers=wrong), 401, "not-logged-in")
        w.problem(anyone.get("/v1/requests", headers={"X-Recon-Owner": "finance", "Authorization": "Bearer x"}), 401, "not-logged-in")
        twice = b"GET /v1/requests HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Recon-Owner: sales\r\nX-Recon-Owner: finance\r\n\r\n"
        assert answer(exchange(proxied.url, [twice]))[0] == 401


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "\x00", "a b", "ä", "", "x" * 256])
def test_a_key_that_is_no_line(served: w.Served, client: httpx.Client, value: str) -> None:
    sent = sums(f"{served.folder}/in/t.csv")
    head = f"POST /v1/requests HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer {served.token()}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(sent)}\r\nIdempotency-Key: {value}\r\n\r\n"
    before = len(client.get("/v1/requests").json()["items"])
    status, headers, _ = answer(exchange(served.url, [head.encode(), sent]))
    assert "x-evil" not in headers
    if value.startswith("a\r\n"):
        assert status == 202  # the client sent two headers, which is its right
        return
    assert status in (400, 422)
    assert len(client.get("/v1/requests").json()["items"]) == before


@pytest.mark.parametrize(
    "path", ["/v1/requests/%0d%0aX-Evil:1", "/v1/artifacts/%0d%0aX-Evil:%201", "/%0d%0aSet-Cookie:a", "/v1/results/%0d%0a"]
)
def test_line_ends_in_a_path(served: w.Served, path: str) -> None:
    with served.client("finance", "read-all") as client:
        found = client.get(path)
    w.problem(found, 404, "not-found")
    assert not {"x-evil", "set-cookie"} & set(found.headers)


@pytest.mark.parametrize(
    "query",
    [
        "unknown=1",
        "state=none",
        "state=done&state=dead",
        "limit=0",
        "limit=1001",
        "limit=x",
        "cursor=x",
        "cursor=r0",
        "cursor=r" + "9" * 19,
    ],
)
def test_a_parameter_that_is_wrong(client: httpx.Client, query: str) -> None:
    found = w.problem(client.get(f"/v1/requests?{query}"), 422, "wrong-parameter")
    assert found["field"] == query.partition("=")[0]


def test_a_link_that_was_changed_by_a_byte(served: w.Served, client: httpx.Client, tmp_path: Path) -> None:
    with w.served_here(tmp_path) as lasting, lasting.client() as owner, lasting.anyone() as anyone:
        name = w.submitted(owner, tmp_path).json()["name"]
        w.finished(lasting, name, b"a,total\nx,1\n")
        link = owner.get(f"/v1/requests/{name}/results/sums.csv").headers["location"].rpartition("/")[2]
        assert anyone.get(f"/v1/results/{link}").content == b"a,total\nx,1\n"
        for place in range(len(link)):
            changed = link[:place] + ("A" if link[place] != "A" else "B") + link[place + 1 :]
            w.problem(anyone.get(f"/v1/results/{changed}"), 404, "not-found")
        for other in (link[:-1], link + "A", link.partition(".")[0], link.replace(".", "")):
            w.problem(anyone.get(f"/v1/results/{other}"), 404, "not-found")
        opened = [line for line in lasting.audit() if line.get("route") == "/v1/results/{signed}"]
        assert {(line["status"], line["owner"]) for line in opened} == {(200, "finance"), (404, None)}


def test_a_link_is_valid_for_an_hour(served: w.Served, client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    name, now = w.submitted(client, served.folder).json()["name"], TimestampSigner.get_timestamp
    w.finished(served, name)
    link = client.get(f"/v1/requests/{name}/results/sums.csv").headers["location"]
    monkeypatch.setattr(TimestampSigner, "get_timestamp", lambda self: now(self) + 3590)
    assert client.get(link).status_code == 200
    monkeypatch.setattr(TimestampSigner, "get_timestamp", lambda self: now(self) + 3610)
    w.problem(client.get(link), 404, "not-found")


def test_a_result_that_is_none(served: w.Served, client: httpx.Client) -> None:
    name = w.submitted(client, served.folder).json()["name"]
    w.problem(client.get(f"/v1/requests/{name}/results/sums.csv"), 404, "not-found")
    w.finished(served, name)
    for output in ("other.csv", "SUMS.CSV", "sums.csv%00", "%2e%2e%2fservice.key"):
        w.problem(client.get(f"/v1/requests/{name}/results/{output}"), 404, "not-found")
