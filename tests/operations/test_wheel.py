"""The wheel: what an installed Recon needs is in it, under names that meet no others, and projects with packages of such names work."""

from __future__ import annotations

import ast
import json
import re
import shutil
import sys
import zipfile
from pathlib import Path

import installed_wheel
import pytest
import yaml
from folders import ROOT
from installed_wheel import Installed

from jobs import ui
from resources import dagster_instance

EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    return zipfile.ZipFile(installed_wheel.built(tmp_path_factory.mktemp("wheel")))


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, wheel: zipfile.ZipFile) -> Installed:
    return installed_wheel.installed(tmp_path_factory.mktemp("environment") / "env", Path(str(wheel.filename)))


@pytest.mark.parametrize(
    "module",
    [
        *("recon_dagster/jobs/definitions.py", "recon_dagster/jobs/ui.py", "recon_dagster/resources/stores.py"),
        *("recon_assets/assets.py", "recon_dagster/component.py", "recon/cli/app.py"),
    ],
)
def test_the_wheel_holds_the_library_and_its_dagster_code(wheel: zipfile.ZipFile, module: str) -> None:
    assert module in wheel.namelist()


def test_the_wheel_has_every_module_of_the_checkout(wheel: zipfile.ZipFile) -> None:
    files = (file.relative_to(ROOT).as_posix() for package in installed_wheel.PACKAGES for file in (ROOT / package).rglob("*.py"))
    moved = {f"recon_dagster/{file}" if file.startswith(("jobs/", "resources/")) else file for file in files}
    assert {name for name in wheel.namelist() if name.endswith(".py")} == moved


@pytest.mark.parametrize("name", ["workspace.yaml", "dagster.yaml"])
def test_the_wheel_puts_the_settings_of_dagster_below_share(wheel: zipfile.ZipFile, name: str) -> None:
    assert [path for path in wheel.namelist() if path.endswith(f".data/data/share/recon/{name}")]


def test_the_wheel_holds_nothing_else_at_the_top_level(wheel: zipfile.ZipFile) -> None:
    tops = {path.split("/")[0] for path in wheel.namelist()}
    assert {top for top in tops if not top.startswith("dagster_recon-")} == {"recon", "recon_assets", "recon_dagster"}
    (listed,) = [name for name in wheel.namelist() if name.endswith("/top_level.txt")]
    assert wheel.read(listed).decode().split() == ["recon", "recon_assets", "recon_dagster"]


def test_no_module_of_the_wheel_imports_a_package_that_is_not_there(wheel: zipfile.ZipFile) -> None:
    moved = []
    for name in (name for name in wheel.namelist() if name.endswith(".py")):
        text = wheel.read(name).decode()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
                assert not [module for module in modules if module.split(".")[0] in ("jobs", "resources")], name
                moved += [module for module in modules if module.startswith(("recon_dagster.jobs", "recon_dagster.resources"))]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):  # the build does not change texts
                assert not re.fullmatch(r"(jobs|resources)\.[a-z_.]+", node.value), f"{name}, line {node.lineno}"
    assert len(moved) > 50


def test_every_module_that_a_container_starts_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    texts = [file.read_text(encoding="utf-8") for file in (ROOT / "compose.yaml", *(ROOT / "infra").rglob("*.yaml"))]
    named = [module for text in texts for module in re.findall(r"--module-name=([\w.]+)", text)]
    assert named
    assert {f"{module.replace('.', '/')}.py" for module in named} <= set(wheel.namelist())


def test_an_installed_package_names_its_code_by_the_full_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    share, home = tmp_path / "share" / "recon", tmp_path / "home"
    for folder in (share, home):
        folder.mkdir(parents=True)
    shutil.copy(ROOT / "workspace.yaml", share)
    monkeypatch.setattr(dagster_instance, "__file__", str(tmp_path / "site-packages" / "resources" / "instance.py"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    made = ui.workspace_file(home)
    assert made.parent == home
    ((location,),) = [entry.values() for entry in yaml.safe_load(made.read_text())["load_from"]]
    assert Path(location["relative_path"]) == ROOT / "jobs" / "definitions.py"
    assert location["working_directory"] == str(ROOT)


def test_the_source_tree_uses_its_own_workspace_yaml(tmp_path: Path) -> None:
    assert ui.workspace_file(tmp_path) == ROOT / "workspace.yaml"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example of a project with packages ``jobs`` and ``resources`` of its own."""
    folder = tmp_path_factory.mktemp("project") / "acme"
    shutil.copytree(EXAMPLES / "dg-project", folder)
    return folder


def test_dg_lists_the_assets_of_a_project_with_jobs_and_resources_of_its_own(environment: Installed, project: Path) -> None:
    dg = (str(environment.python), "-m", "dagster_dg_cli.cli.entrypoint")
    listed = environment.run(*dg, "list", "defs", "--json", cwd=project, path=(project, project / "src"))
    assert listed.returncode == 0, listed.stdout + listed.stderr
    found = json.loads(listed.stdout[listed.stdout.index("{") :])
    assets = {asset["asset_key"]: asset for asset in found["assets"]}
    stages = [asset for key, asset in assets.items() if key.startswith("orders/")]
    assert len(stages) == 6
    assert all((asset["owners"], asset["group_name"]) == ([{"team": "finance"}], "ledger") for asset in stages)
    assert assets["open_orders"]["owners"] == [{"team": "reporting"}]
    assert {"open_orders_nightly", "orders_nightly"} <= {schedule["name"] for schedule in found["schedules"]}
    types = {resource["name"]: resource["type"] for resource in found["resources"]}
    assert types["orders_store"] == "recon_dagster.resources.stores.ReconciliationStore"


def test_the_code_location_of_recon_alone_loads_from_the_wheel(environment: Installed, project: Path) -> None:
    """As compose.yaml starts it, and with the workspace.yaml that an installed package writes."""
    code = (
        "from pathlib import Path; from dagster._core.workspace.load import location_origins_from_yaml_paths;"
        "from recon_dagster.definitions import defs; from recon_dagster.jobs.ui import workspace_file;"
        "(origin,) = location_origins_from_yaml_paths([str(workspace_file(Path.cwd()))]);"
        "target = origin.loadable_target_origin; assert Path(target.python_file).is_file(), target;"
        "print(len(defs().resolve_all_asset_specs()), target.python_file, target.working_directory, sep=chr(10))"
    )
    configuration = str(project / "src" / "acme" / "defs" / "orders" / "recon.yaml")
    done = environment.run(str(environment.python), "-c", code, cwd=project, RECON_CONFIG=configuration)
    assert done.returncode == 0, done.stdout + done.stderr
    count, file, folder = done.stdout.split("\n")[-4:-1]
    assert count == "6"
    assert Path(file).relative_to(folder) == Path("recon_dagster/jobs/definitions.py")


def test_the_example_of_embedding_runs_beside_packages_of_the_same_names(environment: Installed, tmp_path: Path) -> None:
    for name in ("jobs", "resources"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('the package of the project, not that of Recon')\n")
    done = environment.run(str(EXAMPLES / "embedding" / "run.sh"), str(tmp_path), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "A101,BREAK,75.50,70.00,5.50\nA102,BREAK,310.00,300.00,10.00\n" in done.stdout
    assert "A103,UNPAID,19.90,,19.90\n" in done.stdout
