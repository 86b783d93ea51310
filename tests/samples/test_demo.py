"""The story's texts against its files, reconciled here in plain Python."""

from __future__ import annotations

import csv
import json
from collections import Counter
from decimal import Decimal, InvalidOperation
from pathlib import Path

import pytest

from recon.errors import WrongUsage
from recon.samples.scenario import START, STORY, WINDOWS, Step, write_sample, write_story

Event = dict[str, str]
Landed = dict[str, list[Path]]


def read(path: Path) -> list[Event]:
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    return [json.loads(line) for line in path.read_text().splitlines()]


def amount_of(event: Event) -> Decimal | None:
    try:
        return Decimal(event["amount"])
    except InvalidOperation:
        return None


def status_of(events: list[Event]) -> str:
    sums: Counter[str] = Counter()
    for event in events:
        sums[event["event_type"]] += amount_of(event)  # type: ignore[assignment,arg-type]
    balance = sums["INVOICE"] + sums["REFUND"] - sums["PAYMENT"] - sums["FEE"]
    if balance == 0:
        return "MATCHED"
    if balance < 0:
        return "OVERPAID"
    if "PAYMENT" not in sums:
        return "UNPAID"
    return "FEE_SHORT" if balance <= round(sums["INVOICE"] * Decimal("0.03"), 2) else "PART_PAID"


class Outcome:
    """What holds after a run: statuses by order, rejected rows, duplicates."""

    def __init__(self, landed: Landed) -> None:
        self.rejected: list[Event] = []
        self.duplicates: list[Event] = []
        orders: dict[str, dict[str, Event]] = {}
        for event in (event for window in sorted(landed) for path in landed[window] for event in read(path)):
            if amount_of(event) is None:
                self.rejected.append(event)
            elif event["event_id"] in orders.setdefault(event["order_id"], {}):
                self.duplicates.append(event)
            else:
                orders[event["order_id"]][event["event_id"]] = event
        self.statuses = {order: status_of(list(events.values())) for order, events in orders.items()}
        self.counts = Counter(self.statuses.values())


def follow(folder: Path, steps: tuple[Step, ...]) -> list[Outcome]:
    landed: Landed = {}
    outcomes = []
    for step in steps:
        paths = [folder / file for file in step.files]
        if step.action == "land":
            landed.setdefault(step.window, []).extend(paths)
        elif step.action == "replace":
            (place,) = [n for n, path in enumerate(landed[step.window]) if path.name == step.old]
            landed[step.window][place : place + 1] = paths
        else:
            outcomes.append(Outcome(landed))
            assert set(step.look_at) <= set(outcomes[-1].statuses)
    return outcomes


@pytest.fixture
def outcomes(tmp_path: Path) -> list[Outcome]:
    return follow(tmp_path, write_story(tmp_path))


def test_after_two_hours_all_five_statuses_occur_as_the_story_tells(outcomes: list[Outcome]) -> None:
    first = outcomes[0]
    assert first.counts == {"MATCHED": 13, "UNPAID": 5, "FEE_SHORT": 1, "OVERPAID": 1, "PART_PAID": 1}
    told = {"US-48211": "MATCHED", "US-48212": "FEE_SHORT", "US-48214": "OVERPAID", "UK-20424": "PART_PAID"}
    assert {order: first.statuses[order] for order in told} == told
    assert (first.rejected, first.duplicates) == ([], [])


def test_without_the_late_hour_four_orders_look_overpaid_and_two_rows_are_rejected(outcomes: list[Outcome]) -> None:
    second = outcomes[1]
    assert second.counts["OVERPAID"] == 5
    late = ["US-48224", "DE-77117", "UK-20429", "DE-77119"]
    assert [second.statuses[order] for order in late] == ["OVERPAID"] * 4
    assert second.statuses["DE-77123"] == "UNPAID"
    assert second.statuses["US-48214"] == "MATCHED"
    assert sorted(event["amount"] for event in second.rejected) == ["49,90", "TBC"]
    assert len(second.duplicates) == 12


def test_the_late_hour_settles_them(outcomes: list[Outcome]) -> None:
    third = outcomes[2]
    assert [third.statuses[order] for order in ("US-48224", "DE-77117", "UK-20429", "DE-77119")] == ["MATCHED"] * 4
    assert sum(third.counts.values()) == 47


def test_the_correction_changes_exactly_two_orders(outcomes: list[Outcome]) -> None:
    third, last = outcomes[2], outcomes[3]
    changed = {order for order, status in last.statuses.items() if third.statuses[order] != status}
    assert changed == {"DE-77123", "DE-77126"}
    assert last.counts == {"MATCHED": 36, "UNPAID": 5, "FEE_SHORT": 3, "PART_PAID": 2, "OVERPAID": 1}
    assert [event["order_id"] for event in last.rejected] == ["UK-20441"]
    assert "UK-20441" not in last.statuses


def test_the_story_lands_every_file_it_writes_and_all_three_entities_and_two_currencies_occur(tmp_path: Path) -> None:
    steps = write_story(tmp_path)
    events = [file for step in steps for file in step.files]
    assert sorted(events) == sorted(f"events/{path.name}" for path in (tmp_path / "events").iterdir())
    assert [step.window for step in steps if step.action == "land"] == [WINDOWS[place] for place in (0, 1, 3, 4, 2)]
    rows = [event for file in events for event in read(tmp_path / file)]
    assert {row["entity"] for row in rows} == {"US", "UK", "DE"}
    assert {row["currency"] for row in rows} == {"USD", "EUR"}


def test_events_are_booked_in_the_window_their_file_is_landed_in_but_for_those_delivered_again(tmp_path: Path) -> None:
    for step in write_story(tmp_path):
        rows = [event for file in step.files for event in read(tmp_path / file)]
        again = [event for event in rows if not event["booked_at"].startswith(step.window[:13])]
        assert len(again) == (12 if step.window == WINDOWS[4] else 0)


def test_the_sample_comes_out_as_it_says(tmp_path: Path) -> None:
    (outcome,) = follow(tmp_path, write_sample(tmp_path))
    assert {order for order, status in outcome.statuses.items() if status == "MATCHED"} == {"A112", "B243"}
    assert outcome.statuses["A113"] == "UNPAID"
    assert "short by 1.45" in START[-1].text


def test_writing_again_changes_nothing_and_another_file_of_a_name_is_never_overwritten(tmp_path: Path) -> None:
    write_story(tmp_path)
    assert write_story(tmp_path) == STORY
    (tmp_path / "recon.yaml").write_text("name: mine\n")
    with pytest.raises(WrongUsage, match=r"recon\.yaml: there is another file"):
        write_sample(tmp_path)
    assert (tmp_path / "recon.yaml").read_text() == "name: mine\n"
    assert not (tmp_path / "events" / "orders-0000.csv").exists()
