"""Law 1 between the stages: whatever is lost, doubled or changed between two of them, the tie that follows refuses to commit it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

import recon
from recon.api import Reconciliation
from recon.engines.duckdb import duplicates, reduce
from recon.engines.prefetched import Prefetched
from recon.engines.select import engine_of
from recon.errors import Damaged, WrongInput, WrongUsage
from recon.intake.manifests import read_manifest
from recon.model.totals import Totals, exact_sum
from recon.stages import certify
from recon.stages.merge import merge_windows
from recon.stages.reduce import reduce_windows
from recon.state import certificates, reduced
from recon.state.reduced import Figures
from recon.state.timeline import Timeline
from recon.storage import layout
from recon.storage.hashing import hash_of, salt_of
from recon.storage.sealing import SEAL, sealed

CONFIG = """
name: ties
store: ./data
key: k
windows: {start: 2026-11-01T00:00Z, every: 1h}
events: {types: {a: "decimal(18,2)"}, id: i, dedupe: 3h}
measures: {billed: {sum: a}, lines: {count: "*"}}
control: {rows: {count: "*"}, a: {sum: a, by: cur}}
"""
W = [f"2026-11-01T0{hour}:00Z" for hour in range(4)]
ROWS = "A,1,10,EUR\nB,2,20,EUR\nB,2,20,EUR\nC,3,none,EUR\nC,4,40,USD\n"


@pytest.fixture
def r(tmp_path: Path) -> Reconciliation:
    (tmp_path / "recon.yaml").write_text(CONFIG)
    return recon.open(tmp_path / "recon.yaml")


def land(r: Reconciliation, hour: int, rows: str, name: str = "a.csv", **how: Any) -> None:
    file = r.config.path.parent / name
    file.write_text("k,i,a,cur\n" + rows)
    r.land([file], W[hour], close=True, **how)


def rewritten(file: Path, columns: str = "*", where: str = "true") -> None:
    """A Parquet file with other rows or values, in the same order."""
    table = duckdb.sql(f"SELECT {columns} FROM read_parquet('{file}') WHERE {where}").to_arrow_table()
    duckdb.from_arrow(table).write_parquet(str(file))


def figures_of(r: Reconciliation, hour: int) -> Figures:
    manifest = read_manifest(r.store(), r.config.grid.parse(W[hour]))
    assert manifest is not None
    (figures,) = reduce_windows(r.store(), r.config, [manifest])
    return figures


def files_of(r: Reconciliation, folder: str) -> Path:
    return r.config.path.parent / "data" / folder


def refused(r: Reconciliation, hour: int, *words: str) -> None:
    """A run leaves the window out, for a reason with these words, and its events are in no artifact."""
    before = r.state().commit
    report = r.run()
    assert all(word in report.bad[W[hour]] for word in words), report.bad[W[hour]]
    assert r.state().revision(W[hour]) < read_revision(r, hour)
    assert r.state().commit == before


def read_revision(r: Reconciliation, hour: int) -> int:
    manifest = read_manifest(r.store(), r.config.grid.parse(W[hour]))
    assert manifest is not None
    return manifest.revision


# Reduce


@pytest.mark.parametrize(
    ("step", "columns", "where", "words"),
    [
        ("write_events", "*", "key <> 'A'", ("rows 5 ≠ 4", "a EUR")),
        ("write_events", "* REPLACE (c_a + 1 AS c_a)", "true", ("a EUR 50.00 ≠ 52.00", "a USD 40.00 ≠ 41.00")),
        ("write_events", "* REPLACE ('USD' AS c_cur)", "true", ("a EUR", "a USD")),
        ("write_set_aside", "*", "kind <> 'rejected'", ("rows 5 ≠ 4",)),
        ("write_set_aside", "*", "kind = 'rejected'", ("rows 5 ≠ 4", "a EUR 50.00 ≠ 30.00")),
        ("write_set_aside", "* REPLACE (c_a - 1 AS c_a)", "true", ("a EUR 50.00 ≠ 49.00",)),
        ("write_artifacts", "* REPLACE (n + 1 AS n)", "true", ("events in artifacts 6 ≠ 3",)),
        ("write_artifacts", "*", "key <> 'A'", ("events in artifacts 2 ≠ 3",)),
    ],
)
def test_reduce_refuses_what_does_not_tie(
    r: Reconciliation, monkeypatch: pytest.MonkeyPatch, step: str, columns: str, where: str, words: tuple[str, ...]
) -> None:
    land(r, 0, ROWS)
    original = getattr(reduce, step)

    def faulty(*arguments: Any) -> None:
        original(*arguments)
        rewritten(next(one for one in arguments if isinstance(one, Path)), columns, where)

    monkeypatch.setattr(reduce, step, faulty)
    refused(r, 0, "reduce does not tie", *words)
    monkeypatch.undo()
    assert r.run().bad == {}


def test_declared_totals_are_tied_with_what_was_read(r: Reconciliation) -> None:
    for hour, expect in enumerate([{"rows": 4}, {"a": {"EUR": "50.01", "USD": "40"}}]):
        land(r, hour, ROWS, expect=expect, again=True)
    report = r.run()
    assert "rows 4 ≠ 5" in report.bad[W[0]]
    assert "a EUR 50.01 ≠ 50.00" in report.bad[W[1]]
    assert r.state().commit == 0


# Merge


@pytest.mark.parametrize(
    ("file", "columns", "where", "words"),
    [
        (reduced.ARTIFACTS, "* REPLACE (n + 1 AS n)", "key = 'A' OR key <> 'A'", ("6 + 0 rows in the artifacts, 3 + 0 in the events",)),
        (reduced.ARTIFACTS, "*", "key <> 'A'", ("2 + 0 rows in the artifacts, 3 + 0 in the events",)),
        (reduced.ARTIFACTS, "* REPLACE (m_billed + 1 AS m_billed)", "true", ("billed 73.00 + 0 ≠ 70.00",)),
        (reduced.ARTIFACTS, "* REPLACE (m_lines * 2 AS m_lines)", "true", ("lines 6 + 0 ≠ 3",)),
    ],
)
def test_merge_refuses_artifacts_that_are_not_what_was_reduced(
    r: Reconciliation, file: str, columns: str, where: str, words: tuple[str, ...]
) -> None:
    land(r, 0, ROWS)
    rewritten(files_of(r, figures_of(r, 0).folder) / file, columns, where)
    refused(r, 0, "the merge does not tie", "nothing was committed", *words)


@pytest.mark.parametrize(
    ("columns", "where", "words"),
    [
        ("* REPLACE (c_a + 1 AS c_a)", "true", ("billed",)),
        ("*", "id <> '1'", ("1 ids in the artifacts are not in the events",)),
    ],
)
def test_merge_refuses_events_that_are_not_what_was_reduced_where_some_are_suppressed(
    r: Reconciliation, columns: str, where: str, words: tuple[str, ...]
) -> None:
    land(r, 0, "A,1,10,EUR\n")
    r.run()
    land(r, 1, "A,1,10,EUR\nA,5,50,EUR\n")
    rewritten(files_of(r, figures_of(r, 1).folder) / reduced.EVENTS, columns, where)
    refused(r, 1, "the merge does not tie", *words)


def test_merge_refuses_rows_held_back_that_are_not_those_of_the_events(r: Reconciliation, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sum is right, but not what of it is counted."""
    land(r, 0, "A,1,10,EUR\n")
    r.run()
    land(r, 1, "A,1,10,EUR\nA,5,50,EUR\n")
    original = duplicates.untangle

    def faulty(*arguments: Any) -> Any:
        moved, recounted = original(*arguments)
        return {window: replace(told, totals=replace(told.totals, rows=told.totals.rows + 1)) for window, told in moved.items()}, recounted

    monkeypatch.setattr(duplicates, "untangle", faulty)
    refused(r, 1, "1 + 1 rows in the artifacts, 0 + 2 in the events")


