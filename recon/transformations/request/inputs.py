"""The section of an input."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from recon.config.fields import Section, Text, Texts
from recon.intake.converters.layouts import Layout


class Input(Section):
    """Files with the same columns: a path, a list, or patterns such as ``bank/*.csv``, in a folder or in S3. ``format``: as in a source; by
    default known by the name. ``columns``: of files without a header, in order. ``types``: of columns; others are text, or have the type
    that Parquet gives them."""

    path: Annotated[Texts, Field(min_length=1)]
    format: Layout | None = None
    columns: Annotated[tuple[Text, ...], Field(max_length=16_384)] = ()
    types: dict[Text, Text] = Field(default={})
