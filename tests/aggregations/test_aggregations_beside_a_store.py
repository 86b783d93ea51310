"""What runs of aggregations write into a store, beside its windows: landings, copies, verification, sweeps and doctor are not upset."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import aggregation_site as s
import franchise
import pytest
from franchise import WINDOW

import recon
from recon.aggregations.runs import carry_out as carrying
from recon.aggregations.runs import compute as computing
from recon.aggregations.runs.carry_out import carry_out
from recon.aggregations.runs.site import Aggregations
from recon.aggregations.tick import tick
from recon.api import Reconciliation
from recon.operations.doctor.intake import examine
from recon.operations.upkeep import sweep_store
from recon.state import revisions
from recon.state.timeline import Timeline
from recon.storage import layout
from recon.storage.local import LocalStore


class Killed(BaseException):
    """A SIGKILL, as far as the process can tell."""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Reconciliation:
    """The franchise's site, run, and loaded twice; a third run was killed after it had reduced its files."""
    folder = franchise.made(tmp_path_factory.mktemp("site"))
    franchise.arrive(folder)
    (folder / "inbox" / "Item-Master-Data.tdf").write_bytes((folder / "Item-Master-Data.tdf").read_bytes())
    r = recon.open(folder / "recon.yaml")
    r.deliver(folder / "inbox")
    r.run()
    site = Aggregations(r.intake("test"))
    assert [run.state for run in s.run(site)[1]] == ["completed"]
    path = folder / "inbox" / "IL-111.tdf"
    path.write_text(path.read_text().replace("450.00", "460.00"))
    r.deliver(folder / "inbox")
    (claimed,) = tick(site).claimed
    with patch.object(computing, "_rows", side_effect=Killed), patch.object(LocalStore, "delete", side_effect=Killed), suppress(Killed):
        carry_out(site, claimed, "test")
    assert list(r.store().list(layout.AGGREGATED)), "it has left something"
    return r


def test_the_franchise_comes_to_its_known_figures(loaded: Reconciliation) -> None:
    (_, first) = Aggregations(loaded.intake("test")).runs.all()
    assert first.figures["totals"] == {"sale": "11550.00", "tax": "10020.00", "discount": "11220.00"}
    assert (first.figures["rows"], first.figures["rows_left_out"]) == (38, 13)


def test_verify_and_doctor_are_not_upset(loaded: Reconciliation) -> None:
    loaded.run()
    assert loaded.verify(full=True).problems == []
    (finding,) = examine(loaded.config)
    assert finding.there, finding


def test_a_copy_has_certificates_of_loads_and_reference_data_but_nothing_of_a_run_at_work(loaded: Reconciliation, tmp_path: Path) -> None:
    loaded.copy(tmp_path / "copy")
    copied, store = LocalStore(tmp_path / "copy"), loaded.store()
    for prefix in (layout.LOADS, f"{layout.RECEIVED}reference/"):
        assert list(copied.list(prefix)) == list(store.list(prefix)) != []
    assert not list(copied.list(layout.AGGREGATED))
    loaded.copy(tmp_path / "copy")


def test_a_landing_beside_a_run_takes_the_next_revision_of_its_window(loaded: Reconciliation) -> None:
    window = loaded.config.grid.parse(WINDOW)
    newest = max(int(path.rpartition("/")[2][:-5]) for path in loaded.store().list(layout.manifests(window)))
    assert revisions.known(loaded.store(), window) <= newest


def test_what_a_killed_run_left_is_swept_after_the_grace(loaded: Reconciliation, tmp_path: Path) -> None:
    loaded.copy(tmp_path / "copy")
    store, copied = loaded.store(), LocalStore(tmp_path / "copy")
    for path in store.list(layout.AGGREGATED):
        copied.put_new(path, [store.get(path)])
    config, now = loaded.config, datetime.now(UTC)
    for days in (0, 2):
        sweep_store(copied, config, Timeline(copied), now + timedelta(days=days))
    assert not list(copied.list(layout.AGGREGATED))
    assert len(list(copied.list(layout.STATELESS))) == len([path for path in store.list(layout.STATELESS) if "aggregations" not in path])


def test_a_run_reads_its_files_though_their_window_lands_others_meanwhile(loaded: Reconciliation, tmp_path: Path) -> None:
    folder = franchise.made(tmp_path)
    franchise.arrive(folder)
    r = recon.open(folder / "recon.yaml")
    (folder / "aggregations" / "daily_sales.yaml").write_text(
        (folder / "aggregations" / "daily_sales.yaml").read_text().replace("needs: {source: items, since: today}\n", "")
    )
    r.deliver(folder / "inbox")
    site = Aggregations(r.intake("test"))
    (claimed,) = tick(site).claimed
    real: Any = carrying.compute

    def meanwhile(*arguments: Any) -> Any:
        for name in franchise.NAMES[:6]:
            path = folder / "inbox" / name
            path.write_text(path.read_text().replace("450.00", "1.00").replace("250.00", "1.00"))
        assert len(r.deliver(folder / "inbox").files) == 6
        return real(*arguments)

    with patch.object(carrying, "compute", meanwhile):
        done = carry_out(site, claimed, "test")
    assert done.figures["totals"] == {"sale": "11550.00", "tax": "10020.00", "discount": "11220.00"}
    (after,) = s.run(site)[1]
    assert after.figures["updated"] > 0
    assert after.figures["totals"]["sale"] != "11550.00"
