"""Contributions carried forward, in DuckDB: the old windows of a key with very many windows are folded into one block.

The rule and its alternatives: docs/decisions/008-carried-forward.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from recon.config import Config
from recon.engines.duckdb import contributions, duplicates
from recon.errors import Damaged
from recon.model.windows import name_of
from recon.storage import parquet
from recon.vocabulary.duckdb import literal

if TYPE_CHECKING:
    import duckdb

FOLD_MIN = 512
"""Windows up to which a key keeps each of its contributions."""
STEP = 64
"""Windows by which the border moves."""
_FILES_AT_ONCE = 512
_NAME = "%Y-%m-%dT%H:%MZ"


def horizon(config: Config) -> int:
    """The number of windows in which an event's duplicates are looked for; 0 where ids are not compared across windows."""
    return config.grid.reaches_back(config.events.dedupe) if config.events.id else 0


def border(config: Config, newest: str) -> str:
    """SQL: the name of the first window that is not folded, for a key whose newest window is ``newest``; '' where no window of the
    grid is old enough."""
    room = 2 * horizon(config) + STEP
    first = f"(({_index(config, newest)} - {room}) // {STEP} * {STEP})"
    return f"CASE WHEN {_index(config, newest)} >= {room + STEP} THEN {_name(config, first)} ELSE '' END"


