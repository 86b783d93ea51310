"""Compares the stored artifacts with the recomputed artifacts, and lists how a key differs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from recon.config import Config
from recon.state import reduced
from recon.storage import parquet
from recon.storage.port import NotFound
from recon.storage.scratch import local_copy
from recon.verification.carried_forward import windows_in_blocks
from recon.verification.proof import Proof
from recon.verification.texts import artifact_texts, block_text, contribution_text, time_text
from recon.vocabulary.duckdb import literal, quoted

if TYPE_CHECKING:
    import duckdb

_NEXT = "'recon replay' its windows"
_SHOWN_MAX = 6
"""Number of differences that the line of a key shows."""


def start_stored(connection: duckdb.DuckDBPyConnection) -> None:
    """Creates the tables that ``keep_stored`` fills. ``body``, ``measures`` and ``derived``: JSON, see ``recon.verification.texts``."""
    connection.execute("""
        CREATE TABLE stored (key VARCHAR, status VARCHAR, measures VARCHAR, derived VARCHAR, windows BIGINT, withdrawn VARCHAR[]);
        CREATE TABLE stored_parts (key VARCHAR, w VARCHAR, body VARCHAR);
        CREATE TABLE stored_blocks (key VARCHAR, first VARCHAR, runs BIGINT[], body VARCHAR)""")


def keep_stored(connection: duckdb.DuckDBPyConnection, config: Config) -> None:
    """Adds the records of the views ``artifacts``, ``contributions`` and ``blocks``: see ``recon.verification.words.Decoded``."""
    timed = [quoted(f"m_{item.name}") for item in config.measures if item.kind in ("first", "last")]
    texts = ", ".join(f"CASE WHEN {m} IS NOT NULL THEN {{'t': {time_text(m + '.t')}, 'v': {m}.v}} END AS {m}" for m in timed)
    columns = f"* REPLACE ({texts})" if texts else "*"
    block = block_text(config, "first", "last")
    connection.execute(f"INSERT INTO stored SELECT key, status, {artifact_texts(config)}, windows, withdrawn FROM artifacts")
    connection.execute(
        f"INSERT INTO stored_parts SELECT key, w, {contribution_text(config, 'w', 'ids')} FROM (SELECT {columns} FROM contributions)"
    )
    connection.execute(
        f"INSERT INTO stored_blocks SELECT key, first, TRY_CAST(runs AS BIGINT[]), {block} FROM (SELECT {columns} FROM blocks)"
    )


def compare(proof: Proof, unread: Sequence[str]) -> None:
    """Adds one problem for each key whose stored artifact differs from the recomputed artifact. Skips keys with unreadable records or
    windows, which have a finding already. ``unread``: windows whose events could not be read."""
    connection, findings = proof.connection, proof.findings
    _skip(proof, unread)
    _withdrawn(proof, unread)
    # A key whose contributions are all gone keeps its record, with nothing in it.
    bare = "s.windows = 0 AND s.status IS NULL AND s.measures = '{}'"
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
            SELECT coalesce(s.key, e.key) FROM stored_blocks s FULL JOIN expected_blocks e ON s.key = e.key
            WHERE s.body IS DISTINCT FROM e.body
            UNION ALL
            SELECT key FROM stored GROUP BY key HAVING count(*) > 1
            UNION ALL
            SELECT coalesce(s.key, e.key) FROM (SELECT key, unnest(withdrawn) AS w FROM stored) s
            FULL JOIN expected_withdrawn e ON s.key = e.key AND s.w = e.w WHERE s.key IS NULL OR e.key IS NULL
        ) ANTI JOIN skipped USING (key)""")
    (total,) = connection.execute("SELECT count(*) FROM differing").fetchall()[0]
    shown = [key for (key,) in connection.execute(f"SELECT key FROM differing ORDER BY key LIMIT {findings.room}").fetchall()]
    for key in shown:
        findings.add(_line(connection, key))
    findings.add_unlisted(total - len(shown))


def _skip(proof: Proof, unread: Sequence[str]) -> None:
    """Creates the table ``skipped``: keys of lost records, and keys that an unread window contributes to."""
    import pyarrow as pa

    connection, lost = proof.connection, proof.records.lost
    hi, lo = zip(*lost, strict=True) if lost else ((), ())
    connection.register("lost", pa.table({"hi": pa.array(hi, pa.uint64()), "lo": pa.array(lo, pa.uint64())}))
    windows = f"CAST([{', '.join(literal(name) for name in unread)}] AS VARCHAR[])"
    numbers = f"CAST([{', '.join(str(proof.number(name)) for name in unread)}] AS BIGINT[])"
    connection.execute(f"""
        CREATE TABLE skipped AS
        SELECT DISTINCT key FROM contributed SEMI JOIN lost USING (hi, lo)
        UNION SELECT DISTINCT key FROM stored_parts WHERE list_contains({windows}, w)
        UNION SELECT key FROM stored WHERE list_has_any(withdrawn, {windows})
        UNION SELECT DISTINCT key FROM ({windows_in_blocks(proof.config, "stored_blocks")}) WHERE list_contains({numbers}, w)""")
    connection.unregister("lost")


