"""Retries by kind of error: how often each is tried again and after how long, and which kind a foreign error is.

On real, short-lived instances, over a store that fails so many times. Waits are a thousandth of the real ones; the numbers and back-offs
are those of the code. Does not belong here: what a failed run leaves behind (test_assets, test_crash).
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from faulty_store import Call, WatchedStore
from small_reconciliation import failures, made, run, window

from recon.api import Reconciliation
from recon.config import Config
from recon.errors import ConnectionLost, OutOfCapacity, Throttled, TimedOut, TryAgain, WrongInput, WrongUsage, transient_kind
from recon.stages.work import Work
from recon.state.timeline import Timeline
from recon.storage.port import ObjectStore
from recon_assets import retries as rules
from recon_assets.partitions import range_tags

KINDS = (Throttled, OutOfCapacity, ConnectionLost, TimedOut, TryAgain)
COMPUTE, INDEX = dict(rules.COMPUTE), dict(rules.INDEX)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made_instance:
        yield made_instance


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    for table in (rules.COMPUTE, rules.INDEX):
        for kind, rule in table.items():
            monkeypatch.setitem(table, kind, replace(rule, wait_s=rule.wait_s / 1000))  # type: ignore[arg-type]


class Store:
    """A resource over a store of which the first calls below ``prefix`` fail, each with the next of ``errors``."""

    def __init__(self, opened: Reconciliation, prefix: str, errors: list[Exception]) -> None:
        def before(call: Call) -> None:
            if call.kind == "put_new" and call.path.startswith(prefix) and errors:
                raise errors.pop(0)

        self._store: ObjectStore = WatchedStore(opened.store(), before)

    def open(self) -> ObjectStore:
        return self._store

    def work(self, config: Config) -> Work:
        return Work(self._store, config, Timeline(self._store))


def tried(
    opened: Reconciliation, instance: dg.DagsterInstance, errors: list[Exception], stage: str = "reduce", prefix: str = "stateless/"
) -> tuple[dg.ExecuteInProcessResult, list[float]]:
    """A run over the first window, and the seconds that it waited before each further attempt."""
    result = run(opened, range_tags(window(0), window(0)), instance, stage, orders_store=Store(opened, prefix, errors))
    waits = [event.step_retry_data.seconds_to_wait for event in result.all_events if event.is_step_up_for_retry]
    return result, [wait * 1000 for wait in waits if wait is not None]


def waits_of(rule: rules.Retries) -> list[float]:
    return [pytest.approx(rule.wait_s * rule.backoff**number) for number in range(rule.attempts - 1)]


def test_the_rules_are_those_of_the_design() -> None:
    assert COMPUTE[TryAgain] == rules.Retries(attempts=3, wait_s=1, backoff=2)
    assert INDEX[TryAgain] == rules.Retries(attempts=10, wait_s=15, backoff=1.5)
    assert len({COMPUTE[kind] for kind in KINDS}) == len(KINDS), "each kind has a rule of its own"


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_its_own_number_and_back_off(tmp_path: Path, instance: dg.DagsterInstance, kind: type[TryAgain]) -> None:
    opened, rule = made(tmp_path, hours=1), COMPUTE[kind]
    result, waits = tried(opened, instance, [kind("not now")] * (rule.attempts - 1))
    assert result.success
    assert waits == waits_of(rule)
    opened.replay(window(0))
    result, waits = tried(opened, instance, [kind("not now")] * rule.attempts)
    assert failures(result) == [f"not now (after {rule.attempts} attempts)"]
    assert waits == waits_of(rule)
    found = instance.get_run_by_id(result.run_id)
    assert found is not None
    assert found.tags["recon/failure"] == kind.__name__


def test_the_index_waits_longer(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    opened, rule = made(tmp_path, hours=1), INDEX[Throttled]
    opened.run()
    result, waits = tried(opened, instance, [Throttled("slow down")] * (rule.attempts - 1), "index", "indexed/")
    assert result.success
    assert waits == waits_of(rule)


def test_kinds_are_counted_apart(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    opened = made(tmp_path, hours=1)
    mixed: list[Exception] = [TimedOut("late"), ConnectionLost("cut"), TimedOut("late"), ConnectionLost("cut"), ConnectionLost("cut")]
    result, waits = tried(opened, instance, mixed)
    assert result.success, "three attempts of the one and five of the other are left"
    assert waits == [pytest.approx(wait) for wait in (5, 1, 10, 2, 4)]
    opened.replay(window(0))
    result, _ = tried(opened, instance, [TimedOut("late"), ConnectionLost("cut"), TimedOut("late"), TimedOut("late")])
    assert failures(result) == ["late (after 3 attempts)"]


@pytest.mark.parametrize("error", [WrongInput("corrupt"), WrongUsage("badly configured")])
def test_corrupt_data_and_a_bad_configuration_are_never_tried_again(tmp_path: Path, instance: dg.DagsterInstance, error: Exception) -> None:
    opened = made(tmp_path, hours=1)
    result, waits = tried(opened, instance, [error])
    assert (failures(result), waits) == ([str(error)], [])


class ClientError(Exception):
    """As botocore's: the kind is a code in its response."""

    def __init__(self, code: str) -> None:
        super().__init__(f"An error occurred ({code}) when calling the PutItem operation")
        self.response = {"Error": {"Code": code}}


