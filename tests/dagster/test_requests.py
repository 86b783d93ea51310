"""The transformation service in Dagster: the sensor's runs, and what a run shows."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import service_site as s

from jobs.build import build_definitions
from recon.service.claims import Claims
from recon.service.submissions import Holder, Problem
from recon_assets.service import ENDED_LINE

JOB = "orders_requests"


def _site(folder: Path, **settings: object) -> tuple[s.Service, Holder]:
    service = s.service_in(folder, **settings)
    (folder / "in" / "sales.csv").write_text("a,b\nx,1.10\nx,0.05\n")
    return service, s.holder(service)


def _tick(folder: Path, instance: dg.DagsterInstance) -> list[dg.RunRequest]:
    definitions = build_definitions(folder / "recon.yaml")
    sensor = definitions.resolve_sensor_def("orders_requests_sensor")
    with dg.build_sensor_context(instance=instance, definitions=definitions) as context:
        found = sensor.evaluate_tick(context)
    return list(found.run_requests or ())


def test_a_run_carries_out_what_waits(tmp_path: Path) -> None:
    service, who = _site(tmp_path)
    one, _ = service.submit(who, s.sums(f"{tmp_path}/in/sales.csv"))
    wrong, _ = service.submit(who, s.sums(f"{tmp_path}/in/sales.csv").replace(b'"b"}', b'"bb"}'))
    with dg.DagsterInstance.ephemeral() as instance:
        (request,) = _tick(tmp_path, instance)
        job = build_definitions(tmp_path / "recon.yaml").resolve_job_def(JOB)
        done = job.execute_in_process(instance=instance, tags=dict(request.tags))
        assert done.success
        (made,) = done.asset_materializations_for_node("orders__service__requests")
        assert _tick(tmp_path, instance) == []
    assert (s.now(service, one).state, s.now(service, wrong).state) == ("done", "failed")
    shown = made.metadata
    assert (shown["ended_in_this_run"].value, shown["availability"].value, shown["problems"].value) == (2, 1.0, "1 wrong-request")
    assert "| up to 64 KB | 2 | 1 |" in str(shown["times_by_size"].value)
    assert "| finance | 2 | 1 |" in str(shown["times_by_owner"].value)
    rows = str(shown["requests"].value).splitlines()[2:]
    assert rows[0].startswith(f"| {wrong.name} | failed | operation 1 (group): column 'bb' is not in 't'")
    assert rows[1:] == [f"| {one.name} | done |  |"]


def test_only_the_line_of_an_end_counts_as_one() -> None:
    name = "0123456789abcdef" * 2
    lines = ("no process could be started for it", "its worker gave no sign of life", "running: 3 group", "donec")
    assert not any(ENDED_LINE.match(f"request {name}: {line}") for line in lines)
    found = ENDED_LINE.match(f"request {name}: dead: the disk is full")
    assert found is not None
    assert (found["state"], found["why"]) == ("dead", "the disk is full")


def test_nothing_is_shown_of_the_service_level_before_a_good_request_ended(tmp_path: Path) -> None:
    service, who = _site(tmp_path)
    service.submit(who, s.sums(f"{tmp_path}/in/sales.csv").replace(b'"b"}', b'"bb"}'))
    with dg.DagsterInstance.ephemeral() as instance:
        done = build_definitions(tmp_path / "recon.yaml").resolve_job_def(JOB).execute_in_process(instance=instance)
    (check,) = done.get_asset_check_evaluations()
    assert (check.passed, check.description) == (False, "no good request has ended yet")


def test_each_large_request_has_a_run_and_the_small_ones_have_one(tmp_path: Path) -> None:
    service, who = _site(tmp_path, small_up_to="1KB", at_once=3)
    (tmp_path / "in" / "large.csv").write_text("a,b\n" + "x,1.10\n" * 200)
    for _ in range(2):
        service.submit(who, s.sums(f"{tmp_path}/in/sales.csv"))
    large = [service.submit(who, s.sums(f"{tmp_path}/in/large.csv"))[0] for _ in range(3)]
    with dg.DagsterInstance.ephemeral() as instance:
        small, *others = _tick(tmp_path, instance)
        assert (small.tags["recon/lane"], small.run_config) == ("small", {})
        # Of three places one is kept for small requests.
        assert [request.tags["recon/request"] for request in others] == [one.name for one in large[:2]]
        job = build_definitions(tmp_path / "recon.yaml").resolve_job_def(JOB)
        assert job.execute_in_process(instance=instance, run_config=others[0].run_config).success
    assert [s.now(service, one).state for one in large] == ["done", "queued", "queued"]


def test_what_waits_for_its_next_try_starts_no_run(tmp_path: Path) -> None:
    service, who = _site(tmp_path)
    one, _ = service.submit(who, s.sums(f"{tmp_path}/in/sales.csv"))
    claims: Claims = service.claims
    claims.arrived([one.name])
    begun = claims.claim("worker")
    assert begun is not None
    claims.passed(begun, Problem("may-pass"), "the store is away")
    with dg.DagsterInstance.ephemeral() as instance:
        assert _tick(tmp_path, instance) == []
