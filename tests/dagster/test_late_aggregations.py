"""Aggregations that are not loaded in time: one message for each window, until it is loaded; and their figures for Prometheus."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import aggregation_site as s
import dagster as dg
import pytest
from aggregation_site import DAILY, NEXT, WINDOW
from hypothesis import given
from hypothesis import strategies as st
from loopback_http import Posts, posts
from prometheus_client.parser import text_string_to_metric_families

import recon
from jobs.incidents import Look, incidents_sensor
from jobs.late_aggregations import SLOW, LateAggregations
from jobs.monitoring import monitoring_sensor
from recon.aggregations.health import Overdue
from recon.aggregations.runs import carry_out as carrying
from recon.aggregations.runs.site import Aggregations
from recon.aggregations.tick import tick
from recon.config.observability import Observability, Webhook
from recon.errors import WrongInput
from resources.database import SiteDatabase
from resources.stores import ReconciliationStore

TWO = f"{DAILY}expect: [a.csv, b.csv]\n"
FRESHNESS = "freshness: 4h\n"
END = datetime(2026, 11, 2, tzinfo=UTC)
"""Of the first window."""
GRACE = timedelta(hours=4)


@pytest.fixture
def server() -> Iterator[Posts]:
    with posts() as found:
        yield found


class Ticks:
    """The look of the sensor at a site's aggregations, at times of the test."""

    def __init__(self, site: Aggregations, server: Posts) -> None:
        self.site, self.cursor = site, "{}"
        self.config = replace(site.config, observability=Observability(webhook=Webhook(url=server.url)))

    def at(self, now: datetime) -> str:
        look = Look(self.config, None, json.loads(self.cursor), now)  # type: ignore[arg-type]
        look.at_aggregations(self.site)
        reason = look.report()
        self.cursor = json.dumps(look.cursor)
        return reason


def test_a_window_that_waits_past_its_time_is_one_message_until_it_is_loaded(tmp_path: Path, server: Posts) -> None:
    site = s.made(tmp_path, {"daily": TWO}, FRESHNESS)
    ticks, late = Ticks(site, server), END + GRACE
    s.land(site)
    assert ticks.at(late - timedelta(seconds=1)) == "0 incidents last"
    assert ticks.at(late) == "1 incidents last; 1 sent"
    assert server.texts == [
        f"*shops*: The aggregation daily is late: window {WINDOW}, which was to be there by 2026-11-02T04:00Z, is not loaded: "
        "1 of 2 files: b.csv is missing.\n"
        f"Next: `recon aggregation why daily --window {WINDOW}` has each condition; "
        f"if a run failed, `recon aggregation run daily --window {WINDOW}` tries again."
    ]
    s.land(site, "b.csv")
    assert ticks.at(late + timedelta(hours=1)) == "1 incidents last"  # it is due, and not loaded yet
    (claimed,) = tick(site, now=late + timedelta(hours=1)).claimed
    assert ticks.at(late + timedelta(hours=2)) == "1 incidents last"  # its run is at work
    carrying.carry_out(site, claimed, "test")
    assert ticks.at(late + timedelta(hours=3)) == "0 incidents last"
    assert len(server.texts) == 1


def test_what_is_due_or_at_work_is_late_only_after_a_while(tmp_path: Path, server: Posts) -> None:
    site = s.made(tmp_path, {"daily": DAILY}, FRESHNESS)
    ticks, late = Ticks(site, server), END + GRACE
    s.land(site)
    assert ticks.at(late) == "0 incidents last"
    tick(site, now=late)
    assert ticks.at(late + SLOW - timedelta(seconds=1)) == "0 incidents last"
    assert ticks.at(late + SLOW) == "1 incidents last; 1 sent"
    assert "run 1 is claimed" in server.texts[0]


def test_new_input_of_a_loaded_window_has_the_time_that_the_first_had(tmp_path: Path, server: Posts) -> None:
    expect = "[{name: a.csv, until: 2026-11-02}, {name: b.csv, until: 2026-11-02}]"
    site = s.made(tmp_path, {"daily": f"{DAILY}input: all\nexpect: {expect}\n"}, FRESHNESS)
    ticks, now = Ticks(site, server), END + timedelta(days=9)
    s.land(site)
    s.land(site, "b.csv")
    s.run(site, now=END)
    assert ticks.at(now) == "0 incidents last"
    s.land(site, rows=(("A", "4", "7.00"),), at=now)
    assert ticks.at(now) == "0 incidents last"
    assert ticks.at(now + GRACE - timedelta(seconds=1)) == "0 incidents last"
    assert ticks.at(now + GRACE) == "1 incidents last; 1 sent"
    assert f"new input of window {WINDOW} is not loaded: 1 new file since run 1, but not yet anew: b.csv" in server.texts[0]


