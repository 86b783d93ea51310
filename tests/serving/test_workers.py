"""Index workers as processes: killed, stopped, late, poisoned, and their coordinator killed. Nothing is lost and nothing counted twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from faulty_store import Call, WatchedStore
from worker_child import Table, mark
from worker_processes import CHILD, PATIENT, QUICK, ROWS, TABLE, coordinator, planned, processes, shares

from recon.errors import ConnectionLost, Damaged, Throttled, WrongUsage
from recon.serving.workers import plans
from recon.serving.workers.attempts import Attempt, AttemptId, progress_of_shares, read_done, read_entry, revoke
from recon.serving.workers.coordinator import Coordinator, Crew, Timing, WorkSummary
from recon.serving.workers.launchers import Handle, Processes
from recon.serving.workers.plans import Plan, ShareBody, plan_for
from recon.serving.workers.worker import STORE, Event, ShareResult, event_of, serve
from recon.serving.workers.worker import TABLE as TABLE_OF
from recon.storage import layout
from recon.storage.local import LocalStore


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path / "table.db")


def all_is_there_once(table: Table, plan: Plan, worked: WorkSummary | Mapping[str, Any] | None) -> None:
    """Every row is in the table, was written once, and was counted once."""
    rows = table.rows()
    assert len(rows) == plan.rows
    assert set(rows.values()) == {(7, 1)}
    if isinstance(worked, WorkSummary):
        assert worked.counts["entries"] == worked.rows == plan.rows


def check_restarted(store: LocalStore, table: Table, folder: Path) -> None:
    """Two shares come out whole though a worker had to be replaced."""
    plan = planned(store, 2)
    worked = coordinator(store, plan, processes(folder)).run()
    all_is_there_once(table, plan, worked)
    assert worked.restarts == 1


def told(store: LocalStore, plan: Plan) -> dict[str, Any]:
    found = plans.finished(store, plan.folder)
    assert found is not None
    return found


def until(condition: Callable[[], bool], seconds: float = 600) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not come to pass"
        time.sleep(0.02)


def test_every_share_is_done_and_counted_once(store: LocalStore, table: Table, tmp_path: Path) -> None:
    plan, parts = planned(store, 3), list[float]()
    worked = coordinator(store, plan, processes(tmp_path)).run(parts.append)
    all_is_there_once(table, plan, worked)
    assert (worked.shares, worked.restarts, worked.taken_over) == (3, 0, 0)
    assert worked.counts["items"] == plan.rows
    assert parts == sorted(parts)
    assert parts[-1] == 1.0
    assert told(store, plan)["rows"] == plan.rows


def test_a_worker_that_is_killed_is_replaced_and_what_it_told_is_not_done_again(store: LocalStore, table: Table, tmp_path: Path) -> None:
    mark(tmp_path / "table.db", "kill", 60).touch()
    check_restarted(store, table, tmp_path)


def test_a_worker_that_hangs_is_given_away_and_ended(store: LocalStore, table: Table, tmp_path: Path) -> None:
    mark(tmp_path / "table.db", "stop", 160).touch()
    check_restarted(store, table, tmp_path)
    (stopped,) = tmp_path.glob("stop-160-by-*")
    assert not Path(f"/proc/{stopped.name.rpartition('-')[2]}").exists()


class NotStopped(Processes):
    """Workers that nobody can end, as on Lambda."""

    def __init__(self, command: list[str]) -> None:
        super().__init__(command)
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, event: Event) -> Handle:
        handle = super().start(event)
        assert isinstance(handle, subprocess.Popen)
        self.started.append(handle)
        return handle

    def poll(self, handle: Handle) -> str | None:
        return None

    def stop(self, handle: Handle) -> None:
        pass


def test_a_worker_that_comes_back_after_its_share_was_given_away_does_no_harm(store: LocalStore, table: Table, tmp_path: Path) -> None:
    mark(tmp_path / "table.db", "stop", 60).touch()
    plan, transport = planned(store, 1), NotStopped([sys.executable, str(CHILD), str(tmp_path / "table.db")])
    worked = coordinator(store, plan, transport).run()
    all_is_there_once(table, plan, worked)
    assert worked.restarts == 1
    done, before = read_done(store, plan.folder, "s0"), sorted(store.list(plan.folder))
    table.update("state/x/merge.run-65", 9)  # a later commit has moved a key on meanwhile
    late = transport.started[0]
    os.kill(late.pid, signal.SIGCONT)
    assert late.wait(600) == 0
    assert read_done(store, plan.folder, "s0") == done
    assert sorted(store.list(plan.folder)) == before
    assert table.rows()["state/x/merge.run-65"] == (9, 2)
    assert told(store, plan)["counts"] == {"entries": ROWS, "items": worked.counts["items"]}


def test_a_share_that_always_fails_is_told_by_name_and_the_others_are_done(store: LocalStore, table: Table, tmp_path: Path) -> None:
    poison = mark(tmp_path / "table.db", "poison", 150)
    poison.touch()
    plan = planned(store, 3)
    with pytest.raises(Damaged) as told:
        coordinator(store, plan, processes(tmp_path)).run()
    assert "1 of 3 shares" in str(told.value)
    assert "share s1 (rows 100 to 200 of state/x/merge.run)" in str(told.value)
    assert "state/x/part-0000.words: the record of row 150" in str(told.value)
    assert "after 3 attempts" in str(told.value)
    assert plans.finished(store, plan.folder) is None
    assert sum(row // ROWS != 1 for row in (int(key.rpartition("-")[2]) for key in table.rows())) == 2 * ROWS
    # Mended and run again: only that share is done, and from where it had come to.
    poison.unlink()
    worked = coordinator(store, plan, processes(tmp_path)).run()
    all_is_there_once(table, plan, worked)
    assert (worked.taken_over, worked.restarts) == (2, 0)


def test_a_coordinator_that_is_killed_is_run_again_and_takes_over_what_is_done_and_in_flight(
    store: LocalStore, table: Table, tmp_path: Path
) -> None:
    plan = planned(store, 3)
    mark(tmp_path / "table.db", "slow", 50).touch()
    command = [sys.executable, "-c", KILLED, str(CHILD.parent), str(tmp_path)]
    first = subprocess.Popen(command)
    until(lambda: sum(share.done for share in progress_of_shares(store, plan.folder).values()) == 2)
    first.kill()
    first.wait()
    until(lambda: "s0" in progress_of_shares(store, plan.folder))
    worked = coordinator(store, plan, processes(tmp_path), patience=PATIENT).run()
    all_is_there_once(table, plan, worked)
    assert worked.taken_over >= 2
    # The worker of the first coordinator went on; nobody else was put to its share.
    assert [len(share.newest) for share in progress_of_shares(store, plan.folder).values()] == [1, 1, 1]


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from worker_processes import PATIENT, LocalStore, coordinator, planned, processes
folder = Path(sys.argv[2])
store = LocalStore(folder / "store")
coordinator(store, planned(store, 3), processes(folder), patience=PATIENT, workers=3).run()
"""


