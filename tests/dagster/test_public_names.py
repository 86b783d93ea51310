"""What other projects import: each resource has fields that are described, and an example that runs."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import dagster as dg
import pandas
import pytest
from small_reconciliation import made

import recon_dagster
from recon.errors import WrongUsage
from recon_dagster import FolderOrBucket, ReconciliationStore

RESOURCES = {
    name: found
    for name in recon_dagster.__all__
    if isinstance(found := getattr(recon_dagster, name), type) and issubclass(found, dg.ConfigurableResource | dg.ConfigurableIOManager)
}
RUN = ("FolderOrBucket", "ReconciliationCache", "ReconciliationStore", "SiteDatabase")
"""Resources whose examples need no AWS."""


def _example(name: str) -> str:
    return textwrap.dedent((RESOURCES[name].__doc__ or "").partition("::\n")[2])


def _executed(text: str) -> dict[str, Any]:
    """The names that a program defines."""
    found: dict[str, Any] = {"dg": dg, "pandas": pandas}
    exec(compile(text, "example", "exec", dont_inherit=True), found)
    return {name: value for name, value in found.items() if name not in ("dg", "pandas")}


@pytest.mark.parametrize("name", RESOURCES)
def test_each_resource_has_described_fields_and_an_example_that_loads(name: str) -> None:
    assert RESOURCES[name].model_fields
    assert all(field.description for field in RESOURCES[name].model_fields.values())
    found = _executed(_example(name))
    assert any(isinstance(value, dg.Definitions | dg.JobDefinition | dg.AssetsDefinition) for value in found.values())
    if "defs" in found:
        dg.Definitions.validate_loadable(found["defs"])


@pytest.mark.parametrize("name", RUN)
def test_the_example_runs_without_any_asset_of_recon(name: str, tmp_path: Path) -> None:
    opened = made(tmp_path, hours=1)
    opened.run()
    place = str(opened.config.path)
    text = _example(name).replace("/srv/recon.yaml", place).replace("s3://ledger/archive", str(tmp_path / "archive"))
    found = _executed(text)
    (asset,) = found["defs"].assets
    result = dg.materialize([asset], resources=found["defs"].resources)
    assert result.success
    if name == "ReconciliationStore":
        ((event,),) = [result.asset_materializations_for_node(asset.op.name)]
        assert {key: value.value for key, value in event.metadata.items()} == {"artifacts": 2, "commit": 1}
    if name == "FolderOrBucket":
        assert (tmp_path / "archive" / "reports" / "2026-11.csv").read_text() == "order_id,amount\n"


def test_a_wrong_location_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongUsage, match="unknown scheme"):
        FolderOrBucket(location="gs://bucket").open()
    with pytest.raises(WrongUsage, match="no such file"):
        ReconciliationStore(config_file=str(tmp_path / "recon.yaml")).reconciliation().scan()
