"""A scan gives the rows that the tables for people give, to any reader of Arrow, and reads no more bytes than it is asked for."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import duckdb
import polars as pl
import pyarrow as pa
import pytest
import strategies as s
from faulty_store import WatchedStore
from folders import ROOT
from histories import carry_out, fresh, open_in, slow
from hypothesis import given
from hypothesis import strategies as st
from small_blocks import small

from recon.api import Reconciliation
from recon.errors import WrongInput, WrongUsage
from recon.model.windows import name_of
from recon.reading.scans import scan as scans
from recon.reading.scans.selection import Selection, Site
from recon.stages.certify import certify_windows
from recon.state.lookup import find_record
from recon.state.timeline import State

SHORT_HORIZON = s.CURRENCY_YAML.replace("dedupe: 2h", "dedupe: 1h")
KEYS = st.text(st.sampled_from("ABC1é"), max_size=2)


def _rows(table: Any) -> list[tuple[Any, ...]]:
    return sorted((tuple(row.values()) for row in table.to_pylist()), key=repr)


def _done(r: Reconciliation, history: s.History) -> Reconciliation:
    for operation in history.operations:
        carry_out(r, operation)
    return r


@slow(3)
@given(s.histories(max_windows=8, max_operations=10), KEYS, KEYS, st.data())
def test_artifacts_are_those_of_the_table_and_its_parts(history: s.History, low: str, high: str, data: st.DataObject) -> None:
    with small(), fresh(SHORT_HORIZON) as r:
        whole, scanned = _done(r, history).artifacts(), r.scan().to_arrow()
        assert scanned.schema.names == whole.schema.names
        assert _rows(scanned) == _rows(whole)
        every = whole.to_pylist()
        for first, last in ((low, high), (None, high), (low, None)):
            part = {row["key"] for row in every if (first or "") <= row["key"] and (last is None or row["key"] <= last)}
            assert _keys(r.scan(key_range=(first, last))) == part
        known = [row["key"] for row in every]
        some = data.draw(st.lists(st.sampled_from([*known, "no such key"]), unique=True))
        found = r.scan(keys=some, columns=["last_window", "key"]).to_arrow()
        assert _rows(found) == sorted([(row["last_window"], row["key"]) for row in every if row["key"] in some], key=repr)
        committed = sorted(r.state().windows)
        if committed:
            spanned = data.draw(st.tuples(st.sampled_from(committed), st.sampled_from(committed)).map(sorted))
            between = [window for window in committed if spanned[0] <= window <= spanned[1]]
            assert _rows(r.scan(windows=tuple(spanned)).to_arrow()) == _rows(r.artifacts_of(*between))
            assert _keys(r.scan(windows=tuple(spanned), keys=some)) == set(r.artifacts_of(*between).column("key").to_pylist()) & set(some)


def test_windows_that_are_carried_forward_count(tmp_path: Path) -> None:
    with small():
        r = open_in(tmp_path, SHORT_HORIZON)
        for hour in range(9):
            file = tmp_path / f"{hour}.csv"
            file.write_text(f"{HEADER}A,{hour},INVOICE,1.00,EUR,{name_of(s.at(hour))}\n")
            r.land([file], name_of(s.at(hour)), close=True)
            r.run()
        assert "carried" in (find_record(r.store(), r.state(), "A") or {})
        (row,) = r.scan().to_arrow().to_pylist()
        assert [row] == r.artifacts().to_pylist()
        assert (row["windows"], row["first_window"], row["last_window"]) == (9, name_of(s.at(0)), name_of(s.at(8)))


def _keys(scan: scans.Scan) -> set[str]:
    keys = scan.select("key").to_arrow().column("key").to_pylist()
    assert len(keys) == len(set(keys))
    return set(keys)


@slow(4)
@given(s.histories(max_windows=5, max_operations=10), KEYS)
def test_events_that_count_tie_with_the_certificates(history: s.History, low: str) -> None:
    with fresh(s.STANDARD_YAML) as r:
        _done(r, history)
        certify_windows(r.store(), r.config, r.state(), r.state().windows)
        events, certificates = r.scan("events").to_arrow().to_pylist(), r.scan("certificates").to_arrow().to_pylist()
        assert [row["window"] for row in certificates] == sorted(r.state().windows)
        for row in certificates:
            stated = r.certificate(row["window"])
            assert stated is not None
            own = [event for event in events if event["window"] == row["window"]]
            assert (row["rows_in"], row["ties"], row["cause"]) == (stated["in"]["rows"], stated["ties"], stated["changed_by"]["cause"])
            assert len([event for event in own if event["counted"]]) == row["rows_accepted"]
            assert r.scan("rejects", windows=(row["window"], row["window"])).to_arrow().num_rows == row["rows_rejected"]
            money: dict[str, Decimal] = {}
            for event in own:
                if event["counted"] and event["amount"] is not None:
                    group = "null" if event["currency"] is None else event["currency"]
                    money[group] = money.get(group, Decimal(0)) + event["amount"]
            stored = {part["group"]: part["accepted"] for part in row["money"] if part["control"] == "amount"}
            assert {group: amount for group, amount in stored.items() if amount} == {g: a for g, a in money.items() if a}
        listed = {(d["window"], d["file"], d["line"]) for d in r.duplicates().to_pylist() if d["counting_window"] != d["window"]}
        assert {(e["window"], e["file"], e["line"]) for e in events if not e["counted"]} == listed
        part = r.scan("events", key_range=(low, None), columns=["line", "key"]).to_arrow()
        assert _rows(part) == sorted([(e["line"], e["key"]) for e in events if e["key"] >= low], key=repr)
        for key in {event["key"] for event in events}:
            assert _rows(r.scan("events", keys=[key]).to_arrow()) == sorted(
                [tuple(e.values()) for e in events if e["key"] == key], key=repr
            )
        assert _rows(r.scan("rejects").to_arrow()) == _rows(r.rejects())
        some = r.scan("rejects", columns=["reason", "window"]).to_arrow()
        assert _rows(some) == _rows(r.rejects().select(["reason", "window"]))


EVENTS = 140_000
HEADER = "order_id,event_id,event_type,amount,currency,booked_at\n"


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Reconciliation:
    """A window with three row groups of events, one key each, and a second window with a few of the keys."""
    folder = tmp_path_factory.mktemp("large")
    r = open_in(folder)
    file = folder / "large.csv"
    rows = (f"K{n:06d},{n},INVOICE,{n}.25,EUR,2026-11-01T00:00:00Z\n" for n in range(EVENTS))
    file.write_text(HEADER + "".join(rows))
    r.land([file], "2026-11-01T00:00Z", close=True)
    file = folder / "few.csv"
    file.write_text(HEADER + "K000007,p7,PAYMENT,7.25,EUR,2026-11-01T01:00:00Z\nK000007,p8,PAYMENT,x,EUR,2026-11-01T01:00:00Z\n")
    r.land([file], "2026-11-01T01:00Z", close=True)
    r.run()
    return r


@pytest.fixture
def watched(large: Reconciliation, monkeypatch: pytest.MonkeyPatch) -> WatchedStore:
    """The store as if it were object storage: every byte is requested."""
    store = WatchedStore(large.store(), mapped=lambda path: False)
    monkeypatch.setattr(large, "_store", store)
    return store


def _bytes(store: WatchedStore, scan: scans.Scan) -> tuple[int, pa.Table]:
    before = len(store.calls)
    table = scan.to_arrow()
    read = [call for call in store.calls[before:] if not call.path.startswith("timeline/")]
    assert not [call for call in read if call.kind == "copy_out"]
    return sum(call.bytes for call in read), table


def test_columns_keys_and_windows_save_bytes(large: Reconciliation, watched: WatchedStore) -> None:
    every, events = _bytes(watched, large.scan("events"))
    assert events.num_rows == EVENTS + 1
    currencies, table = _bytes(watched, large.scan("events", columns=["currency"]))
    assert currencies < every / 20
    amounts, table = _bytes(watched, large.scan("events", columns=["amount"]))
    assert amounts < every * 0.55  # every amount is another one
    assert pa.compute.sum(table.column(0)).as_py() == sum(range(EVENTS)) + Decimal("0.25") * EVENTS + Decimal("7.25")
    one, table = _bytes(watched, large.scan("events", keys=["K000007"]))
    assert table.column("event_type").to_pylist() == ["INVOICE", "PAYMENT"]
    assert one < every * 0.55  # a row group of three
    keys, _ = _bytes(watched, large.scan("events", columns=["key"]))
    one, table = _bytes(watched, large.scan("events", columns=["key"], keys=["K000007"]))
    assert table.num_rows == 2
    assert one < keys * 0.6  # not even the keys of the other row groups
    window, table = _bytes(watched, large.scan("events", windows=("2026-11-01T01:00Z", "2026-11-01T01:00Z")))
    assert table.num_rows == 1
    assert window < every / 100
    assert large.scan(windows=("2026-11-01T01:00Z", "2026-11-01T09:00Z")).windows == ("2026-11-01T01:00Z",)
    nothing, table = _bytes(watched, large.scan("events", key_range=("L", None)))
    assert table.num_rows == 0
    assert nothing < every / 2  # only the column of keys

    every, artifacts = _bytes(watched, large.scan())
    assert artifacts.num_rows == EVENTS
    one, table = _bytes(watched, large.scan(keys=["K000007"]))
    assert table.to_pylist()[0]["status"] == "MATCHED"
    assert one < every / 20
    ranged, table = _bytes(watched, large.scan(key_range=("K000100", "K000199")))
    assert sorted(table.column("key").to_pylist()) == [f"K{n:06d}" for n in range(100, 200)]
    assert ranged < every / 2
    window, table = _bytes(watched, large.scan(windows=("2026-11-01T01:00Z", "2026-11-01T01:00Z")))
    assert table.column("key").to_pylist() == ["K000007"]
    assert window < every / 20


def test_a_reader_that_stops_early_has_read_only_the_beginning(large: Reconciliation, watched: WatchedStore) -> None:
    every, _ = _bytes(watched, large.scan())
    before = len(watched.calls)
    batch = large.scan().reader(rows=1000).read_next_batch()
    assert batch.num_rows == 1000
    assert sum(call.bytes for call in watched.calls[before:] if call.path.startswith("state/") and "part" in call.path) < every / 2


def test_duckdb_polars_and_pandas_take_it_with_exact_decimals(large: Reconciliation) -> None:
    scan = large.scan(columns=["key", "status", "billed"], key_range=("K000000", "K000999"))
    total = sum(range(1000)) + 250
    relation = scan.to_duckdb()
    for _ in range(2):  # each reading begins anew
        assert relation.sum("billed").fetchall() == [(Decimal(total),)]
    assert duckdb.sql("SELECT status, count(*) FROM scan GROUP BY ALL ORDER BY 1").fetchall() == [("MATCHED", 1), ("UNPAID", 999)]
    frame = scan.to_polars().filter(pl.col("key") >= "K000998").select("billed").collect()
    assert set(frame.to_series()) == {Decimal("998.25"), Decimal("999.25")}
    assert isinstance(frame.schema["billed"], pl.Decimal)
    assert pl.DataFrame(scan).height == 1000
    assert scan.to_polars().head(3).collect().height == 3
    assert pa.table(scan).num_rows == 1000
    assert sum(scan.to_pandas()["billed"]) == Decimal(total)
    assert pl.from_arrow(large.scan("events").reader()).height == EVENTS + 1


def test_a_lazy_frame_reads_the_columns_of_the_query_alone(large: Reconciliation, watched: WatchedStore) -> None:
    lazy = large.scan("events").to_polars()
    before = len(watched.calls)
    lazy.collect()
    every = sum(call.bytes for call in watched.calls[before:])
    before = len(watched.calls)
    assert lazy.select(pl.col("currency").max()).collect().item() == "EUR"
    assert sum(call.bytes for call in watched.calls[before:]) < every / 20


def test_every_reading_is_of_one_commit(tmp_path: Path) -> None:
    r = open_in(tmp_path)

    def landed(number: int, hour: int) -> None:
        file = tmp_path / f"{number}.csv"
        file.write_text(f"{HEADER}A,{number},INVOICE,1.00,EUR,2026-11-01T00:00:00Z\n")
        r.land([file], name_of(s.at(hour)), close=True)
        r.run()

    landed(0, 0)
    early = {kind: r.scan(kind) for kind in ("artifacts", "events", "certificates")}
    before = {kind: scan.to_arrow() for kind, scan in early.items()}
    landed(1, 1)
    landed(2, 0)  # a second certificate of the first window
    for kind, scan in early.items():
        assert scan.to_arrow().equals(before[kind])
        assert r.scan(kind, commit=scan.commit).to_arrow().equals(before[kind])
        assert not r.scan(kind).to_arrow().equals(before[kind])
    for run in early["artifacts"].site.state.runs:
        r.store().delete(run.path)
    with pytest.raises(WrongInput, match=r"commit 1: state/.* swept since then: scan again at the newest commit"):
        early["artifacts"].to_arrow()


def test_the_page_names_the_columns_in_their_order(tmp_path: Path) -> None:
    r = open_in(tmp_path, s.CURRENCY_YAML)
    page = (ROOT / "docs" / "embedding.md").read_text(encoding="utf-8").partition("| kind | columns |")[2]
    users = {"artifacts": {item.name for item in (*r.config.measures, *r.config.derived)}, "events": set(r.config.columns)}
    for kind in get_args(scans.Kind):
        (row,) = re.findall(rf"^\| `{kind}` \| (.*) \|$", page, re.MULTILINE)
        named = [name for name in re.findall(r"`(\w+)`", row) if name not in ("OPEN", "CLOSED")]
        schema = scans.Scan(kind, Site(r.store(), r.config, State()), Selection()).schema
        own = [name for name in schema.names if name not in users.get(kind, ())]
        money = [
            part.name for name in schema.names if pa.types.is_list(schema.field(name).type) for part in schema.field(name).type.value_type
        ]
        assert list(dict.fromkeys(name for name in named if name not in money or name in own)) == own
        assert set(money) <= set(named)


@pytest.mark.parametrize(
    ("kind", "asked", "reason"),
    [
        ("keys", {}, "'keys' is no kind; take one of artifacts, events, rejects, certificates"),
        ("artifacts", {"columns": ["billd"]}, "artifacts have no column 'billd'; they have key, status, billed"),
        ("artifacts", {"columns": []}, "no columns were given"),
        ("artifacts", {"columns": ["key", "key"]}, "a column is named twice: key, key"),
        ("rejects", {"keys": ["A"]}, "rejects have no key; choose their windows"),
        ("events", {"keys": ["A"], "key_range": ("A", "B")}, "both keys and key_range"),
        ("events", {"windows": ("2026-11-01T00:30Z", "2026-11-01T01:00Z")}, "2026-11-01T00:30Z"),
        ("events", {"windows": ("2026-11-01T01:00Z", "2026-11-01T00:00Z")}, "2026-11-01T01:00Z, lies after the last"),
        ("events", {"commit": 99}, "there is no commit 99; the newest is 1"),
    ],
)
def test_what_is_refused(large: Reconciliation, kind: Any, asked: dict[str, Any], reason: str) -> None:
    with pytest.raises(WrongUsage) as refused:
        large.scan(kind, **asked)
    assert reason in str(refused.value)
