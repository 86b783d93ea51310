"""The index table: whatever is loaded in whatever order, it says what the runs say, and never goes backwards."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import chain, count, repeat
from pathlib import Path
from typing import Any

import faulty_store
import pytest
import strategies as s
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError
from cli_calls import Call
from dynamodb_local import dynamodb_local, environment
from histories import carry_out, fresh, open_in, slow
from hypothesis import given
from hypothesis import strategies as st
from loopback import free_port

from recon.api import Reconciliation
from recon.errors import ConnectionLost, Throttled, TimedOut, TryAgain, WrongUsage
from recon.metering.usage import Tally
from recon.model.windows import name_of
from recon.operations.upkeep import sweep
from recon.serving import builds
from recon.serving.dynamodb import TableClient, TableGone, WriteCounts, open_client
from recon.serving.items import Pointer, from_item, item_key, sequence, to_item
from recon.serving.load import Loaded, load_share, read_key
from recon.serving.shares import Share, shares_of
from recon.serving.sync import Synced, sync
from recon.state.compaction import compact
from recon.state.runs import open_run
from recon.state.tiers import merge_tiers
from recon.state.timeline import State, Timeline
from recon.storage import lease
from recon.storage.hashing import hash_of, salt_of

YAML = s.STANDARD_YAML + "compaction: {disk: 1.1}\nretention: {grace: 1m}\n"
SLOW = slow(5)
_names = count(1)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TableClient]:
    """A client of a server of this module's own."""
    with dynamodb_local(tmp_path_factory.mktemp("dynamodb")) as endpoint, environment(endpoint):
        yield open_client(requests_at_once=4)


def new_table(tables: TableClient) -> str:
    name = f"recon-test-{next(_names)}"
    tables.create(name)
    return name


def in_runs(r: Reconciliation, state: State) -> dict[str, tuple[Any, ...]]:
    """Key → where its record lies by the runs, () where nothing is left in it; looked up one by one."""
    found: dict[str, tuple[Any, ...]] = {}
    for ref in state.runs:
        run = open_run(r.store(), ref.path)
        for hi, lo in zip(run.column("hi", 0, run.count).tolist(), run.column("lo", 0, run.count).tolist(), strict=True):
            newest = next(hits for other in state.runs if (hits := open_run(r.store(), other.path).find(hi, lo)))
            for hit in newest:
                key, lives = read_key(r.store().get_range(hit.part_file, hit.offset, hit.length).decode())
                assert key is not None
                assert hash_of(key, salt_of(r.store())) == (hi, lo)
                found[key] = (hit.part_file, hit.offset, hit.length, hit.check) if lives else ()
    return found


def in_table(tables: TableClient, table: str) -> dict[str, tuple[Any, ...]]:
    found = {}
    for page in tables.scan(table):
        for item in page:
            pointer = from_item(item["key"]["S"], item)
            found[pointer.key] = () if pointer.is_tombstone else (pointer.file, pointer.offset, pointer.length, pointer.check)
    return found


