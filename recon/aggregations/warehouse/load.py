"""A load, step by step, over any warehouse's session: schema, stage, checks, rows, ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Protocol

from recon.aggregations.warehouse import statements
from recon.aggregations.warehouse.port import RUN, SCOPE, Load, Loaded
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


class Session(Protocol):
    """One transaction of a warehouse."""

    dialect: Dialect
    now: str
    """SQL of the time of the transaction."""

    def execute(self, statement: str) -> int:
        """Executes a statement and returns the number of rows that it changed."""
        ...

    def query(self, statement: str) -> list[tuple[Any, ...]]: ...

    def lock(self, target: str) -> None:
        """Waits until no other transaction loads the table."""
        ...

    def columns(self, target: str) -> list[tuple[str, str, int | None, int | None]]:
        """The columns of a table: name, type, digits, digits after the point; none where there is no table."""
        ...

    def widen(self, target: str, column: str, kind: Type) -> None:
        """Gives a decimal column more digits."""
        ...

    def stage(self, load: Load) -> None:
        """Fills the temporary table ``statements.STAGE`` with the load's file."""
        ...


def carry_out(session: Session, load: Load) -> Loaded:
    """Carries out a load in the session's transaction, which the caller commits, or rolls back where this raises WrongInput."""
    session.execute(statements.create_ledger(session.dialect))
    session.lock(load.target)
    if (last := session.query(statements.newest(load))) and str(last[0][1]) == load.id:
        return _counted(last[0][2:], again=True)
    if last and int(last[0][0]) > load.run:
        raise WrongInput(
            f"{load.target}, {load.scope}: run {last[0][0]} has loaded it since; run {load.run} comes too late and changed nothing"
        )
    fit_schema(session, load)
    session.stage(load)
    refuse_misfits(session, load)
    deleted = session.execute(statements.delete(load))
    updated = session.execute(statements.update(load, session.dialect))
    inserted = session.execute(statements.insert(load))
    prove(session, load)
    session.execute(statements.enter(load, (inserted, updated, deleted), session.now))
    return Loaded(load.count, inserted, updated, deleted)


def found(session: Session, target: str, run: int) -> Loaded | None:
    """The ledger's entry of a run; None where its load never committed."""
    session.execute(statements.create_ledger(session.dialect))
    rows = session.query(statements.find(target, run))
    return _counted(rows[0]) if rows else None


def _counted(values: Sequence[Any], again: bool = False) -> Loaded:
    rows, inserted, updated, deleted = map(int, values)
    return Loaded(rows, inserted, updated, deleted, again)


def fit_schema(session: Session, load: Load) -> None:
    """Creates the table, adds columns, and widens decimals. Raises WrongInput for a table of others, or a column of another type."""
    there = {name.lower(): _type(name, text, digits, scale, load.target) for name, text, digits, scale in session.columns(load.target)}
    if not there:
        session.execute(statements.create(load, session.dialect))
        return
    if SCOPE not in there or RUN not in there:
        raise WrongInput(f"{load.target}: the table is there and was not made by Recon; name another target, or rename the table")
    for name, kind in load.columns.items():
        if name not in there:
            if name in load.keys:
                raise WrongInput(f"{load.target}: the table has no column {name}, which is a key now; name another target")
            column = f"{statements.quoted(name)} {session.dialect.column_type(kind)}"
            session.execute(f"ALTER TABLE {statements.quoted(load.target)} ADD COLUMN {column}")
        elif (wider := _wider(there[name], kind)) is None:
            raise WrongInput(f"{load.target}: its column {name} is {there[name]}, the aggregation has {kind}; name another target")
        elif wider != there[name]:
            session.widen(load.target, name, wider)


def _type(column: str, text: str, digits: int | None, scale: int | None, target: str) -> Type:
    kind = _KINDS.get(text.lower().partition("(")[0].strip())
    if kind is None:
        raise WrongInput(f"{target}: its column {column} is {text}, which no aggregation has; name another target")
    return Type(kind, int(digits or 0), int(scale or 0)) if kind == "decimal" else Type(kind)  # type: ignore[arg-type]


def _wider(there: Type, needed: Type) -> Type | None:
    """The type that holds what both hold; None where none does."""
    if there.kind != needed.kind:
        return None
    if there.kind != "decimal":
        return there
    scale = max(there.scale, needed.scale)
    precision = max(there.precision - there.scale, needed.precision - needed.scale) + scale
    # An aggregation's sum is declared with all 38 digits; what a row really has is checked by the database when it is staged.
    return Type("decimal", min(precision, 38), scale)


def refuse_misfits(session: Session, load: Load) -> None:
    """Raises WrongInput where the staged rows are not those of the load, or a key is missing, twice, or in another scope."""
    _tie(session, load, None, "the rows to load")
    if rows := session.query(statements.null_key(load)):
        raise WrongInput(
            f"{load.target}, {load.scope}: a row has no {_nulls(load, rows[0])}; a key needs all its columns: filter such rows"
        )
    if rows := session.query(statements.key_twice(load)):
        raise WrongInput(f"{load.target}, {load.scope}: key {_key(load, rows[0])} is there twice, written in two ways; clean its columns")
    if rows := session.query(statements.key_elsewhere(load)):
        key, scope = rows[0][:-1], rows[0][-1]
        raise WrongInput(
            f"{load.target}, {load.scope}: key {_key(load, key)} is in scope {scope} already; add a column to keys that "
            "tells them apart, or write per: all"
        )
    for name, statement in statements.too_long(load, session.dialect).items():
        if count := int(session.query(statement)[0][0]):
            raise WrongInput(f"{load.target}, {load.scope}: {count} texts of {name} have more than {session.dialect.text_bytes:,} bytes")


def prove(session: Session, load: Load) -> None:
    """Raises WrongInput where the scope's rows in the table are not those of the load, or a key is in the table twice."""
    _tie(session, load, load.scope, f"the rows of {load.target}")
    if rows := session.query(statements.doubled(load)):
        raise WrongInput(f"{load.target}, {load.scope}: key {_key(load, rows[0])} is in the table more than once; nothing was changed")


def _tie(session: Session, load: Load, scope: str | None, what: str) -> None:
    row = session.query(statements.totals(load.target, scope, load.totals))[0]
    differences = [] if int(row[0]) == load.count else [f"{int(row[0]):,} rows, not {load.count:,}"]
    for (name, expected), value in zip(load.totals.items(), row[1:], strict=True):
        if Decimal(value or 0) != Decimal(expected):
            differences.append(f"{name} {value or 0}, not {expected}")
    if differences:
        raise WrongInput(f"{load.target}, {load.scope}: {what} do not tie: {'; '.join(differences)}; nothing was changed")


def _key(load: Load, values: tuple[Any, ...]) -> str:
    return ", ".join(f"{name} {value}" for name, value in zip(load.keys, values, strict=True))


def _nulls(load: Load, values: tuple[Any, ...]) -> str:
    return ", ".join(name for name, value in zip(load.keys, values, strict=True) if value is None)


def sums(session: Session, target: str, scope: str, measures: Mapping[str, Type]) -> tuple[int, dict[str, Decimal | None]]:
    """The number of rows of a scope, and the sums of measures over them."""
    row = session.query(statements.totals(target, scope, measures))[0]
    return int(row[0]), {name: None if value is None else Decimal(value) for name, value in zip(measures, row[1:], strict=True)}
