"""Cuts windows into ranges within the caps of the configuration on windows, events and bytes.

A window that exceeds a cap alone is a range of its own. Bytes are those of the landed files. Events are known once a window is reduced;
before that, as far as senders declared them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from recon.config import Config
from recon.config.settings import Caps
from recon.intake.manifests import Manifest
from recon.state.reduced import Figures

T = TypeVar("T")


@dataclass(frozen=True)
class Size:
    """Events and bytes of a window. ``events`` is 0 where no sender has declared them."""

    events: int = 0
    bytes: int = 0


def size_of_batch(manifest: Manifest) -> Size:
    """Bytes of the landed files, and the rows that senders declared for them."""
    return Size(sum(file.declared_rows or 0 for file in manifest.files), sum(file.bytes for file in manifest.files))


def size_of_reduced(figures: Figures) -> Size:
    """Rows that the reduction has read, and bytes of the landed files."""
    return Size(figures.arrived.rows, sum(int(file["bytes"]) for file in figures.files))


def blocks(
    config: Config, items: Iterable[T], window: Callable[[T], str], size: Callable[[T], Size] = lambda item: Size()
) -> Iterator[list[T]]:
    """Blocks of consecutive windows (``items`` are in order of time) within the caps; ``items`` are read lazily."""

    def follows(before: T, after: T) -> bool:
        return config.grid.parse(window(after)) == config.grid.after(config.grid.parse(window(before)))

    return _cut(config.caps, items, size, follows)


def capped(config: Config, items: Iterable[T], size: Callable[[T], Size]) -> Iterator[list[T]]:
    """Blocks within the caps, of windows that need not follow each other."""
    return _cut(config.caps, items, size, lambda before, after: True)


def _cut(caps: Caps, items: Iterable[T], size: Callable[[T], Size], follows: Callable[[T, T], bool]) -> Iterator[list[T]]:
    block: list[T] = []
    events = stored = 0
    for item in items:
        weight = size(item)
        events, stored = events + weight.events, stored + weight.bytes
        over = len(block) >= caps.windows or _exceeds(events, caps.events) or _exceeds(stored, caps.bytes)
        if block and (over or not follows(block[-1], item)):
            yield block
            block, events, stored = [], weight.events, weight.bytes
        block.append(item)
    if block:
        yield block


def _exceeds(amount: int, cap: int | None) -> bool:
    return cap is not None and amount > cap


def ranges(config: Config, manifests: Iterable[Manifest]) -> Iterator[list[Manifest]]:
    """Blocks of consecutive windows within the caps."""
    return blocks(config, manifests, lambda manifest: manifest.window, size_of_batch)
