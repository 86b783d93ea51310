"""The index table: whatever is loaded in whatever order, it says what the runs say, and never goes backwards.

Belongs here: shares, loading, filling, reading and proving the table, on DynamoDB Local. Does not belong here: who carries out the shares.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import strategies as s
from driving import carry_out, open_in
from dynamodb_local import dynamodb_local, environment
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recon.api import Reconciliation
from recon.compaction import compact
from recon.runs import hash_of, open_run
from recon.serving import standing
from recon.serving.items import from_item, item_key
from recon.serving.keeping import Kept, keep
from recon.serving.loading import load_share, read_key
from recon.serving.shares import Share, shares_of
from recon.serving.table import TableClient, open_client
from recon.timeline import State, Timeline

YAML = s.STANDARD_YAML + "compaction: {disk: 1.1}\nretention: {grace: 1m}\n"
SLOW = settings(deadline=None, max_examples=int(os.environ.get("RECON_LAW_EXAMPLES", "10")), suppress_health_check=list(HealthCheck))
_names = count(1)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TableClient]:
    """A client of a server of this module's own."""
    with dynamodb_local(tmp_path_factory.mktemp("dynamodb")) as endpoint, environment(endpoint):
        yield open_client(requests_at_once=4)


@contextmanager
def fresh(text: str = YAML) -> Iterator[Reconciliation]:
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield open_in(Path(folder), text)


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
                assert hash_of(key) == (hi, lo)
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
    with fresh() as r:
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


def indexed(folder: Path, tables: TableClient, name: str | None = None) -> Reconciliation:
    """A reconciliation with an index table of its own."""
    return open_in(folder, INDEXED % (name or f"recon-own-{next(_names)}"))


def story(r: Reconciliation, windows: range = range(4), keys: int = 7) -> None:
    """Windows that touch the same keys, but for three of the first one."""
    for window in windows:
        rows = tuple(s.Row(order_id=f"K{n}", event_id=f"{window}-{n}", amount=f"{n}.25") for n in range(keys if window else keys + 3))
        for operation in (s.Land(window, s.File(f"w{window}", rows)), s.Close(window), s.Run((window,))):
            carry_out(r, operation)


def kept(r: Reconciliation, tables: TableClient, **more: Any) -> Kept:
    done = keep(r.store(), r.config, Timeline(r.store()), tables, **more)
    assert done is not None
    return done


def check_table(r: Reconciliation, tables: TableClient) -> str:
    """The standing table holds what the runs say; returns its name."""
    filling = standing.standing(r.store(), r.state())
    assert filling is not None
    assert standing.frontier(r.store(), filling) == r.state().commit
    assert in_table(tables, filling.table) == by_name(in_runs(r, r.state()))
    return filling.table


def test_a_section_that_is_switched_on_later_fills_the_table_and_each_run_brings_it_up_to_date(tables: TableClient, tmp_path: Path) -> None:
    r = open_in(tmp_path, YAML)
    story(r)
    assert keep(r.store(), r.config, Timeline(r.store()), tables) is None
    r = indexed(tmp_path, tables, "recon-later")
    done = r.run()
    assert "index" in done.seconds
    assert check_table(r, tables) == "recon-later"
    story(r, range(4, 6))
    check_table(r, tables)
    again = kept(r, tables)
    assert (again.shares, again.items, again.units) == (0, 0, 0.0)


def test_an_update_reports_what_it_cost(tables: TableClient, tmp_path: Path) -> None:
    r = indexed(tmp_path, tables)
    story(r, range(1))
    filled = kept(r, tables)
    assert not filled.filled, "the run had filled it"
    rows = tuple(s.Row(order_id=f"K{n}", event_id=f"new-{n}", amount="1.00") for n in range(5))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recon.pipeline.keep", lambda *a: None)
        for operation in (s.Land(1, s.File("w1", rows)), s.Close(1), s.Run((1,))):
            carry_out(r, operation)
    done = kept(r, tables)
    assert (done.items, done.refused, done.units) == (5, 0, 5.0)
    assert done.cost_usd == Decimal("0.625") * 5 / 1_000_000
    assert done.cost_per_million_usd == Decimal("0.625")
