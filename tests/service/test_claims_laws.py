"""The claims of workers beside a plain model: any order of submissions, claims, ends, cancellations, deaths and jumps of the clock."""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import plain_claims as plain
import pytest
import service_site as s
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, precondition, rule, run_state_machine_as_test

from recon.database.tables import QUEUE_MESSAGES, REQUEST_EVENTS, REQUEST_TURNS, REQUESTS
from recon.errors import WrongInput
from recon.intake.queues.sql_queue import SqlQueue
from recon.service import claims as claims_module
from recon.service import fairness
from recon.service.admission import Admitted
from recon.service.messages import EmbeddedMessages
from recon.service.submissions import ENDED, Holder, KeyTaken, Lost, Problem, Submission

EXAMPLES = int(os.environ.get("RECON_LAW_EXAMPLES", "5"))
OWNERS: dict[str, dict[str, int]] = {"finance": {"weight": 1, "at_once": 2}, "sales": {"weight": 3}, "tax": {"weight": 2}}
AT_ONCE, KEPT = 4, 1
START = datetime(2026, 11, 1, tzinfo=UTC)
NEXT = {
    "received": {"queued", "cancelled"},
    "queued": {"running", "cancelled"},
    "running": {"running", "queued", "done", "failed", "cancelled", "dead"},
    "dead": {"received"},
}


def _service(folder: Path, database: dict[str, Any] | None, **settings: Any) -> s.Service:
    """A service whose clocks stand still until they are set."""
    service = s.service_in(folder, database, **{"owners": OWNERS, "at_once": AT_ONCE, "kept_for_small": KEPT, **settings})
    service.database.clock = lambda connection: clock[0]  # type: ignore[method-assign]
    service.queue = EmbeddedMessages(SqlQueue(service.database, "orders-requests", 30.0, lambda: clock[0].timestamp()))
    return service


clock = [START]


def _empty(service: s.Service) -> None:
    clock[0] = START
    with service.database.write() as connection:
        for table in (REQUEST_EVENTS, REQUESTS, REQUEST_TURNS, QUEUE_MESSAGES):
            connection.execute(table.delete())


def _submit(service: s.Service, owner: str, lane: str, key: str | None = None, body: str = "{}") -> tuple[Submission, bool]:
    request: Any = None
    return service.requests.submit(Holder(owner, frozenset({"submit"})), Admitted(body, request, 1, lane, ()), key)  # type: ignore[arg-type]


def _arrive(service: s.Service) -> None:
    while found := service.queue.receive():
        service.claims.arrived([each.body for each in found])
        service.queue.delete(found)


