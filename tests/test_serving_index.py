"""The index table: whatever is loaded in whatever order, it says what the runs say, and never goes backwards.

Belongs here: shares, loading, filling, reading and proving the table, on DynamoDB Local. Does not belong here: who carries out the shares.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
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
from recon.serving.items import from_item, item_key
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
