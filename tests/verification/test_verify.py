"""`recon verify`: a healthy store is proved whatever its history, and every kind of damage is found and named."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from damage import rewrite, store_of
from hypothesis import given, settings
from hypothesis import strategies as st

import recon
from recon.api import Reconciliation
from recon.config import load_config
from recon.state import checkpoints
from recon.state.runs import check_of, entries_of, open_run, write_run
from recon.state.timeline import Timeline, committed_figures
from recon.storage import layout
from recon.storage.hashing import hash_of, salt_of
from recon.storage.scratch import file_digest
from recon.storage.sealing import SEAL, sealed
from recon.verification.certificates import check_certificates
from recon.verification.findings import LISTED_MAX, Findings
from recon.verification.recompute import COUNTED, DUPLICATE, SUPPRESSED, _judge
from recon.verification.timeline import check_timeline
from recon.verification.verify import Verified

CONFIG = """
name: orders
store: ./data
key: order_id
windows: {start: 2026-11-01T00:00Z, every: 1h}
events:
  types: {amount: "decimal(18,2)", units: integer, due: date, urgent: boolean}
  id: event_id
  time: booked_at
  dedupe: 3h
measures:
  billed: {sum: amount, where: "event_type = 'INVOICE'"}
  paid: {sum: amount, where: "event_type = 'PAYMENT'"}
  lines: {count: "*"}
  units: {sum: units}
  smallest: {min: amount}
  due: {max: due}
  latest: {max: booked_at}
  opened: {first: event_type}
  closed_by: {last: amount}
derived:
  balance: coalesce(billed, 0) - coalesce(paid, 0)
  shown: concat('é ', opened)
status:
  - {MATCHED: "balance = 0"}
  - {UNPAID: "paid is null"}
  - {BREAK: "true"}
control: {rows: {count: "*"}, amount: {sum: amount, by: currency}}
"""
HEAD = "order_id,event_id,event_type,amount,units,due,urgent,currency,booked_at"


def window(hour: int) -> str:
    return f"2026-11-01T{hour:02}:00Z"


def row(order: str, event: str, kind: str, amount: str, hour: int, minute: int = 5, currency: str = "EUR") -> str:
    return f"{order},{event},{kind},{amount},3,2026-12-0{hour + 1},true,{currency},2026-11-01T{hour:02}:{minute:02}:00Z"


def land(r: Reconciliation, hour: int, name: str, rows: list[str], replace: str | None = None) -> None:
    file = r.config.path.parent / name
    file.write_text("\n".join([HEAD, *rows]) + "\n")
    r.land([file], window(hour), close=True, replace=replace, again=True)


def begin(folder: Path, config: str = CONFIG) -> Reconciliation:
    folder.mkdir(exist_ok=True)
    (folder / "recon.yaml").write_text(config)
    return recon.open(folder / "recon.yaml")


def make_history(r: Reconciliation) -> None:
    """Several windows in a run, late windows, duplicates in and across windows, a correction, a replay, a file taken back."""
    invoices = [row(f"A{n:03}", f"i{n}", "INVOICE", f"{100 + n}.25", 0, n % 60) for n in range(40)]
    land(
        r,
        0,
        "invoices.csv",
        [*invoices, invoices[3], row("A001", "i1", "INVOICE", "9.99", 0, 0), "X,i99,INVOICE,nan,,,,EUR,"],
    )
    land(r, 1, "one.csv", [row(f"A{n:03}", f"p{n}", "PAYMENT", f"{100 + n}.25", 1) for n in range(30)])
    # A006 and A007 come again within the horizon; without an id nothing is a duplicate.
    land(
        r,
        3,
        "three.csv",
        [*invoices[6:8], row("A006", "p6", "PAYMENT", "1", 3), *[row("B1", "", "INVOICE", "2", 3)] * 2],
    )
    r.run()
    # A late window: what came again in window 3 is now a duplicate of it, and not of window 0 only.
    land(
        r,
        2,
        "two.csv",
        [*invoices[6:7], row("C1", "c1", "INVOICE", "5", 2, currency="USD"), row("C2", "c2", "PAYMENT", "7", 2)],
    )
    # Beyond the horizon of window 0, within that of window 3.
    land(r, 6, "six.csv", [*invoices[6:9], row("W1", "w1", "INVOICE", "1", 6), row("W2", "w2", "INVOICE", "1", 6)])
    r.run()
    land(r, 1, "one-right.csv", [row(f"A{n:03}", f"p{n}", "PAYMENT", f"{90 + n}.25", 1) for n in range(5, 35)], "one.csv")
    r.run()
    land(r, 6, "more.csv", [row("W3", "w3", "PAYMENT", "3", 6)])
    r.run()
    r.unland("six.csv", window(6), "sent by mistake")
    r.replay(window(0), window(3), "to be sure")
    r.run()


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("healthy")
    make_history(begin(folder))
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two windows, three commits: invoices in window 0, payments in window 1, these corrected, another file taken back."""
    folder = tmp_path_factory.mktemp("small")
    r = begin(folder)
    land(r, 0, "invoices.csv", [row(f"A{n:03}", f"i{n}", "INVOICE", f"{100 + n}.25", 0) for n in range(40)])
    land(r, 1, "one.csv", [row("A005", "p5", "PAYMENT", "95.25", 1), row("A006", "i6", "INVOICE", "106.25", 1)])
    r.run()
    land(
        r,
        1,
        "one-right.csv",
        [row("A005", "p5", "PAYMENT", "96.25", 1), row("A007", "i7", "INVOICE", "1", 1)],
        "one.csv",
    )
    land(r, 1, "wrong.csv", [row("W1", "w1", "INVOICE", "1", 1)])
    r.run()
    r.unland("wrong.csv", window(1), "sent by mistake")
    r.run()
    return folder


