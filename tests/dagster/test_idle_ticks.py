"""What a round of the sensors' ticks asks of S3 while there is nothing to do."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import faulty_http
import pytest
import seaweed
from small_reconciliation import YAML, landed

import recon
from jobs.build import build_definitions
from jobs.quiet import KEEP_S, Remembering, Watch
from recon.api import Reconciliation
from recon.intake import landing_log
from recon.storage import lease
from recon.storage.local import LocalStore
from recon.storage.port import NotFound
from recon_assets.stage_lease import lease_of
from resources.stores import ReconciliationStore

SENSORS = ("reduce", "merge", "index", "certify", "freshness", "closing", "incidents", "monitoring")
MORE = """closing: {files: 2, deadline: 36500d}
observability: {webhook: {url: "http://127.0.0.1:9/never"}, metrics: {file: ./orders.prom}}
"""


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


class Location:
    """A code location: its sensors, as the daemon ticks them, each with its cursor."""

    def __init__(self, path: Path, instance: dg.DagsterInstance) -> None:
        self._path, self._instance = path, instance
        self._sensors = {sensor.name: sensor for sensor in build_definitions(path).sensors or ()}
        self._cursors: dict[str, str | None] = {}

    def tick(self, name: str) -> dg.RunRequest | str:
        sensor = self._sensors[f"orders_{name}_sensor"]
        assert isinstance(sensor, dg.SensorDefinition)
        stores = {"orders_store": ReconciliationStore(config_file=str(self._path))}
        with dg.build_sensor_context(instance=self._instance, resources=stores, cursor=self._cursors.get(name)) as context:
            answer = sensor.evaluate_tick(context)
        self._cursors[name] = answer.cursor or self._cursors.get(name)
        (request,) = answer.run_requests or (None,)
        return request or str(answer.skip_message)


def idle(location: Location, clock: Clock) -> dict[str, dg.RunRequest | str]:
    """The answers of the third of three rounds, from which on the store's answers are remembered."""
    for _ in range(3):
        clock.now += 10
        answers = {name: location.tick(name) for name in SENSORS}
    return answers


class Clock:
    """Seconds that a test lets pass."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Of the sensors' rounds."""
    made = Clock()
    monkeypatch.setattr("jobs.build.Watch", lambda name: Watch(name, made))
    return made