def test_a_worker_hands_back_what_is_left_before_its_time_is_over_and_the_next_goes_on_there(
    store: LocalStore, table: Table, tmp_path: Path
) -> None:
    mark(tmp_path / "table.db", "slow", 50).touch()
    plan = plan_for(store, TABLE, 0, 1, lambda: [{**shares(1)[0], "end": 2000}])
    patience = replace(QUICK, limit_s=1.0, silence_s=3)
    worked = coordinator(store, plan, processes(tmp_path), patience=patience).run()
    rows = table.rows()
    assert len(rows) == 2000 == worked.counts["entries"]
    assert {writes for _, writes in rows.values()} == {1}
    assert worked.handed_back + worked.restarts >= 1


class Refusing(Processes):
    """Refuses to start the first few."""

    def __init__(self, command: list[str], error: Exception, times: int, started: bool = False) -> None:
        super().__init__(command)
        self.error, self.times, self.started = error, times, started

    def start(self, event: Event) -> Handle:
        self.times -= 1
        if self.times < 0:
            return super().start(event)
        if self.started:
            super().start(event)
        raise self.error


def test_throttled_invocations_wait_and_are_no_failures_of_a_share(store: LocalStore, table: Table, tmp_path: Path) -> None:
    plan = planned(store, 2)
    refusing = Refusing([sys.executable, str(CHILD), str(tmp_path / "table.db")], Throttled("no more for now"), 4)
    worked = coordinator(store, plan, refusing, patience=replace(QUICK, attempts=1, backoff_s=0.02)).run()
    all_is_there_once(table, plan, worked)
    assert (worked.throttled, worked.restarts) == (4, 0)


