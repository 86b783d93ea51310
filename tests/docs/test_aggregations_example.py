"""docs/aggregations.md shows what its commands print: they are run here in their order, and compared except for times of today."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import yaml
from cli_calls import command
from folders import EXAMPLES, ROOT

DOCS = (ROOT / "docs" / "aggregations.md").read_text(encoding="utf-8")
CALLS = re.findall(r"^\$ (.*)\n((?:(?!\$ |```).*\n)*)", DOCS, re.MULTILINE)


def comparable(text: str) -> list[str]:
    """Lines without the times of today."""
    return [re.sub(r"20[2-9]\d-\d\d-\d\d[T ]\d\d:\d\dZ", "TIME", line.rstrip()) for line in text.strip().splitlines()]


def test_the_walk_prints_what_the_page_shows(tmp_path: Path) -> None:
    folder = tmp_path / "franchise"
    shutil.copytree(EXAMPLES / "franchise", folder)
    ran = 0
    for call, shown in CALLS:
        if not call.startswith("recon "):
            subprocess.run(call, shell=True, cwd=folder, check=True)
            continue
        done = command(*call.split()[1:], cwd=folder)
        assert comparable(done.stdout) == comparable(shown), call
        assert done.returncode == (1 if " waits: " in shown else 0), call
        ran += 1
    assert ran >= 10


def test_the_definition_is_that_of_the_example() -> None:
    shown = yaml.safe_load(DOCS.partition("```yaml\n")[2].partition("```")[0])
    assert shown == yaml.safe_load((EXAMPLES / "franchise" / "aggregations" / "daily_sales.yaml").read_text())


def test_every_field_is_described() -> None:
    from recon.aggregations.definitions.sections import AggregationSection

    described = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`[^|]*) \|", DOCS.partition("## A definition")[2], re.MULTILINE))))
    assert set(AggregationSection.model_fields) <= described


def test_every_view_is_described() -> None:
    from recon.aggregations.definitions.criteria import VIEWS

    rows = dict(re.findall(r"^\| `(files|runs|windows)` \| (.*) \|$", DOCS, re.MULTILINE))
    assert {view: set(re.findall(r"`(\w+)`", columns)) for view, columns in rows.items()} == {
        view: set(names) for view, names in VIEWS.items()
    }
