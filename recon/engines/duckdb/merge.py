"""Merges one slice of the keys in DuckDB: reduced artifacts replace their windows' contributions in the existing records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recon.config import Config
from recon.engines.duckdb import carried_forward, conflicts, contributions, duplicates, reduce
from recon.engines.duckdb.reduce import measure
from recon.engines.port import Moved, Recount, Slice, Sources
from recon.logic.call import after_merge
from recon.model.conflicts import Pairs
from recon.model.totals import Totals, as_totals
from recon.state.runs import checks_of
from recon.state.runs.entries import hash_order
from recon.storage import parquet
from recon.vocabulary.duckdb import literal, quoted

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa


_SETTLED = "hi, lo, key, old, old_status, old_c, appended, fresh, text, withdrawn"
"""What is known of a touched key once its contributions are settled: see ``_merged``."""
_CARRIED = "blocked, border, folds"


def merge_slice(
    connection: duckdb.DuckDBPyConnection,
    config: Config,
    sources: Sources,
    existing: pa.Table,
    bounds: tuple[int, int],
) -> Slice:
    """Merges the keys with ``bounds[0]`` ≤ hi < ``bounds[1]``. ``existing``: hi, lo, record of exactly these keys."""
    windows = sorted(sources.artifacts)
    for table in ("merged", "judging"):
        connection.execute(f"DROP TABLE IF EXISTS {table}")
    connection.register("existing_records", existing)
    arriving = _arriving(config, sources.artifacts, bounds)
    connection.execute(f"CREATE TEMP TABLE merged AS {_merged(config, _existing(config), arriving, windows)}")
    if _any(connection, "SELECT 1 FROM merged WHERE blocked") and carried_forward.outdated(connection, config, windows):
        carried_forward.open_blocks(connection, config, sources.artifacts_old, sources.events_old)
        connection.execute(f"CREATE OR REPLACE TEMP TABLE merged AS {_merged(config, _opened(config), arriving, windows)}")
    connection.unregister("existing_records")
    moved: dict[str, Moved] = {}
    recounted: dict[str, Recount] = {}
    before: Pairs = {}
    after: Pairs = {}
    settled = f"(SELECT {_SETTLED}, {_CARRIED} FROM merged WHERE NOT entangled)"
    if _any(connection, "SELECT 1 FROM merged WHERE entangled"):
        moved, recounted = duplicates.untangle(connection, config, sources, windows)
        before, after = conflicts.find(connection, config, sources, windows)
        settled = f"({settled} UNION ALL BY NAME SELECT {_SETTLED}, {_CARRIED} FROM untangled)"
    counted, suppressed, measures = _window_sums(connection, config, windows, settled)
    written = _written(connection, config, _finals(connection, config, settled))
    records = written.select(["hi", "lo", "length", "check", "record"])
    return Slice(records, _status_changes(connection, written), counted, suppressed, measures, moved, recounted, before, after)


@dataclass(frozen=True)
class _Arriving:
    """The arriving keys. ``rows``: a SELECT of hi, lo, key and more; ``contributions`` and ``text``: SQL over these columns of a key's
    contributions in order of windows, and of their JSON with commas between. Contributions are made after the join: narrow rows join
    faster."""

    rows: str
    contributions: str
    text: str


def _arriving(config: Config, artifacts: Mapping[str, Path], bounds: tuple[int, int]) -> _Arriving:
    part = f"WHERE hi >= {bounds[0]} AND hi < {bounds[1]}"
    made = {
        window: (contributions.from_artifact(config, literal(window)), contributions.artifact_text(config, window)) for window in artifacts
    }
    if len(artifacts) == 1:
        ((window, path),) = artifacts.items()
        one, text = made[window]
        return _Arriving(f"SELECT * FROM {parquet.scan(path)} {part}", f"[{one}]", text)
    scans = [
        f"SELECT hi, lo, key, {made[window][0]} AS x, {made[window][1]} AS text FROM {parquet.scan(path)} {part}"
        for window, path in artifacts.items()
    ]
    grouped = (
        "SELECT any_value(hi) AS hi, any_value(lo) AS lo, key, list(x ORDER BY x.w) AS c, string_agg(text, ',' ORDER BY x.w) AS text "
        f"FROM ({' UNION ALL '.join(scans)}) GROUP BY key"
    )
    return _Arriving(grouped, "c", "text")


def _each(value: str) -> str:
    """The list of ``value`` (SQL of a contribution ``x``) over the new contributions of a row of ``merged``."""
    values = f"list_transform(fresh, lambda x: {value})"
    return f"CASE WHEN appended THEN list_concat(list_transform(old_c, lambda x: {value}), {values}) ELSE {values} END"


def _total(member: str) -> str:
    """The sum of a ``member`` over the new contributions of a row of ``merged``. Lists are slow, and nearly every row has one or two
    contributions."""
    one, before = f"fresh[1].{member}", f"old_c[1].{member}"
    return (
        f"CASE WHEN len(fresh) = 1 AND NOT appended THEN {one} "
        f"WHEN len(fresh) = 1 AND len(old_c) = 1 THEN coalesce({before} + {one}, {one}, {before}) "
        f"ELSE list_sum({_each('x.' + member)}) END"
    )


def _existing(config: Config) -> str:
    """SELECT: hi, lo, record of the existing records, their members as ``r``, and whether they have a block (``blocked``). The block
    itself, which few records have, is read where it is needed."""
    return f"""
        SELECT hi, lo, record, from_json(record, {contributions.record_structure(config)}) AS r,
               {contributions.has_block("record")} AS blocked FROM existing_records"""


def _opened(config: Config) -> str:
    """The same, with the contributions of the table ``opened`` in place of the blocks that they were folded into."""
    return f"""
        SELECT s.hi, s.lo, s.record, struct_pack(k := r.k, s := r.s, gone := r.gone,
               c := CASE WHEN o.key IS NULL THEN r.c ELSE list_concat(o.c, r.c) END) AS r,
               s.blocked AND o.key IS NULL AS blocked
        FROM ({_existing(config)}) s LEFT JOIN opened o ON o.key = s.r.k"""


def _merged(config: Config, existing: str, arriving: _Arriving, windows: Sequence[str]) -> str:
    """Every touched key: its existing record, status and contributions (``old``, ``old_status``, ``old_c``), its new contributions in
    order of windows (``fresh``), and whether ids occur in several windows (``entangled``). Contributions that are carried forward are
    not listed, but in the block of ``old`` if it is ``blocked``; those before ``border`` will be carried forward (``folds``).

    Nearly always the arriving windows come after all existing ones. Such a row is ``appended``: its new contributions are those of
    ``old_c``, which are neither parsed nor written again, followed by ``fresh``. In other rows ``fresh`` is the complete list. A row whose
    block was opened is not appended, since its record does not have the text of all of ``old_c``.
    ``text``: the JSON of ``fresh`` where it is exactly the arriving contributions, else null."""
    ranged = f"[{', '.join(literal(window) for window in windows)}]"
    kind = contributions.contribution_type(config)
    existing_count = (
        f"CASE WHEN appended THEN len(old_c) ELSE 0 END + CASE WHEN blocked THEN {contributions.windows_in_block('old')} ELSE 0 END"
    )
    return f"""
        WITH paired AS (
            SELECT coalesce(s.hi, a.hi) AS hi, coalesce(s.lo, a.lo) AS lo, coalesce(s.r.k, a.key) AS key, s.record AS old,
                   s.r.s AS old_status, s.r.c AS old_c, s.r.gone AS old_withdrawn,
                   CASE WHEN a.key IS NOT NULL THEN {arriving.contributions} END AS new_c,
                   CASE WHEN a.key IS NOT NULL THEN {arriving.text} END AS new_text,
                   coalesce(s.blocked, false) AS blocked,
                   coalesce(a.key IS NOT NULL AND s.r.gone IS NULL AND s.r.c[-1].w < {literal(min(windows))}
                            AND s.blocked = {contributions.has_block("s.record")}, false) AS appended
            FROM ({existing}) s FULL JOIN ({arriving.rows}) a ON s.r.k = a.key
        ), replaced AS (
            SELECT hi, lo, key, old, old_status, old_c, blocked, appended, CASE WHEN appended OR old IS NULL THEN new_text END AS text,
                   CASE WHEN appended OR old IS NULL THEN new_c ELSE {_replaced(ranged, kind)} END AS fresh,
                   CASE WHEN appended OR old IS NULL THEN CAST([] AS VARCHAR[]) ELSE {_withdrawn(ranged)} END AS withdrawn
            FROM paired
        ), bordered AS (
            SELECT *, {_entangled() if config.events.id else "false"} AS entangled,
                   CASE WHEN len(fresh) + {existing_count} > {carried_forward.FOLD_MIN}
                        THEN coalesce({carried_forward.border(config, "fresh[-1].w")}, '') ELSE '' END AS border
            FROM replaced
        )
        SELECT *, blocked OR CASE WHEN border = '' THEN false WHEN appended THEN old_c[1].w < border
                                            ELSE fresh[1].w < border END AS folds
        FROM bordered"""


def _entangled() -> str:
    """SQL: whether a row of ``_merged`` has an id in several windows, before or after, or a record without ids. Comparing lists is slow,
    so the two most frequent cases come first: a key of a single window, whose ids reduce has compared; and a single window after the
    existing ones without suppressed events."""
    return f"""
        coalesce(
            CASE WHEN old IS NULL AND len(fresh) = 1 THEN false
            WHEN appended AND len(fresh) = 1 THEN list_has_any(flatten(list_transform(old_c, lambda x: x.ids)), fresh[1].ids)
            ELSE len(flatten({_each("x.ids")})) <> list_unique(flatten({_each("x.ids")})) END
            OR coalesce(list_sum(list_transform(old_c, lambda x: x.d)), 0) > 0
            OR {_total("n")} + {_total("d")} > {reduce.IDS_MAX}
            OR len(list_filter(old_c, lambda x: x.ids IS NULL)) > 0, false)"""


def _replaced(ranged: str, kind: str) -> str:
    """The existing contributions without those of the range's windows, with the arriving ones, in order of windows."""
    kept = f"list_filter(old_c, lambda x: NOT list_contains({ranged}, x.w))"
    return f"list_sort(list_concat({kept}, coalesce(new_c, CAST([] AS {kind}[]))))"


