"""Reads the configurations that a code location serves: one file, or a folder of files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from recon.config import Config, load_config
from recon.errors import ReconError, WrongUsage


@dataclass(frozen=True)
class Configurations:
    """``good``: the valid configurations. ``broken``: file → its mistake, in one line."""

    good: tuple[Config, ...]
    broken: dict[Path, str]


def read_configurations(path: Path) -> Configurations:
    """Reads a file, or all \\*.yaml and \\*.yml of a folder, in order of their names. A file with a mistake, or with the name of an earlier
    reconciliation, is broken; the others stay valid. Raises WrongUsage if there is no file."""
    good: dict[str, Config] = {}
    broken: dict[Path, str] = {}
    for file in _files(path):
        try:
            config = load_config(file)
            if config.name in good:
                raise WrongUsage(f"{file}: name: {config.name!r} is the name in {good[config.name].path} already; choose another")
            good[config.name] = config
        except ReconError as error:
            broken[file] = str(error)
    return Configurations(tuple(good.values()), broken)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        if not path.exists():
            raise WrongUsage(f"{path}: no such file; name one in RECON_CONFIG, or make one with 'recon init DIR'")
        return [path]
    found = sorted(file for file in path.iterdir() if file.suffix in (".yaml", ".yml") and file.is_file())
    if not found:
        raise WrongUsage(f"{path}: there is no *.yaml file in this folder; make one with 'recon init DIR'")
    return found
