"""The forms of part-files' records: read once, remembered, and never taken from a damaged head."""

from __future__ import annotations

from pathlib import Path

import faulty_store
import numpy as np
import pytest

from recon.errors import Damaged, WrongUsage
from recon.model.form import HEAD, Form, JsonLines, Slot
from recon.state import forms
from recon.state.forms import form_of_part, head_of_part
from recon.state.runs import RecordAddress, RecordAddresses, check_of, read_few, read_record, read_records
from recon.storage.local import LocalStore
from recon.storage.port import NotFound

PART = "state/a/part-0000.words"
FORM = Form(
    key=("order_id",),
    grid=("2026-11-01T00:00:00+00:00", 3600, ""),
    measures=tuple(Slot(f"measure_{number}", "decimal(38,2)", "sum") for number in range(200)),
    derived=(Slot("gap", "decimal(38,2)"),),
    statuses=("MATCHED", "OPEN"),
    currency=False,
    rules="0123456789abcdef",
)
RECORD = b"a record"


def store_in(folder: Path, head: bytes = FORM.head(), record: bytes = RECORD) -> faulty_store.WatchedStore:
    store = LocalStore(folder)
    store.put_new(PART, [head, record])
    return faulty_store.WatchedStore(store)


def test_a_head_of_any_length_is_read_once_and_the_first_record_begins_after_it(tmp_path: Path) -> None:
    assert len(FORM.head()) > 4096
    store = store_in(tmp_path)
    assert form_of_part(store, PART) == FORM
    asked = len(store.calls)
    assert form_of_part(store, PART) == FORM
    assert len(store.calls) == asked
    head = head_of_part(store, PART)
    assert head == FORM.head()
    assert read_record(store, RecordAddress(PART, len(head), len(RECORD), check_of(RECORD))) == RECORD


def test_each_store_has_its_own_forms_and_no_more_than_its_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "REMEMBERED_MAX", 2)
    other = Form(**{**vars(FORM), "rules": "another"})
    one, two = store_in(tmp_path / "one"), store_in(tmp_path / "two", other.head())
    assert (form_of_part(one, PART), form_of_part(two, PART)) == (FORM, other)
    for number in range(1, 4):
        path = f"state/a/part-{number:04d}.words"
        one.put_new(path, [FORM.head()])
        assert form_of_part(one, path) == FORM
    assert list(forms._known[one]) == ["state/a/part-0002.words", "state/a/part-0003.words"]
    assert form_of_part(one, PART) == FORM


@pytest.mark.parametrize("at", [0, 7, 8, 12, 15, 16, 19, 20, 23, HEAD.size, HEAD.size + 100, len(FORM.head()) - 1])
def test_a_changed_byte_of_a_head_is_named_with_the_part_file(tmp_path: Path, at: int) -> None:
    head = bytearray(FORM.head())
    head[at] ^= 1
    with pytest.raises(Damaged, match=f"^{PART}: .*restore"):
        form_of_part(store_in(tmp_path, bytes(head)), PART)


@pytest.mark.parametrize("left", [0, 5, HEAD.size, HEAD.size + 1, len(FORM.head()) - 1])
def test_a_head_that_is_cut_is_named_with_the_part_file(tmp_path: Path, left: int) -> None:
    with pytest.raises(Damaged, match=f"^{PART}: .*restore"):
        form_of_part(store_in(tmp_path, FORM.head()[:left], b""), PART)


def test_a_part_file_that_is_gone_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        form_of_part(LocalStore(tmp_path), PART)


def test_json_lines_of_an_earlier_version_are_refused_in_one_line_wherever_they_would_be_read(tmp_path: Path) -> None:
    path, (offset, length, check) = "state/a/part-0000.jsonl", (0, 10, 1)
    store = LocalStore(tmp_path)
    columns = [np.array([value], kind) for value, kind in ((0, "<u4"), (offset, "<u8"), (length, "<u4"), (check, "<u4"))]
    found = RecordAddresses((path,), np.zeros(1, np.int64), *columns)
    for read in (
        lambda: form_of_part(store, path),
        lambda: head_of_part(store, path),
        lambda: read_record(store, RecordAddress(path, offset, length, check)),
        lambda: read_records(store, found),
        lambda: read_few(store, found),
    ):
        with pytest.raises(
            JsonLines, match=r"^state/a/part-0000.jsonl: its records are JSON lines .*; run 'recon rebuild', which .*$"
        ) as told:
            read()
        assert isinstance(told.value, WrongUsage)