class Machine(RuleBasedStateMachine):
    """Every step is taken by the service and by the model; after each they have the same requests."""

    service: s.Service
    names, held = Bundle("names"), Bundle("held")

    def __init__(self) -> None:
        super().__init__()
        _empty(self.service)
        self.claims, self.requests = self.service.claims, self.service.requests
        weights = {name: one["weight"] for name, one in OWNERS.items()}
        self.plain = plain.Plain(AT_ONCE, KEPT, weights, {name: one.get("at_once", 10) for name, one in OWNERS.items()})
        self.by_name: dict[str, plain.Wanted] = {}
        self.bodies: dict[tuple[str, str], tuple[str, str, datetime]] = {}

    @rule(target=names, owner=st.sampled_from(sorted(OWNERS)), lane=st.sampled_from(["small", "small", "large"]))
    def submit(self, owner: str, lane: str) -> str:
        one, new = _submit(self.service, owner, lane)
        assert new
        return self._stored(one)

    @rule(target=names, owner=st.sampled_from(["finance", "tax"]), key=st.sampled_from("kl"), body=st.sampled_from(["{}", "[]"]))
    def submit_with_key(self, owner: str, key: str, body: str) -> Any:
        there = self.bodies.get((owner, key))
        if there is not None and clock[0] < there[2]:
            if body != there[1]:
                with pytest.raises(KeyTaken):
                    _submit(self.service, owner, "small", key, body)
            else:
                assert _submit(self.service, owner, "small", key, body)[0].name == there[0]
                found = self.requests.with_key(owner, key, body)
                assert found is not None
                assert found.name == there[0]
            return multiple()
        assert self.requests.with_key(owner, key, body) is None
        one, new = _submit(self.service, owner, "small", key, body)
        assert new
        self.bodies[owner, key] = one.name, body, clock[0] + timedelta(days=1)
        return self._stored(one)

    def _stored(self, one: Submission) -> str:
        wanted = plain.Wanted(one.id, one.owner, one.lane)
        self.plain.requests.append(wanted)
        self.by_name[one.name] = wanted
        return one.name

    @rule(some=st.lists(names, max_size=4))
    def arrived(self, some: list[str]) -> None:
        """Messages come in any order, also twice, also late."""
        self.claims.arrived(some)
        for name in some:
            if self.by_name[name].state == "received":
                self.by_name[name].state = "queued"

    @rule()
    def all_arrive(self) -> None:
        self.claims.arrived(list(self.by_name))
        for one in self.plain.requests:
            one.state = "queued" if one.state == "received" else one.state

    @rule(
        target=held,
        worker=st.sampled_from(["one", "two"]),
        lanes=st.sampled_from([("small", "large"), ("small", "large"), ("small",), ("large",)]),
        only=st.one_of(st.none(), st.none(), names),
    )
    def claim(self, worker: str, lanes: Any, only: str | None) -> Any:
        now, wanted = clock[0], self.plain
        want = wanted.next_one(lanes, now, None if only is None else self.by_name[only].number)
        ready = [(lane, owner, self.plain.ready(lane, owner, now)) for lane in ("small", "large") for owner in OWNERS]
        one = self.claims.claim(worker, lanes, only)
        assert (one and one.id) == (want and want.number)
        if one is None or want is None:
            return multiple()
        if only is None:
            self._count(ready, want)
        wanted.begin(want, one.worker, now)
        assert (one.tries, one.worker.startswith(worker)) == (want.tries, True)
        return one

    def _count(self, ready: list[tuple[str, str, list[plain.Wanted]]], taken: plain.Wanted) -> None:
        """Start-time fair queueing's bound: while an owner's next request could run, no other owner is served more often than its weight
        says, and once."""
        for lane, owner, mine in ready:
            if lane == taken.lane and owner == taken.owner:
                for one in self.plain.requests:
                    if (one.lane, one.owner) == (lane, owner):
                        one.passed_by.clear()
            elif lane == taken.lane and mine:
                counts = mine[0].passed_by
                counts[taken.owner] = counts.get(taken.owner, 0) + 1
                step, each = (fairness.step(OWNERS[name]["weight"]) for name in (owner, taken.owner))
                assert counts[taken.owner] <= step // each + 1, f"{owner} waited for {counts} in {lane}"
        for one in self.plain.requests:  # who cannot run does not wait
            if one.lane == taken.lane and not any(one in mine for _, _, mine in ready):
                one.passed_by.clear()

    def _mine(self, one: Submission) -> plain.Wanted | None:
        """The model's request if the claim still holds."""
        wanted = self.by_name[one.name]
        return wanted if (wanted.state, wanted.claim, wanted.tries) == ("running", one.worker, one.tries) else None

    @rule(one=held, how=st.sampled_from(["failed", "passed", "passed", "give_back", "cancelled", "done", "done"]))
    def end(self, one: Submission, how: str) -> None:
        mine, now = self._mine(one), clock[0]
        calls: dict[str, Any] = {
            "failed": lambda: self.claims.failed(one, Problem("wrong-input"), "a row\0\udc80"),
            "passed": lambda: self.claims.passed(one, Problem("may-pass"), "the store is away"),
            "give_back": lambda: self.claims.give_back(one, "no place", timedelta(seconds=3)),
            "cancelled": lambda: self.claims.cancelled(one),
            "done": lambda: self.claims.done(one, [], {}),
        }
        if mine is None or (how == "done" and mine.cancel):
            with pytest.raises(Lost):
                calls[how]()
            return
        calls[how]()
        if how == "passed":
            self.plain.tried(mine, now)
        elif how == "give_back" and not mine.cancel:
            mine.tries -= 1
            self.plain.again(mine, now + timedelta(seconds=3))
        else:
            self.plain.end(mine, "cancelled" if how == "give_back" else how)

    @rule(target=held, one=held, how=st.sampled_from(["passed", "lease"]))
    def taken_by_another(self, one: Submission, how: str) -> Any:
        """A claim is lost, and the same request is claimed again."""
        if (mine := self._mine(one)) is None or mine.tries >= plain.TRIES:
            return multiple()
        if how == "passed":
            self.end(one, "passed")
        else:
            clock[0] += plain.LEASE + timedelta(seconds=1)
            self.overdue()
        clock[0] += timedelta(seconds=26)
        return self.claim("two", ("small", "large"), one.name)

    @rule(one=held)
    def look(self, one: Submission) -> None:
        """Results of another claim are no business of this one."""
        mine = self._mine(one)
        assert self.claims.is_mine(one) == (mine is not None)
        if mine is None:
            with pytest.raises(Lost):
                self.claims.put_in(one, place="stale")
            with pytest.raises(Lost):
                self.claims.progress(one, "reading", 10)
            assert self.claims.place_of(one) is None
        else:
            self.claims.put_in(one, place=f"{one.worker}{one.tries}")
            assert self.claims.place_of(one) == f"{one.worker}{one.tries}"

    @rule(some=st.lists(held, max_size=4))
    def beat(self, some: list[Submission]) -> None:
        ending, lost = self.claims.beat(some)
        mine = {id(one): self._mine(one) for one in some}
        assert [id(one) for one in lost] == [id(one) for one in some if mine[id(one)] is None]
        assert [id(one) for one in ending] == [id(one) for one in some if (found := mine[id(one)]) and found.cancel]
        for found in mine.values():
            if found is not None:
                found.lease = clock[0] + plain.LEASE

    @rule(name=names)
    def cancel(self, name: str) -> None:
        one, found = self.by_name[name], self.requests.cancel(Holder("", frozenset({"admin"})), name)
        assert found is not None
        one.cancel = one.cancel or one.state in ("received", "queued", "running")
        if one.state in ("received", "queued"):
            self.plain.end(one, "cancelled")
            assert found.expires_at is not None, "it would stay for ever"
        assert found.state == one.state

    @rule()
    def overdue(self) -> None:
        now = clock[0]
        late = [one for one in self.plain.requests if one.lease is not None and (one.lease < now or one.lease > now + plain.FAR)]
        assert sorted(one.id for one in self.claims.overdue()) == sorted(one.number for one in late)
        for one in late:
            self.plain.tried(one, now)

    @rule(name=names)
    def redrive(self, name: str) -> None:
        one = self.by_name[name]
        if one.state != "dead":
            with pytest.raises(WrongInput):
                self.requests.redrive(name, "the bucket is back")
            return
        self.requests.redrive(name, "the bucket is back")
        one.state, one.tries, one.pause, one.cancel = "received", 0, None, False

    @rule(seconds=st.one_of(st.integers(1, 40), st.sampled_from([3600, -3600, 86_400])))
    def clock_moves(self, seconds: int) -> None:
        clock[0] += timedelta(seconds=seconds)

    @precondition(lambda self: self.plain.requests)
    @rule()
    def no_message_is_lost(self) -> None:
        """After what was not sent has been sent again, every request is queued."""
        clock[0] += timedelta(minutes=2)
        self.service.send_again()
        for one in self.plain.requests:
            one.state = "queued" if one.state == "received" else one.state

    @invariant()
    def same(self) -> None:
        with self.service.database.read() as connection:
            rows = {row.id: row for row in connection.execute(sa.select(REQUESTS))}
            events: dict[int, list[str]] = {}
            for row in connection.execute(sa.select(REQUEST_EVENTS).order_by(REQUEST_EVENTS.c.id)):
                events.setdefault(row.request, []).append(row.state)
        assert len(rows) == len(self.plain.requests)
        for one in self.plain.requests:
            row = rows[one.number]
            claim = one.claim if one.state == "running" else row.worker
            assert (row.state, row.tries, row.worker, row.lease_until) == (one.state, one.tries, claim, one.lease)
            assert (row.not_before, row.cancel_at is not None) == (one.pause, one.cancel)
            assert (row.state in ENDED) == (row.ended_at is not None) == (row.expires_at is not None and row.state in ENDED)
            happened = events[one.number]
            assert happened[0] == "received"
            assert happened[-1] == one.state
            assert all(after in NEXT[before] for before, after in pairwise(happened)), happened
        assert self.plain.running() <= AT_ONCE
        assert self.plain.running(lane="large") <= AT_ONCE - KEPT
        assert self.plain.running(owner="finance") <= 2