class HTTPClientError(Exception):
    """As botocore's, and above what it raises for a lost connection."""


class ConnectionClosedError(HTTPClientError):
    pass


class ReadTimeoutError(HTTPClientError):
    """As botocore's: a lost connection by its base, and yet a timeout."""


def refused() -> Exception:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        try:
            socket.create_connection(unheard.getsockname(), timeout=1)
        except OSError as error:
            return error
    raise AssertionError("somebody answered")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (lambda: ClientError("ProvisionedThroughputExceededException"), Throttled),
        (lambda: ClientError("SlowDown"), Throttled),
        (lambda: ClientError("InsufficientInstanceCapacity"), OutOfCapacity),
        (lambda: ClientError("RequestTimeout"), TimedOut),
        (lambda: ClientError("ServiceUnavailable"), ConnectionLost),
        (lambda: ClientError("ExpiredToken"), None),
        (lambda: ClientError("ValidationException"), None),
        (lambda: ReadTimeoutError("no answer"), TimedOut),
        (lambda: ConnectionClosedError("closed"), ConnectionLost),
        (refused, ConnectionLost),
        (lambda: TimeoutError("no answer"), TimedOut),
        (lambda: OSError(errno.ENOSPC, "No space left on device"), OutOfCapacity),
        (lambda: OSError(errno.EACCES, "Permission denied"), None),
        (lambda: ValueError("no"), None),
        (lambda: Throttled("slow down"), Throttled),
    ],
)
def test_foreign_errors_are_told_apart_by_what_they_descend_from(error: Callable[[], Exception], kind: type[TryAgain] | None) -> None:
    assert transient_kind(error()) is kind


@pytest.mark.parametrize(("error", "kind"), [(ClientError("SlowDown"), Throttled), (ReadTimeoutError("no answer"), TimedOut)])
def test_a_foreign_error_is_tried_again_by_its_kind(
    tmp_path: Path, instance: dg.DagsterInstance, error: Exception, kind: type[TryAgain]
) -> None:
    result, waits = tried(made(tmp_path, hours=1), instance, [error] * (COMPUTE[kind].attempts - 1))
    assert result.success
    assert waits == waits_of(COMPUTE[kind])


def test_whoever_called_the_command_is_told_at_once(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    opened: Any = made(tmp_path, hours=1)
    store = Store(opened, "stateless/", [OutOfCapacity("the disk is full")])
    result = run(opened, {**range_tags(window(0), window(0)), rules.ATTENDED_TAG: "true"}, instance, "reduce", orders_store=store)
    assert failures(result) == ["the disk is full (after 1 attempt)"]
    assert not [event for event in result.all_events if event.is_step_up_for_retry]