def landed_long_ago(opened: Reconciliation, hours: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows that were noted so long ago that they keep no sensor awake, and that are done; and one that waits for its second file."""
    with monkeypatch.context() as patch:
        patch.setattr(landing_log.note, "__defaults__", (lambda: datetime.now(UTC) - 2 * landing_log.OVERLAP,))
        for hour in range(hours):
            landed(opened, hour)
        landed(opened, 2 * hours, close=False)
    opened.run()


def test_a_round_of_idle_ticks_asks_for_little(
    tmp_path: Path, in_s3: str, seaweed_server: seaweed.Seaweed, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    opened = site(tmp_path, in_s3)
    landed_long_ago(opened, 3, monkeypatch)
    with faulty_http.in_front_of(seaweed_server.port) as between:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", between.endpoint)
        location = Location(opened.config.path, instance)
        asked, said = [], []
        for _ in range(5):
            clock.now += 10
            before = len(between.asked)
            said.append([location.tick(name) for name in SENSORS])
            asked.append(len(between.asked) - before)
        print(f"requests of five idle rounds of {len(SENSORS)} sensors: {asked}")
        assert max(asked[2:]) <= 5
        assert said[1:] == [said[1]] * 4
        landed(opened, 3)
        clock.now += 10
        assert isinstance(location.tick("reduce"), dg.RunRequest)


@pytest.mark.parametrize("change", ["landing", "commit", "lease", "run", "store"])
def test_every_sign_of_a_change_is_seen_in_the_next_round(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, clock: Clock, change: str
) -> None:
    opened = site(tmp_path, "./orders_data")
    landed_long_ago(opened, 3, monkeypatch)
    location = Location(opened.config.path, instance)
    before = idle(location, clock)
    assert str(before["reduce"]).startswith("2026-11-01T06:00Z is not closed: 1 of 2 files")
    folder = tmp_path / "orders_data"
    if change == "landing":
        landed(opened, 3)
    elif change == "commit":
        landed(opened, 3)
        opened.run()
    elif change == "lease":
        lease.acquire(opened.store(), lease_of("reduce"), "another", 600)
    elif change == "run":
        job = build_definitions(opened.config.path).resolve_job_def("orders_land_and_reduce")
        instance.create_run_for_job(job, tags={**job.run_tags}, status=dg.DagsterRunStatus.STARTED)
    else:
        folder.rename(tmp_path / "away")
    if change != "run":  # Dagster is asked at each tick, the store once a round
        assert [location.tick(name) for name in ("reduce", "merge")] == [before[name] for name in ("reduce", "merge")]
    clock.now += 10
    seen = location.tick("reduce")
    if change == "landing":
        assert isinstance(seen, dg.RunRequest)
    elif change == "commit":
        assert "2026-11-01T04:00Z" in str(location.tick("freshness"))
    elif change == "lease":
        assert "run another is at reduce" in str(seen)
    elif change == "run":
        assert "without a heartbeat yet" in str(seen)
    else:
        assert "there is no store" in str(seen)


def test_no_sensor_answers_from_memory_while_the_store_is_away(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    opened = site(tmp_path, "./orders_data")
    landed_long_ago(opened, 1, monkeypatch)
    location = Location(opened.config.path, instance)
    before = idle(location, clock)
    (tmp_path / "orders_data").rename(tmp_path / "away")
    for _ in range(2):
        clock.now += 10
        assert ["there is no store" in str(location.tick(name)) for name in SENSORS] == [True] * len(SENSORS)
    (tmp_path / "away").rename(tmp_path / "orders_data")
    clock.now += 10
    assert [location.tick(name) for name in SENSORS][:4] == list(before.values())[:4]


def test_an_earlier_copy_of_the_store_in_its_place_is_seen_after_five_minutes(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    opened, folder = site(tmp_path, "./orders_data"), tmp_path / "orders_data"
    landed_long_ago(opened, 1, monkeypatch)
    shutil.copytree(folder, tmp_path / "copy")
    landed(opened, 1)
    opened.run()
    location = Location(opened.config.path, instance)
    assert isinstance(idle(location, clock)["reduce"], str)
    shutil.rmtree(folder)
    (tmp_path / "copy").rename(folder)
    clock.now += KEEP_S
    location.tick("reduce")
    landed(recon.open(opened.config.path), 1)
    clock.now += 10
    assert isinstance(location.tick("reduce"), dg.RunRequest)


def test_what_no_sign_shows_is_seen_after_five_minutes(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    opened = site(tmp_path, "./orders_data")
    landed_long_ago(opened, 1, monkeypatch)
    location = Location(opened.config.path, instance)
    assert idle(location, clock)["certify"] == "everything that is merged is certified"
    for path in list(opened.store().list("certificates/")) + list(opened.store().list("frontiers/")):
        opened.store().delete(path)
    clock.now += 10
    assert location.tick("certify") == "everything that is merged is certified"
    clock.now += KEEP_S
    assert isinstance(location.tick("certify"), dg.RunRequest)


def test_a_remembering_store_answers_as_the_store_does_and_forgets_what_it_writes(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "s")
    store.put_new("a/b", [b"x"])
    remembering = Remembering(store)
    remembering.forget(store, remember=True)
    for _ in range(2):
        assert (remembering.get("a/b"), remembering.exists("a/b"), list(remembering.list("a")), list(remembering.sizes("a"))) == (
            b"x",
            True,
            ["a/b"],
            [("a/b", 1)],
        )
        with pytest.raises(NotFound, match="a/c"):
            remembering.get("a/c")
    store.put_new("a/c", [b"y"])
    assert (remembering.exists("a/b"), list(remembering.list("a"))) == (True, ["a/b"])
    with pytest.raises(NotFound):
        remembering.get("a/c")
    remembering.put_new("a/d", [b"z"])
    assert (remembering.get("a/c"), list(remembering.list("a"))) == (b"y", ["a/b", "a/c", "a/d"])


def test_what_is_asked_while_an_object_is_written_is_not_remembered(tmp_path: Path) -> None:
    class Slow(LocalStore):
        def put_new(self, path: str, chunks: Iterable[bytes]) -> int:
            assert not remembering.exists(path)
            return super().put_new(path, chunks)

    remembering = Remembering(Slow(tmp_path / "s"))
    remembering.forget(remembering.now, remember=True)
    remembering.put_new("a/b", [b"x"])
    assert remembering.exists("a/b")


def site(folder: Path, store: str) -> Reconciliation:
    path = folder / "recon.yaml"
    path.write_text(YAML.format(name="orders").replace("./orders_data", store) + MORE)
    opened = recon.open(path)
    opened.store(create=True)
    return opened
