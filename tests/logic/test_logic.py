"""User logic: all of its own modules belong to the rules, and a process that lives on judges by the rules that it read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import strategies as s
from histories import open_in

from recon.api import Reconciliation
from recon.config import load_config
from recon.errors import WrongUsage

WINDOW = "2026-11-01T00:00Z"
JUDGE = """
import pyarrow as pa
{imports}

def judge(table, stage):
    if stage == "reduce":
        return table
    {late}
    place = table.column_names.index("status")
    return table.set_column(place, table.schema.field("status"), pa.array([{status}] * len(table), pa.string()))
"""
WAYS = {
    "import helper": ("import helper", "pass", "helper.NAME"),
    "from helper import NAME": ("from helper import NAME", "pass", "NAME"),
    "from helper import *": ("from helper import *", "pass", "NAME"),
    "import helper as other": ("import helper as other", "pass", "other.NAME"),
    "inside the function": ("", "from helper import NAME", "NAME"),
    "through a module": ("import between", "pass", "between.helper.NAME"),
    "through a package": ("from words import deep", "pass", "deep.NAME"),
    "a module of a package": ("import words.deep", "pass", "words.deep.NAME"),
    "relative, within a package": ("from words import upward", "pass", "upward.NAME"),
    "a folder without __init__": ("import bare.inner as inner", "pass", "inner.NAME"),
}


def write(folder: Path, imports: str, late: str, status: str, name: str) -> Path:
    """The logic ``rules:judge`` beside recon.yaml, with modules of its own that lead to ``name``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recon.yaml").write_text(s.STANDARD_YAML + "logic: rules:judge\n")
    (folder / "rules.py").write_text(JUDGE.format(imports=imports, late=late, status=status))
    (folder / "helper.py").write_text(f"NAME = {name!r}\n")
    (folder / "between.py").write_text("import helper, json, between\n")
    for package in ("words", "bare"):
        (folder / package).mkdir(exist_ok=True)
    (folder / "words" / "__init__.py").write_text("")
    (folder / "words" / "deep.py").write_text("from helper import NAME\n")
    (folder / "words" / "upward.py").write_text("from . import deep\nfrom .deep import NAME\nassert deep.NAME == NAME\n")
    (folder / "bare" / "inner.py").write_text("from helper import NAME\n")
    (folder / "unused.py").write_text("import no_such_module\n")
    return folder / "recon.yaml"


def judged(folder: Path) -> str:
    """The status that the logic gives, in a store of its own."""
    r = open_in(folder, (folder / "recon.yaml").read_text())
    return status_by(r, folder)


def status_by(r: Reconciliation, folder: Path) -> str:
    (folder / "x.csv").write_text("order_id,event_id,event_type,amount,currency,booked_at\nA,1,INVOICE,1.00,EUR,2026-11-01T00:10:00Z\n")
    r.land([folder / "x.csv"], WINDOW, close=True)
    assert not r.run().bad
    return str(r.show("A")["status"])


@pytest.mark.parametrize("way", WAYS)
def test_a_module_beside_is_part_of_the_rules_however_it_is_imported(tmp_path: Path, way: str) -> None:
    versions, statuses = [], []
    for name in ("FIRST", "SECOND"):
        path = write(tmp_path / "rules", *WAYS[way], name)
        versions.append(load_config(path).rules_version)
        (tmp_path / "rules").rename(tmp_path / name)
        # The same process, the same names of modules.
        statuses.append(judged(tmp_path / name))
    assert statuses == ["FIRST", "SECOND"]
    assert versions[0] != versions[1]


def test_what_the_logic_does_not_import_is_no_part_of_the_rules(tmp_path: Path) -> None:
    path = write(tmp_path, *WAYS["through a package"], "NAME")
    before = load_config(path).rules_version
    (tmp_path / "unused.py").write_text("x = 1\n")
    (tmp_path / "between.py").write_text("x = 1\n")
    assert load_config(path).rules_version == before
    (tmp_path / "words" / "__init__.py").write_text("# a package that is imported on the way\n")
    assert load_config(path).rules_version != before


def test_two_reconciliations_may_have_modules_of_the_same_names(tmp_path: Path) -> None:
    opened = []
    for name in ("ONE", "TWO"):
        path = write(tmp_path / name, *WAYS["inside the function"], name)
        opened.append((open_in(path.parent, path.read_text()), path.parent))
    assert [status_by(r, folder) for r, folder in opened] == ["ONE", "TWO"]
    assert "helper" not in sys.modules


def test_a_process_judges_by_the_rules_that_it_read_though_a_module_was_edited_since(tmp_path: Path) -> None:
    path = write(tmp_path, *WAYS["inside the function"], "READ")
    r = open_in(tmp_path, path.read_text())
    version = r.config.rules_version
    (tmp_path / "helper.py").write_text("NAME = 'EDITED'\n")
    assert status_by(r, tmp_path) == "READ"
    assert r.state().rules == version
    # Whoever reads the configuration now is told that the rules changed.
    later = open_in(tmp_path, path.read_text())
    later.replay(WINDOW)
    with pytest.raises(WrongUsage, match="rules"):
        later.run()


def test_a_module_that_breaks_names_the_logic(tmp_path: Path) -> None:
    path = write(tmp_path, *WAYS["import helper"], "NAME")
    (tmp_path / "helper.py").write_text("NAME = (\n")
    with pytest.raises(WrongUsage, match=r"recon.yaml:\d+: logic: .*helper.py cannot be read as Python"):
        load_config(path)


PACKAGE = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "house-rules"
version = "VERSION"
[tool.setuptools]
py-modules = ["house_rules"]
"""


def test_the_version_of_an_installed_package_is_part_of_the_rules(tmp_path: Path) -> None:
    """A real distribution, installed into a folder that a process takes for its own site-packages."""
    package, config = tmp_path / "package", tmp_path / "config"
    package.mkdir()
    config.mkdir()
    (package / "house_rules.py").write_text("def judge(table, stage):\n    return table\n")
    (config / "recon.yaml").write_text(s.STANDARD_YAML + "logic: house_rules:judge\n")
    told = []
    for version in ("1.0", "1.1"):
        (package / "pyproject.toml").write_text(PACKAGE.replace("VERSION", version))
        site = tmp_path / version
        build = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-build-isolation",
            "--no-deps",
            "--no-index",
            "--target",
            str(site),
        ]
        subprocess.run([*build, str(package)], check=True)
        code = (
            f"import sys, sysconfig; site = {str(site)!r}; sys.path.insert(0, site); paths = sysconfig.get_paths()\n"
            "sysconfig.get_paths = lambda: {**paths, 'purelib': site}\n"
            "from pathlib import Path; from recon.config.load import load_config\n"
            f"config = load_config(Path({str(config / 'recon.yaml')!r})); print(config.rules_version, config.logic_source.distribution)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        told.append(done.stdout.split())
    assert [distribution for _, distribution in told] == ["house-rules==1.0", "house-rules==1.1"]
    assert told[0][0] != told[1][0]