def with_a_late_window(r: Reconciliation) -> None:
    """Window 1 is committed; window 0, which comes late, holds one of its events: window 1 is counted again."""
    land(r, 1, "A,1,10,EUR\nA,5,50,EUR\n")
    assert r.run().bad == {}
    land(r, 0, "A,1,10,EUR\n")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda told: replace(told, rows=told.rows - 1), "-2 rows in the artifacts for -1 in the events"),
        (lambda told: replace(told, measures={**told.measures, "billed": "-11.00"}), "billed -11.00 in the artifacts"),
        (lambda told: replace(told, measures={**told.measures, "lines": "0"}), "lines 0 in the artifacts"),
    ],
)
def test_a_recount_refuses_what_does_not_tie(
    r: Reconciliation, monkeypatch: pytest.MonkeyPatch, change: Callable[[Any], Any], words: str
) -> None:
    with_a_late_window(r)
    original = duplicates.untangle

    def faulty(*arguments: Any) -> Any:
        moved, recounted = original(*arguments)
        assert recounted
        return moved, {window: change(told) for window, told in recounted.items()}

    monkeypatch.setattr(duplicates, "untangle", faulty)
    refused(r, 0, "the merge does not tie", f"{W[1]}: recounted", words)
    monkeypatch.undo()
    assert r.run().bad == {}
    certificate = r.certificate(W[1])
    assert certificate is not None
    assert (certificate["accepted"]["rows"], certificate["duplicates"]["rows"], certificate["ties"]) == (1, 1, True)
    assert certificate["measures"] == {"billed": "50.00", "lines": "1"}


