"""A load, step by step, over any warehouse's session: ledger, schema, stage, checks, rows, proof."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Protocol

from recon.aggregations.warehouse import rows, statements
from recon.aggregations.warehouse.port import LEDGER, RUN, SCOPE, Load, Loaded
from recon.aggregations.warehouse.statements import Dialect
from recon.errors import WrongInput
from recon.vocabulary.types import Type

_KINDS: dict[str, str] = {
    **dict.fromkeys(("varchar", "text", "character varying"), "text"),
    **dict.fromkeys(("bigint", "integer", "smallint"), "integer"),
    **dict.fromkeys(("decimal", "numeric"), "decimal"),
    "boolean": "boolean",
    "date": "date",
    **dict.fromkeys(("timestamp with time zone", "timestamptz"), "timestamp"),
}
_REPLACED_FROM = 0.5
"""Where more than this share of a scope's rows change, all of them are replaced: that is cheaper than to find each (decision 026)."""


class Session(Protocol):
    """One transaction of a warehouse."""

    dialect: Dialect

    def execute(self, statement: str) -> None: ...

    def query(self, statement: str) -> list[tuple[Any, ...]]: ...

    def stream(self, statement: str) -> Iterator[list[tuple[Any, ...]]]:
        """The rows of a statement, some at a time."""
        ...

    def prepare(self, target: str) -> None:
        """Makes the ledger where there is none, and waits until no other transaction loads the table. Raises TryAgain after a while."""
        ...

    def widen(self, target: str, column: str, kind: Type) -> None:
        """Gives a decimal column more digits."""
        ...

    def stage(self, load: Load) -> None:
        """Fills the temporary table ``statements.STAGE`` with the load's file."""
        ...


@dataclass(frozen=True)
class _Comparison:
    """Rows of a scope: in the table (``there``), in both table and stage (``matched``), and in both but different (``changed``)."""

    there: int
    matched: int
    changed: int


def carry_out(session: Session, load: Load) -> Loaded:
    """Carries out a load in the session's transaction, which the caller commits, or rolls back where this raises WrongInput."""
    load = replace(load, target=place(session, load.target))
    session.prepare(load.target)
    there = _columns(session, load.target)
    last = session.query(statements.newest(load))
    if last and str(last[0][1]) == load.id and _still_ties(session, load, there):
        return _counted(last[0][2:], again=True)
    if last and int(last[0][0]) > load.run:
        raise WrongInput(
            f"{load.target}, {load.scope}: run {last[0][0]} has loaded it since; run {load.run} comes too late and changed nothing"
        )
    if there and not last:
        _refuse_rows_of_others(session, load, there)
    retired = _retired(session, load, there) if there else ()
    rows.check(load, fit_schema(session, load, there), session.dialect)
    session.stage(load)
    refuse_misfits(session, load)
    counts = change(session, load, retired)
    prove(session, load, retired)
    session.execute(statements.enter(load, session.dialect, counts, retired))
    return Loaded(load.count, *counts)


def found(session: Session, target: str, run: int) -> Loaded | None:
    """The ledger's entry of a run; None where its load never committed."""
    if not has_ledger(session):
        return None
    entries = session.query(statements.find(place(session, target), run))
    return _counted(entries[0]) if entries else None


def sums(session: Session, target: str, scope: str, measures: Mapping[str, Type]) -> tuple[int, dict[str, Decimal | None]]:
    """The number of rows of a scope, and the sums of measures over them. Raises WrongInput where there is no table."""
    full = place(session, target)
    if not session.query(statements.columns(full)):
        raise WrongInput(f"{full}: there is no such table; run the aggregation that loads it")
    row = session.query(statements.totals(full, scope, measures))[0]
    return int(row[0]), {name: None if value is None else Decimal(value) for name, value in zip(measures, row[1:], strict=True)}


def has_ledger(session: Session) -> bool:
    return bool(session.query(statements.columns(place(session, LEDGER))))


def place(session: Session, target: str) -> str:
    """A table with its schema: two names of one table are one in the ledger."""
    return target if "." in target else f"{session.query('SELECT current_schema()')[0][0]}.{target}"