def _withdrawn(ranged: str) -> str:
    """The windows that contributed before and no longer do, in order."""
    gone = f"list_transform(list_filter(old_c, lambda x: list_contains({ranged}, x.w)), lambda x: x.w)"
    arrived = "list_transform(coalesce(new_c, []), lambda x: x.w)"
    before = f"list_concat(coalesce(old_withdrawn, []), {gone})"
    return f"list_sort(list_distinct(list_filter({before}, lambda w: NOT list_contains({arrived}, w))))"


def _finals(connection: duckdb.DuckDBPyConnection, config: Config, settled: str) -> str:
    """A source for FROM: the settled rows of every touched key with measures, derived values, status, and the text of its block."""
    ordinary = f"(SELECT *, CAST(NULL AS VARCHAR) AS carried FROM {settled} WHERE NOT folds)"
    query = contributions.folded(config, ordinary, f"{_SETTLED}, carried,", _each, "(appended OR len(fresh) > 0)", _total)
    if _any(connection, "SELECT 1 FROM merged WHERE folds"):
        carried_forward.fold(connection, config, settled)
        folding = f"(SELECT *, {contributions.block_text(config, 'block')} AS carried FROM kept)"
        query += f" UNION ALL BY NAME {contributions.folded(config, folding, f'{_SETTLED}, carried,', some='true')}"
    if not config.logic:
        return f"({query})"
    connection.execute(f"CREATE TEMP TABLE judging AS {query}")
    judged_columns = ", ".join(
        ["key", "status", *(measure(item.name) for item in config.measures)] + [contributions.derived(item.name) for item in config.derived]
    )
    table = connection.sql(f"SELECT {judged_columns} FROM judging WHERE appended OR len(fresh) > 0").to_arrow_table()
    connection.register("judged_values", after_merge(config.logic_source, config.logic_place, table))
    changeable = ["status", *(contributions.derived(item.name) for item in config.derived)]
    return f"""(
        SELECT judging.* EXCLUDE ({", ".join(changeable)}), {", ".join("judged." + name for name in changeable)}
        FROM judging LEFT JOIN judged_values judged USING (key))"""