@pytest.mark.parametrize("examples", [EXAMPLES])
def test_requests_are_what_the_model_says(tmp_path: Path, database: dict[str, Any] | None, examples: int) -> None:
    class OnThis(Machine):
        service = _service(tmp_path, database)

    few = examples if database is None else max(2, examples // 4)
    checks = list(HealthCheck)
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        OnThis, settings=settings(max_examples=few, stateful_step_count=50, deadline=None, suppress_health_check=checks)
    )


def test_a_lost_claim_changes_nothing(tmp_path: Path, database: dict[str, Any] | None) -> None:
    """Also where the same worker has the request again, in the same try."""
    service = _service(tmp_path, database)
    _empty(service)
    _submit(service, "sales", "small")
    _arrive(service)
    lost = service.claims.claim("w")
    assert lost is not None
    service.claims.give_back(lost, "no place")
    mine = service.claims.claim("w")
    assert mine is not None
    assert (mine.id, mine.tries) == (lost.id, lost.tries)
    service.claims.put_in(mine, place="of the winner")
    before = s.now(service, mine)
    for change in (
        lambda: service.claims.done(lost, [], {}),
        lambda: service.claims.failed(lost, Problem("internal"), "late"),
        lambda: service.claims.passed(lost, Problem("may-pass"), "late"),
        lambda: service.claims.cancelled(lost),
        lambda: service.claims.give_back(lost, "late"),
        lambda: service.claims.put_in(lost, place="of the loser"),
        lambda: service.claims.progress(lost, "late", 1),
    ):
        with pytest.raises(Lost):
            change()
    assert service.claims.beat([lost]) == ([], [lost])
    assert (service.claims.is_mine(lost), service.claims.place_of(lost)) == (False, None)
    assert s.now(service, mine) == before


