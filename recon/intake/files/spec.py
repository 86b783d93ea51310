"""The shapes of the intake: what is asked for, what is read, what was counted, and how a key is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from recon.config import Config
from recon.config.settings import Limits
from recon.errors import WrongUsage
from recon.vocabulary.types import Type

KEY_BYTES_MAX = 4096
RAW_BYTES_MAX = 64 << 10


@dataclass(frozen=True)
class EventSpec:
    """Which columns make an event: ``key`` columns, those of the event ``id``, event ``time``, and typed ``columns`` to carry
    along. ``ordered``: those of them that are text only because nothing was declared, and whose smallest or largest value is asked for.
    ``numbered``: the last part of the id is the number of a row among the rows of its file with equal keys and id columns.
    ``zone``: of times that state none ("" is UTC; None: they are rejected). ``epochs``: columns of times counted since 1970 → s, ms or us.
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
        """The columns whose values are used as times and are not counted since 1970."""
        typed = {name for name, kind in self.columns.items() if kind.kind == "timestamp"}
        return frozenset(typed.union(filter(None, (self.time,)))) - set(self.epochs)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Every column that must be read, once, in a fixed order. Raises WrongUsage if two differ in case only."""
        asked = (*self.key, *(self.id or ()), *filter(None, (self.time,)), *self.columns)
        names = tuple(dict.fromkeys(asked))
        seen: dict[str, str] = {}
        for name in names:
            other = seen.setdefault(name.casefold(), name)
            if other != name:
                raise WrongUsage(f"columns {other!r} and {name!r} differ in case only; rename one of them in the files")
        return names


def spec_of(config: Config, columns: dict[str, Type]) -> EventSpec:
    """What the intake is asked for by a configuration, with these columns to carry along."""
    events = config.events
    read = events.numbered, events.zone, events.epochs, config.limits, config.cleaning
    return EventSpec(config.key, events.id, events.time, columns, config.ordered, *read)


@dataclass(frozen=True)
class SourceFile:
    """A landed file: ``name`` as landed, which tells its format, and ``path`` where its bytes lie now. ``partial``: it need not have a
    member that the rules use, as a correction that states only what it changes."""

    name: str
    path: Path
    partial: bool = False


@dataclass(frozen=True)
class FileRows:
    """What one file held: records read, counted where they were read, and how many rows each table got of them."""

    name: str
    rows: int
    accepted: int
    rejected: int
