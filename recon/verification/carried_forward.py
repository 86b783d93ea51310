"""Verifies what is carried forward: which windows are in blocks, and what the block of a key must contain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recon.config import Config
from recon.config.model import Measure
from recon.verification.texts import block_text
from recon.vocabulary.duckdb import quoted

if TYPE_CHECKING:
    import duckdb

FOLD_MIN = 512
"""Number of windows up to which a key keeps each of its contributions."""
STEP = 64
"""The border between folded and kept contributions moves by this number of windows."""


def make_borders(connection: duckdb.DuckDBPyConnection, config: Config) -> None:
    """Creates the view ``borders`` (key, border) over the table ``contributed`` (key, w). ``border``: the number in the grid of the key's
    first window that is not folded."""
    behind = STEP + (2 * config.grid.reaches_back(config.events.dedupe) if config.events.id else 0)
    connection.execute(f"""
        CREATE VIEW borders AS
        SELECT key, CASE WHEN count(*) > {FOLD_MIN} THEN greatest(0, (max(w) - {behind}) // {STEP} * {STEP}) ELSE 0 END AS border
        FROM contributed GROUP BY key""")


def expect_blocks(connection: duckdb.DuckDBPyConnection, config: Config) -> None:
    """Creates the table ``expected_blocks`` (key, body: JSON text) from ``contributed`` and ``named``."""
    folds = "".join(f", {_over_windows(item)} AS {quoted('m_' + item.name)}" for item in config.measures)
    united = ", list_sort(list_distinct(flatten(list(u)))) AS u" if config.events.currency else ""
    # Within a run of consecutive windows, a window's number minus its rank among the key's windows is constant.
    connection.execute(f"""
        CREATE TABLE expected_blocks AS
        WITH folded AS (SELECT * FROM contributed JOIN borders USING (key) WHERE w < border),
        spans AS (
            SELECT key, min(w) AS first, max(w) + 1 AS until
            FROM (SELECT key, w, w - row_number() OVER (PARTITION BY key ORDER BY w) AS run FROM folded) GROUP BY key, run
        ), named_runs AS (
            SELECT key, flatten(list([until - first, gap] ORDER BY first))[:-2] AS runs
            FROM (SELECT *, coalesce(lead(first) OVER (PARTITION BY key ORDER BY first) - until, 0) AS gap FROM spans) GROUP BY key
        ), sums AS (
            SELECT key, min(w) AS first, max(w) AS last, count(*) AS windows, sum(n) AS n, sum(d) AS d{united}{folds}
            FROM folded GROUP BY key
        )
        SELECT key, {block_text(config, "f.name", "l.name")} AS body
        FROM sums JOIN named_runs USING (key) JOIN named f ON f.w = sums.first JOIN named l ON l.w = sums.last""")


def _over_windows(item: Measure) -> str:
    """SQL of a measure over contributions; first and last with the time that decides."""
    value = quoted(f"m_{item.name}")
    if item.kind in ("first", "last"):
        order = f"row({value}.t, w)"
        return f"arg_{'min' if item.kind == 'first' else 'max'}({value}, {order}) FILTER (WHERE {value} IS NOT NULL)"
    return f"CAST({'sum' if item.kind == 'count' else item.kind}({value}) AS {item.type.duckdb})"


def windows_in_blocks(config: Config, source: str) -> str:
    """SELECT key, w (number in the grid) of every window in the blocks of ``source`` (key, first: name, runs: lengths)."""
    grid = config.grid
    start, every = int((grid.start - grid.slack).timestamp()), int(grid.every.total_seconds())
    index = f"(epoch(CAST(first AS TIMESTAMPTZ))::BIGINT - {start}) // {every}"
    return f"""
        SELECT key, unnest(range(start + before, start + before + length)) AS w
        FROM (SELECT key, {index} AS start, lengths[place] AS length, coalesce(list_sum(lengths[: place - 1]), 0)::BIGINT AS before
              FROM (SELECT key, first, runs AS lengths, unnest(range(1, len(runs) + 1, 2)) AS place FROM {source}))"""