@pytest.fixture
def damaged(small: Path, tmp_path: Path) -> Reconciliation:
    """A copy of the small store, for a test to damage."""
    shutil.copytree(small, tmp_path / "copy")
    return recon.open(tmp_path / "copy" / "recon.yaml")


def figures(r: Reconciliation) -> dict[str, dict[str, Any]]:
    """Window → its figures as the timeline holds them."""
    state = r.state()
    return committed_figures(r.store(), state, state.windows)


def only(r: Reconciliation, pattern: str) -> Path:
    """The first file of the store that matches, in order."""
    return min(store_of(r).glob(pattern))


def flip(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 0x04
    file.write_bytes(content)


def named(verified: Verified, *words: str) -> bool:
    """Whether one problem holds all the words, and each problem is one line."""
    assert not verified.ok
    assert all("\n" not in problem for problem in verified.problems)
    return any(all(word in problem for word in words) for problem in verified.problems)


def of_timeline_and_certificates(r: Reconciliation) -> Verified:
    """What these two checks alone find."""
    findings = Findings()
    history = check_timeline(r.store(), findings)
    check_certificates(r.store(), r.config, history, findings, lambda name, share: None)
    return Verified(0, 0, 0, 0, 0, problems=findings.lines())


def part_files(r: Reconciliation) -> list[Path]:
    runs = [open_run(r.store(), ref.path) for ref in r.state().runs]
    return [store_of(r) / path for run in runs for path in run.part_files]


# What is healthy


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
        "print([m for m in sys.modules if m.startswith(('recon.engines', 'recon.stages', 'recon.reading', 'duckdb', 'pyarrow'))])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


# Records, part-files, runs


def test_a_flipped_byte_in_a_part_file_is_named_by_its_record(damaged: Reconciliation) -> None:
    file = part_files(damaged)[-1]
    content = file.read_bytes()
    second = content.index(b"\n") + 1
    flip(file, second + 12)
    verified = damaged.verify(full=True)
    assert named(verified, file.name, f"offset {second} ")
    assert len(verified.problems) == 1  # nothing else is wrong, and nothing follows from it


def test_every_damaged_record_of_a_large_part_file_is_found_and_counted(tmp_path: Path) -> None:
    r = begin(tmp_path)
    land(r, 0, "many.csv", [row(f"K{n}", f"e{n}", "INVOICE", "1", 0) for n in range(2500)])
    r.run()
    (file,) = part_files(r)
    content = bytearray(file.read_bytes())
    starts = [0, *(int(at) + 1 for at in np.flatnonzero(np.frombuffer(content, np.uint8) == 10))][:-1]
    for start in starts[100:2500:20]:
        content[start + 8] ^= 1
    file.write_bytes(content)
    verified = r.verify()
    assert len(verified.problems) == LISTED_MAX + 1
    assert verified.problems[-1].startswith(f"and {120 - LISTED_MAX} more")


def test_a_part_file_that_is_cut_is_named_with_what_is_lost(damaged: Reconciliation) -> None:
    file = part_files(damaged)[-1]
    file.write_bytes(file.read_bytes()[:-5])
    assert named(damaged.verify(), file.name, "cut short", "1 records from offset")


def test_a_part_file_that_is_gone_is_one_problem(damaged: Reconciliation) -> None:
    file = part_files(damaged)[-1]
    file.unlink()
    verified = damaged.verify(full=True)
    assert named(verified, file.name, "the part-file is gone")


def test_bytes_that_no_entry_leads_to_are_found(damaged: Reconciliation) -> None:
    file = part_files(damaged)[-1]
    file.write_bytes(file.read_bytes() + b'{"key": "Z"}\n')
    assert named(damaged.verify(), file.name, "no entry")


@pytest.mark.parametrize("place", [0.0, 0.3, 0.99])
def test_a_flipped_byte_in_a_run_is_found(damaged: Reconciliation, place: float) -> None:
    file = store_of(damaged) / damaged.state().runs[0].path
    flip(file, int(file.stat().st_size * place))
    assert named(damaged.verify(), file.parent.name, "the run cannot be read")


def test_a_run_that_is_gone_is_found(damaged: Reconciliation) -> None:
    file = store_of(damaged) / damaged.state().runs[-1].path
    file.unlink()
    assert named(damaged.verify(), file.parent.name, "the run cannot be read")


def test_a_wrong_amount_under_a_right_check_is_found_by_its_windows_sums(damaged: Reconciliation) -> None:
    rewrite(damaged, lambda line: line.replace(b'"paid":"96.25"', b'"paid":"97.25"'), "A005")
    assert named(damaged.verify(), window(1), "paid 97.25 ≠ 96.25")


def test_two_wrong_amounts_that_cancel_out_are_found_by_full_alone(tmp_path: Path) -> None:
    r = begin(tmp_path)
    land(
        r,
        0,
        "two.csv",
        [row("A", "a", "INVOICE", "10", 0), row("B", "b", "INVOICE", "20", 0), row("C", "c", "INVOICE", "7", 0)],
    )
    r.run()
    swapped = {b'"A"': (b"10.00", b"11.00"), b'"B"': (b"20.00", b"19.00")}

    def change(line: bytes) -> bytes:
        return next((line.replace(*amounts) for key, amounts in swapped.items() if b'"k":' + key in line), line)

    rewrite(r, change)
    assert r.verify().ok
    verified = r.verify(full=True)
    assert named(verified, 'key "A"', "billed 11.00 ≠ 10.00")
    assert named(verified, 'key "B"', "billed 19.00 ≠ 20.00")
    assert len(verified.problems) == 2


def test_full_names_what_is_wrong_in_each_record(tmp_path: Path) -> None:
    wrong = {
        "A0": (b'"s":"UNPAID"', b'"s":"UNPAIX"', "status UNPAIX ≠ UNPAID"),
        "A1": (b'"balance":"10.00"', b'"balance":"10.01"', "balance 10.01 ≠ 10.00"),
        "A2": (b'"opened":"INVOICE"', b'"opened":"INVOICX"', "opened INVOICX ≠ INVOICE"),
        "A3": (b'"t":"2026-11-01T00:05:00', b'"t":"2026-11-01T00:05:01', "opened"),
        "A4": (b'"ids":[', b'"ids":[1', "ids"),
        "A5": (b"]}\n", b'],"gone":["2026-11-01T00:00Z"]}\n', "withdrawn"),
        "A6": (b'"n":1,"d":0', b'"n":0,"d":1', "n 0 ≠ 1"),
        "A7": (b'"w":"2026-11-01T00:00Z"', b'"w":"2026-11-01T01:00Z"', "2026-11-01T00:00Z is not stored"),
    }
    r = begin(tmp_path)
    land(r, 0, "one.csv", [row(f"A{n}", f"e{n}", "INVOICE", "10", 0) for n in range(9)])
    r.run()

    def change(line: bytes) -> bytes:
        old, new, _ = wrong.get(json.loads(line)["k"], (b"", b"", ""))
        assert old in line
        return line.replace(old, new)

    rewrite(r, change, "A0")
    verified = r.verify(full=True)
    for key, (_, _, words) in wrong.items():
        assert named(verified, f'key "{key}"', words)
    assert not named(verified, 'key "A8"')


def test_full_names_records_that_are_missing_and_that_should_not_be(tmp_path: Path) -> None:
    r = begin(tmp_path)
    land(r, 0, "one.csv", [row("A", "a", "INVOICE", "10", 0), row("B", "b", "INVOICE", "10", 0)])
    r.run()
    ref = r.state().runs[0]
    entries = open_run(r.store(), ref.path).entries()
    lines = (store_of(r) / entries.part_files[0]).read_bytes().splitlines(keepends=True)
    lines = [line.replace(b'"k":"B"', b'"k":"C"') for line in lines]
    hashes = np.array([hash_of(json.loads(line)["k"], salt_of(r.store())) for line in lines], np.uint64)
    for name in (entries.part_files[0], ref.path):
        (store_of(r) / name).unlink()
    r.store().put_new(entries.part_files[0], lines)
    sizes, checks = np.array([len(x) for x in lines], np.uint32), np.array([check_of(x) for x in lines], np.uint32)
    write_run(r.store(), ref.path, entries_of(entries.part_files[0], hashes[:, 0], hashes[:, 1], sizes, checks))
    verified = r.verify(full=True)
    assert named(verified, 'key "B"', "none is stored")
    assert named(verified, 'key "C"', "the landed events give none")
    assert len(verified.problems) == 2


def test_a_record_under_the_hash_of_another_key_is_found(damaged: Reconciliation) -> None:
    rewrite(damaged, lambda line: line.replace(b'"k":"A005"', b'"k":"A999"'), "A005")
    verified = damaged.verify(full=True)
    assert named(verified, "is of another key than its run entry's hash")


def test_a_record_that_is_no_json_is_found(damaged: Reconciliation) -> None:
    rewrite(damaged, lambda line: line.replace(b'{"k":"A005"', b'["k":"A005"'), "A005")
    assert named(damaged.verify(), "is no JSON line with a key")


# Timeline


def edit(file: Path, change: Callable[[dict], None]) -> None:  # type: ignore[type-arg]
    """Changes an object, and seals it anew where it was sealed."""
    content = json.loads(file.read_text())
    was_sealed = content.pop(SEAL, None) is not None
    change(content)
    file.write_bytes(sealed(content) if was_sealed else json.dumps(content).encode())


def test_a_timeline_entry_that_cannot_be_read_is_named(damaged: Reconciliation) -> None:
    file = sorted(store_of(damaged).glob("timeline/*.json"))[-1]
    file.write_text(file.read_text()[:-7])
    verified = damaged.verify()
    assert named(verified, f"timeline/{file.name}")
    assert verified.commit == int(file.stem) - 1


def test_a_timeline_entry_that_is_gone_is_named_though_later_ones_stand(damaged: Reconciliation) -> None:
    file = sorted(store_of(damaged).glob("timeline/*.json"))[1]
    file.unlink()
    assert named(damaged.verify(), f"timeline/{file.name}", "gone")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("counted", {"rows": 1}),
        ("revision", 9),
        ("keys", 99),
        ("measures", {"billed": "0"}),
        ("cause", "replay"),
        ("closed", False),
    ],
)
def test_an_edited_figure_of_a_window_is_found(damaged: Reconciliation, field: str, value: object) -> None:
    commit = damaged.state().windows[window(1)].commit
    file = store_of(damaged) / f"timeline/{commit:012}.json"
    edit(file, lambda entry: entry["windows"][window(1)].update({field: value}))
    assert named(of_timeline_and_certificates(damaged), window(1), "the certificate is wrong")


