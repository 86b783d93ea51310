"""Duplicates across windows in DuckDB: for the few keys with the same id in several windows, or with too many ids for a record.

The rule: docs/decisions/001-contributions-and-duplicates.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from recon.config import Config
from recon.engines.duckdb import contributions, reduce
from recon.errors import WrongInput
from recon.model import totals
from recon.model.windows import name_of
from recon.storage import parquet
from recon.vocabulary.duckdb import literal, quoted

if TYPE_CHECKING:
    import duckdb

    from recon.engines.port import Moved, Recount, Sources

Events = Callable[[str], str]
"""Window → a source of its accepted events for FROM: those of the part of the hash space in which the entangled keys lie."""

_TABLES = (
    "tangled", "pairs_old", "pairs_new", "zones", "ids_kept", "ids_own_old", "ids_own_new", "met", "texts_kept", "texts_own_old",
    "texts_own_new", "suppressed_old", "suppressed_new", "moved", "changed", "again", "untangled",
)  # fmt: skip


def untangle(
    connection: duckdb.DuckDBPyConnection, config: Config, sources: Sources, windows: Sequence[str]
) -> tuple[dict[str, Moved], dict[str, Recount]]:
    """Creates the table ``untangled`` from the entangled keys of ``merged``.

    Returns per window the events that became suppressed (net), and for windows outside the range the change of the records' counts."""
    after = settle(connection, config, sources, windows, "merged")
    return _moved_totals(connection, config, after), _recounts(connection, config)


def settle(
    connection: duckdb.DuckDBPyConnection,
    config: Config,
    sources: Sources,
    windows: Sequence[str],
    table: str,
) -> Events:
    """Creates the table ``untangled`` from the entangled keys of ``table``, which has the columns of ``merged``; ``windows``: the range.
    Does not read the range's artifacts in ``sources``. Returns the events of every window after the merge."""
    for one in _TABLES:
        connection.execute(f"DROP TABLE IF EXISTS {one}")
    ranged = f"[{', '.join(literal(window) for window in windows)}]"
    connection.execute(f"""
        CREATE TEMP TABLE tangled AS
        SELECT hi, lo, key, old, old_status, old_c, withdrawn, block, blocked, border, folds,
               CASE WHEN appended THEN list_concat(old_c, fresh) ELSE fresh END AS c
        FROM {table} WHERE entangled""")
    currencies = "x.u" if config.events.currency else "CAST(NULL AS VARCHAR[])"
    for side, column in (("old", "old_c"), ("new", "c")):
        connection.execute(
            f"CREATE TEMP TABLE pairs_{side} AS SELECT key, x.w AS w, x.n AS n, x.d AS d, {currencies} AS u, x.ids AS ids, x.m AS m, "
            f"list_contains({ranged}, x.w) AS ranged FROM (SELECT key, unnest({column}) AS x FROM tangled)"
        )
    # Of the event files no more is read than where these keys lie.
    first, last = connection.execute("SELECT min(hi), max(hi) FROM tangled").fetchall()[0]

    def after(window: str) -> str:
        return reduce.written_events(sources.events_new[window], first, last)

    def before(window: str) -> str:
        return reduce.written_events(sources.events_old[window], first, last)

    _zones(connection, config, windows)
    _ids(connection, sources.artifacts_old, f"a.hi BETWEEN {first} AND {last}")
    _texts(connection, windows, before, after)
    for side in ("old", "new"):
        _suppressed(connection, config, side)
    connection.execute("""
        CREATE TEMP TABLE moved AS
        SELECT n.key, n.w, n.id, 1 AS sign FROM suppressed_new n
        ANTI JOIN (SELECT o.* FROM suppressed_old o SEMI JOIN pairs_new p ON p.key = o.key AND p.w = o.w AND NOT p.ranged) o
            ON o.key = n.key AND o.w = n.w AND o.id = n.id
        UNION ALL
        SELECT o.key, o.w, o.id, -1 FROM suppressed_old o
        SEMI JOIN pairs_new p ON p.key = o.key AND p.w = o.w AND NOT p.ranged
        ANTI JOIN suppressed_new n ON o.key = n.key AND o.w = n.w AND o.id = n.id""")
    connection.execute("CREATE TEMP TABLE changed AS SELECT DISTINCT key, w FROM moved")
    _reduce_again(connection, config, after)
    _rebuild(connection, config)
    return after


