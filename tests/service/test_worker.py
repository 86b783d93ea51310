"""Requests from their submission to their results, in processes of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import service_site as s

from recon.service.worker import Worker

pytestmark = pytest.mark.usefixtures("queue")


def _work(service: s.Service) -> None:
    Worker(service, say=lambda line: None).work(for_s=60, idle_s=1.5)


def test_a_request_of_a_folder(tmp_path: Path) -> None:
    service = s.service_in(tmp_path)
    (tmp_path / "in" / "sales.csv").write_text("a,b\nx,1.10\ny,2.00\nx,0.05\n")
    one, new = service.submit(s.holder(service), s.sums(f"{tmp_path}/in/sales.csv", f"{tmp_path}/out/month/sums.csv"))
    assert (new, one.state, one.lane, service.requests.place(one)) == (True, "received", "small", 1)
    _work(service)
    done = s.now(service, one)
    assert (done.state, done.reason, done.tries) == ("done", "", 1)
    assert [event.state for event in service.requests.events(done) if event.share is None] == ["received", "queued", "running"]
    assert (tmp_path / "out" / "month" / "sums.csv").read_text() == "a,total\nx,1.15\ny,2.00\n"
    found = service.results.open(service.results.link(done, "sums.csv"))
    assert found is not None
    assert b"".join(found[2]) == b"a,total\nx,1.15\ny,2.00\n"
    certificate = service.results.open(service.results.link(done, "certificate.json"))
    assert certificate is not None
    inputs = json.loads(b"".join(certificate[2]))["inputs"]
    assert [each["path"] for each in inputs] == [f"{tmp_path}/in/sales.csv"]


def test_a_request_of_an_upload_that_is_wrong(tmp_path: Path) -> None:
    service = s.service_in(tmp_path)
    who = s.holder(service)
    upload = service.uploads.add(who, "sales.csv", [b"a,b\n", b"x,1.10\n"])
    wrong, _ = service.submit(who, s.sums(f"upload:{upload.name}").replace(b'"b"}', b'"bb"}'))
    right, _ = service.submit(who, s.sums(f"upload:{upload.name}"))
    _work(service)
    failed = s.now(service, wrong)
    assert (failed.state, failed.problem["code"], failed.problem["operation"], failed.tries) == ("failed", "wrong-request", 1, 1)
    assert "column 'bb' is not in 't'; did you mean 'b'?" in failed.reason
    assert s.now(service, right).state == "done"


def test_a_worker_of_one_request_says_what_it_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recon.service.worker.BEAT_S", 0.0)
    service = s.service_in(tmp_path)
    (tmp_path / "in" / "sales.csv").write_text("a,b\nx,1.10\n")
    one, _ = service.submit(s.holder(service), s.sums(f"{tmp_path}/in/sales.csv"))
    lines = list[str]()
    Worker(service, only=one.name, say=lines.append).work(for_s=60, idle_s=5)
    assert lines[0] == f"request {one.name}: running: try 1"
    assert lines[-1] == f"request {one.name}: done"
    assert len(lines) == len(set(lines))
