"""Exports: whole or not at all, exact, and nothing in them that a spreadsheet would run."""

from __future__ import annotations

import csv
import json
import re
import signal
import stat
import subprocess
import sys
import time
import zipfile
from decimal import Decimal
from pathlib import Path
from xml.etree import ElementTree

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import strategies as s
from histories import open_in
from hypothesis import given, settings
from hypothesis import strategies as st

from recon.api import Reconciliation
from recon.errors import WrongUsage
from recon.reading.exports import write_rows

WINDOW = "2026-11-01T00:00Z"
FORMULAS = [
    *("=1+1", "+491701", "-7", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1+1", "=cmd|' /C calc'!A0", '=HYPERLINK("x")', "'=1", "''-1"),
    *("\uff1d1+1", "\uff0b1", "\uff0d1", "\uff20x"),
]
HARMLESS = ["A112", "'tis", "'", "1-2", "a=b", "x@example.org", "", "–7", "naïve 😀"]
SPREADSHEET = re.compile("[\x00-\x20]*[=+@\\-\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")


def undone(cell: str) -> str:
    """As docs/cli.md says: one apostrophe off what, without its apostrophes, a spreadsheet would take for a formula."""
    return cell[1:] if cell.startswith("'") and SPREADSHEET.match(cell.lstrip("'")) else cell


def csv_rows(file: Path) -> list[list[str]]:
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.reader(opened))[1:]


def sheet(file: Path) -> ElementTree.Element:
    with zipfile.ZipFile(file) as book:
        return ElementTree.fromstring(book.read("xl/worksheets/sheet1.xml"))


def xlsx_texts(file: Path) -> list[str]:
    """All texts of a sheet, as a spreadsheet shows them."""
    name = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
    texts = ["".join(part.text or "" for part in cell.iter(f"{name}t")) for cell in sheet(file).iter(f"{name}is")]
    return [re.sub(r"_x([0-9A-F]{4})_", lambda found: chr(int(found[1], 16)), text) for text in texts]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Reconciliation:
    """A store whose keys and texts are formulas, and whose amounts are negative."""
    folder = tmp_path_factory.mktemp("hostile")
    text = (
        s.STANDARD_YAML.replace('{BREAK: "true"}', '{"=BREAK": "true"}')
        .replace("{UNPAID", '{"-UNPAID"')
        .replace("balance = 0", "balance = 1")
    )
    r = open_in(folder, text)
    rows = [
        {"order_id": key, "event_id": str(n), "event_type": "=PAYMENT()", "amount": "-5.00", "currency": "EUR"}
        for n, key in enumerate(filter(None, FORMULAS + HARMLESS))
    ]
    (folder / "x.jsonl").write_text("".join(json.dumps({**row, "booked_at": "2026-11-01T00:10:00Z"}) + "\n" for row in rows))
    r.land([folder / "x.jsonl"], WINDOW, close=True, again=True)
    assert r.run().rejected == 0
    return r


def test_no_text_in_a_csv_file_reads_as_a_formula_and_all_of_them_come_back(hostile: Reconciliation, tmp_path: Path) -> None:
    for written in (hostile.export, hostile.export_breaks):
        written(tmp_path / "all.csv")
        with (tmp_path / "all.csv").open(encoding="utf-8", newline="") as opened:
            rows = list(csv.DictReader(opened))
        assert {undone(row["key"]) for row in rows} == set(filter(None, FORMULAS + HARMLESS))
        assert {row["status"] for row in rows} == {"'-UNPAID"}
        assert {row["latest"] for row in rows} == {"'=PAYMENT()"}
        assert not [row["key"] for row in rows if SPREADSHEET.match(row["key"])]
        # Numbers are numbers, also where they begin with a minus.
        assert {(row["smallest"], row["unexplained"]) for row in rows} == {("-5.00", "5.00")}


def test_a_sheet_holds_texts_as_texts_numbers_as_numbers_and_no_formula(hostile: Reconciliation, tmp_path: Path) -> None:
    hostile.export(tmp_path / "all.xlsx")
    texts = xlsx_texts(tmp_path / "all.xlsx")
    assert set(filter(None, FORMULAS + HARMLESS)) <= set(texts)
    assert {"-UNPAID", "=PAYMENT()"} <= set(texts)
    namespace = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
    assert not list(sheet(tmp_path / "all.xlsx").iter(f"{namespace}f"))
    assert "-5" in {value.text for value in sheet(tmp_path / "all.xlsx").iter(f"{namespace}v")}


def test_jsonl_and_parquet_hold_every_text_as_it_is(hostile: Reconciliation, tmp_path: Path) -> None:
    hostile.export(tmp_path / "all.jsonl")
    hostile.export(tmp_path / "all.parquet")
    lines = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text("utf-8").splitlines()]
    table = pq.read_table(tmp_path / "all.parquet").to_pylist()
    for rows in (lines, table):
        assert {row["key"] for row in rows} == set(filter(None, FORMULAS + HARMLESS))
        assert {Decimal(row["smallest"]) for row in rows} == {Decimal("-5.00")}


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
CONNECTION = duckdb.connect()
LIKELY = st.text("'=+-@\t\r\n a1\uff1d,\"", max_size=6)