def test_a_committed_windows_events_that_changed_are_refused_by_the_recount(r: Reconciliation) -> None:
    with_a_late_window(r)
    rewritten(files_of(r, r.state().windows[W[1]].folder) / reduced.EVENTS, "* REPLACE (c_a + 1 AS c_a)")
    refused(r, 0, "the merge does not tie", f"{W[1]}: recounted", "billed")


# Pre-fetch


def test_a_pre_fetched_file_that_is_not_what_was_written_is_refused(r: Reconciliation) -> None:
    land(r, 0, "A,1,10,EUR\n")
    r.run()
    land(r, 1, "A,5,50,EUR\n")
    figures, timeline = figures_of(r, 1), Timeline(r.store())
    fetched = engine_of(r.config).prefetch(r.store(), r.config, timeline.head(), [figures])
    file = files_of(r, fetched.path)
    content = bytearray(file.read_bytes())
    content[content.index(hash_of("A", salt_of(r.store()))[0].to_bytes(8, "little"))] ^= 1
    file.chmod(0o600)
    file.write_bytes(content)
    with pytest.raises(Damaged, match="pre-fetched file is damaged"):
        merge_windows(r.store(), r.config, timeline, [figures], fetched)
    assert r.state().commit == 1


def merged_with(r: Reconciliation, fetched: Prefetched, hour: int = 1) -> None:
    """Merges the newest revision of a window with a pre-fetched file, and proves what came of it."""
    merge_windows(r.store(), r.config, Timeline(r.store()), [figures_of(r, hour)], fetched)
    r.run()
    assert r.verify(full=True).problems == []


def fetched_for(r: Reconciliation, hour: int = 1) -> Prefetched:
    return engine_of(r.config).prefetch(r.store(), r.config, Timeline(r.store()).head(), [figures_of(r, hour)])


