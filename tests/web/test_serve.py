"""recon serve with its worker: submitted, waited for, collected; it ends with all that it started."""

from __future__ import annotations

from pathlib import Path

import web_site as w


def test_a_request_from_its_file_to_its_result(tmp_path: Path) -> None:
    with w.served(tmp_path) as served, served.client() as client:
        upload = client.post("/v1/uploads", params={"name": "sales.csv"}, content=b"a,b\nx,1.10\ny,2.00\nx,0.05\n")
        assert upload.status_code == 201
        answer = client.post("/v1/requests", content=w.sums(upload.json()["path"]), headers={"Content-Type": "application/json"})
        assert answer.status_code == 202
        assert answer.headers["location"] == f"/v1/requests/{answer.json()['name']}"
        done = w.ended(client, answer.json()["name"])
        assert (done["state"], done["problem"], done["place_in_queue"], done["cancelling"]) == ("done", None, None, False)
        assert {one["name"] for one in done["results"]} == {"sums.csv", "certificate.json"}
        link = client.get(next(one["link"] for one in done["results"] if one["name"] == "sums.csv"))
        assert link.status_code == 302
        with served.anyone() as anyone:
            result = anyone.get(link.headers["location"])
        assert (result.status_code, result.content) == (200, b"a,total\nx,1.15\ny,2.00\n")
        assert result.headers["content-disposition"] == 'attachment; filename="sums.csv"'
        assert result.headers["x-content-type-options"] == "nosniff"
        states = [one["state"] for one in client.get(done["links"]["events"]).json()["items"]]
        assert states[0] == "received"
        assert states[-1] == "done"
        failed = client.post(
            "/v1/requests",
            content=w.sums("upload:" + upload.json()["name"]).replace(b'"b"}', b'"c"}'),
            headers={"Content-Type": "application/json"},
        )
        found = w.ended(client, failed.json()["name"])
        assert (found["state"], found["problem"]["code"], found["problem"]["operation"]) == ("failed", "wrong-request", 1)
