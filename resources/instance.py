"""Dagster's own home: one for the command line and the UI alike.

Belongs here: where the home is, and making it. Does not belong here: what is run there (jobs).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import dagster as dg

from recon.errors import WrongUsage

DAGSTER_YAML = "dagster.yaml"
WORKSPACE_YAML = "workspace.yaml"


def configuration_path(named: str | Path | None = None) -> Path:
    """The configuration, a file or a folder of such files: as named, else $RECON_CONFIG, else recon.yaml in the working directory."""
    return Path(named or os.environ.get("RECON_CONFIG") or "recon.yaml").absolute()


def home_of(configuration: Path) -> Path:
    """$DAGSTER_HOME, else ``.dagster`` beside the configuration file (in the configuration folder)."""
    if named := os.environ.get("DAGSTER_HOME"):
        home = Path(named)
        if not home.is_absolute():
            raise WrongUsage(f"DAGSTER_HOME: {named!r} is not an absolute path; write it from the root, or unset it")
        return home
    configuration = configuration.absolute()
    return (configuration if configuration.is_dir() else configuration.parent) / ".dagster"


def prepared_home(configuration: Path) -> Path:
    """The home as a folder with a dagster.yaml in it; one that stands there already is left as it is."""
    home = home_of(configuration)
    try:
        home.mkdir(parents=True, exist_ok=True)
        try:
            with (home / DAGSTER_YAML).open("x", encoding="utf-8") as file:
                file.write(top_level_file(DAGSTER_YAML).read_text(encoding="utf-8"))
        except FileExistsError:
            pass
    except OSError as error:
        raise WrongUsage(f"{home}: Dagster's home cannot be made ({error.strerror}); name another in DAGSTER_HOME") from None
    return home


def open_instance(configuration: Path) -> dg.DagsterInstance:
    """The instance that ``make ui`` shows for this configuration. Dispose of it, or use it in a ``with``."""
    return dg.DagsterInstance.from_config(str(prepared_home(configuration)))


def top_level_file(name: str) -> Path:
    """``dagster.yaml`` or ``workspace.yaml``: of the source tree, or as an installed package has put it below share/recon."""
    places = (Path(__file__).resolve().parents[1] / name, Path(sys.prefix) / "share" / "recon" / name)
    for place in places:
        if place.is_file():
            return place
    raise WrongUsage(f"{name} is neither {places[0]} nor {places[1]}; install Recon again")
