"""EMR's steps: limits and failures of the API, the end of a step and of its cluster."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest
from emr_server import FAILED, THROTTLED, EmrCluster, EmrServer, Refused, Running, emr_server, until

from recon.errors import Cancelled, ConnectionLost, OutOfCapacity, Throttled, TimedOut, TryAgain, WrongUsage
from recon.remote.emr.failures import error_of
from recon.remote.emr.steps import ACTIVE_MAX, Steps
from recon.storage import aws_calls as calls
from recon.storage.aws_calls import Pace

QUICK = Pace(first=0.01, most=0.05, patience=30, logs=10)
LONG = timedelta(hours=1)
UNAVAILABLE = Refused("ServiceUnavailable", "try later", 503)
NAMELESS = Refused("", "", 504)
"""As a gateway before the service answers."""


@pytest.fixture(scope="module")
def emr(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmrServer]:
    with emr_server(tmp_path_factory.mktemp("emr"), {"PATH": "/usr/bin:/bin"}) as server:
        yield server


@pytest.fixture(autouse=True)
def _there(emr: EmrServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    environment = {"AWS_ENDPOINT_URL_EMR": emr.url, "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}
    environment |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "testtest", "AWS_EC2_METADATA_DISABLED": "true"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    yield
    emr.refusals.clear()
    emr.lost.clear()
    emr.cut.clear()


@pytest.fixture
def cluster(emr: EmrServer) -> Iterator[EmrCluster]:
    made = emr.cluster()
    yield made
    emr.lose(made, "", "the test is over")


def submitted(cluster: EmrCluster, command: str = "true", name: str = "a name of its own", pace: Pace = QUICK) -> tuple[Steps, str]:
    found = Steps(cluster.id, pace)
    return found, found.submit(name, ["bash", "-c", command])


# ---- throttling, lost replies


@pytest.mark.parametrize("refusal", [THROTTLED, FAILED, UNAVAILABLE, NAMELESS], ids=["throttled", "500", "503", "504"])
def test_a_service_that_refuses_for_a_while_is_waited_out_and_each_step_is_submitted_once(
    emr: EmrServer, cluster: EmrCluster, refusal: Refused
) -> None:
    emr.refuse(refusal, 3, "AddJobFlowSteps", "ListSteps", "DescribeStep", "DescribeCluster")
    there, step = submitted(cluster)
    assert there.wait(step, LONG).succeeded
    assert there.described()["Id"] == cluster.id
    assert [one.id for one in cluster.steps] == [step]
    assert not any(emr.refusals.values()), "all of them were met"


def test_a_step_whose_submissions_reply_is_lost_is_found_again_by_its_name_and_not_submitted_twice(
    emr: EmrServer, cluster: EmrCluster
) -> None:
    submitted(cluster, name="recon orders reduce, of somebody else")
    emr.lost.add("AddJobFlowSteps")
    there, step = submitted(cluster)
    assert len(cluster.steps) == 2
    assert step == cluster.steps[1].id
    assert there.wait(step, LONG).succeeded


def test_a_step_that_ended_before_its_lost_submission_was_looked_for_is_found_all_the_same(emr: EmrServer, cluster: EmrCluster) -> None:
    emr.lost.add("AddJobFlowSteps")
    _, step = submitted(cluster, "exit 7", pace=Pace(first=0.5, most=1, patience=30))
    until(lambda: cluster.steps[0].state == "FAILED", "the end of the step")
    assert [one.id for one in cluster.steps] == [step]


def test_a_submission_that_never_arrived_is_made_again(emr: EmrServer, cluster: EmrCluster) -> None:
    emr.cut.add("AddJobFlowSteps")
    _, step = submitted(cluster)
    assert [one.id for one in cluster.steps] == [step]


def test_a_service_that_refuses_for_longer_than_anybody_has_patience_is_told_by_kind_and_the_step_goes_on(
    emr: EmrServer, cluster: EmrCluster
) -> None:
    there, step = submitted(cluster, "sleep 600", pace=Pace(first=0.01, most=0.02, patience=0.2))
    for refusal, kind in ((THROTTLED, Throttled), (FAILED, ConnectionLost)):
        emr.refuse(refusal, 1000, "DescribeStep")
        with pytest.raises(kind, match="run the same again"):
            there.wait(step, LONG)
        emr.refusals.clear()
    assert cluster.steps[0].state == "RUNNING", "it is awaited by the next who asks for the same"


def test_an_expired_token_is_told_with_what_to_do_and_a_missing_permission_is_not_tried_again(emr: EmrServer, cluster: EmrCluster) -> None:
    emr.refuse(Refused("ExpiredTokenException", "The security token included in the request is expired"), 1, "ListSteps")
    with pytest.raises(TryAgain, match="renew the credentials"):
        submitted(cluster)
    emr.refuse(Refused("AccessDeniedException", "not authorized to perform: elasticmapreduce:AddJobFlowSteps"), 1, "AddJobFlowSteps")
    with pytest.raises(WrongUsage, match="elasticmapreduce:AddJobFlowSteps"):
        submitted(cluster)


# ---- limits


def filled(cluster: EmrCluster) -> None:
    cluster.concurrency = 0
    cluster.steps += [Running(f"s-OTHER{number}", f"of others {number}", []) for number in range(ACTIVE_MAX)]


def test_a_cluster_that_is_full_is_waited_for_and_never_has_more_than_256_steps(emr: EmrServer, cluster: EmrCluster) -> None:
    filled(cluster)
    told: list[str] = []
    there, before = Steps(cluster.id, QUICK, told.append), emr.calls["AddJobFlowSteps"]
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(there.submit, f"step {number}", ["true"]) for number in range(2)]
        try:
            until(lambda: len(told) == 2, "two who wait for room", 20)
            assert (len(cluster.steps), emr.calls["AddJobFlowSteps"]) == (ACTIVE_MAX, before), "nobody tries in vain"
        finally:
            cluster.steps[0].state = cluster.steps[1].state = "COMPLETED"
        assert len({one.result(60) for one in asked}) == 2
    assert cluster.most_active == ACTIVE_MAX
    assert told == [f"{cluster.id} has 256 steps pending and running, as many as it takes; waiting for room"] * 2


def test_where_others_took_the_last_room_between_counting_and_submitting_it_is_waited_for_once_more(
    emr: EmrServer, cluster: EmrCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(cluster)
    counted = iter([True])
    await_room = Steps._await_room
    # The first count is from before the others came.
    monkeypatch.setattr(Steps, "_await_room", lambda there, waits=True: None if next(counted, False) else await_room(there, waits))
    told: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(Steps(cluster.id, QUICK, told.append).submit, "a step", ["true"])
        until(lambda: told, "somebody who waits for room")
        cluster.steps[0].state = "COMPLETED"
        assert asked.result(60) == cluster.steps[-1].id
    assert cluster.most_active == ACTIVE_MAX


def test_ten_steps_run_at_once_and_the_others_wait_for_their_turn(cluster: EmrCluster, tmp_path: Path) -> None:
    # Each waits until ten have begun, however long that takes here.
    waiting = f"until [ $(ls {tmp_path} | wc -l) -ge 10 ]; do sleep 0.1; done; sleep 0.2"

    def one(number: int) -> bool:
        there, step = submitted(cluster, f"touch {tmp_path}/{number}; {waiting}", f"step {number}", Pace(first=0.2, most=0.5, patience=30))
        return there.wait(step, LONG).succeeded

    with ThreadPoolExecutor(14) as pool:
        assert all(pool.map(one, range(14)))
    assert cluster.most_running == 10
    assert cluster.most_active > 10


def test_polls_slow_down_from_two_seconds_to_thirty(emr: EmrServer, cluster: EmrCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    there, step = submitted(cluster, "sleep 600", pace=Pace())
    waits: list[float] = []

    def slept(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 20:
            cluster.steps[0].state = "COMPLETED"

    # The module's own name, since other threads sleep by the real one.
    monkeypatch.setattr(calls, "time", SimpleNamespace(sleep=slept, monotonic=time.monotonic))
    before = emr.calls["DescribeStep"]
    assert there.wait(step, LONG).succeeded
    assert emr.calls["DescribeStep"] - before == 21
    most = [min(30.0, 2 * 1.5**number) for number in range(20)]
    assert all(longest / 2 <= wait <= longest for wait, longest in zip(waits, most, strict=True))
    assert len(set(waits)) == 20, "many who wait do not ask at the same instant"


def test_what_emr_does_not_take_is_told_before_it_is_submitted(emr: EmrServer, cluster: EmrCluster) -> None:
    for name, arguments in (("n" * 257, ["true"]), ("name", ["x" * 10_241])):
        with pytest.raises(WrongUsage, match=r"shorten engine\.settings"):
            Steps(cluster.id, QUICK).submit(name, arguments)
    assert cluster.steps == []


# ---- found again


def test_a_step_of_somebody_who_died_is_found_again_by_what_it_is_about(cluster: EmrCluster) -> None:
    for number in range(60):  # more than a page
        cluster.steps.append(Running(f"s-OTHER{number}", f"recon orders reduce a..b digest{number}-attempt", []))
    _, step = submitted(cluster, "sleep 600", "recon orders reduce a..b 0123456789abcdef-attempt-1")
    for number in range(60, 120):
        cluster.steps.append(Running(f"s-OTHER{number}", f"recon orders reduce a..b digest{number}-attempt", []))
    found = Steps(cluster.id, QUICK).find("0123456789abcdef")
    assert found is not None
    assert (found.id, found.token) == (step, ("0123456789abcdef", "attempt-1"))


def test_neither_a_step_that_is_over_nor_one_that_is_being_cancelled_is_waited_for(cluster: EmrCluster) -> None:
    there, step = submitted(cluster, name="recon orders reduce a..b digest-attempt")
    assert there.wait(step, LONG).succeeded
    assert there.find("digest") is None
    there, step = submitted(cluster, "trap '' TERM; sleep 600", "recon orders reduce a..b digest-attempt2")
    cluster.steps[-1].state = "CANCEL_PENDING"
    assert there.find("digest") is None


# ---- cancelled


class Interrupted(BaseException):
    """As Dagster's, Ctrl-C's and SIGTERM's: no Exception."""


