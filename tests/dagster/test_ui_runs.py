"""Runs of `recon run` in a real webserver, by GraphQL: the UI knows their job, and executes them again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from small_reconciliation import landed, made, window
from webserver import asked, served, waited_for

from recon.api import Reconciliation
from recon.cli import main

JOB = """{ pipelineOrError(params: {pipelineName: "orders_everything", repositoryName: "__repository__", repositoryLocationName: "recon"}) {
  ... on Pipeline { pipelineSnapshotId runs { id status parentRunId pipelineSnapshotId
    repositoryOrigin { repositoryName repositoryLocationName } tags { key value } } } } }"""
AGAIN = """mutation($of: ReexecutionParams!) { launchRunReexecution(reexecutionParams: $of) {
  __typename ... on LaunchRunSuccess { run { id } } ... on PythonError { message } } }"""
RUN = "query($id: ID!) { runOrError(runId: $id) { ... on Run { id status parentRunId tags { key value } } } }"

TICKS = """{ sensorOrError(sensorSelector: {sensorName: "orders_certify_sensor", repositoryName: "__repository__",
  repositoryLocationName: "recon"}) { ... on Sensor { sensorState { ticks(limit: 50) {
  status skipReason logEvents { events { message } } } } } } }"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Reconciliation:
    """A good window and a bad one, each taken by a `recon run`; the bad one's file does not come to what its sender declared."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        opened = made(tmp_path_factory.mktemp("runs"), hours=1)
        command = ["run", "--config", str(opened.config.path)]
        assert main(command) == 0
        path = opened.config.path.parent / "spoiled.csv"
        path.write_text("order_id,event_id,event_type,amount,currency\nA,1,INVOICE,10.00,EUR\n")
        opened.land([path], window(1), close=True, again=True, expect={"amount": {"EUR": "9"}})
        assert main(command) == 1
    return opened


@pytest.fixture(scope="module")
def ui(site: Reconciliation) -> Iterator[str]:
    with served(site) as address:
        yield address


def tags(run: dict[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in run["tags"]}


def runs(ui: str) -> list[dict[str, Any]]:
    """The runs that the page of the job lists, the oldest first."""
    return list(reversed(asked(ui, JOB)["pipelineOrError"]["runs"]))


def executed_again(ui: str, run: dict[str, Any], strategy: str) -> dict[str, Any]:
    launched = asked(ui, AGAIN, of={"parentRunId": run["id"], "strategy": strategy})["launchRunReexecution"]
    assert launched["__typename"] == "LaunchRunSuccess", launched

    def finished() -> Any:
        found = asked(ui, RUN, id=launched["run"]["id"])["runOrError"]
        return found if found["status"] in ("SUCCESS", "FAILURE", "CANCELED") else None

    return dict(waited_for("the run to finish", finished))


def test_the_ui_lists_runs_of_recon_run_under_their_job_and_executes_them_again(site: Reconciliation, ui: str) -> None:
    snapshot, (good, bad) = asked(ui, JOB)["pipelineOrError"]["pipelineSnapshotId"], runs(ui)
    assert (good["status"], bad["status"]) == ("SUCCESS", "FAILURE")
    for run in (good, bad):
        assert run["repositoryOrigin"] == {"repositoryName": "__repository__", "repositoryLocationName": "recon"}
        assert run["pipelineSnapshotId"] == snapshot, "the UI would warn that the job has changed since"
        shown = {name: value for name, value in tags(run).items() if not name.startswith((".dagster/", "dagster/"))}
        assert shown.pop("recon/failure", "") == ("WrongInput" if run is bad else "")
        assert shown == {
            "recon/windows": window(0 if run is good else 1),
            "recon/reconciliation": "orders",
            "recon/stage": "orders.everything",
        }
    again = executed_again(ui, good, "ALL_STEPS")
    assert (again["status"], again["parentRunId"]) == ("SUCCESS", good["id"])
    # Its data are at fault, so it fails once more; then they are corrected, and the failure is the earlier run's alone.
    again = executed_again(ui, bad, "ALL_STEPS")
    assert (again["status"], tags(again)["recon/failure"]) == ("FAILURE", "WrongInput")
    landed(site, 1, replace="spoiled.csv")
    again = executed_again(ui, again, "FROM_FAILURE")
    assert (again["status"], tags(again)["recon/failure"]) == ("SUCCESS", "none")
    assert site.state().windows.keys() == {window(0), window(1)}
    assert len(runs(ui)) == 5, "the daemon has executed a failed run again by itself"


def test_why_a_tick_starts_nothing_is_in_its_log_once_until_it_changes(ui: str) -> None:
    def ticks() -> list[dict[str, Any]]:
        found = asked(ui, TICKS)["sensorOrError"]["sensorState"]["ticks"]
        return [tick for tick in reversed(found) if tick["status"] == "SKIPPED"]

    assert waited_for("three ticks", lambda: len(ticks()) >= 3)
    told = [[event["message"] for event in tick["logEvents"]["events"]] for tick in ticks()]
    reasons = [tick["skipReason"] for tick in ticks()]
    assert told[0] == [reasons[0]]
    assert all(bool(log) == (at == 0 or reasons[at] != reasons[at - 1]) for at, log in enumerate(told))
