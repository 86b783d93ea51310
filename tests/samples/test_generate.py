"""The generator's answers against its own files, counted in plain Python."""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recon.errors import WrongUsage
from recon.samples.generator import FORMATS, Sample, generate

Event = dict[str, Any]


def read(path: Path) -> list[Event]:
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    return [
        {**row, "amount": str(row["amount"]), "booked_at": row["booked_at"].strftime("%Y-%m-%dT%H:%M:%SZ")}
        for row in pq.read_table(path).to_pylist()
    ]


def amount_of(event: Event) -> Decimal | None:
    try:
        amount = Decimal(event["amount"])
    except InvalidOperation:
        return None
    return amount if amount == amount.quantize(Decimal("0.01")) else None


def is_good(event: Event) -> bool:
    return amount_of(event) is not None and event["order_id"] != "" and event["booked_at"] != "yesterday"


def start_of(window: str) -> datetime:
    return datetime.strptime(window, "%Y-%m-%dT%H:%MZ").replace(tzinfo=UTC)


def count(out: Path) -> dict[str, Any]:
    """Reads every file and reconciles it as the laws say, one row after the other."""
    windows: dict[str, Any] = {}
    first_seen: dict[tuple[str, str], datetime] = {}
    orders: dict[str, Any] = defaultdict(lambda: {"billed": Decimal(0), "paid": None, "lines": 0})
    for window, files in sorted(json.loads((out / "files.json").read_text()).items()):
        seen: set[tuple[str, str]] = set()
        figures: Counter[str] = Counter()
        money: Counter[tuple[str, str]] = Counter()
        keys = set()
        for event in (event for file in files for event in read(out / file)):
            identity = (event["order_id"], event["event_id"])
            if not is_good(event):
                kinds = ["rows", "rejected"]
            elif identity in seen:
                kinds = ["rows", "duplicates", "duplicates_within"]
            elif identity in first_seen:
                assert start_of(window) - first_seen[identity] <= timedelta(days=31)
                kinds = ["rows", "duplicates", "duplicates_earlier"]
            else:
                kinds = ["rows", "accepted"]
                first_seen[identity] = start_of(window)
                order = orders[event["order_id"]]
                order["currency"] = event["currency"]
                order["lines"] += 1
                side = "billed" if event["event_type"] == "INVOICE" else "paid"
                order[side] = (order[side] or 0) + amount_of(event)
            if is_good(event):
                seen.add(identity)
                keys.add(event["order_id"])
            for kind in kinds:
                figures[kind] += 1
                money[event["currency"], kind] += amount_of(event) or 0
        windows[window] = (figures, money, keys)
    return {"windows": windows, "orders": orders}


