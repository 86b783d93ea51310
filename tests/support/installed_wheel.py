"""Recon as others install it: its wheel, built from a copy of the sources without the network, in an environment of its own.

The environment has the packages of the running Python, but not its editable install of the checkout: a folder that a .pth file names is on
the path without the .pth files in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from folders import ROOT

PACKAGES = ("recon", "recon_assets", "recon_dagster", "resources", "jobs")
_FILES = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "workspace.yaml", "dagster.yaml")
_PIP = ("--no-deps", "--no-index", "--disable-pip-version-check", "--quiet")


def built(folder: Path) -> Path:
    """The wheel, in an empty folder."""
    source = folder / "source"
    source.mkdir()
    for name in _FILES:
        shutil.copy(ROOT / name, source)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    _run([sys.executable, "-m", "pip", "wheel", *_PIP, "--no-build-isolation", "--wheel-dir", str(folder), str(source)])
    shutil.rmtree(source)
    (wheel,) = folder.glob("*.whl")
    return wheel


@dataclass(frozen=True)
class Installed:
    """An environment in ``folder`` in which the wheel is installed."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def run(self, *command: str, cwd: Path, path: tuple[Path, ...] = (), **more: str) -> subprocess.CompletedProcess[str]:
        """Runs a command of the environment. ``path``: folders on Python's path. ``more``: environment variables."""
        environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "RECON_CONFIG", "DAGSTER_HOME")}
        environment |= {"PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}", **more}
        if path:
            environment["PYTHONPATH"] = os.pathsep.join(map(str, path))
        return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=False)


def installed(folder: Path, wheel: Path) -> Installed:
    """A new environment in ``folder`` with the wheel."""
    _run([sys.executable, "-m", "venv", "--without-pip", str(folder)])
    found = Installed(folder)
    (place,) = folder.glob("lib/python*/site-packages")
    _run([sys.executable, "-m", "pip", "--python", str(found.python), "install", *_PIP, str(wheel)])
    (place / "of_the_tests.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    assert (found.folder / "bin" / "recon").exists(), "pip installed nothing"
    return found


def _run(command: list[str]) -> None:
    # Without the checkout on the path: pip would take the metadata of an editable install there for the wheel's.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
