"""The fields of ``aggregations/NAME.yaml``, which are the columns of the table ``aggregations``."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from recon.config.fields import Duration, Section, Size, Text, as_list, mistake
from recon.config.sections import MeasureSection, Zone
from recon.intake.sources.names import NamePattern
from recon.intake.sources.sections import Expected

FILES_MAX = 100_000
KEYS_MAX = 16
MEASURES_MAX = 200
_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]*\Z")
_TARGET = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)?\Z")
NAME_MAX = 60
"""Characters of a name in the warehouse; PostgreSQL cuts longer ones than 63."""
OWN = "recon_"
"""The beginning of the names that Recon gives to columns and tables of its own."""


def _identifier(name: str) -> str:
    if not _IDENTIFIER.match(name) or len(name) > NAME_MAX or name.startswith(OWN):
        raise mistake(
            f"{name[:80]!r} is no name for a column; write up to {NAME_MAX} lower-case letters, digits and _, not beginning with {OWN}"
        )
    return name


def _target(name: str) -> str:
    if not _TARGET.match(name) or any(len(part) > NAME_MAX or part.startswith(OWN) for part in name.split(".")):
        raise mistake(f"{name[:80]!r} is no name for a table; write lower-case letters, digits and _, such as daily_sales or sales.daily")
    return name


Identifier = Annotated[Text, AfterValidator(_identifier)]


class Need(Section):
    """Another input that has to be there: a file of ``source`` that landed ``since`` the start of the business day (``today``, or that of
    the window), or in the scope's own window; or a completed run of ``aggregation`` for the scope."""

    source: Text | None = None
    aggregation: Text | None = None
    files: Text | None = None
    since: Literal["today", "window", "ever"] = "ever"

    @model_validator(mode="after")
    def _one_kind(self) -> Need:
        if (self.source is None) == (self.aggregation is None):
            raise mistake("name a source or an aggregation, such as {source: items, since: today}")
        if self.aggregation is not None and (self.files is not None or self.since != "ever"):
            raise mistake("files and since belong to a source; an aggregation is needed for the same scope")
        if self.files is not None:
            _ = NamePattern(self.files).parts
        return self

    @property
    def name(self) -> str:
        """The condition's name: ``needs items``."""
        return f"needs {self.source or self.aggregation}"


class ExpectedNumber(Section):
    """The least number of files that complete a scope."""

    number: Annotated[int, Field(ge=1, le=FILES_MAX)]


def _expect(value: object) -> object:
    """A number, or a list of names each with ``from`` and ``until``."""
    if isinstance(value, list):
        return [{"name": entry} if isinstance(entry, str) else entry for entry in value]
    return {"number": value} if isinstance(value, str | int) else value


def _needs(value: object) -> object:
    return [{"source": entry} if isinstance(entry, str) else entry for entry in (value if isinstance(value, list | tuple) else [value])]


class AggregationSection(Section):
    """What is aggregated, what it waits for, and where it goes.

    ``source``, ``files``: received files, of those names. ``per``: one scope per window, or one of all. ``expect``: the files that
    complete a scope. ``input``: whether ``any`` new file is new input, or only new versions of ``all`` files. ``deadline``: after a
    window's end, how long the missing files are waited for. ``cadence``: the least time from a completed run of a scope to the next one.
    ``criteria``: a SELECT, or module:function. ``filter``: of rows. ``target``: the table."""

    enabled: bool = True
    source: Text
    files: Text | None = None
    per: Literal["window", "all"] = "window"
    expect: Annotated[ExpectedNumber | tuple[Expected, ...], BeforeValidator(_expect)] = ExpectedNumber(number=1)
    input: Literal["any", "all"] = "any"
    least_rows: Annotated[int, Field(ge=0, le=10**15)] = 0
    least_bytes: Size | None = None
    needs: Annotated[tuple[Need, ...], BeforeValidator(_needs)] = ()
    criteria: Annotated[Text, Field(max_length=4000)] | None = None
    time_zone: Zone | None = None
    deadline: Duration | None = None
    cadence: Duration | None = None
    engine: Literal["configured", "duckdb", "spark"] = "configured"
    filter: Text | None = None
    keys: Annotated[tuple[Identifier, ...], BeforeValidator(as_list), Field(min_length=1, max_length=KEYS_MAX)]
    measures: Annotated[dict[Identifier, MeasureSection], Field(min_length=1, max_length=MEASURES_MAX)]
    target: Annotated[Text, AfterValidator(_target)]

    @model_validator(mode="after")
    def _fits_together(self) -> AggregationSection:
        if self.files is not None:
            _ = NamePattern(self.files).parts
        if len(set(self.keys)) < len(self.keys):
            raise mistake("a column is named twice; name each once", "keys")
        for name, measure in self.measures.items():
            if name in self.keys:
                raise mistake("a key has that name already; choose another", "measures", name)
            if measure.first is not None or measure.last is not None:
                raise mistake("first and last need the time of an event, which an aggregation has not; use min or max", "measures", name)
        if isinstance(self.expect, tuple) and not self.expect:
            raise mistake("is empty; list the files, write their number, or leave it out", "expect")
        if self.deadline is not None and self.per == "all":
            raise mistake("counts from a window's end; write per: window, or leave it out", "deadline")
        if any(need.since == "window" for need in self.needs) and self.per == "all":
            raise mistake("since: window needs per: window", "needs")
        names = [need.name for need in self.needs]
        if len(set(names)) < len(names):
            raise mistake("an input is named twice; name each once", "needs")
        return self


def written(section: AggregationSection) -> dict[str, Any]:
    """The section as JSON, all fields written out: for comparing definitions, and for a run's record."""
    return section.model_dump(mode="json", by_alias=True)
