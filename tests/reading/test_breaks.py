"""Breaks: their age, choosing them, sums of money, and what `recon breaks` says where not everything is known."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import strategies as s
from cli_calls import Call
from folders import CASES
from histories import open_in

import recon as library
from recon.api import Reconciliation
from recon.errors import WrongUsage
from recon.intake.corrections import correct
from recon.model.windows import name_of
from recon.planning import quarantine
from recon.reading.breaks import AGES, Chosen, amount_of

W0, W1, W2 = (name_of(s.at(window)) for window in range(3))
NO_TIME = s.STANDARD_YAML.replace("  time: booked_at\n", "").replace("  opening: {first: amount}\n  latest: {last: event_type}\n", "")
ONE_CURRENCY = NO_TIME.replace(", by: currency", "")


def land(r: Reconciliation, window: int, rows: Sequence[s.Row], name: str = "a") -> None:
    path = r.config.path.parent / f"{name}{window}.csv"
    path.write_text(s.to_csv(tuple(rows)))
    r.land([path], name_of(s.at(window)), close=True, again=True)


def invoice(key: str, amount: str = "10.00", booked_at: str = "2026-11-01T00:10:00Z", **other: Any) -> s.Row:
    return s.Row(order_id=key, event_id=f"i-{key}", amount=amount, booked_at=booked_at, **other)


def ages(r: Reconciliation, **moment: str) -> dict[str, int]:
    return {row["key"]: row["age_days"] for row in r.breaks(**moment).to_pylist()}


def days_since(instant: str) -> int:
    return (datetime.now(UTC) - datetime.fromisoformat(instant)).days


# ---- age -------------------------------------------------------------------------------------------------------------


def test_the_age_of_a_break_runs_from_the_time_of_its_first_event_to_now(tmp_path: Path) -> None:
    r = open_in(tmp_path)
    late = s.Row(order_id="B", event_id="b2", event_type="PAYMENT", amount="1.00", booked_at="2026-09-20T12:00:00Z")
    land(r, 0, [invoice("A", booked_at="2026-10-20T12:00:00Z"), invoice("B")])
    land(r, 1, [late, invoice("C", booked_at="2026-11-01T01:10:00Z")])
    r.run()
    begun = {"A": "2026-10-20T12:00:00Z", "B": "2026-09-20T12:00:00Z", "C": "2026-11-01T01:10:00Z"}
    assert ages(r) == {key: days_since(since) for key, since in begun.items()}
    assert {row["key"]: row["since"].isoformat() for row in r.breaks().to_pylist()} == {
        key: datetime.fromisoformat(since).isoformat() for key, since in begun.items()
    }


def test_without_a_time_the_age_of_a_break_runs_from_the_start_of_its_first_window(tmp_path: Path) -> None:
    r = open_in(tmp_path, NO_TIME)
    land(r, 0, [invoice("A")])
    r.run()
    assert ages(r) == {"A": days_since(s.START.isoformat())}


def test_an_event_without_a_time_counts_as_of_its_window(tmp_path: Path) -> None:
    r = open_in(tmp_path)
    land(r, 0, [s.Row(order_id="A", booked_at=None)])
    r.run()
    assert ages(r) == {"A": days_since(s.START.isoformat())}


def test_the_age_of_a_break_as_of_a_time_ends_there(tmp_path: Path) -> None:
    r = open_in(tmp_path)
    land(r, 0, [invoice("A", booked_at="2026-10-20T00:30:00Z"), invoice("F", booked_at="2026-11-07T00:00:00Z")])
    r.run()
    assert ages(r, as_of=W1) == {"A": 12, "F": 0}, "the twelfth day was full at 00:30; what is dated later is of age 0"
    assert ages(r, through=W0) == {"A": 12, "F": 0}
    assert ages(r, known_at=r.state().time)["A"] == days_since("2026-10-20T00:30:00Z")


def test_a_correction_moves_no_age(tmp_path: Path) -> None:
    r = open_in(tmp_path)
    land(r, 0, [invoice("A"), invoice("B")])
    r.run()
    before = ages(r)
    event = {"event_type": "PAYMENT", "amount": "1.00", "currency": "EUR", "booked_at": "2026-01-01T00:00:00Z"}
    correct(r.store(), r.config, ("A",), event, "a test", s.at(2) + timedelta(minutes=5))
    r.run()
    assert r.show("A")["measures"]["paid"] == "1.00"
    assert ages(r) == before


def test_the_age_of_a_key_that_only_a_correction_made_runs_from_the_correction(tmp_path: Path) -> None:
    r = open_in(tmp_path)
    event = {"event_type": "INVOICE", "amount": "1.00", "currency": "EUR"}
    correct(r.store(), r.config, ("NEW",), event, "a test", s.at(1) + timedelta(minutes=5))
    r.run()
    assert ages(r) == {"NEW": days_since((s.at(1) + timedelta(minutes=5)).isoformat())}


# ---- choosing --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chosen_from(tmp_path_factory: pytest.TempPathFactory) -> Reconciliation:
    r = open_in(tmp_path_factory.mktemp("chosen"), ONE_CURRENCY)
    paid = s.Row(order_id="C", event_id="p", event_type="PAYMENT", amount="500.00")
    land(r, 0, [invoice("A", "10.00"), invoice("B", "99.50"), invoice("C", "100.00"), paid])
    land(r, 1, [invoice("D", "2000.00")])
    r.run()
    return r


def keys(r: Reconciliation, chosen: Chosen, **moment: str) -> list[str]:
    return [row["key"] for row in r.breaks(chosen, **moment).to_pylist()]


def test_breaks_are_chosen_by_status_amount_and_age_and_ordered_by_any_column(chosen_from: Reconciliation) -> None:
    r = chosen_from
    assert amount_of(r.config) == "balance"
    assert keys(r, Chosen()) == ["C", "A", "B", "D"]
    assert keys(r, Chosen(status=["UNPAID"])) == ["A", "B", "D"]
    assert keys(r, Chosen(min_amount="99.50")) == ["C", "B", "D"], "an overpayment of 400.00 is as large as it is"
    assert keys(r, Chosen(min_amount="99.501")) == ["C", "D"]
    assert keys(r, Chosen(sort="balance")) == ["D", "C", "B", "A"]
    assert keys(r, Chosen(sort="key", limit=2)) == ["A", "B"]
    assert keys(r, Chosen(min_age=days_since(s.START.isoformat()) + 1)) == []
    assert keys(r, Chosen(), through=W0) == ["C", "A", "B"]
    for wrong, said in (
        (Chosen(min_amount="much"), "--min much: this is not an amount"),
        (Chosen(sort="size"), "--sort size: there is no such"),
    ):
        with pytest.raises(WrongUsage, match=said):
            r.breaks(wrong)


def test_the_summary_sums_money_by_status_and_age(chosen_from: Reconciliation, recon: Call) -> None:
    r = chosen_from
    lines = r.breaks_summary()
    assert [(line["status"], line["artifacts"], line["amounts"]) for line in lines] == [
        ("BREAK", 1, {"": {"net": "-400.00", "gross": "400.00"}}),
        ("UNPAID", 3, {"": {"net": "2109.50", "gross": "2109.50"}}),
    ]
    assert {line["age"] for line in lines} <= {name for _, name in AGES}
    config = ("--config", str(r.config.path))
    out = " ".join(recon("breaks", "--status", "UNPAID", "--min", "50", "--sort", "balance", "--limit", "1", *config).out.split())
    assert "2 breaks" in out  # the limit shortens the list, not the sums
    assert "2,000.00" in out
    assert "1 more: recon breaks breaks.xlsx" in out
    answer = recon("breaks", "--status", "LOST", *config)
    assert (answer.status, answer.line) == (
        2,
        "--status LOST: no artifact can have this status; there are BREAK, MATCHED, UNPAID",
    )
    told = recon("breaks", "--through", W0, "--json", *config).json
    assert sum(line["artifacts"] for line in told["summary"]) == 3


LARGE = """
import pyarrow as pa
import pyarrow.compute as pc

