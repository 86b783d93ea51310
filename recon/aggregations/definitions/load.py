"""A definition from its fields: the core's configuration that computes it, the types of its keys, and the digest of its rules."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon.aggregations.definitions import table
from recon.aggregations.definitions.criteria import FUNCTION, parsed
from recon.aggregations.definitions.sections import OWN, AggregationSection, written
from recon.config import mistakes, yaml_file
from recon.config.load import config_of
from recon.config.model import Config
from recon.errors import WrongUsage
from recon.intake.sources.folder import FOLDER as SOURCES
from recon.intake.sources.load import Source
from recon.intake.sources.names import NamePattern
from recon.logic.source import LogicSource, find
from recon.vocabulary import parse_expression
from recon.vocabulary.types import TEXT, Type

if TYPE_CHECKING:
    from sqlglot import exp

FOLDER = "aggregations"
ROWS = f"{OWN}rows"
"""The measure that counts the rows of a key which the filter keeps; a key with none has no row in the target."""
_NOT_THE_RULES = (
    *("enabled", "expect", "input", "least_rows", "least_bytes", "needs", "criteria", "time_zone", "deadline", "cadence", "engine"),
)
_KEPT = ("name", "store", "windows", "database", "s3", "memory_limit", "threads", "limits", "permissions", "engine", "retention")


@dataclass(frozen=True)
class Definition:
    """``file``: where it is written, with the line of each field. ``config``: reduces the source's clean rows to one artifact per key.
    ``key_types``: of the target's key columns. ``criteria``: the checked SELECT, or the function. ``rules``: digest of what gives the
    target's rows their meaning."""

    name: str
    file: yaml_file.File
    section: AggregationSection
    source: Source
    config: Config
    key_types: Mapping[str, Type]
    criteria: exp.Select | LogicSource | None = None

    @cached_property
    def rules(self) -> str:
        fields = {name: value for name, value in written(self.section).items() if name not in _NOT_THE_RULES}
        types = {name: str(kind) for name, kind in (*self.source.types.items(), *self.key_types.items())}
        return hashlib.sha256(json.dumps([fields, types], sort_keys=True).encode()).hexdigest()[:16]

    @cached_property
    def column_types(self) -> dict[str, Type]:
        """The columns of the target: its keys, then its measures."""
        return {**self.key_types, **{measure.name: measure.type for measure in self.config.measures if measure.name != ROWS}}

    def takes(self, name: str) -> bool:
        """Whether a file of its source with this name is one of its files."""
        return self.section.files is None or NamePattern(self.section.files).match(name) is not None

    def load_id(self, scope: str, versions: str) -> str:
        """The id of a load of these versions: equal for equal input by equal rules."""
        return hashlib.sha256(f"{self.name}\n{self.rules}\n{scope}\n{versions}".encode()).hexdigest()


def definition_of(name: str, file: yaml_file.File, base: Config, sources: Mapping[str, Source]) -> Definition:
    """A definition from the fields in ``file``. Raises WrongUsage with the place of the first mistake."""
    section = mistakes.validated(file, AggregationSection)
    source = sources.get(section.source)
    if source is None:
        raise WrongUsage(f"{file.place(('source',))}: source: {_no_source(section.source, base, sources)}")
    if source.section.reference and source.breaks is None:
        raise WrongUsage(f"{file.place(('source',))}: source: {section.source!r} is reference data; name it under needs")
    for need in section.needs:
        if need.source is not None and need.source not in sources:
            raise WrongUsage(f"{file.place(('needs',))}: needs: {_no_source(need.source, base, sources)}")
    for field, columns in (("keys", section.keys), ("measures", [column for _, column in _columns(section) if column != "*"])):
        if unknown := [column for column in columns if column not in source.kept]:
            there = ", ".join(source.kept)
            raise WrongUsage(f"{file.place((field,))}: {field}: the source {source.name} has no column {unknown[0]!r}; there are {there}")
    criteria = None if section.criteria is None else _criteria(file, section.criteria, base)
    if section.filter is not None:
        _check_filter(file, section.filter, source)
    config = config_of(yaml_file.File(file.path, _content(section, base, source), file.lines))
    config = replace(config, path=base.path, store_path=base.store_path)
    return Definition(name, file, section, source, config, {key: source.types.get(key, TEXT) for key in section.keys}, criteria)


def _no_source(name: str, base: Config, sources: Mapping[str, Source]) -> str:
    """Why a source cannot be used."""
    if name.isidentifier() and (path := base.path.parent / SOURCES / f"{name}.yaml").is_file():
        return f"{path} has a mistake, or feeds another reconciliation; 'recon source list' says which"
    return f"there is no source {name!r}; there are {', '.join(sources) or 'none'}"


def from_record(name: str, fields: Mapping[str, Any], base: Config, sources: Mapping[str, Source]) -> Definition:
    """The definition as a run recorded it, with ``written``; it may have changed since. Raises WrongUsage where its source is gone."""
    return definition_of(name, table.content_of(table.columns_of(fields), Path(f"the definition of aggregation {name}")), base, sources)


def _criteria(file: yaml_file.File, text: str, base: Config) -> exp.Select | LogicSource:
    try:
        if match := FUNCTION.match(text):
            return find(match[1], match[2], base.path.parent, "criteria")
        return parsed(text)
    except WrongUsage as error:
        raise WrongUsage(f"{file.place(('criteria',))}: {error}") from None


def _columns(section: AggregationSection) -> list[tuple[str, str]]:
    return [measure.kinds[0] for measure in section.measures.values()]


def _check_filter(file: yaml_file.File, text: str, source: Source) -> None:
    try:
        expression = parse_expression(text, source.types, "filter")
        if expression.type.kind != "boolean":
            raise WrongUsage(f"filter: a condition is true or false, this one is {expression.type}; compare it with something")
    except WrongUsage as error:
        raise WrongUsage(f"{file.place(('filter',))}: {error}") from None


def _content(section: AggregationSection, base: Config, source: Source) -> dict[str, Any]:
    """The content of a ``recon.yaml`` that reduces the source's rows by the section's keys and measures."""
    content = {name: value for name, value in base.raw.items() if name in _KEPT}
    if section.engine != "configured" and section.engine != base.engine.kind:
        content["engine"] = {"kind": section.engine}
    types = {name: str(kind) for name, kind in source.types.items() if kind != TEXT and name not in section.keys}
    measures = {name: _measure(measure.model_dump(exclude_none=True), section.filter) for name, measure in section.measures.items()}
    measures[ROWS] = _measure({"count": "*"}, section.filter)
    return {**content, "key": list(section.keys), "events": {"types": types}, "measures": measures, "rejects": "stop"}


def _measure(measure: dict[str, Any], condition: str | None) -> dict[str, Any]:
    conditions = [text for text in (condition, measure.get("where")) if text is not None]
    return measure | ({"where": " and ".join(f"({text})" for text in conditions)} if conditions else {})


def files_in(folder: Path) -> list[Path]:
    """The files that define aggregations, in order of their names."""
    return sorted((folder / FOLDER).glob("*.yaml"))
