"""The section of an input."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from recon.config.fields import Section, Text, Texts, mistake
from recon.intake.converters.layouts import Layout


class Input(Section):
    """Files with the same columns: a path, a list, or patterns such as ``bank/*.csv``, in a folder or in S3. ``format``: as in a source; by
    default known by the name. ``columns``: of files without a header, in order. ``types``: of columns; others are text, or have the type
    that Parquet gives them.

    Or, in place of ``path``, what a reconciliation has: its ``artifacts``, its ``breaks``, or a ``table`` that an aggregation loads.
    ``window``: artifacts and breaks up to and including it; of a table its rows."""

    path: Texts = ()
    from_: Annotated[Literal["artifacts", "breaks", "table"] | None, Field(alias="from")] = None
    table: Text | None = None
    window: Text | None = None
    format: Layout | None = None
    columns: Annotated[tuple[Text, ...], Field(max_length=16_384)] = ()
    types: dict[Text, Text] = Field(default={})

    @property
    def shown(self) -> str:
        """For people: its paths, or what it is of a reconciliation."""
        if self.from_ is None:
            return ", ".join(self.path)
        what = f"table {self.table}" if self.from_ == "table" else self.from_
        return f"{what} of window {self.window}" if self.window is not None else what

    @model_validator(mode="after")
    def _one_origin(self) -> Input:
        if (self.from_ is None) == (not self.path):
            raise mistake("write path: FILE, or from: artifacts, breaks or table", "from" if self.path else "path")
        if (self.from_ == "table") != (self.table is not None):
            raise mistake("write from: table with the name of an aggregation, such as table: daily_sales", "table")
        if self.window is not None and self.from_ is None:
            raise mistake("is for what a reconciliation has; a file has no window", "window")
        if self.from_ is not None and (self.format is not None or self.columns):
            raise mistake("format and columns are for files")
        return self
