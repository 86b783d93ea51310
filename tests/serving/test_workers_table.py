"""Index workers and the real table: the deployed zip under Lambda's true runtime client, and processes, on SeaweedFS and DynamoDB Local."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

import faulty_http
import psutil
import pytest
import seaweed
import strategies as s
from dynamodb_local import dynamodb_local, environment
from faulty_http import Answered, Asked, Cut, FaultyServer, PassOn
from histories import open_in, records
from lambda_runtime import Function, Lambda, running_lambda, unzipped
from ministack_server import ministack

from recon.api import Reconciliation
from recon.errors import Throttled
from recon.model.windows import name_of
from recon.operations.packaging.lambda_zip import HANDLER
from recon.reading.served import find_served
from recon.serving.dynamodb import client_of
from recon.serving.sync import Synced
from recon.serving.workers import plans
from recon.serving.workers.attempts import progress_of_shares, read_done
from recon.serving.workers.coordinator import Timing
from recon.serving.workers.worker import STORE, TABLE
from recon.state.compaction import compact
from recon.state.lookup import find_record
from recon.state.timeline import Timeline

QUICK = Timing(limit_s=60, silence_s=10, beat_s=1e-6, look_s=0.1, backoff_s=0.05, attempts=100)
PATIENT = replace(QUICK, limit_s=900, silence_s=900)
"""However slow the machine is, no share is given away."""
WAIT_S_MAX = 600.0


@dataclass
class Services:
    """``table``: in front of DynamoDB Local; what workers and coordinator ask of it goes through there."""

    s3: seaweed.Seaweed
    table: FaultyServer
    account: Lambda
    code: Path
    zipped: Path


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory, seaweed_server: seaweed.Seaweed, worker_zip: Path) -> Iterator[Services]:
    folder = tmp_path_factory.mktemp("services")
    with (
        dynamodb_local(folder) as endpoint,
        faulty_http.in_front_of(urlsplit(endpoint).port or 0) as between,
        environment(between.endpoint),
        running_lambda(folder) as account,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in {**seaweed_server.environment, "AWS_ENDPOINT_URL_LAMBDA": account.endpoint}.items():
            patch.setenv(name, value)
        yield Services(seaweed_server, between, account, unzipped(worker_zip, folder), worker_zip)


@dataclass
class Site:
    """A store in a new bucket with an index table of its own, and who brings that up to date."""

    services: Services
    folder: Path
    kind: str
    count: int = 1
    r: Reconciliation = field(init=False)
    function: Function = field(init=False)

    def __post_init__(self) -> None:
        bucket = self.services.s3.bucket()
        variables = worker_variables(f"s3://{bucket}/orders", bucket)
        self.function = self.services.account.deploy(self.services.code, HANDLER, variables)
        self.configure(self.function.name, bucket)
        self.services.table.mend()
        self.services.table.asked.clear()

    def configure(self, function: str, bucket: str) -> None:
        workers = f"kind: lambda, function: {function}" if self.kind != "processes" else "kind: processes"
        text = s.STANDARD_YAML.replace("store: ./data", f"store: s3://{bucket}/orders")
        text += f"compaction: {{disk: 1.1}}\nindex: {{kind: dynamodb, table: {bucket}, requests_at_once: 4}}\n"
        self.r = open_in(self.folder, text + f"workers: {{{workers}, count: {self.count}}}\n")

    def commit(self, window: int, keys: int) -> None:
        """A window with an event of each of ``keys`` keys; the table is left behind."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("recon.stages.index.sync", lambda *a: None)
            process(self.r, window, keys)

    def at_work(self) -> int:
        """The process of a worker that has a share in hand."""
        if self.kind == "lambda":
            return self.function.at_work[0].pid
        for one in psutil.Process().children():
            with suppress(psutil.NoSuchProcess):  # a child of another test that has just ended: a zombie has no command line
                if "recon.serving.workers.worker" in one.cmdline():
                    return one.pid
        raise AssertionError("no worker is there")

    def updates(self) -> int:
        """Requests for an update of an item so far."""
        return sum(map(is_update, self.services.table.asked))

    def check(self, kept: Synced, keys: int) -> None:
        """Each key was counted once, and the table says what the runs say."""
        assert (kept.entries, kept.items + kept.refused) == (keys, keys)
        assert kept.commit == self.r.state().commit
        proved = self.r.verify(full=True)
        assert proved.ok, proved.problems
        assert proved.items >= keys
        self.counted_once()

    def counted_once(self) -> None:
        """Of each plan: every share is done once, and its sums are those of its shares."""
        store, table = self.r.store(), self.r.config.index.table
        for folder in plans._folders(store, table):
            plan, told = plans.read_plan(store, folder), plans.finished(store, folder)
            assert told is not None
            assert {name for name, share in progress_of_shares(store, folder).items() if share.done} == set(plan.shares)
            done = [read_done(store, folder, name) for name in plan.shares]
            assert told["rows"] == sum(one["rows"] for one in done) == plan.rows
            for what in ("entries", "items", "refused"):
                assert told["counts"][what] == sum(one["counts"][what] for one in done)


