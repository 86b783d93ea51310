"""Every path and every module that a page names exists, and so does every definition that a recipe names."""

from __future__ import annotations

import pkgutil
import re
from pathlib import Path

import pytest
from folders import ROOT

PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md")
    for path in ROOT.glob(pattern)
    if path.name != "CHANGELOG.md" and "Status: decided, not built" not in path.read_text(encoding="utf-8")  # name what was, or will be
)
FOLDERS = "recon|recon_assets|recon_dagster|resources|jobs|tests|docs|infra|examples|benchmarks"
PATH = re.compile(rf"`((?:{FOLDERS})/(?:[\w./-]*/|[\w./-]*\.\w+)?|(?:CONTRIBUTING|CHANGELOG|SECURITY)\.md|pyproject\.toml)`")
MODULE = re.compile(
    r"`((?:recon\.(?!yaml|env|open\b)|recon_assets\.|recon_dagster\.(?!jobs|resources)|resources\.|jobs\.)[a-z_]\w*(?:\.\w+)*)(?:\(…?[^`]*\))?`"
)
PACKAGES = ("recon", "recon_assets", "recon_dagster", "resources", "jobs")
PROGRAMS = [*(f"{folder}/**/*.py" for folder in PACKAGES), "Makefile", "compose.yaml"]
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES)
def test_every_path_that_a_page_names_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = [ROOT / path for path in PATH.findall(text)] + [(ROOT / page).parent / target for target in LINK.findall(text)]
    assert [path for path in named if not path.exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_heading_that_a_page_links_to_exists(page: str) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", (ROOT / page).read_text(encoding="utf-8")):
        file = (ROOT / page).parent / target if target else ROOT / page
        headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}, (target, anchor)


@pytest.mark.parametrize("page", PAGES)
def test_every_module_that_a_page_names_exists(page: str) -> None:
    for name in MODULE.findall((ROOT / page).read_text(encoding="utf-8")):
        assert pkgutil.resolve_name(name) is not None


READ = set(
    re.findall(r"\bRECON_[A-Z_]+\b", "\n".join(path.read_text(encoding="utf-8") for pattern in PROGRAMS for path in ROOT.glob(pattern)))
)


@pytest.mark.parametrize("page", PAGES)
def test_every_environment_variable_that_a_page_names_is_read_by_a_program(page: str) -> None:
    assert set(re.findall(r"\bRECON_[A-Z_]+\b", (ROOT / page).read_text(encoding="utf-8"))) - READ == set()


def test_the_guide_names_every_room() -> None:
    rooms = {f"recon/{folder.parent.name}/" for folder in Path(ROOT / "recon").glob("*/__init__.py")}
    named = set(PATH.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))
    assert rooms | {"recon_assets/", "recon_dagster/", "resources/", "jobs/"} <= named


STEPS = re.split(r"\n(?=\d\. |#)", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Recipes")[2])
OTHER = {"memory", "line", "span", "problem", "windows", "land", "store", "local"}
"""Words in backticks that are no definitions, or those of a module that a reader has yet to write."""


@pytest.mark.parametrize("step", [step for step in STEPS if PATH.search(step)], ids=lambda step: " ".join(step.split()[:4]))
def test_every_definition_that_a_recipe_names_is_in_the_files_of_its_step(step: str) -> None:
    files = [file for path in PATH.findall(step) for file in ([ROOT / path] if (ROOT / path).is_file() else (ROOT / path).rglob("*.py"))]
    texts = "\n".join(file.read_text(encoding="utf-8") for file in files)
    assert [name for name in re.findall(r"`([A-Za-z_]+)`", step) if name not in OTHER and not re.search(rf"\b{name}\b", texts)] == []
