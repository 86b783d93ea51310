"""`recon verify`: a healthy store is proved whatever its history."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest
from damage import named, store_of
from hypothesis import given, settings
from hypothesis import strategies as st
from verified_store import CONFIG, begin, figures, land, make_history, row, window

import recon
from recon.api import Reconciliation
from recon.config import load_config
from recon.state.timeline import Timeline
from recon.verification.recompute import COUNTED, DUPLICATE, SUPPRESSED, _judge
from recon.verification.verify import Verified


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("healthy")
    make_history(begin(folder))
    return folder


def test_a_store_with_duplicates_corrections_replays_and_withdrawn_files_is_proved(healthy: Path) -> None:
    r = recon.open(healthy / "recon.yaml")
    assert figures(r)[window(3)]["suppressed"]["rows"] == 3  # else the history tests little
    assert r.show("W1")["withdrawn"] == [window(6)]
    before = {path: path.read_bytes() for path in store_of(r).rglob("*") if path.is_file()}
    quick, full = r.verify(), r.verify(full=True)
    assert (quick.problems, full.problems) == ([], [])
    assert (full.commit, full.windows, full.runs) == (r.state().commit, 5, len(r.state().runs))
    assert full.events == sum(held["arrived"]["rows"] for held in figures(r).values())
    assert quick.events == 0
    assert full.certificates == len(list(store_of(r).glob("certificates/*/*.json")))
    assert {path: path.read_bytes() for path in store_of(r).rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(("name", "most"), [("BATCH_BYTES", 1), ("BATCH_BYTES", 1500), ("BATCH_RECORDS", 7)])
def test_records_are_decoded_in_batches_of_bounded_size(healthy: Path, monkeypatch: pytest.MonkeyPatch, name: str, most: int) -> None:
    r = recon.open(healthy / "recon.yaml")
    at_once = r.verify(full=True)
    monkeypatch.setattr(f"recon.verification.records.{name}", most)
    assert r.verify(full=True) == at_once
    assert at_once.ok


def test_runs_merged_into_tiers_are_proved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recon.state.tiers.choose_tiers", lambda sizes: slice(0, 2) if len(sizes) == 2 else None)
    r = begin(tmp_path)
    for hour in range(3):
        rows = [row("A1", f"a{hour}", "INVOICE", "1", hour), row(f"B{hour}", "b", "PAYMENT", "1", hour)]
        land(r, hour, f"{hour}.csv", rows)
        r.run()
    assert [Timeline(r.store()).entry(n).kind for n in range(1, 6)] == ["merge", "merge", "tiers", "merge", "tiers"]
    assert r.verify(full=True).problems == []


def test_a_store_without_ids_and_without_derived_values_is_proved(tmp_path: Path) -> None:
    config = CONFIG.replace("  id: event_id\n", "").replace("derived:", "derived: {balance: lines}\nunused:")
    config = config[: config.index("unused:")] + config[config.index("status:") :]
    r = begin(tmp_path, config.replace("balance = 0", "lines = 0"))
    for hour in (0, 1):
        land(r, hour, f"{hour}.csv", [row("A1", "a", "INVOICE", "1", hour)] * 2)
    r.run()
    verified = r.verify(full=True)
    assert (verified.problems, r.show("A1")["measures"]["lines"]) == ([], 4)


def test_a_store_with_decimals_on_either_side_of_64_bits_is_proved(tmp_path: Path) -> None:
    amounts = ["0", "-1", str(2**63 - 1), str(2**63), str(-(2**63)), str(-(2**63) - 1), "9" * 36, "-" + "9" * 36]
    config = CONFIG.replace("18,2", "38,0")
    config = config[: config.index("derived:")] + 'status: [{LARGE: "billed > 1"}, {SMALL: "true"}]\n'
    r = begin(tmp_path, config)
    for hour in (0, 1):
        land(r, hour, f"{hour}.csv", [row(f"A{n}", f"{hour}-{n}", "INVOICE", amount, hour) for n, amount in enumerate(amounts)])
        r.run()
    assert [r.show(f"A{n}")["measures"]["closed_by"] for n in range(len(amounts))] == amounts
    assert r.verify(full=True).problems == []


def test_user_logic_is_applied_where_the_pipeline_applies_it(tmp_path: Path) -> None:
    tmp_path.joinpath("own_rules.py").write_text(
        "import pyarrow as pa, pyarrow.compute as pc\n"
        "def judge(table, stage):\n"
        "    name = 'm_lines' if stage == 'reduce' else 'status'\n"
        "    place = table.column_names.index(name)\n"
        "    old = table.column(name)\n"
        "    new = pc.multiply(old, 10) if stage == 'reduce' else pc.utf8_lower(old)\n"
        "    return table.set_column(place, table.schema.field(name), new.cast(old.type))\n"
    )
    r = begin(tmp_path, CONFIG + "logic: own_rules:judge\n")
    land(r, 0, "zero.csv", [row("A001", "i1", "INVOICE", "5", 0), row("A001", "", "INVOICE", "6", 0)])
    land(r, 1, "one.csv", [row("A001", "i2", "INVOICE", "5", 1), row("A002", "p2", "PAYMENT", "5", 1)])
    r.run()
    assert r.show("A001")["measures"]["lines"] == 30
    assert r.show("A001")["status"] == "unpaid"
    assert r.verify(full=True).problems == []


def test_a_key_with_more_ids_than_a_record_holds_is_proved(tmp_path: Path) -> None:
    r = begin(tmp_path)
    rows = [row("BIG", f"e{n}", "INVOICE", "1", 0) for n in range(4097)]
    land(r, 0, "zero.csv", rows)
    land(r, 1, "one.csv", rows[:5])
    r.run()
    assert r.verify(full=True).problems == []


def test_an_empty_store_is_proved(tmp_path: Path) -> None:
    r = begin(tmp_path)
    r.close(window(0))
    assert r.verify(full=True) == Verified(0, 0, 0, 0, 0)
    r.run()
    assert r.verify(full=True) == Verified(1, 0, 0, 1, 1, head=r.head())


def test_verification_uses_nothing_of_reduce_merge_and_engines() -> None:
    code = (
        "import sys, recon.verification.verify; "
        "others = ('recon.engines', 'recon.stages', 'recon.reading', 'recon.records', 'duckdb', 'pyarrow'); "
        "print([m for m in sys.modules if m.startswith(others)])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_changed_rules_are_one_problem_and_stop_the_comparison_only(damaged: Reconciliation) -> None:
    text = damaged.config.path.read_text()
    damaged.config.path.write_text(text.replace("balance = 0", "balance <= 0"))
    verified = recon.open(damaged.config.path).verify(full=True)
    assert named(verified, "the rules changed")
    assert len(verified.problems) == 1
    assert verified.records == 41


# The rule for duplicates, against plain Python

EVENTS = st.lists(
    st.tuples(
        st.integers(0, 6),  # window
        st.sampled_from(["k", "l"]),
        st.sampled_from([None, "a", "b"]),
        st.sampled_from([None, 1, 2]),  # time
        st.integers(0, 2),  # file
    ),
    max_size=14,
)


@pytest.fixture(scope="module")
def judge(small: Path) -> Callable[[list[tuple[object, ...]], int], dict[int, int]]:
    """Rows of window, key, id, minute, file, line, and a horizon in windows → fate by line."""
    config = load_config(small / "recon.yaml")
    connection = duckdb.connect()
    minute = "TIMESTAMPTZ '2026-11-01 00:00:00Z' + to_minutes(minute)"

    def judged(rows: list[tuple[object, ...]], horizon: int) -> dict[int, int]:
        connection.execute("DROP TABLE IF EXISTS judged")
        connection.execute("CREATE TABLE given (w INTEGER, key VARCHAR, id VARCHAR, minute INTEGER, file INTEGER, line BIGINT)")
        if rows:
            connection.executemany("INSERT INTO given VALUES (?, ?, ?, ?, ?, ?)", rows)
        connection.execute(f'CREATE TABLE events AS SELECT * EXCLUDE (minute), {minute} AS "time" FROM given')
        connection.execute("DROP TABLE given")
        events = replace(config.events, dedupe=timedelta(hours=horizon))
        _judge(connection, replace(config, events=events))
        return dict(connection.execute("SELECT line, fate FROM judged").fetchall())

    return judged


@given(events=EVENTS, horizon=st.integers(1, 5))
@settings(max_examples=50, deadline=None)
def test_every_event_has_the_fate_that_the_rule_for_duplicates_gives_it(
    judge: Callable[[list[tuple[object, ...]], int], dict[int, int]],
    events: list[tuple[int, str, str | None, int | None, int]],
    horizon: int,
) -> None:
    rows = [(*event, line) for line, event in enumerate(events)]
    expected = {}
    for w, key, id, _, _, line in rows:
        same = [(v, t is None, t or 0, f, n) for v, k, i, t, f, n in rows if (k, i) == (key, id)]
        if id is None:
            expected[line] = COUNTED
        elif min(other for other in same if other[0] == w)[-1] != line:
            expected[line] = DUPLICATE
        else:
            expected[line] = SUPPRESSED if any(w - horizon <= other[0] < w for other in same) else COUNTED
    assert judge(rows, horizon) == expected
