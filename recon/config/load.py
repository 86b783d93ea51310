"""Loads ``recon.yaml``: checks every name, type and expression, and builds the ``Config``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, cast

from recon import vocabulary
from recon.config import mistakes, yaml_file
from recon.config.model import RESERVED, Config, Control, Derived, Events, Kind, Measure, Place, Status
from recon.config.rules_version import rules_version
from recon.config.sections import Sections
from recon.errors import WrongUsage
from recon.vocabulary import Expression
from recon.vocabulary.types import INTEGER, TEXT, TIMESTAMP, Type, decimal, parse_type

if TYPE_CHECKING:
    from recon.logic.source import LogicSource

FRESHNESS_SLACK = timedelta(minutes=30)
"""Added to a window's length and its deadline for the default of ``freshness``: the time to process the window."""
STATUS_LENGTH_MAX = 64
_EPOCH = re.compile(r"epoch\((s|ms|us)\)\Z")
_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
_LOGIC = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)\Z")


class _EventColumns(dict[str, Type]):
    """Event column → type. Files name the columns, so a column that is not declared is text."""

    def __missing__(self, name: str) -> Type:
        return TEXT


def load_place(path: Path) -> Place:
    """The part of a ``recon.yaml`` that a look-up needs. It does not parse expressions, which saves loading their parser. Raises WrongUsage
    like ``load_config``."""
    reader = _RuleReader(yaml_file.read(path.absolute()))
    return _place(reader, reader.types())


def load_config(path: Path) -> Config:
    """Reads a ``recon.yaml``. Raises WrongUsage: one line that names file, line and field."""
    return config_of(yaml_file.read(path.absolute()))


def config_of(file: yaml_file.File) -> Config:
    """The configuration in a file's content, which is that of a ``recon.yaml``. Raises WrongUsage like ``load_config``."""
    reader = _RuleReader(file)
    sections, types = reader.sections, reader.types()
    measures = tuple(reader.measure(name, types) for name in sections.measures)
    known: dict[str, Type] = {measure.name: measure.type for measure in measures}
    derived = tuple(reader.derived(name, known) for name in sections.derived)
    status = reader.status(known)
    control = tuple(reader.control(name, types) for name in sections.control)
    place, events = _place(reader, types), reader.events(types)
    config = Config(
        **vars(place),
        events=events,
        measures=measures,
        derived=derived,
        status=status,
        control=control,
        logic=sections.logic,
        logic_source=reader.logic(),
        rejects=sections.rejects,
        memory_limit=sections.memory_limit,
        threads=sections.threads or os.cpu_count() or 1,
        engine=sections.engine,
        compaction=sections.compaction,
        retention=sections.retention,
        caps=sections.caps,
        limits=sections.limits,
        workers=sections.workers,
        closing=sections.closing,
        freshness=sections.freshness or place.grid.longest + (sections.closing.deadline or timedelta(0)) + FRESHNESS_SLACK,
        columns=_columns(sections, events, measures, control, types),
        rules_version="",
        raw=reader.file.content,
    )
    return replace(config, rules_version=rules_version(config))


def _place(reader: _RuleReader, types: Mapping[str, Type]) -> Place:
    sections = reader.sections
    columns = {name: measure.kinds[0] for name, measure in sections.measures.items()}
    numbers = frozenset(name for name, (kind, column) in columns.items() if kind in ("sum", "count") or types[column].is_number)
    return Place(
        name=sections.name,
        path=reader.file.path,
        store=sections.store,
        store_path=None if sections.store.startswith("s3://") else (reader.file.path.parent / sections.store).resolve(),
        key=sections.key_columns,
        grid=sections.windows.grid,
        numbers=numbers,
        names=(tuple(sections.measures), tuple(sections.derived)),
        cache=sections.cache,
        s3=sections.s3,
        index=sections.index.of(sections.name),
        shared=sections.permissions == "shared",
        cleaning=sections.cleaning,
        database=sections.database,
        warehouse=sections.warehouse,
        records=sections.records,
        service=sections.service,
        observability=sections.observability,
        prices=sections.prices.replaced,
    )


