"""Building the index table, keeping it up to date and switching to a new one: it never goes backwards, whoever dies or comes late."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import faulty_store
import index_tables
import pytest
import strategies as s
from histories import carry_out, fresh, open_in, slow
from hypothesis import given
from hypothesis import strategies as st

from recon.api import Reconciliation
from recon.errors import TryAgain
from recon.metering.usage import Tally
from recon.operations.upkeep import sweep_store
from recon.serving import builds
from recon.serving.dynamodb import TableClient, TableGone, open_client
from recon.serving.items import Pointer
from recon.serving.sync import sync
from recon.state.compaction import compact
from recon.state.tiers import merge_tiers
from recon.state.timeline import Timeline
from recon.storage import lease

pytestmark = pytest.mark.usefixtures("runs_leave_the_table")
SLOW = slow(3)


# ---- filling, keeping up, what it costs ----


def test_a_section_that_is_switched_on_later_fills_the_table_and_each_run_brings_it_up_to_date(
    tables: TableClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recon.stages.index.sync", sync)
    r = open_in(tmp_path, index_tables.YAML)
    index_tables.story(r)
    assert sync(r.store(), r.config, Timeline(r.store()), tables) is None
    r = index_tables.indexed(tmp_path, "recon-later")
    done = r.run()
    assert "index" in done.seconds
    assert index_tables.check_table(r, tables) == "recon-later"
    index_tables.story(r, range(4, 6))
    index_tables.check_table(r, tables)
    again = index_tables.kept(r, tables)
    assert (again.shares, again.items, again.units) == (0, 0, 0.0)
    assert r.index_status() == {
        "table": "recon-later",
        "commit": r.state().commit,
        "newest_commit": r.state().commit,
        "filled_at": index_tables.the_table(r).time,
        "filling": [],
        "given_up": [],
    }


def test_an_update_reports_what_it_cost_and_its_requests_are_counted(tables: TableClient, tmp_path: Path) -> None:
    r = index_tables.brought_up(tmp_path, tables, range(1))
    index_tables.add_window(r, 1, index_tables.rows_of(1, 5))
    tally = Tally()
    done = index_tables.kept(r, open_client(4, meter=tally))
    assert (done.items, done.refused, done.units) == (5, 0, 5.0)
    assert done.cost_usd == Decimal("0.625") * 5 / 1_000_000
    assert done.cost_per_million_usd == Decimal("0.625")
    counted = tally.so_far()
    assert counted["dynamodb", "UpdateItem", "requests"] == 5
    assert counted["dynamodb", "write_unit", "requests"] == 5


# ---- order: compactions below merges, races, sweeps ----


@SLOW
@given(s.histories(max_operations=10), st.data())
def test_a_table_kept_now_and_then_through_compactions_in_races_and_sweeps_never_leads_to_what_is_gone(
    tables: TableClient, history: s.History, data: st.DataObject
) -> None:
    clock, todo = datetime.now(UTC), list(history.operations)
    with pytest.MonkeyPatch.context() as patch, fresh(index_tables.INDEXED % f"recon-own-{next(index_tables.NAMES)}") as r:
        patch.setattr("recon.stages.index.sync", lambda *a: None)

        def meanwhile(call: faulty_store.Call) -> None:
            """Another process gets on with the history just before a compaction puts its commit."""
            if call.kind == "put_new" and call.path.startswith("timeline/0") and todo and data.draw(st.booleans()):
                carry_out(r, todo.pop(0))

        while todo:
            carry_out(r, todo.pop(0))
            for what in data.draw(st.lists(st.sampled_from(["keep", "compact", "tiers", "sweep"]), max_size=3)):
                if what == "keep":
                    index_tables.kept(r, tables)
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
                    sweep_store(r.store(), r.config, Timeline(r.store()), clock)
                filling = builds.current(r.store(), r.state())
                if filling is not None:
                    for key, place in index_tables.in_table(tables, filling.table).items():
                        assert not place or r.store().exists(place[0]), f"{key} leads to what was swept"
        if index_tables.kept(r, tables).table:
            assert sum(1 for _ in builds.completed(r.store())) == 1, "nothing that was to be loaded was swept"
            index_tables.check_table(r, tables)
            assert not r.verify().problems
            tables.delete(index_tables.the_table(r).table)


def test_a_compaction_that_lost_a_race_does_not_move_pointers_behind_the_merge_that_came_between(
    tables: TableClient, tmp_path: Path
) -> None:
    r = index_tables.brought_up(tmp_path, tables)
    passed = iter([True])

    def meanwhile(call: faulty_store.Call) -> None:
        if call.kind == "put_new" and call.path.startswith("timeline/0") and next(passed, False):
            index_tables.add_window(r, 4, index_tables.rows_of(4, 2))

    watched = faulty_store.WatchedStore(r.store(), before=meanwhile)
    compact(watched, r.config, Timeline(watched), always=True)
    merged, compacted = (Timeline(r.store()).entry(r.state().commit - back) for back in (1, 0))
    assert merged is not None
    assert compacted is not None
    assert (merged.kind, compacted.kind) == ("merge", "compact")
    assert index_tables.kept(r, tables).items > 0
    held = index_tables.in_table(tables, index_tables.check_table(r, tables))
    assert held["K0"][0].startswith(f"state/{merged.writer}/")
    assert held["K9"][0].startswith(f"state/{compacted.writer}/")


def test_a_table_that_was_not_kept_while_its_section_was_off_and_runs_were_swept_is_filled_anew(
    tables: TableClient, tmp_path: Path
) -> None:
    r = index_tables.brought_up(tmp_path, tables, range(2))
    first = index_tables.the_table(r)
    off = open_in(tmp_path, index_tables.YAML)
    index_tables.story(off, range(2, 5))
    compact(off.store(), off.config, Timeline(off.store()), always=True)
    for hours in (1, 2, 3):
        sweep_store(off.store(), off.config, Timeline(off.store()), datetime.now(UTC) + timedelta(hours=hours))
    r = open_in(tmp_path, index_tables.INDEXED % r.config.index.table)
    served = r.show("K1", index="dynamodb")
    assert served.pop("served_by") == "runs"
    assert index_tables.kept(r, tables).filled
    assert index_tables.the_table(r).number == first.number + 1
    index_tables.check_table(r, tables)


# ---- kills and suspended fillers ----


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
    base = index_tables.indexed(tmp_path)
    index_tables.add_window(base, 0, index_tables.rows_of(0, 1)[:4])
    for number in count(1):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("recon.stages.index.sync", lambda *a: None)
            r = open_in(
                index_tables.copied(tmp_path, tmp_path / f"killed-{number}-{done}"), index_tables.INDEXED % f"recon-killed-{number}-{done}"
            )
            died = dies(r, tables, number, done)
            an_hour_on(patch)
            index_tables.kept(r, tables)
            index_tables.check_table(r, tables)
            index_tables.add_window(r, 1, index_tables.rows_of(1, 2))
            compact(r.store(), r.config, Timeline(r.store()), always=True)
            died = dies(r, tables, number, done) or died
            if number % 3 == 0:
                assert not r.verify().problems, "half-way, too, every item is right"
            index_tables.kept(r, tables)
            tables.delete(index_tables.check_table(r, tables))
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


def test_a_filler_that_was_suspended_comes_back_to_a_table_that_nobody_reads(
    tables: TableClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    r = index_tables.indexed(tmp_path)
    index_tables.story(r)
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
    assert index_tables.kept(r, tables).table == "", "another fills one"
    an_hour_on(monkeypatch)
    assert index_tables.kept(r, tables).table
    index_tables.add_window(r, 4)
    index_tables.kept(r, tables)
    go_on.set()
    thread.join()
    index_tables.check_table(r, tables)
    assert sum(1 for _ in builds.completed(r.store())) == 1
    assert isinstance(failed[0], (TableGone, TryAgain)) if failed else True


# ---- generations and rebuilds of the table ----


def test_a_rebuild_of_the_state_has_a_table_of_its_own_and_until_it_is_full_the_runs_answer(tables: TableClient, tmp_path: Path) -> None:
    r = index_tables.brought_up(tmp_path, tables)
    old = index_tables.the_table(r)
    r.rebuild()
    assert builds.current(r.store(), r.state()) is None
    shown = r.show("K1", index="dynamodb")
    assert (shown.pop("served_by"), shown.pop("served_why")) == ("runs", "no table is full yet")
    assert shown == r.show("K1")
    assert not r.verify().problems
    before = index_tables.in_table(tables, old.table)
    assert index_tables.kept(r, tables).filled
    assert index_tables.check_table(r, tables) != old.table
    assert index_tables.in_table(tables, old.table) == before, "the old one is left as it was for those who still read it"
    index_tables.add_window(r, 4)
    compact(r.store(), r.config, Timeline(r.store()), always=True)
    index_tables.kept(r, tables)
    index_tables.check_table(r, tables)


def test_a_rebuild_of_the_index_switches_to_a_new_table_and_the_old_one_goes_after_the_grace(tables: TableClient, tmp_path: Path) -> None:
    r = index_tables.brought_up(tmp_path, tables)
    old = index_tables.the_table(r)
    rebuilt = r.rebuild_index()
    assert (rebuilt.filled, rebuilt.items) == (True, 10)
    assert index_tables.the_table(r).number == old.number + 1
    index_tables.check_table(r, tables)
    assert r.index_status()["given_up"] == [old.table]
    index_tables.kept(r, tables)
    assert tables.owner(old.table) == old.owner
    config = replace(r.config, retention=r.config.retention.model_copy(update={"grace": timedelta(0)}))
    sync(r.store(), config, Timeline(r.store()), tables)
    assert tables.owner(old.table) is None
    assert [one.number for one in builds.all_builds(r.store())] == [old.number + 1]
    index_tables.check_table(r, tables)


def test_a_table_that_was_removed_or_belongs_to_somebody_else_is_made_anew_under_another_name(tables: TableClient, tmp_path: Path) -> None:
    foreign = index_tables.new_table(tables)
    tables.update(foreign, [Pointer("mine", 1, "state/a/part-0000.words", 0, 1, 1)])
    r = index_tables.indexed(tmp_path, foreign)
    index_tables.story(r, range(2))
    assert index_tables.kept(r, tables).table.startswith(f"{foreign}-")
    assert set(index_tables.in_table(tables, foreign)) == {"mine"}
    tables.delete(index_tables.the_table(r).table)
    shown = r.show("K1", index="dynamodb")
    assert (shown["served_by"], "it is not there" in shown["served_why"]) == ("runs", True)
    assert index_tables.kept(r, tables).filled
    index_tables.check_table(r, tables)
