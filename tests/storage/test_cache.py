"""Redis in front of object storage: whatever it does, answers are those of the store. On a real Valkey."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import faulty_store
import numpy as np
import pytest
import strategies as s
from cli_calls import Call
from damage import flip_records
from histories import open_in, records
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from valkey_server import Valkey, behind_tls, self_made, valkey

from recon.config import load_config, load_place
from recon.config.secrets import credentials
from recon.config.settings import Cache
from recon.errors import WrongUsage
from recon.metering.usage import Tally, requests_of
from recon.model.record import RecordAddress
from recon.state.lookup import find_record
from recon.state.runs import RecordAddresses, check_of, read_record, read_records
from recon.storage import layout
from recon.storage.cache import FAILURES_MAX, CachedStore, RecordCache, in_front_of, seal_of
from recon.storage.local import LocalStore
from recon.storage.port import ReadCost
from resources.redis import ReconciliationCache, dagster_secret

PART = "state/0123456789abcdef/part-0000.words"
RECORDS = [b"\xff\x00" + f"record {number}".encode() + b"x" * (number % 7) for number in range(40)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with valkey(tmp_path_factory.mktemp("valkey")) as made:
        yield made


@pytest.fixture
def redis(server: Valkey) -> Any:
    server.client().flushall()
    return server


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> tuple[LocalStore, list[RecordAddress]]:
    """A part-file and where its records lie."""
    store = LocalStore(tmp_path_factory.mktemp("shelf"))
    store.put_new(PART, [b"".join(RECORDS)])
    ends = np.cumsum([len(record) for record in RECORDS]).tolist()
    return store, [RecordAddress(PART, end - len(record), len(record), check_of(record)) for record, end in zip(RECORDS, ends, strict=True)]


class Distant(faulty_store.WatchedStore):
    """The same store as if it were no folder; it counts what is asked of it. No two records are neighbours, unless ``gap`` is given."""

    def __init__(self, store: Any, gap: int = -1) -> None:
        super().__init__(store, mapped=lambda path: False)
        self._cost = ReadCost(gap, 1 << 23, 16)

    @property
    def cost(self) -> ReadCost:
        return self._cost


def cached(store: Any, url: str, tally: Tally | None = None, pause_s: float = 30.0, gap: int = -1, **given: Any) -> CachedStore:
    chosen = Cache(**{"kind": "redis", "url": url, "timeout_ms": 2000, **given})
    far = Distant(store, gap)
    return CachedStore(far, RecordCache(chosen, "orders", lambda: seal_of(far), tally, pause_s=pause_s))


def reads(store: CachedStore) -> int:
    """How often part-files were read in the store."""
    assert isinstance(store.store, faulty_store.WatchedStore)
    return sum(call.kind == "get_range" for call in store.store.calls)


def counted(tally: Tally) -> dict[str, int]:
    return {operation: number for (_, operation), number in requests_of(tally.so_far()).items()}


def everywhere(hits: list[RecordAddress]) -> RecordAddresses:
    columns = {name: np.array([getattr(hit, name) for hit in hits], "<u4") for name in ("length", "check")}
    offset = np.array([hit.offset for hit in hits], "<u8")
    return RecordAddresses((PART,), np.arange(len(hits)), np.zeros(len(hits), "<u4"), offset, **columns)


# ---- what it is for --------------------------------------------------------------------------------------------------


def test_a_record_is_read_in_the_store_once(redis: Valkey, shelf: tuple[LocalStore, list[RecordAddress]]) -> None:
    store, tally = cached(shelf[0], redis.url), Tally()
    store.records._meter = tally
    for _ in range(3):
        assert [read_record(store, hit) for hit in shelf[1]] == RECORDS
    assert reads(store) == len(RECORDS)
    assert counted(tally)["hit"] == 2 * len(RECORDS)
    assert counted(tally)["miss"] == len(RECORDS)
    other = cached(shelf[0], redis.url)  # as another process would
    assert [read_record(other, hit) for hit in shelf[1]] == RECORDS
    assert reads(other) == 0


def test_many_records_come_by_few_requests(redis: Valkey, shelf: tuple[LocalStore, list[RecordAddress]]) -> None:
    found = everywhere(shelf[1][::-1])
    for expected_reads, expected_mgets in ((len(RECORDS), 1), (0, 1)):
        store, tally = cached(shelf[0], redis.url), Tally()
        store.records._meter = tally
        assert read_records(store, found).to_pylist() == RECORDS[::-1]
        assert reads(store) == expected_reads
        assert counted(tally)["mget"] == expected_mgets
    assert counted(tally)["hit"] == len(RECORDS)


def test_a_cache_that_has_some_of_the_records_gives_these(redis: Valkey, shelf: tuple[LocalStore, list[RecordAddress]]) -> None:
    for hit in shelf[1][::3]:
        read_record(cached(shelf[0], redis.url), hit)
    store = cached(shelf[0], redis.url)
    assert read_records(store, everywhere(shelf[1])).to_pylist() == RECORDS
    assert reads(store) == len(RECORDS) - len(shelf[1][::3])


def test_neighbours_that_one_request_fetches_are_not_asked_of_the_cache(
    redis: Valkey, shelf: tuple[LocalStore, list[RecordAddress]]
) -> None:
    store = cached(shelf[0], redis.url, gap=1 << 20)
    assert read_records(store, everywhere(shelf[1])).to_pylist() == RECORDS
    assert reads(store) == 1
    assert not redis.client().keys()


def test_entries_live_as_long_as_told_and_large_records_stay_out(redis: Valkey, shelf: tuple[LocalStore, list[RecordAddress]]) -> None:
    store = cached(shelf[0], redis.url, ttl=timedelta(minutes=7), record_max=len(RECORDS[0]))
    read_records(store, everywhere(shelf[1][:8]))
    (only, *more) = redis.client().keys()
    assert len(more) == sum(len(record) <= len(RECORDS[0]) for record in RECORDS[:8]) - 1 < 7
    assert only.startswith(b"recon:orders:")
    assert 400 < redis.client().ttl(only) <= 420


def test_reconciliations_and_stores_share_a_server_but_no_entry(
    redis: Valkey, shelf: tuple[LocalStore, list[RecordAddress]], tmp_path: Path
) -> None:
    read_record(cached(shelf[0], redis.url), shelf[1][0])
    twin = LocalStore(tmp_path / "twin")  # an attacker's, or a restored one, with the same names
    twin.put_new(PART, [b"".join(RECORDS)])
    assert read_record(cached(twin, redis.url), shelf[1][0]) == RECORDS[0]
    assert len(redis.client().keys()) == 2
    assert len(shelf[0].get(layout.CACHE_SEAL)) == 32


def test_a_folder_has_no_cache_and_neither_has_a_store_without_one_configured(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    assert in_front_of(store, Cache(kind="redis", url="redis://127.0.0.1:1/0"), "orders") is store
    far = Distant(store)
    assert in_front_of(far, Cache(), "orders") is far
    assert isinstance(in_front_of(far, Cache(kind="redis", url="redis://127.0.0.1:1/0"), "orders"), CachedStore)


# ---- what it may do wrong --------------------------------------------------------------------------------------------


def flipped(value: bytes, at: int) -> bytes:
    at %= len(value)
    return value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :]


DAMAGE = st.one_of(
    st.just("gone"),
    st.just("kept"),
    st.just("a list"),
    st.tuples(st.just("flipped"), st.integers(0, 60)),
    st.tuples(st.just("cut"), st.integers(0, 60)),
    st.tuples(st.just("of another"), st.integers(0, len(RECORDS) - 1)),
    st.tuples(st.just("forged"), st.binary(max_size=80)),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damages=st.lists(DAMAGE, min_size=len(RECORDS), max_size=len(RECORDS)))
def test_law_whatever_the_cache_holds_look_ups_give_what_the_store_gives(
    server: Valkey, shelf: tuple[LocalStore, list[RecordAddress]], damages: list[Any]
) -> None:
    client, (held, hits) = server.client(), shelf
    client.flushall()
    cached(held, server.url).records.put(zip(hits, RECORDS, strict=True))
    names = sorted(client.keys())
    values = client.mget(names)
    for name, value, damage in zip(names, values, damages, strict=True):
        if damage == "gone":
            client.delete(name)
        elif damage == "a list":
            client.delete(name)
            client.rpush(name, value)
        elif damage != "kept":
            kind, given_ = damage
            put = {"flipped": lambda v, g: flipped(v, g), "cut": lambda v, g: v[:g], "of another": lambda v, g: values[g]}
            client.set(name, put.get(kind, lambda v, g: g)(value, given_))
    for _ in range(2):  # the second time what was wrong has been put right
        store = cached(held, server.url)
        assert [read_record(store, hit) for hit in hits] == RECORDS
        assert read_records(store, everywhere(hits[:8])).to_pylist() == RECORDS[:8]
    assert reads(store) == 0


def of_the_same_check(record: bytes) -> bytes:
    """Another record of the same length and the same CRC-32: the polynomial added to its bits changes nothing of what is left over."""
    bits = int.from_bytes(record, "little") ^ (0x1DB710641 << 13)
    return bits.to_bytes(len(record), "little")


def test_an_entry_that_somebody_else_made_with_the_right_check_is_not_believed(
    redis: Valkey, shelf: tuple[LocalStore, list[RecordAddress]], caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever can write to Redis can make a text of the same CRC-32: the check alone would not keep it out."""
    store, tally = cached(shelf[0], redis.url), Tally()
    store.records._meter = tally
    read_record(store, shelf[1][0])
    (name,) = redis.client().keys()
    true = redis.client().get(name)
    forged = of_the_same_check(RECORDS[0])
    redis.client().set(name, true[:16] + forged)
    assert forged != RECORDS[0]
    assert check_of(forged) == shelf[1][0].check
    assert store.records.get([shelf[1][0]]) == [None]
    assert counted(tally)["wrong"] == 1
    assert read_record(store, shelf[1][0]) == RECORDS[0]
    assert redis.client().get(name) == true
    assert [record.getMessage() for record in caplog.records if "did not write" in record.getMessage()]


