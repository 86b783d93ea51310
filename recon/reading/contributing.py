"""The windows that contribute to a record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from recon.model.windows import name_of

if TYPE_CHECKING:
    from recon.config import Config


def windows_of(config: Config, record: Mapping[str, Any]) -> list[str]:
    """The windows that contribute to a record, including those that are carried forward."""
    carried = _carried_windows(config, record["carried"]) if "carried" in record else []
    return [*carried, *(part["w"] for part in record["contributions"])]


def _carried_windows(config: Config, block: Mapping[str, Any]) -> list[str]:
    """The windows of a block. Its ``runs`` are lengths, from its first window on: windows in the block, windows not in it, in turn."""
    index, found = config.grid.index(config.grid.parse(block["first"])), []
    for place, length in enumerate(block["runs"]):
        found += [name_of(config.grid.at(number)) for number in range(index, index + length)] if place % 2 == 0 else []
        index += length
    return found
