"""Runs of aggregations: claimed once, carried out on what was evaluated, and ended whatever becomes of their process."""

from __future__ import annotations

import json
import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest.mock import patch

import aggregation_site as s
import pytest
from aggregation_deaths import run_and_die, silent, stepping
from aggregation_site import DAILY, NEXT, WINDOW, answers, evaluated, land, made, opened, run, table_rows

from recon.aggregations.replay import replay
from recon.aggregations.runs import carry_out as carrying
from recon.aggregations.runs import compute as computing
from recon.aggregations.runs import monitor, tracking
from recon.aggregations.runs.carry_out import carry_out
from recon.aggregations.tick import tick
from recon.aggregations.warehouse.duckdb import DuckDBWarehouse
from recon.errors import Cancelled, TryAgain, WrongInput, WrongUsage
from recon.storage import layout

TWO = [("A", "4", "1.00"), ("B", "4", "2.50")]


def total(site: s.Aggregations) -> dict[str, Decimal]:
    return {row[0]: row[1] for row in table_rows(site)}


def certificate(site: s.Aggregations, number: int, scope: str = WINDOW) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(site.intake.store.get(layout.load_certificate("daily", scope, number)))
    return found


@contextmanager
def short_lease() -> Iterator[None]:
    """Leases that have run out when they are taken."""
    with patch.object(tracking, "LEASE", timedelta(0)):
        yield


def nothing_left_over(site: s.Aggregations) -> bool:
    return not list(site.intake.store.list(layout.STATELESS))


# ---- what a run reads ------------------------------------------------------------------------------------------------


def test_a_run_records_what_it_read_and_has_a_certificate_that_ties(tmp_path: Path) -> None:
    site = made(tmp_path, {"daily": DAILY + 'filter: "code = 4"\n'})
    land(site, "a.csv", [*TWO, ("A", "13", "9.00")])
    (done,) = run(site)[1]
    assert (done.state, done.versions, done.attempt, done.worker) == ("completed", "1", 1, "test")
    figures = {name: done.figures[name] for name in ("rows_in", "rows_used", "rows_left_out", "rows", "inserted", "totals")}
    assert figures == {
        "rows_in": 3,
        "rows_used": 2,
        "rows_left_out": 1,
        "rows": 2,
        "inserted": 2,
        "totals": {"total": "3.50", "lines": "2"},
    }
    found = certificate(site, done.id)
    assert (found["ties"], found["load"], found["scope"]) == (True, done.load, WINDOW)
    assert [(file["file"], file["version"], file["rows"]) for file in found["files"]] == [("a.csv", "1", 3)]
    assert nothing_left_over(site)


def test_a_key_of_which_only_one_measure_has_rows_is_there(tmp_path: Path) -> None:
    by_code = 'measures: {sale: {sum: amount, where: "code = 4"}, tax: {sum: amount, where: "code = 5"}}'
    site = made(tmp_path, {"daily": f'source: sales\nkeys: shop\n{by_code}\nfilter: "code in (4, 5)"\ntarget: daily\n'})
    land(site, "a.csv", [("only-tax", "5", "1000.00"), ("only-sale", "4", "2.00"), ("neither", "13", "3.00")])
    run(site)
    assert table_rows(site) == [("only-sale", Decimal("2.00"), None), ("only-tax", None, Decimal("1000.00"))]


def test_amounts_stay_exact_however_large_they_are(tmp_path: Path) -> None:
    site = made(tmp_path)
    large = "9999999999999999.99"
    land(site, "a.csv", [("A", "4", large), ("A", "4", large), ("A", "4", "0.01"), ("B", "4", "1000.00")])
    run(site)
    assert total(site) == {"A": Decimal("19999999999999999.99"), "B": Decimal("1000.00")}


def test_half_of_the_files_replaced_while_a_run_reads_are_read_as_they_were_evaluated(tmp_path: Path) -> None:
    site = made(tmp_path, {"daily": DAILY + "expect: 4\n"})
    for name in "abcd":
        land(site, f"{name}.csv", [(name, "4", "1.00")])
    (claimed,) = tick(site).claimed
    real = carrying.compute

    def replaced_meanwhile(*arguments: Any) -> computing.Computed:
        for name in "ab":
            land(site, f"{name}.csv", [(name, "4", "7.00")])
        return real(*arguments)

    with patch.object(carrying, "compute", replaced_meanwhile):
        done = carry_out(site, claimed, "test")
    assert done.versions == "1,2,3,4"
    assert total(site) == dict.fromkeys("abcd", Decimal("1.00"))
    (after,) = run(site)[1]
    assert (after.versions, after.figures["updated"]) == ("3,4,5,6", 2)
    assert total(site) == {"a": Decimal("7.00"), "b": Decimal("7.00"), "c": Decimal("1.00"), "d": Decimal("1.00")}


