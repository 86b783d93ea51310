"""The sections of ``sources/NAME.yaml``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from recon.config.fields import Duration, Section, Text, Texts, as_list, mistake
from recon.config.sections import Zone
from recon.intake.converters.layouts import AnyLayout, Layout
from recon.intake.sources.names import NamePattern
from recon.intake.sources.steps import Step, parse_step

_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,3})?)%\Z")


def _share(text: object) -> object:
    found = _PERCENT.match(str(text))
    if found is None or Decimal(found[1]) > 100:
        raise mistake(f"{text!r} is no share; write a percentage such as 5%")
    return Decimal(found[1]) / 100


Share = Annotated[Decimal, BeforeValidator(_share)]


def _steps(value: object) -> object:
    return tuple(parse_step(written) for written in (value if isinstance(value, list | tuple) else [value]))


def _pattern(text: str) -> str:
    """DuckDB matches the values, by RE2: it has no look-around and no references."""
    import duckdb

    from recon.vocabulary.duckdb import computed

    try:
        computed("regexp_full_match('', ?)", text)
    except duckdb.Error as error:
        raise mistake(f"{text!r} is no regular expression ({error})") from None
    return text


def _day(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise mistake(f"{text!r} is no day; write it as 2026-11-01") from None


Day = Annotated[Text, AfterValidator(_day)]


class Reference(Section):
    """A CSV file beside the configuration, and its column that holds the allowed values."""

    file: Text
    column: Text


class Column(Section):
    """A column of the clean file. ``column``: its name in the received file, where that differs. ``type``: checked as the core checks it;
    the value stays text. ``clean``: steps in the order in which they are applied. The others are checks; ``otherwise`` says whether a row
    that fails one of the checks after ``type`` is rejected, or kept and reported."""

    drop: bool = False
    column: Text | None = None
    type: Text = "text"
    clean: Annotated[tuple[Step, ...], BeforeValidator(_steps)] = ()
    required: bool = False
    unique: bool = False
    values: Annotated[Texts, BeforeValidator(as_list)] = ()
    pattern: Annotated[Text, AfterValidator(_pattern)] | None = None
    min: Text | None = None
    max: Text | None = None
    reference: Reference | None = None
    equals: Text | None = None
    otherwise: Literal["reject", "report"] = "reject"


def _column(value: object) -> object:
    """``amount: decimal(18,2)`` is a type, ``filler: drop`` leaves a column out."""
    if isinstance(value, str):
        return {"drop": "true"} if value == "drop" else {"type": value}
    return value


class WindowOf(Section):
    """Where a file's window comes from: a ``part`` of its name or a ``column`` of its rows, read by ``format``. Neither: its arrival."""

    part: Text | None = None
    column: Text | None = None
    format: Text = "%Y-%m-%d"

    @model_validator(mode="after")
    def _one_way(self) -> WindowOf:
        if self.part is not None and self.column is not None:
            raise mistake("names a part and a column; name the one that tells the window")
        return self


def _window(value: object) -> object:
    return {} if value == "arrival" else value


class VersionOf(Section):
    """Where the number of a snapshot's delivery comes from: a ``part`` of its name or a ``column``, equal in all rows. Neither: its
    arrival."""

    part: Text | None = None
    column: Text | None = None


def _version(value: object) -> object:
    """``version: number`` is a part of the name."""
    return {"part": value} if isinstance(value, str) else value


class Trailer(Section):
    """A last line that states totals: how it begins, and the fields (counted from 1) with the number of rows and with sums of columns."""

    prefix: Text
    rows: Annotated[int, Field(ge=1, le=10_000)] | None = None
    sums: dict[Text, Annotated[int, Field(ge=1, le=10_000)]] = Field(default={})


class Expected(Section):
    """A file that each window should get, by name, from a day on and until (without) a day: sources open and close."""

    name: Text
    from_: Annotated[Day | None, Field(alias="from")] = None
    until: Day | None = None


def _expected(value: object) -> object:
    return [{"name": entry} if isinstance(entry, str) else entry for entry in value] if isinstance(value, list) else value


class Expect(Section):
    """The files that complete a window, and how long after the window's end they may arrive."""

    files: Annotated[tuple[Expected, ...], BeforeValidator(_expected), Field(min_length=1)]
    by: Duration | None = None


_QUIET = re.compile(r"([0-9]{1,5})(s|m|h)\Z")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