def test_a_step_ends_with_whoever_waits_for_it_asked_to_end_by_itself(emr: EmrServer, cluster: EmrCluster) -> None:
    there, step = submitted(cluster, "sleep 600")

    def interrupted(line: str) -> None:
        if line.endswith("RUNNING"):
            raise Interrupted

    emr.refuse(THROTTLED, 2, "CancelSteps")
    with pytest.raises(Interrupted):
        Steps(cluster.id, QUICK, interrupted).wait(step, LONG)
    until(lambda: cluster.steps[0].state == "CANCELLED", "the end of the step")
    assert cluster.steps[0].cancelled_by == "SEND_INTERRUPT"
    error = error_of("step", there.wait(step, LONG).status, there.described()["Status"], [])
    assert isinstance(error, Cancelled)


def test_where_it_cannot_be_cancelled_whoever_waits_ends_all_the_same_and_soon(emr: EmrServer, cluster: EmrCluster) -> None:
    _, step = submitted(cluster, "sleep 600")
    emr.refuse(THROTTLED, 10_000, "CancelSteps")

    def interrupted(line: str) -> None:
        if line.endswith("RUNNING"):
            raise Interrupted

    with pytest.raises(Interrupted):
        Steps(cluster.id, Pace(first=0.01, most=0.05, patience=0.2), interrupted).wait(step, LONG)