def worker_variables(store: str, table: str) -> dict[str, str]:
    """A function's environment: what it serves, and where this machine has AWS's services."""
    aws = {name: value for name, value in os.environ.items() if name.startswith("AWS_") and name != "AWS_ENDPOINT_URL_LAMBDA"}
    return {**aws, STORE: store, TABLE: table}


def process(r: Reconciliation, window: int, keys: int) -> None:
    rows = tuple(
        s.Row(f"K{n:04}", f"{window}-{n}", "PAYMENT" if (window + n) % 2 else "INVOICE", f"{n}.25", "EUR", f"2026-11-01T{window:02}:10:00Z")
        for n in range(keys)
    )
    file = r.place.path.with_name(f"w{window}.csv")
    file.write_text(s.to_csv(rows))
    r.land([file], name_of(s.at(window)), again=True)
    r.close(name_of(s.at(window)))
    assert not r.run().bad


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are looked after more often than in earnest, and small work is cut and given to them, too."""
    monkeypatch.setattr("recon.serving.workers.dispatch.timing_of", lambda workers: QUICK)
    monkeypatch.setattr("recon.serving.workers.dispatch.HERE_ROWS_MAX", 0)


@pytest.fixture
def by_lambda(services: Services, tmp_path: Path) -> Iterator[Site]:
    site = Site(services, tmp_path, "lambda")
    yield site
    services.account.remove(site.function)


def is_update(asked: Asked) -> bool:
    return asked.headers.get("x-amz-target", "").endswith(".UpdateItem")


@dataclass
class Held:
    """An update that has left the worker and does not arrive before ``go``. ``then``: what happens when it is on its way."""

    then: Callable[[], None] = lambda: None
    reached: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)
    arrived: threading.Event = field(default_factory=threading.Event)
    answer: Answered | None = None

    def __call__(self, asked: Asked, pass_on: PassOn) -> Answered | Cut:
        self.then()
        self.reached.set()
        self.go.wait(WAIT_S_MAX)
        self.answer = pass_on(asked)
        self.arrived.set()
        return self.answer

    @property
    def was_refused(self) -> bool:
        assert self.arrived.wait(WAIT_S_MAX)
        assert self.answer is not None
        return self.answer.status == 400 and b"ConditionalCheckFailed" in self.answer.body


# ---- as it should go ----


@pytest.mark.parametrize("kind", ["processes", "lambda"])
def test_several_workers_bring_the_table_to_what_the_embedded_default_holds(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(plans, "ROWS_MIN", 30)
    (tmp_path / "folder").mkdir()
    (tmp_path / "aws").mkdir()
    site, folder = Site(services, tmp_path / "aws", kind, count=2), open_in(tmp_path / "folder", s.STANDARD_YAML)
    for window, keys in ((0, 60), (1, 40)):
        for r in (folder, site.r):
            process(r, window, keys)
    for r in (folder, site.r):
        compact(r.store(), r.config, Timeline(r.store()), always=True)
    site.check(site.r.update_index(), 20)
    assert records(site.r) == records(folder)
    client = client_of(site.r.store(), site.r.config)
    for key in ("K0000", "K0042", "K0059"):
        served = find_served(site.r.store(), Timeline(site.r.store()), key, lambda: client)
        assert served.by == "dynamodb", served.why
        assert served.record == find_record(folder.store(), folder.state(), key)
    shares = [len(plans.read_plan(site.r.store(), plan).shares) for plan in plans._folders(site.r.store(), site.r.config.index.table)]
    assert len(shares) >= 3
    assert min(shares) > 1
    if kind == "lambda":
        assert site.function.all_over().count("done") == sum(shares)
        assert len({one.pid for one in site.function.invocations}) <= 4, "execution environments serve one event after the other"


# ---- killed, out of time, hanging, late ----


# With processes test_workers.py shows the same in `make test`, over a table of its own.
@pytest.mark.parametrize("kind", [pytest.param("processes", marks=pytest.mark.soak), "lambda"])
def test_a_worker_that_is_killed_is_followed_by_one_that_goes_on_where_it_had_come_to(
    services: Services, tmp_path: Path, kind: str
) -> None:
    site = Site(services, tmp_path, kind)
    site.function.retries = 1  # Lambda's own: the same event again, which the coordinator knows nothing of
    site.commit(0, 530)
    held = Held(lambda: os.kill(site.at_work(), signal.SIGKILL))
    held.go.set()
    services.table.harm(lambda asked: is_update(asked) and site.updates() > 510, held)
    site.check(site.r.update_index(), 530)
    assert held.reached.is_set()
    assert site.updates() < 530 + 500, "the first 500 were not done again"
    if kind == "lambda":
        first, *others = site.function.all_over()
        assert first == "died"
        assert others.count("done") == 1
        assert set(others) == {"done", "given_away"}, "how many are given away depends on how soon a worker begins"


def test_a_worker_that_lambda_ends_at_its_timeout_is_followed_by_another_and_its_last_write_comes_late(by_lambda: Site) -> None:
    by_lambda.commit(0, 40)
    held = Held(by_lambda.function.time_out)
    by_lambda.services.table.harm(is_update, held)
    kept = by_lambda.r.update_index()
    by_lambda.check(kept, 40)
    assert by_lambda.function.outcomes[0] == "timed out"
    assert "done" in by_lambda.function.all_over()
    by_lambda.commit(1, 30)
    by_lambda.check(by_lambda.r.update_index(), 30)
    held.go.set()
    assert held.was_refused
    by_lambda.check(by_lambda.r.update_index(), 0)


def test_a_worker_hands_back_what_is_left_before_lambda_ends_it(by_lambda: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing but the time that the first worker is told of makes it stop.
    monkeypatch.setattr("recon.serving.workers.dispatch.timing_of", lambda workers: PATIENT)
    by_lambda.function.timeout_s, by_lambda.function.told_s = 900, [4]
    by_lambda.commit(0, 240)

    def slowly(asked: Asked, pass_on: PassOn) -> Answered:
        if len(by_lambda.function.invocations) == 1:
            time.sleep(0.5)
        return pass_on(asked)

    by_lambda.services.table.harm(is_update, slowly, 100_000)
    by_lambda.check(by_lambda.r.update_index(), 240)
    assert by_lambda.function.all_over() == ["handed_back", "done"]


def test_a_worker_that_hangs_and_comes_back_after_others_have_gone_on_moves_no_pointer_back(by_lambda: Site) -> None:
    stopped: list[int] = []

    def stop() -> None:
        stopped.append(by_lambda.at_work())
        os.kill(stopped[0], signal.SIGSTOP)

    by_lambda.commit(0, 60)
    held = Held(stop)
    by_lambda.services.table.harm(is_update, held)
    by_lambda.check(by_lambda.r.update_index(), 60)
    hung, *others = by_lambda.function.invocations
    assert hung.outcome == ""
    assert others[-1].wait() == "answered"
    # Later commits move the same keys on, once by a merge and once by a compaction.
    by_lambda.commit(1, 40)
    by_lambda.check(by_lambda.r.update_index(), 40)
    compact(by_lambda.r.store(), by_lambda.r.config, Timeline(by_lambda.r.store()), always=True)
    by_lambda.check(by_lambda.r.update_index(), 20)
    told = {path: by_lambda.r.store().get(path) for path in by_lambda.r.store().list("shares/")}
    held.go.set()
    assert held.arrived.wait(WAIT_S_MAX)
    os.kill(stopped[0], signal.SIGCONT)
    assert hung.wait() == "answered"
    assert hung.answer["outcome"] == "given_away"
    assert {path: by_lambda.r.store().get(path) for path in by_lambda.r.store().list("shares/")} == told
    by_lambda.check(by_lambda.r.update_index(), 0)
    assert held.was_refused


# ---- how Lambda is invoked ----


@pytest.mark.parametrize(
    ("what", "times", "sent"),
    [("throttled", 3, 1), ("unanswered", 1, 1), ("doubled", 1, 2)],
)
def test_invocations_that_are_refused_lost_or_doubled_count_each_share_once(by_lambda: Site, what: str, times: int, sent: int) -> None:
    setattr(by_lambda.function, what, times)
    by_lambda.commit(0, 20)
    by_lambda.check(by_lambda.r.update_index(), 20)
    assert getattr(by_lambda.function, what) == 0
    assert by_lambda.function.refused == (times if what == "throttled" else 0)
    told = by_lambda.function.all_over()
    assert told.count("done") == 1
    assert len(told) >= sent
    by_lambda.counted_once()


def test_a_function_that_is_throttled_for_good_leaves_the_runs_to_answer_and_a_later_run_brings_the_table_up(
    by_lambda: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recon.serving.workers.coordinator.THROTTLED_MAX", 3)
    by_lambda.commit(0, 20)
    by_lambda.function.throttled = 3
    with pytest.raises(Throttled, match=f"workers: function {by_lambda.function.name}: AWS invokes no more of it for now"):
        by_lambda.r.update_index()
    assert by_lambda.r.show("K0007", index="dynamodb")["served_by"] == "runs"
    filled = by_lambda.r.update_index()
    assert filled.filled
    plans_of = {path.split("/")[1] for path in by_lambda.r.store().list("shares/")}
    assert plans_of == {filled.table}, "nothing is left of the filling that was given up"
    assert by_lambda.r.show("K0007", index="dynamodb")["served_by"] == "dynamodb"


def test_a_coordinator_that_is_killed_leaves_its_worker_at_work_and_the_next_one_invokes_nobody_again(
    by_lambda: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recon.serving.workers.dispatch.timing_of", lambda workers: PATIENT)
    by_lambda.commit(0, 20)
    by_lambda.check(by_lambda.r.update_index(), 20)
    by_lambda.commit(1, 40)
    held = Held()
    by_lambda.services.table.harm(is_update, held)
    first = subprocess.Popen([sys.executable, "-m", "recon.cli", "index", "update"], cwd=by_lambda.folder, stdout=subprocess.DEVNULL)
    assert held.reached.wait(WAIT_S_MAX)
    first.kill()
    first.wait()
    held.go.set()
    by_lambda.check(by_lambda.r.update_index(), 40)
    assert by_lambda.function.all_over() == ["done", "done"]


# ---- ministack ----


def test_the_zip_deployed_by_boto3_on_ministack_brings_the_table_up_and_is_ended_at_its_timeout(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(services, tmp_path, "ministack")
    with ministack(tmp_path) as aws:
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", aws.endpoint)
        bucket = site.r.config.index.table
        site.configure(aws.deploy(services.zipped, HANDLER, worker_variables(f"s3://{bucket}/orders", bucket), timeout_s=4), bucket)
        site.commit(0, 40)
        held = Held()
        services.table.harm(is_update, held)
        site.check(site.r.update_index(), 40)
        held.go.set()
        assert held.was_refused
        site.commit(1, 30)
        site.check(site.r.update_index(), 30)
        assert "timed out after 4s" in aws.log.read_text()