def test_a_file_converted_anew_before_a_run_reads_it_fails_the_run_and_the_next_takes_it(tmp_path: Path) -> None:
    site = made(tmp_path)
    land(site, "a.csv")
    (claimed,) = tick(site).claimed
    s.reconvert(site, "a.csv", [("A", "4", "8.00")])
    with pytest.raises(WrongInput, match="the clean rows of file 1 were made anew"):
        carry_out(site, claimed, "test")
    (done,) = run(site)[1]
    assert (done.versions, done.attempt, total(site)) == ("1.2", 1, {"A": Decimal("8.00")})


def test_a_claim_is_refused_where_files_came_since_the_evaluation(tmp_path: Path) -> None:
    site = made(tmp_path)
    land(site, "a.csv")
    (found,) = site.evaluator.evaluate([s.definition(site)])
    land(site, "b.csv")
    assert site.runs.claim(found) is None
    assert site.runs.all() == []


def test_two_claims_of_one_evaluation_start_one_run(tmp_path: Path, database: str) -> None:
    site = made(tmp_path, more=database)
    land(site, "a.csv")
    (found,) = site.evaluator.evaluate([s.definition(site)])
    (again,) = opened(tmp_path).evaluator.evaluate([s.definition(site)])
    assert site.runs.claim(found) is not None
    assert site.runs.claim(again) is None
    (claimed,) = site.runs.all()
    done = carry_out(site, claimed, "first")
    assert done.state == "completed"
    with pytest.raises(WrongUsage, match="run 1 of daily is completed; it cannot be begun"):
        carry_out(site, claimed, "second")
    assert site.runs.claim(again) is None, "the evaluation is out of date"


# ---- processes that die ----------------------------------------------------------------------------------------------


class Killed(BaseException):
    """A SIGKILL, as far as the process can tell: whatever it calls afterwards does nothing."""


@contextmanager
def killing(number: int) -> Iterator[list[int]]:
    """Ends the process at a step. Yields the number of steps so far."""
    steps = [0]

    def step() -> None:
        steps[0] += 1
        if steps[0] >= number:
            raise Killed

    with silent(), stepping(step):
        yield steps


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.soak)])
def test_a_run_that_dies_anywhere_is_mended_by_the_next_tick(tmp_path: Path, every: int) -> None:
    site, number, loaded = made(tmp_path), 1, 0
    while True:
        land(site, "a.csv", [("A", "4", f"{number}.00"), (f"K{number}", "4", "1.00")])
        with silent():
            (claimed,) = tick(site).claimed
        with killing(number) as steps, suppress(Killed):
            carry_out(site, claimed, "victim")
        loaded += mended(site, claimed.id, number)
        if steps[0] < number:
            break
        number += every
    assert number >= 40
    assert loaded, "some died after their load had committed"


def mended(site: s.Aggregations, number: int, amount: int) -> bool:
    """Checks that the next tick mends what a dead run left, whose input had this amount. Returns whether the run had loaded."""
    before = site.runs.get(number).state
    later = tick(site, now=site.runs.now() + timedelta(hours=1))
    done = [carry_out(site, one, "next") for one in later.claimed]
    ended = site.runs.get(number)
    assert ended.state in ("completed", "failed"), amount
    assert [one.state for one in done] == ([] if ended.state == "completed" else ["completed"]), amount
    assert total(site) == {"A": Decimal(amount), f"K{amount}": Decimal(1)}, amount
    assert certificate(site, (done[0] if done else ended).id)["ties"], amount
    assert nothing_left_over(site), amount
    assert not tick(site).claimed
    return before == "running" and ended.state == "completed"


@pytest.mark.parametrize("steps", [(12, 45), pytest.param(tuple(range(1, 60)), marks=pytest.mark.soak)], ids=["some", "all"])
def test_a_process_that_is_killed_anywhere_is_mended_by_the_next_tick(tmp_path: Path, steps: tuple[int, ...]) -> None:
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["aggregation_deaths"])
    site = made(tmp_path)
    for step in steps:
        land(site, "a.csv", [("A", "4", f"{step}.00"), (f"K{step}", "4", "1.00")])
        victim = processes.Process(target=run_and_die, args=(tmp_path, step))
        victim.start()
        victim.join(60)
        assert victim.exitcode in (-signal.SIGKILL, 0), step
        mended(site, site.runs.all(most=1)[0].id, step)


def test_a_run_that_dies_has_its_reason_and_the_next_is_another_attempt(tmp_path: Path) -> None:
    site = made(tmp_path)
    land(site)
    with short_lease():
        (claimed,) = tick(site, worker="node-7").claimed
        site.runs.start(claimed, "node-7")
    found = tick(site)
    assert [(one.id, one.state) for one in found.ended] == [(1, "failed")]
    assert found.ended[0].reason.startswith("its process (node-7) gave no sign of life since 20")
    (again,) = tick(site, now=site.runs.now() + timedelta(minutes=2)).claimed
    assert (again.id, again.attempt) == (2, 2)


