"""The law of index workers: whatever the interleaving of looks, beats, deaths, doubled invocations, late finishes and restarts of the
coordinator, every share is done, counted once, and no pointer goes backwards.

The coordinator and ``serve`` are the real ones; what is not are the store (in memory), the table and the clock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from recon.serving.workers import plans, worker
from recon.serving.workers.attempts import read_done
from recon.serving.workers.coordinator import Coordinator, Crew, Timing, WorkSummary
from recon.serving.workers.launchers import Handle
from recon.serving.workers.plans import ShareBody, plan_for
from recon.serving.workers.worker import Event, ShareResult, serve
from recon.storage.port import AlreadyExists, NotFound

SHARES, ROWS, SEQUENCE = 3, 4, 7
PATIENCE = Timing(limit_s=1000, silence_s=10, beat_s=0, look_s=1, backoff_s=1, attempts=10**6)


class Memory:
    """A store in memory; ``before_put`` is called by whoever puts."""

    def __init__(self, objects: dict[str, bytes], before_put: Callable[[str], None] = lambda path: None) -> None:
        self.objects, self._before_put = objects, before_put

    def put_new(self, path: str, chunks: Iterable[bytes | memoryview]) -> int:
        self._before_put(path)
        body = b"".join(chunks)
        if self.objects.setdefault(path, body) is not body:
            raise AlreadyExists(path)
        return len(body)

    def get(self, path: str) -> bytes:
        try:
            return self.objects[path]
        except KeyError:
            raise NotFound(path) from None

    def get_range(self, path: str, offset: int, length: int) -> bytes:
        return self.get(path)[offset : offset + length]

    def size(self, path: str) -> int:
        return len(self.get(path))

    def exists(self, path: str) -> bool:
        return path in self.objects

    def list(self, prefix: str) -> Iterator[str]:
        return iter(sorted(path for path in self.objects if path.startswith(prefix)))

    def delete(self, path: str) -> None:
        self.objects.pop(path, None)

    def copy_in(self, path: str, local: Path) -> int:
        return self.put_new(path, [local.read_bytes()])

    def local(self, path: str) -> Path | None:
        return None


class Died(BaseException):
    """A worker's end, with no handler and no last word."""


class Simulated:
    """A worker that runs the real ``serve`` in a thread, and stands still before each put and each update until it is told to go on."""

    def __init__(self, objects: dict[str, bytes], table: dict[str, int], event: Event) -> None:
        self.event, self.over, self._die, self._table = event, False, False, table
        self.worked = False
        self.served: ShareResult | None = None
        self._turn, self._rests = threading.Semaphore(0), threading.Semaphore(0)
        self._store = Memory(objects, lambda path: self._rest())
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._rests.acquire()

    def go_on(self) -> None:
        if not self.over:
            self._turn.release()
            self._rests.acquire()

    def die(self) -> None:
        self._die = True
        self.go_on()

    def _rest(self) -> None:
        self._rests.release()
        self._turn.acquire()
        if self._die:
            raise Died

    def _run(self) -> None:
        try:
            self.served = serve(self._store, self.event, self._load, lambda: 1000.0)
        except Died:
            pass
        finally:
            self.over = True
            self._rests.release()

    def _load(self, share: ShareBody, beat: Callable[[], None]) -> Mapping[str, int]:
        self.worked = True
        for row in range(share["first"], share["end"]):
            self._rest()
            beat()
            key = f"{share['share']}-{row}"
            if self._table.get(key, 0) < share["sequence"]:
                self._table[key] = share["sequence"]
        return {"entries": share["end"] - share["first"]}


class Simulation:
    """Starts simulated workers. ``told``: whether it is known of a worker that it has ended, as of a process; of a Lambda it is not."""

    def __init__(self, start: Callable[[Event], Simulated], told: bool) -> None:
        self._start, self._told = start, told

    def start(self, event: Event) -> Handle:
        return self._start(event)

    def poll(self, handle: Handle) -> str | None:
        return "it ended" if self._told and isinstance(handle, Simulated) and handle.over else None

    def stop(self, handle: Handle) -> None:
        pass


