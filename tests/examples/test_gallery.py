"""The gallery of transformations: each job gives the output that its folder and the documentation have."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import openpyxl
import pytest
from folders import EXAMPLES, ROOT

from recon.transformations.run import carry_out, read_request

GALLERY = EXAMPLES / "gallery"
JOBS = sorted(path.name for path in GALLERY.iterdir() if path.is_dir())
SHOWN = re.compile(r"`([a-z-]+/[\w./-]+)`:\n```(?:yaml)?\n(.*?)\n```", re.DOTALL)


@pytest.mark.parametrize("name", JOBS)
def test_a_job_gives_what_its_folder_has(tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(GALLERY / name, tmp_path / name))
    carry_out(read_request(folder / "request.yaml"))
    expected = {path.name: path.read_text() for path in (folder / "expected").iterdir()}
    assert {path.name: path.read_text() for path in (folder / "out").glob("*.csv")} == expected


def test_the_page_shows_all_files_of_all_jobs_as_they_are() -> None:
    shown = dict(SHOWN.findall((ROOT / "docs" / "transformations.md").read_text(encoding="utf-8")))
    files = {str(path.relative_to(GALLERY)): path.read_text().rstrip("\n") for name in JOBS for path in (GALLERY / name).rglob("*.*")}
    assert shown == files
    assert len(JOBS) == 10


def test_the_workbook_of_the_top_customers_has_numbers(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(GALLERY / "top-customers", tmp_path / "job"))
    carry_out(read_request(folder / "request.yaml"))
    rows = list(openpyxl.load_workbook(folder / "out" / "top.xlsx")["sales"].iter_rows(values_only=True))
    assert rows[1] == (1, "Hotel Post", 3450.1, 3, "60.2%", "60.2%")
