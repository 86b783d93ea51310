"""Conflicts across windows in DuckDB: suppressed events that differ from the event that counts.

An event and its later duplicates, each within the horizon of the previous one, are a *chain*; the first event counts. Only chains with
an id in a window of the range can change. A chain may go beyond the tables of duplicates.py, into windows whose ids the record does not
have, or that are carried forward. Their ids are read from the reduced artifacts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from recon.config import Config, model
from recon.engines.duckdb import carried_forward, reduce
from recon.model.conflicts import Pairs
from recon.storage import parquet
from recon.vocabulary.duckdb import literal, quoted

if TYPE_CHECKING:
    import duckdb

    from recon.engines.port import Sources

_NAME = "%Y-%m-%dT%H:%MZ"
_TABLES = ("resent", "chained", "unread", "reached", "links_old", "links_new", "contents_kept", "contents_old", "contents_new")


def find(connection: duckdb.DuckDBPyConnection, config: Config, sources: Sources, windows: Sequence[str]) -> tuple[Pairs, Pairs]:
    """Rows that differ, by pair of windows, before and after the merge of ``windows``, for all pairs that it can change. Reads the
    tables of ``duplicates.settle``."""
    for table in _TABLES:
        connection.execute(f"DROP TABLE IF EXISTS {table}")
    ranged = f"[{', '.join(literal(window) for window in windows)}]"
    both = "(SELECT key, idh, w FROM ids_old UNION SELECT key, idh, w FROM ids_new)"
    connection.execute(f"""
        CREATE TEMP TABLE resent AS
        SELECT key, idh FROM {both} GROUP BY key, idh HAVING count(*) > 1 AND bool_or(list_contains({ranged}, w))""")
    if not connection.execute("SELECT 1 FROM resent LIMIT 1").fetchall():
        return {}, {}
    first, last = connection.execute("SELECT min(hi), max(hi) FROM tangled").fetchall()[0]
    connection.execute("CREATE TEMP TABLE chained (key VARCHAR, idh UBIGINT, w VARCHAR)")
    _read_further(connection, config, sources.artifacts_old, f"a.hi BETWEEN {first} AND {last}")
    for side in ("old", "new"):
        _link(connection, config, side)
    _read_contents(connection, config, sources, windows, (first, last))
    return _differing(connection, config, "old"), _differing(connection, config, "new")


def _read_further(connection: duckdb.DuckDBPyConnection, config: Config, artifacts: Mapping[str, Path], part: str) -> None:
    """Fills ``chained`` (key, idh, w) with the windows of resent ids that ``ids_old`` and ``ids_new`` leave out, to the ends of the
    chains. They are outside the range, so the same before and after."""
    blocks = "(SELECT key, block FROM tangled WHERE blocked)"
    connection.execute(f"""
        CREATE TEMP TABLE unread AS
        SELECT p.key, p.w FROM pairs_new p JOIN zones z USING (key)
        WHERE p.ids IS NULL AND NOT p.ranged AND NOT (p.w BETWEEN z.first AND z.last OR p.w >= z.held)
              AND key IN (SELECT key FROM resent)
        UNION
        SELECT key, w FROM ({carried_forward.windows_of(config, blocks)}) WHERE key IN (SELECT key FROM resent)""")
    seconds = config.grid.reach(config.events.dedupe) // timedelta(seconds=1)
    while True:
        known = "(SELECT key, idh, w FROM ids_old UNION SELECT key, idh, w FROM ids_new UNION SELECT key, idh, w FROM chained)"
        connection.execute(f"""
            CREATE OR REPLACE TEMP TABLE reached AS
            SELECT u.key, u.w FROM unread u JOIN (
                SELECT key, strftime(CAST(min(w) AS TIMESTAMPTZ) - to_seconds({seconds}), {literal(_NAME)}) AS first,
                       strftime(CAST(max(w) AS TIMESTAMPTZ) + to_seconds({seconds}), {literal(_NAME)}) AS last
                FROM {known} SEMI JOIN resent USING (key, idh) GROUP BY key) reach
            ON u.key = reach.key AND u.w BETWEEN reach.first AND reach.last""")
        windows = connection.execute("SELECT DISTINCT w FROM reached ORDER BY w").fetchall()
        if not windows:
            return
        files = {window: artifacts[window] for (window,) in windows}
        connection.execute(f"""
            INSERT INTO chained
            SELECT key, idh, w FROM (
                SELECT a.key, a.w, unnest(a.ids) AS idh FROM {parquet.scan_windows(files)} a
                SEMI JOIN reached r ON r.key = a.key AND r.w = a.w WHERE {part}
            ) SEMI JOIN resent USING (key, idh)""")
        connection.execute("DELETE FROM unread USING reached WHERE unread.key = reached.key AND unread.w = reached.w")


def _link(connection: duckdb.DuckDBPyConnection, config: Config, side: str) -> None:
    """The table ``links_<side>``: key, idh, w of every suppressed event of a resent id, and ``counting``, the window of its chain's first
    event. Chains are made by hash here: two ids with the same hash share a chain."""
    seconds = config.grid.reach(config.events.dedupe) // timedelta(seconds=1)
    connection.execute(f"""
        CREATE TEMP TABLE links_{side} AS
        WITH ids AS (
            SELECT key, idh, w, CAST(w AS TIMESTAMPTZ) AS start
            FROM (SELECT key, idh, w FROM ids_{side} UNION SELECT key, idh, w FROM chained) SEMI JOIN resent USING (key, idh)
        ), apart AS (
            SELECT *, start - lag(start) OVER (PARTITION BY key, idh ORDER BY w) <= to_seconds({seconds}) AS follows FROM ids
        ), chains AS (
            SELECT *, count(*) FILTER (WHERE NOT coalesce(follows, false)) OVER (PARTITION BY key, idh ORDER BY w) AS chain FROM apart
        )
        SELECT key, idh, w, counting
        FROM (SELECT key, idh, w, min(w) OVER (PARTITION BY key, idh, chain) AS counting FROM chains) WHERE w <> counting""")


def _read_contents(
    connection: duckdb.DuckDBPyConnection, config: Config, sources: Sources, windows: Sequence[str], part: tuple[int, int]
) -> None:
    """The tables ``contents_kept`` (windows outside the range), ``contents_old`` and ``contents_new``: key, id, w, content of each
    event in a chain, where ``content`` holds every column that the rules use."""
    columns = {"time": "time", **{f"c_{name}": reduce.column(config, name) for name in model.event_columns(config)}}
    kinds = {"time": "TIMESTAMPTZ", **{f"c_{name}": kind.duckdb for name, kind in model.event_columns(config).items()}}
    content = ", ".join(f"{literal(name)}: {column}" for name, column in columns.items())
    structure = ", ".join(f"{quoted(name)} {kind}" for name, kind in kinds.items())
    sides = {"kept": ("old", "new"), "old": ("old",), "new": ("new",)}
    for side, links in sides.items():
        connection.execute(f"CREATE TEMP TABLE contents_{side} (key VARCHAR, id VARCHAR, w VARCHAR, content STRUCT({structure}))")
        listed = " UNION ".join(f"SELECT key, idh, {name} AS w FROM links_{one}" for one in links for name in ("w", "counting"))
        wanted = [name for (name,) in connection.execute(f"SELECT DISTINCT w FROM ({listed}) ORDER BY w").fetchall()]
        for window in (name for name in wanted if (name in windows) == (side != "kept")):
            events = sources.events_old if side == "old" else sources.events_new
            connection.execute(f"""
                INSERT INTO contents_{side}
                SELECT e.key, e.id, {literal(window)}, {{{content}}} FROM {reduce.written_events(events[window], *part)} e
                SEMI JOIN (SELECT key, idh FROM ({listed}) WHERE w = {literal(window)}) l ON l.key = e.key AND l.idh = e.idh""")


def _differing(connection: duckdb.DuckDBPyConnection, config: Config, side: str) -> Pairs:
    """Suppressed rows that differ from the first row of their chain, by pair of windows. Chains are made by id here."""
    seconds = config.grid.reach(config.events.dedupe) // timedelta(seconds=1)
    rows = connection.execute(f"""
        WITH events AS (SELECT *, CAST(w AS TIMESTAMPTZ) AS start FROM (FROM contents_kept UNION ALL FROM contents_{side})),
        apart AS (
            SELECT *, start - lag(start) OVER (PARTITION BY key, id ORDER BY w) <= to_seconds({seconds}) AS follows FROM events
        ), chains AS (
            SELECT *, count(*) FILTER (WHERE NOT coalesce(follows, false)) OVER (PARTITION BY key, id ORDER BY w) AS chain FROM apart
        ), placed AS (
            SELECT w, content, first_value(w) OVER same AS counting, first_value(content) OVER same AS first
            FROM chains WINDOW same AS (PARTITION BY key, id, chain ORDER BY w)
        )
        SELECT w, counting, count(*) FROM placed WHERE w <> counting AND content IS DISTINCT FROM first GROUP BY ALL""").fetchall()
    return {(window, counting): int(count) for window, counting, count in rows}
