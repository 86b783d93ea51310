"""The statements of a load, in SQL that DuckDB, PostgreSQL and Redshift share; ``Dialect`` has what they do not.

The stage has no alias, and the target is named by its own name or as ``recon_target``: a name in a definition never begins with
``recon_``, so that none of them hides another.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from recon.aggregations.warehouse.port import LEDGER, RUN, SCOPE, Load
from recon.vocabulary.types import Type

STAGE = "recon_stage"
_UNLIKE = "{0} IS DISTINCT FROM {1}"


@dataclass(frozen=True)
class Dialect:
    """``types``: kind of a value → its column type; that of decimals is a template. ``now``: SQL of the transaction's time.
    ``text_bytes``: bytes of the longest text. ``nul``: whether texts may have the character 0. ``unlike``, ``unlike_text``: SQL that is
    true where two values differ, nulls included."""

    name: str
    types: Mapping[str, str]
    now: str = "now()"
    text_bytes: int | None = None
    nul: bool = False
    unlike: str = _UNLIKE
    unlike_text: str = _UNLIKE

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
    nul=True,
)
POSTGRESQL = Dialect("postgresql", {**DUCKDB.types, "text": "TEXT", "decimal": "NUMERIC({precision},{scale})"})
# Redshift has no IS DISTINCT FROM, and its = takes 'a' and 'a ' for equal.
REDSHIFT = Dialect(
    "redshift",
    {**DUCKDB.types, "text": "VARCHAR(65535)"},
    now="GETDATE()",
    text_bytes=65_535,
    unlike="({0} <> {1} OR ({0} IS NULL) <> ({1} IS NULL))",
    unlike_text="({0} <> {1} OR ({0} IS NULL) <> ({1} IS NULL) OR OCTET_LENGTH({0}) <> OCTET_LENGTH({1}))",
)


def quoted(name: str) -> str:
    """``sales.daily`` → ``"sales"."daily"``; names are checked when a definition is read."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in name.split("."))


def text(value: str) -> str:
    """A text as an SQL literal. Redshift reads backslashes in it and the others do not, so it may have none."""
    if "\\" in value:
        raise ValueError(f"{value!r} has a backslash")
    return "'" + value.replace("'", "''") + "'"


def listed(names: Iterable[str], of: str = "") -> str:
    return ", ".join(f"{of}{quoted(name)}" for name in names)


def own_name(target: str) -> str:
    """What the columns of a table are qualified with where it has no alias."""
    return quoted(target.rpartition(".")[2])


# ---- the ledger ----


def create_ledger(dialect: Dialect) -> str:
    text_type, number = dialect.types["text"], dialect.types["integer"]
    texts = [f"{name} {text_type} NOT NULL" for name in ("id", "target", "scope", "aggregation", "keys", "measures", "totals")]
    numbers = [f"{name} {number} NOT NULL" for name in ("run", "row_count", "inserted", "updated", "deleted")]
    return f"CREATE TABLE IF NOT EXISTS {LEDGER} ({', '.join(texts + numbers)}, loaded_at {dialect.types['timestamp']} NOT NULL)"


def find(target: str, run: int) -> str:
    """The counts of a run's entry."""
    return f"SELECT row_count, inserted, updated, deleted FROM {LEDGER} WHERE target = {text(target)} AND run = {run}"


def newest(load: Load) -> str:
    """The last entry of a scope: run, load and counts."""
    where = f"target = {text(load.target)} AND scope = {text(load.scope)}"
    return f"SELECT run, id, row_count, inserted, updated, deleted FROM {LEDGER} WHERE {where} ORDER BY run DESC LIMIT 1"


def owner(load: Load) -> str:
    """The last entry of a table: aggregation, keys, and all measures that it ever had."""
    return f"SELECT aggregation, keys, measures FROM {LEDGER} WHERE target = {text(load.target)} ORDER BY run DESC LIMIT 1"


