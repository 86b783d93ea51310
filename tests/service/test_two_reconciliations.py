"""Two reconciliations of one folder share its database, and their services must not take each other's requests."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import service_site as s

import recon
from recon.errors import WrongUsage
from recon.service import site


def _other(folder: Path, name: str, more: str = "") -> s.Service:
    path = folder / f"{name}.yaml"
    path.write_text((folder / "recon.yaml").read_text().replace("name: orders", f"name: {name}").replace("./data", f"./{name}") + more)
    return recon.open(path).service()


def test_a_database_has_one_service(tmp_path: Path) -> None:
    first = s.service_in(tmp_path)
    s.holder(first)
    second = _other(tmp_path, "payments")
    with pytest.raises(WrongUsage, match=r"has the service of the reconciliation orders, .* name a database of its own under 'database'"):
        second.tokens.all()
    s.holder(first)  # which goes on
    third = _other(tmp_path, "refunds", "database: refunds.sqlite\n")
    assert third.tokens.all() == []


def test_a_service_sweeps_only_results_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "ORPHAN", timedelta(0))
    first = s.service_in(tmp_path)
    second = _other(tmp_path, "payments", "database: payments.sqlite\n")
    made = [service.results.store for service in (first, second)]
    for store in made:
        store.put_new("results/0/a.csv", [b"a\n"])
    first.sweep()
    assert [store.exists("results/0/a.csv") for store in made] == [False, True]
