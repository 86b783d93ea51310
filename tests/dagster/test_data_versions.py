"""The data version of a window: a correction changes it, a replay that changed nothing does not, and automation goes by it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from small_reconciliation import landed, made, run, window

from jobs.build import build_definitions
from recon.api import Reconciliation
from recon.engines.duckdb.window import reduce_window
from recon.intake.manifests import read_manifest
from recon.state.reduced import EVENTS, local_file
from recon.storage import parquet
from recon_assets.assets import STAGE_ASSETS, asset_key
from recon_assets.partitions import key_of, range_tags

VERSION = "dagster/data_version"
KEPT = ("event_batches", "stateless_artifacts", "stateful_artifacts", "artifact_index", "window_certificates")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made_instance:
        yield made_instance


def _versions(opened: Reconciliation, instance: dg.DagsterInstance, hour: int) -> dict[str, str]:
    """Asset → data version of its newest materialization of a window."""
    found = {}
    for name in (spec.name for spec in STAGE_ASSETS):
        partition = key_of(opened.config.grid, window(hour))
        records = dg.AssetRecordsFilter(asset_key=asset_key("orders", name), asset_partitions=[partition])
        newest = instance.fetch_materializations(records, limit=1).records[0].asset_materialization
        assert newest is not None
        assert newest.tags is not None
        found[name] = newest.tags[VERSION]
    return found


def test_the_content_of_a_window_does_not_depend_on_the_order_in_which_threads_read_it(tmp_path: Path) -> None:
    opened = made(tmp_path)
    for file in range(3):
        lines = [f"K{number * number % 499},{file}-{number},INVOICE,1.00,EUR\n" for number in range(40_000)]
        path = tmp_path / f"{file}.csv"
        path.write_text("order_id,event_id,event_type,amount,currency\n" + "".join(lines))
        opened.land([path], window(0), close=file == 2)
    manifest = read_manifest(opened.store(), opened.config.grid.parse(window(0)))
    assert manifest is not None
    found = [reduce_window(opened.store(), opened.config, manifest) for _ in range(2)]
    assert found[0].digests == found[1].digests
    path = local_file(opened.store(), found[0].folder, EVENTS, tmp_path)
    events = parquet.read(path, ["hi", "file", "line"])
    places = list(zip(*(events.column(name).to_pylist() for name in ("hi", "file", "line")), strict=True))
    assert places == sorted(places)


@pytest.mark.parametrize("last", [0, 2])
def test_a_correction_has_another_version_and_a_replay_has_not(tmp_path: Path, instance: dg.DagsterInstance, last: int) -> None:
    opened = made(tmp_path, hours=3)
    windows = range_tags(window(0), window(last))
    assert run(opened, windows, instance).success
    first = [_versions(opened, instance, hour) for hour in range(last + 1)]
    opened.replay(window(0), window(last), "look again")
    assert run(opened, windows, instance).success
    assert [_versions(opened, instance, hour) for hour in range(last + 1)] == first
    landed(opened, 0, "A0,e0-1,INVOICE,11.00,EUR\n", replace="file-00.csv")
    assert run(opened, windows, instance).success
    now = _versions(opened, instance, 0)
    assert [name for name in KEPT if now[name] == first[0][name]] == []
    assert [_versions(opened, instance, hour) for hour in range(1, last + 1)] == first[1:]


def test_an_asset_that_follows_versions_runs_after_a_correction_only(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    opened = made(tmp_path, hours=1)
    key = asset_key("orders", "stateful_artifacts")
    changed = dg.AutomationCondition.any_deps_match(dg.AutomationCondition.data_version_changed())

    def asked(cursor: object) -> tuple[int, object]:
        definitions = build_definitions(opened.config.path)
        partitions = definitions.resolve_assets_def(key).partitions_def

        @dg.asset(deps=[key], partitions_def=partitions, automation_condition=changed)
        def report() -> None: ...

        both = dg.Definitions.merge(definitions, dg.Definitions(assets=[report]))
        found = dg.evaluate_automation_conditions(both, instance, cursor=cursor)  # type: ignore[arg-type]
        return found.get_num_requested(report.key), found.cursor

    windows = range_tags(window(0), window(0))
    _, cursor = asked(None)
    assert run(opened, windows, instance).success
    requested, cursor = asked(cursor)
    assert requested == 1
    opened.replay(window(0), window(0), "look again")
    assert run(opened, windows, instance).success
    requested, cursor = asked(cursor)
    assert requested == 0
    landed(opened, 0, "A0,e0-1,INVOICE,11.00,EUR\n", replace="file-00.csv")
    assert run(opened, windows, instance).success
    requested, cursor = asked(cursor)
    assert requested == 1
