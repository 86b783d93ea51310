"""Figures for Prometheus: they are those that ``recon status`` and ``breaks`` give, and sums of money are made once for a commit."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path

import dagster as dg
import pytest
import service_site
from folders import EXAMPLES
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from small_reconciliation import landed, made, refuse_to_merge, window
from web_site import served_here

import recon
from jobs import monitoring
from jobs.build import build_definitions
from jobs.monitoring import monitoring_sensor
from jobs.quiet import Watch
from recon.api import Reconciliation
from recon.config import load_config
from recon.model.windows import name_of
from recon.reading.breaks import by_status
from recon.reading.monitored import late_windows
from recon.state.timeline import CommittedWindow, State
from resources.stores import ReconciliationStore

CLOSING = "closing: {files: 2}\nobservability: {metrics: {file: ./metrics/orders.prom}}\n"
CONFIG = load_config(EXAMPLES / "seed-batch" / "recon.yaml")


class Monitored:
    """A reconciliation whose figures are written, and its sensor."""

    def __init__(self, folder: Path, extra: str = CLOSING) -> None:
        path = made(folder).config.path
        path.write_text(path.read_text().replace("  id: event_id", "  id: event_id\n  currency: currency") + extra)
        self.opened, self.file = recon.open(path), folder / "metrics" / "orders.prom"
        self.sensor = monitoring_sensor(self.opened.config, Watch(self.opened.config.name, count(0, 10).__next__))

    def tick(self) -> str:
        resources = {"orders_store": ReconciliationStore(config_file=str(self.opened.config.path))}
        with dg.DagsterInstance.ephemeral() as instance, dg.build_sensor_context(instance=instance, resources=resources) as context:
            return str(self.sensor.evaluate_tick(context).skip_message)

    def figures(self) -> dict[str, dict[tuple[str, ...], float]]:
        """Name → other labels than the reconciliation's → figure."""
        found: dict[str, dict[tuple[str, ...], float]] = {}
        for family in text_string_to_metric_families(self.file.read_text()):
            for sample in family.samples:
                assert sample.labels.pop("reconciliation") == "orders"
                labels = tuple(sample.labels[name] for name in ("state", "status", "currency") if name in sample.labels)
                found.setdefault(sample.name, {})[labels] = sample.value
        return found


