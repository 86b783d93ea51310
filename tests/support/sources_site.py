"""A small site with one source, for tests of the intake."""

from __future__ import annotations

from pathlib import Path

import recon
from recon.api import Reconciliation
from recon.intake.sources.tracking import Tracked

RECON = """
name: bank
store: ./store
key: account
windows: {start: 2026-11-01T00:00Z, every: 1d}
events: {types: {amount: "decimal(18,2)"}}
measures: {total: {sum: amount}, lines: {count: "*"}}
control: {amount: {sum: amount}}
"""
SOURCE = """
files: "bank_{day}_{part}.csv"
format: {kind: delimited, delimiter: ";", header: true}
columns:
  account: {column: Konto, ACCOUNT}
  amount: {column: Betrag, type: "decimal(18,2)", clean: [{decimal: ","}]}
"""
BY_NAME = "window: {part: day, format: '%Y%m%d'}"


def site(
    folder: Path,
    account: str = "required: true",
    extra: str = "",
    window: str = "window: {part: day, format: '%Y%m%d'}",
    columns: str = "",
) -> Reconciliation:
    """A site in a folder, whose source has rules for its column ``account``, ``extra`` fields and one more of ``columns``."""
    (folder / "sources").mkdir(parents=True)
    (folder / "inbox").mkdir()
    (folder / "recon.yaml").write_text(RECON)
    described = SOURCE.replace("ACCOUNT", account) + (f"  {columns}\n" if columns else "")
    (folder / "sources" / "bank.yaml").write_text("\n".join([described, window, extra, ""]))
    return recon.open(folder / "recon.yaml")


def inbox(r: Reconciliation) -> Path:
    """The folder that its files arrive in."""
    return r.config.path.parent / "inbox"


def deliver_one(r: Reconciliation, text: str, name: str = "bank_20261101_1.csv") -> Tracked:
    """The one file with this content, as it is after its delivery."""
    (inbox(r) / name).write_text(text)
    (file,) = r.deliver(inbox(r)).files
    return file
