"""Merges one slice of the keys in DuckDB: reduced artifacts replace their windows' contributions in the existing records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from recon.config import Config
from recon.config.form import form_of
from recon.config.model import Measure
from recon.engines.duckdb import carried_forward, conflicts, contributions, duplicates, fast, reduce
from recon.engines.duckdb.reduce import measure
from recon.engines.port import Moved, Recount, Slice, Sources
from recon.logic.call import after_merge
from recon.model.conflicts import Pairs
from recon.model.form import Form
from recon.model.totals import Totals, as_totals
from recon.records.columns import binary_of
from recon.records.encode import encode
from recon.records.ranges import Bools, before, ranges
from recon.records.stored import Stored
from recon.records.tables import merged_rows
from recon.state.runs.entries import hash_order
from recon.storage import parquet
from recon.vocabulary.duckdb import literal, quoted

if TYPE_CHECKING:
    import duckdb


_SETTLED = "hi, lo, key, old, old_status, old_c, appended, fresh, withdrawn"
"""What is known of a touched key once its contributions are settled: see ``_merged``."""
_CARRIED = "block, blocked, border, folds"


def merge_slice(
    connection: duckdb.DuckDBPyConnection,
    config: Config,
    sources: Sources,
    existing: pa.Table,
    bounds: tuple[int, int],
) -> Slice:
    """Merges the keys with ``bounds[0]`` ≤ hi < ``bounds[1]``. ``existing``: hi, lo, record of exactly these keys."""
    windows, stored, form = sorted(sources.artifacts), Stored.of(existing), form_of(config)
    for table in ("merged", "judging"):
        connection.execute(f"DROP TABLE IF EXISTS {table}")
    taken = fast.find(connection, config, sources.artifacts, stored, bounds) if fast.is_fast(config) else None
    if taken is not None:
        connection.register("fast_artifacts", taken.arrived)
        if not len(taken.places) and not taken.arriving.num_rows:
            return _all_fast(connection, config, taken)
        connection.register("arriving_artifacts", taken.arriving)
    places = np.arange(len(stored.hi)) if taken is None else taken.places
    connection.register("existing_records", stored.table(form, places))
    arriving = _arriving(config, sources.artifacts, bounds, taken is not None)
    connection.execute(f"CREATE TEMP TABLE merged AS {_merged(config, _EXISTING, arriving, windows)}")
    if _any(connection, "SELECT 1 FROM merged WHERE blocked") and carried_forward.outdated(connection, config, windows):
        carried_forward.open_blocks(connection, config, sources.artifacts_old, sources.events_old)
        connection.execute(f"CREATE OR REPLACE TEMP TABLE merged AS {_merged(config, _opened(config), arriving, windows)}")
    connection.unregister("existing_records")
    moved: dict[str, Moved] = {}
    recounted: dict[str, Recount] = {}
    earlier: Pairs = {}
    later: Pairs = {}
    settled = f"(SELECT {_SETTLED}, {_CARRIED} FROM merged WHERE NOT entangled)"
    if _any(connection, "SELECT 1 FROM merged WHERE entangled"):
        moved, recounted = duplicates.untangle(connection, config, sources, windows)
        earlier, later = conflicts.find(connection, config, sources, windows)
        settled = f"({settled} UNION ALL BY NAME SELECT {_SETTLED}, {_CARRIED} FROM untangled)"
    counted, suppressed, measures = _window_sums(connection, config, windows, settled, taken is not None)
    merged = connection.sql(_written(_finals(connection, config, settled))).to_arrow_table()
    records, changed = _records(form, merged, stored, taken)
    statuses = _status_changes(connection, merged.filter(pa.array(changed)))
    if taken is not None:
        statuses = _added(statuses, taken.statuses)
    return Slice(records, statuses, counted, suppressed, measures, moved, recounted, earlier, later)


@dataclass(frozen=True)
class _Arriving:
    """The arriving keys. ``rows``: a SELECT of hi, lo, key and more; ``contributions``: SQL over these columns of a key's contributions in
    order of windows. They are made after the join: narrow rows join faster."""

    rows: str
    contributions: str


def _arriving(config: Config, artifacts: Mapping[str, Path], bounds: tuple[int, int], read: bool) -> _Arriving:
    """``read``: the arriving keys are in the view ``arriving_artifacts``, without those that took the fast way."""
    source, made = "arriving_artifacts", contributions.from_artifact(config, "w")
    if not read:
        source = f"(FROM {parquet.scan_windows(artifacts)} WHERE hi >= {bounds[0]} AND hi < {bounds[1]})"
    if len(artifacts) == 1:
        return _Arriving(f"SELECT * FROM {source}", f"[{made}]")
    listed = "any_value(hi) AS hi, any_value(lo) AS lo, key, list(x ORDER BY x.w) AS arrived"
    return _Arriving(f"SELECT {listed} FROM (SELECT hi, lo, key, {made} AS x FROM {source}) GROUP BY key", "arrived")


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


_EXISTING = "SELECT hi, lo, place, key, status, c, withdrawn, block, block IS NOT NULL AS blocked FROM existing_records"


def _opened(config: Config) -> str:
    """The same, with the contributions of the table ``opened`` in place of the blocks that they were folded into."""
    return f"""
        SELECT s.* REPLACE (CASE WHEN o.key IS NULL THEN s.c ELSE list_concat(o.c, s.c) END AS c,
                            CASE WHEN o.key IS NULL THEN s.block END AS block,
                            s.blocked AND o.key IS NULL AS blocked)
        FROM ({_EXISTING}) s LEFT JOIN opened o ON o.key = s.key"""


def _merged(config: Config, existing: str, arriving: _Arriving, windows: Sequence[str]) -> str:
    """Every touched key: the place of its existing record, its status, contributions and block (``old``, ``old_status``, ``old_c``,
    ``block``), its new contributions in order of windows (``fresh``), and whether ids occur in several windows (``entangled``).
    Contributions that are carried forward are not listed, but in the block if it is ``blocked``; those before ``border`` will be carried
    forward (``folds``).

    Nearly always the arriving windows come after all existing ones. Such a row is ``appended``: its new contributions are those of
    ``old_c`` followed by ``fresh``. In other rows ``fresh`` is the complete list."""
    ranged = f"[{', '.join(literal(window) for window in windows)}]"
    kind = contributions.contribution_type(config)
    existing_count = "CASE WHEN appended THEN len(old_c) ELSE 0 END + CASE WHEN blocked THEN block.windows ELSE 0 END"
    return f"""
        WITH paired AS (
            SELECT coalesce(s.hi, a.hi) AS hi, coalesce(s.lo, a.lo) AS lo, coalesce(s.key, a.key) AS key, s.place AS old,
                   s.status AS old_status, s.c AS old_c, s.withdrawn AS old_withdrawn, s.block AS block,
                   CASE WHEN a.key IS NOT NULL THEN {arriving.contributions} END AS new_c,
                   coalesce(s.blocked, false) AS blocked,
                   coalesce(a.key IS NOT NULL AND len(s.withdrawn) = 0 AND s.c[-1].w < {literal(min(windows))}, false) AS appended
            FROM ({existing}) s FULL JOIN ({arriving.rows}) a ON s.key = a.key
        ), replaced AS (
            SELECT hi, lo, key, old, old_status, old_c, block, blocked, appended,
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
    """A source for FROM: the settled rows of every touched key with measures, derived values and status."""
    ordinary = f"(FROM {settled} WHERE NOT folds)"
    query = contributions.folded(config, ordinary, f"{_SETTLED}, block,", _each, "(appended OR len(fresh) > 0)", _total)
    if _any(connection, "SELECT 1 FROM merged WHERE folds"):
        carried_forward.fold(connection, config, settled)
        query += f" UNION ALL BY NAME {contributions.folded(config, 'kept', f'{_SETTLED}, block,', some='true')}"
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


def _written(finals: str) -> str:
    """SELECT of every touched key: what ``recon.records`` encodes, and the columns that ``_status_changes`` counts."""
    listed = "CASE WHEN appended THEN list_concat(old_c, fresh) ELSE fresh END AS c"
    counted = "len(old_c) > 0 AS contributed, appended OR len(fresh) > 0 AS contributes"
    return f"SELECT * EXCLUDE (old_c, fresh, appended), {listed}, {counted} FROM {finals}"


def _records(form: Form, merged: pa.Table, stored: Stored, taken: fast.Fast | None) -> tuple[pa.Table, Bools]:
    """hi, lo, length (bytes) and record of the artifacts that changed, in order of hash; and whether each of ``merged`` did."""
    words, start, length = encode(form, merged_rows(form, merged))
    hi, lo = (merged.column(name).to_numpy() for name in ("hi", "lo"))
    changed = _twins(hi) | ~stored.equal(merged.column("old").fill_null(-1).to_numpy(), words, start, length)
    rows = np.flatnonzero(changed)
    hi, lo, start, length = hi[rows], lo[rows], start[rows], length[rows]
    lengths = length
    if taken is not None:
        hi, lo, lengths = (np.concatenate(both) for both in ((hi, taken.hi), (lo, taken.lo), (length, taken.records.length)))
    order = hash_order(hi, lo)
    place = np.empty(len(order), np.int64)
    place[order] = before(lengths[order])
    out = np.zeros(int(lengths.sum()), np.uint64)
    out[ranges(place[: len(rows)], length)] = words[ranges(start, length)]
    if taken is not None:
        taken.records.write(out, place[len(rows) :])
    records = binary_of(out, place[order], lengths[order])
    columns = {"hi": hi[order], "lo": lo[order], "length": (8 * lengths[order]).astype(np.uint32)}
    return pa.table({**columns, "record": records}), changed


def _twins(hi: Any) -> Bools:
    """Which rows share their ``hi`` with another: by the invariant of runs the records of one hash are written together."""
    _, place, counts = np.unique(hi, return_inverse=True, return_counts=True)
    return np.asarray(counts[place] > 1)


def _all_fast(connection: duckdb.DuckDBPyConnection, config: Config, taken: fast.Fast) -> Slice:
    """The result of a slice of which all keys took the fast way. The general way's SQL takes time without any row, too."""
    length = taken.records.length
    out, start = np.zeros(int(length.sum()), np.uint64), before(length)
    taken.records.write(out, start)
    columns = {"hi": taken.hi, "lo": taken.lo, "length": (8 * length).astype(np.uint32), "record": binary_of(out, start, length)}
    return Slice(pa.table(columns), taken.statuses, *_sums(connection, config, _fast_rows(config)))


def _window_sums(
    connection: duckdb.DuckDBPyConnection, config: Config, windows: Sequence[str], settled: str, taken: bool
) -> tuple[dict[str, Totals], dict[str, int], dict[str, dict[str, str | int]]]:
    """Per window of the range, sums over its new contributions: rows counted, rows suppressed, additive measures. ``taken``: also over the
    view ``fast_artifacts``.

    Where ``fresh`` is not the complete list, the contributions before it are of other windows."""
    values = ["x.n AS n", "x.d AS d", *(f"x.m.{quoted(item.name)} AS {measure(item.name)}" for item in _additive(config))]
    ranged = f"[{', '.join(literal(window) for window in windows)}]"
    source = f"""
        SELECT x.w AS w, {", ".join(values)}
        FROM (SELECT unnest(list_filter(fresh, lambda x: list_contains({ranged}, x.w))) AS x FROM {settled})"""
    return _sums(connection, config, f"{source} UNION ALL BY NAME {_fast_rows(config)}" if taken else source)


def _fast_rows(config: Config) -> str:
    """SELECT of w, n, d and additive measures of the artifacts that took the fast way, of which no event is suppressed."""
    return f"SELECT w, n, 0 AS d{''.join(f', {measure(item.name)}' for item in _additive(config))} FROM fast_artifacts"


def _additive(config: Config) -> list[Measure]:
    return [item for item in config.measures if item.kind in ("sum", "count")]


def _sums(
    connection: duckdb.DuckDBPyConnection, config: Config, source: str
) -> tuple[dict[str, Totals], dict[str, int], dict[str, dict[str, str | int]]]:
    """Sums by window over ``source``: w, n, d, additive measures."""
    names = [item.name for item in _additive(config)]
    sums = "".join(f", sum({measure(name)})" for name in names)
    rows = connection.execute(f"SELECT w, sum(n), sum(d){sums} FROM ({source}) GROUP BY w").fetchall()
    return (
        {row[0]: Totals(int(row[1])) for row in rows},
        {row[0]: int(row[2]) for row in rows},
        {row[0]: as_totals(names, row[3:]) for row in rows},
    )


def _status_changes(connection: duckdb.DuckDBPyConnection, written: pa.Table) -> dict[str, int]:
    """Change in the number of artifacts by status. A record that is not written keeps its status."""
    connection.register("written_records", written.select(["contributed", "old_status", "contributes", "status"]))
    rows = connection.execute("""
        SELECT status, sum(change) FROM (
            SELECT coalesce(status, '') AS status, 1 AS change FROM written_records WHERE contributes
            UNION ALL
            SELECT coalesce(old_status, ''), -1 FROM written_records WHERE contributed
        ) GROUP BY 1 HAVING sum(change) <> 0""").fetchall()
    connection.unregister("written_records")
    return {status: int(change) for status, change in rows}


def _added(some: Mapping[str, int], others: Mapping[str, int]) -> dict[str, int]:
    """Sums by name, without zeros."""
    total = {name: some.get(name, 0) + others.get(name, 0) for name in {**some, **others}}
    return {name: count for name, count in total.items() if count}


def _any(connection: duckdb.DuckDBPyConnection, query: str) -> bool:
    return bool(connection.execute(f"{query} LIMIT 1").fetchall())