def _withdrawn(proof: Proof, unread: Sequence[str]) -> None:
    """Creates the table ``expected_withdrawn`` (key, w): windows with the key in an earlier revision but not in the latest."""
    import duckdb

    connection, history = proof.connection, proof.history
    connection.execute("CREATE TABLE expected_withdrawn (key VARCHAR, w VARCHAR)")
    if not history.complete:
        # The committed revisions are not all known, so the stored windows cannot be disputed.
        connection.execute("INSERT INTO expected_withdrawn SELECT key, unnest(withdrawn) FROM stored")
        return
    for name, committed in history.windows.items():
        earlier = history.folders[name] - {committed["folder"]}
        if not earlier.isdisjoint(history.swept):
            # An earlier revision is not kept any more, so the keys stored for it cannot be disputed.
            connection.execute(
                f"INSERT INTO expected_withdrawn SELECT key, {literal(name)} FROM stored WHERE list_contains(withdrawn, {literal(name)})"
            )
        for folder in sorted(earlier - history.swept) if name not in unread else ():
            path = folder + reduced.ARTIFACTS
            try:
                source = parquet.scan(local_copy(proof.store, path, proof.scratch))
                connection.execute(
                    f"INSERT INTO expected_withdrawn SELECT key, {literal(name)} FROM {source} "
                    f"ANTI JOIN (SELECT key FROM contributed WHERE w = {proof.number(name)}) now USING (key)"
                )
            except (NotFound, duckdb.Error):
                proof.findings.add(
                    f"{path}: window {name}: the keys of an earlier revision cannot be read, so withdrawn ones were "
                    "not checked; restore the file from a copy of the store"
                )
    connection.execute("CREATE OR REPLACE TABLE expected_withdrawn AS SELECT DISTINCT * FROM expected_withdrawn")


def _line(connection: duckdb.DuckDBPyConnection, key: str) -> str:
    """The differences of one key as one line."""

    def rows(query: str) -> list[tuple[Any, ...]]:
        return connection.execute(query, [key]).fetchall()

    shown = json.dumps(key, ensure_ascii=False)
    stored = rows("SELECT status, measures, derived, withdrawn FROM stored WHERE key = ?")
    expected = rows("SELECT status, measures, derived FROM expected WHERE key = ?")
    if len(stored) > 1:
        return f"key {shown}: {len(stored)} live records have it, one is expected; {_NEXT}"
    if not stored:
        return f"key {shown}: the landed events give an artifact, none is stored; {_NEXT}"
    parts = {w: json.loads(body) for w, body in rows("SELECT w, body FROM stored_parts WHERE key = ?")}
    parts_again = {w: json.loads(body) for w, body in rows("SELECT w, body FROM expected_parts WHERE key = ?")}
    if parts and not expected:
        return f"key {shown}: an artifact is stored, the landed events give none; restore the store from a copy"
    found: list[str] = []
    if expected:
        (status, measures, derived, *_), (status_again, measures_again, derived_again) = stored[0], expected[0]
        found += _differences("", {"status": status}, {"status": status_again})
        found += _differences("", json.loads(measures), json.loads(measures_again))
        found += _differences("", json.loads(derived), json.loads(derived_again))
    blocks = [rows(f"SELECT body FROM {name} WHERE key = ?") for name in ("stored_blocks", "expected_blocks")]
    found += _differences("carried ", *(_flat(json.loads(body[0][0])) if body else {} for body in blocks))
    for window in sorted({*parts, *parts_again}):
        if window in parts and window in parts_again:
            found += _differences(f"{window} ", _flat(parts[window]), _flat(parts_again[window]))
        else:
            found.append(f"{window} is {'stored' if window in parts else 'not stored'}")
    withdrawn = sorted(w for (w,) in rows("SELECT w FROM expected_withdrawn WHERE key = ?"))
    found += _differences("", {"withdrawn": sorted(stored[0][3])}, {"withdrawn": withdrawn})
    others = f"; and {len(found) - _SHOWN_MAX} more" if len(found) > _SHOWN_MAX else ""
    listed = "; ".join(found[:_SHOWN_MAX]) or "it is written in another form than expected"
    return f"key {shown}: stored ≠ computed again: {listed}{others}; {_NEXT}"


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
