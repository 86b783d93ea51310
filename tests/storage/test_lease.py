"""Leases: one holder at a time, told to whoever asks; a holder that falls silent is taken over and learns it."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import faulty_store
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recon.errors import TryAgain, WrongUsage
from recon.storage import layout
from recon.storage.lease import SKEW_S, acquire, current, holders, revoke, sweep
from recon.storage.local import LocalStore

TTL_S = 60.0
START = datetime(2026, 11, 22, 14, tzinfo=UTC)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def go(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_of_racing_acquirers_one_wins(store: LocalStore) -> None:
    racers, rounds = 6, 5
    for number in range(rounds):
        start = threading.Barrier(racers)

        def race(racer: int, number: int = number, start: threading.Barrier = start) -> bool:
            start.wait(20)
            return acquire(store, f"orders/{number}", f"run-{racer}", TTL_S) is not None

        with ThreadPoolExecutor(racers) as threads:
            assert sum(threads.map(race, range(racers))) == 1


def test_of_racing_acquirers_of_an_expired_lease_one_wins(store: LocalStore, clock: Clock) -> None:
    assert acquire(store, "orders", "dead", TTL_S, clock)
    clock.go(TTL_S + SKEW_S + 1)
    racers = 6
    start = threading.Barrier(racers)

    def race(racer: int) -> bool:
        start.wait(20)
        return acquire(store, "orders", f"run-{racer}", TTL_S, clock) is not None

    with ThreadPoolExecutor(racers) as threads:
        assert sum(threads.map(race, range(racers))) == 1


def test_a_held_lease_is_told_with_its_holder_since_when_and_the_last_beat(store: LocalStore, clock: Clock) -> None:
    assert current(store, "orders", clock) is None
    lease = acquire(store, "orders", "run-1", TTL_S, clock)
    assert lease
    clock.go(20)
    assert lease.beat()
    clock.go(10)
    holding = current(store, "orders", clock)
    assert holding
    assert (holding.holder, holding.since, holding.beat) == ("run-1", START, START + timedelta(seconds=20))
    assert not holding.expired
    assert "run-1 since 2026-11-22T14:00:00Z" in str(holding)
    assert acquire(store, "orders", "run-2", TTL_S, clock) is None


def test_a_released_lease_is_free_at_once(store: LocalStore, clock: Clock) -> None:
    first = acquire(store, "orders", "run-1", TTL_S, clock)
    assert first
    first.release()
    assert current(store, "orders", clock) is None
    second = acquire(store, "orders", "run-2", TTL_S, clock)
    assert second
    assert second.number == first.number + 1
    first.release()
    assert not first.beat()
    assert current(store, "orders", clock), "a holder that gave it back cannot give back that of another"


def test_a_holder_that_beats_keeps_its_lease_for_any_time_and_a_silent_one_is_taken_over(store: LocalStore, clock: Clock) -> None:
    lease = acquire(store, "orders", "run-1", TTL_S, clock)
    assert lease
    for _ in range(10):
        clock.go(TTL_S)
        assert lease.beat()
        assert acquire(store, "orders", "run-2", TTL_S, clock) is None
    clock.go(TTL_S + SKEW_S + 1)
    holding = current(store, "orders", clock)
    assert holding
    assert holding.expired
    assert holding.holder == "run-1"
    assert acquire(store, "orders", "run-2", TTL_S, clock)


def test_a_suspended_holder_that_comes_back_learns_that_it_lost_and_disturbs_nobody(store: LocalStore, clock: Clock) -> None:
    suspended = acquire(store, "orders", "run-1", TTL_S, clock)
    assert suspended
    assert suspended.beat()
    clock.go(TTL_S + SKEW_S + 1)
    taker = acquire(store, "orders", "run-2", TTL_S, clock)
    assert taker
    assert not suspended.beat()
    assert suspended.lost
    suspended.release()
    holding = current(store, "orders", clock)
    assert holding
    assert (holding.holder, holding.number) == ("run-2", taker.number)
    assert taker.beat()
    assert not taker.lost


def test_a_holder_suspended_within_a_beat_while_another_took_over_learns_it_at_the_next(store: LocalStore, clock: Clock) -> None:
    hook, reached, go_on = faulty_store.paused_at("leases/orders/00000001/beats/")
    suspended = acquire(faulty_store.WatchedStore(store, before=hook), "orders", "run-1", TTL_S, clock)
    assert suspended
    with ThreadPoolExecutor(1) as threads:
        beat = threads.submit(suspended.beat)
        assert reached.wait(20)
        clock.go(TTL_S + SKEW_S + 1)
        taker = acquire(store, "orders", "run-2", TTL_S, clock)
        go_on.set()
        beat.result(20)
    assert taker
    holding = current(store, "orders", clock)
    assert holding
    assert holding.holder == "run-2", "the late beat of an old number means nothing"
    assert not suspended.beat()


def test_an_acquirer_suspended_before_its_put_cannot_take_a_number_that_was_given_out_before(store: LocalStore, clock: Clock) -> None:
    hook, reached, go_on = faulty_store.paused_at("leases/orders/00000001/taken")
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(acquire, faulty_store.WatchedStore(store, before=hook), "orders", "slow", TTL_S, clock)
        assert reached.wait(20)
        first = acquire(store, "orders", "run-1", TTL_S, clock)
        assert first
        first.release()
        second = acquire(store, "orders", "run-2", TTL_S, clock)
        assert second
        assert not store.exists(layout.lease_taken("orders", 1)), "the next holder clears old numbers away"
        go_on.set()
        assert slow.result(20) is None
    assert second.beat()
    holding = current(store, "orders", clock)
    assert holding
    assert holding.holder == "run-2"


def test_a_beat_that_comes_after_its_lease_was_swept_means_nothing(store: LocalStore, clock: Clock) -> None:
    for _ in range(2):
        lease = acquire(store, "orders", "run-1", TTL_S, clock)
        assert lease
        lease.release()
    clock.go(86_400)
    assert sweep(store, clock()) == 1
    store.put_new(layout.lease_beat("orders", 2, 7), [b'{"time": "2026-11-23T14:00:00+00:00"}'])
    assert current(store, "orders", clock) is None
    again = acquire(store, "orders", "run-2", TTL_S, clock)
    assert again
    assert again.beat()


def test_a_lease_given_back_in_the_name_of_its_holder_is_free_and_the_holder_learns_it_when_another_takes_it(
    store: LocalStore, clock: Clock
) -> None:
    first = acquire(store, "orders", "run-1", TTL_S, clock)
    assert first
    holding = current(store, "orders", clock)
    assert holding
    revoke(store, holding)
    revoke(store, holding)
    assert current(store, "orders", clock) is None
    second = acquire(store, "orders", "run-2", TTL_S, clock)
    assert second
    assert not first.beat(), "it was not gone after all"
    assert second.beat()
    revoke(store, holding)
    held_by = current(store, "orders", clock)
    assert held_by
    assert held_by.holder == "run-2", "an old number means nothing"


@pytest.mark.parametrize("behind_s", [-SKEW_S, SKEW_S])
def test_a_clock_that_differs_by_some_seconds_takes_no_living_holder_for_dead(store: LocalStore, clock: Clock, behind_s: float) -> None:
    other = Clock()
    other.now = START + timedelta(seconds=behind_s)
    assert acquire(store, "orders", "run-1", TTL_S, other)
    clock.go(TTL_S - 1)
    assert acquire(store, "orders", "run-2", TTL_S, clock) is None


def test_a_beat_from_a_far_future_does_not_hold_a_lease_forever(store: LocalStore, clock: Clock) -> None:
    wrong = Clock()
    wrong.go(10 * 365 * 86_400)
    assert acquire(store, "orders", "run-1", TTL_S, wrong)
    assert acquire(store, "orders", "run-2", TTL_S, clock)


def test_keeping_beats_in_the_background_and_gives_back_at_the_end_even_of_a_failure(store: LocalStore) -> None:
    lease = acquire(store, "orders", "run-1", 0.2)
    assert lease
    before = current(store, "orders")
    seen = []

    def work() -> None:
        with lease.keeping():
            time.sleep(0.3)
            seen.append(current(store, "orders"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        work()
    after = seen[0]
    assert before
    assert after
    assert after.beat > before.beat
    assert current(store, "orders") is None
    assert len([path for path in store.list("leases/") if "/beats/" in path]) <= 1


def test_keeping_goes_on_when_the_store_was_away_for_a_while(store: LocalStore) -> None:
    failed = threading.Event()

    def away(call: faulty_store.Call) -> None:
        if call.kind == "put_new" and "/beats/" in call.path and call.number <= 3:
            failed.set()
            raise TryAgain(f"{call.path}: the storage is away")

    lease = acquire(faulty_store.WatchedStore(store, before=away), "orders", "run-1", 0.1)
    assert lease
    with lease.keeping():
        assert failed.wait(90)
        deadline = time.monotonic() + 90
        while not any("/beats/" in path for path in store.list("leases/")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert not lease.lost


def test_keeping_says_so_when_another_took_over(store: LocalStore, clock: Clock) -> None:
    lease = acquire(store, "orders", "run-1", 0.1, clock)
    assert lease
    clock.go(TTL_S)
    with lease.keeping():
        assert acquire(store, "orders", "run-2", TTL_S, lambda: clock.now + timedelta(hours=1))
        deadline = time.monotonic() + 90
        while not lease.lost:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    holding = current(store, "orders", clock)
    assert holding
    assert holding.holder == "run-2"


def test_all_leases_below_a_folder_are_told_and_only_those_given_back_are_swept(store: LocalStore, clock: Clock) -> None:
    names = ["orders/reduce/a", "orders/reduce/b", "orders/merge/a", "orders"]
    leases = {name: acquire(store, name, f"run of {name}", TTL_S, clock) for name in names}
    assert {name: holding.holder for name, holding in holders(store, "", clock).items()} == {name: f"run of {name}" for name in names}
    assert set(holders(store, "orders/reduce", clock)) == {"orders/reduce/a", "orders/reduce/b"}
    given_back = leases["orders/reduce/a"]
    assert given_back
    given_back.release()
    assert set(holders(store, "orders/reduce", clock)) == {"orders/reduce/b"}
    assert sweep(store, clock()) == 0, "it was not given back before now"
    clock.go(86_400)
    assert sweep(store, clock()) == 1
    assert set(holders(store, "", clock)) == set(names) - {"orders/reduce/a"}
    assert not list(store.list("leases/orders/reduce/a"))


@pytest.mark.parametrize(("name", "holder", "ttl_s"), [("", "x", 1.0), ("a", "", 1.0), ("a", "x", 0.0), ("a", "x", float("nan"))])
def test_a_lease_without_name_holder_or_time_to_live_is_refused(store: LocalStore, name: str, holder: str, ttl_s: float) -> None:
    with pytest.raises(WrongUsage, match="it needs a name, a holder and a time to live"):
        acquire(store, name, holder, ttl_s)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["take", "beat", "release", "wait", "long"]), st.integers(0, 2)), max_size=20))
def test_in_any_history_at_most_one_holder_believes_that_it_holds_after_its_beat(
    tmp_path_factory: pytest.TempPathFactory, history: list[tuple[str, int]]
) -> None:
    store, clock = LocalStore(tmp_path_factory.mktemp("lease")), Clock()
    mine: dict[int, list[object]] = {0: [], 1: [], 2: []}
    leases = []
    for action, who in history:
        if action == "take" and (lease := acquire(store, "orders", f"run-{who}", TTL_S, clock)):
            mine[who].append(lease)
            leases.append(lease)
        elif action in ("beat", "release"):
            for lease in leases:
                if lease in mine[who]:
                    getattr(lease, action)()
        else:
            clock.go(TTL_S / 2 if action == "wait" else TTL_S * 2)
        holding = current(store, "orders", clock)
        alive = [lease for lease in leases if lease.beat()]
        assert len(alive) <= 1
        assert [lease.number for lease in alive] == ([holding.number] if holding else [])