def test_invocations_that_are_throttled_for_good_are_told_as_such(store: LocalStore, tmp_path: Path) -> None:
    refusing = Refusing([], Throttled("no more for now"), 1000)
    with pytest.raises(Throttled):
        coordinator(store, planned(store, 2), refusing, patience=Timing(look_s=0.001, backoff_s=1e-4)).run()


def test_an_invocation_whose_reply_was_lost_does_no_share_twice(store: LocalStore, table: Table, tmp_path: Path) -> None:
    plan = planned(store, 2)
    command = [sys.executable, str(CHILD), str(tmp_path / "table.db")]
    worked = coordinator(store, plan, Refusing(command, ConnectionLost("cut"), 1, started=True)).run()
    all_is_there_once(table, plan, worked)
    time.sleep(0.5)
    assert len(table.rows()) == plan.rows


def test_a_doubled_invocation_does_nothing(store: LocalStore, table: Table, tmp_path: Path) -> None:
    class Doubled(Processes):
        def start(self, event: Event) -> Handle:
            super().start(event)
            return super().start(event)

        def poll(self, handle: Handle) -> str | None:
            return None

    plan = planned(store, 2)
    worked = coordinator(store, plan, Doubled([sys.executable, str(CHILD), str(tmp_path / "table.db")])).run()
    all_is_there_once(table, plan, worked)
    assert [len(share.newest) for share in progress_of_shares(store, plan.folder).values()] == [1, 1]


def test_two_coordinators_at_once_do_each_share_once(store: LocalStore, table: Table, tmp_path: Path) -> None:
    plan = planned(store, 4)
    command = [sys.executable, "-c", KILLED.replace("3)", "4)"), str(CHILD.parent), str(tmp_path)]
    other = subprocess.Popen(command)
    worked = coordinator(store, plan, processes(tmp_path), patience=PATIENT).run()
    assert other.wait(600) == 0
    assert len(table.rows()) == plan.rows
    assert {writes for _, writes in table.rows().values()} == {1}
    assert worked.counts["entries"] == told(store, plan)["counts"]["entries"] == plan.rows


def test_interrupted_it_ends_the_workers_that_it_started(store: LocalStore, tmp_path: Path) -> None:
    mark(tmp_path / "table.db", "stop", 10).touch()
    Table(tmp_path / "table.db")
    transport = processes(tmp_path)

    def interrupted(seconds: float) -> None:
        if list(tmp_path.glob("stop-10-by-*")):
            raise KeyboardInterrupt
        time.sleep(seconds)

    plan = planned(store, 1)
    with pytest.raises(KeyboardInterrupt):
        Coordinator(store, str(store.root), TABLE, plan, Crew(transport, 1, QUICK, sleep=interrupted)).run()
    (stopped,) = tmp_path.glob("stop-10-by-*")
    assert not Path(f"/proc/{stopped.name.rpartition('-')[2]}").exists()
    assert not store.exists(layout.share_done(plan.folder, "s0"))


def event(attempt: str, share: str = "s0") -> Event:
    return Event("store", TABLE, 0, share, attempt, beat_s=1e-6)


