"""Counts accepted events that may be a mistake: no measure's condition includes them, or their time is outside the window."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from recon.config import Config
from recon.engines.duckdb.reduce import column
from recon.vocabulary import emit_duckdb
from recon.vocabulary.duckdb import literal

if TYPE_CHECKING:
    import duckdb

VALUES_MAX = 20
"""Values that are listed; the rows of the others are counted together."""
LENGTH_MAX = 100
"""Characters of a value that are kept."""
LONG_BEFORE = timedelta(days=366)


def count(connection: duckdb.DuckDBPyConnection, config: Config, window: str, events: str) -> dict[str, Any]:
    """Counts over the accepted ``events`` of a window: ``uncounted``, ``after`` its end and long ``before`` its start, each as
    {"rows", "values"}, and only where there are any. ``values``: value → rows, of the most frequent ones. The value of an uncounted event
    is that of the text columns that the conditions use, of the others it is the day."""
    start = config.grid.parse(window)
    found = {}
    if (uncounted := _uncounted(config)) is not None:
        found["uncounted"] = _by_value(connection, events, *uncounted)
    if config.events.time is not None:
        end, early = (literal(instant.isoformat()) for instant in (config.grid.after(start), start - LONG_BEFORE))
        day = "strftime(time, '%Y-%m-%d')"
        found["after"] = _by_value(connection, events, f"time >= CAST({end} AS TIMESTAMPTZ)", day)
        found["before"] = _by_value(connection, events, f"time < CAST({early} AS TIMESTAMPTZ)", day)
    return {name: counted for name, counted in found.items() if counted["rows"]}


def _uncounted(config: Config) -> tuple[str, str] | None:
    """SQL of the condition that no measure's ``where`` holds, and of the value by which such an event is counted. None where a
    measure includes all events."""
    names = {name: column(config, name) for name in config.columns}
    conditions = [item.where for item in config.measures if item.where is not None]
    if not conditions:
        return None
    texts = sorted({name for where in conditions for name in where.columns if config.columns[name].kind == "text"})
    parts = [f"coalesce({names[name]}, 'null')" for name in texts]
    value = (
        parts[0]
        if len(parts) == 1
        else " || ', ' || ".join(f"{literal(name + ' ')} || {part}" for name, part in zip(texts, parts, strict=True))
    )
    taken = " OR ".join(f"coalesce({emit_duckdb(where, names)}, false)" for where in conditions)
    return f"NOT ({taken})", value or "'other'"


def _by_value(connection: duckdb.DuckDBPyConnection, events: str, condition: str, value: str) -> dict[str, Any]:
    rows = connection.execute(f"""
        SELECT left({value}, {LENGTH_MAX}) AS value, count(*) AS rows, sum(count(*)) OVER () AS total
        FROM {events} WHERE {condition} GROUP BY 1 ORDER BY rows DESC, value LIMIT {VALUES_MAX}""").fetchall()
    return {"rows": int(rows[0][2]) if rows else 0, "values": {name: int(counted) for name, counted, _ in rows}}