def judge(table, stage):
    if stage == "reduce":
        return table
    status = pc.if_else(pc.greater(table["m_billed"], 100), "LARGE", table["status"])
    return table.set_column(table.schema.get_field_index("status"), "status", status.cast(pa.string()))
"""


def test_a_status_that_logic_set_at_an_earlier_moment_can_be_chosen(tmp_path: Path, recon: Call) -> None:
    (tmp_path / "large.py").write_text(LARGE)
    r = open_in(tmp_path, s.STANDARD_YAML + "logic: large:judge\n")
    land(r, 0, [invoice("A", "200.00")])
    land(r, 1, [replace(invoice("A", "-200.00"), event_id="credit")])
    r.run()
    found = r.breaks(Chosen(status=("LARGE",)), through=W0)
    assert found["key"].to_pylist() == ["A"]
    config = ("--config", str(r.config.path))
    assert [row["key"] for row in recon("breaks", "--status", "LARGE", "--through", W0, "--json", *config).json["breaks"]] == ["A"]
    for moment in ({}, {"through": W0}):
        with pytest.raises(WrongUsage, match="--status LARG: no artifact can have this status"):
            r.breaks(Chosen(status=("LARG",)), **moment)


def test_the_status_of_mixed_currencies_is_known_before_there_is_such_an_artifact(tmp_path: Path) -> None:
    r = open_in(tmp_path, s.STANDARD_YAML.replace("events:\n", "events:\n  currency: currency\n"))
    land(r, 0, [invoice("A")])
    r.run()
    assert r.breaks(Chosen(status=("MIXED_CURRENCY",))).num_rows == 0


def test_money_is_never_summed_over_currencies_that_are_not_known(tmp_path: Path, recon: Call) -> None:
    r = open_in(tmp_path)
    land(r, 0, [invoice("A", currency="EUR"), invoice("B", currency="USD")])
    r.run()
    assert [line["amounts"] for line in r.breaks_summary()] == [{}]
    assert "no sums of money" in recon("breaks", "--config", str(r.config.path)).out


# ---- what is so ------------------------------------------------------------------------------------------------------


def site(tmp_path: Path, case: str) -> tuple[Path, tuple[str, str]]:
    folder = tmp_path / case
    shutil.copytree(CASES / case, folder)
    return folder, ("--config", str(folder / "recon.yaml"))


def test_a_run_whose_every_row_was_rejected_says_so_and_breaks_do_not_call_everything_matched(tmp_path: Path, recon: Call) -> None:
    """Case every-row-rejected."""
    folder, config = site(tmp_path, "every-row-rejected")
    assert recon("land", str(folder / "trailing.csv"), "-w", W0, "--close", *config).status == 0
    ran = recon("run", *config)
    assert (ran.status, ran.line) == (1, f"window {W0}: every row was rejected, nothing of it counts; 'recon rejects {W0}' says why")
    for command in (("breaks",), ("breaks", str(folder / "breaks.csv")), ("status",), ("status", W0), ("export", str(folder / "all.csv"))):
        answer = recon(*command, *config)
        assert (command, answer.status) == (command, 1)
        assert "every row" in answer.err
        assert "everything is matched" not in answer.out
    assert json.loads(recon("breaks", "--json", *config).out)["caveats"][0]["kind"] == "all_rejected"


def test_before_anything_was_processed_no_command_calls_it_matched_or_clean(tmp_path: Path, recon: Call) -> None:
    folder, config = site(tmp_path, "stdout-closed")
    assert recon("land", str(folder / "p.csv"), "-w", W0, "--close", *config).status == 0
    for command in (("breaks",), ("export", str(folder / "all.csv")), ("rejects",), ("rejects", W0), ("certificate", W0), ("duplicates",)):
        answer = recon(*command, *config)
        assert (command, answer.status) == (command, 1)
        assert "everything is matched" not in answer.out
        assert "no rejected rows" not in answer.out
        assert "no duplicates" not in answer.out
    status = recon("status", *config)
    assert status.status == 0
    assert "waiting for a run: 1 closed window" in status.out


def test_everything_is_matched_only_where_nothing_waits_or_is_missing(tmp_path: Path, recon: Call) -> None:
    r = open_in(tmp_path)
    config = ("--config", str(r.config.path))
    paid = s.Row(order_id="A", event_id="p", event_type="PAYMENT", amount="10.00")
    land(r, 0, [invoice("A"), paid])
    r.run()
    assert recon("breaks", *config).out == "no breaks: everything is matched (1 artifact)\n"
    (tmp_path / "more.csv").write_text(s.to_csv((invoice("B"),)))
    r.land([tmp_path / "more.csv"], W1, again=True)
    answer = recon("breaks", *config)
    assert answer.status == 0
    assert answer.out == (
        f"no breaks among the 1 artifact so far\nnote: window {W1} is open and holds files; close a complete window with 'recon close W'\n"
    )
    r.close(W1)
    assert f"note: window {W1} waits for 'recon run'" in recon("breaks", *config).out
    assert recon("breaks", "--status", "UNPAID", *config).out.startswith("no breaks of this kind\n")


def test_under_changed_rules_status_says_what_to_do_and_fails_and_breaks_go_by_the_rules_of_the_state(tmp_path: Path, recon: Call) -> None:
    r = open_in(tmp_path)
    land(r, 0, [invoice("A")])
    r.run()
    land(r, 1, [invoice("B")])
    path = r.config.path
    path.write_text(path.read_text().replace("UNPAID", "UNSETTLED"))
    config = ("--config", str(path))
    status = recon("status", *config)
    assert status.status == 1
    assert "waiting for a run: nothing\n" not in status.out
    assert "nothing can run until 'recon rebuild'" in status.out
    assert "the rules in recon.yaml changed since commit 1" in status.err
    assert recon("status", W1, *config).status == 1
    answer = recon("breaks", *config)
    assert answer.status == 1
    assert "UNPAID" in answer.out
    assert recon("run", *config).status == 2
    library.open(path).rebuild()
    assert recon("status", *config).status == 0


def test_amounts_are_exact_beyond_what_a_float_holds(tmp_path: Path) -> None:
    r = open_in(tmp_path, ONE_CURRENCY)
    land(r, 0, [invoice("A", "9999999999999999.99"), invoice("B", "0.01")])
    r.run()
    (line,) = r.breaks_summary()
    assert Decimal(line["amounts"][""]["net"]) == Decimal("10000000000000000.00")
    assert keys(r, Chosen(min_amount="9999999999999999.99")) == ["A"]


def test_money_is_summed_per_currency_where_the_events_say_which(tmp_path: Path, recon: Call) -> None:
    r = open_in(tmp_path, NO_TIME.replace("  id: event_id\n", "  id: event_id\n  currency: currency\n"))
    mixed = (invoice("M", "1.00", currency="EUR"), s.Row(order_id="M", event_id="m", amount="2.00", currency="USD"))
    land(r, 0, [invoice("A", "10.00", currency="EUR"), invoice("B", "20.00", currency="USD"), invoice("C", "5.00", currency="EUR"), *mixed])
    r.run()
    found = {line["status"]: line["amounts"] for line in r.breaks_summary()}
    assert found["UNPAID"] == {"EUR": {"net": "15.00", "gross": "15.00"}, "USD": {"net": "20.00", "gross": "20.00"}}
    assert found["MIXED_CURRENCY"] == {}, "amounts of two currencies have no sum"
    answer = recon("breaks", "--status", "MIXED_CURRENCY", "--config", str(r.config.path))
    assert answer.status == 0
    assert answer.out.startswith("1 break\n")


def test_a_closed_window_that_cannot_be_read_keeps_everything_from_being_matched(tmp_path: Path, recon: Call) -> None:
    r = open_in(tmp_path)
    land(r, 0, [invoice("A"), invoice("A", event_type="PAYMENT")])
    r.run()
    land(r, 1, [invoice("B")])
    (manifest,) = (tmp_path / "data" / "events" / W1.replace(":", "") / "manifests").iterdir()
    manifest.chmod(0o600)
    manifest.write_bytes(manifest.read_bytes()[:40])
    answer = recon("breaks", "--config", str(r.config.path))
    assert answer.status == 1
    assert f"window {W1} cannot be read" in answer.err
    assert "everything is matched" not in answer.out


def test_a_quarantined_window_is_named_however_many_wait_before_it(tmp_path: Path) -> None:
    r = open_in(tmp_path)
    land(r, 150, [invoice("A")])
    name = name_of(s.at(150))
    quarantine.put(r.store(), s.at(150), name, 1, r.config.rules_version, "its totals do not tie")
    for window in range(120):
        land(r, window, [invoice(f"K{window}")])
    (found,) = [one for one in r.caveats() if one.kind == "quarantined"]
    assert (found.windows, found.wrong) == ((name,), True)


def test_an_artifact_of_two_currencies_is_no_small_break(tmp_path: Path, recon: Call) -> None:
    (tmp_path / "recon.yaml").write_text(s.STANDARD_YAML.replace("  id: event_id\n", "  id: event_id\n  currency: currency\n", 1))
    r = library.open(tmp_path / "recon.yaml")
    land(r, 0, [invoice("M", "1000000.00", currency="EUR"), replace(invoice("M", "1000000.00", currency="USD"), event_id="other")])
    r.run()
    assert r.show("M")["status"] == "MIXED_CURRENCY"
    out = recon("breaks", "--min", "100", "--config", str(r.config.path)).out
    assert "MIXED_CURRENCY" in out
    assert "name its column under" not in out