def _quiet(text: object) -> object:
    found = _QUIET.match(str(text))
    if found is None:
        raise mistake(f"{text!r} is no time for which a file must not have changed; write one such as 0s, 30s or 10m")
    return timedelta(seconds=int(found[1]) * _SECONDS[found[2]])


Quiet = Annotated[timedelta, BeforeValidator(_quiet)]


class BreaksOf(Section):
    """One file ``per`` business day, in ``time_zone`` (default: of the windows, else UTC). ``since``: the first day; default: that of the
    first committed window."""

    per: Literal["day"]
    time_zone: Zone | None = None
    since: Day | None = None


class BreaksSection(Section):
    """The content of a ``sources/NAME.yaml`` whose files are the reconciliation's breaks."""

    breaks: BreaksOf
    feeds: Text | None = None


class SourceSection(Section):
    """The content of ``sources/NAME.yaml``. ``inbox``: what a sensor watches for new files: a folder relative to the
    configuration, ``s3://bucket/prefix``, or the URL of an SQS queue of S3's events. ``quiet``: how long a
    local file must not have changed before it is taken. ``reference``: its rows are no events; aggregations
    may wait for its files, which belong to no batch."""

    files: Annotated[Texts, BeforeValidator(as_list), Field(min_length=1)]
    inbox: Text | None = None
    quiet: Quiet | None = None
    feeds: Text | None = None
    reference: bool = False
    delivery: Literal["delta", "snapshot"] = "delta"
    version: Annotated[VersionOf, BeforeValidator(_version)] = VersionOf()
    window: Annotated[WindowOf, BeforeValidator(_window)] = WindowOf()
    format: Layout
    columns: Annotated[dict[Text, Annotated[Column, BeforeValidator(_column)]], Field(min_length=1)]
    drop: Annotated[Texts, BeforeValidator(as_list)] = ()
    trailer: Trailer | None = None
    rejects: Literal["row", "file", "stop"] = "row"
    most_rejects: Share = Field(default="100%", validate_default=True)
    expect: Expect | None = None
    process: Annotated[Text, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")] | None = None

    @property
    def layout(self) -> AnyLayout:
        return self.format

    @property
    def patterns(self) -> tuple[NamePattern, ...]:
        return tuple(NamePattern(text) for text in self.files)

    @model_validator(mode="after")
    def _fits_together(self) -> SourceSection:
        parts = frozenset.intersection(*(pattern.parts for pattern in self.patterns))
        known = f"the parts are {', '.join(sorted(parts))}" if parts else "the patterns under files have none, such as {day}"
        for field, part in (("version", self.version.part), ("window", self.window.part)):
            if part is not None and part not in parts:
                raise mistake(f"{part!r} is no part of every pattern under files; {known}", field)
        if self.reference:
            for field, is_set in (("process", self.process is not None), ("expect", self.expect is not None)):
                if is_set:
                    raise mistake("is not for reference data, which is no part of a batch; leave it out", field)
        if self.version != VersionOf() and self.delivery != "snapshot":
            raise mistake("orders the deliveries of a snapshot; write delivery: snapshot, or leave it out", "version")
        kept = {name: column for name, column in self.columns.items() if not column.drop}
        if not kept:
            raise mistake("every column is dropped; keep at least one", "columns")
        for field, told_by in (("version", self.version.column), ("window", self.window.column)):
            if told_by is not None and told_by not in kept:
                raise mistake(f"column {told_by!r} is not among the columns that are kept", field)
        for name, column in kept.items():
            if column.equals is not None and (unknown := _parts_of(column.equals) - parts):
                raise mistake(f"{{{min(unknown)}}} is no part of every pattern under files; {known}", "columns", name, "equals")
        separator = getattr(self.layout, "delimiter", None)
        for field, prefix in [("drop", text) for text in self.drop] + ([("trailer", self.trailer.prefix)] if self.trailer else []):
            if separator and separator in prefix:
                raise mistake(f"{prefix!r} has the delimiter in it; a line is known by the beginning of its first field", field)
        for name in self.trailer.sums if self.trailer else ():
            if name not in kept:
                raise mistake(f"column {name!r} is not among the columns that are kept", "trailer", "sums")
        return self


def _parts_of(template: str) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", template))


def filled(template: str, parts: Mapping[str, Any]) -> str:
    """``v{store}`` with the parts of a file's name."""
    return re.sub(r"\{(\w+)\}", lambda found: str(parts[found[1]]), template)
