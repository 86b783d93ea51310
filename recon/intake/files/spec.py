"""The shapes of the intake: the columns to read, the files, and the counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from recon.config import Config
from recon.config.settings import Limits
from recon.errors import WrongUsage
from recon.intake.files.formats import Format, format_of
from recon.vocabulary.types import Type

KEY_BYTES_MAX = 4096
RAW_BYTES_MAX = 64 << 10


@dataclass(frozen=True)
class EventSpec:
    """The columns of an event: ``key``, event ``id``, event ``time``, and typed ``columns`` to carry along. ``ordered``: columns without
    a declared type whose minimum or maximum is a measure. ``numbered``: the last part of the id is the number of a row among the rows of
    its file with equal keys and id columns. ``zone``: of times without one ("" is UTC; None rejects them). ``epochs``: columns of times
    counted since 1970 → s, ms or us.
    ``cleaning``: see recon.config.model.Place.
    """

    key: tuple[str, ...]
    id: tuple[str, ...] | None
    time: str | None
    columns: dict[str, Type]
    ordered: frozenset[str] = frozenset()
    numbered: bool = False
    zone: str | None = None
    epochs: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    cleaning: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @cached_property
    def texts(self) -> frozenset[str]:
        """The columns whose values are used as text."""
        typed = {self.time, *(name for name, kind in self.columns.items() if kind.kind != "text")}
        return frozenset({*self.key, *(self.id or ()), *self.columns} - typed)

    @cached_property
    def times(self) -> frozenset[str]:
        """The columns whose values are used as times, except those counted since 1970."""
        typed = {name for name, kind in self.columns.items() if kind.kind == "timestamp"}
        return frozenset(typed.union(filter(None, (self.time,)))) - set(self.epochs)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All columns to read, in a fixed order. Raises WrongUsage if two names differ in case only."""
        needed = (*self.key, *(self.id or ()), *filter(None, (self.time,)), *self.columns)
        names = tuple(dict.fromkeys(needed))
        seen: dict[str, str] = {}
        for name in names:
            other = seen.setdefault(name.casefold(), name)
            if other != name:
                raise WrongUsage(f"columns {other!r} and {name!r} differ in case only; rename one of them in the files")
        return names


def spec_of(config: Config, columns: dict[str, Type]) -> EventSpec:
    """The columns that a configuration reads, with ``columns`` to carry along."""
    events = config.events
    read = events.numbered, events.zone, events.epochs, config.limits, config.cleaning
    return EventSpec(config.key, events.id, events.time, columns, config.ordered, *read)


@dataclass(frozen=True)
class SourceFile:
    """A file: ``name`` as landed, which shows its format unless that is ``declared``, and the local ``path`` of its bytes. ``partial``: it
    may lack members that the rules use, as corrections do. ``groups``: of a Parquet file only these row groups are read, with the row
    numbers of the whole file."""

    name: str
    path: Path
    partial: bool = False
    declared: Format | None = None
    groups: range | None = None

    @property
    def format(self) -> Format:
        return self.declared or format_of(self.name)


@dataclass(frozen=True)
class FileRows:
    """The rows of one file: the number read, counted by the reader, and the number inserted into each table."""

    name: str
    rows: int
    accepted: int
    rejected: int
