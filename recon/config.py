"""``recon.yaml`` → ``Config``: every name, type and expression checked before anything runs.

Belongs here: the rules, where they lie, and their version. Does not belong here: settings that give nothing its meaning
(``recon.settings``); how any of it is
carried out; what expressions mean (``recon.vocabulary``); what windows are (``recon.model.windows``).

Every mistake is one ``WrongUsage`` line: file, line, field, what was expected.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from recon import configfile, vocabulary
from recon.configfile import Sections
from recon.errors import WrongUsage
from recon.metering.prices import Prices
from recon.model.cleaning import STEPS
from recon.model.windows import Grid, is_local, local_midnight, parse_duration, parse_instant, zone_of
from recon.settings import (
    Cache,
    Caps,
    Closing,
    Compaction,
    Engine,
    Index,
    Limits,
    Retention,
    S3Settings,
    Workers,
    cache_of,
    caps_of,
    closing_of,
    compaction_of,
    engine_of,
    freshness_of,
    index_of,
    limits_of,
    memory_limit_of,
    prices_of,
    retention_of,
    s3_of,
    workers_of,
)
from recon.vocabulary import MEANING, Expression
from recon.vocabulary.types import INTEGER, TEXT, TIMESTAMP, Type, decimal, parse_type

if TYPE_CHECKING:
    from recon.logic.source import LogicSource

Kind = Literal["sum", "count", "min", "max", "first", "last"]

RESERVED = {"key", "status", "windows", "first_window", "last_window", "age_days"}
"""Columns that every export has, so that no measure or derived value can have their name."""
STATUS_LENGTH_MAX = 64
NUMBER = "#"
"""The part of an event id that numbers the equal rows of a file."""
_EPOCH = re.compile(r"epoch\((s|ms|us)\)\Z")
_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
_LOGIC = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)\Z")


@dataclass(frozen=True)
class Events:
    """What is known of the events' columns. ``id``: the columns of the event id, none where file and line are the identity. ``numbered``:
    whether its last part is the number of a row among the equal rows of its file. ``dedupe`` is how far back an equal id makes a
    duplicate. ``currency``: the column that says of which currency an event's amounts are. ``zone``: of times that state none ("" is
    UTC; None: such times are rejected). ``epochs``: columns of times that are counted since 1970 → s, ms or us."""

    types: dict[str, Type]
    id: tuple[str, ...]
    numbered: bool
    time: str | None
    dedupe: timedelta
    currency: str | None
    zone: str | None
    epochs: dict[str, str]

    @property
    def id_column(self) -> str | None:
        """The one column that is the id as it stands; None where there is no id or it is put together."""
        return self.id[0] if len(self.id) == 1 and not self.numbered else None


@dataclass(frozen=True)
class Measure:
    """One figure per key over the events for which ``where`` is true. ``column`` is None for ``count: "*"``."""

    name: str
    kind: Kind
    column: str | None
    where: Expression | None
    type: Type

    @property
    def is_amount(self) -> bool:
        """Whether it is of a currency, where events have one: a number that is no count."""
        return self.kind != "count" and self.type.is_number


@dataclass(frozen=True)
class Derived:
    """A value over measures and earlier derived values."""

    name: str
    expression: Expression


@dataclass(frozen=True)
class Status:
    """A status and the condition, over measures and derived values, under which it holds."""

    name: str
    expression: Expression


@dataclass(frozen=True)
class Control:
    """A control total of a batch: rows, or the sum of a column, in groups by another."""

    name: str
    kind: Literal["count", "sum"]
    column: str | None
    by: str | None


@dataclass(frozen=True)
class Place:
    """Where a reconciliation lies and how its keys and windows are named: all that a look-up needs, without the rules.

    ``numbers``: the measures that are numbers. ``names``: of measures, and of derived values. ``index``: the table that others look keys
    up in. ``shared``: whether a store in a folder may be read by others. ``cleaning``: key
    column → how it is cleaned (recon.cleaning), of those that are."""

    name: str
    path: Path
    store: str
    store_path: Path | None
    key: tuple[str, ...]
    grid: Grid
    numbers: frozenset[str]
    names: tuple[tuple[str, ...], tuple[str, ...]]
    cache: Cache
    s3: S3Settings
    index: Index
    shared: bool
    cleaning: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Config(Place):
    """One reconciliation. ``columns``: every event column that anything uses, in a fixed order, with its type."""

    events: Events
    measures: tuple[Measure, ...]
    derived: tuple[Derived, ...]
    status: tuple[Status, ...]
    control: tuple[Control, ...]
    logic: str | None
    logic_source: LogicSource | None
    rejects: Literal["keep", "stop"]
    memory_limit: str
    threads: int
    engine: Engine
    compaction: Compaction
    retention: Retention
    caps: Caps
    control_groups: int
    limits: Limits
    workers: Workers
    closing: Closing
    freshness: timedelta
    prices: Prices
    columns: dict[str, Type]
    rules_version: str
    raw: dict[str, Any]

    @property
    def ordered(self) -> frozenset[str]:
        """Columns that are text only because nothing was declared, and of which a measure takes the smallest or largest value."""
        known = {*self.events.types, *self.key, self.events.id_column}
        return frozenset(m.column for m in self.measures if m.column and m.kind in ("min", "max") and m.column not in known)


class _EventColumns(dict[str, Type]):
    """Types of event columns by name; the files name the columns, so one that is not declared is text."""

    def __missing__(self, name: str) -> Type:
        return TEXT


def load_place(path: Path) -> Place:
    """The part of a ``recon.yaml`` that a look-up needs; its expressions are not read, which saves loading their parser."""
    path = path.absolute()
    file = configfile.read(path)
    sections = configfile.validated(file)
    reader = _Reader(file, sections)
    return _place(reader, path, sections)


def _place(reader: _Reader, path: Path, sections: Sections) -> Place:
    types = reader.types()
    columns = {name: item.sum or item.count or item.min or item.max or item.first or item.last for name, item in sections.measures.items()}
    numbers = {name for name, item in sections.measures.items() if item.sum or item.count or types[str(columns[name])].is_number}
    return Place(
        sections.name,
        path,
        sections.store,
        reader.store_path(),
        sections.key_columns,
        reader.grid(),
        frozenset(numbers),
        (tuple(sections.measures), tuple(sections.derived)),
        cache_of(sections, reader.field, path.parent),
        s3_of(sections, reader.field),
        index_of(sections),
        sections.permissions == "shared",
        cleaning_of(sections),
    )


def cleaning_of(sections: Sections) -> dict[str, tuple[str, ...]]:
    """How key columns are cleaned; the order in which the steps are written means nothing."""
    return {one.column: tuple(step for step in STEPS if step in one.clean) for one in sections.key if one.clean}


def load_config(path: Path) -> Config:
    """Reads one ``recon.yaml``. Raises WrongUsage: one line that names file, line and field."""
    path = path.absolute()
    file = configfile.read(path)
    sections = configfile.validated(file)
    reader = _Reader(file, sections)
    types = reader.types()
    measures = tuple(reader.measure(name, types) for name in sections.measures)
    known: dict[str, Type] = {measure.name: measure.type for measure in measures}
    derived = tuple(reader.derived(name, known) for name in sections.derived)
    status = reader.status(known)
    control = tuple(reader.control(name, types) for name in sections.control)
    place, events = _place(reader, path, sections), reader.events(types)
    source, closing = reader.logic(), closing_of(sections, reader.field)
    return Config(
        **vars(place),
        events=events,
        measures=measures,
        derived=derived,
        status=status,
        control=control,
        logic=sections.logic,
        logic_source=source,
        rejects=sections.rejects,
        memory_limit=memory_limit_of(sections.memory_limit, reader.field, "memory_limit"),
        threads=sections.threads or os.cpu_count() or 1,
        engine=engine_of(sections, reader.field),
        compaction=compaction_of(sections),
        retention=retention_of(sections, reader.field),
        caps=caps_of(sections),
        control_groups=sections.limits.control_groups,
        limits=limits_of(sections, reader.field),
        workers=workers_of(sections, reader.field),
        closing=closing,
        freshness=freshness_of(sections, reader.field, place.grid, closing),
        prices=prices_of(sections),
        columns=_columns(sections, events, measures, control, types),
        rules_version=_rules_version(sections, place.grid, events, measures, derived, status, control, source),
        raw=file.content,
    )


class _Reader:
    """Turns checked sections into what they name; each failure says the line of its field."""

    def __init__(self, file: configfile.File, sections: Sections) -> None:
        self.file, self.sections = file, sections

    @contextmanager
    def field(self, *path: str | int) -> Iterator[str]:
        """Gives the field's name; a WrongUsage that begins with it gets file and line in front."""
        try:
            yield configfile.dotted(path)
        except WrongUsage as error:
            raise WrongUsage(f"{self.file.place(path)}: {error}") from None

    def grid(self) -> Grid:
        windows, zone = self.sections.windows, ""
        if windows.zone is not None:
            with self.field("windows", "zone") as name:
                zone = zone_of(windows.zone, name)
        with self.field("windows", "start") as name:
            local = windows.zone is not None and is_local(windows.start)
            start = local_midnight(windows.start, zone or "UTC", name) if local else parse_instant(windows.start, name)
        with self.field("windows", "every") as name:
            every = parse_duration(windows.every, name)
        with self.field("windows"):
            return Grid(start, every, zone)

    def types(self) -> _EventColumns:
        """Declared types, with the key and id as text and the time as a timestamp."""
        section, types = self.sections.events, _EventColumns()
        with self.field("key") as name:
            if len({*self.sections.key_columns}) < len(self.sections.key):
                raise WrongUsage(f"{name}: a column is named twice; name each once")
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
        with self.field("events", "dedupe") as name:
            dedupe = parse_duration(section.dedupe, name)
        with self.field("events", "id") as name:
            columns = section.id[:-1] if section.id[-1:] == (NUMBER,) else section.id
            if section.id and (not columns or NUMBER in columns or len({*columns}) < len(columns)):
                raise WrongUsage(
                    f'{name}: name one or more columns, each once, and perhaps "{NUMBER}" as the last, such as [source, event_id]'
                )
        with self.field("events", "currency") as name:
            if section.currency is not None and section.currency == section.time:
                raise WrongUsage(f"{name}: {section.currency!r} is the time already; the currency is a column of its own")
        for part, names in (("measures", self.sections.measures), ("derived", self.sections.derived)):
            if section.currency is not None and "currency" in names:
                with self.field(part, "currency") as name:
                    raise WrongUsage(f"{name}: 'currency' is a column of every export where events.currency is set; choose another name")
        with self.field("events", "zone") as name:
            zone = None if section.zone is None else zone_of(section.zone, name)
        epochs = {column: match[1] for column, text in section.types.items() if (match := _EPOCH.match(text.lower()))}
        return Events(dict(types), columns, columns != section.id, section.time, dedupe, section.currency, zone, epochs)

    def measure(self, name: str, types: _EventColumns) -> Measure:
        section = self.sections.measures[name]
        with self.field("measures", name) as field:
            _check_name(name, field)
            kinds = [(kind, value) for kind, value in section if kind != "where" and value is not None]
            if len(kinds) != 1:
                raise WrongUsage(f"{field}: name exactly one of sum, count, min, max, first or last, such as {{sum: amount}}")
        kind, column = kinds[0]
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
        """Adds the value to ``known``, so that later ones can use it."""
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
            if (section.count is None) == (section.sum is None):
                raise WrongUsage(f'{field}: name exactly one of count or sum, such as {{count: "*"}} or {{sum: amount}}')
            if name == "rows" and (section.count != "*" or section.by is not None):
                raise WrongUsage(f'{field}: rows is the number of rows, {{count: "*"}}; give another total another name')
        if section.count is not None:
            return Control(name, "count", None if section.count == "*" else section.count, section.by)
        with self.field("control", name, "sum") as field:
            _summed(types[str(section.sum)], str(section.sum), field)
        return Control(name, "sum", section.sum, section.by)

    def store_path(self) -> Path | None:
        store = self.sections.store
        if store.startswith("s3://"):
            return None
        with self.field("store") as field:
            if "://" in store or not store.strip():
                raise WrongUsage(f"{field}: {store!r} is no store; write a folder such as ./data, or s3://bucket/prefix")
        return (self.file.path.parent / store).resolve()

    def logic(self) -> LogicSource | None:
        """What the logic is made of, found without running it."""
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
    """Key, id, time, declared columns, then the others in the order of their first use."""
    names = [*sections.key_columns, *events.id, *filter(None, (events.time, events.currency)), *sections.events.types]
    for measure in measures:
        names += [measure.column] if measure.column else []
        names += sorted(measure.where.columns) if measure.where else []
    for total in control:
        names += [name for name in (total.column, total.by) if name]
    return {name: types[name] for name in names}


