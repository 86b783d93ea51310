"""What goes wrong between a store and S3: throttling, cut connections, lost replies, stale and garbled answers, expired credentials.

Whatever happens, nothing is lost, nothing is there twice, and no writer takes another's object for its own. Between the store and a real
server stands one that does harm (faulty_http).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import crash_child as c
import faulty_http
import pytest
import seaweed
import strategies as s
from faulty_http import Answered, FaultyServer
from histories import carry_out, check_store, open_in
from http_requests import Asked

import recon
from recon.config.settings import S3Settings
from recon.errors import ConnectionLost, Damaged, ReconError, Throttled, TimedOut, TryAgain, WrongUsage
from recon.state.timeline import Entry, Timeline
from recon.storage import frontiers, lease
from recon.storage.port import AlreadyExists, NotFound
from recon.storage.s3 import S3Store, multipart, open_s3, session
from recon.storage.s3 import store as s3_store

PART = 5 << 20


def puts(asked: Asked) -> bool:
    return asked.method == "PUT"


def gets(asked: Asked) -> bool:
    return asked.method == "GET" and not asked.lists


def heads(asked: Asked) -> bool:
    return asked.method == "HEAD"


def lists(asked: Asked) -> bool:
    return asked.lists


def completions(asked: Asked) -> bool:
    return asked.method == "POST" and "uploadId" in asked.query


def anything(asked: Asked) -> bool:
    return True


@pytest.fixture
def between(seaweed_server: seaweed.Seaweed, in_s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    with faulty_http.in_front_of(seaweed_server.port) as faulty:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", faulty.endpoint)
        yield faulty


@pytest.fixture
def store(between: FaultyServer, in_s3: str) -> S3Store:
    return open_s3(in_s3, S3Settings().retrying(20))


@pytest.fixture
def hasty(between: FaultyServer, in_s3: str) -> S3Store:
    """Gives up at once."""
    return open_s3(in_s3, S3Settings().retrying(0.3))


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multipart, "PART_BYTES", PART)
    monkeypatch.setattr(s3_store, "PIECE_BYTES", PART)


# ---- throttling and lost connections ---------------------------------------------------------------------------------


def test_while_s3_throttles_everything_is_tried_again_until_it_is_done(store: S3Store, between: FaultyServer) -> None:
    between.throttle(puts, 3)
    store.put_new("a", [b"0123456789"])
    for kind in (gets, heads, lists, lambda asked: asked.method == "DELETE"):
        between.throttle(kind, 2)
    assert store.get("a") == b"0123456789"
    assert store.size("a") == 10
    assert list(store.list("")) == ["a"]
    store.delete("a")
    assert list(store.list("")) == []


CUTS: dict[str, Callable[[FaultyServer], None]] = {
    "dropped before": lambda between: between.drop(anything, 2),
    "cut in mid-body": lambda between: between.cut(gets, 2),
    "internal error": lambda between: between.answer(anything, 500, "InternalError", 2),
    "bad gateway": lambda between: between.answer(anything, 502, "", 1),
}


@pytest.mark.parametrize("how", CUTS)
def test_a_connection_that_is_cut_is_made_again(store: S3Store, between: FaultyServer, how: str) -> None:
    body = os.urandom(300_000)
    store.put_new("a", [body])
    for read, expected in ((lambda: store.get("a"), body), (lambda: store.get_range("a", 7, 200_000), body[7:200_007])):
        CUTS[how](between)
        assert read() == expected
        between.mend()
    CUTS[how](between)
    assert store.put_new("b", [body]) == len(body)
    between.mend()
    assert store.get("b") == body


GIVEN_UP: dict[str, tuple[Callable[[FaultyServer], None], type[ReconError], str]] = {
    "throttled": (lambda between: between.throttle(anything, 99), Throttled, "503 SlowDown, .*asks to be called less often"),
    "cut": (lambda between: between.drop(anything, 99), ConnectionLost, "no answer, .*check the network"),
    "failing": (lambda between: between.answer(anything, 500, "InternalError", 99), ConnectionLost, "500 InternalError, "),
    "busy": (
        lambda between: between.answer(puts, 409, "ConditionalRequestConflict", 99),
        TryAgain,
        "409 ConditionalRequestConflict, .*a concurrent request conflicted",
    ),
}


@pytest.mark.parametrize("what", GIVEN_UP)
def test_what_does_not_pass_in_time_is_told_by_its_kind_with_the_place_and_the_next_step(
    hasty: S3Store, between: FaultyServer, what: str
) -> None:
    harm, kind, says = GIVEN_UP[what]
    harm(between)
    with pytest.raises(kind, match=rf"^s3://recon-.*/some/prefix/a: s3:PutObject failed \({says}") as failure:
        hasty.put_new("a", [b"x"])
    assert "\n" not in str(failure.value)
    assert len(between.asked) > 1


def test_an_answer_that_does_not_come_is_not_waited_for_and_its_put_not_done_twice(
    between: FaultyServer, in_s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "READ_S_MAX", 1)
    store = open_s3(in_s3, S3Settings().retrying(20))
    between.hang(puts, 1.5)
    assert store.put_new("a", [b"x"]) == 1
    store.put_new("b", [b"y"])
    between.hang(gets, 1.5, times=3)
    hasty = open_s3(in_s3, S3Settings().retrying(0.3))
    with pytest.raises(TimedOut, match="no response in time"):
        hasty.get("b")


def test_a_list_that_is_cut_between_its_pages_goes_on_where_it_was(
    store: S3Store, between: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_store, "PAGE_KEYS", 10)
    names = [f"l/{number:03}" for number in range(35)]
    for name in names:
        store.put_new(name, [b""])
    between.throttle(lambda asked: asked.lists and ("continuation-token" in asked.query or "start-after" in asked.query), 2)
    between.cut(lambda asked: asked.lists, 1)
    assert list(store.list("l")) == names


# ---- lost replies ----------------------------------------------------------------------------------------------------


def fails_after(asked: Asked, pass_on: faulty_http.PassOn) -> Answered:
    pass_on(asked)
    return Answered(500, (), b"<Error><Code>InternalError</Code></Error>")


LOST: dict[str, Callable[[FaultyServer, faulty_http.When], None]] = {
    "connection cut": lambda between, when: between.swallow(when),
    "internal error": lambda between, when: between.harm(when, fails_after),
}


@pytest.mark.parametrize("how", LOST)
def test_a_put_whose_reply_is_lost_has_succeeded(store: S3Store, between: FaultyServer, how: str) -> None:
    LOST[how](between, puts)
    assert store.put_new("a", [b"mine"]) == 4
    assert [one.method for one in between.asked] == ["PUT", "PUT", "HEAD"]
    assert store.get("a") == b"mine"


@pytest.mark.parametrize("how", LOST)
def test_a_put_whose_reply_is_lost_after_another_was_first_has_not(store: S3Store, between: FaultyServer, in_s3: str, how: str) -> None:
    """Even where both write the same bytes."""
    open_s3(in_s3).put_new("a", [b"the same"])
    LOST[how](between, puts)
    with pytest.raises(AlreadyExists):
        store.put_new("a", [b"the same"])


@pytest.mark.parametrize("how", LOST)
def test_an_upload_in_parts_whose_completion_is_lost_has_succeeded(
    store: S3Store, between: FaultyServer, small_parts: None, how: str
) -> None:
    body = os.urandom(PART + 10)
    LOST[how](between, completions)
    assert store.put_new("a", [body]) == len(body)
    assert store.get("a") == body


def test_a_completion_that_is_done_and_forgotten_has_succeeded(store: S3Store, between: FaultyServer, small_parts: None) -> None:
    """S3 itself answers a second completion with 404 NoSuchUpload."""
    LOST["connection cut"](between, completions)
    between.answer(completions, 404, "NoSuchUpload", 5)
    assert store.put_new("a", [bytes(PART + 10)]) == PART + 10


def test_parts_are_sent_again_where_they_were_cut_and_an_upload_that_fails_is_aborted(
    store: S3Store, hasty: S3Store, between: FaultyServer, small_parts: None, seaweed_server: seaweed.Seaweed
) -> None:
    def parts(asked: Asked) -> bool:
        return asked.method == "PUT" and "partNumber" in asked.query

    body = os.urandom(3 * PART)
    between.drop(parts, 2)
    between.throttle(parts, 2)
    store.put_new("a", [body])
    assert store.get("a") == body
    between.throttle(parts, 99)
    with pytest.raises(Throttled):
        hasty.put_new("b", [body])
    between.mend()
    assert not store.exists("b")
    uploads = seaweed_server.client().list_multipart_uploads(Bucket=store.location.bucket, Prefix=store.location.prefix)
    assert "Uploads" not in uploads


def test_a_commit_whose_reply_is_lost_is_made_once(store: S3Store, between: FaultyServer) -> None:
    timeline = Timeline(store)
    between.swallow(lambda asked: puts(asked) and "/timeline/" in asked.path)
    committed = timeline.commit(Entry("tiers", "writer", "rules"), onto=timeline.head())
    assert committed is not None
    assert committed.commit == 1
    assert Timeline(store).head().commit == 1


def test_of_thirty_two_writers_that_race_for_one_commit_one_makes_it(store: S3Store, between: FaultyServer, in_s3: str) -> None:
    """While replies get lost."""
    between.swallow(lambda asked: puts(asked) and "/timeline/" in asked.path, times=6)
    start = threading.Barrier(32)
    stores = [store, *(open_s3(in_s3) for _ in range(3))]

    def race(number: int) -> str | None:
        timeline = Timeline(stores[number % 4])
        head = timeline.head()
        start.wait(60)
        return None if timeline.commit(Entry("tiers", f"w{number}", "r"), onto=head) is None else f"w{number}"

    with ThreadPoolExecutor(32) as threads:
        won = [name for name in threads.map(race, range(32)) if name is not None]
    entry = Timeline(store).entry(1)
    assert entry is not None
    assert won == [entry.writer]
    assert Timeline(store).head().commit == 1


# ---- garbled and stale answers ---------------------------------------------------------------------------------------


def test_bytes_that_arrive_otherwise_than_they_were_sent_are_refused_and_sent_again(store: S3Store, between: FaultyServer) -> None:
    between.garble_request(puts, 2)
    store.put_new("a", [b"0123456789"])
    assert len([one for one in between.asked if puts(one)]) == 3
    assert store.get("a") == b"0123456789"


def test_parts_that_arrive_otherwise_are_refused_and_sent_again(store: S3Store, between: FaultyServer, small_parts: None) -> None:
    body = os.urandom(PART + 1000)
    between.garble_request(puts, 1)
    store.put_new("a", [body])
    assert store.get("a") == body


def test_where_every_put_arrives_otherwise_nothing_is_created_and_it_is_told(hasty: S3Store, between: FaultyServer) -> None:
    between.garble_request(puts, 99)
    with pytest.raises(ConnectionLost, match="are not those that were sent"):
        hasty.put_new("a", [b"0123456789"])
    between.mend()
    assert not hasty.exists("a")


def test_an_object_that_comes_back_otherwise_is_read_again_and_never_answered(
    store: S3Store, between: FaultyServer, tmp_path: Path
) -> None:
    store.put_new("a", [b"0123456789"])
    between.garble_answer(gets, 2)
    assert store.get("a") == b"0123456789"
    between.garble_answer(gets, 1)
    store.copy_out("a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"0123456789"
    between.garble_answer(gets, 99)
    with pytest.raises(Damaged, match=r"^a: its bytes are not what was written"):
        store.get("a")


def test_what_was_deleted_is_gone_at_once(store: S3Store, between: FaultyServer) -> None:
    store.put_new("a", [b"x"])
    store.delete("a")
    before = len(between.asked)
    assert not store.exists("a")
    assert len(between.asked) == before + 1


def test_what_another_deleted_is_gone_at_once(store: S3Store, in_s3: str) -> None:
    store.put_new("a", [b"x"])
    open_s3(in_s3).delete("a")
    with pytest.raises(NotFound):
        store.get("a")


def test_a_writer_that_reads_a_stale_head_commits_onto_the_true_one(store: S3Store, between: FaultyServer, in_s3: str) -> None:
    """S3 itself is consistent. Where a cache on the way hides commit 2 for a while, its put is refused."""
    other = Timeline(open_s3(in_s3))
    for number in range(2):
        assert other.commit(Entry("tiers", f"other{number}", "r"), onto=other.head()) is not None
    mine = Timeline(store)
    between.answer(lambda asked: gets(asked) and asked.path.endswith("000000000002.json"), 404, "NoSuchKey", 4)
    tries = 0
    while True:
        tries += 1
        head = mine.head()
        committed = mine.commit(Entry("tiers", "mine", "r"), onto=head)
        if committed is not None:
            break
    assert tries == 3, "two reads a try, as long as the old answer comes"
    assert committed.commit == 3
    entries = [Timeline(open_s3(in_s3)).entry(number) for number in (1, 2, 3)]
    assert [entry.writer for entry in entries if entry] == ["other0", "other1", "mine"]


def test_by_a_stale_list_no_frontier_goes_back_and_no_lease_is_held_twice(store: S3Store, between: FaultyServer, in_s3: str) -> None:
    other = open_s3(in_s3)
    frontiers.advance(store, "certified", 1, "one")
    assert frontiers.read(store, "certified") == (1, "one")
    assert lease.acquire(store, "stages/merge", "first", 60) is not None
    assert lease.current(store, "stages/merge") is not None
    frontiers.advance(other, "certified", 5, "five")
    between.age(lists, 99)
    assert lease.acquire(store, "stages/merge", "second", 60) is None
    frontiers.advance(store, "certified", 3, "three")
    between.mend()
    assert frontiers.read(store, "certified") == (5, "five")


# ---- who may ---------------------------------------------------------------------------------------------------------


def test_an_expired_token_is_renewed(between: FaultyServer, in_s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The next credentials stand in the file of the profile, as those who sign in by hand leave them there."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    file = tmp_path / "credentials"
    file.write_text("[default]\naws_access_key_id = gone\naws_secret_access_key = gone\naws_session_token = gone\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))

    def with_old(asked: Asked) -> bool:
        return "Credential=gone/" in asked.headers["authorization"]

    between.answer(lambda asked: with_old(asked) and not heads(asked), 400, "ExpiredToken", 99)
    between.harm(with_old, lambda asked, pass_on: Answered(400, (), b""), 99)
    store = open_s3(in_s3, S3Settings().retrying(20))
    file.write_text(f"[default]\naws_access_key_id = {seaweed.KEY}\naws_secret_access_key = {seaweed.SECRET}\n")
    assert not store.exists("a"), "the answer to HEAD does not say why it is refused"
    again = open_s3(in_s3, S3Settings().retrying(20))
    assert again.put_new("a", [b"x"]) == 1


@pytest.mark.parametrize("code", ["ExpiredToken", "TokenRefreshRequired"])
def test_a_token_that_stays_expired_is_told_and_the_run_may_be_tried_again(store: S3Store, between: FaultyServer, code: str) -> None:
    between.answer(anything, 400, code, 99, more="<Token-0>SECRETTOKEN</Token-0>")
    for call in (lambda: store.get("a"), lambda: store.put_new("a", [b"x"]), lambda: list(store.list(""))):
        with pytest.raises(TryAgain, match="the AWS credentials have expired; sign in again") as failure:
            call()
        assert "SECRETTOKEN" not in str(failure.value)
    between.mend()
    assert store.put_new("a", [b"x"]) == 1


def test_what_is_denied_is_named_by_action_and_place_and_by_nothing_of_the_answer(store: S3Store, between: FaultyServer) -> None:
    told = "<AWSAccessKeyId>AKIASECRET</AWSAccessKeyId><StringToSign>SECRET</StringToSign>"
    for call, action, place in (
        (lambda: store.get("a/b"), "s3:GetObject", "/some/prefix/a/b"),
        (lambda: store.size("a/b"), "s3:GetObject", "/some/prefix/a/b"),
        (lambda: store.put_new("a/b", [b"x"]), "s3:PutObject", "/some/prefix/a/b"),
        (lambda: list(store.list("a")), "s3:ListBucket", "/some/prefix/a"),
        (lambda: store.delete("a/b"), "s3:DeleteObject", "/some/prefix/a/b"),
    ):
        between.answer(anything, 403, "AccessDenied", 99, more=told)
        with pytest.raises(
            WrongUsage, match=rf"^s3://recon-[0-9a-f]+/[0-9a-f]+{place}: {action} failed \(403.*access is denied; allow {action}"
        ) as failure:
            call()
        everything = (
            f"{failure.value!r}{failure.value.__cause__!r}{'' if failure.value.__suppress_context__ else failure.value.__context__!r}"
        )
        assert "SECRET" not in everything
        between.mend()


def test_a_bucket_in_another_region_is_told_with_the_region(store: S3Store, between: FaultyServer) -> None:
    between.answer(anything, 400, "AuthorizationHeaderMalformed", more="<Region>eu-west-1</Region>")
    with pytest.raises(WrongUsage, match=r"the bucket is not in the region us-east-1: it is in eu-west-1; set AWS_REGION=eu-west-1"):
        store.get("a")
    between.answer(anything, 301, "PermanentRedirect")
    with pytest.raises(WrongUsage, match=r"the bucket is not in the region us-east-1: set AWS_REGION to the bucket's own"):
        store.get("a")


# ---- a whole pipeline ------------------------------------------------------------------------------------------------


def test_a_pipeline_beside_which_everything_goes_wrong_for_a_while_comes_to_the_oracles(
    between: FaultyServer, in_s3: str, tmp_path: Path
) -> None:
    operations: list[s.Operation] = []
    for window in (0, 1):
        operations += [s.Land(window, s.File(f"w{window}", c.rows_of(window))), s.Close(window)]
    turn = iter(range(10**9))
    lock = threading.Lock()

    def every(count: int, when: faulty_http.When) -> faulty_http.When:
        def chosen(asked: Asked) -> bool:
            with lock:
                return when(asked) and next(turn) % count == 0

        return chosen

    between.throttle(every(11, anything), 20)
    between.swallow(every(7, puts), 20)
    between.cut(every(5, gets), 20)
    between.drop(every(9, anything), 20)
    between.garble_request(every(13, puts), 5)
    folder = tmp_path / "orders"
    folder.mkdir()
    r = open_in(folder, s.STANDARD_YAML.replace("./data", in_s3))
    for operation in (*operations, s.Run((0, 1))):
        carry_out(r, operation)
    assert sum(20 - fault.left for fault in between._faults[:4]) > 15, "hardly anything went wrong"
    between.mend()
    check_store(recon.open(r.config.path), c.state_after([*operations, s.Run((0, 1))]))
    assert r.verify(full=True).problems == []
