"""Comparing the stored artifacts with those that were computed again, and saying how a key differs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon.config import Config
from recon.state import reduced
from recon.storage import parquet
from recon.storage.port import NotFound, ObjectStore
from recon.storage.scratch import local_copy
from recon.verification.carried_forward import windows_in_blocks
from recon.verification.findings import Findings
from recon.verification.records import Seen
from recon.verification.timeline import History
from recon.vocabulary.duckdb import literal

if TYPE_CHECKING:
    import duckdb

_RECORD = json.dumps(
    {
        "k": "VARCHAR",
        "s": "VARCHAR",
        "m": "JSON",
        "v": "JSON",
        "c": ["JSON"],
        "gone": ["VARCHAR"],
        "carried": "JSON",
    }
)
_NEXT = "'recon replay' its windows"
_SHOWN_MAX = 6
"""Differences of one key that its line shows."""


def start_stored(connection: duckdb.DuckDBPyConnection) -> None:
    """Makes the table ``stored`` that ``keep_stored`` fills."""
    connection.execute(
        "CREATE TABLE stored (key VARCHAR, hi UBIGINT, lo UBIGINT, status VARCHAR, measures VARCHAR, derived VARCHAR, "
        "contributions VARCHAR[], withdrawn VARCHAR[], carried VARCHAR)"
    )


def keep_stored(connection: duckdb.DuckDBPyConnection) -> None:
    """Adds the records of the view ``batch`` (hi, lo, record)."""
    connection.execute(
        "INSERT INTO stored SELECT r.k, hi, lo, r.s, r.m::VARCHAR, r.v::VARCHAR, "
        f"r.c::VARCHAR[], coalesce(r.gone, []), r.carried::VARCHAR "
        f"FROM (SELECT hi, lo, from_json(record, {literal(_RECORD)}) AS r FROM batch)"
    )


def compare(
    store: ObjectStore,
    config: Config,
    connection: duckdb.DuckDBPyConnection,
    history: History,
    seen: Seen,
    unread: Sequence[str],
    scratch: Path,
    findings: Findings,
) -> None:
    """Adds one problem per key whose stored artifact is not the computed one. Keys of which something could not be
    read, which is named already, are passed over."""
    connection.execute(
        "CREATE VIEW stored_parts AS SELECT key, body ->> '$.w' AS w, body FROM (SELECT key, unnest(contributions) AS body FROM stored)"
    )
    _pass_over(connection, config, seen, unread)
    _withdrawn(store, config, connection, history, unread, scratch, findings)
    # A key whose contributions are all gone keeps its record, with nothing in it.
    bare = "len(s.contributions) = 0 AND s.status IS NULL AND s.measures = '{}'"
    connection.execute(f"""
        CREATE TABLE differing AS SELECT DISTINCT key FROM (
            SELECT coalesce(s.key, e.key) AS key FROM stored s FULL JOIN expected e ON s.key = e.key
            WHERE (s.key IS NULL OR e.key IS NULL OR s.status IS DISTINCT FROM e.status
                   OR s.measures IS DISTINCT FROM e.measures OR s.derived IS DISTINCT FROM e.derived)
                  AND NOT coalesce(e.key IS NULL AND {bare}, false)
            UNION ALL
            SELECT coalesce(s.key, e.key) FROM stored_parts s FULL JOIN expected_parts e ON s.key = e.key AND s.w = e.w
            WHERE s.body IS DISTINCT FROM e.body
            UNION ALL
            SELECT coalesce(s.key, e.key) FROM (SELECT key, carried FROM stored WHERE carried IS NOT NULL) s
            FULL JOIN expected_blocks e ON s.key = e.key WHERE s.carried IS DISTINCT FROM e.body
            UNION ALL
            SELECT key FROM stored GROUP BY key HAVING count(*) > 1
            UNION ALL
            SELECT coalesce(s.key, e.key) FROM (SELECT key, unnest(withdrawn) AS w FROM stored) s
            FULL JOIN expected_withdrawn e ON s.key = e.key AND s.w = e.w WHERE s.key IS NULL OR e.key IS NULL
        ) ANTI JOIN passed_over USING (key)""")
    (total,) = connection.execute("SELECT count(*) FROM differing").fetchall()[0]
    shown = [key for (key,) in connection.execute(f"SELECT key FROM differing ORDER BY key LIMIT {findings.room}").fetchall()]
    for key in shown:
        findings.add(_line(connection, key))
    findings.more(total - len(shown))


def _pass_over(connection: duckdb.DuckDBPyConnection, config: Config, seen: Seen, unread: Sequence[str]) -> None:
    """The table ``passed_over``: keys of lost records, and keys that an unread window contributes to."""
    import pyarrow as pa

    hi, lo = zip(*seen.lost, strict=True) if seen.lost else ((), ())
    connection.register("lost", pa.table({"hi": pa.array(hi, pa.uint64()), "lo": pa.array(lo, pa.uint64())}))
    windows = f"CAST([{', '.join(literal(name) for name in unread)}] AS VARCHAR[])"
    numbers = f"CAST([{', '.join(str(config.grid.index(config.grid.parse(name))) for name in unread)}] AS BIGINT[])"
    runs = "from_json(carried -> '$.runs', '[\"BIGINT\"]')"
    stored_blocks = f"(SELECT key, carried ->> '$.first' AS first, {runs} AS runs FROM stored WHERE carried IS NOT NULL)"
    connection.execute(f"""
        CREATE TABLE passed_over AS
        SELECT DISTINCT key FROM contributed SEMI JOIN lost USING (hi, lo)
        UNION SELECT DISTINCT key FROM stored_parts WHERE list_contains({windows}, w)
        UNION SELECT key FROM stored WHERE list_has_any(withdrawn, {windows})
        UNION SELECT DISTINCT key FROM ({windows_in_blocks(config, stored_blocks)}) WHERE list_contains({numbers}, w)""")
    connection.unregister("lost")


def _withdrawn(
    store: ObjectStore,
    config: Config,
    connection: duckdb.DuckDBPyConnection,
    history: History,
    unread: Sequence[str],
    scratch: Path,
    findings: Findings,
) -> None:
    """The table ``expected_withdrawn``: key, w of windows of which an earlier revision held the key, the latest not."""
    import duckdb

    connection.execute("CREATE TABLE expected_withdrawn (key VARCHAR, w VARCHAR)")
    if not history.whole:
        # Which revisions were committed is not known any more; what is stored cannot be disputed.
        connection.execute("INSERT INTO expected_withdrawn SELECT key, unnest(withdrawn) FROM stored")
        return
    for name, held in history.windows.items():
        number = config.grid.index(config.grid.parse(name))
        earlier = history.folders[name] - {held["folder"]}
        if not earlier.isdisjoint(history.swept):
            # What an earlier revision held is not kept any more, so what is stored of it cannot be disputed.
            connection.execute(
                f"INSERT INTO expected_withdrawn SELECT key, {literal(name)} FROM stored WHERE list_contains(withdrawn, {literal(name)})"
            )
        for folder in sorted(earlier - history.swept) if name not in unread else ():
            path = folder + reduced.ARTIFACTS
            try:
                source = parquet.scan(local_copy(store, path, scratch))
                connection.execute(
                    f"INSERT INTO expected_withdrawn SELECT key, {literal(name)} FROM {source} "
                    f"ANTI JOIN (SELECT key FROM contributed WHERE w = {number}) now USING (key)"
                )
            except (NotFound, duckdb.Error):
                findings.add(
                    f"{path}: window {name}: the keys of an earlier revision cannot be read, so withdrawn ones were "
                    "not checked; restore the file from a copy of the store"
                )
    connection.execute("CREATE OR REPLACE TABLE expected_withdrawn AS SELECT DISTINCT * FROM expected_withdrawn")


def _line(connection: duckdb.DuckDBPyConnection, key: str) -> str:
    """How one key differs, in one line."""

    def rows(query: str) -> list[tuple[Any, ...]]:
        return connection.execute(query, [key]).fetchall()

    shown = json.dumps(key, ensure_ascii=False)
    stored = rows("SELECT status, measures, derived, withdrawn, carried FROM stored WHERE key = ?")
    expected = rows("SELECT status, measures, derived FROM expected WHERE key = ?")
    if len(stored) > 1:
        return f"key {shown}: {len(stored)} live records have it, one is expected; {_NEXT}"
    if not stored:
        return f"key {shown}: the landed events give an artifact, none is stored; {_NEXT}"
    held = {w: json.loads(body) for w, body in rows("SELECT w, body FROM stored_parts WHERE key = ?")}
    again = {w: json.loads(body) for w, body in rows("SELECT w, body FROM expected_parts WHERE key = ?")}
    if held and not expected:
        return f"key {shown}: an artifact is stored, the landed events give none; restore the store from a copy"
    found: list[str] = []
    if expected:
        (status, measures, derived, *_), (status_again, measures_again, derived_again) = stored[0], expected[0]
        found += _differences("", {"status": status}, {"status": status_again})
        found += _differences("", json.loads(measures), json.loads(measures_again))
        found += _differences("", json.loads(derived), json.loads(derived_again))
    blocks = [stored[0][4], *(body for (body,) in rows("SELECT body FROM expected_blocks WHERE key = ?"))]
    block, block_again = (_flat(json.loads(body)) if body else {} for body in (*blocks, None)[:2])
    found += _differences("carried ", block, block_again)
    for window in sorted({*held, *again}):
        if window in held and window in again:
            found += _differences(f"{window} ", _flat(held[window]), _flat(again[window]))
        else:
            found.append(f"{window} is {'stored' if window in held else 'not stored'}")
    withdrawn = sorted(w for (w,) in rows("SELECT w FROM expected_withdrawn WHERE key = ?"))
    found += _differences("", {"withdrawn": sorted(stored[0][3])}, {"withdrawn": withdrawn})
    more = f"; and {len(found) - _SHOWN_MAX} more" if len(found) > _SHOWN_MAX else ""
    listed = "; ".join(found[:_SHOWN_MAX]) or "it is written in another form than expected"
    return f"key {shown}: stored ≠ computed again: {listed}{more}; {_NEXT}"


def _flat(part: Mapping[str, Any]) -> dict[str, Any]:
    """A contribution's n, d, ids and measures side by side."""
    return {**{name: value for name, value in part.items() if name != "m"}, **part.get("m", {})}


def _differences(where: str, stored: Mapping[str, Any], again: Mapping[str, Any]) -> list[str]:
    names = [*stored, *(name for name in again if name not in stored)]
    return [
        f"{where}{name} {_short(stored.get(name))} ≠ {_short(again.get(name))}"
        for name in names
        if stored.get(name) != again.get(name) or (name in stored) != (name in again)
    ]


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"