def _rules_version(
    sections: Sections,
    grid: Grid,
    events: Events,
    measures: tuple[Measure, ...],
    derived: tuple[Derived, ...],
    status: tuple[Status, ...],
    control: tuple[Control, ...],
    source: LogicSource | None,
) -> str:
    """16 hex characters over what gives artifacts their meaning, in a form that spacing and comments don't change."""

    def tree(expression: Expression | None) -> object:
        return expression and expression.tree.canonical

    meaning = {
        "vocabulary": MEANING,
        "key": sections.key_columns,
        **({"clean": sorted(cleaning.items())} if (cleaning := cleaning_of(sections)) else {}),
        "windows": [grid.start.isoformat(), grid.every.total_seconds(), *([grid.zone] if grid.zone else [])],
        "types": sorted((name, str(kind)) for name, kind in events.types.items()),
        "events": [events.id, events.numbered, events.time, events.dedupe.total_seconds(), events.currency],
        **({"reading": [events.zone, sorted(events.epochs.items())]} if events.zone is not None or events.epochs else {}),
        "measures": [[m.name, m.kind, m.column, tree(m.where), str(m.type)] for m in measures],
        "derived": [[d.name, tree(d.expression)] for d in derived],
        "status": [[s.name, tree(s.expression)] for s in status],
        "control": [[c.name, c.kind, c.column, c.by] for c in control],
        "logic": [sections.logic, *(source.meaning() if source else [None])],
    }
    return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:16]
