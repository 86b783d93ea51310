"""The examples through the whole pipeline, by the Python API that users have, each in a copy of its folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from example_readers import ACH, ach, transactions
from folders import EXAMPLES

import recon
from recon.samples.generator import Sample, generate
from recon.samples.scenario import write_sample, write_story


def opened(name: str, tmp_path: Path) -> tuple[Any, Path]:
    folder = tmp_path / name
    shutil.copytree(EXAMPLES / name, folder)
    return recon.open(folder / "recon.yaml"), folder


def statuses(reconciliation: Any) -> dict[str, str]:
    table = reconciliation.artifacts()
    return dict(zip(table["key"].to_pylist(), table["status"].to_pylist(), strict=True))


def test_the_seed_batch_gives_25_and_50_and_the_same_after_a_replay(tmp_path: Path) -> None:
    r, folder = opened("seed-batch", tmp_path)
    window = "2026-11-01T00:00Z"
    r.land([folder / "data" / "example-input.csv"], window=window, close=True)
    r.run()
    shown = {key: r.show(key) for key in ("A112", "B242")}
    assert {key: one["measures"]["total"] for key, one in shown.items()} == {"A112": "25.00", "B242": "50.00"}
    assert {key: one["measures"]["lines"] for key, one in shown.items()} == {"A112": 2, "B242": 1}
    r.replay(window)
    r.run()
    assert {key: r.show(key)["measures"] for key in shown} == {key: one["measures"] for key, one in shown.items()}


@pytest.mark.parametrize("by_day", [False, pytest.param(True, marks=pytest.mark.soak)], ids=["one window", "by day, 151 windows"])
def test_the_two_sides_of_the_transactions_match_11499_times(tmp_path: Path, by_day: bool) -> None:
    r, folder = opened("transactions", tmp_path)
    for window, files in transactions.prepare(folder / "data", folder / "events", by_day=by_day).items():
        r.land(files, window=window, close=True)
    r.run()
    table = r.artifacts()
    assert len(table) == 45_326
    assert Counter(table["status"].to_pylist()) == {"MATCHED": 11_499, "DIFFERENT": 33_827}
    sums = {name: sum(table[name].to_pylist(), Decimal(0)) for name in ("sent", "received", "difference")}
    assert sums["sent"] == Decimal("460426948.22")
    assert sums["received"] == Decimal("460397801.54")
    assert sums["difference"] == Decimal("29146.68")


def test_a_payment_is_in_transit_as_of_the_day_before_it_arrives(tmp_path: Path) -> None:
    r, folder = opened("transactions", tmp_path)
    prepared = transactions.prepare(folder / "data", folder / "events", by_day=True)
    # Payment 1 was sent on 14 February 2022 and arrived on the 16th.
    for window in ("2022-02-14T00:00Z", "2022-02-16T00:00Z"):
        r.land(prepared[window], window=window, close=True)
    r.run()
    assert r.show("1", through="2022-02-14T00:00Z")["status"] == "IN_TRANSIT"
    shown = r.show("1")
    assert shown["measures"]["sent_on"] == "2022-02-14"
    assert shown["measures"]["received_on"] == "2022-02-16"
    assert [one["window"] for one in shown["contributions"]] == ["2022-02-14T00:00Z", "2022-02-16T00:00Z"]


def test_all_200_ach_batches_tie_and_one_changed_digit_breaks_exactly_its_batch(tmp_path: Path) -> None:
    r, folder = opened("ach", tmp_path)
    window = "2026-05-08T00:00Z"
    ach.write_events(ACH, folder / "events" / "PPD-200.parquet")
    r.land([folder / "events" / "PPD-200.parquet"], window=window, close=True)
    r.run()
    table = r.artifacts()
    assert Counter(table["status"].to_pylist()) == {"MATCHED": 200}
    assert sum(table["credit"].to_pylist(), Decimal(0)) == Decimal("201233987.66")
    assert sum(table["declared_credit"].to_pylist(), Decimal(0)) == Decimal("201233987.66")
    assert sum(table["declared_debit"].to_pylist(), Decimal(0)) == 0
    assert sum(table["entries"].to_pylist()) == 100_199

    ach.change_digit(ACH, folder / "changed.ach", line=93_000, position=37)
    ach.write_events(folder / "changed.ach", folder / "events" / "changed.parquet")
    r.land([folder / "events" / "changed.parquet"], window=window, replace="PPD-200.parquet", close=True)
    r.run()
    assert [key for key, status in statuses(r).items() if status == "BREAK"] == ["0000002"]
    assert r.show("0000002")["derived"]["credit_off"] == "1.00"


def test_the_story_comes_out_as_its_steps_tell(tmp_path: Path) -> None:
    steps = write_story(tmp_path)
    r = recon.open(tmp_path / "recon.yaml")
    found = []
    for step in steps:
        files = [tmp_path / file for file in step.files]
        if step.action == "land":
            r.land(files, window=step.window, close=True)
        elif step.action == "replace":
            r.land(files, window=step.window, replace=step.old, close=True)
        else:
            r.run()
            found.append(statuses(r))
    assert Counter(found[0].values()) == {"MATCHED": 13, "UNPAID": 5, "FEE_SHORT": 1, "OVERPAID": 1, "PART_PAID": 1}
    assert found[1]["US-48224"] == "OVERPAID"
    assert found[2]["US-48224"] == "MATCHED"
    changed = {order for order in found[3] if found[3][order] != found[2][order]}
    assert changed == {"DE-77123", "DE-77126"}
    assert Counter(found[3].values()) == {"MATCHED": 36, "UNPAID": 5, "FEE_SHORT": 3, "PART_PAID": 2, "OVERPAID": 1}


def test_the_sample_of_init_comes_out_as_it_says(tmp_path: Path) -> None:
    steps = write_sample(tmp_path)
    r = recon.open(tmp_path / "recon.yaml")
    for step in steps:
        if step.action == "land":
            r.land([tmp_path / file for file in step.files], window=step.window, close=True)
    r.run()
    assert statuses(r) == {"A112": "MATCHED", "A113": "UNPAID", "B242": "BREAK", "B243": "MATCHED"}
    assert r.show("B242")["derived"]["balance"] == "1.45"


def test_generated_events_give_the_known_answers_key_by_key(tmp_path: Path) -> None:
    out = tmp_path / "generated"
    answers = generate(Sample(20_000, 6_000, 8, 11, duplicate_share=0.05, reject_share=0.01), out)
    r = recon.open(out / "recon.yaml")
    for window, files in json.loads((out / "files.json").read_text()).items():
        r.land([out / file for file in files], window=window, close=True)
    r.run()
    columns = ["key", "status", "billed", "paid", "lines", "balance"]
    expected = pq.read_table(out / "answers.parquet").select(columns).sort_by("key")
    assert r.artifacts().select(columns).sort_by("key").to_pylist() == expected.to_pylist()
    assert Counter(statuses(r).values()) == answers["artifacts"]["by_status"]


def test_user_logic_names_the_cause_of_each_break(tmp_path: Path) -> None:
    r, folder = opened("logic", tmp_path)
    r.land([folder / "events.csv"], window="2026-11-01T00:00Z", close=True)
    r.run()
    table = r.artifacts()
    causes = dict(zip(table["key"].to_pylist(), table["cause"].to_pylist(), strict=True))
    assert causes == {
        "INV-1": None,
        "INV-2": "two digits swapped",
        "INV-3": "decimal point slipped",
        "INV-4": "unexplained",
        "INV-5": None,
    }
    assert r.show("INV-2")["derived"]["cause"] == "two digits swapped"
    assert r.scan().to_arrow().sort_by("key").to_pylist() == table.to_pylist()
    assert not r.verify(full=True).problems


@pytest.mark.parametrize(
    # In `make test` one of them: the tests above, test_wheel.py, test_franchise.py and test_aggregations_example.py take the others
    # the same way.
    ("example", "figures"),
    [
        pytest.param("seed-batch", ["A112,RECORDED,25.00,2", "B242,RECORDED,50.00,1", "all is as it should be"], marks=pytest.mark.soak),
        ("bank", ["6 rows = 5 landed + 1 rejected", "reference: the value is missing", "it ties", "all is as it should be"]),
        pytest.param(
            "franchise",
            [
                "daily_sales, 2016-06-01T00:00Z waits: files: 12 of 13 files: IL-911.tdf is missing\n(exit status 1)",
                "IL-911.tdf: has never come",
                "daily_sales, 2016-06-01T00:00Z waits: needs items: Item-Master-Data.tdf last came at ",
                "run 1 completed: 38 rows in daily_sales (38 inserted); sale 11,550.00; tax 10,020.00; discount 11,220.00\nnothing new",
                "38 rows: sale 11,550.00, tax 10,020.00, discount 11,220.00",
                "run 2 completed: 39 rows in daily_sales (1 inserted); sale 12,550.00; tax 10,020.00; discount 11,220.00",
                "run 3 completed: 38 rows in daily_sales (1 updated, 1 deleted); sale 12,500.00; tax 10,020.00; discount 11,230.00",
                "13 files received before; nothing changed\nnothing new to aggregate",
                "all is as it should be",
            ],
            marks=pytest.mark.soak,
        ),
        pytest.param(
            "logic", ["two digits swapped", "decimal point slipped", "unexplained", "all is as it should be"], marks=pytest.mark.soak
        ),
        pytest.param("ach", ["no breaks: everything is matched", "1 break"], marks=pytest.mark.soak),
        pytest.param("transactions", ["33,827 breaks", "all is as it should be"], marks=pytest.mark.soak),
    ],
)
def test_run_sh_goes_from_the_files_to_the_figures_in_an_empty_folder(example: str, figures: list[str], tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for name in ("RECON_CONFIG", "DAGSTER_HOME"):
        environment.pop(name, None)
    command = [str(EXAMPLES / example / "run.sh"), str(tmp_path)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for figure in figures:
        assert figure in done.stdout