class _RuleReader:
    """Turns the sections of one file into rules. Every method raises WrongUsage with the line of the field that is wrong."""

    def __init__(self, file: yaml_file.File) -> None:
        self.file = file
        self.sections = mistakes.validated(self.file, Sections)

    @contextmanager
    def field(self, *path: str | int) -> Iterator[str]:
        """Gives the field's name; a WrongUsage that begins with it gets file and line in front."""
        try:
            yield yaml_file.dotted(path)
        except WrongUsage as error:
            raise WrongUsage(f"{self.file.place(path)}: {error}") from None

    def types(self) -> _EventColumns:
        """Declared types, with the key and id as text and the time as a timestamp."""
        section, types = self.sections.events, _EventColumns()
        for column, text in section.types.items():
            with self.field("events", "types", column) as name:
                types[column] = TIMESTAMP if _EPOCH.match(text.lower()) else parse_type(text, name)
                identity = column in self.sections.key_columns or section.id == (column,)
                if identity and types[column] != TEXT:
                    raise WrongUsage(f"{name}: key and id are compared as text; leave the type out")
                if column == section.currency and types[column] != TEXT:
                    raise WrongUsage(f"{name}: a currency is text; leave the type out")
        if section.time is not None:
            with self.field("events", "time") as name:
                if section.time in self.sections.key_columns or section.id == (section.time,):
                    raise WrongUsage(f"{name}: {section.time!r} is the key or id already; the time is a column of its own")
                if types.setdefault(section.time, TIMESTAMP) != TIMESTAMP:
                    declared = types[section.time]
                    raise WrongUsage(f"{name}: {section.time!r} is declared {declared}; the time is a timestamp, leave its type out")
        return types

    def events(self, types: Mapping[str, Type]) -> Events:
        section = self.sections.events
        columns = section.id_columns
        epochs = {column: match[1] for column, text in section.types.items() if (match := _EPOCH.match(text.lower()))}
        return Events(
            types=dict(types),
            id=columns,
            numbered=columns != section.id,
            time=section.time,
            dedupe=section.dedupe,
            currency=section.currency,
            zone=section.zone,
            epochs=epochs,
        )

    def measure(self, name: str, types: _EventColumns) -> Measure:
        section = self.sections.measures[name]
        with self.field("measures", name) as field:
            _check_name(name, field)
        kind, column = section.kinds[0]
        with self.field("measures", name, kind) as field:
            result = self._measure_type(kind, column, types, field)
        where = None
        if section.where is not None:
            with self.field("measures", name, "where") as field:
                where = vocabulary.parse_expression(section.where, types, field)
                _boolean(where, field)
        return Measure(name, cast(Kind, kind), None if column == "*" else column, where, result)

    def _measure_type(self, kind: str, column: str, types: _EventColumns, field: str) -> Type:
        if kind == "count":
            return INTEGER
        if column == "*":
            raise WrongUsage(f"{field}: only count takes '*'; name a column")
        if kind in ("first", "last") and self.sections.events.time is None:
            raise WrongUsage(f"{field}: {kind} goes by the events' time; name its column under events.time")
        if kind != "sum":
            return types[column]
        return _summed(types[column], column, field)

    def derived(self, name: str, known: dict[str, Type]) -> Derived:
        """Reads a derived value. Adds it to ``known``, so that later values can use it."""
        with self.field("derived", name) as field:
            _check_name(name, field)
            if name in known:
                raise WrongUsage(f"{field}: a measure has that name already; choose another")
            expression = vocabulary.parse_expression(self.sections.derived[name], known, field)
        known[name] = expression.type
        return Derived(name, expression)

    def status(self, known: Mapping[str, Type]) -> tuple[Status, ...]:
        found: list[Status] = []
        for index, entry in enumerate(self.sections.status):
            with self.field("status", index) as field:
                if len(entry) != 1:
                    raise WrongUsage(f'{field}: each entry is one status and its condition, such as {{MATCHED: "balance = 0"}}')
                ((name, text),) = entry.items()
                if not 1 <= len(name.strip()) <= STATUS_LENGTH_MAX or not name.isprintable():
                    raise WrongUsage(f"{field}: a status has 1 to {STATUS_LENGTH_MAX} printable characters")
            with self.field("status", index, name) as field:
                if found and _always(found[-1].expression):
                    raise WrongUsage(f'{field}: never reached, since {found[-1].name} before it is "true"; put "true" last')
                expression = vocabulary.parse_expression(text, known, field)
                _boolean(expression, field)
            found.append(Status(name, expression))
        return tuple(found)

    def control(self, name: str, types: _EventColumns) -> Control:
        section = self.sections.control[name]
        with self.field("control", name) as field:
            if not _NAME.match(name):
                raise WrongUsage(f"{field}: a name is lower-case letters, digits and _, beginning with a letter")
            if name == "rows" and (section.count != "*" or section.by is not None):
                raise WrongUsage(f'{field}: rows is the number of rows, {{count: "*"}}; give another total another name')
        if section.count is not None:
            return Control(name, "count", None if section.count == "*" else section.count, section.by)
        with self.field("control", name, "sum") as field:
            _summed(types[str(section.sum)], str(section.sum), field)
        return Control(name, "sum", section.sum, section.by)

    def logic(self) -> LogicSource | None:
        """The source of the user's logic, found without executing it."""
        if self.sections.logic is None:
            return None
        from recon.logic.source import find

        with self.field("logic") as field:
            match = _LOGIC.match(self.sections.logic)
            if match is None:
                raise WrongUsage(f"{field}: {self.sections.logic!r} is not module:function")
            return find(match[1], match[2], self.file.path.parent, field)


def _check_name(name: str, field: str) -> None:
    if not _NAME.match(name):
        raise WrongUsage(f"{field}: a name is lower-case letters, digits and _, beginning with a letter")
    if name in RESERVED:
        raise WrongUsage(f"{field}: {name!r} is a column of every export; choose another name")


def _summed(column_type: Type, column: str, field: str) -> Type:
    if not column_type.is_number:
        raise WrongUsage(
            f"{field}: sum needs a number and {column!r} is {column_type}; declare it under events.types, such as decimal(18,2)"
        )
    return decimal(38, column_type.scale)


def _boolean(expression: Expression, field: str) -> None:
    if expression.type.kind != "boolean":
        raise WrongUsage(f"{field}: a condition is true or false, this one is {expression.type}; compare it with something")


def _always(expression: Expression) -> bool:
    return expression.tree.op == "literal" and expression.tree.value is True


def _columns(
    sections: Sections,
    events: Events,
    measures: tuple[Measure, ...],
    control: tuple[Control, ...],
    types: _EventColumns,
) -> dict[str, Type]:
    """The event columns in use, with their types: key, id, time, currency, declared columns, then the others in the order of first use."""
    names = [*sections.key_columns, *events.id, *filter(None, (events.time, events.currency)), *sections.events.types]
    for measure in measures:
        names += [measure.column] if measure.column else []
        names += sorted(measure.where.columns) if measure.where else []
    for total in control:
        names += [name for name in (total.column, total.by) if name]
    return {name: types[name] for name in names}
