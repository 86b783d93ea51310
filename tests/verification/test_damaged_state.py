"""`recon verify` finds and names damage to the state: part-files, runs, records and the timeline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from damage import edit, flip, named, of_timeline_and_certificates, part_files, rewrite, rewrite_bytes, store_of
from verified_store import begin, land, row, window

from recon.api import Reconciliation
from recon.config.form import form_of
from recon.model.form import Form
from recon.model.record import key_of
from recon.state import checkpoints
from recon.state.runs import open_run
from recon.storage import layout
from recon.verification.findings import LISTED_MAX


def starts(r: Reconciliation, file: Path) -> list[int]:
    """Where the records of a part-file begin."""
    runs = [open_run(r.store(), ref.path).entries() for ref in r.state().runs]
    return sorted(int(at) for found in runs if [store_of(r) / path for path in found.part_files] == [file] for at in found.offset)


def test_a_flipped_byte_in_a_part_file_is_named_by_its_record(damaged: Reconciliation) -> None:
    file = part_files(damaged)[-1]
    second = starts(damaged, file)[1]
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
    for start in starts(r, file)[100:2500:20]:
        content[start + 8] ^= 1
    file.write_bytes(content)
    verified = r.verify()
    assert len(verified.problems) == LISTED_MAX + 1
    assert verified.problems[-1].startswith(f"and {120 - LISTED_MAX} more")


@pytest.mark.parametrize("at", [0, 8, 12, 16, 20, 24, 80, -1])
def test_a_flipped_byte_in_a_head_is_one_problem(damaged: Reconciliation, at: int) -> None:
    file = part_files(damaged)[-1]
    flip(file, at if at >= 0 else starts(damaged, file)[0] - 1)
    verified = damaged.verify(full=True)
    assert named(verified, file.name, "restore it from a copy of the store")
    assert len(verified.problems) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda form: replace(form, statuses=("MATCHED", "BREAK", "UNPAID")), "what the rules give (statuses)"),
        (lambda form: replace(form, rules="0" * 16), "of the rules version 0000000000000000"),
        (lambda form: replace(form, measures=form.measures[::-1]), "what the rules give (measures)"),
    ],
)
def test_a_head_of_another_form_under_a_right_check_is_found(damaged: Reconciliation, change: Callable[[Form], Form], words: str) -> None:
    file = part_files(damaged)[-1]
    content, form = file.read_bytes(), form_of(damaged.config)
    assert content.startswith(form.head())
    file.write_bytes(change(form).head() + content[len(form.head()) :])
    verified = damaged.verify(full=True)
    assert named(verified, file.name, words)
    assert len(verified.problems) == 1


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
    file.write_bytes(file.read_bytes() + bytes(24))
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
    def change(record: dict[str, Any]) -> None:
        for part in record["contributions"]:
            if part["m"].get("paid") == "96.25":
                part["m"]["paid"] = "97.25"

    rewrite(damaged, change, "A005")
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
    amounts = {"A": "11.00", "B": "19.00"}

    def change(record: dict[str, Any]) -> None:
        for m in (record["measures"], record["contributions"][0]["m"]):
            m["billed"] = amounts.get(record["key"], m["billed"])

    rewrite(r, change)
    assert r.verify().ok
    verified = r.verify(full=True)
    assert named(verified, 'key "A"', "billed 11.00 ≠ 10.00")
    assert named(verified, 'key "B"', "billed 19.00 ≠ 20.00")
    assert len(verified.problems) == 2


def test_full_names_what_is_wrong_in_each_record(tmp_path: Path) -> None:
    def part(record: dict[str, Any]) -> Any:
        return record["contributions"][0]

    wrong: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
        "A0": (lambda x: x.update(status="BREAK"), "status BREAK ≠ UNPAID"),
        "A1": (lambda x: x["derived"].update(balance="10.01"), "balance 10.01 ≠ 10.00"),
        "A2": (lambda x: part(x)["m"]["opened"].update(v="INVOICX"), "opened"),
        "A3": (lambda x: part(x)["m"]["opened"].update(t="2026-11-01T00:05:01.000000Z"), "opened"),
        "A4": (lambda x: part(x)["ids"].insert(0, 1), "ids"),
        "A5": (lambda x: x["withdrawn"].append(window(0)), "withdrawn"),
        "A6": (lambda x: part(x).update(n=0, d=1), "n 0 ≠ 1"),
        "A7": (lambda x: part(x).update(w=window(1)), "2026-11-01T00:00Z is not stored"),
        "A8": (lambda x: part(x).update(ids=None), "ids null ≠ ["),
        "B0": (lambda x: x["measures"].pop("due"), "due null ≠ 2026-12-01"),
        "B1": (lambda x: x["measures"].update(billed="1" + "0" * 30 + ".00"), "billed 1000000000000000000000000000000.00 ≠ 10.00"),
    }
    r = begin(tmp_path)
    land(r, 0, "one.csv", [row(key, f"e{key}", "INVOICE", "10", 0) for key in [*wrong, "C"]])
    r.run()
    rewrite(r, lambda record: wrong.get(record["key"], (lambda _: None, ""))[0](record), "A0")
    verified = r.verify(full=True)
    for key, (_, words) in wrong.items():
        assert named(verified, f'key "{key}"', words)
    assert not named(verified, 'key "C"')


def test_full_names_records_that_are_missing_and_that_should_not_be(tmp_path: Path) -> None:
    r = begin(tmp_path)
    land(r, 0, "one.csv", [row("A", "a", "INVOICE", "10", 0), row("B", "b", "INVOICE", "10", 0)])
    r.run()
    rewrite_bytes(r, lambda data: data[:-8] + b"C".ljust(8, b"\0") if key_of(data)[0] == "B" else data, "A", rehash=True)
    verified = r.verify(full=True)
    assert named(verified, 'key "B"', "none is stored")
    assert named(verified, 'key "C"', "the landed events give none")
    assert len(verified.problems) == 2


def test_a_record_under_the_hash_of_another_key_is_found(damaged: Reconciliation) -> None:
    rewrite(damaged, lambda record: record.update(key=record["key"].replace("A005", "A999")), "A005")
    verified = damaged.verify(full=True)
    assert named(verified, "is of another key than its run entry's hash")


def test_a_record_that_is_none_of_its_form_is_found(damaged: Reconciliation) -> None:
    rewrite_bytes(damaged, lambda data: data[:8] + b"\xff" + data[9:] if key_of(data)[0] == "A005" else data, "A005")
    verified = damaged.verify(full=True)
    assert named(verified, "is no record of its part-file's form")
    assert len(verified.problems) == 1


@pytest.mark.parametrize("full", [False, True])
def test_a_record_that_says_the_same_in_other_bytes_is_found(damaged: Reconciliation, full: bool) -> None:
    """The bytes behind the key, which nothing reads."""
    rewrite_bytes(damaged, lambda data: data[:-1] + b"\1" if key_of(data)[0] == "A005" else data, "A005")
    assert damaged.show("A005")["measures"]["paid"] == "96.25"
    verified = damaged.verify(full=full)
    assert named(verified, "is written in another form than expected", "offset")
    assert len(verified.problems) == 1


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