def test_a_failure_is_reported_without_what_it_quotes(tmp_path: Path, server: Posts, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise WrongInput("the key 'A112' does not fit")

    monkeypatch.setattr(carrying, "compute", broken)
    site = s.made(tmp_path, {"daily": f"{DAILY}per: all\n"}, FRESHNESS)
    ticks = Ticks(site, server)
    s.land(site)
    now = END
    for _ in range(3):
        assert ticks.at(site.runs.now()) == "0 incidents last"
        s.run(site, now=now + timedelta(days=40_000))
    ticks.at(site.runs.now())
    (text,) = server.texts
    assert text.startswith("*shops*: The aggregation daily is late: all files: not loaded: run 3 failed, attempt 3 of 3: the key […]")
    assert "--window" not in text


def test_many_windows_are_one_message(tmp_path: Path, server: Posts) -> None:
    site = s.made(tmp_path, {"daily": f"{DAILY}expect: [{{name: a.csv, until: 2026-11-10}}]\n"}, FRESHNESS)
    s.land(site)
    s.run(site)
    Ticks(site, server).at(datetime(2026, 12, 1, tzinfo=UTC))
    (text,) = server.texts
    assert text.startswith(f"*shops*: 8 windows of aggregations are not loaded in time: daily, {NEXT}, daily, 2026-11-03T00:00Z")


States = Literal["waits", "due", "runs"]
ONE = st.none() | st.tuples(st.sampled_from(["waits", "due", "runs"]), st.booleans())
HISTORIES = st.lists(st.tuples(st.lists(ONE, min_size=2, max_size=2), st.integers(1, 300)), max_size=12)


@given(ticks=HISTORIES)
def test_a_scope_is_reported_once_its_patience_is_over_and_then_until_it_is_loaded(
    ticks: list[tuple[list[tuple[States, bool] | None], int]],
) -> None:
    """Law, against plain Python that looks back over the whole history. Two scopes, ticks minutes apart."""
    seen: dict[str, str] = {}
    lasting: list[str] = []
    now = END
    since: list[datetime | None] = [None, None]
    told = [False, False]
    for states, minutes in ticks:
        now += timedelta(minutes=minutes)
        found: dict[str, Overdue] = {}
        for at, one in enumerate(states):
            if one is None:
                since[at], told[at] = None, False
                continue
            state, loaded = one
            found[str(at)] = Overdue(str(at), END, state, loaded, "it waits")
            begun = since[at] = since[at] or now
            wait = GRACE if loaded else timedelta(0) if state == "waits" else SLOW
            told[at] = told[at] or now - begun >= wait
        late = LateAggregations({}, lasting)
        lasting = [incident.key for incident in late.of_one("daily", found, GRACE, seen, now)]
        seen = late.seen
        assert lasting == [f"aggregation_late:daily:{at}" for at in (0, 1) if told[at]]


# ---- the sensors themselves ------------------------------------------------------------------------------------------


def resources(site: Aggregations) -> dict[str, Any]:
    file = str(site.config.path)
    return {"shops_store": ReconciliationStore(config_file=file), "shops_database": SiteDatabase(config_file=file)}


def with_reports(folder: Path, more: str) -> Aggregations:
    site = s.made(folder, {"daily": TWO, "wrong": DAILY.replace("source: sales", "source: nobody")}, f"freshness: 36525d\n{more}")
    recon.open(site.config.path).store(create=True)
    s.land(site)
    return site


def test_the_sensor_reports_a_definition_with_a_mistake_once(tmp_path: Path, server: Posts) -> None:
    site = with_reports(tmp_path, f"observability: {{webhook: {{url: {server.url}}}}}\n")
    sensor, cursor = incidents_sensor(site.config), None
    with dg.DagsterInstance.ephemeral() as instance:
        for _ in range(2):
            with dg.build_sensor_context(instance=instance, resources=resources(site), cursor=cursor) as context:
                cursor = sensor.evaluate_tick(context).cursor
    (text,) = server.texts
    assert text.startswith("*shops*: The aggregation wrong is disabled by a mistake: ")
    assert "Correct `aggregations/wrong.yaml`" in text


def test_the_figures_for_prometheus_count_the_windows_that_are_not_loaded(tmp_path: Path) -> None:
    site = with_reports(tmp_path, "observability: {metrics: {file: ./recon.prom, money: false}}\n")
    s.land(site, "b.csv", window=NEXT)
    s.land(site, window=NEXT)
    sensor = monitoring_sensor(site.config)

    def figures() -> dict[str, float]:
        with dg.DagsterInstance.ephemeral() as instance, dg.build_sensor_context(instance, resources=resources(site)) as context:
            reason = str(sensor.evaluate_tick(context).skip_message)
        assert reason.startswith("figures of commit 0"), reason
        families = {one.name: one for one in text_string_to_metric_families((tmp_path / "recon.prom").read_text())}
        found = families["recon_aggregation_windows"].samples
        assert {(one.labels["reconciliation"], one.labels["aggregation"]) for one in found} == {("shops", "daily")}
        return {one.labels["state"]: one.value for one in found}

    assert figures() == {"waiting": 1, "due": 1, "running": 0, "late": 0}
    tick(site)
    assert figures() == {"waiting": 1, "due": 0, "running": 1, "late": 0}
