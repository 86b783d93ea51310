"""Requests in ``transformations/`` as assets: their lineage, their metadata, their mistakes; and inputs that a reconciliation has."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from aggregation_site import WINDOW, land, made, run
from cli_calls import Call
from small_reconciliation import QUIET, failures, window
from small_reconciliation import made as reconciled

from jobs.build import build_definitions
from recon.api import Reconciliation
from recon.config import yaml_file
from recon.errors import WrongInput, WrongUsage
from recon.transformations.run import request_in
from recon_assets.transformation_metadata import metadata, verdict

BALANCES = """\
inputs:
  orders: {from: artifacts, window: "2026-11-01T00:00Z"}
  names: {path: ../names.csv}
operations:
  - vlookup: {table: orders, in: names, key: key, match: order_id, take: [name]}
  - select: {table: orders, columns: [key, name, status, balance]}
outputs:
  - {table: orders, path: ../out/orders.csv}
"""
AFTER = """\
inputs: {orders: {path: ../out/orders.csv, types: {balance: "decimal(18,2)"}}}
operations:
  - group: {table: orders, by: status, values: {orders: {count: balance}}}
outputs: [{table: orders, path: ../out/by-status.csv}, {table: orders, path: ../out/by-status.txt, format: tsv}]
certificate: ../out/by-status.json
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reconciliation with two committed windows, two good requests and a broken one."""
    opened = reconciled(tmp_path_factory.mktemp("site"), hours=2)
    opened.run()
    folder = opened.config.path.parent
    (folder / "names.csv").write_text("order_id,name\nA0,Ann\n")
    (folder / "transformations").mkdir()
    broken = AFTER.replace("count:", "cuont:")
    for name, text in {"balances": BALANCES, "by_status": AFTER, "broken": broken, "no-name": AFTER}.items():
        (folder / "transformations" / f"{name}.yaml").write_text(text)
    return folder


def definitions(site: Path) -> dg.Definitions:
    return build_definitions(site / "orders.yaml")


def carried_out(site: Path, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    job = definitions(site).resolve_job_def("orders_transform")
    return job.execute_in_process(instance=instance, run_config=QUIET, raise_on_error=False)


def test_a_request_is_downstream_of_what_it_reads_and_a_broken_one_disables_only_itself(site: Path) -> None:
    found = {spec.key.to_user_string(): spec for spec in definitions(site).resolve_all_asset_specs()}
    deps = {name: sorted(dep.asset_key.to_user_string() for dep in spec.deps) for name, spec in found.items()}
    assert deps["orders/transformations/balances"] == ["orders/files/names_csv", "orders/stateful_artifacts"]
    assert deps["orders/transformations/by_status"] == ["orders/transformations/balances"]
    said = str(found["orders/transformations/balances"].description)
    assert said == "Makes `../out/orders.csv` from orders and names by vlookup and select. The request is `transformations/balances.yaml`."
    assert "orders/files/names_csv" in found
    assert "orders/transformations/broken" not in found
    assert "operation 1 (group): values.orders.cuont: not known here; did you mean count?" in str(
        found["orders_broken_configuration_error"].description
    )
    assert "letters, digits and '_'; rename the file" in str(found["orders_no_name_configuration_error"].description)


def test_a_materialization_has_figures_a_masked_preview_and_a_check_that_warns_of_errors(site: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        result = carried_out(site, instance)
        assert result.success, failures(result)
        shown = {event.step_key.split("__")[-1]: event.materialization.metadata for event in result.get_asset_materialization_events()}
        checks = {one.asset_key.path[-1]: one for one in result.get_asset_check_evaluations()}
    assert (site / "out" / "orders.csv").read_text().splitlines()[:2] == ["key,name,status,balance", "A0,Ann,BREAK,10.00"]
    balances = shown["balances"]
    assert balances["dagster/row_count"].value == 2, "A0 and B, up to the first window"
    assert (balances["errors"].value, balances["errors_by_kind"].value) == (1, "1 #N/A")
    assert "| 1 | vlookup | orders | 2 | 2 | name: 1 #N/A |" in balances["operations"].value
    assert "Letters are shown as x, digits as 0" in balances["preview"].value.splitlines()[0]
    assert balances["preview"].value.splitlines()[4:] == ["| x0 | xxx | xxxxx | 00.00 |", "| x | #N/A | xxxxx | 0.00 |"]
    assert "| ../out/orders.csv | 2 | 0 | 1 |" in balances["outputs"].value
    assert balances["output_file"].value == str(site / "out" / "orders.csv")
    assert "| ../out/orders.csv | balance | 10.50 |" in balances["totals"].value
    assert "| ../out/orders.csv | name | #N/A | 1 | 2 |" in balances["errors_by_column"].value
    assert balances["certificate"].value == str(site / "transformations" / "certificates" / "balances.json")
    two = shown["by_status"]["preview"].value
    assert "\n\n`../out/by-status.csv`\n\n| status | orders |" in two
    assert "`../out/by-status.txt`\n\n| status | orders |" in two
    assert shown["by_status"]["certificate"].value == str(site / "out" / "by-status.json")
    assert json.loads((site / "out" / "by-status.json").read_text())["outputs"][0]["rows"] == 1
    warning = checks["balances"]
    assert (warning.passed, warning.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "../out/orders.csv: name: 1 #N/A, first in row" in str(warning.description)
    assert "IFNA or IFERROR" in str(warning.description)
    assert checks["by_status"].passed


def test_what_is_left_out_of_a_page_is_counted_and_rejected_rows_are_named(site: Path, tmp_path: Path) -> None:
    names = [f"m{number}" for number in range(30)]
    (tmp_path / "wide.csv").write_text(f"a,{','.join(names)}\nx,{','.join('1.00' for _ in names)}\ny,{','.join('x' for _ in names)}\n")
    types = ", ".join(f'{name}: "decimal(18,2)"' for name in names)
    path = tmp_path / "wide.yaml"
    path.write_text(f"inputs: {{t: {{path: wide.csv, types: {{{types}}}}}}}\noutputs: [{{table: t, path: out.csv}}]\non_error: reject\n")
    certificate = Reconciliation(site / "orders.yaml").transform(path)
    shown = metadata(path, request_in(yaml_file.read(path)), certificate, "c.json")
    assert "| out.csv | 1 | 1 | 30 |" in shown["outputs"].value
    assert shown["rejects_file"].value == str(tmp_path / "out.csv.rejects.csv")
    assert "| out.csv | and 10 more; the certificate has all |  |" in shown["totals"].value
    assert shown["preview"].value.endswith("The first 8 of 31 columns.")
    said = verdict(certificate)
    assert "; and 10 more; the certificate has all; rejected rows: 1, in out.csv.rejects.csv; " in said


def test_progress_is_in_the_log_that_the_page_of_a_run_shows(site: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        result = carried_out(site, instance)
        lines = [one.message for one in instance.all_logs(result.run_id) if int(one.level) >= logging.INFO]
    assert any(re.search(r"read \S+ \(0% of the request is done\)", line) for line in lines), lines


def test_a_mistake_is_a_failed_materialization_with_its_message(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (site / "names.csv").rename(site / "away.csv")
    try:
        with dg.DagsterInstance.ephemeral() as instance:
            result = carried_out(site, instance)
            assert not result.success
            assert any("input names" in told and "there is no such file" in told for told in failures(result)), failures(result)
            assert not list(result.get_asset_materialization_events())
    finally:
        (site / "away.csv").rename(site / "names.csv")


def request(folder: Path, given: dict[str, Any]) -> Path:
    path = folder / "request.json"
    path.write_text(json.dumps({"inputs": {"t": given}, "outputs": [{"table": "t", "path": "t.csv"}]}))
    return path


def test_artifacts_and_breaks_have_the_types_of_their_columns(site: Path, tmp_path: Path, recon: Call) -> None:
    opened = Reconciliation(site / "orders.yaml")
    assert opened.transform(request(tmp_path, {"from": "artifacts"}))["inputs"][0]["rows"] == 3
    whole = opened.transform(request(tmp_path, {"from": "breaks", "window": window(0)}))
    assert whole["inputs"][0]["path"] == f"breaks of window {window(0)}"
    answer = recon("transform", str(request(tmp_path, {"from": "artifacts"})), "--config", str(site / "orders.yaml"))
    assert (answer.status, answer.out.splitlines()[-1]) == (0, "t.csv: 3 rows")
    assert "recon.yaml: no such file" in recon("transform", str(request(tmp_path, {"from": "artifacts"}))).line


def test_a_table_of_the_warehouse_is_an_input_by_its_aggregation(tmp_path: Path) -> None:
    site = made(tmp_path / "site")
    land(site)
    run(site)
    opened = Reconciliation(site.config.path)
    certificate = opened.transform(request(tmp_path, {"from": "table", "table": "daily", "window": WINDOW}))
    assert certificate["inputs"][0]["rows"] > 0
    with pytest.raises(WrongUsage, match="daily is loaded per window; write window"):
        opened.transform(request(tmp_path, {"from": "table", "table": "daily"}))
    with pytest.raises(WrongUsage, match="there is no aggregation 'dialy'; there are daily"):
        opened.transform(request(tmp_path, {"from": "table", "table": "dialy", "window": WINDOW}))
    with pytest.raises(WrongInput, match=r"has no rows in .*; 'recon aggregation why daily' says why"):
        opened.transform(request(tmp_path, {"from": "table", "table": "daily", "window": "2027-01-01T00:00Z"}))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "write path: FILE, or from: artifacts, breaks or table"),
        ({"path": "a.csv", "from": "breaks"}, "write path: FILE, or from: artifacts, breaks or table"),
        ({"from": "table"}, "write from: table with the name of an aggregation"),
        ({"path": "a.csv", "window": "x"}, "a file has no window"),
        ({"from": "breaks", "format": "nacha"}, "format and columns are for files"),
    ],
)
def test_an_input_has_one_origin(tmp_path: Path, given: dict[str, Any], told: str, recon: Call) -> None:
    assert told in recon("transform", str(request(tmp_path, given))).line
