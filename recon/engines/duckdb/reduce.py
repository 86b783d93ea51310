"""Reduce in DuckDB: the typed events of one window → its artifacts, sorted events, and the rows that are set aside."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from recon.config import Config, model
from recon.config.model import Measure
from recon.errors import WrongInput
from recon.logic.call import after_reduce
from recon.model.totals import Money, Totals, as_totals
from recon.storage import parquet
from recon.vocabulary import emit_duckdb
from recon.vocabulary.duckdb import literal, quoted

if TYPE_CHECKING:
    import duckdb

IDS_MAX = 4096
"""Event-id hashes that one artifact holds at the most; beyond that they are read from the event files."""

_WRITE_SET_ASIDE = "(FORMAT parquet, COMPRESSION snappy, ROW_GROUP_SIZE 61440)"
_GROUPS_PER_FILE = 256
_GROUP_ROWS_MIN, _GROUP_ROWS_MAX = 2_048, 61_440
_TIME_TEXT = "%Y-%m-%dT%H:%M:%S.%fZ"


def write_options(events: int) -> str:
    """DuckDB's options for the Parquet files of a window of so many events. Row groups are small enough for a slice of the hash space
    to read little besides its own keys."""
    rows = max(1, events // _GROUPS_PER_FILE // _GROUP_ROWS_MIN) * _GROUP_ROWS_MIN
    # Row groups are chosen by the key's hash, never by a value that a Bloom filter could exclude.
    return f"(FORMAT parquet, COMPRESSION snappy, ROW_GROUP_SIZE {min(rows, _GROUP_ROWS_MAX)}, WRITE_BLOOM_FILTER false)"


def column(config: Config, name: str) -> str:
    """SQL reference of an event column."""
    if name in model.event_columns(config):
        return quoted(f"c_{name}")
    return "id" if name == config.events.id_column else "time" if name == config.events.time else "key"


def measure(name: str) -> str:
    """SQL reference of a measure."""
    return quoted(f"m_{name}")


def filter_of(item: Measure, value: str, condition: str) -> str:
    """The FILTER clause of a measure, in the SQL of every engine. ``value``: its column as SQL; ``condition``: its ``where`` as SQL."""
    conditions = [f"({condition})"] if condition else []
    if item.kind in ("first", "last"):
        conditions += [f"{value} IS NOT NULL", "time IS NOT NULL"]
    return f" FILTER (WHERE {' AND '.join(conditions)})" if conditions else ""


def aggregate(config: Config, item: Measure) -> str:
    """The SQL aggregate of one measure over events.

    First and last are chosen by (time, file, line), where ``file`` is the place in the order of landing."""
    names = {name: column(config, name) for name in config.columns}
    value = "" if item.column is None else column(config, item.column)
    where = filter_of(item, value, "" if item.where is None else emit_duckdb(item.where, names))
    if item.kind == "count":
        return f"count({value or '*'}){where}"
    if item.kind == "sum":
        return f"CAST(sum({value}){where} AS {item.type.duckdb})"
    if item.kind in ("min", "max"):
        return f"{item.kind}({value}){where}"
    # Structs compare field by field.
    order = f"{{'t': strftime(time, {literal(_TIME_TEXT)}), 'f': file, 'l': line, 'v': {value}}}"
    return f"{'min' if item.kind == 'first' else 'max'}({order}){where}"


def reduce_events(config: Config, events: str, by: str = "") -> str:
    """SELECT that reduces the table ``events`` per key: hi, lo, key, n (events), u (the set of currencies, if events have one), ids
    (sorted hashes), and m_<name> per measure.

    ``by`` names further columns to group by, with a comma in front of each."""
    measures = "".join(f", {aggregate(config, item)} AS {measure(item.name)}" for item in config.measures)
    ids = "list_sort(list(idh) FILTER (WHERE idh IS NOT NULL))" if config.events.id else "CAST([] AS UBIGINT[])"
    return (
        f"SELECT any_value(hi) AS hi, any_value(lo) AS lo, key{by}, count(*) AS n{currencies(config)}, "
        f"coalesce({ids}, []) AS ids{measures} "
        f"FROM {events} GROUP BY key{by}"
    )


def currencies(config: Config) -> str:
    """SQL of the sorted set of currencies of events as ``u``, with a comma before it; an empty currency is the text ''. Empty where events
    have no currency."""
    if config.events.currency is None:
        return ""
    return f", list_sort(list(DISTINCT coalesce({column(config, config.events.currency)}, ''))) AS u"


def set_duplicates_aside(connection: duckdb.DuckDBPyConnection, config: Config) -> None:
    """Splits the table ``landed`` into the view ``events`` and the table ``duplicates`` (file, line, conflicting).

    Of the rows of one (key, id) the first by (time, file, line) counts; ``file`` is the place in the order of landing."""
    connection.execute("CREATE TEMP TABLE duplicates (file INTEGER, line BIGINT, conflicting BOOLEAN)")
    suspects = 0
    if config.events.id:
        # By hash first: the exact comparison is then needed for a handful of rows only.
        connection.execute("CREATE TEMP TABLE suspects AS SELECT idh FROM landed WHERE idh IS NOT NULL GROUP BY idh HAVING count(*) > 1")
        suspects = _one(connection, "SELECT count(*) FROM suspects")
    if suspects:
        values = ", ".join(["time", *(column(config, name) for name in model.event_columns(config))])
        connection.execute(f"""
            INSERT INTO duplicates
            SELECT file, line, content IS DISTINCT FROM first_content FROM (
                SELECT file, line, row({values}) AS content, first_value(row({values})) OVER same AS first_content,
                       row_number() OVER same AS place
                FROM landed WHERE idh IN (SELECT idh FROM suspects)
                WINDOW same AS (PARTITION BY key, id ORDER BY time ASC NULLS LAST, file, line)
            ) WHERE place > 1""")
    left_out = "ANTI JOIN duplicates USING (file, line)" if suspects else ""
    connection.execute(f"CREATE TEMP VIEW events AS SELECT * FROM landed {left_out}")


def ids_under_two_keys(connection: duckdb.DuckDBPyConnection, artifacts: str, events: str) -> int:
    """Event ids that a window holds under more than one key, from its ``artifacts`` and its accepted ``events``."""
    # A key has each id once, so a hash occurs twice only under two keys. The texts are compared for the rare hash that does.
    twice = f"SELECT 1 FROM (SELECT unnest(ids) AS idh FROM {artifacts}) GROUP BY idh HAVING count(*) > 1"
    if not connection.execute(f"{twice} LIMIT 1").fetchall():
        return 0
    return _one(connection, f"SELECT count(*) FROM (SELECT id FROM {events} WHERE id IS NOT NULL GROUP BY id HAVING count(*) > 1)")


def write_events(connection: duckdb.DuckDBPyConnection, config: Config, file: Path, events: int) -> None:
    """The accepted events of a window that has about ``events``, sorted by key hash, so that each key is in one row group, then by
    place, so that the same events are the same bytes: hi, key, id, time, file, line, c_<name>."""
    columns = "".join(f", {column(config, name)}" for name in model.event_columns(config))
    query = f"SELECT hi, key, id, time, file, line{columns} FROM events ORDER BY hi, file, line"
    connection.execute(f"COPY ({query}) TO {literal(str(file))} {write_options(events)}")


def written_events(file: Path, first: int, last: int) -> str:
    """The events with ``first`` ≤ hi ≤ ``last`` of a window's event file, with ``idh``, and without the low half of the key's hash (null).

    The file is sorted by hi, so only the row groups of that part are read."""
    part = f"WHERE hi BETWEEN {first} AND {last}"
    return f"(SELECT *, CAST(NULL AS UBIGINT) AS lo, id_hash(id) AS idh FROM {parquet.scan(file)} {part})"


def write_artifacts(connection: duckdb.DuckDBPyConnection, file: Path, artifacts: str, events: int) -> None:
    """The artifacts in the table or query ``artifacts``, of a window of about so many ``events``, sorted by key hash."""
    connection.execute(f"COPY (SELECT * FROM {artifacts} ORDER BY hi, lo) TO {literal(str(file))} {write_options(events)}")


def write_set_aside(connection: duckdb.DuckDBPyConnection, config: Config, file: Path, duplicates: str | None = None) -> None:
    """Rejected rows and duplicates within the window: kind, file, line, reason, raw, key, id, time and the typed columns. ``duplicates``:
    the source of duplicates with their kind, by default the table of ``set_duplicates_aside``."""
    columns = "".join(f", {column(config, name)}" for name in model.event_columns(config))
    own = f"""(SELECT CASE WHEN conflicting THEN 'conflicting' ELSE 'duplicate' END AS kind, file, line, key, id, time{columns}
               FROM landed JOIN duplicates USING (file, line))"""
    connection.execute(f"""
        COPY (
            SELECT 'rejected' AS kind, file, line, reason, raw,
                   NULL::VARCHAR AS key, NULL::VARCHAR AS id, NULL::TIMESTAMPTZ AS time{columns}
            FROM landed_rejects
            UNION ALL BY NAME
            SELECT kind, file, line, NULL::VARCHAR AS reason, NULL::VARCHAR AS raw, key, id, time{columns} FROM {duplicates or own}
            ORDER BY file, line
        ) TO {literal(str(file))} {_WRITE_SET_ASIDE}""")


def totals_of(connection: duckdb.DuckDBPyConnection, config: Config, source: str) -> Totals:
    """Rows and control totals over ``source``, a table, view, subquery or Parquet scan of events. Raises WrongInput where a total has more
    groups than ``limits.control_groups``: certificates would be as large as the data."""
    money: Money = {}
    most = config.limits.control_groups
    for control in config.control:
        value = "*" if control.column is None else column(config, control.column)
        by = "''" if control.by is None else group_name(f"CAST({column(config, control.by)} AS VARCHAR)")
        if control.name == "rows":
            continue
        rows = connection.execute(f"SELECT {by}, {control.kind}({value}) FROM {source} GROUP BY 1 LIMIT {most + 1}").fetchall()
        if len(rows) > most:
            raise WrongInput(
                f"control.{control.name}: {control.by!r} has more than {most:,} different values; group the total by a "
                "column with few values, such as the currency, or raise limits.control_groups"
            )
        money[control.name] = {group: Decimal(amount or 0) for group, amount in rows}
        if control.by is None:
            money[control.name].setdefault("", Decimal(0))
    return Totals(_one(connection, f"SELECT count(*) FROM {source}"), money)


def group_name(by: str) -> str:
    """SQL of a control group's name: the value of its ``by`` column, ``null`` where that is empty; a value that would read as
    that, or as another's quoted name, is put in quotes."""
    return f"CASE WHEN {by} IS NULL THEN 'null' WHEN {by} = 'null' OR {by} LIKE '\"%' THEN '\"' || {by} || '\"' ELSE {by} END"


