"""Merge in DuckDB: one slice of the keys; stateless artifacts replace their windows' contributions in the standing records.

Belongs here: the queries of one slice. Does not belong here: duplicates across windows (entangled), part-files and commits (recon.merge).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from recon.config import Config
from recon.engines.duckdb import contributions, entangled, reduction
from recon.engines.duckdb.reduction import as_totals, measure
from recon.engines.duckdb.session import literal, quoted
from recon.logic import after_merge
from recon.totals import Totals

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa


@dataclass(frozen=True)
class Sources:
    """Local Parquet files by window name: artifacts of the range's new revisions; events of every window as it will stand, and as
    it stood before."""

    artifacts: Mapping[str, Path]
    events_new: Mapping[str, Path]
    events_old: Mapping[str, Path]


@dataclass(frozen=True)
class Moved:
    """Events of one window that became suppressed (less those that no longer are): totals and additive measures."""

    totals: Totals
    measures: dict[str, str | int]


@dataclass(frozen=True)
class Recount:
    """Change in what the contributions of a window outside the range come to: rows counted and additive measures."""

    rows: int
    measures: dict[str, str | int]


@dataclass(frozen=True)
class Slice:
    """What the merge of one slice came to. ``records``: hi, lo, length (bytes), check and record (JSON line), in order of hash."""

    records: pa.Table
    statuses: dict[str, int]
    """Change in the number of artifacts by status."""
    counted: dict[str, Totals]
    """Per window of the range: rows counted in the contributions as they will stand."""
    suppressed: dict[str, int]
    measures: dict[str, dict[str, str | int]]
    moved: dict[str, Moved] = field(default_factory=dict)
    recounted: dict[str, Recount] = field(default_factory=dict)
    """Windows outside the range: what changed in the records, which must tie with ``moved``."""


def merge_slice(
    connection: duckdb.DuckDBPyConnection,
    config: Config,
    sources: Sources,
    standing: pa.Table,
    bounds: tuple[int, int],
) -> Slice:
    """Merges the keys with ``bounds[0]`` ≤ hi < ``bounds[1]``. ``standing``: hi, lo, record of just these keys."""
    windows = sorted(sources.artifacts)
    for table in ("arriving", "standing", "merged", "finals", "written"):
        connection.execute(f"DROP TABLE IF EXISTS {table}")
    connection.execute(f"CREATE TEMP TABLE arriving AS {_arriving(config, sources.artifacts, bounds)}")
    connection.register("standing_records", standing)
    connection.execute(f"""
        CREATE TEMP TABLE standing AS
        SELECT hi, lo, record, from_json_strict(record, {contributions.record_structure(config)}) AS r FROM standing_records""")
    connection.unregister("standing_records")
    connection.execute(f"CREATE TEMP TABLE merged AS {_merged(config, windows)}")
    moved: dict[str, Moved] = {}
    recounted: dict[str, Recount] = {}
    tangled = connection.execute("SELECT count(*) FROM merged WHERE entangled").fetchall()[0][0]
    if tangled:
        moved, recounted = entangled.untangle(connection, config, sources, windows)
    source = "SELECT hi, lo, key, old, old_c, c, withdrawn FROM merged WHERE NOT entangled"
    if tangled:
        source += " UNION ALL BY NAME SELECT hi, lo, key, old, old_c, c, withdrawn FROM untangled"
    _fold(connection, config, source)
    connection.execute(f"""
        CREATE TEMP TABLE written AS
        SELECT hi, lo, record, strlen(record)::UINTEGER AS length, (md5_number(record) & 4294967295)::UINTEGER AS "check"
        FROM (SELECT hi, lo, old, {contributions.record(config)} AS record FROM finals)
        WHERE record IS DISTINCT FROM old OR hi IN (SELECT hi FROM finals GROUP BY hi HAVING count(*) > 1)""")
    counted, suppressed, measures = _window_sums(connection, config, windows)
    records = connection.sql('SELECT hi, lo, length, "check", record FROM written ORDER BY hi, lo').to_arrow_table()
    return Slice(records, _status_changes(connection), counted, suppressed, measures, moved, recounted)


def _arriving(config: Config, artifacts: Mapping[str, Path], bounds: tuple[int, int]) -> str:
    scans = [
        f"SELECT hi, lo, key, {contributions.from_artifact(config, literal(window))} AS x "
        f"FROM read_parquet({literal(str(path))}) WHERE hi >= {bounds[0]} AND hi < {bounds[1]}"
        for window, path in artifacts.items()
    ]
    if len(scans) == 1:
        return f"SELECT hi, lo, key, [x] AS c FROM ({scans[0]})"
    return (
        f"SELECT any_value(hi) AS hi, any_value(lo) AS lo, key, list(x ORDER BY x.w) AS c FROM ({' UNION ALL '.join(scans)}) GROUP BY key"
    )


def _merged(config: Config, windows: Sequence[str]) -> str:
    """Every touched key with its old and its new list of contributions (in order of windows), and whether ids overlap."""
    ranged = f"[{', '.join(literal(window) for window in windows)}]"
    none = f"CAST([] AS {contributions.contribution_type(config)}[])"
    entangled_if = f"""
        len(ids) <> list_unique(ids) OR coalesce(list_sum(list_transform(old_c, lambda x: x.d)), 0) > 0
        OR list_sum(list_transform(c, lambda x: x.n + x.d)) > {reduction.IDS_MAX}
        OR len(list_filter(old_c, lambda x: x.ids IS NULL)) > 0"""
    return f"""
        WITH paired AS (
            SELECT coalesce(s.hi, a.hi) AS hi, coalesce(s.lo, a.lo) AS lo, coalesce(s.r.key, a.key) AS key, s.record AS old,
                   s.r.status AS old_status, coalesce(s.r.contributions, {none}) AS old_c, coalesce(a.c, {none}) AS new_c,
                   coalesce(s.r.withdrawn, CAST([] AS VARCHAR[])) AS old_withdrawn
            FROM standing s FULL JOIN arriving a ON s.r.key = a.key
        ), replaced AS (
            SELECT *, list_filter(old_c, lambda x: NOT list_contains({ranged}, x.w)) AS kept FROM paired
        ), joined AS (
            SELECT hi, lo, key, old, old_status, old_c, new_c,
                   CASE WHEN len(kept) = 0 THEN new_c WHEN len(new_c) = 0 THEN kept
                        WHEN kept[-1].w < new_c[1].w THEN list_concat(kept, new_c)
                        ELSE list_sort(list_concat(kept, new_c)) END AS c,
                   CASE WHEN len(kept) = len(old_c) AND len(old_withdrawn) = 0 THEN old_withdrawn
                        ELSE list_sort(list_distinct(list_filter(
                            list_concat(old_withdrawn, list_transform(list_filter(old_c, lambda x: list_contains({ranged}, x.w)),
                                                                      lambda x: x.w)),
                            lambda w: NOT list_contains(list_transform(new_c, lambda x: x.w), w)))) END AS withdrawn
            FROM replaced
        )
        SELECT * EXCLUDE (ids), {"coalesce(" + entangled_if + ", false)" if config.events.id else "false"} AS entangled
        FROM (SELECT *, flatten(list_transform(c, lambda x: x.ids)) AS ids FROM joined)"""


def _fold(connection: duckdb.DuckDBPyConnection, config: Config, source: str) -> None:
    """The table ``finals``: hi, lo, key, old, withdrawn, c, measures, derived values and status of every touched key."""
    query = contributions.folded(config, f"({source})", "hi, lo, key, old, withdrawn,")
    if not config.logic:
        connection.execute(f"CREATE TEMP TABLE finals AS {query}")
        return
    connection.execute(f"CREATE TEMP TABLE judging AS {query}")
    judged_columns = ", ".join(
        ["key", "status", *(measure(item.name) for item in config.measures)] + [contributions.derived(item.name) for item in config.derived]
    )
    table = connection.sql(f"SELECT {judged_columns} FROM judging WHERE len(c) > 0").to_arrow_table()
    connection.register("judged_values", after_merge(config, table))
    changeable = ["status", *(contributions.derived(item.name) for item in config.derived)]
    connection.execute(f"""
        CREATE TEMP TABLE finals AS
        SELECT judging.* EXCLUDE ({", ".join(changeable)}), {", ".join("judged." + name for name in changeable)}
        FROM judging LEFT JOIN judged_values judged USING (key)""")
    connection.unregister("judged_values")
    connection.execute("DROP TABLE judging")


def _window_sums(
    connection: duckdb.DuckDBPyConnection, config: Config, windows: Sequence[str]
) -> tuple[dict[str, Totals], dict[str, int], dict[str, dict[str, str | int]]]:
    """Per window of the range, what the contributions hold as they will stand: rows counted, rows suppressed, additive measures."""
    additive = [item for item in config.measures if item.kind in ("sum", "count")]
    sums = "".join(f", sum(x.m.{quoted(item.name)})" for item in additive)
    ranged = f"[{', '.join(literal(window) for window in windows)}]"
    rows = connection.execute(f"""
        SELECT x.w, sum(x.n), sum(x.d){sums}
        FROM (SELECT unnest(list_filter(c, lambda x: list_contains({ranged}, x.w))) AS x FROM finals) GROUP BY 1""").fetchall()
    names = [item.name for item in additive]
    return (
        {row[0]: Totals(int(row[1])) for row in rows},
        {row[0]: int(row[2]) for row in rows},
        {row[0]: as_totals(names, row[3:]) for row in rows},
    )


def _status_changes(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    rows = connection.execute("""
        SELECT status, sum(change) FROM (
            SELECT coalesce(status, '') AS status, 1 AS change FROM finals WHERE len(c) > 0
            UNION ALL
            SELECT coalesce(r.status, ''), -1 FROM standing WHERE len(r.contributions) > 0
        ) GROUP BY 1 HAVING sum(change) <> 0""").fetchall()
    return {status: int(change) for status, change in rows}
