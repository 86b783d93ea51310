"""Loads ``sources/*.yaml`` beside a configuration, and finds the source of a file by its name."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from recon.config import mistakes, yaml_file
from recon.config.model import Config
from recon.errors import WrongUsage
from recon.intake.sources.folder import FOLDER
from recon.intake.sources.names import NamePattern
from recon.intake.sources.sections import BreaksOf, BreaksSection, Column, SourceSection
from recon.logic.source import LogicSource, find
from recon.vocabulary.types import TEXT, Type, parse_type

BREAKS = "breaks:"
"""The beginning of the location of an inbox with the reconciliation's own breaks; the source's name follows."""
WINDOW_IN_NAME = "%Y%m%dT%H%M%z"
"""How the name of a file of breaks writes its first window."""
_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")


@dataclass(frozen=True)
class Source:
    """``types``: of the kept columns. ``rules``: digest of the file's content and of its function; a change of it does not touch files that
    have landed. ``process``: the function that works on each record, None where the source names none. ``breaks``: of a source whose files
    are the reconciliation's own breaks, see recon.intake.sources.results."""

    name: str
    path: Path
    section: SourceSection
    types: Mapping[str, Type]
    rules: str
    process: LogicSource | None = None
    breaks: BreaksOf | None = None

    @property
    def kept(self) -> dict[str, Column]:
        """The columns of the clean file, in order."""
        return {name: column for name, column in self.section.columns.items() if not column.drop}

    @property
    def declared(self) -> list[str]:
        """Without a header, the file's columns in order, dropped ones too; otherwise the names that the kept columns have in the file."""
        columns = self.section.columns if getattr(self.section.layout, "header", True) is False else self.kept
        return [column.column or name for name, column in columns.items()]

    def match(self, name: str) -> tuple[NamePattern, dict[str, str]] | None:
        """The first pattern that a file's name matches, and the parts of the name."""
        for pattern in self.section.patterns:
            if (parts := pattern.match(name)) is not None:
                return pattern, parts
        return None


@dataclass(frozen=True)
class Loaded:
    """``sources``: by name, those that feed the reconciliation or name none. ``broken``: file name without its suffix → what is wrong with
    it, with file, line and field; which reconciliation it feeds is not known."""

    sources: dict[str, Source]
    broken: dict[str, WrongUsage]


def load_sources(config: Config) -> Loaded:
    """The sources beside a configuration. A file with a mistake disables only itself."""
    folder, loaded = config.path.parent / FOLDER, Loaded({}, {})
    for path in sorted(folder.glob("*.yaml")):
        try:
            source = load_source(path, config)
            if source.section.feeds not in (None, config.name):
                continue
            refuse_missing_columns(source, config)
        except WrongUsage as error:
            loaded.broken[path.stem] = error
        else:
            loaded.sources[source.name] = source
    return loaded


def load_source(path: Path, config: Config) -> Source:
    """One source from its file, beside a configuration. Raises WrongUsage with file, line and field."""
    if not _NAME.match(path.stem):
        raise WrongUsage(f"{path}: a source is named by its file, in lower-case letters, digits and _; rename the file")
    file = yaml_file.read(path)
    if isinstance(file.content, dict) and "breaks" in file.content:
        return _source_of_breaks(file, config)
    section = mistakes.validated(file, SourceSection)
    types, process = _types(file, section), _process(file, section)
    meaning = [file.content, *(process.meaning() if process else [])]
    digest = hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()
    return Source(path.stem, path, section, types, digest, process)


def _source_of_breaks(file: yaml_file.File, config: Config) -> Source:
    """The source of a file that says ``breaks``: the columns are those of the reconciliation's artifacts."""
    section = mistakes.validated(file, BreaksSection)
    name, columns = file.path.stem, _columns_of_breaks(file, config)
    made = {
        "files": f"{name}-{{window}}-{{commit}}.parquet",
        "feeds": section.feeds,
        "inbox": BREAKS + name,
        "reference": True,
        "delivery": "snapshot",
        "version": {"part": "commit"},
        "window": {"part": "window", "format": WINDOW_IN_NAME},
        "format": {"kind": "parquet"},
        "columns": columns,
    }
    digest = hashlib.sha256(json.dumps([file.content, columns], sort_keys=True).encode()).hexdigest()
    types = {column: TEXT if kind == "text" else parse_type(kind, f"columns.{column}") for column, kind in columns.items()}
    return Source(name, file.path, SourceSection.model_validate(made), types, digest, breaks=section.breaks)