def _counted(values: Sequence[Any], again: bool = False) -> Loaded:
    count, inserted, updated, deleted = map(int, values)
    return Loaded(count, inserted, updated, deleted, again)


# ---- the table ----


def _columns(session: Session, target: str) -> dict[str, tuple[str, int, int]]:
    """Name → type, digits, digits after the point; none where there is no table."""
    return {
        str(name): (str(kind).lower().partition("(")[0].strip(), int(digits or 0), int(scale or 0))
        for name, kind, digits, scale in session.query(statements.columns(target))
    }


def _refuse_rows_of_others(session: Session, load: Load, there: Mapping[str, object]) -> None:
    """Of a scope that no load has written."""
    if SCOPE in there and (count := int(session.query(statements.in_scope(load))[0][0])):
        raise WrongInput(
            f"{load.target}, {load.scope}: the table has {count:,} rows of it that no load wrote; delete them, or name another target"
        )


def _retired(session: Session, load: Load, there: Mapping[str, object]) -> tuple[str, ...]:
    """The measures that the table once had by the ledger, and the definition no longer has. Raises WrongInput for a table that another
    aggregation loads, or that has other keys."""
    entries = session.query(statements.owner(load))
    if not entries:
        return ()
    aggregation, keys, measures = str(entries[0][0]), json.loads(entries[0][1]), json.loads(entries[0][2])
    if aggregation != load.aggregation:
        raise WrongInput(
            f"{load.target}: aggregation {aggregation} loads this table; name another target. If {load.aggregation} is its new name: "
            f"UPDATE {LEDGER} SET aggregation = '{load.aggregation}' WHERE target = '{load.target}'"
        )
    if set(keys) != set(load.keys):
        raise WrongInput(
            f"{load.target}: its keys are {', '.join(keys)}, those of the definition {', '.join(load.keys)}; name another target, or drop "
            "the table and replay its scopes"
        )
    return tuple(name for name in measures if name not in load.measures and name in there)


def fit_schema(session: Session, load: Load, there: Mapping[str, tuple[str, int, int]]) -> dict[str, Type]:
    """Creates the table, adds columns, and widens decimals; returns the types of the load's columns in the table. Raises WrongInput for a
    table of others, or a column of another type."""
    if not there:
        schema = load.target.rpartition(".")[0]
        if not int(session.query(statements.schema_there(schema))[0][0]):
            session.execute(f"CREATE SCHEMA {statements.quoted(schema)}")
        session.execute(statements.create(load, session.dialect))
        return load.columns
    if SCOPE not in there or RUN not in there:
        raise WrongInput(f"{load.target}: the table is there and was not made by Recon; name another target, or rename the table")
    types = {}
    for name, kind in load.columns.items():
        types[name] = kind
        if name in there:
            before = _type(load, name, there[name])
            types[name] = _wider(load, name, before, kind)
            if types[name] != before:
                session.widen(load.target, name, types[name])
        elif name in load.keys:
            raise WrongInput(f"{load.target}: the table has no column {name}, which is a key; name another target")
        else:
            session.execute(statements.add_column(load.target, name, kind, session.dialect))
    return types


def _type(load: Load, column: str, described: tuple[str, int, int]) -> Type:
    name, digits, scale = described
    if (kind := _KINDS.get(name)) is None:
        raise WrongInput(f"{load.target}: its column {column} is {name}, which no aggregation has; name another target")
    return Type(kind, digits, scale) if kind == "decimal" else Type(kind)  # type: ignore[arg-type]


def _wider(load: Load, column: str, there: Type, needed: Type) -> Type:
    """The type that holds what both hold, as far as 38 digits can; ``rows.check`` looks at the values."""
    if there.kind != needed.kind:
        raise WrongInput(f"{load.target}: its column {column} is {there}, the aggregation has {needed}; name another target")
    if there.kind != "decimal":
        return there
    scale = max(there.scale, needed.scale)
    precision = max(there.precision - there.scale, needed.precision - needed.scale) + scale
    return Type("decimal", min(precision, 38), scale)