def _written(connection: duckdb.DuckDBPyConnection, config: Config, finals: str) -> pa.Table:
    """The records that changed, in order of hash, with the columns that ``_status_changes`` counts."""
    twins = connection.execute("SELECT hi FROM merged GROUP BY hi HAVING count(*) > 1").fetchall()
    # By the invariant of runs the records of one hash are written together.
    together = f" OR hi IN ({', '.join(str(hi) for (hi,) in twins)})" if twins else ""
    listed = f"""CASE WHEN text IS NULL THEN {contributions.list_text(config, "fresh")}
        WHEN appended THEN concat({contributions.existing_list_text("old")}, ',', text, ']') ELSE concat('[', text, ']') END"""
    # Whether it changed is a column: a condition would be pushed down below the record, which would then be made twice.
    table = connection.sql(f"""
        SELECT hi, lo, record, len(old_c) > 0 AS stood, old_status, appended OR len(fresh) > 0 AS stands, status,
               record IS DISTINCT FROM old{together} AS changed
        FROM (SELECT *, {contributions.record(config, listed, "carried")} AS record FROM {finals})""").to_arrow_table()
    return _in_order(table)


def _in_order(table: pa.Table) -> pa.Table:
    """The rows that changed, in order of hash, with the length and the check of each record. Sorted by Arrow, in half the time of
    DuckDB, since the texts are long."""
    import pyarrow as pa
    import pyarrow.compute as pc

    changed = np.flatnonzero(table.column("changed").to_numpy())
    hi, lo = (table.column(name).to_numpy()[changed] for name in ("hi", "lo"))
    chunks = [chunk.cast(pa.large_string()) for chunk in table.column("record").chunks]
    records = pa.concat_arrays(chunks or [pa.array([], pa.large_string())])
    rows = changed[hash_order(hi, lo)]
    taken = table.drop_columns(["record", "changed"]).take(rows)
    ordered = records.take(pa.array(rows))
    return (
        taken.append_column("length", pc.binary_length(ordered).cast(pa.uint32()))
        .append_column("check", pa.array(checks_of(ordered)))
        .append_column("record", ordered)
    )


