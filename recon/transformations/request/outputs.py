"""The section of an output."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Literal

from pydantic import field_validator, model_validator

from recon.config.fields import Section, Text, mistake

SUFFIXES = (".csv", ".tsv", ".parquet", ".xlsx")


class Output(Section):
    """A file of a table: csv, tsv, parquet or xlsx by its suffix, in a folder or in S3. ``guard``: whether texts of csv and tsv that a
    spreadsheet might take for a formula get an apostrophe in front. ``sheets``: what rows beyond those of one sheet of xlsx are: refused,
    or on further sheets."""

    table: Text
    path: Text
    guard: bool = True
    sheets: Literal["one", "split"] = "one"

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.path).suffix.lower()

    @property
    def rejects(self) -> str:
        """The path of the rows with errors, where they are rejected."""
        return f"{self.path}.rejects.csv"

    @field_validator("path")
    @classmethod
    def _known_suffix(cls, path: str) -> str:
        if PurePosixPath(path).suffix.lower() not in SUFFIXES:
            raise mistake(f"{path!r} is no name of an output; write .csv, .tsv, .parquet or .xlsx at its end")
        return path

    @model_validator(mode="after")
    def _sheets_of_a_workbook(self) -> Output:
        if self.sheets == "split" and self.suffix != ".xlsx":
            raise mistake("is for .xlsx only; any other file has no limit of rows", "sheets")
        return self
