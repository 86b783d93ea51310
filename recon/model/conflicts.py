"""Conflicts of a window: duplicates that differ from the row that counts, in one window or across windows, and ids under two keys.

A window's figures have ``conflicts``. ``earlier``: the window's suppressed rows that differ from the row that counts, by the earlier window
of that row. ``later``: suppressed rows of later windows that differ from a row of this window, by later window. So both windows of a pair
name it in their figures and certificates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Pairs = dict[tuple[str, str], int]
"""(window of the suppressed rows, window of the row that counts) → rows that differ."""


def nothing() -> dict[str, dict[str, int]]:
    """The conflicts of a window that has none with other windows."""
    return {"earlier": {}, "later": {}}


def total_of(parts: Iterable[Pairs]) -> Pairs:
    """The sum, without zeros."""
    total: Pairs = {}
    for part in parts:
        for pair, rows in part.items():
            total[pair] = total.get(pair, 0) + rows
    return {pair: rows for pair, rows in total.items() if rows}


def difference(after: Pairs, before: Pairs) -> Pairs:
    """``after`` less ``before``, without zeros."""
    return total_of([after, {pair: -rows for pair, rows in before.items()}])


def changed(before: Mapping[str, Mapping[str, int]], window: str, change: Pairs) -> dict[str, dict[str, int]]:
    """The conflicts of ``window`` after a change in the rows that differ. ``before``: its conflicts until then."""
    after = {side: dict(before.get(side, {})) for side in nothing()}
    for (suppressed, counting), rows in change.items():
        for mine, side, other in ((suppressed, "earlier", counting), (counting, "later", suppressed)):
            if mine == window:
                after[side][other] = after[side].get(other, 0) + rows
    return {side: {name: rows for name, rows in sorted(found.items()) if rows} for side, found in after.items()}


def certified(figures: Mapping[str, Any]) -> dict[str, Any]:
    """A window's conflicts as its certificate states them, from its committed figures. ``within``: duplicates that differ from the row that
    counts, which is in the same window. ``ids_under_two_keys``: event ids that the window has under more than one key."""
    return {"within": figures["conflicting"], "ids_under_two_keys": figures.get("two_keys", 0), **figures.get("conflicts", nothing())}


def rows_of(certificate: Mapping[str, Any]) -> int:
    """Number of rows of a certified window that conflict with another row, in any window. An id under two keys counts once."""
    conflicts = certificate.get("conflicts", {})
    others = sum(sum(conflicts.get(side, {}).values()) for side in nothing())
    return int(conflicts.get("within", 0)) + int(conflicts.get("ids_under_two_keys", 0)) + others