def _zones(connection: duckdb.DuckDBPyConnection, config: Config, windows: Sequence[str]) -> None:
    """Per key, the windows whose ids are read from event files because the record has none: the windows that the range can affect,
    and all that are not carried forward if the record will list their ids again."""
    instants = [config.grid.parse(window) for window in windows]
    reach = config.grid.reach(config.events.dedupe)
    first, last = min(instants) - reach, max(instants) + reach
    connection.execute(f"""
        CREATE TEMP TABLE zones AS
        SELECT key, capped, {literal(name_of(first))} AS first, {literal(name_of(last))} AS last,
               CASE WHEN capped THEN '~' ELSE border END AS held
        FROM (SELECT key, border, coalesce(list_sum(list_transform(c, lambda x: CASE WHEN x.w >= border THEN x.n + x.d ELSE 0 END)), 0)
                                  > {reduce.IDS_MAX} AS capped
              FROM tangled)""")


def _ids(connection: duckdb.DuckDBPyConnection, artifacts_old: Mapping[str, Path], part: str) -> None:
    """The views ``ids_old`` and ``ids_new``: key, w, idh of every contribution before and after, from the record or else from the
    reduced artifacts of its window, which have all ids. ``part``: the bounds of the keys in these files.

    Windows outside the range are the same before and after, and read once. Arriving contributions have their ids."""
    _read_ids(connection, artifacts_old, part, "ids_kept", "pairs_new", "NOT p.ranged")
    for side in ("old", "new"):
        connection.execute(f"CREATE TEMP TABLE ids_own_{side} AS SELECT key, w, unnest(ids) AS idh FROM pairs_{side} WHERE ids IS NOT NULL")
        connection.execute(f"CREATE OR REPLACE TEMP VIEW ids_{side} AS FROM ids_own_{side} UNION ALL FROM ids_kept")
    _read_ids(connection, artifacts_old, part, "ids_own_old", "pairs_old", "p.ranged")


def _read_ids(
    connection: duckdb.DuckDBPyConnection, artifacts_old: Mapping[str, Path], part: str, table: str, pairs: str, which: str
) -> None:
    """Adds to ``table`` the ids of the ``pairs`` in their keys' zones that the record does not have."""
    connection.execute(f"CREATE TEMP TABLE IF NOT EXISTS {table} (key VARCHAR, w VARCHAR, idh UBIGINT)")
    absent = f"p.ids IS NULL AND {which} AND (p.w BETWEEN z.first AND z.last OR p.w >= z.held)"
    wanted = f"(SELECT p.key, p.w FROM {pairs} p JOIN zones z USING (key) WHERE {absent})"
    files = {window: artifacts_old[window] for (window,) in connection.execute(f"SELECT DISTINCT w FROM {wanted} ORDER BY w").fetchall()}
    if files:
        connection.execute(f"""
            INSERT INTO {table}
            SELECT a.key, a.w, unnest(a.ids) FROM {parquet.scan_windows(files)} a SEMI JOIN {wanted} p ON p.key = a.key AND p.w = a.w
            WHERE {part}""")


