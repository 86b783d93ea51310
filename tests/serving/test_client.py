"""The client for other programs, and a reconciliation that is held open for look-ups: what they answer, and what they ask for it."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
import seaweed
import strategies as s
from dynamodb_local import dynamodb_local, environment
from histories import carry_out, open_in, records

from recon.api import Reconciliation
from recon.metering.usage import Tally, requests_of
from recon.operations.copy.copy import copy
from recon.operations.upkeep import sweep_store
from recon.serving import builds
from recon.serving.client import Artifacts, FoundRecord, Unserved
from recon.serving.dynamodb import TableClient, open_client
from recon.serving.items import Pointer, from_item, item_key, to_item
from recon.serving.sync import sync
from recon.state.compaction import compact
from recon.state.lookup import find_record
from recon.state.timeline import Timeline
from recon.storage import layout
from recon.storage.local import LocalStore
from recon.storage.open import open_store
from resources.index_table import IndexTable

LONG = "long-" + "k" * 3000
ODD = 'k,"é"/ö\t√ ~ 💶'
MARKED = item_key("") + "x"
YAML = s.STANDARD_YAML + "compaction: {disk: 1.1}\nretention: {grace: 1m}\n"
KEYS = ("K1", "K2", "K3", LONG, ODD, MARKED, "gone")


@dataclass(frozen=True)
class DynamoDB:
    """One client for all tests: making one takes longer than what they ask of it."""

    client: Any
    tables: TableClient


@pytest.fixture(scope="module", autouse=True)
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DynamoDB]:
    with dynamodb_local(tmp_path_factory.mktemp("dynamodb")) as endpoint, environment(endpoint), pytest.MonkeyPatch.context() as patch:
        patch.setattr("recon.stages.index.sync", lambda *a: None)  # each test says when the table is kept
        yield DynamoDB(boto3.client("dynamodb"), open_client(requests_at_once=4))


@pytest.fixture
def dynamodb(local: DynamoDB) -> Any:
    return local.client


def rows(window: int, keys: tuple[str, ...] = KEYS) -> tuple[s.Row, ...]:
    return tuple(s.Row(order_id=key, event_id=f"{window}-{n}", amount=f"{n}.{window:02}") for n, key in enumerate(keys))


def add(r: Reconciliation, window: int, keys: tuple[str, ...] = KEYS) -> None:
    for operation in (s.Land(window, s.File(f"w{window}", rows(window, keys), "jsonl")), s.Close(window), s.Run((window,))):
        carry_out(r, operation)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, local: DynamoDB) -> Path:
    """Two windows of all keys, of which "gone" has lost its only event. No table yet."""
    folder = tmp_path_factory.mktemp("base")
    r = open_in(folder, YAML)
    add(r, 0)
    add(r, 1, KEYS[:-1])
    carry_out(r, s.Replace(0, "w0.jsonl", s.File("again", rows(0, KEYS[:-1]), "jsonl")))
    carry_out(r, s.Run((0,)))
    return folder / "data"


@dataclass
class Served:
    """A store with its table. ``location``: as the client takes it."""

    r: Reconciliation
    location: str
    tables: TableClient

    def keep_up(self, r: Reconciliation | None = None) -> None:
        r = r or self.r
        sync(r.store(), r.config, Timeline(r.store()), self.tables)

    @property
    def table(self) -> str:
        filling = builds.current(self.r.store(), self.r.state())
        assert filling is not None
        return filling.table

    def pointer(self, key: str) -> Pointer:
        found = self.tables.get(self.table, key)
        assert found is not None
        return found


def serving(base: Path, folder: Path, location: str, tables: TableClient) -> Served:
    copy(LocalStore(base), open_store(location, folder), location)
    text = YAML.replace("store: ./data", f"store: {location}")
    made = Served(open_in(folder, text + f"index: {{kind: dynamodb, table: recon-{secrets.token_hex(8)}}}\n"), location, tables)
    made.keep_up()
    return made


@pytest.fixture
def in_bucket(base: Path, tmp_path: Path, local: DynamoDB, in_s3: str) -> Served:
    return serving(base, tmp_path, in_s3, local.tables)


@pytest.fixture
def in_folder(base: Path, tmp_path: Path, local: DynamoDB) -> Served:
    return serving(base, tmp_path, str(tmp_path / "store"), local.tables)


@pytest.fixture(params=["in_bucket", "in_folder"])
def served(request: pytest.FixtureRequest) -> Served:
    made: Served = request.getfixturevalue(request.param)
    return made


def expected(served: Served) -> dict[str, Any]:
    """What the runs say, of keys that have anything left."""
    r = served.r
    found = {key: find_record(r.store(), r.state(), key) for key in records(r)}
    return {key: record for key, record in found.items() if record is not None and record["contributions"]}


# ---- what it answers -------------------------------------------------------------------------------------------------


def test_every_key_gets_its_record_however_long_or_odd_it_is(served: Served) -> None:
    client, held = Artifacts(served.location), expected(served)
    assert set(held) == set(KEYS) - {"gone"}
    for key, record in held.items():
        found = client.get(key)
        assert found == FoundRecord(record, served.pointer(key).sequence // 10**12), key
    assert [client.get(key) for key in ("gone", "nobody", "", "K", LONG + "k", "a/../b")] == [None] * 6


def test_the_resource_of_dagster_gives_the_same(served: Served) -> None:
    table = IndexTable(store=served.location)
    assert table.get("K1") == Artifacts(served.location).get("K1") is not None
    assert table.get("nobody") is None


def test_a_location_may_end_with_a_slash_and_a_prefix_is_not_another_stores(served: Served, dynamodb: Any) -> None:
    assert Artifacts(served.location + "/", dynamodb).get("K1") == Artifacts(served.location).get("K1")
    with pytest.raises(Unserved, match="no table is full yet; next: recon index update"):
        Artifacts(served.location[:-1], dynamodb).get("K1")


def test_an_answer_follows_the_table_and_a_key_that_comes_back_is_there_again(served: Served) -> None:
    client = Artifacts(served.location)
    assert client.get("gone") is None
    add(served.r, 2, ("K1", "gone"))
    served.keep_up()
    for key in ("K1", "gone"):
        assert client.get(key) == FoundRecord(expected(served)[key], served.r.state().commit)


# ---- what it asks for ------------------------------------------------------------------------------------------------


def counting(client: Any, service: str, asked: list[str]) -> Any:
    """A boto3 client that notes each request that it sends, ranged ones as such."""

    def note(model: Any, params: Any, **other: Any) -> None:
        asked.append(model.name + (" of a range" if "Range" in params["headers"] else ""))

    client.meta.events.register(f"before-call.{service}", note)
    return client


def test_after_the_first_look_up_one_costs_one_item_and_one_range(in_bucket: Served, seaweed_server: seaweed.Seaweed) -> None:
    asked: list[str] = []
    s3 = counting(seaweed_server.client(), "s3", asked)
    client = Artifacts(in_bucket.location, counting(boto3.client("dynamodb"), "dynamodb", asked), s3)
    for key in ("K1", "K2", LONG, ODD):
        asked.clear()
        assert client.get(key)
        if key != "K1":
            assert asked == ["GetItem", "GetObject of a range"]
        else:
            assert sorted(asked) == ["GetItem", "GetObject", "GetObject", *["GetObject of a range"] * 2, "ListObjectsV2"]
    for key in ("nobody", "gone"):
        asked.clear()
        assert client.get(key) is None
        assert asked == ["GetItem"]


def test_forms_of_as_many_part_files_are_remembered_as_there_is_room_for(in_folder: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recon.serving.client.FORMS_MAX", 1)
    add(in_folder.r, 2, ("K1",))
    in_folder.keep_up()
    client, held = Artifacts(in_folder.location), expected(in_folder)
    for _ in range(2):
        for key in ("K1", "K2"):
            found = client.get(key)
            assert found is not None
            assert found.record == held[key]
            assert list(client._forms) == [in_folder.pointer(key).file]


def test_a_head_that_is_longer_than_the_first_range_is_read_in_full(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recon.serving.client._HEAD_BYTES", 24)
    found = Artifacts(served.location).get("K3")
    assert found is not None
    assert found.record == expected(served)["K3"]


def test_it_needs_boto3_and_nothing_else(served: Served) -> None:
    program = f"""
