"""Computes the expected artifacts from the judged events, in one fold over each key."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from recon.config import Config
from recon.config.model import Measure
from recon.logic.call import after_merge, after_reduce
from recon.verification.carried_forward import expect_blocks, make_borders
from recon.verification.texts import artifact_texts, contribution_text, time_text
from recon.vocabulary import emit_duckdb
from recon.vocabulary.duckdb import literal, quoted

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

IDS_MAX = 4096
"""Number of ids of an artifact up to which its contributions hold them."""
_LOGIC_ROWS = 200_000


def compute(connection: duckdb.DuckDBPyConnection, config: Config) -> None:
    """Creates from ``judged`` (fate 0: counted, 1: suppressed) and ``named``:

    ``contributed``: key, hi, lo, w, n, d, ids, m_<name>. ``expected``: key, status, measures, derived (JSON texts).
    ``expected_parts``: key, w (name), body (JSON text) of the contributions that are not carried forward. ``expected_blocks``: those that
    are."""
    _contributed(connection, config)
    _expected(connection, config)
    make_borders(connection, config)
    expect_blocks(connection, config)
    body = contribution_text(config, "name", "kept_ids")
    # Beyond the limit no contribution of the key holds ids, whichever order the windows came in.
    ids = f"CASE WHEN sum(n + d) OVER (PARTITION BY key) > {IDS_MAX} THEN NULL ELSE ids END" if config.events.id else "ids"
    connection.execute(
        f"CREATE TABLE expected_parts AS SELECT key, name AS w, {body} AS body "
        f"FROM (SELECT *, {ids} AS kept_ids FROM contributed JOIN borders USING (key) WHERE w >= border) JOIN named USING (w)"
    )


def _contributed(connection: duckdb.DuckDBPyConnection, config: Config) -> None:
    measures = "".join(f", {_within_window(config, item)} AS {quoted('m_' + item.name)}" for item in config.measures)
    # Only user logic needs the ids that count.
    counted_ids = f", {_ids('AND fate = 0')} AS counted_ids" if config.logic else ""
    connection.execute(f"""
        CREATE TABLE contributed AS
        SELECT any_value(hi) AS hi, any_value(lo) AS lo, key, w, count(*) FILTER (WHERE fate = 0) AS n,
               count(*) FILTER (WHERE fate = 1) AS d{_currencies(config)},
               {_ids("")} AS ids{counted_ids}{measures}
        FROM judged WHERE fate < 2 GROUP BY key, w""")
    if config.logic is None:
        return
    names = ", ".join(quoted("m_" + item.name) for item in config.measures)
    u = "u, " if config.events.currency else ""
    connection.execute("ALTER TABLE contributed RENAME TO unlogical")
    connection.execute("CREATE TABLE contributed AS FROM unlogical WHERE n = 0")

    def judged(table: pa.Table) -> pa.Table:
        given = table.drop_columns(["w", "d", "all_ids"])
        changed = after_reduce(config.logic_source, config.logic_place, given)
        for name in ("w", "d", "all_ids"):
            changed = changed.append_column(table.schema.field(name), table.column(name))
        return changed

    _through(
        connection,
        f"SELECT hi, lo, key, n, {u}counted_ids AS ids, {names}, w, d, ids AS all_ids FROM unlogical WHERE n > 0",
        judged,
        f"INSERT INTO contributed SELECT hi, lo, key, w, n, d, {u}all_ids, ids, {names} FROM logical",
    )
    connection.execute("DROP TABLE unlogical")


def _currencies(config: Config) -> str:
    """SQL of the set of currencies of the counted events."""
    if config.events.currency is None:
        return ""
    value = f"coalesce({quoted('c_' + config.events.currency)}, '')"
    return f", coalesce(list_sort(list(DISTINCT {value}) FILTER (WHERE fate = 0)), []) AS u"


def _ids(condition: str) -> str:
    return f"coalesce(list_sort(list(idh) FILTER (WHERE idh IS NOT NULL {condition})), []::UBIGINT[])"


def _expected(connection: duckdb.DuckDBPyConnection, config: Config) -> None:
    fold, source = (_over_key, "judged WHERE fate = 0") if config.logic is None else (_over_parts, "contributed")
    folds = [f"{fold(config, item)} AS {quoted('m_' + item.name)}" for item in config.measures]
    query = f"SELECT {', '.join(['key', *folds])} FROM {source} GROUP BY key"
    mixed = "false"
    if config.events.currency:
        currencies = "SELECT key, unnest(u) AS currency FROM contributed"
        mixed = f"key IN (SELECT key FROM ({currencies}) GROUP BY key HAVING count(DISTINCT currency) > 1)"
        amounts = ", ".join(
            f"CASE WHEN NOT mixed THEN {name} END AS {name}" for name in (quoted("m_" + m.name) for m in config.measures if m.is_amount)
        )
        query = f"SELECT *, {mixed} AS mixed FROM ({query})"
        query = f"SELECT * {f'REPLACE ({amounts})' if amounts else ''} FROM ({query})"
        mixed = "mixed"
    names = {item.name: quoted("m_" + item.name) for item in config.measures}
    for item in config.derived:
        query = (
            f"SELECT *, CASE WHEN NOT {mixed} THEN {emit_duckdb(item.expression, names)} END AS {quoted('x_' + item.name)} FROM ({query})"
        )
        names[item.name] = quoted("x_" + item.name)
    cases = " ".join(f"WHEN {emit_duckdb(item.expression, names)} THEN {literal(item.name)}" for item in config.status)
    cases = f"WHEN {mixed} THEN 'MIXED_CURRENCY' {cases}" if cases or config.events.currency else ""
    status = f"CASE {cases} END" if cases else "CAST(NULL AS VARCHAR)"
    query = f"SELECT *, {status} AS status FROM ({query})"
    texts = f"SELECT key, status, {artifact_texts(config)}"
    if config.logic is None:
        connection.execute(f"CREATE TABLE expected AS {texts} FROM ({query})")
        return
    connection.execute("CREATE TABLE expected (key VARCHAR, status VARCHAR, measures VARCHAR, derived VARCHAR)")
    columns = ["key", "status", *(name for name in names.values())]
    # Logic may change status and derived values; the measures are taken from before.
    kept = ", ".join(f"{quoted('m_' + m.name)} AS {quoted('k_' + m.name)}" for m in config.measures)
    folded = f"SELECT {', '.join([*columns, kept])} FROM ({query})"

    def judged(table: pa.Table) -> pa.Table:
        own = [name for name in table.column_names if not name.startswith("k_")]
        changed = after_merge(config.logic_source, config.logic_place, table.select(own))
        for item in config.measures:
            place = changed.column_names.index(f"m_{item.name}")
            changed = changed.set_column(place, f"m_{item.name}", table.column(f"k_{item.name}"))
        return changed

    _through(connection, folded, judged, f"INSERT INTO expected {texts} FROM logical")


def _through(connection: duckdb.DuckDBPyConnection, query: str, change: Callable[[pa.Table], pa.Table], insert: str) -> None:
    """Passes the rows of ``query`` through ``change``, batch by batch, and runs ``insert`` on each result as the view ``logical``."""
    import pyarrow as pa

    with connection.cursor() as reading:
        reading.execute("SET TimeZone = 'UTC'")
        for batch in reading.sql(query).to_arrow_reader(_LOGIC_ROWS):
            connection.register("logical", change(pa.Table.from_batches([batch])))
            connection.execute(insert)
            connection.unregister("logical")


def _condition(config: Config, item: Measure) -> str:
    """SQL of the filter that selects a measure's events among the counted ones."""
    conditions = ["fate = 0"]
    if item.where is not None:
        conditions.append(f"({emit_duckdb(item.where, {name: quoted('c_' + name) for name in config.columns})})")
    if item.kind in ("first", "last"):
        conditions += [f"{_column(item)} IS NOT NULL", "time IS NOT NULL"]
    return f"FILTER (WHERE {' AND '.join(conditions)})"