def _texts(connection: duckdb.DuckDBPyConnection, windows: Sequence[str], before: Events, after: Events) -> None:
    """The views ``texts_old`` and ``texts_new``: key, w, id of the ids that decide what changes. Hashes only find them: two ids may have
    the same hash, so the ids themselves are read from the events.

    These are the ids whose hash occurs twice in windows that include the range (``met``), and all repeated ids of every window with one of
    these, since it may have to be reduced again. Other repeated ids suppress the same events as before."""
    ranged = f"[{', '.join(literal(window) for window in windows)}]"
    known = "(SELECT DISTINCT key, w, idh FROM (FROM ids_old UNION ALL FROM ids_new))"
    several = " UNION ".join(f"SELECT key, idh FROM ids_{side} GROUP BY key, idh HAVING count(*) > 1" for side in ("old", "new"))
    connection.execute(f"""
        CREATE TEMP TABLE met AS
        WITH members AS (SELECT key, w, idh, list_contains({ranged}, w) AS ranged FROM {known} SEMI JOIN ({several}) USING (key, idh)),
             touched AS (SELECT DISTINCT key, w FROM members SEMI JOIN (SELECT key, idh FROM members WHERE ranged) USING (key, idh)),
             wanted AS (SELECT key, idh FROM members SEMI JOIN touched USING (key, w))
        SELECT key, w, idh, ranged FROM members SEMI JOIN wanted USING (key, idh)""")
    _read_texts(connection, after, "texts_kept", "NOT ranged")
    for side, events in (("old", before), ("new", after)):
        _read_texts(connection, events, f"texts_own_{side}", f"ranged AND w IN (SELECT w FROM pairs_{side})")
        connection.execute(f"CREATE OR REPLACE TEMP VIEW texts_{side} AS FROM texts_own_{side} UNION ALL FROM texts_kept")
    _tie(connection)


def _tie(connection: duckdb.DuckDBPyConnection) -> None:
    """Raises WrongInput where an id whose hash is in the artifacts is not in the events: it would not be recognized as a duplicate."""
    lacking = connection.execute("""
        SELECT w, count(*) FROM met
        ANTI JOIN (SELECT key, w, id_hash(id) AS idh FROM (FROM texts_old UNION FROM texts_new)) USING (key, w, idh)
        GROUP BY w ORDER BY w""").fetchall()
    if lacking:
        window, ids = lacking[0]
        raise WrongInput(
            f"the merge does not tie ({window}: {ids} ids in the artifacts are not in the events); nothing was committed; "
            "run 'recon verify'"
        )


def _read_texts(connection: duckdb.DuckDBPyConnection, events: Events, table: str, which: str) -> None:
    connection.execute(f"CREATE TEMP TABLE {table} (key VARCHAR, w VARCHAR, id VARCHAR)")
    for (window,) in connection.execute(f"SELECT DISTINCT w FROM met WHERE {which} ORDER BY w").fetchall():
        name = literal(window)
        # By key first: the hash is then taken of few ids.
        of_keys = f"(SELECT key, id FROM {events(window)} SEMI JOIN (SELECT key FROM met WHERE w = {name}) USING (key))"
        connection.execute(f"""
            INSERT INTO {table}
            SELECT key, {name}, id FROM (SELECT key, id, id_hash(id) AS idh FROM {of_keys})
            SEMI JOIN (SELECT key, idh FROM met WHERE w = {name}) USING (key, idh)""")


def _suppressed(connection: duckdb.DuckDBPyConnection, config: Config, side: str) -> None:
    """An event is suppressed if the nearest earlier window with its id is within the horizon, whether it counts there or not."""
    seconds = config.grid.reach(config.events.dedupe) // timedelta(seconds=1)
    connection.execute(f"""
        CREATE TEMP TABLE suppressed_{side} AS
        SELECT key, w, id FROM (
            SELECT key, w, id, lag(w) OVER (PARTITION BY key, id ORDER BY w) AS before FROM texts_{side}
        ) WHERE before IS NOT NULL AND CAST(w AS TIMESTAMPTZ) - CAST(before AS TIMESTAMPTZ) <= to_seconds({seconds})""")


def _reduce_again(connection: duckdb.DuckDBPyConnection, config: Config, events: Events) -> None:
    """The table ``again``: key, w, n, m of every changed contribution, reduced from its events without the suppressed ones."""
    measures = ", ".join(f"{quoted(item.name)} {contributions.measure_type(item)}" for item in config.measures)
    connection.execute(f"CREATE TEMP TABLE again (key VARCHAR, w VARCHAR, n BIGINT, u VARCHAR[], m STRUCT({measures}))")
    currencies = "u" if config.events.currency else "NULL"
    for (window,) in connection.execute("SELECT DISTINCT w FROM changed").fetchall():
        name = literal(window)
        kept = f"""(
            SELECT e.* FROM {events(window)} e
            SEMI JOIN (SELECT key FROM changed WHERE w = {name}) c ON c.key = e.key
            ANTI JOIN (SELECT key, id FROM suppressed_new WHERE w = {name}) s ON s.key = e.key AND s.id = e.id)"""
        reduced = reduce.logical(connection, config, reduce.reduce_events(config, kept))
        connection.execute(f"INSERT INTO again SELECT key, {name}, n, {currencies}, {contributions.measures_struct(config)} FROM {reduced}")
    nothing = ", ".join(f"{literal(item.name)}: {'0' if item.kind == 'count' else 'NULL'}" for item in config.measures)
    connection.execute(f"INSERT INTO again SELECT key, w, 0, [], {{{nothing}}} FROM changed ANTI JOIN again USING (key, w)")


