"""Corrections: a person adds an event with a reason; it lands like any other and says for good who made it and why."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import strategies as s
from histories import carry_out, open_in, slow
from hypothesis import given
from hypothesis import strategies as st

import recon
from recon.api import Reconciliation
from recon.cli import main
from recon.config.key import key_asked
from recon.errors import WrongUsage
from recon.intake import manifests
from recon.intake.corrections import correct
from recon.intake.manifests import Manifest, operator, read_manifest
from recon.model.windows import name_of

NOW = datetime(2026, 11, 1, 2, 25, 30, tzinfo=UTC)
PAYMENT = {"event_type": "PAYMENT", "amount": "10.00", "currency": "EUR"}


@pytest.fixture
def r(tmp_path: Path) -> Reconciliation:
    """A is billed 10.00 and unpaid."""
    r = open_in(tmp_path)
    for operation in (s.Land(0, s.File("a", (s.Row(),))), s.Close(0), s.Run((0,))):
        carry_out(r, operation)
    return r


def corrected(r: Reconciliation, *key: str, event: Mapping[str, str] = PAYMENT, reason: str = "paid in cash") -> Manifest:
    return correct(r.store(), r.config, key or ("A",), event, reason, NOW)


def processed(r: Reconciliation) -> None:
    for operation in (s.Close(1), s.Close(2), s.Run((1, 2))):
        carry_out(r, operation)


def test_a_correction_lands_as_one_event_in_the_window_that_it_is_now(r: Reconciliation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "operator", lambda: "maria")
    manifest = corrected(r)
    assert (manifest.window, manifest.cause, manifest.reason, manifest.by) == (name_of(s.at(2)), "correct", "paid in cash", "maria")
    (file,) = manifest.files
    assert file.name.startswith("correction-")
    assert file.name.endswith(".jsonl")
    assert (file.reason, file.by) == ("paid in cash", "maria")
    event = json.loads(r.store().get(file.path))
    assert event.pop("event_id") == file.name.removesuffix(".jsonl")
    assert event == {"order_id": "A", "booked_at": "2026-11-01T02:25:30+00:00", **PAYMENT}


def test_a_correction_counts_once_its_window_is_processed_and_tells_its_maker_and_reason(
    r: Reconciliation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "operator", lambda: "maria")
    name = corrected(r).files[0].name
    assert r.show("A")["status"] == "UNPAID"
    processed(r)
    shown = r.show("A", events=True)
    assert shown["status"] == "MATCHED"
    first, last = shown["contributions"]
    assert "correction" not in first["event_list"][0]
    (event,) = last["event_list"]
    assert event["file"] == name
    assert event["correction"] == {"reason": "paid in cash", "by": "maria"}


def test_a_correction_survives_replays_and_later_files_and_is_recomputed_from_the_landed_files(r: Reconciliation, tmp_path: Path) -> None:
    carry_out(r, s.Land(2, s.File("b", (s.Row(order_id="B", event_id="8"),))))
    corrected(r)
    processed(r)
    before = r.show("A", events=True)
    assert before["contributions"][1]["event_list"][0]["correction"]["reason"] == "paid in cash"
    for operation in (s.Replay(0), s.Replay(2), s.Land(2, s.File("c", (s.Row(order_id="B", event_id="9"),))), s.Run((0, 2))):
        carry_out(r, operation)
    after = r.show("A", events=True)
    assert (after["measures"], after["contributions"][1]["event_list"]) == (before["measures"], before["contributions"][1]["event_list"])
    assert after["contributions"][1]["revision"] > before["contributions"][1]["revision"]
    manifest = read_manifest(r.store(), s.at(2))
    assert manifest
    assert [file.reason for file in manifest.files] == ["", "paid in cash", ""]
    assert r.verify(full=True).problems == []


def test_a_correction_survives_a_rebuild_by_other_rules_with_its_maker_and_reason(
    r: Reconciliation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "operator", lambda: "maria")
    corrected(r)
    processed(r)
    path = r.config.path.with_name("other.yaml")
    path.write_text(s.STANDARD_YAML.replace("MATCHED", "SETTLED"))
    other = recon.open(path)
    other.rebuild()
    shown = other.show("A", events=True)
    assert (shown["status"], shown["measures"]["paid"]) == ("SETTLED", "10.00")
    (event,) = shown["contributions"][-1]["event_list"]
    assert event["correction"] == {"by": "maria", "reason": "paid in cash"}


def test_two_equal_corrections_are_two_events(r: Reconciliation) -> None:
    corrected(r)
    corrected(r)
    processed(r)
    assert r.show("A")["measures"]["paid"] == "20.00"


def test_a_correction_can_be_taken_back(r: Reconciliation) -> None:
    name = corrected(r).files[0].name
    processed(r)
    r.unland(name, name_of(s.at(2)), "it was paid by card")
    carry_out(r, s.Run((2,)))
    assert r.show("A")["status"] == "UNPAID"


@pytest.mark.parametrize(
    ("key", "event", "reason", "said"),
    [
        (("A",), {"amout": "1"}, "x", "--event amout: no rule in recon.yaml knows this column; did you mean amount?"),
        (("A",), {"Amount": "1"}, "x", "--event Amount: no rule in recon.yaml knows this column; did you mean amount?"),
        (("A",), {"zzz": "1"}, "x", "--event zzz: no rule in recon.yaml knows this column; there are booked_at, amount"),
        (("A",), {"order_id": "B"}, "x", "--event order_id: is part of the key"),
        (("A",), {"event_id": "7"}, "x", "--event event_id: the id of a correction is made anew"),
        (("A",), {"amount": "ten"}, "x", "amount: 'ten' is not a decimal(18,2); correct the value, nothing has landed"),
        (("A",), {"amount": "1.005"}, "x", "amount: '1.005' has more than 2 decimals"),
        (("A",), {"booked_at": "noon"}, "x", "booked_at: 'noon' is not a time such as"),
        (("",), {"amount": "1"}, "x", "order_id: the key is empty"),
        (("A",), {}, "x", "--event: say what the event holds"),
        (("A",), {"amount": "1"}, " ", "--reason: say why"),
        (("A",), {"amount": "1"}, "x" * 1001, "--reason: 1,001 characters are too many"),
        (("A", "B"), {"amount": "1"}, "x", "KEY: 2 values were given; the key is order_id"),
        (("A",), {"currency": "\udcff"}, "x", "not UTF-8 text"),
    ],
)
def test_what_the_intake_would_reject_or_no_rule_knows_is_refused_in_one_line(
    r: Reconciliation, key: tuple[str, ...], event: dict[str, str], reason: str, said: str
) -> None:
    with pytest.raises(WrongUsage) as refused:
        correct(r.store(), r.config, key, event, reason, NOW)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert read_manifest(r.store(), s.at(2)) is None, "nothing has landed"


def test_before_the_first_window_a_correction_is_refused(r: Reconciliation) -> None:
    with pytest.raises(WrongUsage, match="has not begun yet"):
        correct(r.store(), r.config, ("A",), PAYMENT, "x", s.START - timedelta(seconds=1))


KEYS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)


@slow(3)
@given(KEYS, KEYS, st.decimals(-(10**15), 10**15, places=2), st.booleans())
def test_any_key_and_amount_come_out_as_they_were_given(
    tmp_path_factory: pytest.TempPathFactory, customer: str, invoice: str, amount: Decimal, as_shown: bool
) -> None:
    r = open_in(tmp_path_factory.mktemp("two"), TWO_COLUMNS)
    key = (key_asked(r.place, [customer, invoice]),) if as_shown else (customer, invoice)
    correct(r.store(), r.config, key, {"amount": f"{amount:f}"}, "a test", NOW)
    for window in range(3):
        carry_out(r, s.Close(window))
    carry_out(r, s.Run((0, 1, 2)))
    shown = r.show(customer, invoice, events=True)
    assert Decimal(shown["measures"]["billed"]) == amount
    assert shown["contributions"][0]["event_list"][0]["correction"]["reason"] == "a test"


TWO_COLUMNS = """\
name: invoices
store: ./data
key: [customer, invoice]
windows: {start: 2026-11-01T00:00Z, every: 1h}
events: {types: {amount: "decimal(18,2)"}}
measures: {billed: {sum: amount}}
"""


def test_a_column_of_ones_own_that_is_called_correction_stays_readable(tmp_path: Path) -> None:
    text = s.STANDARD_YAML.replace("lines: {", 'corrections: {count: "*", where: "correction = \'x\'"}\n  lines: {', 1)
    r = open_in(tmp_path, text)
    correct(r.store(), r.config, ("A",), {**PAYMENT, "correction": "x"}, "why", NOW)
    processed_all = [s.Close(window) for window in range(3)]
    for operation in (*processed_all, s.Run((0, 1, 2))):
        carry_out(r, operation)
    (event,) = r.show("A", events=True)["contributions"][0]["event_list"]
    assert event["correction (column)"] == "x"
    assert event["correction"]["reason"] == "why"


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    status = main(arguments)
    return status, *capsys.readouterr()


def test_the_command_lands_a_correction_and_show_tells_it(r: Reconciliation, capsys: pytest.CaptureFixture[str]) -> None:
    config = ("--config", str(r.config.path))
    columns = [part for name, value in PAYMENT.items() for part in ("--event", f"{name}={value}")]
    status, out, _ = said(capsys, "correct", "A", *columns, "--reason", "paid in cash", "--yes", "--json", *config)
    assert status == 0
    answer: dict[str, Any] = json.loads(out)
    window, (name,) = answer["window"], answer["added"]
    assert answer["files"][0]["reason"] == "paid in cash"
    assert answer["files"][0]["by"] == operator()
    assert said(capsys, "run", *config)[0] == 0
    assert recon.open(r.config.path).status(window)["stage"] == "open"
    _, out, _ = said(capsys, "show", "A", "--events", *config)
    line = next(line for line in out.splitlines() if name in line)
    assert line.split()[-4:] == [operator(), "paid", "in", "cash"]


@pytest.mark.parametrize(
    ("arguments", "said_"),
    [
        (("A", "--event", "amount"), "--event amount: write COLUMN=VALUE, such as amount=12.50"),
        (("A", "--event", "amount=1", "--event", "amount=2"), "--event amount=2: 'amount' was given before; give it once"),
        (("A", "currency=EUR", "--event", "amount=1"), "each column of the event is written --event column=value"),
        (("A", "--event", "amount=1,5"), "amount: '1,5' is not a decimal(18,2); correct the value, nothing has landed"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line_and_exit_status_2(
    r: Reconciliation, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said_: str
) -> None:
    status, _, err = said(capsys, "correct", *arguments, "--reason", "x", "--config", str(r.config.path))
    assert status == 2
    assert said_ in err
    assert err.count("\n") == 1


def test_the_maker_cannot_be_given(r: Reconciliation, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = said(capsys, "correct", "A", "--event", "amount=1", "--reason", "x", "--by", "boss", "--config", str(r.config.path))
    assert status == 2
    assert "--by" in err


def test_the_maker_is_the_user_whose_rights_the_process_has_whatever_the_environment_says(
    r: Reconciliation, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "SUDO_USER"):
        monkeypatch.setenv(name, "the_boss")
    landed = r.correct("A", event=PAYMENT, reason="paid in cash", yes=True)
    whoami = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    assert (landed.by, landed.files[-1].by) == (whoami, whoami)


# ---- what no event had before ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "event", "wrong"),
    [
        ("B", {}, "KEY: no artifact has the key B at commit 1; keys are compared letter by letter. Correct it, or add --yes"),
        ("a", {}, "KEY: no artifact has the key a at commit 1"),
        ("A", {"currency": "EUT"}, "--event currency=EUT: no event of the newest 48 windows has this value. Did you mean EUR?"),
        (
            "A",
            {"event_type": "PAYMENT"},
            "--event event_type=PAYMENT: no event of the newest 48 windows has this value. There are INVOICE",
        ),
    ],
)
def test_a_key_or_a_text_that_no_event_had_before_needs_yes(r: Reconciliation, key: str, event: dict[str, str], wrong: str) -> None:
    known = {"event_type": "INVOICE", "amount": "123.45", "currency": "EUR"}
    before = r.state().commit, sorted(r.store().list("events/"))
    with pytest.raises(WrongUsage) as refused:
        r.correct(key, event={**known, **event}, reason="a test")
    assert str(refused.value).startswith(wrong)
    assert (r.state().commit, sorted(r.store().list("events/"))) == before, "nothing has landed"
    assert r.correct(key, event={**known, **event}, reason="a test", yes=True).files
    assert r.correct("A", event={**known, "amount": "6.78"}, reason="a test").files, "an amount may be new"


def test_a_correction_counts_at_the_next_run_and_leaves_a_window_that_is_still_filling_open(r: Reconciliation, tmp_path: Path) -> None:
    corrected(r)
    window = name_of(s.at(2))
    assert "and waits for a run: revision 1, no files and 1 correction" in r.status(window)["why"]
    assert r.run().windows == [window]
    assert r.show("A")["status"] == "MATCHED"
    told = r.status(window)
    assert (told["stage"], told["closed"], (r.certificate(window) or {})["state"]) == ("open", False, "OPEN")
    assert "not closed: no files and 1 correction" in told["why"]
    assert r.state().watermark == name_of(s.at(0))
    (tmp_path / "late.csv").write_text(s.to_csv((s.Row(order_id="B", event_id="b"),)))
    assert [file.name for file in r.land([tmp_path / "late.csv"], window).manifest.received] == ["late.csv"]
    r.close(window)
    r.run()
    assert (r.show("A")["status"], r.show("B")["status"]) == ("MATCHED", "UNPAID")
    assert (r.certificate(window) or {})["state"] == "CLOSED"
    assert r.verify(full=True).problems == []


def test_a_correction_that_is_taken_back_from_an_open_window_counts_no_more_after_the_next_run(r: Reconciliation) -> None:
    manifest = corrected(r)
    r.run()
    r.unland(manifest.files[-1].name, manifest.window, "a test")
    r.run()
    assert r.show("A")["status"] == "UNPAID"
    assert r.verify(full=True).problems == []
