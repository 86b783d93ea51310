"""The ``format:`` section of a source: one section per kind of file, chosen by ``kind``."""

from __future__ import annotations

import codecs
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from recon.config.fields import Section, Text, Texts, as_list, mistake


def _known_encoding(name: str) -> str:
    try:
        "".encode(name)  # refuses codecs that are no text, such as hex
        return codecs.lookup(name).name
    except LookupError:
        raise mistake(f"{name!r} is no encoding; write utf-8, utf-16, latin-1 or cp1252") from None


Encoding = Annotated[Text, AfterValidator(_known_encoding)]
"""A text encoding that Python knows, by its normal name."""
Skip = Annotated[int, Field(ge=0, le=10_000)]
"""Physical lines (rows of a sheet) before the header, or before the first row where there is no header."""


class Delimited(Section):
    """CSV, TSV and the like. ``header``: whether the first record (after ``skip``) names the columns; never guessed, so always written.
    ``quotes``: whether a field may be in double quotes; without, a quote is a character like any other."""

    kind: Literal["delimited"]
    header: bool
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    quotes: bool = True
    skip: Skip = 0
    encoding: Encoding = "utf-8"

    @field_validator("delimiter")
    @classmethod
    def _no_line_end(cls, delimiter: str) -> str:
        if delimiter in '\r\n"\0' or not delimiter.isascii() or delimiter.isalnum():
            raise mistake(f"{delimiter!r} can't be a delimiter; write one ASCII character such as ',', ';', '|' or \"\\t\"")
        return delimiter


_POSITIONS = re.compile(r"([0-9]{1,6})(?:-([0-9]{1,6}))?\Z")


def _positions(value: object) -> object:
    found = _POSITIONS.match(str(value)) if isinstance(value, str | int) else None
    if found is None:
        return value
    first, last = int(found[1]), int(found[2] or found[1])
    if not 1 <= first <= last:
        raise mistake(f"{value} is no range of characters; write the first and the last, counted from 1, such as 1-10")
    return (first, last)


class Fixed(Section):
    """Fixed width. ``fields``: name → first and last character, counted from 1, such as ``1-10``. Blanks around a value are padding.
    ``length``: characters of every line; a line of another length is a reject. None: lines may end before their last fields do."""

    kind: Literal["fixed"]
    fields: Annotated[dict[Text, Annotated[tuple[int, int], BeforeValidator(_positions)]], Field(min_length=1)]
    length: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    skip: Skip = 0
    encoding: Encoding = "utf-8"

    @model_validator(mode="after")
    def _within(self) -> Fixed:
        for name, (_, last) in self.fields.items():
            if self.length is not None and last > self.length:
                raise mistake(f"ends at character {last}, length is {self.length}", "fields", name)
        return self


class Json(Section):
    """A JSON array of objects; ``at``: the member that has it, such as ``data.rows``, where it is not the whole file."""

    kind: Literal["json"]
    at: Text | None = None
    encoding: Encoding = "utf-8"


class JsonLines(Section):
    """One JSON object a line."""

    kind: Literal["jsonl"]
    encoding: Encoding = "utf-8"


class Parquet(Section):
    kind: Literal["parquet"]


class Sheet(Section):
    """Excel (xlsx, xlsm, xls, xlsb) and OpenDocument. ``sheet``: a name, or a list of names of sheets with the same columns; needed where
    more than one has cells. ``skip``: rows before the header."""

    kind: Literal["excel", "ods"]
    header: bool
    sheet: Annotated[Texts, BeforeValidator(as_list)] = ()
    skip: Skip = 0


class DBase(Section):
    """dBase, FoxPro. ``encoding``: where the file does not name its code page, or a wrong one."""

    kind: Literal["dbase"]
    encoding: Encoding | None = None


class Nacha(Section):
    """ACH files of NACHA: a row is an entry with its batch header's fields; its addenda are one column, joined by line feeds."""

    kind: Literal["nacha"]
    encoding: Encoding = "utf-8"


class MT940(Section):
    kind: Literal["mt940"]
    encoding: Encoding = "utf-8"


class Camt053(Section):
    """Bank statements of ISO 20022 (camt.053, camt.052, camt.054). The XML declares its own encoding."""

    kind: Literal["camt053"]


class BAI2(Section):
    kind: Literal["bai2"]
    encoding: Encoding = "utf-8"


def _kind_alone(value: object) -> object:
    return {"kind": value} if isinstance(value, str) else value


AnyLayout = Delimited | Fixed | Json | JsonLines | Parquet | Sheet | DBase | Nacha | MT940 | Camt053 | BAI2
Layout = Annotated[AnyLayout, Field(discriminator="kind"), BeforeValidator(_kind_alone)]
"""For a field of a section: ``format: {kind: delimited, header: true}``, or the kind alone: ``format: nacha``."""
