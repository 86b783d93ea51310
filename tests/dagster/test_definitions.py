"""The code location: the asset graph as a snapshot, a folder of configurations, foreign packages, workspace.yaml."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import aggregation_site
import dagster as dg
import pytest
from folders import ROOT
from small_reconciliation import made

from jobs import definitions
from jobs.build import build_definitions
from recon.errors import WrongUsage
from resources.dagster_instance import configuration_path, home_of, open_instance, prepared_home

CHECKS = (
    *("duplicates_agree", "files_complete", "rows_are_accepted"),
    *("watermark_is_fresh", "windows_are_processed", "windows_tie"),
)
GRAPH = {
    "event_batches": ((), "orders_land", {"file"}, ()),
    "stateless_artifacts": (("event_batches",), "orders_reduce", {"duckdb", "parquet"}, ("amounts_are_readable",)),
    "prefetched_artifacts": (("stateless_artifacts",), "orders_prefetch", {"arrow"}, ()),
    "stateful_artifacts": (("prefetched_artifacts", "stateless_artifacts"), "orders_merge", {"duckdb", "json"}, ()),
    "artifact_index": (("stateful_artifacts",), "orders_index", {"python"}, ()),
    "window_certificates": (("artifact_index", "stateful_artifacts"), "orders_certify", {"json"}, CHECKS),
}
"""Asset → its deps, its pool, its kinds, its checks."""
COLUMNS = {
    "event_batches": ["order_id", "event_id", "amount", "event_type", "currency"],
    "stateless_artifacts": ["key", "n", "billed", "lines"],
    "prefetched_artifacts": ["hi", "lo", "file", "offset", "length", "check"],
    "stateful_artifacts": ["key", "status", "billed", "lines", "balance", "contributions", "withdrawn", "carried"],
    "artifact_index": ["hi", "lo", "file", "offset", "length", "check"],
    "window_certificates": ["window", "number", "in", "accepted", "duplicates", "rejected", "ties"],
}


def specs(built: dg.Definitions) -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in built.resolve_all_asset_specs()}


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    return made(tmp_path).config.path


def test_the_asset_graph_is_as_it_was_agreed(orders: Path) -> None:
    built = build_definitions(orders)
    graph = built.resolve_asset_graph()
    found: dict[str, Any] = {}
    for name, spec in specs(built).items():
        prefix, short = name.split("/")
        assert prefix == "orders"
        node = graph.get(spec.key)
        checks = tuple(sorted(key.name for key in node.check_keys))
        deps = tuple(sorted(dep.asset_key.path[-1] for dep in spec.deps))
        found[short] = (deps, node.assets_def.op.pool, set(spec.kinds), checks)
    assert found == GRAPH


def test_every_asset_says_whose_it_is_what_it_holds_and_by_which_rules(orders: Path) -> None:
    built = build_definitions(orders)
    columns = {}
    for name, spec in specs(built).items():
        assert spec.owners == ["team:orders"]
        assert spec.description
        assert len(str(spec.code_version)) == 16
        assert spec.group_name == "orders"
        columns[name.split("/")[1]] = [column.name for column in spec.metadata["dagster/column_schema"].columns]
    assert columns == COLUMNS


def test_all_assets_share_one_grid_and_do_a_range_in_one_run(orders: Path) -> None:
    definitions_of = [asset for asset in build_definitions(orders).assets or () if isinstance(asset, dg.AssetsDefinition)]
    assert len({id(asset.partitions_def) for asset in definitions_of}) == 1
    assert all(asset.backfill_policy == dg.BackfillPolicy.single_run() for asset in definitions_of)


def test_there_is_a_job_per_stage_and_one_over_all(orders: Path) -> None:
    stages = ("land", "reduce", "prefetch", "merge", "index", "certify", "everything")
    built = build_definitions(orders)
    for stage in stages:
        job = built.resolve_job_def(f"orders_{stage}")
        assert job.tags["recon/stage"] == f"orders.{stage}"
        assert job.executor_def is dg.in_process_executor
    assert len(built.resolve_job_def("orders_everything").asset_layer.executable_asset_keys) == 6


def test_one_broken_file_disables_only_its_own_reconciliation_visibly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made(tmp_path, "orders")
    made(tmp_path, "fees")
    (tmp_path / "late-fees.yaml").write_text("name: late_fees\n")
    (tmp_path / "orders2.yaml").write_text((tmp_path / "orders.yaml").read_text())
    built = build_definitions(tmp_path)
    found = specs(built)
    assert {name.split("/")[0] for name in found if "/" in name} == {"orders", "fees"}
    broken = {name: spec.description for name, spec in found.items() if "/" not in name}
    assert set(broken) == {"late_fees_configuration_error", "orders2_configuration_error"}
    assert "store: is missing" in str(broken["late_fees_configuration_error"])
    assert f"is the name in {tmp_path / 'orders.yaml'} already" in str(broken["orders2_configuration_error"])
    assert "late-fees.yaml" in caplog.text
    dg.Definitions.validate_loadable(built)


def test_reconciliations_do_not_wait_for_each_other(tmp_path: Path) -> None:
    made(tmp_path, "orders")
    made(tmp_path, "fees")
    graph = build_definitions(tmp_path).resolve_asset_graph()
    pools = [graph.get(key).assets_def.op.pool for key in graph.executable_asset_keys]
    assert len(set(pools)) == 12


def test_no_configuration_at_all_is_refused_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(WrongUsage, match=r"no such file; name one in RECON_CONFIG, or make one with 'recon init DIR'"):
        build_definitions(tmp_path / "recon.yaml")
    with pytest.raises(WrongUsage, match=r"there is no \*\.yaml file in this folder"):
        build_definitions(tmp_path)


def test_loading_lists_no_window_and_opens_no_store(orders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unwanted(*_: object, **__: object) -> None:
        raise AssertionError("loading was to do nothing of the kind")

    monkeypatch.setattr(dg.TimeWindowPartitionsDefinition, "get_partition_keys", unwanted)
    monkeypatch.setattr("resources.stores.open_for", unwanted)
    orders.write_text(orders.read_text().replace("2026-11-01T00:00Z, every: 1h", "2000-01-01T00:00Z, every: 1m"))
    dg.Definitions.validate_loadable(build_definitions(orders))


def test_resources_can_be_put_in_the_place_of_the_usual_ones(orders: Path) -> None:
    other = object()
    assert (build_definitions(orders, orders_store=other).resources or {})["orders_store"] is other


def test_the_home_is_the_same_for_the_command_line_and_the_ui(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.delenv("RECON_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    assert configuration_path() == tmp_path / "recon.yaml"
    assert home_of(configuration_path()) == home_of(tmp_path) == tmp_path / ".dagster"
    monkeypatch.setenv("RECON_CONFIG", str(tmp_path / "folder" / "a.yaml"))
    assert home_of(configuration_path()) == tmp_path / "folder" / ".dagster"
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    assert home_of(configuration_path()) == tmp_path / "home"
    monkeypatch.setenv("DAGSTER_HOME", "home")
    with pytest.raises(WrongUsage, match="DAGSTER_HOME: 'home' is not an absolute path"):
        home_of(configuration_path())


def test_an_instance_has_the_limits_of_dagster_yaml_and_keeps_a_file_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    with open_instance(tmp_path / "recon.yaml") as instance:
        config = instance.get_concurrency_config()
        assert instance.root_directory == str(tmp_path / ".dagster")
        assert config.pool_config.default_pool_limit == 1
        assert config.run_queue_config is not None
        assert config.run_queue_config.tag_concurrency_limits[0]["key"] == "recon/stage"
    (tmp_path / ".dagster" / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    prepared_home(tmp_path / "recon.yaml")
    assert (tmp_path / ".dagster" / "dagster.yaml").read_text() == "telemetry: {enabled: false}\n"


@pytest.mark.parametrize("package", ["resources", "jobs", "recon_assets"])
def test_a_foreign_package_of_our_name_is_refused_naming_its_path(orders: Path, package: str) -> None:
    foreign = orders.parent / package
    foreign.mkdir()
    (foreign / "__init__.py").write_text("")
    # Dagster puts the working directory first, and loads our file by its path.
    code = (
        f"import sys; sys.path[:0] = [{str(orders.parent)!r}, {str(ROOT)!r}]\n"
        "import importlib.util as u\n"
        f"spec = u.spec_from_file_location('definitions', {str(ROOT / 'jobs' / 'definitions.py')!r})\n"
        "module = u.module_from_spec(spec); spec.loader.exec_module(module)\n"
        "module.refuse_foreign_modules()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"{foreign}/__init__.py: a foreign package {package!r} is imported in place of" in done.stderr


def test_our_own_packages_are_not_foreign() -> None:
    definitions.refuse_foreign_modules()


def validated(folder: Path) -> tuple[int, str]:
    """Loads workspace.yaml in a process of its own, with ``folder`` as working directory and first on the path. Returns its exit status and
    all that it printed."""
    command = [sys.executable, "-m", "dagster", "definitions", "validate", "--verbose", "-w", str(ROOT / "workspace.yaml")]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout


def test_workspace_yaml_loads_from_any_folder(orders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECON_CONFIG", str(orders))
    status, printed = validated(orders.parent)
    assert "Validation successful for code location recon" in printed, printed
    assert status == 0, printed


def test_workspace_yaml_beside_a_foreign_package_is_refused(orders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECON_CONFIG", str(orders))
    foreign = orders.parent / "jobs"
    foreign.mkdir()
    (foreign / "__init__.py").write_text("")
    status, printed = validated(orders.parent)
    assert f"{foreign}/__init__.py: a foreign package 'jobs' is imported in place of" in printed, printed
    assert status == 1, printed


def test_owners_group_and_pool_may_be_those_of_the_project(tmp_path: Path) -> None:
    site = aggregation_site.made(tmp_path)
    (tmp_path / "transformations").mkdir()
    request = "inputs: {a: {path: a.csv}}\noperations: [{limit: {table: a, rows: 1}}]\noutputs: [{table: a, path: b.csv}]\n"
    (tmp_path / "transformations" / "short.yaml").write_text(request)
    built = build_definitions(site.config.path, owners=["team:finance", "ann@example.com"], group="ledger", pool="recon")
    for spec in built.resolve_all_asset_specs():
        assert spec.group_name == "ledger", spec.key
        assert list(spec.owners) == ["team:finance", "ann@example.com"], spec.key
    pools = {op.name: op.pool for job in built.resolve_all_job_defs() for op in job.all_node_defs if isinstance(op, dg.OpDefinition)}
    checks = {name for name in pools if name.endswith(("_checks", "amounts_are_readable", "files_have_arrived"))}
    assert {pool for name, pool in pools.items() if name not in checks} == {"recon"}
    assert len(pools) - len(checks) > 10


def test_definitions_can_be_merged_with_those_of_a_project_that_has_an_executor(orders: Path) -> None:
    @dg.asset(pool="orders_merge_of_mine")
    def mine() -> None: ...

    own = dg.Definitions(assets=[mine], executor=dg.multiprocess_executor)
    merged = dg.Definitions.merge(build_definitions(orders), own)
    dg.Definitions.validate_loadable(merged)
    assert merged.resolve_job_def("__ASSET_JOB").executor_def is dg.multiprocess_executor
    assert definitions.defs  # the code location of Recon alone has one of its own