@settings(deadline=None, max_examples=200)
@given(st.lists(TEXTS | LIKELY, min_size=1, max_size=20))
def test_any_text_comes_back_from_csv_and_none_is_a_formula(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    file = tmp_path_factory.mktemp("texts") / "x.csv"
    connection = CONNECTION.cursor()
    connection.register("texts", pa.table({"n": list(range(len(texts))), "text": pa.array(texts, pa.string())}))
    assert write_rows(connection, "FROM texts ORDER BY n", file) == len(texts)
    cells = [cell for _, cell in csv_rows(file)]
    assert not [cell for cell in cells if SPREADSHEET.match(cell)]
    assert [undone(cell) for cell in cells] == texts
    assert all(cell == text or SPREADSHEET.match(text.lstrip("'")) for cell, text in zip(cells, texts, strict=True))


# Whole or not at all

WRITING = """
import resource, signal, sys
from pathlib import Path
import duckdb
from recon.config import load_config
from recon.engines.duckdb.session import connect
from recon.cli import main
from recon.reading.exports import write_rows

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
rows, limit, file, config = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), load_config(Path(sys.argv[4]))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

def export(*_):
    store = Reconciliation(Path(sys.argv[4])).store(create=True)
    scratch = file.parent.parent / "scratch"
    scratch.mkdir()
    with connect(store, config, scratch / "x") as connection:
        write_rows(connection, f"SELECT md5(i::varchar) AS a, i FROM range({rows}) t(i)", file)

from recon.api import Reconciliation
Reconciliation.export = export
sys.exit(main(["export", str(file), "--config", sys.argv[4]]))
"""
UNLIMITED = -1


def writing(tmp_path: Path, file: Path, rows: int, limit: int) -> subprocess.Popen[str]:
    """The command ``recon export`` over so many rows; files may have at most ``limit`` bytes, as on a disk that is full."""
    config = tmp_path / "recon.yaml"
    config.write_text(s.STANDARD_YAML)
    command = [sys.executable, "-c", WRITING, str(rows), str(limit), str(file), str(config)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def old_export(tmp_path: Path, suffix: str) -> Path:
    """A file of an earlier export, alone in its folder."""
    file = tmp_path / "exports" / f"november.{suffix}"
    file.parent.mkdir()
    file.write_text("the old one")
    return file


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet", "xlsx"])
def test_on_a_full_disk_the_old_file_stays_and_no_part_of_the_new_one(tmp_path: Path, suffix: str) -> None:
    file = old_export(tmp_path, suffix)
    with writing(tmp_path, file, 50_000, 65_536) as process:
        out, err = process.communicate()
    assert (process.returncode, out) == (3, "")
    assert err.count("\n") == 1
    assert f"{file}: the disk is full" in err
    assert file.read_text() == "the old one"
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet", "xlsx"])
def test_ctrl_c_leaves_the_old_file_and_no_part_of_the_new_one(tmp_path: Path, suffix: str) -> None:
    file = old_export(tmp_path, suffix)
    with writing(tmp_path, file, 1_000_000 if suffix == "xlsx" else 20_000_000, UNLIMITED) as process:
        deadline = time.monotonic() + 60
        while not any(part.stat().st_size for part in file.parent.glob(".recon-*/*")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err == "recon: interrupted; nothing half-done is visible, run it again to go on\n"
    assert file.read_text() == "the old one"
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_sheet_that_cannot_hold_a_text_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "x.xlsx"
    file.write_text("the old one")
    with pytest.raises(WrongUsage, match=r"row 1: a text of 40,000 characters does not fit a cell of 32,767"):
        write_rows(duckdb.connect(), "SELECT repeat('x', 40000) AS a", file)
    assert file.read_text() == "the old one"
    assert [path.name for path in tmp_path.iterdir()] == ["x.xlsx"]


def test_an_export_replaces_the_file_and_keeps_its_permissions_and_a_link_to_it(tmp_path: Path) -> None:
    held = tmp_path / "held" / "private.csv"
    held.parent.mkdir()
    held.write_text("the old one")
    held.chmod(0o600)
    link = tmp_path / "link.csv"
    link.symlink_to(held)
    assert write_rows(duckdb.connect(), "SELECT 1 AS a", link) == 1
    assert link.is_symlink()
    assert held.read_text() == "a\n1\n"
    assert stat.S_IMODE(held.stat().st_mode) == 0o600
    new = tmp_path / "new.csv"
    write_rows(duckdb.connect(), "SELECT 1 AS a", new)
    (tmp_path / "plain").touch()
    assert new.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_folder_of_the_name_is_refused_before_anything_is_read(hostile: Reconciliation, tmp_path: Path) -> None:
    (tmp_path / "x.csv").mkdir()
    with pytest.raises(WrongUsage, match=r"x.csv: this is a folder; name a file"):
        hostile.export(tmp_path / "x.csv")
    with pytest.raises(WrongUsage, match=r"cannot be written"):
        hostile.export(tmp_path / ("x" * 300 + ".csv"))