# ---- the rows ----


def refuse_misfits(session: Session, load: Load) -> None:
    """Raises WrongInput where the staged rows are not those of the load, or a key is missing, twice, or in another scope."""
    _tie(session, load, None, "the rows to load")
    if missing := session.query(statements.null_key(load)):
        columns = ", ".join(name for name, value in zip(load.keys, missing[0], strict=True) if value is None)
        raise WrongInput(f"{load.target}, {load.scope}: a row has no {columns}; a key needs all its columns: filter such rows")
    if twice := session.query(statements.key_twice(load)):
        raise WrongInput(f"{load.target}, {load.scope}: key {_key(load, twice[0])} is there twice, written in two ways; clean its columns")
    if elsewhere := session.query(statements.key_elsewhere(load)):
        key, scope = elsewhere[0][:-1], elsewhere[0][-1]
        raise WrongInput(
            f"{load.target}, {load.scope}: key {_key(load, key)} is in scope {scope} already; add a column to keys that "
            "tells them apart, or write per: all"
        )


def change(session: Session, load: Load, retired: Sequence[str]) -> tuple[int, int, int]:
    """Makes the scope's rows those of the stage: only what differs, or all where that is cheaper. Returns how many were inserted,
    updated and deleted."""
    before = _compared(session, load, retired)
    inserted, updated, deleted = load.count - before.matched, before.changed, before.there - before.matched
    if updated + deleted > _REPLACED_FROM * before.there:
        session.execute(statements.delete(load, only_gone=False))
        session.execute(statements.insert(load, only_new=False))
        return inserted, updated, deleted
    if deleted:
        session.execute(statements.delete(load))
    if updated:
        session.execute(statements.update(load, session.dialect, retired))
    if inserted:
        session.execute(statements.insert(load, only_new=bool(before.there)))
    return inserted, updated, deleted


def _compared(session: Session, load: Load, retired: Sequence[str]) -> _Comparison:
    there = int(session.query(statements.in_scope(load))[0][0])
    matched, changed = session.query(statements.compare(load, session.dialect, retired))[0] if there else (0, 0)
    return _Comparison(there, int(matched), int(changed))


def prove(session: Session, load: Load, retired: Sequence[str]) -> None:
    """Raises WrongInput where the scope's rows in the table are not those of the load, or a key is in the table twice."""
    if doubled := session.query(statements.doubled(load)):
        raise WrongInput(f"{load.target}, {load.scope}: key {_key(load, doubled[0])} is in the table more than once; nothing was changed")
    after = _compared(session, load, retired)
    if after != _Comparison(load.count, load.count, 0):
        raise WrongInput(
            f"{load.target}, {load.scope}: after the load the table has {after.there:,} rows of it, {after.matched - after.changed:,} as "
            f"computed, not {load.count:,}; nothing was changed"
        )
    _tie(session, load, load.scope, f"the rows of {load.target}")


def _tie(session: Session, load: Load, scope: str | None, what: str) -> None:
    """Raises WrongInput where rows or sums, of a scope or of the stage, are not those of the aggregation."""
    if differences := _differences(session, load, scope):
        raise WrongInput(f"{load.target}, {load.scope}: {what} do not tie: {'; '.join(differences)}; nothing was changed")


def _differences(session: Session, load: Load, scope: str | None) -> list[str]:
    row = session.query(statements.totals(load.target, scope, load.totals))[0]
    found = [] if int(row[0]) == load.count else [f"{int(row[0]):,} rows, not {load.count:,}"]
    for (name, expected), value in zip(load.totals.items(), row[1:], strict=True):
        if Decimal(value or 0) != Decimal(expected):
            found.append(f"{name} {value or 0}, not {expected}")
    return found


def _still_ties(session: Session, load: Load, there: Mapping[str, object]) -> bool:
    """Whether the table still has the rows and sums of a load that is in the ledger."""
    return {*load.columns, SCOPE, RUN} <= set(there) and not _differences(session, load, load.scope)


def _key(load: Load, values: Sequence[Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in zip(load.keys, values, strict=True))