def test_what_was_asked_to_end_is_never_done_and_what_is_handed_back_loses_no_try(tmp_path: Path, database: dict[str, Any] | None) -> None:
    service = _service(tmp_path, database)
    _empty(service)
    _submit(service, "sales", "small")
    _arrive(service)
    for _ in range(4):
        mine = service.claims.claim("w")
        assert mine is not None
        assert mine.tries == 1
        service.claims.give_back(mine, "no place")
    mine = service.claims.claim("w")
    assert mine is not None
    service.requests.cancel(s.holder(service, "sales", "admin"), mine.name)
    with pytest.raises(Lost):
        service.claims.done(mine, [], {})
    assert service.claims.cancelled(mine).state == "cancelled"


def test_the_place_is_the_order_of_claims(tmp_path: Path) -> None:
    """Whoever asks is told how many requests are claimed first."""
    service = _service(
        tmp_path, None, owners={name: {"weight": one["weight"]} for name, one in OWNERS.items()}, at_once=1, kept_for_small=0
    )

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(st.lists(st.sampled_from(sorted(OWNERS)), max_size=12), st.integers(0, 6), st.lists(st.sampled_from(sorted(OWNERS)), max_size=8))
    def law(first: list[str], taken: int, then: list[str]) -> None:
        _empty(service)
        names = [_submit(service, owner, "small")[0].name for owner in first]
        _arrive(service)
        for _ in range(min(taken, len(first))):
            one = service.claims.claim("w")
            assert one is not None
            service.claims.done(one, [], {})
        names += [_submit(service, owner, "small")[0].name for owner in then]
        admin = Holder("", frozenset({"admin"}))
        waiting = [one for name in names if (one := service.requests.find(admin, name)) is not None and not one.ended]
        places = {one.name: service.requests.place(one) for one in waiting}
        _arrive(service)
        claimed = []
        while (one := service.claims.claim("w")) is not None:
            claimed.append(one.name)
            service.claims.done(one, [], {})
        assert {name: number for number, name in enumerate(claimed, 1)} == places

    law()