import sys

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {{"numpy", "pyarrow", "duckdb", "pydantic", "obstore", "yaml", "typer", "rich", "dagster", "redis"}}:
            raise ImportError(f"{{name}} is not there")

sys.meta_path.insert(0, Refusing())
from recon.serving.client import Artifacts
assert "boto3" not in sys.modules
print(Artifacts({served.location!r}).get("K3").record["key"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "K3\n", "")


# ---- what is wrong ---------------------------------------------------------------------------------------------------

PLANTED: dict[str, tuple[Callable[[Pointer], Pointer], str]] = {
    "another offset": (lambda p: replace(p, offset=p.offset + 1), "is not what was written"),
    "another length": (lambda p: replace(p, length=p.length - 1), "is not what was written"),
    "behind the end": (lambda p: replace(p, offset=1 << 40), "is not what was written"),
    "another check": (lambda p: replace(p, check=p.check ^ 1), "is not what was written"),
    "a part-file that is gone": (lambda p: replace(p, file="state/0123456789abcdef/part-0000.words"), "part-0000.words is gone"),
    "JSON lines": (lambda p: replace(p, file="state/0123456789abcdef/part-0000.jsonl"), "an earlier version of Recon; run 'recon rebuild'"),
    "outside of the records": (lambda p: replace(p, file="store.json"), "points to no record"),
    "out of the store": (lambda p: replace(p, file="state/../../recon.yaml"), "points to no record"),
    "no length": (lambda p: replace(p, length=0), "points to no record"),
    "a length that is none": (lambda p: replace(p, length=1 << 50), "points to no record"),
    "before the beginning": (lambda p: replace(p, offset=-1), "points to no record"),
}


def test_an_item_that_is_wrong_is_never_answered_with(served: Served, dynamodb: Any) -> None:
    right, client, held = served.pointer("K3"), Artifacts(served.location, dynamodb), expected(served)
    for what, (change, why) in PLANTED.items():
        dynamodb.put_item(TableName=served.table, Item=to_item(change(right)))
        with pytest.raises(Unserved, match=why):
            pytest.fail(f"{what}: {client.get('K3')}")
        found = client.get("K2")
        assert found is not None
        assert found.record == held["K2"]


def test_an_item_of_another_key_or_of_nobody_is_never_answered_with(served: Served, dynamodb: Any) -> None:
    other, client = served.pointer("K2"), Artifacts(served.location)
    dynamodb.put_item(TableName=served.table, Item=to_item(replace(other, key="K3")))
    with pytest.raises(Unserved, match="points to the record of another key"):
        client.get("K3")
    dynamodb.put_item(TableName=served.table, Item={"key": {"S": "K3"}, "seq": {"N": "1"}, "file": {"S": "x"}})
    with pytest.raises(Unserved, match="the item was not written by Recon"):
        client.get("K3")
    part = served.r.store().get_range(other.file, other.offset, other.length - 5)
    planted = replace(other, key="K3", length=other.length - 5, check=zlib.crc32(part))
    dynamodb.put_item(TableName=served.table, Item=to_item(planted))
    with pytest.raises(Unserved, match="is not a record"):
        client.get("K3")


def removed(dynamodb: Any, table: str) -> None:
    """The table, which Recon has protected from deletion."""
    dynamodb.update_table(TableName=table, DeletionProtectionEnabled=False)
    dynamodb.delete_table(TableName=table)


def test_a_record_that_is_damaged_is_never_answered(served: Served) -> None:
    pointer, store = served.pointer("K3"), served.r.store()
    body = bytearray(store.get(pointer.file))
    body[pointer.offset + pointer.length // 2] ^= 1
    store.delete(pointer.file)
    store.put_new(pointer.file, [bytes(body)])
    with pytest.raises(Unserved, match=f"{pointer.file} at {pointer.offset} is not what was written"):
        Artifacts(served.location).get("K3")


@pytest.mark.parametrize("change", [lambda head: b"x" + head[1:], lambda head: head[:100] + b"!" + head[101:]])
def test_nothing_is_answered_by_a_head_that_is_damaged(served: Served, change: Callable[[bytes], bytes]) -> None:
    pointer, store = served.pointer("K3"), served.r.store()
    body = store.get(pointer.file)
    store.delete(pointer.file)
    store.put_new(pointer.file, [change(body)])
    with pytest.raises(Unserved, match=f"{pointer.file}: its head is not what was written"):
        Artifacts(served.location).get("K3")


def test_notes_of_tables_that_are_damaged_or_gone_are_told(served: Served) -> None:
    filling, store = builds.current(served.r.store(), served.r.state()), served.r.store()
    assert filling is not None
    outcome, begun = layout.serving_table_outcome(filling.number), layout.serving_table_begun(filling.number)
    kept = store.get(outcome)
    store.delete(outcome)
    for body, why in ((None, "no table is full yet"), (b"{", "it is not what was written"), (b"[]", "it is not what was written")):
        if body is not None:
            store.put_new(outcome, [body])
        with pytest.raises(Unserved, match=why):
            Artifacts(served.location).get("K1")
        store.delete(outcome)
    store.put_new(outcome, [kept])

    client = Artifacts(served.location)
    read = client._store.read

    def removed_since(path: str) -> bytes | None:
        return None if path == begun else read(path)

    client._store.read = removed_since  # type: ignore[method-assign]
    with pytest.raises(Unserved, match="no table is full yet"):
        client.get("K1")


# ---- what changes meanwhile ------------------------------------------------------------------------------------------


class Between:
    """A DynamoDB client that lets something happen after its first look-up, before the record is read."""

    def __init__(self, client: Any, what: Callable[[], None], times: int = 1) -> None:
        self._client, self._what, self._left = client, what, times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def get_item(self, **asked: Any) -> Any:
        answer = self._client.get_item(**asked)
        if self._left:
            self._left -= 1
            self._what()
        return answer


def swept(served: Served) -> None:
    """All part-files are rewritten, the table follows, and what it led to is gone."""
    r = served.r
    add(r, len(r.state().windows), tuple(key for key in KEYS if key != "K3"))  # so that little of what lies beside K3 is live
    before = set(r.store().list(layout.STATE))
    compact(r.store(), r.config, Timeline(r.store()), always=True)
    served.keep_up()
    for hours in (1, 2, 3):
        sweep_store(r.store(), r.config, Timeline(r.store()), datetime.now(UTC) + timedelta(hours=hours))
    assert before - set(r.store().list(layout.STATE))


def test_a_part_file_that_is_swept_between_item_and_record_is_looked_up_again(served: Served, dynamodb: Any) -> None:
    held = expected(served)
    before = served.pointer("K3").file
    client = Artifacts(served.location, Between(dynamodb, lambda: swept(served)))
    found = client.get("K3")
    assert served.pointer("K3").file != before
    assert found is not None
    assert found.record == held["K3"]


def test_a_table_that_leads_to_what_is_gone_and_stays_so_is_told(served: Served) -> None:
    served.r.store().delete(served.pointer("K3").file)
    with pytest.raises(Unserved, match=r"part-0000.*\.words is gone; try again a little later, or ask 'recon show'"):
        Artifacts(served.location).get("K3")


def test_the_client_goes_over_to_a_table_that_was_filled_anew_once_the_old_one_is_gone(served: Served, dynamodb: Any) -> None:
    client, old = Artifacts(served.location), served.table
    first = client.get("K3")
    served.r.rebuild_index()
    assert served.table != old
    assert client.get("K3") == first, "the old one still answers"
    removed(dynamodb, old)
    again = client.get("K3")
    assert again is not None
    assert first is not None
    assert again.record == first.record
    asked: list[str] = []
    client._dynamodb = counting(boto3.client("dynamodb"), "dynamodb", asked)
    assert client.get("K3") == again
    assert asked == ["GetItem"], "and stays with it"


def test_the_client_goes_over_to_a_newer_table_where_the_old_one_leads_to_what_was_swept(served: Served) -> None:
    """Nothing keeps what a table leads to that another took the place of, though it is still there."""
    client, old = Artifacts(served.location), served.table
    first = client.get("K3")
    served.r.rebuild_index()
    swept(served)
    assert served.table != old
    again = client.get("K3")
    assert first is not None
    assert again is not None
    assert again.record == first.record


def test_a_table_whose_generation_has_passed_does_not_answer_a_client_that_asks_which_one_stands(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = Artifacts(served.location)
    before = early.get("K3")
    path = served.r.place.path
    path.write_text(path.read_text().replace("coalesce(billed, 0) - coalesce", "coalesce(billed, 0) - 2 * coalesce"))
    again = Reconciliation(path)
    again.rebuild()
    with pytest.raises(Unserved, match="no table is full yet"):
        Artifacts(served.location).get("K3")
    assert early.get("K3") == before, "for as long as it keeps to a table"
    monkeypatch.setattr("recon.serving.client.RESOLVED_S", 0.0)
    early._until = 0.0
    with pytest.raises(Unserved, match="no table is full yet"):
        early.get("K3")
    served.keep_up(again)
    found = early.get("K3")
    assert found is not None
    assert found.record == find_record(again.store(), again.state(), "K3")


# ---- a reconciliation that is held open ------------------------------------------------------------------------------


def asked_for(tally: Tally, work: Callable[[], Any]) -> dict[str, int]:
    before = tally.so_far()
    work()
    units = {"half_read_unit", "write_unit"}
    return {what: number for (_, what), number in requests_of(tally.so_far() - before).items() if what not in units}


def show(r: Reconciliation, key: str) -> dict[str, Any]:
    """By the table, which has to answer as the runs do."""
    shown = r.show(key, index="dynamodb")
    assert shown.pop("served_by") == "dynamodb", shown.pop("served_why")
    assert shown == Reconciliation(r.place.path).show(key)
    return shown


def test_further_look_ups_of_a_reconciliation_held_open_ask_for_the_head_the_item_and_the_record(in_bucket: Served) -> None:
    r = Reconciliation(in_bucket.r.place.path)
    tally = r.store().meter  # type: ignore[attr-defined]
    r.show("K1", index="dynamodb")
    for key in ("K2", LONG, ODD):
        assert asked_for(tally, lambda key=key: r.show(key, index="dynamodb")) == {"GetObject": 2, "GetItem": 1}  # type: ignore[misc]
    for key in ("K1", "K2", ODD):
        show(r, key)


def test_held_open_it_never_answers_what_was_before_the_newest_commit(served: Served, dynamodb: Any) -> None:
    r = Reconciliation(served.r.place.path)
    first = show(r, "K1")
    for operation in (s.Land(2, s.File("w2", rows(2, ("K1",)))), s.Close(2), s.Run((2,))):
        carry_out(served.r, operation)
    shown = r.show("K1", index="dynamodb")
    assert shown.pop("served_by") == "runs"
    assert shown.pop("served_why").startswith("the table is behind")
    assert shown == Reconciliation(r.place.path).show("K1") != first
    assert show(r, "K2")["commit"] == r.state().commit, "of a key that did not change since the table knows all"
    served.keep_up()
    assert show(r, "K1")["commit"] == r.state().commit
    swept(served)
    show(r, "K1")
    served.keep_up()
    show(r, "K1")
    old = r._known.table
    served.r.rebuild_index()
    show(r, "K1")
    assert served.table != old
    removed(dynamodb, old)
    show(r, "K1")
    assert r._known.table == served.table
    removed(dynamodb, served.table)
    assert r.show("K1", index="dynamodb")["served_by"] == "runs"
    served.keep_up()
    show(r, "K1")


def test_items_are_what_the_client_reads_of_them() -> None:
    pointer = Pointer(LONG, 7 * 10**12, "state/0123456789abcdef/part-0000.words", 5, 6, 7)
    assert from_item(LONG, json.loads(json.dumps(to_item(pointer)))) == pointer