def test_edited_statuses_are_found(damaged: Reconciliation) -> None:
    for file in store_of(damaged).glob("timeline/*.json"):
        edit(file, lambda entry: entry["totals"].get("statuses", {}).update(MATCHED=7))
    assert named(damaged.verify(), "have the status MATCHED", "says 7")


def test_an_edited_run_is_found(damaged: Reconciliation) -> None:
    file = min(store_of(damaged).glob("timeline/*.json"))
    edit(file, lambda entry: entry["runs_added"][0].__setitem__(1, 3))
    assert named(damaged.verify(), "its commit says 3")


def test_a_checkpoint_that_is_not_the_fold_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recon.state.checkpoints.UNIT", 2)
    r = begin(tmp_path)
    for hour in (0, 1):
        land(r, hour, f"{hour}.csv", [row("A", f"a{hour}", "INVOICE", "10", hour)])
        r.run()
    assert r.verify().ok
    (file,) = store_of(r).glob("timeline/checkpoints/0/*")
    place = checkpoints.Span(2, 0)
    held = checkpoints.read(r.store(), layout.TIMELINE, place)
    revisions, *others = held.columns
    file.unlink()
    checkpoints.write(r.store(), layout.TIMELINE, place, replace(held, columns=([7, *revisions[1:]], *others)))
    assert named(r.verify(), file.name, "not the fold", "windows")
    flip(file, 200)
    assert named(r.verify(), file.name, "cannot be read")
    assert r.state().revision(window(0)) == 1  # nobody takes it for the truth


