"""Windows that are the days of a zone: 23, 24 or 25 hours, named by their start in UTC, in the store and in Dagster's partitions."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from folders import CASES
from small_blocks import small
from small_reconciliation import run

import recon
from jobs.repair import repair
from recon.api import Reconciliation
from recon.cli import main
from recon.cli.dagster_runs import Materializing
from recon.config import Config
from recon.errors import WrongUsage
from recon.model.windows import Grid, local_midnight, name_of
from recon.planning.closing import close_due, past_deadline
from recon.planning.freshness import freshness
from recon.stages.work import Work
from recon.state.certificates import read_certificate
from recon.state.timeline import Timeline
from recon_assets.partitions import key_of, partitions_of, range_of, window_of, windows_asked
from resources.dagster_instance import open_instance

CASE = CASES / "local-business-day" / "recon.yaml"
NEW_YORK = "America/New_York"
HEADER = "event_id,order_id,event_type,amount,currency\n"
AUTUMN = ["2026-10-31T04:00Z", "2026-11-01T04:00Z", "2026-11-02T05:00Z", "2026-11-03T05:00Z"]
SPRING = ["2026-03-07T05:00Z", "2026-03-08T05:00Z", "2026-03-09T04:00Z", "2026-03-10T04:00Z"]
DAY = timedelta(days=1)
CHANGES = pytest.mark.parametrize(("start", "names", "hours"), [("2026-10-31", AUTUMN, [24, 25, 24]), ("2026-03-07", SPRING, [24, 23, 24])])
ZONES = (
    "America/New_York", "America/Santiago", "America/Havana", "America/St_Johns", "America/Goose_Bay", "America/Asuncion", "Asia/Beirut",
    "Africa/Cairo", "Atlantic/Azores", "Australia/Lord_Howe", "Antarctica/Troll", "Asia/Kathmandu", "Asia/Tehran", "Africa/El_Aaiun",
)  # fmt: skip


def made(folder: Path, start: str = "2026-10-31", more: str = "", zone: str = NEW_YORK) -> Reconciliation:
    """The case, with its zone."""
    text = CASE.read_text().replace("{start: 2026-11-01T00:00Z, every: 1d}", f"{{start: {start}, every: 1d, zone: {zone}}}")
    assert "zone" in text
    (folder / "recon.yaml").write_text(text + more)
    return recon.open(folder / "recon.yaml")


def land(r: Reconciliation, window: str, rows: str, close: bool = True) -> None:
    file = r.config.path.parent / f"f-{window.replace(':', '')}-{len(rows)}.csv"
    file.write_text(HEADER + rows)
    r.land([file], window, close=close, again=True)


def refused(folder: Path, windows: str) -> str:
    (folder / "recon.yaml").write_text(CASE.read_text().replace("{start: 2026-11-01T00:00Z, every: 1d}", windows))
    with pytest.raises(WrongUsage) as error:
        _ = Reconciliation(folder / "recon.yaml").config
    assert str(error.value).startswith(f"{folder / 'recon.yaml'}:4: ")
    return str(error.value)


# ---- the grid


@CHANGES
def test_a_window_is_a_local_day_of_23_24_or_25_hours_named_by_its_start_in_utc(
    tmp_path: Path, start: str, names: list[str], hours: list[int]
) -> None:
    grid = made(tmp_path, start).config.grid
    found = list(grid.between(grid.start, grid.at(3)))
    assert [name_of(window) for window in found] == names
    assert [(grid.after(window) - window) // timedelta(hours=1) for window in found[:3]] == hours
    assert [grid.before(window) for window in found[1:]] == found[:-1]
    for number, window in enumerate(found):
        assert grid.index(window) == grid.index(grid.after(window) - timedelta(minutes=1)) == number
        assert grid.parse(name_of(window)) == grid.parse(window.isoformat()) == window


@pytest.mark.parametrize("zone", ZONES)
def test_days_of_any_zone_follow_each_other_without_gap_and_are_dagsters_partitions(zone: str) -> None:
    grid = Grid(local_midnight("2005-01-01", zone, "start"), DAY, zone)
    for number in range(8_000):
        window = grid.at(number)
        assert grid.index(window) == number
        assert grid.after(window) == grid.at(number + 1) > window
        assert grid.index(grid.at(number + 1) - timedelta(minutes=1)) == number
        assert abs(window - grid.start - number * DAY) < grid.slack, "SQL finds the number by arithmetic alone"
    partitions, days = partitions_of(grid), range(1_500, 1_900)
    ends = (key_of(grid, name_of(grid.at(days[0]))), key_of(grid, name_of(grid.at(days[-1]))))
    keys = partitions.get_partition_keys_in_range(dg.PartitionKeyRange(*ends))
    assert [window_of(grid, key) for key in keys] == [name_of(grid.at(number)) for number in days]
    for key, number in zip(keys, days, strict=True):
        cell = partitions.time_window_for_partition_key(key)
        assert (cell.start.astimezone(UTC), cell.end.astimezone(UTC)) == (grid.at(number), grid.at(number + 1))


@pytest.mark.parametrize(
    ("windows", "told"),
    [
        (
            "{start: 2026-11-01, every: 1d, zone: America/NewYork}",
            "windows.zone: 'America/NewYork' is no time zone; did you mean America/New_York?",
        ),
        ("{start: 2026-11-01, every: 1d, zone: new york}", "did you mean America/New_York?"),
        ("{start: 2026-11-01, every: 1d, zone: europe/berlin}", "did you mean Europe/Berlin?"),
        ("{start: 2026-11-01, every: 1d, zone: ../../etc/passwd}", "is no time zone"),
        ("{start: 2026-11-01, every: 1d, zone: America}", "'America' is no time zone"),
        (
            "{start: 2026-11-01, every: 1h, zone: America/New_York}",
            "windows of a zone are its days; write every: 1d",
        ),
        (
            "{start: 2026-11-01T00:00Z, every: 1d, zone: America/New_York}",
            "2026-11-01T00:00Z is no midnight in America/New_York; the nearest is 2026-11-01T04:00Z",
        ),
        ("{start: 1970-01-01, every: 1d, zone: Africa/Monrovia}", "windows begin in 1980 or later"),
        ("{start: 2011-01-01, every: 1d, zone: Pacific/Apia}", "Pacific/Apia has crossed the date line since"),
        (
            "{start: 2026-11-01T05:00Z, every: 1d}",
            "for days that begin at another midnight write windows.zone",
        ),
        ("{start: 0001-01-01, every: 1d, zone: America/New_York}", "'0001-01-01' is not from 1900 to 2999"),
        ("{start: 2026-13-01, every: 1d, zone: America/New_York}", "'2026-13-01' is not a time"),
    ],
)
def test_what_is_no_grid_of_local_days_is_refused_naming_what_is_near(tmp_path: Path, windows: str, told: str) -> None:
    assert told in refused(tmp_path, windows)


@pytest.mark.parametrize("start", ["2026-11-01", "2026-11-01T00:00", "2026-11-01T00:00-04:00", "2026-11-01T04:00Z"])
def test_the_first_window_is_named_by_its_date_or_its_instant_and_the_rules_are_the_same(tmp_path: Path, start: str) -> None:
    config = made(tmp_path, start).config
    assert name_of(config.grid.start) == "2026-11-01T04:00Z"
    assert config.rules_version == made(tmp_path, "2026-11-01").config.rules_version


def test_utc_is_no_zone_of_its_own_and_a_grid_without_one_keeps_its_rules_version(tmp_path: Path) -> None:
    plain = Reconciliation(CASE).config
    assert made(tmp_path, "2026-11-01", zone="UTC").config.rules_version == plain.rules_version
    assert made(tmp_path, "2026-11-01", zone="UTC").config.grid == plain.grid
    assert made(tmp_path, "2026-11-01", zone="Europe/London").config.rules_version != plain.rules_version, "the same days in November"


def test_a_zone_that_is_changed_after_the_store_was_made_is_refused(tmp_path: Path) -> None:
    land(made(tmp_path), AUTUMN[0], "I1,A,INVOICE,1.00,USD\n")
    with pytest.raises(WrongUsage, match=r"windows\.zone is 'America/Toronto', but the store was made with 'America/New_York'"):
        made(tmp_path, zone="America/Toronto").store()
    with pytest.raises(WrongUsage, match=r"windows\.start|windows\.zone"):
        made(tmp_path, "2026-10-31", zone="UTC").store()
    (tmp_path / "plain").mkdir()
    plain = tmp_path / "plain" / "recon.yaml"
    plain.write_text(CASE.read_text())
    recon.open(plain).store(create=True)
    text = CASE.read_text().replace("every: 1d", "every: 1d, zone: Europe/London")
    plain.write_text(text)
    with pytest.raises(WrongUsage, match=r"windows\.zone is 'Europe/London', but the store was made with UTC"):
        recon.open(plain).store()
    (tmp_path / "london").mkdir()
    land(made(tmp_path / "london", "2026-11-01", zone="Europe/London"), "2026-11-01", "I1,A,INVOICE,1.00,USD\n")
    with pytest.raises(WrongUsage, match=r"windows\.zone is UTC, but the store was made with 'Europe/London'"):
        made(tmp_path / "london", "2026-11-01", zone="UTC").store()


# ---- the way of the data


@pytest.fixture(params=[("2026-10-31", AUTUMN), ("2026-03-07", SPRING)], ids=["autumn", "spring"])
def done(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Reconciliation, list[str]]:
    """An invoice on each of three days, paid on the day after; the last day is still open."""
    start, names = request.param
    r = made(tmp_path, start)
    for number in (2, 0, 1):
        rows = f"I{number},A{number},INVOICE,10.00,USD\n" + (f"P{number},A{number - 1},PAYMENT,10.00,USD\n" if number else "")
        land(r, names[number], rows)
    land(r, names[3], "I3,A3,INVOICE,5.00,USD\n", close=False)
    assert r.run().windows == names[:3]
    return r, names


def test_both_clock_changes_come_out_right_from_landing_to_certificate(done: tuple[Reconciliation, list[str]]) -> None:
    r, names = done
    assert r.state().watermark == names[2]
    assert [r.show(key)["status"] for key in ("A0", "A1", "A2")] == ["MATCHED", "MATCHED", "UNPAID"]
    for number, name in enumerate(names[:3]):
        certificate = read_certificate(r.store(), r.config.grid.parse(name))
        assert certificate is not None
        assert (certificate["window"], certificate["until"], certificate["ties"]) == (name, names[number + 1], True)
        assert r.status(name)["until"] == names[number + 1]
    assert r.status()["open"] == [names[3]]
    assert r.verify(full=True).problems == []


def test_as_of_the_end_of_a_local_day_and_the_dates_of_windows(done: tuple[Reconciliation, list[str]]) -> None:
    r, names = done
    end = datetime.fromisoformat(names[2]).astimezone(r.config.grid.start.astimezone().tzinfo)
    offset = "-05:00" if names is AUTUMN else "-04:00"
    assert r.show("A1", as_of=f"{names[2][:10]}T00:00{offset}")["status"] == "UNPAID", end
    assert r.show("A1", as_of=f"{names[3][:10]}T00:00{offset}")["status"] == "MATCHED"
    with pytest.raises(WrongUsage, match="no window ends then"):
        r.show("A1", as_of=f"{names[2][:10]}T01:00{offset}")
    assert [manifest.window for manifest in r.replay(names[0][:10], names[2][:10])] == names[:3]


def test_a_deadline_counts_from_the_end_of_the_local_day_and_freshness_from_the_watermarks(tmp_path: Path) -> None:
    r = made(tmp_path, more="closing: {deadline: 1h}\n")
    r.store(create=True)
    config: Config = r.config
    assert config.freshness == timedelta(hours=25 + 1, minutes=30)
    before, after = datetime(2026, 11, 2, 5, 59, tzinfo=UTC), datetime(2026, 11, 2, 6, 0, tzinfo=UTC)
    assert list(past_deadline(config, r.state(), before)) == AUTUMN[:1]
    assert list(past_deadline(config, r.state(), after)) == AUTUMN[:2]
    assert [one.window for one in close_due(r.store(), config, after, AUTUMN[:2])] == AUTUMN[:2]
    assert r.run(None, AUTUMN[1]).windows == AUTUMN[:2]
    found = freshness(r.store(), config, r.state(), after)
    assert (found.watermark, found.lag) == (AUTUMN[1], timedelta(hours=1))
    assert AUTUMN[2] in found.waits_for


@pytest.mark.parametrize(("start", "names"), [("2026-10-31", AUTUMN), ("2026-03-07", SPRING)])
def test_an_identity_reaches_back_by_days_whatever_their_hours(tmp_path: Path, start: str, names: list[str]) -> None:
    r = made(tmp_path, start)
    r.config.path.write_text(r.config.path.read_text().replace("id: event_id", "id: event_id, dedupe: 1d"))
    r = Reconciliation(r.config.path)
    for number in (3, 1, 0, 2):
        land(
            r,
            names[number],
            "".join(f"{one},A,INVOICE,1.00,USD\n" for one in ("every", f"own-{number}", *["0-and-2"] * (number in (0, 2)))),
        )
        r.run()
    counted = {part["window"]: part["events"] for part in r.show("A")["contributions"]}
    assert counted == {names[0]: 3, names[1]: 1, names[2]: 2, names[3]: 1}
    assert r.verify(full=True).problems == []


@pytest.mark.parametrize("start", ["2026-10-24", pytest.param("2026-03-01", marks=pytest.mark.soak)])
def test_contributions_of_local_days_are_carried_forward_as_those_of_any_grid(tmp_path: Path, start: str) -> None:
    r = made(tmp_path, start)
    r.config.path.write_text(r.config.path.read_text().replace("id: event_id", "id: event_id, dedupe: 1d"))
    r = Reconciliation(r.config.path)
    windows = [name_of(r.config.grid.at(number)) for number in range(14)]
    late = random.Random(7).sample(windows, len(windows))
    with small():
        for number, name in enumerate(late):
            land(r, name, f"{name},A,INVOICE,1.00,USD\nshared,A,INVOICE,0.10,USD\n{name},{name[8:10]},PAYMENT,2.00,USD\n")
            assert not r.run().bad
            if number % 3 == 1:  # and so the last
                assert r.verify(full=True).problems == []
        shown = r.show("A")
    assert any("until" in part for part in shown["contributions"]), "a block was carried forward"
    assert shown["measures"]["billed"] == "14.10"


# ---- Dagster


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test(temp_dir=str(tmp_path)) as made_one:
        yield made_one


@CHANGES
def test_partitions_are_the_local_days_with_the_date_as_their_key(tmp_path: Path, start: str, names: list[str], hours: list[int]) -> None:
    grid = made(tmp_path, start).config.grid
    partitions = partitions_of(grid)
    now = grid.at(3) + timedelta(hours=10)
    with dg.partition_loading_context(now):
        keys = partitions.get_partition_keys()
    assert [window_of(grid, key) for key in keys] == names
    assert [key_of(grid, name) for name in names] == list(keys)
    assert keys[0] == start
    assert windows_asked(grid, range_of(grid, names[0], names[3]), now) == [grid.at(number) for number in range(4)]
    with pytest.raises(WrongUsage, match="has not begun yet"):
        windows_asked(grid, range_of(grid, names[0], name_of(grid.at(4))), now)


@pytest.mark.parametrize(("start", "names"), [("2026-10-31", AUTUMN), ("2026-03-07", SPRING)])
def test_a_range_over_a_clock_change_is_one_run_and_every_day_of_it_is_shown(
    tmp_path: Path, start: str, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    r = made(tmp_path, start)
    for number, name in enumerate(names[:3]):
        land(r, name, f"I{number},A,INVOICE,1.00,USD\n")
    with Materializing() as way:
        report = r.run(None, None, None, way)
    assert report.windows == names[:3]
    assert len(report.commits) == 1, "days that follow each other are one range"
    dates = {key_of(r.config.grid, name) for name in names[:3]}
    with open_instance(r.config.path) as instance:
        for asset in ("stateless_artifacts", "stateful_artifacts", "window_certificates"):
            assert instance.get_materialized_partitions(dg.AssetKey(["billing", asset])) == dates
        assert repair(Work(r.store(), r.config, Timeline(r.store())), instance).repaired == 0
    (tmp_path / "lost").mkdir()
    with dg.instance_for_test(temp_dir=str(tmp_path / "lost")) as lost:
        assert repair(Work(r.store(), r.config, Timeline(r.store())), lost).repaired == 3
        assert lost.get_materialized_partitions(dg.AssetKey(["billing", "window_certificates"])) == dates


def test_a_day_is_chosen_in_the_ui_by_its_date(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    r = made(tmp_path)
    land(r, "2026-11-01", "I1,A,INVOICE,1.00,USD\n")
    result = run(r, {"dagster/partition": "2026-11-01"}, instance)
    assert result.success
    assert set(r.state().windows) == {AUTUMN[1]}


def test_the_command_line_takes_dates_and_names_the_nearest_day(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    r = made(tmp_path)
    (tmp_path / "x.csv").write_text(HEADER + "I1,A,INVOICE,1.00,USD\n")

    def call(*arguments: Any) -> tuple[int, str, str]:
        status = main([*arguments, "--config", str(r.config.path)])
        out, err = capsys.readouterr()
        return status, out, err

    status, out, _ = call("land", str(tmp_path / "x.csv"), "--window", "2026-11-01", "--close")
    assert (status, AUTUMN[1] in out) == (0, True)
    status, _, err = call("status", "2026-11-02T04:00Z")
    assert status == 2
    assert "is not on the grid of windows; the nearest is 2026-11-02T05:00Z" in err
    assert call("status", "2026-11-02T00:00-05:00")[0] == 0
    assert call("status", "9999-12-31T23:59-23:00")[0] == call("status", "0001-01-01T00:00+14:00")[0] == 2
