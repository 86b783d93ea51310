"""`recon verify` finds and names damage to what belongs to a window: landed files, manifests, reductions and certificates."""

from __future__ import annotations

import duckdb
import pytest
from damage import certificates, committed, edit, flip, named, of_timeline_and_certificates, only, store_of
from verified_store import figures, window

from recon.api import Reconciliation
from recon.storage.scratch import file_digest


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


def test_a_certificate_that_agrees_with_a_forged_commit_is_found_by_full(damaged: Reconciliation) -> None:
    assert figures(damaged)[window(1)]["arrived"]["amount"] == {"EUR": "97.25"}
    paths = [*store_of(damaged).glob("timeline/*.json"), *certificates(damaged, 1), committed(damaged, 1, "figures.json")]
    for path in paths:
        path.write_text(path.read_text().replace('"97.25"', '"98.25"'))
    verified = damaged.verify(full=True)
    assert named(verified, window(1), "commit 3 does not tie with the landed events", "arrived: amount EUR 98.25 ≠ 97.25")
