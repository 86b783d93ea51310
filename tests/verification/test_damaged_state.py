"""`recon verify` finds and names damage to the state: part-files, runs, records and the timeline."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from damage import edit, flip, named, of_timeline_and_certificates, part_files, rewrite, store_of
from verified_store import begin, land, row, window

from recon.api import Reconciliation
from recon.state import checkpoints
from recon.state.runs import check_of, entries_of, open_run, write_run
from recon.storage import layout
from recon.storage.hashing import hash_of, salt_of
from recon.verification.findings import LISTED_MAX


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