def enter(load: Load, dialect: Dialect, counts: tuple[int, int, int], retired: Collection[str]) -> str:
    """The ledger's entry. ``counts``: inserted, updated, deleted. ``retired``: measures that the table had before."""
    texts = [load.id, load.target, load.scope, load.aggregation, json.dumps(list(load.keys))]
    texts += [json.dumps([*load.measures, *retired]), json.dumps(dict(load.totals), sort_keys=True)]
    values = [*map(text, texts), *map(str, (load.run, load.count, *counts)), dialect.now]
    columns = "id, target, scope, aggregation, keys, measures, totals, run, row_count, inserted, updated, deleted, loaded_at"
    return f"INSERT INTO {LEDGER} ({columns}) VALUES ({', '.join(values)})"


# ---- the table ----


def schema_there(schema: str) -> str:
    return f"SELECT COUNT(*) FROM pg_catalog.pg_namespace WHERE nspname = {text(schema)}"


def columns(target: str) -> str:
    """The columns of a table ``schema.name``: name, type, digits, digits after the point."""
    schema, _, table = target.rpartition(".")
    return (
        "SELECT column_name, data_type, numeric_precision, numeric_scale FROM information_schema.columns "
        f"WHERE table_schema = {text(schema)} AND table_name = {text(table)} ORDER BY ordinal_position"
    )


def create(load: Load, dialect: Dialect) -> str:
    made = [f"{quoted(name)} {dialect.column_type(kind)}" for name, kind in load.columns.items()]
    made += [f"{SCOPE} {dialect.types['text']} NOT NULL", f"{RUN} {dialect.types['integer']} NOT NULL"]
    return f"CREATE TABLE {quoted(load.target)} ({', '.join(made)})"


def add_column(target: str, name: str, kind: Type, dialect: Dialect) -> str:
    return f"ALTER TABLE {quoted(target)} ADD COLUMN {quoted(name)} {dialect.column_type(kind)}"


# ---- what is staged, and what the table has ----


def same_keys(load: Load, target: str) -> str:
    return " AND ".join(f"{target}.{quoted(name)} = {STAGE}.{quoted(name)}" for name in load.keys)


def null_key(load: Load) -> str:
    return f"SELECT {listed(load.keys)} FROM {STAGE} WHERE {' OR '.join(f'{quoted(name)} IS NULL' for name in load.keys)} LIMIT 1"


def key_twice(load: Load) -> str:
    """A key that several staged rows have."""
    return f"SELECT {listed(load.keys)} FROM {STAGE} GROUP BY {listed(load.keys)} HAVING COUNT(*) > 1 LIMIT 1"


def _joined(load: Load) -> str:
    return f"FROM {quoted(load.target)} recon_target JOIN {STAGE} ON {same_keys(load, 'recon_target')}"


def key_elsewhere(load: Load) -> str:
    """A staged key that the target has in another scope, and that scope."""
    keys = listed(load.keys, "recon_target.")
    return f"SELECT {keys}, recon_target.{SCOPE} {_joined(load)} WHERE recon_target.{SCOPE} <> {text(load.scope)} LIMIT 1"


def doubled(load: Load) -> str:
    """A staged key that the target has more than once."""
    keys = listed(load.keys, "recon_target.")
    return f"SELECT {keys} {_joined(load)} GROUP BY {keys} HAVING COUNT(*) > 1 LIMIT 1"


def in_scope(load: Load) -> str:
    """The number of the scope's rows in the target."""
    return f"SELECT COUNT(*) FROM {quoted(load.target)} WHERE {SCOPE} = {text(load.scope)}"


def compare(load: Load, dialect: Dialect, retired: Collection[str]) -> str:
    """The number of staged keys that the scope has in the target, and of those whose rows differ."""
    changed = _changed(load, dialect, retired, "recon_target")
    counts = f"COUNT(*), COALESCE(SUM(CASE WHEN {changed} THEN 1 ELSE 0 END), 0)"
    return f"SELECT {counts} {_joined(load)} WHERE recon_target.{SCOPE} = {text(load.scope)}"


def _changed(load: Load, dialect: Dialect, retired: Collection[str], target: str) -> str:
    unlike = {name: dialect.unlike_text if kind.kind == "text" else dialect.unlike for name, kind in load.measures.items()}
    differ = [template.format(f"{target}.{quoted(name)}", f"{STAGE}.{quoted(name)}") for name, template in unlike.items()]
    return " OR ".join([*differ, *(f"{target}.{quoted(name)} IS NOT NULL" for name in retired)])


