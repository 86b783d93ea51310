"""Fetches wheels of Recon's dependencies, in the versions that are installed here, for another architecture or Python."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

from recon.errors import TryAgain, WrongUsage
from recon.operations.packaging.own_packages import DISTRIBUTION

ARCHITECTURES = {"x86_64": "x86_64", "arm64": "aarch64"}
"""AWS's name → the machine's."""
REQUIREMENTS = "requirements.txt"


def here() -> str:
    """AWS's name of this machine's architecture."""
    return next((name for name, machine in ARCHITECTURES.items() if machine == platform.machine()), platform.machine())


def python_here() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def installed(names: Iterable[str]) -> list[Distribution]:
    """The installed distributions of these names. Raises WrongUsage for a missing one."""
    found = []
    for name in names:
        try:
            found.append(distribution(name))
        except PackageNotFoundError:
            raise WrongUsage(f"{name} is not installed here; pip install 'dagster-recon[aws]'") from None
    return found


def needed(extra: str, without: Sequence[str] = ()) -> list[Distribution]:
    """Recon's dependencies with an extra, including indirect ones; ``without``: prefixes of names that are left out."""
    from packaging.requirements import Requirement

    found: dict[str, Distribution] = {}

    def add(name: str) -> None:
        (package,) = installed([name])
        if package.name in found:
            return
        found[package.name] = package
        for text in package.requires or ():
            requirement = Requirement(text)
            of = extra if name == DISTRIBUTION else ""
            applies = requirement.marker is None or requirement.marker.evaluate({"extra": of})
            if applies and not requirement.name.startswith(tuple(without)):
                add(requirement.name)

    add(DISTRIBUTION)
    del found[DISTRIBUTION]
    return sorted(found.values(), key=lambda package: package.name.lower())


def fetch(wanted: Sequence[Distribution], out: Path, arch: str, python: str, unpacked: bool = False) -> None:
    """Downloads the wheels into ``out`` with a REQUIREMENTS file, or installs them there if ``unpacked``. Raises TryAgain if pip fails."""
    pins = [f"{package.name}=={package.version}" for package in wanted]
    machine = ARCHITECTURES[arch]
    newest = 26 if int(python.partition(".")[2]) <= 11 and unpacked else 34  # Lambda's Amazon Linux 2, and 2023
    platforms = [f"--platform=manylinux_2_{glibc}_{machine}" for glibc in range(newest, 16, -1)]
    built = [*platforms, f"--platform=manylinux2014_{machine}", "--only-binary=:all:", f"--python-version={python}", "--no-deps"]
    into = ["install", f"--target={out}"] if unpacked else ["download", f"--dest={out}"]
    command = [*_pip(), *into, "--quiet", "--disable-pip-version-check", *built, *pins]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own interpreter and names
    if done.returncode != 0:
        reason = next((line for line in done.stderr.splitlines() if line.startswith("ERROR")), f"exit status {done.returncode}")
        raise TryAgain(f"pip could not fetch what is needed for python{python} on {arch}: {reason[:300]}")
    if not unpacked:
        (out / REQUIREMENTS).write_text("".join(f"{pin}\n" for pin in pins), encoding="utf-8")


def _pip() -> list[str]:
    if find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    if (elsewhere := shutil.which("pip")) is not None:
        return [elsewhere]
    raise WrongUsage("pip is needed to fetch what is built for another machine; python -m ensurepip")
