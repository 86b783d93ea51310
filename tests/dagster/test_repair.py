"""`recon repair`: the UI's picture from the store, after Dagster's storage was lost or was never told.

On real instances.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from small_reconciliation import die_before_certifying, landed, made, window

from jobs import repair
from jobs.repair import Repaired
from recon.api import Reconciliation
from recon.cli import main
from recon.cli.dagster_runs import Materializing, repaired
from recon.model.progress import silent
from recon_assets.assets import STAGE_ASSETS
from recon_assets.restored_metadata import TIMINGS
from resources.dagster_instance import open_instance

NAMES = [spec.name for spec in STAGE_ASSETS]
OF_THE_RUN = {
    "prefetched_artifacts": {"merged_before", "range_keys", "range_records_found", "range_bytes", "read_at_commit"},
    "artifact_index": {
        *("runs", "runs_merged", "entries"),
        *("disk_to_live", "written_to_changed", "bounded", "part_files_compacted", "part_files_given_up", "put_off"),
    },
}
"""Figures of a moment that the store does not keep: what was read ahead, and the runs that stood then."""


@pytest.fixture(autouse=True)
def _no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)


def picture(opened: Reconciliation) -> dict[tuple[str, str], dict[str, Any]]:
    """(asset, window) → the newest metadata that the UI shows, but for what only the run's clock knew."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    with open_instance(opened.config.path) as instance:
        for name in NAMES:
            records = instance.fetch_materializations(dg.AssetKey(["orders", name]), limit=1000, ascending=True).records
            for one in (record.asset_materialization for record in records):
                assert one is not None
                assert one.partition is not None
                kept = {key: value.value for key, value in one.metadata.items() if key not in TIMINGS | OF_THE_RUN.get(name, set())}
                found[name, one.partition] = kept
    return found


def processed(folder: Path) -> Reconciliation:
    """Six windows in two ranges, one of them with a duplicate of another, a reject and a correction."""
    opened = made(folder, hours=3)
    landed(opened, 4, "A0,e0-1,INVOICE,10.00,EUR\nC,e2-9,INVOICE,1O.00,USD\n")
    landed(opened, 5)
    with Materializing() as way:
        opened.run(way=way)
    landed(opened, 1, "A1,e1-1,INVOICE,11.00,EUR\n", replace="file-01.csv")
    with Materializing() as way:
        opened.run(way=way)
    return opened


def test_a_lost_storage_is_filled_again_newest_first_also_after_an_interrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = processed(tmp_path)
    before = picture(opened)
    assert {name for name, _ in before} == set(NAMES)
    shutil.rmtree(tmp_path / ".dagster")
    monkeypatch.setattr(repair, "AT_ONCE", 2)

    def interrupted(stage: str, windows: str, share: float) -> None:
        if share >= 0.4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        repaired(opened, interrupted)
    half = picture(opened)
    assert {name for _, name in half} == {window(5), window(4)}
    assert half == {at: shown for at, shown in before.items() if at[1] in (window(4), window(5))}
    assert repaired(opened, silent) == Repaired(windows=5, repaired=3, events=18)
    assert picture(opened) == before
    assert repaired(opened, silent) == Repaired(windows=5, repaired=0, events=0)


def test_windows_that_were_processed_without_dagster_are_shown_and_corrected_ones_anew(tmp_path: Path) -> None:
    opened = processed(tmp_path)
    before = picture(opened)
    landed(opened, 0, "A0,e0-1,INVOICE,12.00,EUR\n", replace="file-00.csv")
    landed(opened, 6)
    opened.run()
    done = repaired(opened, silent)
    changed = {window(hour) for hour in (0, 6)}
    after = picture(opened)
    assert {at[1] for at, shown in after.items() if before.get(at) != shown} >= changed
    assert after["window_certificates", window(0)]["number"] == 2
    assert after["stateful_artifacts", window(0)]["money_accepted"] == "amount EUR 12.00"
    assert done.windows == 6
    assert repaired(opened, silent).repaired == 0


def test_a_window_that_is_not_certified_yet_is_shown_up_to_its_commit_and_its_certificate_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = made(tmp_path, hours=1)
    die_before_certifying(monkeypatch, opened)
    assert repaired(opened, silent) == Repaired(windows=1, repaired=1, events=5)
    assert repaired(opened, silent) == Repaired(windows=1, repaired=0, events=0)
    opened.run()
    assert repaired(opened, silent) == Repaired(windows=1, repaired=1, events=1)
    assert set(picture(opened)) == {(name, window(0)) for name in NAMES}


def test_the_command_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opened = made(tmp_path, hours=2)
    opened.run()
    command = ["repair", "--config", str(opened.config.path)]
    assert main(command) == 0
    assert capsys.readouterr().out == "the UI shows 2 windows more as the store holds them, 2 in all: 12 events reported\n"
    assert main(command) == 0
    assert capsys.readouterr().out == "nothing to repair: the UI shows 2 windows as the store holds them\n"
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"windows": 2, "repaired": 0, "events": 0}


def test_nothing_in_the_store_changes(tmp_path: Path) -> None:
    opened = made(tmp_path, hours=2)
    opened.run()
    before = sorted(opened.store().list(""))
    repaired(opened, silent)
    assert sorted(opened.store().list("")) == before
