"""Loading the index table: whatever is loaded in whatever order, whatever DynamoDB answers, the table says what the runs say."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import index_tables
import pytest
import strategies as s
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError
from histories import carry_out, fresh, slow
from hypothesis import given
from hypothesis import strategies as st

from recon.errors import ConnectionLost, Throttled, TimedOut, TryAgain, WrongUsage
from recon.serving.dynamodb import TableClient, WriteCounts
from recon.serving.items import Pointer, item_key, sequence
from recon.serving.load import Loaded, load_share
from recon.serving.shares import Share, shares_of
from recon.state.compaction import compact
from recon.state.timeline import Timeline

pytestmark = pytest.mark.usefixtures("runs_leave_the_table")
SLOW = slow(3)


@SLOW
@given(s.histories(max_operations=10), st.data())
def test_shares_in_any_order_and_number_of_times_leave_the_table_as_the_runs_say(
    tables: TableClient, history: s.History, data: st.DataObject
) -> None:
    with fresh(index_tables.YAML) as r:
        for operation in history.operations:
            carry_out(r, operation)
            if data.draw(st.integers(0, 3)) == 0:
                compact(r.store(), r.config, Timeline(r.store()), always=True)
        timeline, table = Timeline(r.store()), index_tables.new_table(tables)
        state, at_most = timeline.head(), data.draw(st.sampled_from([1, 3, 1000]))
        middle = data.draw(st.integers(0, state.commit))
        shares = [*shares_of(r.store(), timeline, table, 0, middle, at_most), *shares_of(r.store(), timeline, table, middle, state.commit)]
        again = data.draw(st.lists(st.sampled_from(shares), max_size=4)) if shares else []
        for share in data.draw(st.permutations([*shares, *again])):
            load_share(r.store(), tables, Share.from_json(share.to_json()))
        assert index_tables.in_table(tables, table) == index_tables.by_name(index_tables.in_runs(r, state))
        tables.delete(table)


def test_what_is_already_there_is_refused_and_billed(tables: TableClient) -> None:
    table = index_tables.new_table(tables)
    pointer = Pointer("A", sequence(3), "state/a/part-0000.words", 0, 10, 1)
    assert tables.update(table, [pointer]) == WriteCounts(1, 0, 1.0)
    assert tables.update(table, [pointer]) == WriteCounts(0, 1, 1.0)


def test_a_key_whose_events_were_all_taken_back_becomes_a_tombstone_and_comes_back_with_new_ones(
    tables: TableClient, tmp_path: Path
) -> None:
    r = index_tables.brought_up(tmp_path, tables, range(2))
    for operation in (s.Replace(0, "w0.csv", s.File("w0-corrected", index_tables.rows_of(0, 1))), s.Run((0,))):
        carry_out(r, operation)
    assert index_tables.kept(r, tables).tombstones == 3
    dead = [key for key, place in index_tables.in_table(tables, index_tables.check_table(r, tables)).items() if not place]
    assert sorted(dead) == ["K7", "K8", "K9"]
    assert not r.verify().problems
    assert r.show("K8", index="dynamodb")["served_why"] == "the table has a tombstone of this key"
    index_tables.add_window(r, 2, index_tables.rows_of(0))
    assert index_tables.kept(r, tables).tombstones == 0
    assert all(index_tables.in_table(tables, index_tables.check_table(r, tables)).values())


ODD = [
    "",
    " ",
    "K 1",
    "Ä€😀",
    "'\"\\,;",
    "~recon:owner",
    "~recon:sha256:x",
    "~",
    "x" * 2048,
    "x" * 2049,
    "Ä" * 1025,
    "Ä" * 5000,
    "=1+1",
    "a\tb",
]


def test_any_key_can_be_looked_up_however_long_or_odd_it_is(tables: TableClient, tmp_path: Path) -> None:
    r = index_tables.indexed(tmp_path)
    index_tables.add_window(r, 0, tuple(s.Row(order_id=key, event_id=str(n), amount="1.00") for n, key in enumerate(ODD)))
    assert index_tables.kept(r, tables).table == index_tables.check_table(r, tables)
    keys = list(index_tables.in_runs(r, r.state()))
    assert len(keys) >= len(ODD) - 2, "an empty or blank key may be rejected"
    for key in keys:
        shown = r.show(key, index="dynamodb")
        assert shown.pop("served_by") == "dynamodb"
        assert shown == r.show(key)
    assert not r.verify().problems
    assert r.verify().items == len(keys)


@given(st.text(max_size=30) | st.text(max_size=3).map(lambda t: "~recon:" + t) | st.text(min_size=600, max_size=700))
def test_no_two_keys_have_one_item_and_every_item_has_a_name_that_dynamodb_takes(key: str) -> None:
    key = key.encode("utf-8", "ignore").decode()
    name = item_key(key)
    assert 1 <= len(name.encode()) <= 2048
    assert (name == key) == (not key.startswith("~recon:") and 1 <= len(key.encode()) <= 2048)
    assert name != "~recon:owner"
    assert item_key(name) == name or name.startswith("~recon:")


def test_a_worker_that_comes_back_late_with_an_old_share_moves_nothing(tables: TableClient, tmp_path: Path) -> None:
    r = index_tables.brought_up(tmp_path, tables, range(1))
    index_tables.add_window(r, 1)
    timeline, table = Timeline(r.store()), index_tables.the_table(r).table
    (old,) = shares_of(r.store(), timeline, table, r.state().commit - 1, r.state().commit)
    index_tables.add_window(r, 2)
    compact(r.store(), r.config, Timeline(r.store()), always=True)
    index_tables.kept(r, tables)
    before = index_tables.in_table(tables, index_tables.check_table(r, tables))
    late = load_share(r.store(), tables, old)
    assert (late.items, late.refused) == (0, late.entries)
    assert index_tables.in_table(tables, table) == before
    assert not r.verify().problems


def test_shares_that_others_carry_out_in_any_order_fill_a_table_as_well(tables: TableClient, tmp_path: Path) -> None:
    r = index_tables.indexed(tmp_path)
    index_tables.story(r)
    carried: list[str] = []

    def carry(given: Iterable[Share]) -> Iterator[Loaded]:
        shares = [Share.from_json(json.loads(json.dumps(replace(share, fresh=False).to_json()))) for share in given]
        carried.extend(share.share for share in shares)
        for share in reversed(shares):
            yield Loaded(**load_share(r.store(), tables, share).to_json())

    assert index_tables.kept(r, tables, load=carry).filled
    index_tables.add_window(r, 4)
    assert index_tables.kept(r, tables, load=carry).items == 7
    index_tables.check_table(r, tables)
    assert len(set(carried)) == len(carried) > 1


def test_a_worker_can_say_between_any_two_updates_that_it_lives_and_stops_where_it_is_told_to(tables: TableClient, tmp_path: Path) -> None:
    r = index_tables.brought_up(tmp_path, tables, range(1))
    index_tables.add_window(r, 1, index_tables.rows_of(1, 100))
    timeline, table = Timeline(r.store()), index_tables.the_table(r).table
    (share,) = shares_of(r.store(), timeline, table, 1, 2)
    beats: list[int] = []

    def beat() -> None:
        beats.append(1)
        if len(beats) == 3:
            raise TryAgain("given away")

    with pytest.raises(TryAgain, match="given away"):
        load_share(r.store(), tables, share, beat)
    assert len(index_tables.in_table(tables, table)) < 100
    assert load_share(r.store(), tables, share, beat).entries == 100
    assert len(beats) >= 3 + 100


class Moody:
    """A client that answers some calls as DynamoDB does when it is busy, away, or has lost a reply; ``moods``: of the calls to come."""

    def __init__(self, client: Any, moods: Iterator[str]) -> None:
        self._client, self._moods, self._lock = client, moods, threading.Lock()
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        def call(**arguments: Any) -> Any:
            with self._lock:
                mood = next(self._moods, "fine")
                self.calls += 1
            if mood == "unprocessed" and name == "batch_write_item":
                ((table, requests),) = arguments["RequestItems"].items()
                taken, left = requests[: len(requests) // 2], requests[len(requests) // 2 :]
                if taken:
                    self._client.batch_write_item(RequestItems={table: taken})
                return {"UnprocessedItems": {table: left}}
            if mood in [*CODES, *REFUSALS]:
                raise ClientError({"Error": {"Code": mood, "Message": "no"}}, name)
            if mood in ("cut", "silence"):
                raise LOST[mood](endpoint_url="http://127.0.0.1")
            answer = getattr(self._client, name)(**arguments)
            if mood == "lost reply":
                raise LOST["cut"](endpoint_url="http://127.0.0.1")
            return answer

        return call


CODES = ["ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded", "InternalServerError"]

LOST: dict[str, Any] = {"cut": ConnectionClosedError, "silence": ReadTimeoutError}

REFUSALS = ["ExpiredTokenException", "AccessDeniedException", "UnrecognizedClientException"]


@SLOW
@given(st.lists(st.sampled_from([*CODES, *LOST, "unprocessed", "lost reply", "fine"]), max_size=60))
def test_throttling_unprocessed_items_and_lost_replies_lose_nothing(tables: TableClient, moods: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch, fresh(index_tables.INDEXED % f"recon-own-{next(index_tables.NAMES)}") as r:
        patch.setattr("recon.stages.index.sync", lambda *a: None)
        patch.setattr("recon.serving.dynamodb._WAIT_S", 0.0001)
        moody = TableClient(Moody(tables._client, iter(moods)), requests_at_once=2, tries=70, late_s=0.01)
        index_tables.story(r, range(2))
        index_tables.kept(r, moody)
        index_tables.add_window(r, 2)
        index_tables.kept(r, moody)
        tables.delete(index_tables.check_table(r, tables))


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("ProvisionedThroughputExceededException", Throttled),
        ("ThrottlingException", Throttled),
        ("RequestLimitExceeded", Throttled),
        ("InternalServerError", ConnectionLost),
        ("cut", ConnectionLost),
        ("silence", TimedOut),
        ("ExpiredTokenException", TryAgain),
        ("AccessDeniedException", WrongUsage),
        ("UnrecognizedClientException", WrongUsage),
    ],
)
def test_what_does_not_pass_in_time_is_told_by_its_kind_and_what_was_loaded_stands(
    tables: TableClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, kind: type[Exception]
) -> None:
    monkeypatch.setattr("recon.serving.dynamodb._WAIT_S", 0.0001)
    r = index_tables.brought_up(tmp_path, tables, range(1))
    index_tables.add_window(r, 1)
    moody = Moody(tables._client, chain(["fine"] * 4, repeat(code)))
    with pytest.raises(kind) as told:
        index_tables.kept(r, TableClient(moody, requests_at_once=1, tries=3))
    assert type(told.value) is kind
    assert "K0" not in str(told.value)
    assert "\n" not in str(told.value)
    assert not r.verify().problems
    index_tables.kept(r, tables)
    index_tables.check_table(r, tables)


def test_a_batch_of_which_nothing_is_ever_processed_ends_as_throttled(tables: TableClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recon.serving.dynamodb._WAIT_S", 0.0001)
    table = index_tables.new_table(tables)

    class Stuck:
        def batch_write_item(self, **arguments: Any) -> Any:
            return {"UnprocessedItems": arguments["RequestItems"]}

    with pytest.raises(Throttled, match="unprocessed"):
        TableClient(Stuck(), tries=3).fill(table, [Pointer("A", 1, "state/a/part-0000.words", 0, 1, 1)])


def test_after_a_lost_reply_of_a_filling_the_switch_waits_until_it_cannot_come_any_more(tables: TableClient) -> None:
    table = index_tables.new_table(tables)
    client = TableClient(Moody(tables._client, iter(["lost reply"])), late_s=0.2)
    client.settle()
    client.fill(table, [Pointer("A", 1, "state/a/part-0000.words", 0, 1, 1)])
    start = time.monotonic()
    client.settle()
    assert time.monotonic() - start > 0.05