# Landed and stateless files


def test_a_flipped_byte_in_a_landed_file_is_found(damaged: Reconciliation) -> None:
    file = only(damaged, "events/*/files/*/invoices.csv")
    flip(file, 200)
    verified = damaged.verify(full=True)
    assert named(verified, "invoices.csv", "another SHA-256")
    assert named(verified, window(0), "its keys are not compared")
    assert len(verified.problems) == 2


def test_a_note_of_a_landing_that_is_gone_is_found(damaged: Reconciliation) -> None:
    for file in store_of(damaged).glob(f"landings/*/*/*-{window(1).replace(':', '')}-*"):
        file.unlink()
    assert named(damaged.verify(), window(1), "the note of its revision", "'recon replay")


def test_landed_files_that_are_gone_are_found_even_if_they_were_taken_back(damaged: Reconciliation) -> None:
    for name in ("invoices.csv", "wrong.csv"):
        only(damaged, f"events/*/files/*/{name}").unlink()
    verified = damaged.verify()
    assert named(verified, "invoices.csv", "is gone")
    assert named(verified, "wrong.csv", "is gone")


def test_a_manifest_that_is_gone_or_damaged_is_found(damaged: Reconciliation) -> None:
    first, second = sorted(store_of(damaged).glob("events/2026-11-01T0100Z/manifests/*.json"))[:2]
    first.unlink()
    second.write_text("{}")
    verified = damaged.verify()
    assert named(verified, first.name, "the manifest is gone")
    assert named(verified, second.name, "the manifest cannot be read")