def some_windows(opened: Reconciliation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that are done, one short, one with every row rejected, one in quarantine, one open."""
    for hour, rows in ((0, None), (1, None), (2, "A,e9,INVOICE,0.00,EUR\n"), (3, "A,e8,INVOICE,what,EUR\n"), (4, None), (5, None)):
        landed(opened, hour, rows, close=False)
        if hour < 5:
            opened.close(window(hour), reason="as tested")
    with monkeypatch.context() as patched:
        refuse_to_merge(patched, window(4))
        opened.run()


def test_without_a_file_there_is_no_such_sensor(tmp_path: Path) -> None:
    path = made(tmp_path).config.path
    assert "orders_monitoring_sensor" not in {sensor.name for sensor in build_definitions(path).sensors or ()}
    path.write_text(path.read_text() + CLOSING)
    assert "orders_monitoring_sensor" in {sensor.name for sensor in build_definitions(path).sensors or ()}


def test_the_figures_are_those_of_status_and_breaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Monitored(tmp_path)
    some_windows(site.opened, monkeypatch)
    assert site.tick() == f"figures of commit {site.opened.state().commit} are in {site.file}"
    found, status = site.figures(), site.opened.status()
    windows = {state: number for (state,), number in found["recon_windows"].items()}
    assert windows == {
        "open": len(status["open"]),
        "ready": 0,
        "quarantined": 1,
        "unreadable": 0,
        "short": len(status["short"]),
        "all_rejected": 1,
        "done": 4,
        "late": windows["late"],
    }
    assert (len(status["open"]), len(status["short"])) == (1, 4)
    assert windows["late"] > 24  # the windows of November have ended, and only the first four are done
    assert found["recon_artifacts"] == {(name,): float(number) for name, number in status["artifacts"].items()}
    assert found["recon_breaks"] == {(name,): float(number) for name, number in status["artifacts"].items() if name != "MATCHED"}
    sums = by_status(site.opened.store(), site.opened.config, site.opened.state())
    assert found["recon_money"] == {(name, currency): float(total) for name, currency, _, total in sums if total is not None}
    assert sum(Decimal(str(total)) for total in found["recon_money"].values()) == Decimal("21.00")
    assert found["recon_watermark_end_timestamp_seconds"] == {(): datetime(2026, 11, 1, 4, tzinfo=UTC).timestamp()}
    assert found["recon_commit"] == {(): float(status["commit"])}


def test_sums_are_made_once_for_a_commit_and_seldom_while_they_take_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site, made_for, go_on = Monitored(tmp_path), list[int](), threading.Event()

    def counted(store: object, config: object, state: State) -> object:
        made_for.append(state.commit)
        assert go_on.wait(20)
        return [("BREAK", "EUR", 1, Decimal(state.commit))]

    monkeypatch.setattr(monitoring, "by_status", counted)
    landed(site.opened, 0)
    site.opened.run()
    first = site.opened.state().commit
    assert "the sums of the newest commit are being made" in site.tick()
    assert "recon_money" not in site.figures()
    assert site.figures()["recon_commit"] == {(): float(first)}
    go_on.set()
    while "being made" in site.tick():
        pass
    for _ in range(3):
        assert site.tick() == f"figures of commit {first} are in {site.file}"
    assert made_for == [first]
    assert site.figures()["recon_money"] == {("BREAK", "EUR"): float(first)}
    landed(site.opened, 1)
    site.opened.run()
    assert "are made later" in site.tick()  # the first took a second, so that the next is ten seconds away
    assert made_for == [first]
    assert site.figures()["recon_money_commit"] == {(): float(first)}
    assert site.figures()["recon_commit"] == {(): float(site.opened.state().commit)}


def test_without_money_no_record_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Monitored(tmp_path, "observability: {metrics: {file: ./metrics/orders.prom, money: false}}\n")
    landed(site.opened, 0)
    site.opened.run()
    monkeypatch.setattr(monitoring, "by_status", None)
    site.tick()
    assert "recon_money" not in site.figures()
    assert site.figures()["recon_artifacts"] == {("BREAK",): 2.0}


def test_a_file_that_cannot_be_written_and_a_store_that_is_away_are_named(tmp_path: Path) -> None:
    site = Monitored(tmp_path)
    site.file.parent.write_text("a file, no folder")
    assert f"observability.metrics.file: {site.file} cannot be written (" in site.tick()
    site.file.parent.unlink()
    site.tick()
    before = site.file.read_bytes()
    assert site.opened.config.store_path is not None
    site.opened.config.store_path.rename(tmp_path / "elsewhere")
    assert site.tick().startswith("no figures are written: ")
    assert site.file.read_bytes() == before
    assert [path.name for path in site.file.parent.iterdir()] == ["orders.prom"]


@pytest.mark.parametrize("serve", [True, False])
def test_the_service_shows_them_only_if_it_is_asked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: bool) -> None:
    (tmp_path / "own.prom").write_text("recon_windows 1.0\n")
    monkeypatch.setitem(service_site.CONFIG, "observability", {"metrics": {"file": "./own.prom", "serve": serve}})
    with served_here(tmp_path) as site, site.anyone() as anyone:
        text = anyone.get("/metrics").text
    assert "recon_http_answers" in text
    assert ("recon_windows 1.0" in text) is serve


@given(
    done=st.frozensets(st.integers(0, 40)),
    watermark=st.none() | st.integers(0, 40),
    allowed=st.integers(1, 300),
    now=st.integers(-100, 3000),
)
def test_late_windows_are_those_that_ended_longer_ago_than_is_allowed_and_are_not_done(
    done: frozenset[int], watermark: int | None, allowed: int, now: int
) -> None:
    """Law, against a count of every window. ``allowed`` and ``now`` are minutes, the latter from the start of the grid on."""
    config = replace(CONFIG, freshness=timedelta(minutes=allowed))
    grid, upto = config.grid, -1 if watermark is None else watermark
    finished = done | set(range(upto + 1)) - {upto + 1}
    windows = {name_of(grid.at(index)): CommittedWindow(1, 1, True, "") for index in finished}
    state = State(windows=windows, watermark="" if watermark is None else name_of(grid.at(watermark)))
    at = grid.start + timedelta(minutes=now)
    expected = [index for index in range(200) if grid.after(grid.at(index)) <= at - config.freshness and index not in finished]
    assert late_windows(config, state, at) == len(expected)


@pytest.fixture(autouse=True)
def _no_threads_left() -> Iterator[None]:
    yield
    for thread in threading.enumerate():
        if thread.name == "recon-sums":
            thread.join(20)
