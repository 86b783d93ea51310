"""Every path that a guide names exists: files and folders in backticks, and the targets of links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from folders import ROOT

GUIDES = ("CONTRIBUTING.md", "README.md", "docs/design.md")
FOLDERS = "recon|recon_assets|resources|jobs|tests|docs|infra|examples|benchmarks"
NAMED = re.compile(rf"`((?:{FOLDERS})/[\w./-]*|[\w.-]+\.(?:md|toml|py|yaml))`")
LINKED = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
MADE_BY_A_COMMAND = {"recon.yaml"}


def paths_in(guide: str) -> list[Path]:
    """The paths that a guide names from the root of the repository, and those that it links to from its own folder."""
    text = (ROOT / guide).read_text(encoding="utf-8")
    named = [ROOT / name for name in NAMED.findall(text) if name not in MADE_BY_A_COMMAND]
    return named + [(ROOT / guide).parent / target for target in LINKED.findall(text)]


@pytest.mark.parametrize("guide", GUIDES)
def test_every_path_that_a_guide_names_exists(guide: str) -> None:
    paths = paths_in(guide)
    assert len(paths) >= 10
    assert [str(path.relative_to(ROOT)) for path in paths if not path.exists()] == []


def test_the_guide_names_every_room() -> None:
    rooms = {f"recon/{folder.parent.name}/" for folder in (ROOT / "recon").glob("*/__init__.py")}
    assert rooms | {"recon_assets/", "resources/", "jobs/"} <= set(NAMED.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))