def by_name(held: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    return {item_key(key): place for key, place in held.items()}


@SLOW
@given(s.histories(max_operations=10), st.data())
def test_shares_in_any_order_and_number_of_times_leave_the_table_as_the_runs_say(
    tables: TableClient, history: s.History, data: st.DataObject
) -> None:
    with fresh(YAML) as r:
        for operation in history.operations:
            carry_out(r, operation)
            if data.draw(st.integers(0, 3)) == 0:
                compact(r.store(), r.config, Timeline(r.store()), always=True)
        timeline, table = Timeline(r.store()), new_table(tables)
        state, at_most = timeline.head(), data.draw(st.sampled_from([1, 3, 1000]))
        middle = data.draw(st.integers(0, state.commit))
        shares = [*shares_of(r.store(), timeline, table, 0, middle, at_most), *shares_of(r.store(), timeline, table, middle, state.commit)]
        again = data.draw(st.lists(st.sampled_from(shares), max_size=4)) if shares else []
        for share in data.draw(st.permutations([*shares, *again])):
            load_share(r.store(), tables, Share.from_json(share.to_json()))
        assert in_table(tables, table) == by_name(in_runs(r, state))
        tables.delete(table)


INDEXED = YAML + "index: {kind: dynamodb, table: %s, share: 1000}\n"


def indexed(folder: Path, name: str | None = None) -> Reconciliation:
    """A reconciliation with an index table of its own, which its runs do not touch by themselves (``kept`` does)."""
    return open_in(folder, INDEXED % (name or f"recon-own-{next(_names)}"))


@pytest.fixture(autouse=True)
def _runs_leave_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recon.stages.index.sync", lambda *a: None)


def rows_of(window: int, keys: int = 7) -> tuple[s.Row, ...]:
    """The first window has three keys that later ones do not touch."""
    return tuple(s.Row(order_id=f"K{n}", event_id=f"{window}-{n}", amount=f"{n}.25") for n in range(keys if window else keys + 3))


def add_window(r: Reconciliation, window: int, rows: tuple[s.Row, ...] | None = None) -> None:
    for operation in (s.Land(window, s.File(f"w{window}", rows or rows_of(window))), s.Close(window), s.Run((window,))):
        carry_out(r, operation)


def story(r: Reconciliation, windows: range = range(4)) -> None:
    for window in windows:
        add_window(r, window)


def kept(r: Reconciliation, tables: TableClient, **more: Any) -> Synced:
    done = sync(r.store(), r.config, Timeline(r.store()), tables, **more)
    assert done is not None
    return done


def the_table(r: Reconciliation) -> builds.TableBuild:
    filling = builds.current(r.store(), r.state())
    assert filling is not None
    return filling


def check_table(r: Reconciliation, tables: TableClient) -> str:
    """The standing table holds what the runs say; returns its name."""
    filling = the_table(r)
    assert builds.frontier(r.store(), filling) == r.state().commit
    assert in_table(tables, filling.table) == by_name(in_runs(r, r.state()))
    return filling.table


# ---- filling, keeping up, what it costs ----


def test_a_section_that_is_switched_on_later_fills_the_table_and_each_run_brings_it_up_to_date(
    tables: TableClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recon.stages.index.sync", sync)
    r = open_in(tmp_path, YAML)
    story(r)
    assert sync(r.store(), r.config, Timeline(r.store()), tables) is None
    r = indexed(tmp_path, "recon-later")
    done = r.run()
    assert "index" in done.seconds
    assert check_table(r, tables) == "recon-later"
    story(r, range(4, 6))
    check_table(r, tables)
    again = kept(r, tables)
    assert (again.shares, again.items, again.units) == (0, 0, 0.0)
    assert r.index_status() == {
        "table": "recon-later",
        "commit": r.state().commit,
        "newest_commit": r.state().commit,
        "filled_at": the_table(r).time,
        "filling": [],
        "given_up": [],
    }


def test_an_update_reports_what_it_cost_and_its_requests_are_counted(tables: TableClient, tmp_path: Path) -> None:
    r = indexed(tmp_path)
    story(r, range(1))
    kept(r, tables)
    add_window(r, 1, rows_of(1, 5))
    tally = Tally()
    done = kept(r, open_client(4, meter=tally))
    assert (done.items, done.refused, done.units) == (5, 0, 5.0)
    assert done.cost_usd == Decimal("0.625") * 5 / 1_000_000
    assert done.cost_per_million_usd == Decimal("0.625")
    counted = tally.so_far()
    assert counted["dynamodb", "UpdateItem", "requests"] == 5
    assert counted["dynamodb", "write_unit", "requests"] == 5


def test_what_is_already_there_is_refused_and_billed(tables: TableClient) -> None:
    table = new_table(tables)
    pointer = Pointer("A", sequence(3), "state/a/part-0000.jsonl", 0, 10, 1)
    assert tables.update(table, [pointer]) == WriteCounts(1, 0, 1.0)
    assert tables.update(table, [pointer]) == WriteCounts(0, 1, 1.0)


def test_a_key_whose_events_were_all_taken_back_becomes_a_tombstone_and_comes_back_with_new_ones(
    tables: TableClient, tmp_path: Path
) -> None:
    r = indexed(tmp_path)
    story(r, range(2))
    kept(r, tables)
    for operation in (s.Replace(0, "w0.csv", s.File("w0-corrected", rows_of(0, 1))), s.Run((0,))):
        carry_out(r, operation)
    assert kept(r, tables).tombstones == 3
    dead = [key for key, place in in_table(tables, check_table(r, tables)).items() if not place]
    assert sorted(dead) == ["K7", "K8", "K9"]
    assert not r.verify().problems
    assert r.show("K8", index="dynamodb")["served_why"] == "the table has a tombstone of this key"
    add_window(r, 2, rows_of(0))
    assert kept(r, tables).tombstones == 0
    assert all(in_table(tables, check_table(r, tables)).values())


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
    r = indexed(tmp_path)
    add_window(r, 0, tuple(s.Row(order_id=key, event_id=str(n), amount="1.00") for n, key in enumerate(ODD)))
    assert kept(r, tables).table == check_table(r, tables)
    keys = list(in_runs(r, r.state()))
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


# ---- order: compactions below merges, races, sweeps ----


@SLOW
@given(s.histories(max_operations=10), st.data())
def test_a_table_kept_now_and_then_through_compactions_in_races_and_sweeps_never_leads_to_what_is_gone(
    tables: TableClient, history: s.History, data: st.DataObject
) -> None:
    clock, todo = datetime.now(UTC), list(history.operations)
    with pytest.MonkeyPatch.context() as patch, fresh(INDEXED % f"recon-own-{next(_names)}") as r:
        patch.setattr("recon.stages.index.sync", lambda *a: None)

        def meanwhile(call: faulty_store.Call) -> None:
            """Another process gets on with the history just before a compaction puts its commit."""
            if call.kind == "put_new" and call.path.startswith("timeline/0") and todo and data.draw(st.booleans()):
                carry_out(r, todo.pop(0))

        while todo:
            carry_out(r, todo.pop(0))
            for what in data.draw(st.lists(st.sampled_from(["keep", "compact", "tiers", "sweep"]), max_size=3)):
                if what == "keep":
                    kept(r, tables)
                elif what == "compact":
                    watched = faulty_store.WatchedStore(r.store(), before=meanwhile)
                    compact(watched, r.config, Timeline(watched), always=True)
                elif what == "tiers":
                    patch.setattr("recon.state.tiers.choose_tiers", lambda sizes: slice(0, len(sizes)) if len(sizes) > 1 else None)
                    merge_tiers(r.store(), r.config, Timeline(r.store()))
                    patch.undo()
                    patch.setattr("recon.stages.index.sync", lambda *a: None)
                else:
                    clock += timedelta(hours=1)
                    sweep(r.store(), r.config, Timeline(r.store()), clock)
                filling = builds.current(r.store(), r.state())
                if filling is not None:
                    for key, place in in_table(tables, filling.table).items():
                        assert not place or r.store().exists(place[0]), f"{key} leads to what was swept"
        if kept(r, tables).table:
            assert sum(1 for _ in builds.completed(r.store())) == 1, "nothing that was to be loaded was swept"
            check_table(r, tables)
            assert not r.verify().problems
            tables.delete(the_table(r).table)


def test_a_compaction_that_lost_a_race_does_not_move_pointers_behind_the_merge_that_came_between(
    tables: TableClient, tmp_path: Path
) -> None:
    r = indexed(tmp_path)
    story(r)
    kept(r, tables)
    passed = iter([True])

    def meanwhile(call: faulty_store.Call) -> None:
        if call.kind == "put_new" and call.path.startswith("timeline/0") and next(passed, False):
            add_window(r, 4, rows_of(4, 2))

    watched = faulty_store.WatchedStore(r.store(), before=meanwhile)
    compact(watched, r.config, Timeline(watched), always=True)
    merged, compacted = (Timeline(r.store()).entry(r.state().commit - back) for back in (1, 0))
    assert merged is not None
    assert compacted is not None
    assert (merged.kind, compacted.kind) == ("merge", "compact")
    assert kept(r, tables).items > 0
    held = in_table(tables, check_table(r, tables))
    assert held["K0"][0].startswith(f"state/{merged.writer}/")
    assert held["K9"][0].startswith(f"state/{compacted.writer}/")


def test_a_table_that_was_not_kept_while_its_section_was_off_and_runs_were_swept_is_filled_anew(
    tables: TableClient, tmp_path: Path
) -> None:
    r = indexed(tmp_path)
    story(r, range(2))
    kept(r, tables)
    first = the_table(r)
    off = open_in(tmp_path, YAML)
    story(off, range(2, 5))
    compact(off.store(), off.config, Timeline(off.store()), always=True)
    for hours in (1, 2, 3):
        sweep(off.store(), off.config, Timeline(off.store()), datetime.now(UTC) + timedelta(hours=hours))
    r = open_in(tmp_path, INDEXED % r.config.index.table)
    served = r.show("K1", index="dynamodb")
    assert served.pop("served_by") == "runs"
    assert kept(r, tables).filled
    assert the_table(r).number == first.number + 1
    check_table(r, tables)


# ---- kills, late and doubled workers ----


class Killed(BaseException):
    """The process is gone: from here on nothing that it asks for is done."""


class Mortal:
    """A client of DynamoDB, and a store, of a process that dies at its ``number``-th write of either: before or after it is done."""

    def __init__(self, client: Any, store: Any, number: int, done: bool) -> None:
        self._client, self._left, self._done = client, number, done
        self.store = faulty_store.WatchedStore(store, before=lambda call: self._call(call.kind), after=self._after)

    def __getattr__(self, name: str) -> Any:
        def call(**arguments: Any) -> Any:
            self._call(name)
            answer = getattr(self._client, name)(**arguments)
            self._after(None)
            return answer

        return call

    def _call(self, name: str) -> None:
        if self._left > 0 and name in ("put_new", "delete", "update_item", "batch_write_item", "put_item", "create_table", "delete_table"):
            self._left -= 1
        if self._left == 0 and not self._done:
            self._left = -1
        if self._left < 0:
            raise Killed

    def _after(self, call: object) -> None:
        if self._left == 0:
            self._left = -1
            raise Killed


def an_hour_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on every lease that was not kept has run out."""
    monkeypatch.setattr("recon.serving.sync.lease.acquire", partial(lease.acquire, clock=lambda: datetime.now(UTC) + timedelta(hours=1)))


@pytest.mark.parametrize("done", [False, True])
def test_a_process_that_dies_at_any_write_of_a_filling_or_an_update_leaves_nothing_wrong(
    tables: TableClient, tmp_path: Path, done: bool
) -> None:
    base = indexed(tmp_path)
    add_window(base, 0, rows_of(0, 1)[:4])
    for number in count(1):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("recon.stages.index.sync", lambda *a: None)
            r = open_in(copied(tmp_path, tmp_path / f"killed-{number}-{done}"), INDEXED % f"recon-killed-{number}-{done}")
            died = dies(r, tables, number, done)
            an_hour_on(patch)
            kept(r, tables)
            check_table(r, tables)
            add_window(r, 1, rows_of(1, 2))
            compact(r.store(), r.config, Timeline(r.store()), always=True)
            died = dies(r, tables, number, done) or died
            if number % 3 == 0:
                assert not r.verify().problems, "half-way, too, every item is right"
            kept(r, tables)
            tables.delete(check_table(r, tables))
            if not died:
                break
    assert number > 6, "filling, claiming, switching and updating are several writes"


def dies(r: Reconciliation, tables: TableClient, number: int, done: bool) -> bool:
    mortal = Mortal(tables._client, r.store(), number, done)
    try:
        sync(mortal.store, r.config, Timeline(mortal.store), TableClient(mortal, requests_at_once=1))
    except Killed:
        return True
    return False


def copied(base: Path, folder: Path) -> Path:
    shutil.copytree(base / "data", folder / "data", copy_function=os.link)
    return folder


def test_a_filler_that_was_suspended_comes_back_to_a_table_that_nobody_reads(
    tables: TableClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    r = indexed(tmp_path)
    story(r)
    reached, go_on = threading.Event(), threading.Event()

    class Suspended:
        def __getattr__(self, name: str) -> Any:
            return self.batch if name == "batch_write_item" else getattr(tables._client, name)

        def batch(self, **arguments: Any) -> Any:
            reached.set()
            assert go_on.wait(60)
            return tables._client.batch_write_item(**arguments)

    failed: list[Exception] = []

    def fill() -> None:
        try:
            sync(r.store(), r.config, Timeline(r.store()), TableClient(Suspended(), requests_at_once=1, tries=2))
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=fill)
    thread.start()
    assert reached.wait(60)
    assert kept(r, tables).table == "", "another fills one"
    an_hour_on(monkeypatch)
    assert kept(r, tables).table
    add_window(r, 4)
    kept(r, tables)
    go_on.set()
    thread.join()
    check_table(r, tables)
    assert sum(1 for _ in builds.completed(r.store())) == 1
    assert isinstance(failed[0], (TableGone, TryAgain)) if failed else True


def test_a_worker_that_comes_back_late_with_an_old_share_moves_nothing(tables: TableClient, tmp_path: Path) -> None:
    r = indexed(tmp_path)
    story(r, range(1))
    kept(r, tables)
    add_window(r, 1)
    timeline, table = Timeline(r.store()), the_table(r).table
    (old,) = shares_of(r.store(), timeline, table, r.state().commit - 1, r.state().commit)
    add_window(r, 2)
    compact(r.store(), r.config, Timeline(r.store()), always=True)
    kept(r, tables)
    before = in_table(tables, check_table(r, tables))
    late = load_share(r.store(), tables, old)
    assert (late.items, late.refused) == (0, late.entries)
    assert in_table(tables, table) == before
    assert not r.verify().problems


def test_shares_that_others_carry_out_in_any_order_fill_a_table_as_well(tables: TableClient, tmp_path: Path) -> None:
    r = indexed(tmp_path)
    story(r)
    carried: list[str] = []

    def carry(given: Iterable[Share]) -> Iterator[Loaded]:
        shares = [Share.from_json(json.loads(json.dumps(replace(share, fresh=False).to_json()))) for share in given]
        carried.extend(share.share for share in shares)
        for share in reversed(shares):
            yield Loaded.from_json(load_share(r.store(), tables, share).to_json())

    assert kept(r, tables, load=carry).filled
    add_window(r, 4)
    assert kept(r, tables, load=carry).items == 7
    check_table(r, tables)
    assert len(set(carried)) == len(carried) > 1


def test_a_worker_can_say_between_any_two_updates_that_it_lives_and_stops_where_it_is_told_to(tables: TableClient, tmp_path: Path) -> None:
    r = indexed(tmp_path)
    story(r, range(1))
    kept(r, tables)
    add_window(r, 1, rows_of(1, 100))
    timeline, table = Timeline(r.store()), the_table(r).table
    (share,) = shares_of(r.store(), timeline, table, 1, 2)
    beats: list[int] = []

    def beat() -> None:
        beats.append(1)
        if len(beats) == 3:
            raise TryAgain("given away")

    with pytest.raises(TryAgain, match="given away"):
        load_share(r.store(), tables, share, beat)
    assert len(in_table(tables, table)) < 100
    assert load_share(r.store(), tables, share, beat).entries == 100
    assert len(beats) >= 3 + 100


# ---- what DynamoDB does ----


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
    with pytest.MonkeyPatch.context() as patch, fresh(INDEXED % f"recon-own-{next(_names)}") as r:
        patch.setattr("recon.stages.index.sync", lambda *a: None)
        patch.setattr("recon.serving.dynamodb._WAIT_S", 0.0001)
        moody = TableClient(Moody(tables._client, iter(moods)), requests_at_once=2, tries=70, late_s=0.01)
        story(r, range(2))
        kept(r, moody)
        add_window(r, 2)
        kept(r, moody)
        tables.delete(check_table(r, tables))


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
    r = indexed(tmp_path)
    story(r, range(1))
    kept(r, tables)
    add_window(r, 1)
    moody = Moody(tables._client, chain(["fine"] * 4, repeat(code)))
    with pytest.raises(kind) as told:
        kept(r, TableClient(moody, requests_at_once=1, tries=3))
    assert type(told.value) is kind
    assert "K0" not in str(told.value)
    assert "\n" not in str(told.value)
    assert not r.verify().problems
    kept(r, tables)
    check_table(r, tables)


def test_a_batch_of_which_nothing_is_ever_processed_ends_as_throttled(tables: TableClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recon.serving.dynamodb._WAIT_S", 0.0001)
    table = new_table(tables)

    class Stuck:
        def batch_write_item(self, **arguments: Any) -> Any:
            return {"UnprocessedItems": arguments["RequestItems"]}

    with pytest.raises(Throttled, match="unprocessed"):
        TableClient(Stuck(), tries=3).fill(table, [Pointer("A", 1, "state/a/part-0000.jsonl", 0, 1, 1)])


def test_after_a_lost_reply_of_a_filling_the_switch_waits_until_it_cannot_come_any_more(tables: TableClient) -> None:
    table = new_table(tables)
    client = TableClient(Moody(tables._client, iter(["lost reply"])), late_s=0.2)
    client.settle()
    client.fill(table, [Pointer("A", 1, "state/a/part-0000.jsonl", 0, 1, 1)])
    start = time.monotonic()
    client.settle()
    assert time.monotonic() - start > 0.05


# ---- generations and rebuilds of the table ----


def test_a_rebuild_of_the_state_has_a_table_of_its_own_and_until_it_is_full_the_runs_answer(tables: TableClient, tmp_path: Path) -> None:
    r = indexed(tmp_path)
    story(r)
    kept(r, tables)
    old = the_table(r)
    r.rebuild()
    assert builds.current(r.store(), r.state()) is None
    shown = r.show("K1", index="dynamodb")
    assert (shown.pop("served_by"), shown.pop("served_why")) == ("runs", "no table is full yet")
    assert shown == r.show("K1")
    assert not r.verify().problems
    before = in_table(tables, old.table)
    assert kept(r, tables).filled
    assert check_table(r, tables) != old.table
    assert in_table(tables, old.table) == before, "the old one is left as it was for those who still read it"
    add_window(r, 4)
    compact(r.store(), r.config, Timeline(r.store()), always=True)
    kept(r, tables)
    check_table(r, tables)


def test_a_rebuild_of_the_index_switches_to_a_new_table_and_the_old_one_goes_after_the_grace(tables: TableClient, tmp_path: Path) -> None:
    r = indexed(tmp_path)
    story(r)
    kept(r, tables)
    old = the_table(r)
    rebuilt = r.rebuild_index()
    assert (rebuilt.filled, rebuilt.items) == (True, 10)
    assert the_table(r).number == old.number + 1
    check_table(r, tables)
    assert r.index_status()["given_up"] == [old.table]
    kept(r, tables)
    assert tables.owner(old.table) == old.owner
    config = replace(r.config, retention=r.config.retention.model_copy(update={"grace": timedelta(0)}))
    sync(r.store(), config, Timeline(r.store()), tables)
    assert tables.owner(old.table) is None
    assert [one.number for one in builds.all_builds(r.store())] == [old.number + 1]
    check_table(r, tables)


def test_a_table_that_was_removed_or_belongs_to_somebody_else_is_made_anew_under_another_name(tables: TableClient, tmp_path: Path) -> None:
    foreign = new_table(tables)
    tables.update(foreign, [Pointer("mine", 1, "state/a/part-0000.jsonl", 0, 1, 1)])
    r = indexed(tmp_path, foreign)
    story(r, range(2))
    assert kept(r, tables).table.startswith(f"{foreign}-")
    assert set(in_table(tables, foreign)) == {"mine"}
    tables.delete(the_table(r).table)
    shown = r.show("K1", index="dynamodb")
    assert (shown["served_by"], "it is not there" in shown["served_why"]) == ("runs", True)
    assert kept(r, tables).filled
    check_table(r, tables)


# ---- reading ----


@SLOW
@given(s.histories(max_operations=8), st.data())
def test_show_by_the_table_equals_show_whatever_the_table_has_come_to(tables: TableClient, history: s.History, data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patch, fresh(INDEXED % f"recon-own-{next(_names)}") as r:
        patch.setattr("recon.stages.index.sync", lambda *a: None)
        served = []
        for operation in history.operations:
            carry_out(r, operation)
            if data.draw(st.booleans()):
                kept(r, tables)
            for key in in_runs(r, r.state()) if isinstance(operation, s.Run) else ():
                shown = r.show(key, index="dynamodb")
                served.append(shown.pop("served_by"))
                why = shown.pop("served_why", "")
                assert (served[-1] == "runs") == bool(why)
                assert shown == r.show(key)
        filling = builds.current(r.store(), r.state())
        if filling is not None:
            tables.delete(filling.table)


PLANTED: list[tuple[str, Callable[[Pointer], Pointer | None], str]] = [
    ("absent", lambda p: None, "is missing"),
    ("a tombstone", lambda p: Pointer(p.key, p.sequence), "is a tombstone"),
    ("another offset", lambda p: replace(p, offset=p.offset + 1), "leads to"),
    ("another length", lambda p: replace(p, length=p.length - 1), "leads to"),
    ("a part-file that is gone", lambda p: replace(p, file="state/0123456789abcdef/part-0000.jsonl"), "leads to"),
    ("another check", lambda p: replace(p, check=p.check ^ 1), "leads to"),
    ("a commit to come", lambda p: replace(p, sequence=sequence(10**6)), "still to come"),
]


@pytest.mark.parametrize(("what", "change", "told"), PLANTED, ids=[one[0] for one in PLANTED])
def test_verify_finds_an_item_that_is_wrong_or_missing_and_show_is_right_all_the_same(
    tables: TableClient, tmp_path: Path, what: str, change: Callable[[Pointer], Pointer | None], told: str
) -> None:
    r = indexed(tmp_path)
    story(r)
    kept(r, tables)
    table = the_table(r).table
    pointer = tables.get(table, "K3")
    assert pointer is not None
    planted = change(pointer)
    if planted is None:
        tables._client.delete_item(TableName=table, Key={"key": {"S": "K3"}})
    else:
        tables._client.put_item(TableName=table, Item=to_item(planted))
    problems = r.verify().problems
    assert len(problems) == 1, problems
    assert told in problems[0]
    assert f"table {table}: the item of K3" in problems[0]
    shown = r.show("K3", index="dynamodb")
    assert shown.pop("served_by") == "runs"
    assert shown.pop("served_why")
    assert shown == r.show("K3")


def test_verify_finds_a_superseded_pointer_an_extra_item_and_what_is_no_item_at_all(tables: TableClient, tmp_path: Path) -> None:
    r = indexed(tmp_path)
    story(r, range(1))
    kept(r, tables)
    table = the_table(r).table
    old = tables.get(table, "K3")
    assert old is not None
    add_window(r, 1)
    kept(r, tables)
    tables._client.put_item(TableName=table, Item=to_item(old))
    tables.update(table, [replace(old, key="K-extra"), Pointer("K-dead", 1)])
    tables._client.put_item(TableName=table, Item={"key": {"S": "K-odd"}, "seq": {"N": "1"}, "file": {"S": "x"}})
    assert sorted(problem.partition("; ")[0].partition("the item of ")[2].split(",")[0] for problem in r.verify().problems) == [
        "K-extra is of a key that the runs do not hold",
        "K-odd is none of ours (KeyError: 'offset')",
        f"K3 leads to {old.file} at {old.offset}",
    ]


def test_a_table_that_is_behind_or_half_way_through_later_commits_verifies(tables: TableClient, tmp_path: Path) -> None:
    r = indexed(tmp_path)
    story(r, range(2))
    kept(r, tables)
    add_window(r, 2, tuple(s.Row(order_id=key, event_id=f"2-{key}", amount="1.00") for key in ("K1", "K2", "new")))
    table = the_table(r).table
    assert not r.verify().problems
    assert r.show("K1", index="dynamodb")["served_why"].startswith("the table is behind")
    assert r.show("K3", index="dynamodb")["served_by"] == "dynamodb"
    (share,) = shares_of(r.store(), Timeline(r.store()), table, 2, 3)
    load_share(r.store(), tables, replace(share, first=1))
    assert not r.verify().problems
    kept(r, tables)
    assert not r.verify().problems


def test_the_command_line_says_what_served_and_how_the_table_stands(tables: TableClient, tmp_path: Path, recon: Call) -> None:
    r = indexed(tmp_path)
    story(r)
    config = ("--config", str(tmp_path / "recon.yaml"))
    assert "no table is full yet" in recon("index", "status", *config).out
    assert "filled anew" in recon("index", "update", *config).out
    assert recon("index", "status", "--json", *config).json["commit"] == r.state().commit
    shown = recon("show", "K1", "--index", "dynamodb", "--json", *config).json
    assert shown.pop("served_by") == "dynamodb"
    assert shown == recon("show", "K1", "--json", *config).json
    assert "served by dynamodb" in recon("show", "K1", "--index", "dynamodb", *config).out
    assert recon("index", "rebuild", "--json", *config).json["filled"] is True
    assert recon("verify", "--json", *config).json["items"] == 10
    assert recon("show", "K1", "--index", "redis", *config).status == 2
    assert recon("show", "K1", "--index", "dynamodb", "--known-at", "2026-12-01T00:00Z", *config).status == 2
    (tmp_path / "recon.yaml").write_text(YAML)
    assert recon("index", "status", *config).status == 2
    assert recon("show", "K1", "--index", "dynamodb", *config).status == 2


def test_dynamodb_away_leaves_windows_certified_and_show_right(
    tables: TableClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recon.stages.index.sync", sync)
    monkeypatch.setattr("recon.serving.dynamodb.TRIES", 1)
    monkeypatch.setattr("recon.serving.dynamodb._WAIT_S", 0.0001)
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", f"http://127.0.0.1:{free_port()}")
    r = indexed(tmp_path)
    carry_out(r, s.Land(0, s.File("w0", rows_of(0))))
    carry_out(r, s.Close(0))
    with pytest.raises(ConnectionLost, match="the runs answer meanwhile"):
        r.run()
    certificate = r.certificate(name_of(s.at(0)))
    assert certificate is not None
    assert certificate["ties"]
    assert r.show("K1", index="dynamodb")["served_by"] == "runs"
    monkeypatch.undo()
    assert r.run().windows == []
    check_table(r, tables)
