"""Conflicts of a window: rows of one event that differ, in the window itself or across windows, and ids that stand under two keys.

A window's figures have ``conflicts``: ``earlier`` counts its suppressed rows that differ from the row that counts, by the earlier window
of that row; ``later`` counts the suppressed rows of later windows that differ from a row of this one. So each pair of windows is named
in the figures, and in the certificates, of both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Pairs = dict[tuple[str, str], int]
"""(window of the suppressed rows, window of the row that counts) → rows that differ."""


def nothing() -> dict[str, dict[str, int]]:
    """The conflicts of a window that has none with others."""
    return {"earlier": {}, "later": {}}


def total_of(parts: Iterable[Pairs]) -> Pairs:
    """The sum of several, without zeros."""
    total: Pairs = {}
    for part in parts:
        for pair, rows in part.items():
            total[pair] = total.get(pair, 0) + rows
    return {pair: rows for pair, rows in total.items() if rows}


def difference(after: Pairs, before: Pairs) -> Pairs:
    """What changed from one to the other."""
    return total_of([after, {pair: -rows for pair, rows in before.items()}])


def changed(held: Mapping[str, Mapping[str, int]], window: str, change: Pairs) -> dict[str, dict[str, int]]:
    """The conflicts of ``window``, which had those ``held``, after a change in the rows that differ."""
    after = {side: dict(held.get(side, {})) for side in nothing()}
    for (suppressed, counting), rows in change.items():
        for mine, side, other in ((suppressed, "earlier", counting), (counting, "later", suppressed)):
            if mine == window:
                after[side][other] = after[side].get(other, 0) + rows
    return {side: {name: rows for name, rows in sorted(found.items()) if rows} for side, found in after.items()}


def certified(held: Mapping[str, Any]) -> dict[str, Any]:
    """The conflicts of a window as its certificate states them. ``within``: duplicates that differ from the row of their own window that
    stands for them. ``ids_under_two_keys``: event ids that the window holds under more than one key."""
    return {"within": held["conflicting"], "ids_under_two_keys": held.get("two_keys", 0), **held.get("conflicts", nothing())}


def rows_of(certificate: Mapping[str, Any]) -> int:
    """Rows of a certified window that conflict with another row, in this window or in another; ids under two keys count once each."""
    conflicts = certificate.get("conflicts", {})
    others = sum(sum(conflicts.get(side, {}).values()) for side in nothing())
    return int(conflicts.get("within", 0)) + int(conflicts.get("ids_under_two_keys", 0)) + others
