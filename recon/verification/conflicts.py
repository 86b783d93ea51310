"""Verifies conflicts: events of one identity that differ, and ids under two keys, counted again from all landed events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from recon.config import Config
from recon.model.windows import name_of
from recon.vocabulary.duckdb import quoted

if TYPE_CHECKING:
    import duckdb

NAMED_MAX = 20
"""Number of ids under several keys that a verification lists."""


def conflicts_again(connection: duckdb.DuckDBPyConnection, config: Config) -> dict[int, dict[str, Any]]:
    """Number of a window → the ``conflicting``, ``two_keys`` and ``conflicts`` that its figures must state, from the table ``judged``
    (fate 0: counted, 1: suppressed, 2: duplicate within its window). Windows without conflicts are left out."""
    if not config.events.id:
        return {}
    content = ", ".join(["time", *(quoted(f"c_{name}") for name in config.columns)])
    connection.execute(f"""
        CREATE TABLE compared AS
        SELECT w, fate, counting, content IS DISTINCT FROM first_value(content) OVER same AS from_first,
               content IS DISTINCT FROM first_value(content) OVER chain AS from_counting
        FROM (
            SELECT *, row({content}) AS content, max(CASE WHEN fate = 0 THEN w END) OVER (PARTITION BY key, id ORDER BY w) AS counting
            FROM judged SEMI JOIN (SELECT key, id FROM judged WHERE id IS NOT NULL GROUP BY key, id HAVING count(*) > 1) USING (key, id)
        )
        WINDOW same AS (PARTITION BY key, id, w ORDER BY fate, file, line), chain AS (PARTITION BY key, id, counting ORDER BY w, fate)""")
    found: dict[int, dict[str, Any]] = {}

    def of(number: int) -> dict[str, Any]:
        return found.setdefault(number, {"conflicting": 0, "two_keys": 0, "conflicts": {"earlier": {}, "later": {}}})

    def name(number: int) -> str:
        return name_of(config.grid.at(number))

    for number, rows in connection.execute("SELECT w, count(*) FROM compared WHERE fate = 2 AND from_first GROUP BY w").fetchall():
        of(number)["conflicting"] = rows
    pairs = "SELECT w, counting, count(*) FROM compared WHERE fate = 1 AND from_counting GROUP BY ALL ORDER BY w, counting"
    for number, counting, rows in connection.execute(pairs).fetchall():
        of(number)["conflicts"]["earlier"][name(counting)] = rows
        of(counting)["conflicts"]["later"][name(number)] = rows
    twice = "SELECT w, id FROM judged WHERE fate < 2 AND id IS NOT NULL GROUP BY w, id HAVING count(DISTINCT key) > 1"
    for number, ids in connection.execute(f"SELECT w, count(*) FROM ({twice}) GROUP BY w").fetchall():
        of(number)["two_keys"] = ids
    connection.execute("DROP TABLE compared")
    return found


def differences(committed: Mapping[str, Any], again: Mapping[str, Any]) -> list[str]:
    """The differences between the conflicts that a window's figures state and those that were counted ``again``."""
    stated = {
        "conflicting": committed["conflicting"],
        "two_keys": committed.get("two_keys", 0),
        "conflicts": committed.get("conflicts", {}),
    }
    expected = {"conflicting": 0, "two_keys": 0, "conflicts": {"earlier": {}, "later": {}}} | dict(again)
    return [f"{field} {stated[field]} ≠ {expected[field]}" for field in expected if stated[field] != expected[field]]


def ids_under_several_keys(connection: duckdb.DuckDBPyConnection, config: Config) -> list[str]:
    """One line for each id that occurs under more than one key, in one window or in several: each of its events counts."""
    if not config.events.id:
        return []
    connection.execute("""
        CREATE TABLE under_keys AS
        SELECT id, key, min(w) AS w FROM judged
        WHERE id IN (SELECT id FROM judged WHERE id IS NOT NULL GROUP BY id HAVING min(key) <> max(key)) GROUP BY id, key""")
    shown = connection.execute(f"""
        SELECT id, list(key ORDER BY w, key)[:3], list(w ORDER BY w, key)[:3], count(*) FROM under_keys GROUP BY id ORDER BY id
        LIMIT {NAMED_MAX}""").fetchall()
    (total,) = connection.execute("SELECT count(DISTINCT id) FROM under_keys").fetchall()[0]
    connection.execute("DROP TABLE under_keys")
    lines = [
        f"id {event_id}: under {_keys(config, zip(keys, windows, strict=True), count)}; identity is key and id, so each counts"
        for event_id, keys, windows, count in shown
    ]
    return lines + ([f"and {total - len(shown)} more ids under several keys"] if total > len(shown) else [])


def _keys(config: Config, first: Iterable[tuple[str, int]], count: int) -> str:
    listed = ", ".join(f"key {key} (window {name_of(config.grid.at(number))})" for key, number in first)
    return listed + (f" and {count - 3} more" if count > 3 else "")