def test_a_server_that_is_full_and_evicts_is_a_slower_cache(tmp_path: Path, shelf: tuple[LocalStore, list[RecordAddress]]) -> None:
    with valkey(tmp_path, "--maxmemory", "2mb", "--maxmemory-policy", "allkeys-lru") as small:
        client = small.client()
        store = cached(shelf[0], small.url)
        for number in range(3):
            for filler in range(300):
                client.set(f"filler:{number}:{filler}", b"x" * 20_000)
            assert read_records(store, everywhere(shelf[1])).to_pylist() == RECORDS
        assert client.info("stats")["evicted_keys"] > 0
        client.config_set("maxmemory-policy", "noeviction")  # now it refuses to take anything
        client.config_set("maxmemory", "1mb")
        again = cached(shelf[0], small.url)
        assert read_records(again, everywhere(shelf[1])).to_pylist() == RECORDS


def test_a_server_that_dies_in_between_is_told_once_and_then_left_alone(
    tmp_path: Path, shelf: tuple[LocalStore, list[RecordAddress]], caplog: pytest.LogCaptureFixture
) -> None:
    tally = Tally()
    with valkey(tmp_path) as doomed:
        store = cached(shelf[0], doomed.url, tally)
        assert [read_record(store, hit) for hit in shelf[1][:4]] == RECORDS[:4]
        doomed.kill()
        assert [read_record(store, hit) for hit in shelf[1]] == RECORDS
    assert counted(tally)["error"] == FAILURES_MAX
    (told,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert f"cache at 127.0.0.1:{doomed.port}: cannot be reached" in told.getMessage()


def test_a_server_that_hangs_costs_a_few_timeouts_and_is_asked_again_later(
    redis: Valkey, shelf: tuple[LocalStore, list[RecordAddress]], caplog: pytest.LogCaptureFixture
) -> None:
    tally, later = Tally(), Tally()
    store = cached(shelf[0], redis.url, tally, timeout_ms=50)
    again = cached(shelf[0], redis.url, later, pause_s=0.5, timeout_ms=50)
    read_record(store, shelf[1][0])
    with redis.hanging():
        assert [read_record(store, hit) for hit in shelf[1][:20]] == RECORDS[:20]
        # Each timeout is counted as an error: without the breaker there would be 40 of them.
        assert counted(tally)["error"] == FAILURES_MAX
        assert [read_record(again, hit) for hit in shelf[1][:20]] == RECORDS[:20]
        assert counted(later)["error"] >= FAILURES_MAX
    assert [record for record in caplog.records if "no answer in time" in record.getMessage()]
    deadline = time.monotonic() + 60
    while counted(later).get("hit", 0) == 0 and time.monotonic() < deadline:
        time.sleep(0.05)
        assert read_record(again, shelf[1][0]) == RECORDS[0]
    assert counted(later)["hit"] == 1


# ---- who may use it --------------------------------------------------------------------------------------------------

PASSWORD = "a-secret-that-nobody-tells"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """A server where only the user ``recon`` gets in, and only to keys of ``orders``, by just the commands that are needed."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "users.acl").write_text(f"user default off\nuser recon on >{PASSWORD} ~recon:orders:* +get +mget +set\n")
    with valkey(folder, "--aclfile", str(folder / "users.acl")) as made:
        yield made


def test_a_user_with_three_commands_on_its_own_keys_is_enough(
    guarded: Valkey, shelf: tuple[LocalStore, list[RecordAddress]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ORDERS_CACHE", PASSWORD)
    store, tally = cached(shelf[0], guarded.url, user="recon", secret="ORDERS_CACHE"), Tally()
    store.records._meter = tally
    for _ in range(2):
        assert read_record(store, shelf[1][0]) == RECORDS[0]
    assert counted(tally) == {"mget": 2, "miss": 1, "set": 1, "hit": 1}
    assert not caplog.records


@pytest.mark.parametrize("secret", ["wrong", None, "", '{"password": "wrong"}', '{"no": 1}'])
def test_a_wrong_password_or_none_costs_the_cache_and_is_in_no_message(
    guarded: Valkey,
    shelf: tuple[LocalStore, list[RecordAddress]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    secret: str | None,
) -> None:
    monkeypatch.delenv("ORDERS_CACHE", raising=False)
    if secret is not None:
        monkeypatch.setenv("ORDERS_CACHE", secret)
    store = cached(shelf[0], guarded.url, user="recon", secret="ORDERS_CACHE")
    assert [read_record(store, hit) for hit in shelf[1]] == RECORDS
    (told,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert ("is refused" in told) or "cache.secret" in told
    assert "wrong" not in told


def test_another_namespace_than_the_users_own_is_refused_and_costs_the_cache(
    guarded: Valkey, shelf: tuple[LocalStore, list[RecordAddress]], caplog: pytest.LogCaptureFixture
) -> None:
    chosen = Cache(kind="redis", url=guarded.url, user="recon", secret="arn:aws:secretsmanager:eu-central-1:123456789012:secret:x")
    far = Distant(shelf[0])
    records_ = RecordCache(chosen, "fees", lambda: seal_of(far), read_secret=lambda arn: json.dumps({"password": PASSWORD}))
    assert read_record(CachedStore(far, records_), shelf[1][0]) == RECORDS[0]
    assert "may not read and write its keys" in caplog.text
    assert PASSWORD not in caplog.text
    assert PASSWORD not in repr(records_._connected())


def test_over_tls_with_a_password_from_secrets_manager(
    guarded: Valkey, shelf: tuple[LocalStore, list[RecordAddress]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, foreign = self_made(tmp_path, "ours"), self_made(tmp_path, "foreign")
    tally, far = Tally(), Distant(shelf[0])

    def through(trusted: Path) -> CachedStore:
        given_ = {"secret": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:orders", "certificates": str(trusted)}
        chosen = Cache(kind="redis", url=f"rediss://127.0.0.1:{port}/0", timeout_ms=5000, **given_)
        told = json.dumps({"username": "recon", "password": PASSWORD})
        return CachedStore(far, RecordCache(chosen, "orders", lambda: seal_of(far), tally, read_secret=lambda arn: told))

    with behind_tls(guarded, certificate) as port:
        for _ in range(2):
            assert read_record(through(certificate.certificate), shelf[1][1]) == RECORDS[1]
        assert counted(tally) == {"mget": 2, "miss": 1, "set": 1, "hit": 1}
        assert not caplog.records
        assert read_record(through(foreign.certificate), shelf[1][1]) == RECORDS[1]
        assert "its certificate" in caplog.text
        assert counted(tally)["error"] == 2  # asking and putting


def test_the_secret_is_read_from_secrets_manager_in_its_own_region(monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3
    from moto import mock_aws

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        there = boto3.client("secretsmanager", region_name="eu-central-1")
        arn = there.create_secret(Name="orders", SecretString=json.dumps({"username": "recon", "password": PASSWORD}))["ARN"]
        found = credentials("cache", None, arn)
    assert (found.user, found.password) == ("recon", PASSWORD)
    assert PASSWORD not in repr(found)


def test_in_a_run_of_dagster_the_secret_comes_through_dagster_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import boto3
    from moto import mock_aws

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        there = boto3.client("secretsmanager", region_name="eu-central-1")
        arn = there.create_secret(Name="orders", SecretString=PASSWORD)["ARN"]
        assert credentials("cache", "recon", arn, dagster_secret).password == PASSWORD
    open_in(tmp_path)
    assert ReconciliationCache(config_file=str(tmp_path / "recon.yaml")).open() is None  # a folder


def test_doctor_tries_the_cache_and_says_what_to_correct(
    recon: Call, tmp_path: Path, guarded: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "recon.yaml"
    cache = f"cache: {{kind: redis, url: '{guarded.url}', user: recon, secret: ORDERS_CACHE}}\n"

    def told() -> dict[str, Any]:
        (found,) = [one for one in recon("doctor", "--json", "--config", str(file)).json["findings"] if one["name"] == "cache"]
        return found

    file.write_text(s.STANDARD_YAML + cache)
    assert "the store is a folder" in told()["told"]
    file.write_text(s.STANDARD_YAML.replace("./data", "s3://there-is-none/orders") + cache)
    monkeypatch.setenv("ORDERS_CACHE", PASSWORD)
    assert (told()["there"], told()["told"]) == (True, f"127.0.0.1:{guarded.port} answers")
    monkeypatch.setenv("ORDERS_CACHE", "hunter2")
    assert not told()["there"]
    assert "password is refused" in told()["told"]
    assert "hunter2" not in str(told())


# ---- the configuration -----------------------------------------------------------------------------------------------


def section(folder: Path, text: str) -> Cache:
    (folder / "recon.yaml").write_text(s.STANDARD_YAML + f"cache: {text}\n")
    place, whole = load_place(folder / "recon.yaml"), load_config(folder / "recon.yaml")
    assert place.cache == whole.cache
    return place.cache


def test_a_cache_is_configured_and_is_no_part_of_the_rules(tmp_path: Path) -> None:
    assert section(tmp_path, "{}") == Cache()
    without = load_config(tmp_path / "recon.yaml").rules_version
    found = section(
        tmp_path, "{kind: redis, url: 'rediss://c.example:6379/0', ttl: 2h, secret: PW, certificates: ca.pem, record_max: 4KiB}"
    )
    assert found.ttl == timedelta(hours=2)
    assert (found.record_max, found.certificates, found.address) == (4096, str(tmp_path / "ca.pem"), "c.example:6379")
    assert load_config(tmp_path / "recon.yaml").rules_version == without


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{kind: redis}", "cache.url: is missing; write rediss://host:6379/0"),
        ("{url: 'redis://h'}", "cache.url: is not used while cache.kind is none"),
        ("{kind: redis, url: 'rediss://me:hunter2@h:1/0'}", "cache.url: user, password and options do not belong here"),
        ("{kind: redis, url: 'redis://h?password=hunter2'}", "cache.url: user, password and options do not belong here"),
        ("{kind: redis, url: 'http://h'}", "cache.url: 'http://h' is no address of a Redis"),
        ("{kind: redis, url: 'redis://h', secret: 'hunter2!'}", "cache.secret: write the name of an environment variable"),
        ("{kind: redis, url: 'redis://h', ttl: soon}", "cache.ttl: 'soon' is not a duration"),
        ("{kind: redis, url: 'redis://h', namespace: 'a b'}", "cache.namespace"),
        ("{kind: redis, url: 'redis://h', password: hunter2}", "cache.password: not known here; "),
    ],
)
def test_a_mistake_is_told_with_its_line_and_never_tells_a_password(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(WrongUsage) as error:
        section(tmp_path, text)
    assert told in str(error.value)
    assert "recon.yaml:27: " in str(error.value)
    assert "hunter2" not in str(error.value)


def test_verify_proves_what_lies_in_the_store_whatever_the_cache_still_has(redis: Valkey, tmp_path: Path) -> None:
    r = open_in(tmp_path)
    ((_, content),) = history(range(1))
    (tmp_path / "0.csv").write_bytes(content)
    r.land([tmp_path / "0.csv"], "2026-11-01T00:00Z", close=True, again=True)
    r.run()
    r._store = store = cached(r.store(), redis.url)
    live = list(r.artifacts()["key"].to_pylist())  # now the cache has all of them
    assert redis.client().dbsize() == len(live) == 6
    flip_records(r)
    assert find_record(store, r.state(), live[0]) is not None
    assert not r.verify().ok


# ---- the whole pipeline ----------------------------------------------------------------------------------------------


def history(numbers: range) -> list[tuple[int, bytes]]:
    """Windows of invoices and payments of 12 orders, in which every order comes back."""
    rows = lambda number: [  # noqa: E731
        s.Row(
            f"O{order}", f"{number}-{order}", "PAYMENT" if number % 2 else "INVOICE", f"{order}.50", "EUR", f"2026-11-01T{number:02}:10:00Z"
        )
        for order in range(number % 3, 12, 2)
    ]
    return [(number, s.to_csv(rows(number)).encode()) for number in numbers]


@pytest.mark.parametrize("trouble", ["none", "hangs", "gone"])
def test_a_run_gives_the_same_artifacts_with_a_cache_without_and_with_one_that_fails_in_the_middle(tmp_path: Path, trouble: str) -> None:
    outcomes = []
    with valkey(tmp_path) as server:
        for name in ("without", "with"):
            (tmp_path / name).mkdir()
            r = open_in(tmp_path / name)
            tally = Tally()
            if name == "with":
                store = cached(r.store(), server.url, tally, timeout_ms=100)
                r._store = store
            for number, content in history(range(6)):
                file = tmp_path / f"{number}.csv"
                file.write_bytes(content)
                r.land([file], f"2026-11-01T{number:02}:00Z", close=True, again=True)
                assert not r.run().bad
                for order in (1, 2, 3):
                    find_record(r.store(), r.state(), f"O{order}")
                if name == "with" and number == 3 and trouble == "gone":
                    server.kill()
                if name == "with" and number == 3 and trouble == "hangs":
                    holding = server.hanging()
                    holding.__enter__()
            if name == "with" and trouble == "hangs":
                holding.__exit__(None, None, None)
            outcomes.append(records(r))
            assert r.verify(full=True).ok
    assert outcomes[0] == outcomes[1]
    assert len(outcomes[0]) == 12
    found = counted(tally)
    assert found["hit"] > 0
    assert ("error" in found) == (trouble != "none")