def test_a_pre_fetched_file_of_another_revision_is_not_used(r: Reconciliation) -> None:
    land(r, 0, "A,1,10,EUR\n")
    r.run()
    land(r, 1, "B,5,50,EUR\n")
    fetched = fetched_for(r)
    land(r, 1, "A,7,70,EUR\nB,5,50,EUR\n", replace="a.csv")  # the file has no record of A
    merged_with(r, fetched)
    assert r.show("A")["measures"]["billed"] == "80.00"


def test_a_pre_fetched_file_for_another_committed_revision_is_not_used(r: Reconciliation) -> None:
    """The file holds A's record as it was before revision 2, which takes A out of the window. Neither revision 2 nor 3 has A, so that A's
    later record is not looked up beside the file."""
    land(r, 1, "A,7,70,EUR\nB,5,50,EUR\n")
    r.run()
    land(r, 1, "B,5,51,EUR\n", replace="a.csv")
    second = figures_of(r, 1)
    land(r, 1, "B,5,52,EUR\n", replace="a.csv")
    fetched = fetched_for(r)
    merge_windows(r.store(), r.config, Timeline(r.store()), [second])
    land(r, 2, "A,8,80,EUR\n")
    r.run(W[2], W[2])
    merged_with(r, fetched)
    assert r.show("A")["measures"]["billed"] == "80.00"


def test_a_pre_fetched_file_from_before_a_rebuild_is_not_used(r: Reconciliation) -> None:
    """The rules go to others and back. What was committed between was committed by the other rules."""
    land(r, 0, "A,1,10,EUR\nA,2,20,EUR\n")
    r.run()
    land(r, 1, "A,5,50,EUR\n")
    fetched = fetched_for(r)
    r.config.path.write_text(CONFIG.replace("{sum: a}", "{max: a}"))
    other = recon.open(r.config.path)
    other.rebuild()
    land(other, 2, "A,7,70,EUR\n")
    other.run(W[2], W[2])
    r.config.path.write_text(CONFIG)
    r.rebuild()
    merged_with(r, fetched)
    assert r.show("A")["measures"]["billed"] == "150.00"


def test_what_later_commits_wrote_is_read_beside_a_pre_fetched_file(r: Reconciliation) -> None:
    land(r, 0, "A,1,10,EUR\n")
    r.run()
    land(r, 1, "A,5,50,EUR\nB,6,60,EUR\n")
    fetched = fetched_for(r)
    land(r, 0, "A,1,11,EUR\nB,2,20,EUR\n", replace="a.csv")
    r.run(W[0], W[0])
    merged_with(r, fetched)
    assert (r.show("A")["measures"]["billed"], r.show("B")["measures"]["billed"]) == ("61.00", "80.00")


# Certify


def test_a_certificate_of_figures_that_do_not_tie_says_so(r: Reconciliation) -> None:
    land(r, 0, ROWS)
    r.run()
    store = r.config.path.parent / "data"
    entry = store / layout.commit(1)
    body = json.loads(entry.read_text())
    body.pop(SEAL)
    body["windows"][W[0]]["counted"]["rows"] -= 1
    entry.chmod(0o600)
    entry.write_bytes(sealed(body))
    (store / layout.certificate(r.config.grid.parse(W[0]), 1)).unlink()
    fresh = recon.open(r.config.path)
    (certificate,) = certify.certify_windows(fresh.store(), fresh.config, fresh.state(), [W[0]])
    assert certificate["ties"] is False
    assert certificates.ties(certificate) == ["rows 5 ≠ 4"]
    assert any("rows 5 ≠ 4" in problem for problem in fresh.verify().problems)


# As known at


