"""Alarms of the template on Recon's own figures: real ticks of sensors send them, and each fault raises the alarm made for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from alarms import alarms, cloudwatch, raised
from hypothesis import given, settings
from hypothesis import strategies as st
from sensor_ticks import Sensors
from small_reconciliation import HEADER, landed, made, run, window
from sources_site import inbox, site

from jobs.build import build_definitions
from recon.api import Reconciliation
from recon.model.windows import name_of
from recon.reading import faults
from recon.reading.faults import Looked
from recon.state.timeline import CommittedWindow, State
from recon.storage import documents, layout
from recon.storage.open import open_store
from recon_assets.partitions import range_tags
from resources.database import SiteDatabase

FRESH = "freshness: 36500d\n"


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with cloudwatch(monkeypatch) as opened:
        yield opened


def ticked(opened: Reconciliation, client: Any) -> set[str]:
    """Alarms after a tick of the freshness sensor. The watermark is left out: the windows of tests are old."""
    with dg.DagsterInstance.ephemeral() as instance:
        Sensors(opened, instance).tick("freshness")
    return raised(client) - {"WatermarkAlarm"}


def test_nothing_that_was_sent_is_a_dead_daemon(client: Any) -> None:
    assert raised(client) == {"DaemonAlarm", "WatermarkAlarm"}


def test_a_store_without_faults_raises_none_and_each_figure_but_of_table_and_files_is_sent(tmp_path: Path, client: Any) -> None:
    opened = made(tmp_path, hours=2)
    opened.run()
    assert ticked(opened, client) == set()
    sent = {one["MetricName"] for one in client.list_metrics(Namespace="Recon")["Metrics"]}
    watched = {one["MetricName"] for one in alarms().values()}
    assert watched - sent == {"FilesMissing", "TableSecondsBehind"}
    assert sent <= watched


def test_a_late_watermark(tmp_path: Path, client: Any) -> None:
    opened = made(tmp_path, hours=1)
    opened.run()
    with dg.DagsterInstance.ephemeral() as instance:
        Sensors(opened, instance).tick("freshness")
    assert raised(client) == {"WatermarkAlarm"}


def test_a_window_in_quarantine(tmp_path: Path, client: Any) -> None:
    opened = made(tmp_path, hours=1)
    bad = tmp_path / "bad.csv"
    bad.write_text(f"{HEADER}X,bad,INVOICE,1.00,EUR\n")
    opened.land([bad], window(3), close=True, expect={"rows": 7})
    with dg.DagsterInstance.ephemeral() as instance:
        run(opened, range_tags(window(0), window(0)), instance)
        assert not run(opened, range_tags(window(3), window(3)), instance, "reduce").success
    assert ticked(opened, client) == {"QuarantineAlarm"}


def test_a_certificate_that_does_not_tie_whatever_it_says_of_itself(tmp_path: Path, client: Any) -> None:
    opened = made(tmp_path, hours=2)
    opened.run()
    path = tmp_path / "orders_data" / layout.certificate(opened.config.grid.parse(window(1)), 1)
    certificate = json.loads(path.read_bytes())
    assert certificate["ties"] is True
    certificate["in"]["rows"] += 1
    path.write_text(json.dumps(certificate))
    assert ticked(opened, client) == {"CertificatesAlarm"}


def test_a_store_that_cannot_be_read(tmp_path: Path, client: Any) -> None:
    opened = made(tmp_path, hours=1)
    (tmp_path / "orders_data" / "store.json").write_text("{}")
    assert ticked(opened, client) == {"TicksFailedAlarm"}


def test_a_late_or_rejected_file(tmp_path: Path, client: Any) -> None:
    r = site(tmp_path, extra="expect: {files: ['bank_{window:%Y%m%d}_1.csv', 'bank_{window:%Y%m%d}_2.csv'], by: 1h}")

    def tick() -> None:
        (sensor,) = [one for one in build_definitions(r.config.path).sensors or () if one.name == "bank_deliver_sensor"]
        assert isinstance(sensor, dg.SensorDefinition)
        databases = {"bank_database": SiteDatabase(config_file=str(r.config.path))}
        with dg.DagsterInstance.ephemeral() as instance, dg.build_sensor_context(instance=instance, resources=databases) as context:
            sensor.evaluate_tick(context)

    tick()
    assert "FilesMissingAlarm" not in raised(client), "no file has ever arrived: nothing is expected yet"
    (inbox(r) / "bank_20261101_1.csv").write_text("Konto;Betrag\nA;1,00\n")
    assert r.deliver(inbox(r)).files
    tick()
    assert "FilesMissingAlarm" in raised(client)


def test_a_table_that_lacks_a_commit_counts_from_that_commit_on(tmp_path: Path, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = made(tmp_path, hours=1)
    opened.run()
    opened.config.path.write_text(opened.config.path.read_text() + "index: {kind: dynamodb}\n")
    again = Reconciliation(opened.config.path)
    assert ticked(again, client) == set(), "half an hour is allowed"
    monkeypatch.setattr("jobs.alarms.datetime", _InAnHour)
    assert ticked(again, client) == {"IndexTableAlarm"}


class _InAnHour:
    """The clock an hour later."""

    from datetime import UTC, datetime, timedelta

    fromisoformat = datetime.fromisoformat

    @classmethod
    def now(cls, zone: Any) -> Any:
        return cls.datetime.now(zone) + cls.timedelta(hours=1)


HISTORIES = st.lists(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["ties", "untied", "none"])), max_size=6), max_size=8)


@settings(max_examples=40, deadline=None)
@given(HISTORIES)
def test_looks_find_exactly_the_newest_certificates_that_do_not_tie(
    tmp_path_factory: pytest.TempPathFactory, commits: list[list[tuple[int, str]]]
) -> None:
    """Law: whatever changed between looks that read few certificates each, once nothing changes any more they know all."""
    opened = _law_site(tmp_path_factory)
    store = open_store(str(tmp_path_factory.mktemp("store")), Path.cwd())
    state, looked, now = State(), Looked(0, 0), dict[str, str]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faults, "READ_MAX", 3)
        for number, changed in enumerate(commits, 1):
            windows = dict(state.windows)
            for at, kind in dict(changed).items():
                name = name_of(opened.config.grid.at(at))
                windows[name], now[name] = CommittedWindow(1, number, True, ""), kind
                if kind != "none":
                    _certified(store, opened, at, number, kind)
            state = State(commit=number, windows=windows)
            looked = Looked.of(json.loads(json.dumps(looked.to_json())), state)
            looked = faults.look(store, opened.config, state, looked)
        for _ in range(12):
            looked = faults.look(store, opened.config, state, looked)
    assert sorted(looked.untied) == sorted(name for name, kind in now.items() if kind == "untied")
    assert sorted(looked.waiting) == sorted(name for name, kind in now.items() if kind == "none")


def _certified(store: Any, opened: Reconciliation, at: int, commit: int, kind: str) -> None:
    of = {"rows": 2}
    body = dict.fromkeys(("accepted", "in"), of) | {name: {"rows": 0} for name in ("duplicates", "rejected")}
    body |= {"in": {"rows": 3}} if kind == "untied" else {}
    documents.put(store, layout.certificate(opened.config.grid.at(at), commit), {**body, "commit": commit, "ties": kind == "ties"})


_SITE: list[Reconciliation] = []


def _law_site(factory: pytest.TempPathFactory) -> Reconciliation:
    if not _SITE:
        _SITE.append(made(factory.mktemp("site")))
    return _SITE[0]


def test_a_cursor_of_another_store_begins_anew(tmp_path: Path) -> None:
    state = State(commit=3)
    for kept in (None, {}, {"upto": 9, "from_": 0, "untied": [], "waiting": []}, {"upto": "x"}):
        assert Looked.of(kept, state) == Looked(3, 3)


def test_a_store_with_more_windows_than_one_look_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = made(tmp_path)
    for hour in range(4):
        landed(opened, hour)
        opened.run()
    monkeypatch.setattr(faults, "READ_MAX", 1)
    state, store = opened.state(), opened.store()
    reads = [found := faults.look(store, opened.config, state, Looked.of(None, state))]
    while found.from_ > 0:
        reads.append(found := faults.look(store, opened.config, state, found))
    assert 4 <= len(reads) <= 5
    assert (found.untied, found.waiting) == ((), ())