def outdated(connection: duckdb.DuckDBPyConnection, config: Config, windows: Sequence[str]) -> bool:
    """Creates the table ``blocks`` (hi, key, block) of the blocks in ``merged`` that overlap the range, or whose border moves back.
    Returns whether there are any."""
    ranged = f"[{', '.join(literal(window) for window in windows)}]"
    both = "list_concat(list_transform(fresh, lambda x: x.w), list_transform(old_c, lambda x: x.w))"
    nearest = f"list_min(list_filter({both}, lambda w: list_contains({ranged}, w)))"
    reached = f"{_index(config, nearest)} <= {_index(config, 'block.last')} + {horizon(config)}"
    overlapping = f"(SELECT hi, key, block FROM merged WHERE blocked AND block.last >= {literal(min(windows))})"
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE blocks AS
        SELECT hi, key, block FROM merged WHERE blocked AND (border <= block.last OR {reached})
        UNION
        SELECT hi, key, block FROM {overlapping} SEMI JOIN (
            SELECT s.key FROM ({_spans(config, overlapping)}) s JOIN (SELECT unnest({ranged}) AS w) r
            ON {_index(config, "r.w")} >= s.first AND {_index(config, "r.w")} < s.until) inside USING (key)""")
    return bool(connection.execute("FROM blocks LIMIT 1").fetchall())


def open_blocks(
    connection: duckdb.DuckDBPyConnection,
    config: Config,
    artifacts: Mapping[str, Path],
    events: Mapping[str, Path],
    last: str | None = None,
) -> None:
    """Creates the table ``opened`` (key, c): the contributions, without their ids, of the blocks in the table ``blocks`` (hi, key, block),
    read from the reduced files of their windows; with ``last``, only of windows up to it. Replaces the tables of duplicates.

    Raises Damaged where these files have more windows or fewer than the blocks."""
    upto = "until" if last is None else f"least(until, {config.grid.index(config.grid.parse(last)) + 1})"
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE opening AS
        SELECT key, unnest(range(first, {upto})) AS i FROM ({_spans(config, "blocks")})""")
    indices = connection.execute("SELECT DISTINCT i FROM opening ORDER BY i").fetchall()
    windows = [name_of(config.grid.at(index)) for (index,) in indices]
    _gather(connection, config, {window: artifacts[window] for window in windows})
    if config.events.id:
        from recon.engines.port import Sources

        duplicates.settle(connection, config, Sources({}, artifacts, events, events), windows, "gathered")
        source = "(SELECT key, c FROM gathered WHERE NOT entangled UNION ALL SELECT key, fresh FROM untangled)"
        ids = "NULL"
    else:
        source, ids = "gathered", "x.ids"
    members = {**{name: f"x.{name}" for name in ("w", "n", "d", "u")}, "ids": ids, "m": "x.m"}
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE opened AS
        SELECT key, list_transform(c, lambda x: {contributions.contribution(config, members)}) AS c
        FROM {source}""")
    wrong = connection.execute("""
        SELECT key, windows, coalesce(len(c), 0)
        FROM (SELECT key, count(*) AS windows FROM opening GROUP BY key) LEFT JOIN opened USING (key)
        WHERE windows IS DISTINCT FROM len(c) ORDER BY key LIMIT 1""").fetchall()
    if wrong:
        key, expected, found = wrong[0]
        raise Damaged(f"key {key}: {expected} windows are carried forward, their stateless files hold {found}; run 'recon verify --full'")


def _gather(connection: duckdb.DuckDBPyConnection, config: Config, artifacts: Mapping[str, Path]) -> None:
    """Creates the table ``gathered``, with the columns of ``merged``: the contributions of the blocks' windows with their duplicates."""
    kind = contributions.contribution_type(config)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE pieces (hi UBIGINT, lo UBIGINT, key VARCHAR, x {kind})")
    first, last = connection.execute("SELECT min(hi), max(hi) FROM blocks").fetchall()[0]
    windows = list(artifacts)
    for start in range(0, len(windows), _FILES_AT_ONCE):
        files = {window: artifacts[window] for window in windows[start : start + _FILES_AT_ONCE]}
        connection.execute(f"""
            INSERT INTO pieces SELECT a.hi, a.lo, a.key, {contributions.from_artifact(config, "a.w")}
            FROM {parquet.scan_windows(files)} a JOIN blocks b ON b.key = a.key AND a.w <= b.block.last
            WHERE a.hi BETWEEN {first} AND {last}""")
    ids = "flatten(list_transform(c, lambda x: x.ids))"
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE gathered AS
        SELECT hi, lo, key, CAST(NULL AS BIGINT) AS old, CAST(NULL AS VARCHAR) AS old_status, CAST(NULL AS {kind}[]) AS old_c,
               false AS appended, c, c AS fresh, CAST([] AS VARCHAR[]) AS withdrawn,
               CAST(NULL AS {contributions.block_type(config)}) AS block, false AS blocked, '' AS border, false AS folds,
               len({ids}) <> list_unique({ids}) AS entangled
        FROM (SELECT any_value(hi) AS hi, any_value(lo) AS lo, key, list(x ORDER BY x.w) AS c FROM pieces GROUP BY key)""")
    connection.execute("DROP TABLE pieces")


def fold(connection: duckdb.DuckDBPyConnection, config: Config, settled: str) -> None:
    """Creates the table ``kept`` from the rows of ``settled`` that fold: their columns, with the contributions that are not folded as
    ``fresh``, the new ``block``, and ``c``: one contribution for the block, then those of ``fresh``."""
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE divided AS
        SELECT * EXCLUDE (c, appended, fresh), false AS appended,
               list_filter(c, lambda x: x.w < border) AS older, list_filter(c, lambda x: x.w >= border) AS fresh
        FROM (SELECT *, CASE WHEN appended THEN list_concat(old_c, fresh) ELSE fresh END AS c FROM {settled} WHERE folds)""")
    kept = contributions.with_block(config, "block", "fresh")
    if not connection.execute("SELECT 1 FROM divided WHERE len(older) > 0 LIMIT 1").fetchall():  # the border has not moved
        connection.execute(f"CREATE OR REPLACE TEMP TABLE kept AS SELECT * EXCLUDE (older), {kept} AS c FROM divided")
        return
    older = contributions.with_block(config, "block", "older")
    united = contributions.union_of(f"list_transform({older}, lambda x: x.u)")
    currencies = f"'u': {united}, " if config.events.currency else ""
    kind = contributions.block_type(config)
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE kept AS
        WITH joined AS (
            SELECT * REPLACE (CASE WHEN len(older) = 0 THEN block ELSE CAST({{
                'first': coalesce(block.first, older[1].w), 'last': older[-1].w, 'windows': coalesce(block.windows, 0) + len(older),
                'runs': runs, 'n': list_sum(list_transform({older}, lambda x: x.n)), 'd': list_sum(list_transform({older}, lambda x: x.d)),
                {currencies}'m': {contributions.fold_contributions(config, lambda value: f"list_transform({older}, lambda x: {value})")}
            }} AS {kind}) END AS block)
            FROM divided LEFT JOIN ({_runs(config)}) USING (key))
        SELECT * EXCLUDE (older, runs), {kept} AS c FROM joined""")


def windows_of(config: Config, source: str) -> str:
    """SELECT key, w (name) of every window in the ``block`` of ``source`` (key, block)."""
    return (
        f"SELECT key, {_exact_name(config, 'i')} AS w FROM (SELECT key, unnest(range(first, until)) AS i FROM ({_spans(config, source)}))"
    )


def _spans(config: Config, source: str) -> str:
    """SELECT key, first, until (numbers in the grid, the end not included) of the windows in the ``block`` of ``source``."""
    return f"""
        SELECT key, CAST(start + total - length AS BIGINT) AS first, CAST(start + total AS BIGINT) AS until
        FROM (SELECT key, start, length, place, sum(length) OVER (PARTITION BY key ORDER BY place) AS total
              FROM (SELECT key, {_index(config, "block.first")} AS start, unnest(block.runs) AS length,
                           generate_subscripts(block.runs, 1) AS place FROM {source} WHERE block IS NOT NULL))
        WHERE place % 2 = 1"""


def _runs(config: Config) -> str:
    """SELECT key, runs: the runs of windows in the ``block`` of ``divided``, followed by its ``older`` contributions, if any."""
    growing = "(SELECT * FROM divided WHERE len(older) > 0)"
    return f"""
        SELECT key, list_filter(flatten(list([until - first, next - until] ORDER BY first)), lambda x: x IS NOT NULL) AS runs
        FROM (SELECT *, lead(first) OVER (PARTITION BY key ORDER BY first) AS next
              FROM (SELECT key, min(first) AS first, max(until) AS until
                    FROM (SELECT *, sum(apart) OVER (PARTITION BY key ORDER BY first) AS part
                          FROM (SELECT *, CASE WHEN first = lag(until) OVER (PARTITION BY key ORDER BY first) THEN 0 ELSE 1 END AS apart
                                FROM ({_spans(config, growing)} UNION ALL
                                      SELECT key, i, i + 1 FROM (SELECT key, {_index(config, "x.w")} AS i
                                                                 FROM (SELECT key, unnest(older) AS x FROM {growing})))))
                    GROUP BY key, part))
        GROUP BY key"""


def _index(config: Config, window: str) -> str:
    """SQL: the number in the grid of a ``window`` by name."""
    start, every, slack = _seconds(config)
    return f"((epoch_us(CAST({window} AS TIMESTAMPTZ)) // 1000000 - {start - slack}) // {every})"


def _name(config: Config, index: str) -> str:
    """SQL: a text that sorts after the names of all windows before a number in the grid, and not after that window's name: the name
    itself; with a time zone an earlier time, since the zone's midnights cannot be computed by arithmetic."""
    start, every, slack = _seconds(config)
    return f"strftime(make_timestamp(CAST({start - slack} + {index} * {every} AS BIGINT) * 1000000), {literal(_NAME)})"


def _exact_name(config: Config, index: str) -> str:
    """SQL: the name of the window of a number in the grid."""
    grid = config.grid
    if not grid.zone:
        return _name(config, index)
    first = literal(f"{grid.start.astimezone(ZoneInfo(grid.zone)):%Y-%m-%d}")
    # The second before midnight comes once, where midnight itself may come twice or never.
    before = f"CAST(CAST({first} AS DATE) + CAST({index} AS INTEGER) AS TIMESTAMP) - INTERVAL 1 SECOND"
    return f"strftime(timezone('UTC', timezone({literal(grid.zone)}, {before}) + INTERVAL 1 SECOND), {literal(_NAME)})"


def _seconds(config: Config) -> tuple[int, int, int]:
    """Start, length and slack of the grid."""
    grid = config.grid
    return int(grid.start.timestamp()), int(grid.every.total_seconds()), int(grid.slack.total_seconds())