def without_amount(connection: duckdb.DuckDBPyConnection, config: Config, source: str) -> dict[str, int]:
    """Per sum control, rows of ``source`` without an amount, or without one that can be read."""
    return {
        control.name: _one(connection, f"SELECT count(*) FROM {source} WHERE {column(config, control.column)} IS NULL")
        for control in config.control
        if control.kind == "sum" and control.column
    }


def measure_totals(connection: duckdb.DuckDBPyConnection, config: Config, source: str) -> dict[str, str | int]:
    """Totals of the sum and count measures over artifacts, with which the merge ties its contributions."""
    additive = [item for item in config.measures if item.kind in ("sum", "count")]
    if not additive:
        return {}
    sums = ", ".join(f"sum({measure(item.name)})" for item in additive)
    row = connection.execute(f"SELECT {sums} FROM {source}").fetchall()[0]
    return as_totals([item.name for item in additive], row)


def logical(connection: duckdb.DuckDBPyConnection, config: Config, query: str) -> str:
    """The rows of ``query`` (reduced events) after the user's logic, as a source for FROM."""
    if not config.logic:
        return f"({query})"
    connection.register("judged", after_reduce(config.logic_source, config.logic_place, connection.sql(query).to_arrow_table()))
    return "judged"


def _one(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    # fetchall, not fetchone: a result that is left open would block the next query on its tables.
    return int(connection.execute(query).fetchall()[0][0])
