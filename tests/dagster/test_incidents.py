"""The sensor of incidents: one message for each, in Slack's form, sent until the webhook took it; no secret and no event in it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from folders import EXAMPLES
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback_http import Posts, posts
from sensor_ticks import Sensors
from small_reconciliation import landed, made, refuse_to_merge, run, window
from sources_site import inbox
from sources_site import site as bank

import recon
from jobs.build import build_definitions
from jobs.incidents import ALONE_MAX, Look, incidents_sensor
from recon.api import Reconciliation
from recon.config import load_config
from recon.config.observability import Observability, Webhook
from recon.errors import Damaged, TryAgain
from recon.reading.incidents import Incident
from recon.storage import layout
from recon_assets.partitions import range_tags
from resources.database import SiteDatabase
from resources.stores import ReconciliationStore
from resources.webhook import post

BAD_ROWS = "A1,e1,INVOICE,not-money,EUR\n"


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made_instance:
        yield made_instance


@pytest.fixture
def server() -> Iterator[Posts]:
    with posts() as found:
        yield found


class Watched:
    """A reconciliation whose incidents go to a webhook; without those of a late watermark, as its windows are long ago."""

    def __init__(self, opened: Reconciliation, webhook: str, instance: dg.DagsterInstance) -> None:
        path = opened.config.path
        path.write_text(f"{path.read_text()}\nfreshness: 36525d\nobservability: {{webhook: {{{webhook}}}}}\n")
        self.opened, self.instance = recon.open(path), instance
        self.cursor: str | None = None
        self.sensor = incidents_sensor(self.opened.config)

    def tick(self) -> str:
        name, file = self.opened.config.name, str(self.opened.config.path)
        resources: dict[str, Any] = {f"{name}_store": ReconciliationStore(config_file=file)}
        if f"{name}_database" in self.sensor.required_resource_keys:
            resources[f"{name}_database"] = SiteDatabase(config_file=file)
        with dg.build_sensor_context(instance=self.instance, resources=resources, cursor=self.cursor) as context:
            answer = self.sensor.evaluate_tick(context)
        self.cursor = answer.cursor
        assert not answer.run_requests
        return str(answer.skip_message)

    def now_again(self) -> None:
        """As if the time to wait was over."""
        self.cursor = json.dumps({**json.loads(self.cursor or "{}"), "again_at": 0})


def watched(folder: Path, server: Posts, instance: dg.DagsterInstance, hours: int = 0) -> Watched:
    return Watched(made(folder, hours=hours), f"url: {server.url}/hook", instance)


def test_without_a_webhook_there_is_no_such_sensor(tmp_path: Path, server: Posts, instance: dg.DagsterInstance) -> None:
    opened = made(tmp_path)
    assert "orders_incidents_sensor" not in {sensor.name for sensor in build_definitions(opened.config.path).sensors or ()}
    Watched(opened, f"url: {server.url}", instance)
    assert "orders_incidents_sensor" in {sensor.name for sensor in build_definitions(opened.config.path).sensors or ()}


def test_a_quarantined_window_is_one_message_and_a_next_bad_revision_another(
    tmp_path: Path, server: Posts, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = watched(tmp_path, server, instance, hours=2)
    with monkeypatch.context() as patched:
        refuse_to_merge(patched, window(1))
        sensors = Sensors(site.opened, instance)
        sensors.until_nothing_starts()
        for _ in range(3):
            site.tick()
        assert server.texts == [
            f"*orders*: Window {window(1)} could not be processed and is in quarantine: the totals do not tie\n"
            f"Next: Correct the file, then `recon land FILE --window {window(1)} --replace NAME`. "
            f"`recon status {window(1)}` has the full reason."
        ]
        site.opened.replay(window(1))
        sensors.until_nothing_starts()
        site.tick()
        assert len(server.texts) == 2
    site.opened.run()
    assert site.tick() == "0 incidents last"
    assert len(server.texts) == 2
    assert server.headers["content-type"] == "application/json"


def test_a_window_that_is_short_and_one_with_every_row_rejected_are_reported(
    tmp_path: Path, server: Posts, instance: dg.DagsterInstance
) -> None:
    opened = made(tmp_path)
    opened.config.path.write_text(opened.config.path.read_text() + "closing: {files: 2}\n")
    opened = recon.open(opened.config.path)
    landed(opened, 0, close=False)
    opened.close(window(0), reason="the branch is closed")
    landed(opened, 1, BAD_ROWS, close=False)
    opened.close(window(1), reason="no second file")
    site = Watched(opened, f"url: {server.url}", instance)
    site.opened.run()
    site.tick()
    site.tick()
    assert [text.partition("\n")[0] for text in server.texts] == [
        f"*orders*: Window {window(0)} is SHORT: it was closed with 1 of 2 files.",
        f"*orders*: Window {window(1)} is SHORT: it was closed with 1 of 2 files.",
        f"*orders*: Every row of window {window(1)} was rejected, 1 in all: nothing of it counts.",
    ]
    assert not any("not-money" in text for text in server.texts)


def test_a_certificate_that_does_not_tie_is_reported_until_it_does(tmp_path: Path, server: Posts, instance: dg.DagsterInstance) -> None:
    site = watched(tmp_path, server, instance, hours=1)
    site.opened.run()
    assert site.tick() == "0 incidents last"
    site.cursor = None
    assert site.opened.config.store_path is not None
    path = site.opened.config.store_path / layout.certificate(site.opened.config.grid.parse(window(0)), 1)
    right = path.read_text()
    path.write_text(json.dumps({**json.loads(right), "in": {**json.loads(right)["in"], "rows": 7}}))
    site.tick()
    assert site.tick() == "1 incidents last"
    (text,) = server.texts
    assert text.startswith(f"*orders*: Certificate 1 of window {window(0)} does not tie: ")
    assert "`recon verify`" in text
    path.write_text(right)
    assert site.tick() == "0 incidents last"


def test_a_late_watermark_is_one_message_while_it_moves_and_is_late(tmp_path: Path, server: Posts, instance: dg.DagsterInstance) -> None:
    site = watched(tmp_path, server, instance)
    path = site.opened.config.path
    path.write_text(path.read_text().replace("freshness: 36525d", "freshness: 1h"))
    site.sensor = incidents_sensor(recon.open(path).config)
    site.tick()
    landed(site.opened, 0)
    site.opened.run()
    site.tick()
    (text,) = server.texts
    assert text.startswith("*orders*: No window is complete yet: ")
    assert f"{window(0)} is not closed: no files" in text


def test_a_failed_run_is_one_message_until_the_same_run_succeeds(
    tmp_path: Path, server: Posts, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = watched(tmp_path, server, instance, hours=1)
    tags = range_tags(window(0), window(0))
    assert run(site.opened, tags, instance, "reduce").success

    def broken(*_: object) -> None:
        raise RuntimeError("no such luck with 'order A112', password=hunter2hunter2")

    with monkeypatch.context() as patched:
        patched.setattr("recon_assets.assets.at_work", broken)
        failed = [run(site.opened, tags, instance, "merge").run_id for _ in range(2)]
        for _ in range(2):
            site.tick()
    (text,) = server.texts
    assert text == (
        f"*orders*: Run {failed[1]} of orders_merge over {window(0)} failed: RuntimeError: no such luck with […], password=[…]\n"
        "Next: See the run's log in Dagster. Nothing is half done, so it may be run again."
    )
    assert site.tick() == "1 incidents last"
    assert run(site.opened, tags, instance, "merge").success
    assert site.tick() == "0 incidents last"
    with monkeypatch.context() as patched:
        patched.setattr("recon_assets.assets.at_work", broken)
        run(site.opened, tags, instance, "merge")
    site.tick()
    assert len(server.texts) == 2


def test_a_run_that_was_killed_says_so_and_runs_of_others_do_not_count(tmp_path: Path, server: Posts, instance: dg.DagsterInstance) -> None:
    site = watched(tmp_path, server, instance)
    for config in (site.opened.config.path, made(tmp_path, "fees").config.path):
        built = build_definitions(config)
        job = built.resolve_job_def(f"{config.stem}_index")
        instance.report_run_failed(instance.create_run_for_job(job, tags={**job.tags, **range_tags(window(0), window(3))}))
    site.tick()
    (text,) = server.texts
    assert f"orders_index over {window(0)}..{window(3)} failed" in text
    assert "lack of memory" in text


def test_late_and_rejected_files_of_a_source_are_reported(tmp_path: Path, server: Posts, instance: dg.DagsterInstance) -> None:
    expected = "[{name: 'bank_{window:%Y%m%d}_1.csv', until: 2026-11-03}, {name: 'bank_{window:%Y%m%d}_2.csv', until: 2026-11-03}]"
    opened = bank(tmp_path, extra=f"expect: {{by: 6h, files: {expected}}}")
    for name, text in {"20261101_1": "Konto;Betrag\nA;1,00\n", "20261102_1": "no such columns\n"}.items():
        (inbox(opened) / f"bank_{name}.csv").write_text(text)
    opened.deliver(inbox(opened))
    site = Watched(opened, f"url: {server.url}", instance)
    site.tick()
    site.tick()
    first, second, rejected = server.texts
    assert first.startswith(
        "*bank*: The source bank is late: 1 file is missing in window 2026-11-01T00:00Z: bank_20261101_2.csv, due by 2026-11-02T06:00Z."
    )
    assert "2 files are missing in window 2026-11-02T00:00Z: bank_20261102_1.csv, due by " in second
    assert "`recon status 2026-11-02T00:00Z`" in second
    assert rejected.startswith("*bank*: The file bank_20261102_1.csv was rejected: ")
    assert "`recon files show " in rejected


def test_an_address_that_is_a_secret_is_shown_nowhere(
    tmp_path: Path, server: Posts, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = made(tmp_path, hours=1)
    landed(opened, 1, BAD_ROWS)
    opened.run()
    site = Watched(opened, "secret: ORDERS_WEBHOOK", instance)
    assert "ORDERS_WEBHOOK" in site.tick()
    monkeypatch.setenv("ORDERS_WEBHOOK", f"{server.url}/services/T000/very-secret")
    server.answers = [404]
    site.now_again()
    said = site.tick()
    assert "the webhook answered 404" in said
    assert "very-secret" not in said + str(site.cursor)
    site.now_again()
    site.tick()
    assert server.headers["path"] == "/services/T000/very-secret"
    assert len(server.texts) == 1


def test_a_webhook_that_is_away_or_silent_costs_bounded_time_and_the_message_is_kept(
    tmp_path: Path, server: Posts, instance: dg.DagsterInstance
) -> None:
    opened = made(tmp_path)
    landed(opened, 0, BAD_ROWS)
    opened.run()
    site = Watched(opened, f"url: {server.url}, timeout_s: 0.2", instance)
    server.answering.clear()
    begun = time.monotonic()
    assert "the webhook " in site.tick()
    assert time.monotonic() - begun < 5
    assert "1 wait until" in site.tick()
    server.answering.set()
    site.now_again()
    site.tick()
    assert server.texts[-1].startswith(f"*orders*: Every row of window {window(0)} was rejected")


def test_a_store_that_is_away_is_an_incident_after_a_while_and_hides_no_failed_run(
    tmp_path: Path, server: Posts, instance: dg.DagsterInstance
) -> None:
    site = watched(tmp_path, server, instance, hours=1)
    assert site.opened.config.store_path is not None
    site.opened.config.store_path.rename(tmp_path / "elsewhere")
    job = build_definitions(site.opened.config.path).resolve_job_def("orders_index")
    instance.report_run_failed(instance.create_run_for_job(job, tags=job.tags))
    assert "store: " in site.tick()
    assert len(server.texts) == 1
    kept = json.loads(site.cursor or "")
    kept["away"]["store"] = (datetime.now(UTC) - timedelta(minutes=6)).isoformat()
    site.cursor = json.dumps(kept)
    for _ in range(2):
        site.tick()
    assert "The store could not be read since" in server.texts[1]
    assert len(server.texts) == 2
    (tmp_path / "elsewhere").rename(site.opened.config.store_path)
    assert site.tick() == "1 incidents last"


def test_names_of_files_mention_nobody_in_slack(server: Posts) -> None:
    webhook = Webhook(url=server.url)
    assert not post(webhook, "<!channel> & <https://evil>", lambda arn: "").problem
    assert server.texts == ["&lt;!channel&gt; &amp; &lt;https://evil&gt;"]


def test_a_redirect_is_not_followed_and_slack_says_how_long_to_wait(server: Posts) -> None:
    webhook = Webhook(url=server.url)
    server.answers, server.answer_headers = [302, 429], {"Location": f"{server.url}/other", "Retry-After": "30"}
    assert post(webhook, "a", lambda arn: "").problem == "the webhook answered 302"
    assert post(webhook, "a", lambda arn: "").wait_s == 30
    assert server.texts == []


def looked_at(server: Posts, incidents: Sequence[Incident], times: int) -> None:
    """Reports the incidents, tick after tick. An error of their texts ends a look, as it does in the sensor."""
    config = replace(CONFIG, observability=Observability(webhook=Webhook(url=server.url)))
    cursor: dict[str, Any] = {}
    for _ in range(times):
        look = Look(config, None, cursor, datetime.now(UTC))  # type: ignore[arg-type]
        with suppress(Damaged, TryAgain):
            look.found("windows", incidents)
        look.report()
        cursor = look.cursor


def test_an_incident_whose_details_cannot_be_read_holds_up_no_other(server: Posts) -> None:
    def damaged() -> str:
        raise Damaged("timeline/3.json: the timeline entry is damaged")

    incidents = [Incident("quarantined:a:1", "a", "window a".__str__, "wait"), Incident("short:b:1", "b", damaged, "land it")]
    looked_at(server, incidents, times=3)
    first, second = server.texts
    assert "window a" in first
    assert "b: short; the details could not be read (timeline/3.json: the timeline entry is damaged)\nNext: land it" in second


def test_incidents_are_reported_once_though_the_store_goes_away_between_two_texts(server: Posts) -> None:
    answers: list[Exception] = [TryAgain("the store is away")]

    def text() -> str:
        if answers:
            raise answers.pop()
        return "window b"

    incidents = [Incident("quarantined:a:1", "a", "window a".__str__, "wait"), Incident("short:b:1", "b", text, "land it")]
    looked_at(server, incidents, times=2)
    assert [("window a" in text, "window b" in text) for text in server.texts] == [(True, False), (False, True)]


def test_a_message_that_the_webhook_refuses_for_good_holds_up_no_other(server: Posts) -> None:
    config = replace(CONFIG, observability=Observability(webhook=Webhook(url=server.url)))
    incidents = [Incident(f"short:{name}:1", name, f"window {name}".__str__, "wait") for name in "ab"]
    cursor: dict[str, Any] = {}
    for tick in range(2):
        server.answers = [400] if tick == 0 else [200, 400]
        look = Look(config, None, {**cursor, "again_at": 0}, datetime.now(UTC))  # type: ignore[arg-type]
        look.found("windows", incidents)
        look.report()
        cursor = look.cursor
    assert [("window b" in text, "window a" in text) for text in server.texts] == [(True, False)]
    assert ["window a" in text for text in cursor["waiting"]] == [True]


CONFIG = load_config(EXAMPLES / "bank" / "recon.yaml")
TICKS = st.lists(st.tuples(st.frozensets(st.integers(0, 8)), st.sampled_from([200, 200, 500, 429])), max_size=8)


@settings(max_examples=40, deadline=None)
@given(ticks=TICKS)
def test_each_time_that_an_incident_begins_is_in_exactly_one_message_whatever_the_webhook_answers(
    ticks: list[tuple[frozenset[int], int]],
) -> None:
    """Law. Ticks are half an hour apart, longer than any wait."""
    begun, before = list[int](), frozenset[int]()
    with posts() as server:
        config = replace(CONFIG, observability=Observability(webhook=Webhook(url=server.url)))
        cursor, now = "{}", datetime(2026, 11, 30, tzinfo=UTC)
        for lasting, answer in [*ticks, (ticks[-1][0] if ticks else frozenset(), 200)]:
            server.answers = [] if answer == 200 else [answer]
            now += timedelta(minutes=30)
            look = Look(config, None, json.loads(cursor), now)  # type: ignore[arg-type]
            look.found("windows", [Incident(f"short:{n}", f"<{n}>", f"about <{n}>".__str__, "wait") for n in sorted(lasting)])
            look.report()
            cursor, begun, before = json.dumps(look.cursor), begun + sorted(lasting - before), lasting
        said = sorted(int(part.partition("&gt;")[0]) for text in server.texts for part in text.split("&lt;")[1:])
        assert said == sorted(begun)
        assert all(text.count("&lt;") == 1 or text.count("&lt;") > ALONE_MAX for text in server.texts)