def totals(target: str, scope: str | None, measures: Iterable[str]) -> str:
    """Rows and sums: of a scope of the target, or of the stage."""
    source = STAGE if scope is None else f"{quoted(target)} WHERE {SCOPE} = {text(scope)}"
    return f"SELECT COUNT(*){''.join(f', SUM({quoted(name)})' for name in measures)} FROM {source}"


# ---- changes ----


def delete(load: Load, only_gone: bool = True) -> str:
    """Removes the scope's rows; ``only_gone``: those whose keys are not staged."""
    gone = f" AND NOT EXISTS (SELECT 1 FROM {STAGE} WHERE {same_keys(load, own_name(load.target))})" if only_gone else ""
    return f"DELETE FROM {quoted(load.target)} WHERE {SCOPE} = {text(load.scope)}{gone}"


def update(load: Load, dialect: Dialect, retired: Collection[str]) -> str:
    """Changes the scope's rows that differ. A measure that the definition no longer has becomes null in them."""
    own = own_name(load.target)
    values = [f"{quoted(name)} = {STAGE}.{quoted(name)}" for name in load.measures] + [f"{quoted(name)} = NULL" for name in retired]
    return (
        f"UPDATE {quoted(load.target)} SET {', '.join(values)}, {RUN} = {load.run} FROM {STAGE} "
        f"WHERE {same_keys(load, own)} AND {own}.{SCOPE} = {text(load.scope)} AND ({_changed(load, dialect, retired, own)})"
    )


def insert(load: Load, only_new: bool = True) -> str:
    """Adds the staged rows; ``only_new``: those whose keys the scope does not have."""
    there = f"{same_keys(load, 'recon_target')} AND recon_target.{SCOPE} = {text(load.scope)}"
    new = f" WHERE NOT EXISTS (SELECT 1 FROM {quoted(load.target)} recon_target WHERE {there})" if only_new else ""
    values = f"{listed(load.columns, f'{STAGE}.')}, {text(load.scope)}, {load.run}"
    return f"INSERT INTO {quoted(load.target)} ({listed(load.columns)}, {SCOPE}, {RUN}) SELECT {values} FROM {STAGE}{new}"


# ---- a look at a table ----


def last_loads(target: str) -> str:
    """Scope, rows and totals of the last entry of each scope."""
    last = f"SELECT scope, MAX(run) AS run FROM {LEDGER} WHERE target = {text(target)} GROUP BY scope"
    of_last = "l.scope = recon_last.scope AND l.run = recon_last.run"
    return f"SELECT l.scope, l.row_count, l.totals FROM {LEDGER} l JOIN ({last}) recon_last ON {of_last} WHERE l.target = {text(target)}"


def totals_by_scope(target: str, measures: Iterable[str]) -> str:
    """Scope, rows, and sums."""
    return f"SELECT {SCOPE}, COUNT(*){''.join(f', SUM({quoted(name)})' for name in measures)} FROM {quoted(target)} GROUP BY {SCOPE}"


def doubled_keys(target: str, keys: Iterable[str]) -> str:
    """The number of keys that the target has more than once."""
    groups = f"SELECT 1 AS n FROM {quoted(target)} GROUP BY {listed(keys)} HAVING COUNT(*) > 1"
    return f"SELECT COUNT(*) FROM ({groups}) recon_doubled"


def null_keys(target: str, keys: Iterable[str]) -> str:
    """The number of rows without a value in a key column."""
    return f"SELECT COUNT(*) FROM {quoted(target)} WHERE {' OR '.join(f'{quoted(name)} IS NULL' for name in keys)}"


def first_rows(target: str, scope: str, columns: Iterable[str], most: int) -> str:
    return f"{all_rows(target, scope, columns)} LIMIT {most}"


def all_rows(target: str, scope: str, columns: Iterable[str]) -> str:
    names = listed(columns)
    return f"SELECT {names} FROM {quoted(target)} WHERE {SCOPE} = {text(scope)} ORDER BY {names}"
