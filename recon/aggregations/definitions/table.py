"""The table ``aggregations``: rows that people edit by SQL, kept equal to the files ``aggregations/*.yaml`` where there are files.

A file that changed is written to its row. A row that was edited by SQL stays as it is while its file is unchanged. Where both changed,
neither is taken: the definition is broken until a person chooses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa

from recon.aggregations.definitions.sections import AggregationSection
from recon.config import yaml_file
from recon.database import Database
from recon.database.tables import AGGREGATIONS
from recon.errors import WrongUsage

NAME = re.compile(r"[a-z][a-z0-9_]{0,59}\Z")
NAMED = "an aggregation is named in up to 60 lower-case letters, digits and _, such as daily_sales"
JSON_FIELDS = ("expect", "needs", "keys", "measures")
FIELDS = tuple(name for name in AggregationSection.model_fields)
Take = Literal["file", "table"]


@dataclass(frozen=True)
class Change:
    """A difference between a file and its row. ``fields``: field → (in the table, in the file). ``action``: what a sync does: insert,
    update, delete, keep (the row was edited by SQL, the file not), or conflict."""

    name: str
    action: Literal["insert", "update", "delete", "keep", "conflict"]
    fields: Mapping[str, tuple[Any, Any]]


def columns_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a file as columns; fields that are no columns are left out, since the check of the file names them."""
    found: dict[str, Any] = {}
    for name in FIELDS:
        if (value := content.get(name)) is None:
            continue
        is_json = name in JSON_FIELDS or not isinstance(value, str)
        found[name] = json.dumps(value, sort_keys=name != "measures") if is_json else value
    return found


def content_of(columns: Mapping[str, Any], place: Path) -> yaml_file.File:
    """A row's columns as the content of a file. Raises WrongUsage where a column is no JSON."""
    content: dict[str, Any] = {}
    for name, value in columns.items():
        if name in JSON_FIELDS:
            try:
                content[name] = _as_text(json.loads(value))
            except ValueError as error:
                raise WrongUsage(f"{place}: {name}: {value[:60]!r} is no JSON ({error})") from None
        else:
            content[name] = str(value)
    return yaml_file.File(place, content, {})


def _as_text(value: Any) -> Any:
    """Numbers and truth values as they would be written in YAML, whose values are texts."""
    if isinstance(value, dict):
        return {name: _as_text(inner) for name, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_as_text(inner) for inner in value]
    return str(value).lower() if isinstance(value, bool) else str(value)


def rows(connection: sa.Connection, reconciliation: str, to_change: bool = False) -> dict[str, dict[str, Any]]:
    """The rows by name. ``to_change``: no other transaction changes them before this one ends."""
    query = sa.select(AGGREGATIONS).where(AGGREGATIONS.c.reconciliation == reconciliation).order_by(AGGREGATIONS.c.name)
    return {row.name: dict(row._mapping) for row in connection.execute(query.with_for_update() if to_change else query)}