def test_a_run_that_gives_signs_of_life_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = made(tmp_path)
    land(site)
    monkeypatch.setattr(tracking, "LEASE", timedelta(seconds=0.4))
    (claimed,) = tick(site).claimed
    real, seen = carrying.compute, []

    def slow(*arguments: Any) -> computing.Computed:
        import time

        for _ in range(6):
            time.sleep(0.2)
            seen.extend(tick(site).ended)
        return real(*arguments)

    with patch.object(carrying, "compute", slow):
        assert carry_out(site, claimed, "test").state == "completed"
    assert not seen


def test_a_dead_run_is_not_ended_if_it_comes_back_to_life_at_that_moment(tmp_path: Path) -> None:
    site = made(tmp_path)
    land(site)
    with short_lease():
        (claimed,) = tick(site).claimed
        site.runs.start(claimed, "test")
    (overdue,) = site.runs.overdue()
    assert site.runs.beat(overdue)
    assert monitor.conclude(site, overdue, "failed", "dead", overdue=True).state == "running"


def overtake(site: s.Aggregations) -> None:
    """What others do while a run is suspended: its lease runs out, other input lands, and a later run completes."""
    s.edit(site, "UPDATE aggregation_runs SET lease_until = '2020-01-01T00:00:00+00:00'")
    land(site, "a.csv", [("A", "4", "2.00")])
    run(site)


def test_a_suspended_run_that_was_given_up_loads_nothing(tmp_path: Path) -> None:
    site = made(tmp_path)
    land(site, "a.csv", [("A", "4", "1.00")])
    (claimed,) = tick(site).claimed
    real = carrying.compute

    def suspended(*arguments: Any) -> computing.Computed:
        result = real(*arguments)
        with patch.object(carrying, "compute", real):
            overtake(site)
        return result

    with patch.object(carrying, "compute", suspended), pytest.raises(Cancelled, match="was ended by another process"):
        carry_out(site, claimed, "test")
    assert [(one.id, one.state) for one in site.runs.all()] == [(2, "completed"), (1, "failed")]
    assert total(site) == {"A": Decimal("2.00")}


def test_a_run_suspended_within_its_load_can_not_undo_a_later_one(tmp_path: Path) -> None:
    site = made(tmp_path)
    land(site, "a.csv", [("A", "4", "1.00")])
    (claimed,) = tick(site).claimed
    real = DuckDBWarehouse.load

    def suspended(warehouse: DuckDBWarehouse, load: Any) -> Any:
        with patch.object(DuckDBWarehouse, "load", real):
            overtake(site)
        return real(warehouse, load)

    with patch.object(DuckDBWarehouse, "load", suspended), pytest.raises(WrongInput, match="run 1 comes too late and changed nothing"):
        carry_out(site, claimed, "test")
    assert [(one.id, one.state) for one in site.runs.all()] == [(2, "completed"), (1, "failed")]
    assert total(site) == {"A": Decimal("2.00")}


def test_a_run_that_was_given_up_and_has_loaded_all_the_same_is_completed(tmp_path: Path) -> None:
    site = made(tmp_path)
    land(site, "a.csv", [("A", "4", "1.00")])
    (claimed,) = tick(site).claimed
    real = DuckDBWarehouse.load

    def suspended(warehouse: DuckDBWarehouse, load: Any) -> Any:
        s.edit(site, "UPDATE aggregation_runs SET lease_until = '2020-01-01T00:00:00+00:00'")
        assert [one.state for one in tick(site).ended] == ["failed"]
        return real(warehouse, load)

    with patch.object(DuckDBWarehouse, "load", suspended):
        done = carry_out(site, claimed, "test")
    assert (done.state, total(site)) == ("completed", {"A": Decimal("1.00")})
    assert certificate(site, 1)["ties"]
    assert not tick(site, now=site.runs.now() + timedelta(hours=1)).claimed


def test_a_warehouse_that_is_away_leaves_a_dead_run_to_the_next_tick(tmp_path: Path) -> None:
    site = made(tmp_path, {"daily": DAILY, "other": DAILY.replace("target: daily", "target: other")})
    land(site)
    with short_lease():
        for one in tick(site).claimed:
            if one.aggregation == "daily":
                site.runs.start(one, "test")
            else:
                site.runs.end(one, "completed")
    land(site, "b.csv")
    with patch.object(DuckDBWarehouse, "find", side_effect=TryAgain("it is locked")):
        found = tick(site)
    assert found.ended == ()
    assert [one.aggregation for one in found.claimed] == ["other"], "the others are evaluated"
    assert [one.id for one in tick(site).ended] == [1]


