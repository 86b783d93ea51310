"""The wheel: what an installed Recon needs besides the library is in it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from folders import ROOT

from jobs import ui
from resources import dagster_instance


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names in the wheel, built from a copy of the sources, without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "workspace.yaml", "dagster.yaml"):
        shutil.copy(ROOT / name, source)
    for package in ("recon", "recon_assets", "resources", "jobs"):
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return set(zipfile.ZipFile(built).namelist())


@pytest.mark.parametrize(
    "module", ["jobs/definitions.py", "jobs/ui.py", "recon_assets/assets.py", "resources/stores.py", "recon/cli/app.py"]
)
def test_the_wheel_holds_the_library_and_its_dagster_code(wheel: set[str], module: str) -> None:
    assert module in wheel


@pytest.mark.parametrize("name", ["workspace.yaml", "dagster.yaml"])
def test_the_wheel_puts_the_settings_of_dagster_below_share(wheel: set[str], name: str) -> None:
    assert [path for path in wheel if path.endswith(f".data/data/share/recon/{name}")]


def test_the_wheel_holds_nothing_else_at_the_top_level(wheel: set[str]) -> None:
    tops = {path.split("/")[0] for path in wheel}
    assert {top for top in tops if not top.startswith("dagster_recon-")} == {"recon", "recon_assets", "resources", "jobs"}


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