def committed(r: Reconciliation, hour: int, name: str) -> Path:
    return store_of(r) / r.state().windows[window(hour)].folder / name


def test_stateless_files_that_are_cut_or_gone_are_found(damaged: Reconciliation) -> None:
    names = ["events.parquet", "artifacts.parquet", "set_aside.parquet"]
    for name in names:
        committed(damaged, 0, name).write_bytes(committed(damaged, 0, name).read_bytes()[:-20])
        committed(damaged, 1, name).unlink()
    verified = damaged.verify()
    for name in names:
        assert named(verified, window(0), name, "cannot be read")
        assert named(verified, window(1), name, "it is gone")


@pytest.mark.parametrize("hour", [0, 1])
def test_a_wrong_value_in_the_stateless_artifacts_is_found(damaged: Reconciliation, hour: int) -> None:
    file = committed(damaged, hour, "artifacts.parquet")
    changed = "m_smallest + 1 AS m_smallest" if hour == 0 else "list_transform(ids, lambda x: x + 1) AS ids"
    other = file.with_name("other.parquet")
    duckdb.sql(f"COPY (SELECT * REPLACE ({changed}) FROM '{file}' ORDER BY hi, lo) TO '{other}' (FORMAT parquet)")
    other.replace(file)
    assert named(damaged.verify(full=True), "artifacts.parquet", window(hour), "not those that the landed files give")