def test_an_attempt_goes_on_where_the_one_before_had_come_to(store: LocalStore) -> None:
    planned(store, 1)
    asked: list[tuple[int, int]] = []

    def load(share: ShareBody, beat: Callable[[], None]) -> Mapping[str, float]:
        asked.append((share["first"], share["end"]))
        if asked == [(0, 30), (30, 90)]:
            raise Damaged("once")
        return {"entries": share["end"] - share["first"]}

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("recon.serving.workers.worker.PIECE_ROWS_FIRST", 30)
        assert serve(store, event("a" * 16), load, lambda: 100.0).outcome == "failed"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("recon.serving.workers.worker.PIECE_ROWS_FIRST", 40)
        assert serve(store, event("b" * 16), load, lambda: 100.0) == ShareResult("s0", "b" * 16, "done", ROWS)
    assert asked[-2:] == [(30, 70), (70, 100)]
    assert read_done(store, layout.plan(TABLE, 0), "s0")["counts"] == {"entries": ROWS}
    assert serve(store, event("c" * 16), load, lambda: 100.0).outcome == "given_away"


def test_a_worker_that_beats_at_the_moment_when_it_would_be_given_away_keeps_its_share(store: LocalStore) -> None:
    plan = planned(store, 1)
    attempts: list[Attempt] = []

    class Beating:
        """Starts one worker that claims, and then beats just before the coordinator gives it away."""

        def start(self, event: Event) -> Handle:
            attempt = Attempt(store, AttemptId(plan.folder, event.share, event.attempt), 0.0)
            attempt.claim()
            attempts.append(attempt)
            return attempt

        def poll(self, handle: Handle) -> str | None:
            return None

        def stop(self, handle: Handle) -> None:
            pass

    now = [0.0]

    def before(call: Call) -> None:
        if call.kind == "put_new" and now[0] > 10:
            attempts[0].beat()

    watched = WatchedStore(store, before=before)
    one = Coordinator(watched, "store", TABLE, plan, Crew(Beating(), 1, replace(QUICK, silence_s=10), now=lambda: now[0]))
    one.look()
    one.look()
    now[0] = 11
    one.look()
    assert len(attempts) == 1
    now[0] = 20  # 9 s after that beat was seen first
    one.look()
    attempts[0].beat()
    assert attempts[0].finish()
    assert one.look()
    assert len(attempts) == 1


def test_late_attempts_and_plans_that_are_gone_are_refused_without_a_trace(store: LocalStore) -> None:
    plan = planned(store, 1)

    def load(share: ShareBody, beat: Callable[[], None]) -> Mapping[str, float]:
        raise AssertionError("it worked")

    assert revoke(store, AttemptId(plan.folder, "s0", "a" * 16), 0, None, "it was not begun")
    assert serve(store, event("a" * 16), load, lambda: 100.0).outcome == "given_away"
    before = list(store.list(""))
    assert serve(store, event("b" * 16, "s1"), load, lambda: 100.0).outcome == "too_late"
    assert serve(store, replace(event("b" * 16), plan=5), load, lambda: 100.0).outcome == "too_late"
    assert list(store.list("")) == before


def test_a_worker_that_begins_when_no_time_is_left_hands_back_at_once(store: LocalStore) -> None:
    planned(store, 1)

    def load(share: ShareBody, beat: Callable[[], None]) -> Mapping[str, float]:
        raise AssertionError("it worked")

    served = serve(store, event("a" * 16), load, lambda: 0.0)
    assert (served.outcome, served.rows) == ("handed_back", 0)


def test_an_error_of_another_library_is_told_by_its_name_only(store: LocalStore) -> None:
    plan = planned(store, 1)

    def load(share: ShareBody, beat: Callable[[], None]) -> Mapping[str, float]:
        raise ValueError("order 4711: 12.50 of Ms. Miller")

    served = serve(store, event("a" * 16), load, lambda: 100.0)
    entry = read_entry(store, AttemptId(plan.folder, "s0", "a" * 16), 2)
    assert (served.outcome, entry.state, entry.kind) == ("failed", "failed", "ValueError")
    assert entry.reason == "ValueError in the worker; see its log"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"store": "s3://other/prefix"}, "another store or table"),
        ({"table": "invoices"}, "another store or table"),
        ({"table": "orders-copy"}, "another store or table"),
        ({"share": "../../timeline/000000000001.json"}, "has a form that no coordinator makes"),
        ({"attempt": "x"}, "has a form that no coordinator makes"),
        ({"plan": -1}, "has a form that no coordinator makes"),
        ({"plan": True}, "expected store, table"),
        ({"plan": "0"}, "expected store, table"),
        ({"beat_s": float("nan")}, "expected store, table"),
        ({"limit_s": 1e9}, "expected store, table"),
        ({"run": "state/y/merge.run"}, "expected store, table"),
        ({"share": None}, "expected store, table"),
    ],
)
def test_an_event_for_another_store_or_of_another_form_is_refused(change: dict[str, Any], expected: str) -> None:
    body = {**json.loads(event("a" * 16).to_json()), **change}
    with pytest.raises(WrongUsage, match=expected) as told:
        event_of(body, {STORE: "store", TABLE_OF: TABLE})
    assert not any(isinstance(value, str) and value in str(told.value) for value in change.values())


