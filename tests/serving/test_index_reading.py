"""Reading by the index table: `show` is right whatever the table has come to, and `verify` finds what is wrong in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import index_tables
import pytest
import strategies as s
from cli_calls import Call
from histories import carry_out, fresh, slow
from hypothesis import given
from hypothesis import strategies as st
from loopback import free_port

from recon.errors import ConnectionLost
from recon.model.windows import name_of
from recon.serving import builds
from recon.serving.dynamodb import TableClient
from recon.serving.items import Pointer, sequence, to_item
from recon.serving.load import load_share
from recon.serving.shares import shares_of
from recon.serving.sync import sync
from recon.state.timeline import Timeline

pytestmark = pytest.mark.usefixtures("runs_leave_the_table")
SLOW = slow(3)


@SLOW
@given(s.histories(max_operations=8), st.data())
def test_show_by_the_table_equals_show_whatever_the_table_has_come_to(tables: TableClient, history: s.History, data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patch, fresh(index_tables.INDEXED % f"recon-own-{next(index_tables.NAMES)}") as r:
        patch.setattr("recon.stages.index.sync", lambda *a: None)
        served = []
        for operation in history.operations:
            carry_out(r, operation)
            if data.draw(st.booleans()):
                index_tables.kept(r, tables)
            for key in index_tables.in_runs(r, r.state()) if isinstance(operation, s.Run) else ():
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
    ("a part-file that is gone", lambda p: replace(p, file="state/0123456789abcdef/part-0000.words"), "leads to"),
    ("another check", lambda p: replace(p, check=p.check ^ 1), "leads to"),
    ("a commit to come", lambda p: replace(p, sequence=sequence(10**6)), "still to come"),
]


@pytest.mark.parametrize(("what", "change", "told"), PLANTED, ids=[one[0] for one in PLANTED])
def test_verify_finds_an_item_that_is_wrong_or_missing_and_show_is_right_all_the_same(
    tables: TableClient, tmp_path: Path, what: str, change: Callable[[Pointer], Pointer | None], told: str
) -> None:
    r = index_tables.brought_up(tmp_path, tables)
    table = index_tables.the_table(r).table
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
    r = index_tables.brought_up(tmp_path, tables, range(1))
    table = index_tables.the_table(r).table
    old = tables.get(table, "K3")
    assert old is not None
    index_tables.add_window(r, 1)
    index_tables.kept(r, tables)
    tables._client.put_item(TableName=table, Item=to_item(old))
    tables.update(table, [replace(old, key="K-extra"), Pointer("K-dead", 1)])
    tables._client.put_item(TableName=table, Item={"key": {"S": "K-odd"}, "seq": {"N": "1"}, "file": {"S": "x"}})
    assert sorted(problem.partition("; ")[0].partition("the item of ")[2].split(",")[0] for problem in r.verify().problems) == [
        "K-extra is of a key that the runs do not hold",
        "K-odd is none of ours (KeyError: 'offset')",
        f"K3 leads to {old.file} at {old.offset}",
    ]


def test_a_table_that_is_behind_or_half_way_through_later_commits_verifies(tables: TableClient, tmp_path: Path) -> None:
    r = index_tables.brought_up(tmp_path, tables, range(2))
    index_tables.add_window(r, 2, tuple(s.Row(order_id=key, event_id=f"2-{key}", amount="1.00") for key in ("K1", "K2", "new")))
    table = index_tables.the_table(r).table
    assert not r.verify().problems
    assert r.show("K1", index="dynamodb")["served_why"].startswith("the table is behind")
    assert r.show("K3", index="dynamodb")["served_by"] == "dynamodb"
    (share,) = shares_of(r.store(), Timeline(r.store()), table, 2, 3)
    load_share(r.store(), tables, replace(share, first=1))
    assert not r.verify().problems
    index_tables.kept(r, tables)
    assert not r.verify().problems


def test_the_command_line_says_what_served_and_how_the_table_stands(tables: TableClient, tmp_path: Path, recon: Call) -> None:
    r = index_tables.indexed(tmp_path)
    index_tables.story(r)
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
    (tmp_path / "recon.yaml").write_text(index_tables.YAML)
    assert recon("index", "status", *config).status == 2
    assert recon("show", "K1", "--index", "dynamodb", *config).status == 2


def test_dynamodb_away_leaves_windows_certified_and_show_right(
    tables: TableClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recon.stages.index.sync", sync)
    monkeypatch.setattr("recon.serving.dynamodb.TRIES", 1)
    monkeypatch.setattr("recon.serving.dynamodb._WAIT_S", 0.0001)
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", f"http://127.0.0.1:{free_port()}")
    r = index_tables.indexed(tmp_path)
    carry_out(r, s.Land(0, s.File("w0", index_tables.rows_of(0))))
    carry_out(r, s.Close(0))
    with pytest.raises(ConnectionLost, match="the runs answer meanwhile"):
        r.run()
    certificate = r.certificate(name_of(s.at(0)))
    assert certificate is not None
    assert certificate["ties"]
    assert r.show("K1", index="dynamodb")["served_by"] == "runs"
    monkeypatch.undo()
    assert r.run().windows == []
    index_tables.check_table(r, tables)
