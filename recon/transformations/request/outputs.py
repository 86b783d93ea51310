"""The section of an output."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Literal

from pydantic import model_validator

from recon.config.fields import Section, Text, mistake

FORMATS = ("csv", "tsv", "parquet", "xlsx")


class Output(Section):
    """A file of a table, in a folder or in S3. ``format``: by default known by the path's suffix. ``guard``: whether texts of csv and tsv
    that a spreadsheet might take for a formula get an apostrophe in front. ``sheets``: what rows beyond those of one sheet of xlsx are:
    refused, or on further sheets."""

    table: Text
    path: Text
    format: Literal["csv", "tsv", "parquet", "xlsx"] | None = None
    guard: bool = True
    sheets: Literal["one", "split"] = "one"

    @property
    def kind(self) -> str:
        """One of ``FORMATS``."""
        return self.format or PurePosixPath(self.path).suffix.lower().removeprefix(".")

    @property
    def rejects(self) -> str:
        """The path of the rows with errors, where they are rejected."""
        return f"{self.path}.rejects.csv"

    @model_validator(mode="after")
    def _known_kind(self) -> Output:
        if self.kind not in FORMATS:
            fault = f"{self.path!r} does not say its format; write .csv, .tsv, .parquet or .xlsx at its end, or format: with one of them"
            raise mistake(fault, "path")
        if self.sheets == "split" and self.kind != "xlsx":
            raise mistake("is for .xlsx only; any other file has no limit of rows", "sheets")
        return self