def _window_sums(
    connection: duckdb.DuckDBPyConnection, config: Config, windows: Sequence[str], settled: str
) -> tuple[dict[str, Totals], dict[str, int], dict[str, dict[str, str | int]]]:
    """Per window of the range, sums over its new contributions: rows counted, rows suppressed, additive measures.

    Where ``fresh`` is not the complete list, the contributions before it are of other windows."""
    additive = [item for item in config.measures if item.kind in ("sum", "count")]
    sums = "".join(f", sum(x.m.{quoted(item.name)})" for item in additive)
    ranged = f"[{', '.join(literal(window) for window in windows)}]"
    rows = connection.execute(f"""
        SELECT x.w, sum(x.n), sum(x.d){sums}
        FROM (SELECT unnest(list_filter(fresh, lambda x: list_contains({ranged}, x.w))) AS x FROM {settled}) GROUP BY 1""").fetchall()
    names = [item.name for item in additive]
    return (
        {row[0]: Totals(int(row[1])) for row in rows},
        {row[0]: int(row[2]) for row in rows},
        {row[0]: as_totals(names, row[3:]) for row in rows},
    )


def _status_changes(connection: duckdb.DuckDBPyConnection, written: pa.Table) -> dict[str, int]:
    """Change in the number of artifacts by status. A record that is not written keeps its status."""
    connection.register("written_records", written.select(["stood", "old_status", "stands", "status"]))
    rows = connection.execute("""
        SELECT status, sum(change) FROM (
            SELECT coalesce(status, '') AS status, 1 AS change FROM written_records WHERE stands
            UNION ALL
            SELECT coalesce(old_status, ''), -1 FROM written_records WHERE stood
        ) GROUP BY 1 HAVING sum(change) <> 0""").fetchall()
    connection.unregister("written_records")
    return {status: int(change) for status, change in rows}


def _any(connection: duckdb.DuckDBPyConnection, query: str) -> bool:
    return bool(connection.execute(f"{query} LIMIT 1").fetchall())
