"""The statements of a load, in SQL that DuckDB, PostgreSQL and Redshift share; ``Dialect`` has what they do not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from recon.aggregations.warehouse.port import LEDGER, RUN, SCOPE, Load
from recon.vocabulary.types import Type

STAGE = "recon_stage"


@dataclass(frozen=True)
class Dialect:
    """``types``: kind of a value → its column type; that of decimals is a template. ``text_bytes``: bytes of the longest text. ``unlike``:
    SQL that is true where two values differ, nulls included."""

    name: str
    types: Mapping[str, str]
    text_bytes: int | None = None
    unlike: str = "{0} IS DISTINCT FROM {1}"

    def column_type(self, kind: Type) -> str:
        template = self.types[kind.kind]
        return template.format(precision=max(kind.precision, 1), scale=kind.scale)


DUCKDB = Dialect(
    "duckdb",
    {
        "text": "VARCHAR",
        "integer": "BIGINT",
        "decimal": "DECIMAL({precision},{scale})",
        "boolean": "BOOLEAN",
        "date": "DATE",
        "timestamp": "TIMESTAMPTZ",
    },
)
POSTGRESQL = Dialect("postgresql", {**DUCKDB.types, "text": "TEXT", "decimal": "NUMERIC({precision},{scale})"})
REDSHIFT = Dialect(
    "redshift",
    {**DUCKDB.types, "text": "VARCHAR(65535)", "decimal": "DECIMAL({precision},{scale})"},
    text_bytes=65_535,
    # Redshift has no IS DISTINCT FROM.
    unlike="({0} <> {1} OR ({0} IS NULL) <> ({1} IS NULL))",
)


def quoted(name: str) -> str:
    """``sales.daily`` → ``"sales"."daily"``; names are checked when a definition is read."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in name.split("."))


def text(value: str) -> str:
    """A text as an SQL literal. Backslashes mean nothing in any of the three."""
    return "'" + value.replace("'", "''") + "'"


def listed(names: Iterable[str]) -> str:
    return ", ".join(map(quoted, names))


def create(load: Load, dialect: Dialect) -> str:
    columns = [f"{quoted(name)} {dialect.column_type(kind)}" for name, kind in load.columns.items()]
    text_type, number = dialect.types["text"], dialect.types["integer"]
    columns += [f"{SCOPE} {text_type} NOT NULL", f"{RUN} {number} NOT NULL"]
    return f"CREATE TABLE {quoted(load.target)} ({', '.join(columns)})"


def create_ledger(dialect: Dialect) -> str:
    text_type, number = dialect.types["text"], dialect.types["integer"]
    texts = [f"{name} {text_type} NOT NULL" for name in ("id", "target", "scope", "aggregation", "totals")]
    numbers = [f"{name} {number} NOT NULL" for name in ("run", "row_count", "inserted", "updated", "deleted")]
    return f"CREATE TABLE IF NOT EXISTS {LEDGER} ({', '.join(texts + numbers)}, loaded_at {dialect.types['timestamp']} NOT NULL)"


def find(target: str, run: int) -> str:
    """The counts of a run's entry."""
    return f"SELECT row_count, inserted, updated, deleted FROM {LEDGER} WHERE target = {text(target)} AND run = {run}"


def newest(load: Load) -> str:
    """The last entry of a scope: run, load and counts."""
    where = f"target = {text(load.target)} AND scope = {text(load.scope)}"
    return f"SELECT run, id, row_count, inserted, updated, deleted FROM {LEDGER} WHERE {where} ORDER BY run DESC LIMIT 1"


def same_keys(load: Load, left: str, right: str) -> str:
    return " AND ".join(f"{left}.{quoted(name)} = {right}.{quoted(name)}" for name in load.keys)


def null_key(load: Load) -> str:
    return f"SELECT {listed(load.keys)} FROM {STAGE} WHERE {' OR '.join(f'{quoted(name)} IS NULL' for name in load.keys)} LIMIT 1"


def key_twice(load: Load) -> str:
    """A key that several rows of the file have."""
    return f"SELECT {listed(load.keys)} FROM {STAGE} GROUP BY {listed(load.keys)} HAVING COUNT(*) > 1 LIMIT 1"


def key_elsewhere(load: Load) -> str:
    """A key of the file that the target has in another scope, and that scope."""
    target = quoted(load.target)
    return (
        f"SELECT {', '.join(f't.{quoted(name)}' for name in load.keys)}, t.{SCOPE} "
        f"FROM {target} t JOIN {STAGE} s ON {same_keys(load, 't', 's')} WHERE t.{SCOPE} <> {text(load.scope)} LIMIT 1"
    )