def test_a_flipped_byte_in_the_sorted_events_is_found(damaged: Reconciliation) -> None:
    file = committed(damaged, 0, "events.parquet")
    flip(file, file.stat().st_size // 4)
    assert named(damaged.verify(full=True), "events.parquet", window(0))


@pytest.mark.parametrize(
    ("change", "full"),
    [
        ("amount", False),
        ("key", False),
        ("id", True),
        ("order", False),
        ("line", True),
        ("due", True),
    ],
)
def test_a_wrong_value_in_the_sorted_events_is_found(damaged: Reconciliation, change: str, full: bool) -> None:
    file = committed(damaged, 0, "events.parquet")
    values = {
        "amount": "REPLACE (c_amount + 1 AS c_amount)",
        "key": "REPLACE (key || 'x' AS key)",
        "id": "REPLACE (id || 'x' AS id)",
        "line": "REPLACE (line + 1 AS line)",
        "due": "REPLACE (c_due + 1 AS c_due)",
        "order": "",
    }[change]
    order = "hi DESC" if change == "order" else "hi"
    other = file.with_name("other.parquet")
    duckdb.sql(f"COPY (SELECT * {values} FROM '{file}' ORDER BY {order}) TO '{other}' (FORMAT parquet)")
    other.replace(file)
    assert named(damaged.verify(), "events.parquet", window(0), "digest")
    # Even where the digest was made to fit, the content gives it away.
    edit(committed(damaged, 0, "figures.json"), lambda figures: figures["digests"].update({file.name: file_digest(file)}))
    assert named(damaged.verify(full=full), "events.parquet", window(0))


def test_edited_figures_are_found(damaged: Reconciliation) -> None:
    edit(committed(damaged, 0, "figures.json"), lambda figures: figures["accepted"].update(rows=39))
    assert named(damaged.verify(), "figures.json", window(0), "accepted")
    committed(damaged, 0, "figures.json").write_text("nothing")
    assert named(damaged.verify(), "figures.json", window(0), "cannot be read")


# Certificates


def certificates(r: Reconciliation, hour: int) -> list[Path]:
    return sorted(store_of(r).glob(f"certificates/2026-11-01T{hour:02}00Z/*.json"))


@pytest.mark.parametrize("which", [0, -1])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("accepted", {"rows": 1}),
        ("ties", False),
        ("commit", 99),
        ("number", 7),
        ("keys", 5),
        ("window", "2026-11-01T05:00Z"),
    ],
)
def test_an_edited_certificate_is_found_be_it_the_newest_or_not(damaged: Reconciliation, which: int, field: str, value: object) -> None:
    file = certificates(damaged, 1)[which]
    edit(file, lambda certificate: certificate.update({field: value}))
    assert named(of_timeline_and_certificates(damaged), window(1), file.name, "the certificate is wrong")


def test_a_second_certificate_of_one_commit_is_found(damaged: Reconciliation) -> None:
    newest = certificates(damaged, 1)[-1]
    again = newest.with_name("000004.json")
    again.write_text(newest.read_text().replace('"number": 3', '"number": 4'))
    assert named(of_timeline_and_certificates(damaged), again.name, "it names commit 3, the one before it 3")


def test_a_certificate_that_cannot_be_read_is_named(damaged: Reconciliation) -> None:
    file = certificates(damaged, 1)[0]
    file.write_text("[1]")
    assert named(damaged.verify(), file.name, "the certificate cannot be read")


def test_a_missing_certificate_is_found_first_middle_or_last(damaged: Reconciliation) -> None:
    first, *_, last = certificates(damaged, 1)
    first.unlink()
    last.unlink()
    certificates(damaged, 0)[0].unlink()
    verified = damaged.verify()
    assert named(verified, window(1), "000001.json", "gone")
    assert named(verified, window(1), "changed the window since", "recon run")
    assert named(verified, window(0), "has no certificate")


# Full: what the timeline and certificates say against the events


def test_a_certificate_that_agrees_with_a_forged_commit_is_found_by_full(damaged: Reconciliation) -> None:
    assert figures(damaged)[window(1)]["arrived"]["amount"] == {"EUR": "97.25"}
    paths = [*store_of(damaged).glob("timeline/*.json"), *certificates(damaged, 1), committed(damaged, 1, "figures.json")]
    for path in paths:
        path.write_text(path.read_text().replace('"97.25"', '"98.25"'))
    verified = damaged.verify(full=True)
    assert named(verified, window(1), "commit 3 does not tie with the landed events", "arrived: amount EUR 98.25 ≠ 97.25")


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