def _column(item: Measure) -> str:
    return "*" if item.column is None else quoted(f"c_{item.column}")


def _plain(config: Config, item: Measure) -> str:
    """SQL of a measure for which windows do not matter: sum, count, min, max."""
    return f"CAST({item.kind}({_column(item)}) {_condition(config, item)} AS {item.type.duckdb})"


def _over_key(config: Config, item: Measure) -> str:
    """SQL of a measure over all counted events of a key, in any window."""
    if item.kind not in ("first", "last"):
        return _plain(config, item)
    order = "row(time, w, file, line)"
    return f"arg_{'min' if item.kind == 'first' else 'max'}({_column(item)}, {order}) {_condition(config, item)}"


def _within_window(config: Config, item: Measure) -> str:
    """SQL of a measure over the counted events of a key in one window; first and last with the time, file and line that decide."""
    if item.kind not in ("first", "last"):
        return _plain(config, item)
    value = f"{{'t': {time_text('time')}, 'f': file, 'l': line, 'v': {_column(item)}}}"
    order = "row(time, file, line)"
    return f"arg_{'min' if item.kind == 'first' else 'max'}({value}, {order}) {_condition(config, item)}"


def _over_parts(config: Config, item: Measure) -> str:
    """SQL of a measure over contributions: after user logic has changed them, events cannot be folded directly."""
    value = quoted(f"m_{item.name}")
    if item.kind in ("first", "last"):
        chosen = f"{value}.v, row({value}.t, w)"
        return f"arg_{'min' if item.kind == 'first' else 'max'}({chosen}) FILTER (WHERE {value} IS NOT NULL)"
    fold = "sum" if item.kind == "count" else item.kind
    return f"CAST({fold}({value}) AS {item.type.duckdb})"