def test_known_at_the_very_microsecond_of_a_commit_is_that_commit(r: Reconciliation) -> None:
    for amount in ("10", "11", "12"):
        land(r, 0, f"A,1,{amount},EUR\n", **({"replace": "a.csv"} if amount != "10" else {}))
        r.run()
    times = [datetime.fromisoformat(entry.time) for n in (1, 2, 3) if (entry := Timeline(r.store()).entry(n))]
    for number, (time, amount) in enumerate(zip(times, ("10.00", "11.00", "12.00"), strict=True), 1):
        shown = r.show("A", known_at=time.isoformat())
        assert (shown["commit"], shown["measures"]["billed"]) == (number, amount)
        assert r.state(known_at=(time + timedelta(microseconds=1)).isoformat()).commit == number
        before = (time - timedelta(microseconds=1)).isoformat()
        if number == 1:
            with pytest.raises(WrongUsage, match="nothing was committed yet"):
                r.state(known_at=before)
        else:
            assert r.state(known_at=before).commit == number - 1


# Landing


def test_the_same_bytes_twice_in_one_call_are_one_file(r: Reconciliation) -> None:
    folder = r.config.path.parent
    for name in ("one.csv", "two.csv"):
        (folder / name).write_text("k,i,a,cur\nA,1,10,EUR\nB,,5,EUR\n")
    landing = r.land([folder / "one.csv", folder / "two.csv"], W[0], close=True)
    assert landing.added == ("one.csv",)
    assert landing.already == (("two.csv", "one.csv"),)
    assert [file.name for file in landing.manifest.files] == ["one.csv"]
    r.run()
    assert r.show("A")["measures"] == {"billed": "10.00", "lines": 1}
    assert r.show("B")["measures"] == {"billed": "5.00", "lines": 1}  # no id tells these rows apart


def test_windows_that_do_not_tie_do_not_hold_up_others(r: Reconciliation) -> None:
    for hour in (0, 1):
        land(r, hour, f"A,{hour},10,EUR\n")
    rewritten(files_of(r, figures_of(r, 0).folder) / reduced.ARTIFACTS, "* REPLACE (n + 1 AS n)")
    report = r.run()
    assert list(report.bad) == [W[0]]
    assert report.windows == [W[1]]
    with pytest.raises(WrongInput, match="does not tie"):
        merge_windows(r.store(), r.config, Timeline(r.store()), [figures_of(r, 0)])


def test_a_merge_by_other_rules_is_refused(r: Reconciliation) -> None:
    land(r, 0, "A,1,10,EUR\n")
    r.run()
    land(r, 1, "A,2,20,EUR\n")
    r.config.path.write_text(CONFIG.replace("{sum: a}", "{max: a}"))
    other = recon.open(r.config.path)
    with pytest.raises(WrongUsage, match="the rules changed"):
        merge_windows(other.store(), other.config, Timeline(other.store()), [figures_of(other, 1)])


def test_a_revision_that_is_committed_is_not_merged_again(r: Reconciliation) -> None:
    land(r, 0, "A,1,10,EUR\n")
    r.run()
    merged = merge_windows(r.store(), r.config, Timeline(r.store()), [figures_of(r, 0)])
    assert (merged.commit, r.state().commit) == (None, 1)


def test_a_key_that_is_gone_from_a_window_loses_what_the_window_gave_it(r: Reconciliation) -> None:
    land(r, 0, "A,1,10,EUR\nB,2,20,EUR\n")
    land(r, 1, "A,3,30,EUR\n")
    r.run()
    land(r, 0, "B,2,20,EUR\n", replace="a.csv")
    r.run()
    assert r.show("A")["measures"]["billed"] == "30.00"
    assert r.show("A")["withdrawn"] == [W[0]]


def test_totals_differ_by_a_currency_that_one_side_lacks() -> None:
    one, other = Totals(1, {"a": {"EUR": Decimal(1), "USD": Decimal(5)}}), Totals(1, {"a": {"EUR": Decimal(1)}})
    assert one.differences(other) == ["a USD 5 ≠ 0"]
    assert other.differences(one) == ["a USD 0 ≠ 5"]


def test_exact_sums_keep_every_digit() -> None:
    assert exact_sum(["1" * 38, Decimal("0.0000000001"), 1]) == Decimal("1" * 37 + "2.0000000001")