def test_a_cancelled_run_is_ended_so_and_waits_for_a_person_or_new_input(tmp_path: Path) -> None:
    site = made(tmp_path)
    land(site)
    (claimed,) = tick(site).claimed
    with patch.object(carrying, "compute", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        carry_out(site, claimed, "test")
    assert (site.runs.get(1).state, site.runs.get(1).reason) == ("cancelled", "interrupted")
    holds, why = answers(evaluated(site, now=site.runs.now() + timedelta(days=2)))["tries"]
    assert holds is False
    assert "run 1 was cancelled: interrupted" in why
    land(site, "b.csv")
    assert [one.attempt for one in tick(site).claimed] == [1]


# ---- replays ---------------------------------------------------------------------------------------------------------


def test_a_replay_takes_the_versions_and_the_definition_of_an_earlier_run(tmp_path: Path) -> None:
    site = made(tmp_path)
    land(site, "a.csv", [("A", "4", "1.00")])
    run(site)
    land(site, "a.csv", [("A", "4", "2.00"), ("B", "4", "2.00")])
    run(site)
    s.define(tmp_path, "daily", DAILY.replace("sum: amount", "max: amount"))
    site.definitions()
    again = carry_out(site, replay(site, 1, "test"), "test")
    assert (again.id, again.replays, again.versions, again.state) == (3, 1, "1", "completed")
    assert total(site) == {"A": Decimal("1.00")}
    stored = s.stored_answers(site)[-1]
    assert stored["answers"]["replay"]["why"] == "asked to take the files of run 1 again"


def test_a_replay_mends_a_table_that_someone_changed(tmp_path: Path) -> None:
    site = made(tmp_path)
    land(site, "a.csv", TWO)
    run(site)
    import duckdb

    with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as connection:
        connection.execute("UPDATE daily SET total = 99 WHERE shop = 'A'")
        connection.execute("DELETE FROM daily WHERE shop = 'B'")
    assert not tick(site).claimed
    again = carry_out(site, replay(site, 1, "test"), "test")
    assert (again.figures["updated"], again.figures["inserted"]) == (1, 1)
    assert total(site) == {"A": Decimal("1.00"), "B": Decimal("2.50")}
    assert not tick(site).claimed, "it holds what is there"


def test_a_replay_waits_for_a_run_at_work_and_names_a_run_that_is_not_there(tmp_path: Path) -> None:
    site = made(tmp_path)
    land(site)
    tick(site)
    with pytest.raises(TryAgain, match="a run is at work"):
        replay(site, 1, "test")
    with pytest.raises(WrongUsage, match="there is no run 9"):
        replay(site, 9, "test")


# ---- what is kept ----------------------------------------------------------------------------------------------------


def names_read(statements: list[str]) -> int:
    return len([text for text in statements if "json_group_array" in text])


def test_names_are_read_only_where_they_are_asked_for_and_again_only_where_versions_changed(tmp_path: Path) -> None:
    by_number = DAILY.replace("target: daily", "target: other") + "expect: 3\nleast_rows: 9\n"
    site = made(tmp_path, {"daily": DAILY + "expect: [a.csv, b.csv, c.csv]\n", "other": by_number})
    for window in (WINDOW, NEXT):
        land(site, "a.csv", window=window)
        land(site, "b.csv", window=window)
    with s.counted(site) as statements:
        site.evaluator.evaluate([s.definition(site, "other")])
    assert names_read(statements) == 0
    with s.counted(site) as statements:
        tick(site)
    assert names_read(statements) == 1, "both windows are of one source"
    with s.counted(site) as statements:
        tick(site)
    assert names_read(statements) == 0
    land(site, "b.csv", [("B", "4", "3.00")] * 7, window=NEXT)
    with s.counted(site) as statements:
        (found,) = site.evaluator.evaluate([s.definition(site)], scope=NEXT)
    assert names_read(statements) == 1
    assert (found.versions, found.missing) == ("3,5", ("c.csv",))


def test_an_evaluation_is_stored_once_until_its_answers_change(tmp_path: Path) -> None:
    site = made(tmp_path, {"daily": DAILY + "expect: 2\n"})
    land(site)
    for _ in range(3):
        tick(site)
        tick(opened(tmp_path))
    assert len(s.stored_answers(site)) == 1
    s.land(site, "b.csv")
    run(site)
    s.take_back(site, "b.csv")
    tick(site)
    s.land(site, "b.csv", [("B", "4", "2.00")])
    run(site)
    s.take_back(site, "b.csv")
    tick(site)
    assert [one["due"] for one in s.stored_answers(site)] == [0, 1, 0, 1, 0]