@pytest.mark.parametrize(
    ("served", "store", "is_served"),
    [
        ("s3://b/recon/*", "s3://b/recon/orders", True),
        ("s3://b/recon/*", "s3://b/recon/orders/", True),
        ("s3://b/recon/*", "s3://b/recon", False),
        ("s3://b/recon/*", "s3://b/reconciled/orders", False),
        ("s3://b/recon/*", "s3://b/recon/../private", False),
        ("s3://b/recon", "s3://b/recon/orders", False),
        ("s3://b/recon*", "s3://b/recon-2", False),
    ],
)
def test_a_worker_of_several_reconciliations_serves_the_stores_below_its_prefix(served: str, store: str, is_served: bool) -> None:
    body, environment = {**json.loads(event("a" * 16).to_json()), "store": store}, {STORE: served, TABLE_OF: TABLE}
    if is_served:
        assert event_of(body, environment).store == store
    else:
        with pytest.raises(WrongUsage, match="another store or table"):
            event_of(body, environment)


def test_with_little_time_left_a_worker_goes_on_in_small_pieces(store: LocalStore) -> None:
    plan_for(store, TABLE, 0, 1, lambda: [{**shares(1)[0], "end": 5000}])
    asked: list[int] = []

    def load(share: ShareBody, beat: Callable[[], None]) -> Mapping[str, float]:
        asked.append(share["end"] - share["first"])
        if len(asked) == 2:
            raise Damaged("enough")
        time.sleep(0.4)
        return {}

    serve(store, event("a" * 16), load, lambda: 2.0)
    assert asked[1] <= asked[0] / 2, "a piece takes no longer than what is kept for handing back: a tenth of the time"


def test_shares_take_a_quarter_of_the_time_limit_at_the_last_rate_and_leave_one_for_each_worker() -> None:
    assert plans.share_rows(600, None, 4, None) == 60_000
    assert plans.share_rows(600, None, 4, 2000.0) == 300_000
    assert plans.share_rows(600, 40_000, 4, 2000.0) == 10_000
    assert plans.share_rows(600, 100, 4, 2000.0) == plans.ROWS_MIN
    assert plans.share_rows(86_400, None, 1, 1e6) == plans.ROWS_MAX


def test_the_rate_of_the_last_plan_is_kept_and_old_plans_are_swept(store: LocalStore) -> None:
    now = datetime.now(UTC)
    assert plans.last_rate(store, TABLE) is None
    for after in (0, 1):
        plan = plan_for(store, TABLE, after, after + 1, lambda: [{**shares(1)[0], "end": 10_000}])
        plans.finish(store, plan, [{"counts": {"entries": 10_000}, "seconds": 5.0 * (after + 1)}])
    open_plan = plan_for(store, TABLE, 2, 3, lambda: shares(1))
    assert plans.last_rate(store, TABLE) == 1000.0
    assert plans.sweep_plans(store, TABLE, now, timedelta(days=1)) == 0
    assert plans.sweep_plans(store, TABLE, now + timedelta(days=2), timedelta(days=1)) == 4
    # A worker that was away for days has put its claim into a folder that is gone.
    assert revoke(store, AttemptId(layout.plan(TABLE, 0), "s0", "a" * 16), 0, None, "late")
    assert plans.sweep_plans(store, TABLE, now, timedelta(days=1)) == 1
    assert list(store.list(layout.plans(TABLE))) == [layout.plan_file(open_plan.folder)]