def assert_answers_hold(out: Path, answers: dict[str, Any]) -> None:
    counted = count(out)
    for window, expected in answers["windows"].items():
        figures, money, keys = counted["windows"].get(window, (Counter(), Counter(), set()))
        assert expected["keys"] == len(keys)
        for kind in ("rows", "accepted", "duplicates", "duplicates_within", "duplicates_earlier", "rejected"):
            assert expected[kind] == figures[kind], (window, kind)
            for currency, amounts in expected["amount"].items():
                assert Decimal(amounts[kind]) == money[currency, kind], (window, kind, currency)
        assert expected["rows"] == expected["accepted"] + expected["duplicates"] + expected["rejected"]
    for kind in ("rows", "accepted", "duplicates", "rejected"):
        assert answers["totals"][kind] == sum(window[kind] for window in answers["windows"].values())

    rows = {row["key"]: row for row in pq.read_table(out / "answers.parquet").to_pylist()}
    assert set(rows) == set(counted["orders"])
    statuses: Counter[str] = Counter()
    for key, order in counted["orders"].items():
        balance = order["billed"] - (order["paid"] or 0)
        status = "MATCHED" if balance == 0 else "UNPAID" if order["paid"] is None else "BREAK"
        statuses[status] += 1
        assert rows[key] == {"key": key, "status": status, "balance": balance, **order}
    assert {status: n for status, n in answers["artifacts"]["by_status"].items() if n} == statuses
    assert answers["artifacts"]["count"] == len(rows)
    for name in ("billed", "paid"):
        assert Decimal(answers["measures"][name]) == sum(order[name] or 0 for order in counted["orders"].values())
        by_currency = [Decimal(sums[name]) for sums in answers["measures_by_currency"].values()]
        assert sum(by_currency) == Decimal(answers["measures"][name])
    assert answers["measures"]["lines"] == sum(order["lines"] for order in counted["orders"].values())


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    events=st.integers(1, 300),
    keys=st.integers(1, 100),
    windows=st.integers(1, 60),
    seed=st.integers(0, 2**32),
    every=st.sampled_from(["15m", "1h", "1d"]),
    formats=st.lists(st.sampled_from(FORMATS), min_size=1, unique=True).map(tuple),
    duplicate_share=st.sampled_from([0, 0.05, 0.3]),
    reject_share=st.sampled_from([0, 0.05, 0.3]),
)
def test_the_answers_are_what_counting_the_files_gives(tmp_path_factory, events, keys, **arguments):  # type: ignore[no-untyped-def]
    out = tmp_path_factory.mktemp("generated")
    keys = min(keys, max(1, events // 3))
    answers = generate(Sample(events=events, keys=keys, **arguments), out)
    assert_answers_hold(out, answers)
    assert json.loads((out / "answers.json").read_text()) == answers


def test_matched_unpaid_and_broken_orders_duplicates_of_both_kinds_and_rejects_all_occur(tmp_path: Path) -> None:
    answers = generate(Sample(5_000, 1_500, 6, 1), tmp_path / "out")
    assert all(count > 0 for count in answers["artifacts"]["by_status"].values())
    assert answers["totals"]["duplicates_within"] > 0
    assert answers["totals"]["duplicates_earlier"] > 0
    assert answers["totals"]["rejected"] == 5
    assert answers["totals"]["rows"] == 5_000
    assert len(list((tmp_path / "out" / "events").rglob("orders-*"))) == 18


def test_the_same_arguments_give_the_same_bytes_and_another_seed_gives_others(tmp_path: Path) -> None:
    def digest(out: Path) -> str:
        texts = [path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()]
        return sha256(b"".join(texts)).hexdigest()

    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        generate(Sample(1_000, 200, 4, seed), tmp_path / name)
    assert digest(tmp_path / "a") == digest(tmp_path / "b") != digest(tmp_path / "c")


def test_duplicates_across_windows_reach_as_far_as_the_horizon_of_31_days_and_no_further(tmp_path: Path) -> None:
    generate(Sample(3_000, 500, 100, 2, every="1d", duplicate_share=0.3), tmp_path / "out")
    landed: dict[str, set[datetime]] = defaultdict(set)
    for window, files in json.loads((tmp_path / "out" / "files.json").read_text()).items():
        for event in (event for file in files for event in read(tmp_path / "out" / file) if is_good(event)):
            landed[event["event_id"]].add(start_of(window))
    distances = {(max(windows) - min(windows)).days for windows in landed.values()}
    assert distances == set(range(32))


def test_every_event_lies_in_the_time_of_the_window_that_it_first_lands_in(tmp_path: Path) -> None:
    generate(Sample(2_000, 500, 4, 3, duplicate_share=0), tmp_path / "out")
    for window, files in json.loads((tmp_path / "out" / "files.json").read_text()).items():
        for event in (event for file in files for event in read(tmp_path / "out" / file) if is_good(event)):
            booked = datetime.strptime(event["booked_at"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
            assert start_of(window) <= booked < start_of(window) + timedelta(hours=1)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"events": 0}, "events"),
        ({"keys": 100}, "keys"),
        ({"windows": 0}, "windows"),
        ({"seed": -1}, "seed"),
        ({"formats": ("xml",)}, "formats"),
        ({"formats": ()}, "formats"),
        ({"duplicate_share": 0.5}, "duplicate_share"),
        ({"reject_share": -0.1}, "reject_share"),
        ({"start": "2026-11-01T00:30Z"}, "windows.start"),
        ({"every": "7h"}, "windows.every"),
    ],
)
def test_arguments_that_cannot_be_met_are_named(tmp_path: Path, arguments: dict[str, Any], names: str) -> None:
    with pytest.raises(WrongUsage, match=f"^{names}: ") as caught:
        generate(Sample(**{"events": 100, "keys": 10, "windows": 2, "seed": 1, **arguments}), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(WrongUsage, match="there is something already"):
        generate(Sample(100, 10, 2, 1), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
