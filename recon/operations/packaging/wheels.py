"""Wheels of what Recon needs, in the versions that are installed here, for machines of another architecture or Python."""

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
    """These distributions. Raises WrongUsage for one that is not installed."""
    found = []
    for name in names:
        try:
            found.append(distribution(name))
        except PackageNotFoundError:
            raise WrongUsage(f"{name} is not installed here; pip install 'dagster-recon[aws]'") from None
    return found


def needed(extra: str, without: Sequence[str] = ()) -> list[Distribution]:
    """All that Recon needs with an extra, what these need in their turn included; ``without`` what begins with these names."""
    from packaging.requirements import Requirement

    found: dict[str, Distribution] = {}

    def add(name: str) -> None:
        (one,) = installed([name])
        if one.name in found:
            return
        found[one.name] = one
        for text in one.requires or ():
            requirement = Requirement(text)
            of = extra if name == DISTRIBUTION else ""
            applies = requirement.marker is None or requirement.marker.evaluate({"extra": of})
            if applies and not requirement.name.startswith(tuple(without)):
                add(requirement.name)

    add(DISTRIBUTION)
    del found[DISTRIBUTION]
    return sorted(found.values(), key=lambda one: one.name.lower())


def fetch(wanted: Sequence[Distribution], out: Path, arch: str, python: str, unpacked: bool = False) -> None:
    """Their wheels into ``out``, with REQUIREMENTS, or ``unpacked`` as they are imported. Raises TryAgain where pip could not."""
    pins = [f"{one.name}=={one.version}" for one in wanted]
    machine = ARCHITECTURES[arch]
    newest = 26 if int(python.partition(".")[2]) <= 11 and unpacked else 34  # Lambda's Amazon Linux 2, and 2023
    platforms = [f"--platform=manylinux_2_{glibc}_{machine}" for glibc in range(newest, 16, -1)]
    built = [*platforms, f"--platform=manylinux2014_{machine}", "--only-binary=:all:", f"--python-version={python}", "--no-deps"]
    into = ["install", f"--target={out}"] if unpacked else ["download", f"--dest={out}"]
    command = [*_pip(), *into, "--quiet", "--disable-pip-version-check", *built, *pins]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own interpreter and names
    if done.returncode != 0:
        told = next((line for line in done.stderr.splitlines() if line.startswith("ERROR")), f"exit status {done.returncode}")
        raise TryAgain(f"pip could not fetch what is needed for python{python} on {arch}: {told[:300]}")
    if not unpacked:
        (out / REQUIREMENTS).write_text("".join(f"{pin}\n" for pin in pins), encoding="utf-8")


def _pip() -> list[str]:
    if find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    if (elsewhere := shutil.which("pip")) is not None:
        return [elsewhere]
    raise WrongUsage("pip is needed to fetch what is built for another machine; python -m ensurepip")