def _columns_of_breaks(file: yaml_file.File, config: Config) -> dict[str, str]:
    """Column → type of the breaks: the day, the key and its columns, then those of 'recon breaks'."""
    values = [(item.name, str(item.type)) for item in config.measures]
    values += [(item.name, str(item.expression.type)) for item in config.derived]
    listed = [
        *[("day", "date"), ("key", "text")],
        *[(name, "text") for name in config.key if len(config.key) > 1],
        *[("status", "text"), *([("currency", "text")] if config.events.currency else [])],
        *values,
        *[("windows", "integer"), ("first_window", "text"), ("last_window", "text"), ("since", "timestamp"), ("age_days", "integer")],
    ]
    names = [name for name, _ in listed]
    if twice := [name for at, name in enumerate(names) if name in names[:at]]:
        raise WrongUsage(
            f"{file.path}: the breaks of {config.path.name} would have the column {twice[0]!r} twice; rename the key column, measure or "
            "derived value of that name"
        )
    return dict(listed)


def _process(file: yaml_file.File, section: SourceSection) -> LogicSource | None:
    """The function that works on each record, found without executing it, beside the configuration."""
    if section.process is None:
        return None
    module, _, function = section.process.partition(":")
    try:
        return find(module, function, file.path.parent.parent, "process")
    except WrongUsage as error:
        raise WrongUsage(f"{file.place(('process',))}: {error}") from None


def _types(file: yaml_file.File, section: SourceSection) -> dict[str, Type]:
    """The types of the kept columns. Raises WrongUsage for a type or a bound that is none."""
    types: dict[str, Type] = {}
    for name, column in section.columns.items():
        if column.drop:
            continue
        try:
            types[name] = TEXT if column.type == "text" else parse_type(column.type, f"columns.{name}.type")
        except WrongUsage as error:
            raise WrongUsage(f"{file.place(('columns', name))}: {error}") from None
        if (column.min is not None or column.max is not None) and not (types[name].is_number or types[name].kind in ("date", "timestamp")):
            raise WrongUsage(f"{file.place(('columns', name))}: columns.{name}: min and max compare numbers and times; declare its type")
        for bound, text in (("min", column.min), ("max", column.max)):
            if text is not None and not _is_value(text, types[name]):
                raise WrongUsage(f"{file.place(('columns', name, bound))}: columns.{name}.{bound}: {text!r} is no {column.type}")
    return types


def _is_value(text: str, kind: Type) -> bool:
    from recon.vocabulary.duckdb import computed

    return bool(computed(f"try_cast(? AS {kind.duckdb}) IS NOT NULL", text))


def source_of(sources: Mapping[str, Source], name: str) -> Source | None:
    """The source whose pattern a file's name matches; None where there is none. Raises WrongUsage where several match."""
    found = [source for source in sources.values() if source.match(name)]
    if len(found) > 1:
        raise WrongUsage(
            f"{name}: matches the sources {' and '.join(source.name for source in found)}; make their patterns under files differ"
        )
    return found[0] if found else None


def refuse_missing_columns(source: Source, config: Config) -> None:
    """Raises WrongUsage where the rules of the reconciliation use a column that the source does not have."""
    from recon.intake.files import spec_of

    if source.section.reference:
        return  # its rows are no events
    if source.process is not None:
        return  # its function may add columns; landing checks them
    for column in spec_of(config, config.columns).names:
        if column not in source.kept:
            there = ", ".join(source.kept)
            raise WrongUsage(f"{source.path}: {config.path.name} uses column {column!r}, which is not under columns; there are {there}")