def own_columns(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row's columns that say something: without nulls and defaults."""
    found = {}
    for name in FIELDS:
        value, default = row[name], _DEFAULTS.get(name)
        if value is not None and value != default:
            found[name] = str(value).lower() if isinstance(value, bool | int) else value
    return found


_DEFAULTS: dict[str, Any] = {"enabled": True, "per": "window", "input": "any", "least_rows": 0, "engine": "configured"}


def said(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of a file without those that only repeat a default."""
    return {name: value for name, value in columns.items() if value != str(_DEFAULTS.get(name)).lower()}


def changes(files: Mapping[str, Mapping[str, Any]], table: Mapping[str, Mapping[str, Any]]) -> list[Change]:
    """What a sync of the files' contents (by name) with the table's rows would do, in order of the names."""
    found = []
    for name in sorted({*files, *(name for name, row in table.items() if row["synced"] is not None)}):
        row = table.get(name)
        there = {} if row is None else own_columns(row)
        here = said(columns_of(files[name])) if name in files else {}
        if here != there:
            fields = {field: (there.get(field), here.get(field)) for field in FIELDS if there.get(field) != here.get(field)}
            synced = None if row is None or row["synced"] is None else json.loads(row["synced"])
            found.append(Change(name, _action(here, there, synced), fields))
    return found


def _action(here: object, there: object, synced: object) -> Literal["insert", "update", "delete", "keep", "conflict"]:
    if not there:
        return "insert"
    if there != synced:
        return "keep" if here == synced else "conflict"
    return "update" if here else "delete"


def differences(database: Database, reconciliation: str, files: Mapping[str, Mapping[str, Any]], broken: Collection[str]) -> list[Change]:
    """How the files differ from the table; names in ``broken`` are left out."""
    with database.read() as connection:
        return changes(files, _without(rows(connection, reconciliation), broken))


def sync(
    database: Database, reconciliation: str, files: Mapping[str, Mapping[str, Any]], broken: Collection[str], take: Take | None = None
) -> list[Change]:
    """Writes the changes of files to the table, in one transaction. ``broken``: names whose files have mistakes, and whose rows stay.
    ``take``: what wins where a row was edited by SQL; None leaves it. Returns all differences that it found."""
    with database.read() as connection:
        there = _without(rows(connection, reconciliation), broken)
    found = changes(files, there)
    if not _decided(found, take) and not _unsynced(files, there):
        return found
    with database.write() as connection:
        there = _without(rows(connection, reconciliation, to_change=True), broken)
        found = changes(files, there)
        for name in _unsynced(files, there):
            _write(connection, reconciliation, name, files[name])
        for change in _decided(found, take):
            if take == "table" and change.action in ("keep", "conflict"):
                synced = json.dumps(said(columns_of(files[change.name])), sort_keys=True) if change.name in files else None
                here = (AGGREGATIONS.c.reconciliation == reconciliation, AGGREGATIONS.c.name == change.name)
                connection.execute(AGGREGATIONS.update().where(*here).values(synced=synced))
            else:
                _write(connection, reconciliation, change.name, files.get(change.name))
    return found


def _unsynced(files: Mapping[str, Mapping[str, Any]], table: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names of files that say the same as their rows, but were not the last to be written there."""
    found = []
    for name in files.keys() & table.keys():
        here, synced = said(columns_of(files[name])), table[name]["synced"]
        if here == own_columns(table[name]) and (synced is None or json.loads(synced) != here):
            found.append(name)
    return found


def _without(table: dict[str, dict[str, Any]], names: Collection[str]) -> dict[str, dict[str, Any]]:
    return {name: row for name, row in table.items() if name not in names}


def _decided(found: list[Change], take: Take | None) -> list[Change]:
    """The changes that a sync makes."""
    return [change for change in found if take is not None or change.action in ("insert", "update", "delete")]


def _write(connection: sa.Connection, reconciliation: str, name: str, content: Mapping[str, Any] | None) -> None:
    """Replaces a row by a file's content; removes it where there is no file."""
    connection.execute(AGGREGATIONS.delete().where(AGGREGATIONS.c.reconciliation == reconciliation, AGGREGATIONS.c.name == name))
    if content is None:
        return
    synced = json.dumps(said(columns_of(content)), sort_keys=True)
    connection.execute(AGGREGATIONS.insert().values(reconciliation=reconciliation, name=name, synced=synced, **_values(content)))


def _values(content: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that a row gets from a file's content; the others keep their defaults."""
    columns = said(columns_of(content))
    return {**columns, "enabled": columns.get("enabled") != "false", "least_rows": int(columns.get("least_rows", 0))}


def synced_rows(
    found: Iterable[Change], files: Mapping[str, Mapping[str, Any]], table: Mapping[str, Mapping[str, Any]]
) -> dict[str, Mapping[str, Any]]:
    """The rows as they are after the changes, in order of their names."""
    after = dict(table)
    for change in _decided(list(found), None):
        if change.name in files:
            after[change.name] = {**dict.fromkeys(FIELDS), **_values(files[change.name])}
        else:
            after.pop(change.name, None)
    return dict(sorted(after.items()))
