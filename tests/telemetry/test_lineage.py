"""OpenLineage events of the stages, as a backend on the loopback receives them; a backend that is away keeps no run from its end."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lineage_events import check_types, datasets, statistics
from loopback_http import Posts
from small_reconciliation import landed, made, refuse_to_merge, run, window

import recon
from recon.api import Reconciliation
from recon.errors import WrongUsage
from recon.stages.pipeline import STAGES
from recon.telemetry import lineage
from recon.telemetry.datasets import dataset_of
from recon.telemetry.lineage_backend import backend_of
from recon_assets.partitions import range_tags


def reported(opened: Reconciliation, backend: Posts, more: str = "") -> Reconciliation:
    """The reconciliation with this backend."""
    path = opened.config.path
    path.write_text(f"{path.read_text()}\nobservability: {{lineage: {{url: {backend.url}{more}}}}}\n")
    return recon.open(path)


def of(backend: Posts, stage: str, kind: str = "COMPLETE") -> dict[str, Any]:
    """The one event of a stage."""
    (found,) = [event for event in backend.taken if event["job"]["name"] == f"orders.{stage}" and event["eventType"] == kind]
    return dict(found)


def test_each_stage_reports_its_beginning_and_its_end_with_what_it_read_and_wrote(tmp_path: Path, backend: Posts) -> None:
    opened = reported(made(tmp_path, hours=2), backend)
    report = opened.run()
    for event in backend.taken:
        check_types(event)
        assert event["job"]["namespace"] == "recon"
        assert event["producer"] == "urn:dagster-recon"
        assert event["run"]["facets"]["nominalTime"]["nominalStartTime"] == "2026-11-01T00:00:00.000Z"
        assert event["run"]["facets"]["nominalTime"]["nominalEndTime"] == "2026-11-01T02:00:00.000Z"
    assert [(event["job"]["name"], event["eventType"]) for event in backend.taken] == [
        (f"orders.{stage}", kind) for stage in STAGES for kind in ("START", "COMPLETE")
    ]
    runs = [event["run"]["runId"] for event in backend.taken]
    assert runs[::2] == runs[1::2]
    assert len(set(runs)) == len(STAGES)
    parents = [event["run"]["facets"]["parent"] for event in backend.taken]
    assert len({parent["run"]["runId"] for parent in parents}) == 1
    assert {(parent["job"]["namespace"], parent["job"]["name"]) for parent in parents} == {("recon", "orders.run")}
    store = str(opened.config.store_path)
    assert {one["namespace"] for event in backend.taken for side in ("inputs", "outputs") for one in event[side]} == {"file"}
    size = sum(path.stat().st_size for path in tmp_path.glob("file-*.csv"))
    assert datasets(of(backend, "reduce"), "inputs") == {f"{store}/events": statistics(rowCount=4, size=size, fileCount=2)}
    assert datasets(of(backend, "reduce"), "outputs") == {f"{store}/stateless": statistics(rowCount=4)}
    assert datasets(of(backend, "merge"), "outputs")[f"{store}/state"] == statistics(rowCount=report.written, size=report.bytes)
    assert datasets(of(backend, "merge"), "inputs")[f"{store}/stateless"] == statistics(rowCount=report.keys)
    assert datasets(of(backend, "certify"), "outputs") == {f"{store}/certificates": statistics(rowCount=2, fileCount=2)}
    (events, _) = of(backend, "certify")["inputs"]
    assertions = events["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert {one["assertion"]: one["success"] for one in assertions} == {f"rows and money of {window(n)} tie": True for n in (0, 1)}


def test_a_failure_is_reported_without_what_it_quotes(tmp_path: Path, backend: Posts, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = reported(made(tmp_path, hours=1), backend)
    refuse_to_merge(monkeypatch, window(0))
    monkeypatch.setattr("recon.stages.merge.merge_windows", _refused)
    assert window(0) in opened.run().bad
    failed = of(backend, "merge", "FAIL")
    check_types(failed)
    error = failed["run"]["facets"]["errorMessage"]
    assert error["programmingLanguage"] == "python"
    assert error["message"].startswith("WrongInput: ")
    assert "A112" not in str(backend.taken)


def _refused(*_: object) -> None:
    from recon.errors import WrongInput

    raise WrongInput("the order 'A112' does not tie")


def test_windows_that_are_not_ready_abort_and_do_not_fail(tmp_path: Path, backend: Posts) -> None:
    opened = reported(made(tmp_path), backend)
    landed(opened, 0, close=False)
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(opened, range_tags(window(0), window(0)), instance, "reduce")
    assert not result.success
    event = of(backend, "reduce", "ABORT")
    assert event["run"]["facets"]["parent"]["run"]["runId"] == result.run_id
    assert event["run"]["facets"]["parent"]["job"]["name"] == "orders_reduce"
    assert "NotReady" in event["run"]["facets"]["errorMessage"]["message"]


def test_a_backend_that_does_not_answer_is_named_once_and_the_run_succeeds(
    tmp_path: Path, backend: Posts, caplog: pytest.LogCaptureFixture
) -> None:
    opened = reported(made(tmp_path, hours=1), backend, ", timeout_s: 0.3")
    backend.answering.clear()
    begun = time.monotonic()
    with caplog.at_level(logging.WARNING):
        assert opened.run().windows == [window(0)]
    assert time.monotonic() - begun < 20
    (warning,) = [record.getMessage() for record in caplog.records if record.name == "recon.telemetry.lineage"]
    assert warning.startswith(f"lineage at {backend.url}: it ")
    assert warning.endswith("no events for 60 s, and the run goes on")


def test_after_a_refusal_nothing_is_sent_for_a_while(tmp_path: Path, backend: Posts, caplog: pytest.LogCaptureFixture) -> None:
    opened = reported(made(tmp_path, hours=1), backend)
    backend.answers = [500]
    assert opened.run().windows == [window(0)]
    assert "it answered 500; no events for 60 s" in caplog.text
    assert (len(backend.refused), len(backend.taken)) == (1, 0)


def test_the_key_is_a_secret_and_its_lack_stops_no_run(
    tmp_path: Path, backend: Posts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    opened = reported(made(tmp_path, hours=1), backend, ", secret: LINEAGE_KEY, namespace: finance, endpoint: my/lineage")
    opened.run()
    assert "observability.lineage.secret: there is no environment variable LINEAGE_KEY" in caplog.text
    assert backend.taken == []
    backend_of.cache_clear()
    monkeypatch.setenv("LINEAGE_KEY", "very-secret-key")
    landed(opened, 1)
    opened.run()
    assert backend.headers["authorization"] == "Bearer very-secret-key"
    assert backend.headers["path"] == "/my/lineage"
    assert {event["job"]["namespace"] for event in backend.taken} == {"finance"}
    assert "very-secret-key" not in caplog.text + str(backend.taken)


def test_without_a_backend_nothing_of_openlineage_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineage, "backend_of", None)
    assert made(tmp_path, hours=1).run().windows == [window(0)]


@pytest.mark.parametrize("url", ["ftp://host/x", "https://user:very-secret@host/x", "host"])
def test_an_address_that_is_none_is_refused_without_repeating_it(tmp_path: Path, url: str) -> None:
    path = made(tmp_path).config.path
    path.write_text(f"{path.read_text()}observability: {{lineage: {{url: '{url}'}}}}\n")
    with pytest.raises(WrongUsage, match=r"observability\.lineage\.url: is no address") as refused:
        recon.open(path)
    assert "very-secret" not in str(refused.value)


PARTS = st.lists(st.from_regex(r"[a-zA-Z0-9_-]{1,8}", fullmatch=True), max_size=3)


@given(bucket=st.none() | st.from_regex(r"[a-z0-9]{3,8}", fullmatch=True), parts=PARTS, folder=st.sampled_from(["events/", "state/"]))
def test_namespace_and_name_make_up_the_place_of_the_data(bucket: str | None, parts: list[str], folder: str) -> None:
    """Law: OpenLineage's naming joins them to a URI, of which the namespace has the bucket alone, and the name no slash in front."""
    location = "/".join([f"s3://{bucket}" if bucket else "", *parts]) or "/"
    namespace, name = dataset_of(location, folder)
    if bucket is None:
        assert (namespace, name.rstrip("/")) == ("file", f"{location.rstrip('/')}/{folder.rstrip('/')}")
    else:
        assert namespace == f"s3://{bucket}"
        assert f"{namespace}/{name}" == f"{location}/{folder.rstrip('/')}"
