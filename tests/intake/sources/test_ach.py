"""A NACHA file through a source: its control totals tie, and a changed digit rejects exactly the batch that has it."""

from __future__ import annotations

import gzip
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from folders import EXAMPLES

import recon
from recon.intake.manifests import read_manifest
from recon.intake.sources.details import rejects
from recon.storage import parquet

FILE = EXAMPLES / "ach" / "data" / "PPD-200-batches-100000-entries.ach.gz"
RECON = """
name: ach
store: ./store
key: batch
windows: {start: 2026-05-08T00:00Z, every: 1d}
events: {types: {amount: "decimal(18,2)"}}
measures: {total: {sum: amount}, entries: {count: "*"}}
"""
SOURCE = """
files: "*.ach"
window: {column: effective_date, format: "%y%m%d"}
format: nacha
columns:
  batch: text
  effective_date: text
  trace: {required: true}
  direction: {values: [credit, debit]}
  amount: {type: "decimal(18,2)", required: true}
"""


def site(folder: Path, content: bytes) -> recon.api.Reconciliation:
    (folder / "sources").mkdir(parents=True)
    (folder / "inbox").mkdir()
    (folder / "recon.yaml").write_text(RECON)
    (folder / "sources" / "ppd.yaml").write_text(SOURCE)
    (folder / "inbox" / "ppd.ach.gz").write_bytes(gzip.compress(content, 1))
    return recon.open(folder / "recon.yaml")


def test_200_control_totals_tie_and_the_credits_are_exact(tmp_path: Path) -> None:
    r = site(tmp_path / "site", gzip.decompress(FILE.read_bytes()))
    (file,) = r.deliver(tmp_path / "site" / "inbox").files
    assert (file.state, file.rejected_rows, file.parent, file.name) == ("landed", 0, "ppd.ach.gz", "ppd.ach")
    controls = file.figures["controls"]
    assert len([control for control in controls if "batch" in control["where"]]) >= 200
    assert all(control["declared"] == control["computed"] for control in controls)
    manifest = read_manifest(r.store(), r.config.grid.parse(str(file.window)))
    assert manifest is not None
    landed = parquet.read(r.store().local(manifest.files[0].path))
    assert pc.sum(pc.cast(landed["amount"], pa.decimal128(18, 2))).as_py() == Decimal("201233987.66")


def test_one_changed_digit_rejects_the_rows_of_its_batch_alone(tmp_path: Path) -> None:
    lines = gzip.decompress(FILE.read_bytes()).decode().splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if number > 40_000 and line.startswith("6"))
    digit = lines[at][38]
    lines[at] = lines[at][:38] + ("1" if digit != "1" else "2") + lines[at][39:]
    starts = [number for number, line in enumerate(lines[:at]) if line.startswith("5")]
    end = next(number for number in range(at, len(lines)) if lines[number].startswith("8"))
    entries = [number + 1 for number in range(starts[-1], end) if lines[number].startswith("6")]
    r = site(tmp_path / "site", "".join(lines).encode())
    (file,) = r.deliver(tmp_path / "site" / "inbox").files
    assert file.state == "landed"
    found = rejects(r.intake(), file)
    assert [row["line"] for row in found] == entries
    assert all("credits" in row["reason"] for row in found)