def _rebuild(connection: duckdb.DuckDBPyConnection, config: Config) -> None:
    """Creates the table ``untangled``: the entangled keys with their new lists of contributions."""
    put = contributions.contribution(
        config,
        {
            "w": "p.w",
            "n": "coalesce(a.n, p.n)",
            "d": "CASE WHEN a.key IS NULL THEN p.d ELSE p.n + p.d - a.n END",
            "u": "CASE WHEN a.key IS NULL THEN p.u ELSE a.u END",
            "ids": "CASE WHEN z.capped THEN NULL ELSE coalesce(p.ids, i.ids, []) END",
            "m": "CASE WHEN a.key IS NULL THEN p.m ELSE a.m END",
        },
    )
    connection.execute(f"""
        CREATE TEMP TABLE untangled AS
        WITH put AS (
            SELECT p.key, {put} AS x
            FROM pairs_new p JOIN zones z USING (key)
            LEFT JOIN again a ON a.key = p.key AND a.w = p.w
            LEFT JOIN (SELECT key, w, list_sort(list(idh)) AS ids FROM ids_new GROUP BY key, w) i ON i.key = p.key AND i.w = p.w
        ), listed AS (SELECT key, list(x ORDER BY x.w) AS new_list FROM put GROUP BY key)
        SELECT t.hi, t.lo, t.key, t.old, t.old_status, t.old_c, t.withdrawn, t.block, t.blocked, t.border, t.folds, false AS appended,
               coalesce(l.new_list, CAST([] AS {contributions.contribution_type(config)}[])) AS fresh, CAST(NULL AS VARCHAR) AS text
        FROM tangled t LEFT JOIN listed l USING (key)""")


def _recounts(connection: duckdb.DuckDBPyConnection, config: Config) -> dict[str, Recount]:
    """Windows outside the range: rows and additive measures of their changed contributions, after minus before."""
    from recon.engines.port import Recount

    names = [item.name for item in config.measures if item.kind in ("sum", "count")]
    sums = "".join(f", sum({side}.m.{quoted(name)})" for side in ("a", "p") for name in names)
    rows = connection.execute(f"""
        SELECT w, sum(a.n) - sum(p.n){sums} FROM again a JOIN pairs_new p USING (key, w)
        WHERE NOT p.ranged GROUP BY w""").fetchall()
    found = {}
    for window, change, *values in rows:
        after, before = (totals.as_totals(names, part) for part in (values[: len(names)], values[len(names) :]))
        found[window] = Recount(int(change), totals.subtract_measures(after, before))
    return found


def _moved_totals(connection: duckdb.DuckDBPyConnection, config: Config, events: Events) -> dict[str, Moved]:
    """Control totals and additive measures of the events that moved, per window, less those that moved back."""
    from recon.engines.port import Moved
    from recon.model.totals import Totals

    found: dict[str, Moved] = {}
    for (window,) in connection.execute("SELECT DISTINCT w FROM moved").fetchall():
        sides = []
        for sign in (1, -1):
            source = (
                f"(SELECT e.* FROM {events(window)} e SEMI JOIN "
                f"(SELECT key, id FROM moved WHERE w = {literal(window)} AND sign = {sign}) m ON m.key = e.key AND m.id = e.id)"
            )
            sides.append(
                (
                    reduce.totals_of(connection, config, source),
                    reduce.measure_totals(
                        connection,
                        config,
                        reduce.logical(connection, config, reduce.reduce_events(config, source)),
                    ),
                )
            )
        (now, now_measures), (back, back_measures) = sides
        found[window] = Moved(Totals() + now - back, totals.subtract_measures(now_measures, back_measures))
    return found