def test_a_thousand_of_one_owner_do_not_hold_up_one_of_another(tmp_path: Path) -> None:
    service = _service(tmp_path, None, owners={"finance": {}, "sales": {}}, at_once=2)
    one = {"owner": "finance", "lane": "small", "size": 1, "body": "{}", "digest": "", "state": "queued", "received_at": clock[0]}
    with service.database.write() as connection:
        connection.execute(REQUESTS.insert(), [{**one, "name": str(number)} for number in range(1000)])
    first = service.claims.claim("w")
    late, _ = _submit(service, "sales", "small")
    assert service.requests.place(late) == 1
    _arrive(service)
    second = service.claims.claim("w")
    assert first is not None
    assert second is not None
    assert (first.owner, second.name) == ("finance", late.name)


def test_small_requests_have_a_place_that_large_ones_never_take(tmp_path: Path) -> None:
    service = _service(tmp_path, None, owners={"sales": {}}, at_once=3, kept_for_small=1)
    large = [_submit(service, "sales", "large")[0].name for _ in range(5)]
    _arrive(service)
    claimed = [service.claims.claim("w") for _ in range(3)]
    assert [one and one.name for one in claimed] == [*large[:2], None]
    small, _ = _submit(service, "sales", "small")
    _arrive(service)
    found = service.claims.claim("w")
    assert found is not None
    assert found.name == small.name


def test_large_requests_do_not_wait_for_ever_while_small_ones_arrive(tmp_path: Path) -> None:
    service = _service(tmp_path, None, owners={"sales": {}}, at_once=2)
    for lane in ("small", "small", "small", "large"):
        _submit(service, "sales", lane)
    _arrive(service)
    first = service.claims.claim("w")
    assert first is not None
    assert first.lane == "large"


def test_workers_that_claim_at_once(tmp_path: Path, database: dict[str, Any] | None) -> None:
    """Each request is claimed once, and at no time do more run than may."""
    service = _service(tmp_path, database, owners={name: {} for name in OWNERS}, at_once=3)
    names = {_submit(service, owner, "small")[0].name for owner in sorted(OWNERS) * 8}
    _arrive(service)
    claimed: list[str] = []
    most: list[int] = []
    wrong: list[BaseException] = []

    def work(name: str) -> None:
        try:
            while len(claimed) < len(names):
                one = service.claims.claim(name)
                if one is None:
                    continue
                claimed.append(one.name)
                with service.database.read() as connection:
                    most.append(connection.scalar(sa.select(sa.func.count()).where(REQUESTS.c.state == "running")) or 0)
                service.claims.done(one, [], {})
        except BaseException as error:
            wrong.append(error)
            raise

    threads = [threading.Thread(target=work, args=(f"worker{number}",)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not wrong
    assert sorted(claimed) == sorted(names)
    assert max(most) <= 3


def test_keys_that_come_twice_at_once_are_one_request(tmp_path: Path, database: dict[str, Any] | None) -> None:
    service = _service(tmp_path, database)
    found: list[tuple[str, bool]] = []
    gate = threading.Barrier(4)

    def submit() -> None:
        gate.wait()
        one, new = _submit(service, "sales", "small", "the-key")
        found.append((one.name, new))

    threads = [threading.Thread(target=submit) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len({name for name, _ in found}) == 1
    assert sorted(new for _, new in found) == [False, False, False, True]


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_request_cancelled_while_it_is_claimed_does_not_run(
    tmp_path: Path, database: dict[str, Any] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL lets others write between the look at the queue and the claim."""
    service = _service(tmp_path, database)
    first, second = (_submit(service, "sales", "small")[0] for _ in range(2))
    _arrive(service)
    choose = fairness.next_one

    def cancelled_meanwhile(waiting: list[fairness.Waiting]) -> fairness.Waiting | None:
        monkeypatch.setattr(claims_module.fairness, "next_one", choose)
        cancelled = service.requests.cancel(Holder("", frozenset({"admin"})), first.name)
        assert cancelled is not None
        assert cancelled.state == "cancelled"
        return choose(waiting)

    monkeypatch.setattr(claims_module.fairness, "next_one", cancelled_meanwhile)
    one = service.claims.claim("w")
    assert one is not None
    assert (one.name, s.now(service, first).state) == (second.name, "cancelled")
