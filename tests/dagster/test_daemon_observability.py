"""A real daemon with everything that it may report: one message of an incident, figures, lineage and JSON logs of its runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import strategies as s
from daemons import site
from loopback_http import Posts, posts

from recon.stages.pipeline import STAGES

BAD = s.File("bad-1", (s.Row("K0", "bad-1", "INVOICE", "what"),))


def configured(webhook: Posts, backend: Posts) -> str:
    sections = f"webhook: {{url: {webhook.url}}}, metrics: {{file: ./orders.prom}}, lineage: {{url: {backend.url}}}"
    return f"freshness: 36525d\nobservability: {{{sections}}}\n"


def test_a_daemon_reports_an_incident_once_and_writes_figures_lineage_and_json_logs(tmp_path: Path) -> None:
    with posts() as webhook, posts() as backend, site(tmp_path, configured(webhook, backend), env={"RECON_LOG": "json"}) as line:
        line.land(0)
        line.carry_out(s.Land(1, BAD), s.Close(1))
        line.start()
        line.wait_for(lambda: figure(tmp_path, 'recon_windows{reconciliation="orders",state="done"}') == 2.0, "two windows to be done")
        line.wait_for(lambda: bool(webhook.texts), "the message")
        line.wait_for(lambda: completed(backend) == set(STAGES), "lineage of all stages")
        line.wait_for(line.done, "all windows to be certified")
        line.stop()
    (text,) = webhook.texts
    assert text.startswith("*orders*: Every row of window ")
    runs = {run.run_id for run in line.runs()}
    assert {event["run"]["facets"]["parent"]["run"]["runId"] for event in backend.taken} <= runs
    raw = [text for text in line.log.read_text(errors="replace").splitlines() if text and not parsed(text)]
    assert raw == [], "the daemon, its code server and the workers of runs write JSON alone"
    sensors = [found for found in map(parsed, line.log.read_text(errors="replace").splitlines()) if "sensor" in found]
    assert sensors
    assert {found["reconciliation"] for found in sensors} == {"orders"}
    logged = [found for found in map(parsed, line.log.read_text(errors="replace").splitlines()) if found.get("logger") == "recon.stages"]
    assert {found["stage"] for found in logged} == set(STAGES)
    assert {found["run"] for found in logged} <= runs
    assert all(found["reconciliation"] == "orders" and found["attempt"] == 1 and found["window"] for found in logged)


def completed(backend: Posts) -> set[str]:
    return {event["job"]["name"].removeprefix("orders.") for event in backend.taken if event["eventType"] == "COMPLETE"}


def figure(folder: Path, name: str) -> float | None:
    try:
        text = (folder / "orders.prom").read_text()
    except FileNotFoundError:
        return None
    return next((float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name)), None)


def parsed(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