class Workers(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.objects: dict[str, bytes] = {}
        self.table: dict[str, int] = {}
        self.moved_on: dict[str, int] = {}
        self.dones: dict[str, bytes] = {}
        self.workers: list[Simulated] = []
        self.now, self.told = 0.0, False
        self.store = Memory(self.objects)
        self.coordinator: Coordinator

    @initialize(told=st.booleans())
    def begin(self, told: bool) -> None:
        self.told = told
        self.restart()

    def _start(self, event: Event) -> Simulated:
        started = Simulated(self.objects, self.table, event)
        self.workers.append(started)
        return started

    @rule()
    def restart(self) -> None:
        """The coordinator dies, and is run again with nothing but what lies in the store."""
        cut: list[ShareBody] = [
            {"share": f"s{n}", "run": "state/x/merge.run", "first": n * ROWS, "end": (n + 1) * ROWS, "sequence": SEQUENCE}
            for n in range(SHARES)
        ]
        plan = plan_for(self.store, "orders", 0, 1, lambda: cut)
        transport = Simulation(self._start, self.told)
        self.coordinator = Coordinator(
            self.store, "memory", "orders", plan, Crew(transport, SHARES, PATIENCE, now=lambda: self.now, sleep=self._sleep)
        )

    @rule()
    def look(self) -> None:
        self.coordinator.look()

    @rule(seconds=st.sampled_from([1, 4, 11, 60]))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @precondition(lambda self: self.workers)
    @rule(which=st.integers(0, 1000), times=st.integers(1, 8))
    def go_on(self, which: int, times: int) -> None:
        for _ in range(times):
            self.workers[which % len(self.workers)].go_on()

    @precondition(lambda self: self.workers)
    @rule(which=st.integers(0, 1000))
    def die(self, which: int) -> None:
        self.workers[which % len(self.workers)].die()

    @precondition(lambda self: self.workers)
    @rule(which=st.integers(0, 1000))
    def invoke_again(self, which: int) -> None:
        self._start(self.workers[which % len(self.workers)].event)

    @rule(share=st.integers(0, SHARES - 1), row=st.integers(0, ROWS - 1))
    def move_on(self, share: int, row: int) -> None:
        """A later commit changes where a key lies."""
        key = f"s{share}-{share * ROWS + row}"
        self.table[key] = self.moved_on[key] = SEQUENCE + 1

    @invariant()
    def what_is_done_stays_as_it_is(self) -> None:
        for path, body in self.dones.items():
            assert self.objects[path] == body
        self.dones = {path: body for path, body in self.objects.items() if path.endswith("/done")}

    @invariant()
    def no_pointer_goes_backwards(self) -> None:
        assert all(self.table[key] == sequence for key, sequence in self.moved_on.items())

    @invariant()
    def of_a_doubled_invocation_one_works(self) -> None:
        at_work = [one.event.attempt for one in self.workers if one.worked]
        assert len(at_work) == len(set(at_work))

    def _sleep(self, seconds: float) -> None:
        self.now += seconds
        for one in self.workers:
            one.go_on()

    def teardown(self) -> None:
        if not self.workers and not self.objects:
            return
        self.restart()
        worked: WorkSummary = self.coordinator.run()
        assert worked.counts == {"entries": SHARES * ROWS}
        for one in self.workers:  # those who come late
            while not one.over:
                one.go_on()
        self.what_is_done_stays_as_it_is()
        self.no_pointer_goes_backwards()
        self.of_a_doubled_invocation_one_works()
        firsts = [one.event.share for one in self.workers if one.served is not None and one.served.outcome == "done"]
        assert len(firsts) == len(set(firsts))
        plan = self.coordinator._plan
        told: Any = [read_done(self.store, plan.folder, name) for name in plan.shares]
        assert sum(one["counts"]["entries"] for one in told) == SHARES * ROWS
        assert plans.finish(self.store, plan, told)["counts"] == {"entries": SHARES * ROWS}
        keys = {f"s{n // ROWS}-{n}" for n in range(SHARES * ROWS)}
        assert {key: self.table[key] for key in keys} == {key: self.moved_on.get(key, SEQUENCE) for key in keys}


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "PIECE_ROWS_FIRST", 1)


Workers.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


class TestEachShareIsCountedOnce(Workers.TestCase):  # type: ignore[name-defined, misc]
    pytestmark = pytest.mark.usefixtures("_small_pieces")