def too_long(load: Load, dialect: Dialect) -> dict[str, str]:
    """Column → statement that counts its texts with more bytes than the dialect's columns hold."""
    if dialect.text_bytes is None:
        return {}
    return {
        name: f"SELECT COUNT(*) FROM {STAGE} WHERE OCTET_LENGTH({quoted(name)}) > {dialect.text_bytes}"
        for name, kind in load.columns.items()
        if kind.kind == "text"
    }


def delete(load: Load) -> str:
    """Removes the scope's rows whose keys the file no longer has."""
    target = quoted(load.target)
    return (
        f"DELETE FROM {target} WHERE {SCOPE} = {text(load.scope)} "
        f"AND NOT EXISTS (SELECT 1 FROM {STAGE} s WHERE {same_keys(load, 's', target)})"
    )


def update(load: Load, dialect: Dialect) -> str:
    """Changes the scope's rows whose measures differ."""
    target = quoted(load.target)
    changed = " OR ".join(dialect.unlike.format(f"{target}.{quoted(name)}", f"s.{quoted(name)}") for name in load.measures)
    values = ", ".join(f"{quoted(name)} = s.{quoted(name)}" for name in load.measures)
    return (
        f"UPDATE {target} SET {values}, {RUN} = {load.run} FROM {STAGE} s "
        f"WHERE {same_keys(load, 's', target)} AND {target}.{SCOPE} = {text(load.scope)} AND ({changed})"
    )


def insert(load: Load) -> str:
    """Adds the file's rows whose keys the target does not have."""
    target, columns = quoted(load.target), listed(load.columns)
    values = ", ".join(f"s.{quoted(name)}" for name in load.columns)
    return (
        f"INSERT INTO {target} ({columns}, {SCOPE}, {RUN}) SELECT {values}, {text(load.scope)}, {load.run} FROM {STAGE} s "
        f"WHERE NOT EXISTS (SELECT 1 FROM {target} t WHERE {same_keys(load, 't', 's')} AND t.{SCOPE} = {text(load.scope)})"
    )


def totals(target: str, scope: str | None, measures: Iterable[str]) -> str:
    """Rows and sums: of a scope of the target, or of the stage."""
    source = STAGE if scope is None else f"{quoted(target)} WHERE {SCOPE} = {text(scope)}"
    return f"SELECT COUNT(*){''.join(f', SUM({quoted(name)})' for name in measures)} FROM {source}"


def doubled(load: Load) -> str:
    """A key of the file that the target has more than once."""
    target = quoted(load.target)
    keys = ", ".join(f"t.{quoted(name)}" for name in load.keys)
    return f"SELECT {keys} FROM {target} t JOIN {STAGE} s ON {same_keys(load, 't', 's')} GROUP BY {keys} HAVING COUNT(*) > 1 LIMIT 1"


def enter(load: Load, counts: tuple[int, int, int], now: str) -> str:
    """The ledger's entry. ``counts``: inserted, updated, deleted."""
    import json

    totals_text = text(json.dumps(dict(load.totals), sort_keys=True))
    values = [text(load.id), text(load.target), text(load.scope), text(load.aggregation), totals_text, str(load.run), str(load.count)]
    columns = "id, target, scope, aggregation, totals, run, row_count, inserted, updated, deleted, loaded_at"
    return f"INSERT INTO {LEDGER} ({columns}) VALUES ({', '.join([*values, *map(str, counts)])}, {now})"


def last_loads(target: str) -> str:
    """Scope, rows and totals of the last entry of each scope."""
    last = f"SELECT MAX(m.run) FROM {LEDGER} m WHERE m.target = l.target AND m.scope = l.scope"
    return f"SELECT l.scope, l.row_count, l.totals FROM {LEDGER} l WHERE l.target = {text(target)} AND l.run = ({last})"


def totals_by_scope(target: str, measures: Iterable[str]) -> str:
    """Scope, rows, and sums."""
    return f"SELECT {SCOPE}, COUNT(*){''.join(f', SUM({quoted(name)})' for name in measures)} FROM {quoted(target)} GROUP BY {SCOPE}"


def doubled_keys(target: str, keys: Iterable[str]) -> str:
    """The number of keys that the target has more than once."""
    return f"SELECT COUNT(*) FROM (SELECT 1 AS n FROM {quoted(target)} GROUP BY {listed(keys)} HAVING COUNT(*) > 1) d"


def null_keys(target: str, keys: Iterable[str]) -> str:
    """The number of rows without a value in a key column."""
    return f"SELECT COUNT(*) FROM {quoted(target)} WHERE {' OR '.join(f'{quoted(name)} IS NULL' for name in keys)}"


def first_rows(target: str, scope: str, columns: Iterable[str], most: int) -> str:
    names = listed(columns)
    return f"SELECT {names} FROM {quoted(target)} WHERE {SCOPE} = {text(scope)} ORDER BY {names} LIMIT {most}"