def test_a_step_goes_on_where_whoever_waits_fails_by_an_error(cluster: EmrCluster) -> None:
    _, step = submitted(cluster, "sleep 600")

    def failing(line: str) -> None:
        raise ValueError(line)

    with pytest.raises(ValueError, match="RUNNING"):
        Steps(cluster.id, QUICK, failing).wait(step, LONG)
    assert (cluster.steps[0].state, cluster.steps[0].cancelled_by) == ("RUNNING", "")


def test_a_step_that_runs_longer_than_its_timeout_is_ended_by_force(cluster: EmrCluster) -> None:
    there, step = submitted(cluster, "trap '' TERM; while true; do sleep 0.1; done")
    with pytest.raises(TimedOut, match=r"longer than engine\.timeout"):
        there.wait(step, timedelta(seconds=0.3))
    until(lambda: cluster.steps[0].state == "CANCELLED", "the end of the step")
    assert cluster.steps[0].cancelled_by == "TERMINATE_PROCESS"


def test_time_that_a_step_waits_for_its_turn_is_not_counted(cluster: EmrCluster) -> None:
    cluster.concurrency = 0
    there, step = submitted(cluster)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(there.wait, step, timedelta(seconds=0.2))
        time.sleep(0.5)
        cluster.steps[0].state = "COMPLETED"
        assert waiting.result(60).succeeded


# ---- a cluster that is gone


def test_the_loss_of_a_cluster_ends_the_wait_with_its_reason(emr: EmrServer, cluster: EmrCluster) -> None:
    there, step = submitted(cluster, "sleep 600")
    Thread(target=lambda: emr.lose(cluster, "INSTANCE_FAILURE", "All slave spot instances were terminated"), daemon=True).start()
    ended = there.wait(step, LONG)
    error = error_of(f"step {step}", ended.status, there.described()["Status"], [])
    assert isinstance(error, OutOfCapacity)
    assert "INSTANCE_FAILURE, All slave spot instances were terminated" in str(error)


def test_a_cluster_that_never_was_is_wrong_usage() -> None:
    with pytest.raises(WrongUsage, match="is not valid"):
        Steps("j-NONE", QUICK).submit("name", ["true"])
