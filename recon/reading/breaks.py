"""Breaks: the artifacts that are not matched, their ages and their sums.

The age of a break runs from the earliest time of the key's events (``events.time``), or from the start of the key's first window if an
event has no time, to now, or to the moment of the question. Corrections do not count for it, unless the key has no other event.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon.config import Config
from recon.config.form import form_of
from recon.errors import WrongUsage
from recon.exports.sheets import Book
from recon.intake.manifests import CORRECTION
from recon.model.moments import Upto
from recon.reading.artifacts import columns_of, table_of
from recon.reading.exports import check_format, write_rows
from recon.reading.history import files_then
from recon.reading.provenance import currency_of
from recon.state import reduced
from recon.state.timeline import State
from recon.storage.parquet import scan
from recon.storage.port import ObjectStore
from recon.storage.scratch import scratch_folder
from recon.vocabulary.duckdb import literal, quoted

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

AGES = ((1, "under 1 day"), (7, "1–6 days"), (30, "7–29 days"), (None, "30 days and more"))
"""Days below which a break belongs to a group, and the group's name."""


@dataclass(frozen=True)
class Chosen:
    """Which breaks, in which order. ``min_age`` in days. ``min_amount``: compared with the amount's absolute value. ``sort``: a column;
    numbers by absolute value, largest first; texts from A to Z. ``limit``: the maximum number of breaks."""

    status: Sequence[str] = ()
    min_age: int | None = None
    min_amount: str | None = None
    sort: str | None = None
    limit: int | None = None


@dataclass(frozen=True)
class Scope:
    """The artifacts that breaks are read from. ``config``: the rules of ``state``. ``last``: start of the last window that counts, None for
    all. ``end``: when ages end. ``then``: the state is an earlier one."""

    store: ObjectStore
    config: Config
    state: State
    last: datetime | None
    end: datetime
    then: bool = False


def scope_of(store: ObjectStore, config: Config, state: State, upto: Upto | None, known: datetime | None) -> Scope:
    """The scope of a question. ``upto``: the windows that count. ``known``: the moment of an earlier ``state``. Ages end now, or there."""
    ends = [datetime.now(UTC), *([] if upto is None else [upto.end]), *([] if known is None else [known])]
    return Scope(store, config, state, None if upto is None else upto.last, min(ends), then=known is not None)


def breaks(scope: Scope, chosen: Chosen) -> pa.Table:
    """The columns of the artifacts, ``since`` and ``age_days``; in order of status, age and key unless ``chosen`` names another order."""
    with chosen_breaks(scope, chosen) as connection:
        return connection.sql("FROM chosen ORDER BY place").select(_COLUMNS).to_arrow_table()


def export_breaks(scope: Scope, chosen: Chosen, file: Path) -> int:
    """Writes the breaks to ``file``; csv, jsonl, parquet or xlsx by its suffix. Returns the number of rows. Raises WrongUsage, TryAgain."""
    from recon.reading.provenance import book_of

    check_format(file)
    with chosen_breaks(scope, chosen) as connection:
        connection.execute(f"CREATE TEMP VIEW listed AS SELECT {_COLUMNS} FROM chosen")

        def book() -> Book:
            found = book_of(scope.store, scope.config, scope.state, "listed", scope.last, columns_of(connection, "listed"))
            return replace(found, name="breaks", about=[*found.about, ("ages end at", scope.end.isoformat(timespec="seconds"))])

        return write_rows(connection, f"SELECT {_COLUMNS} FROM chosen ORDER BY place", file, book)


def summary(scope: Scope, chosen: Chosen) -> list[dict[str, Any]]:
    """Breaks by status and age: ``status``, ``age``, ``artifacts``, and ``amounts``: currency → ``net`` and ``gross``, the sum of the
    amounts and the sum of their absolute values. ``amounts`` is empty if there is no amount, or its currency is not known."""
    with chosen_breaks(scope, chosen) as connection:
        return _summed(connection, scope.config)


def breaks_and_summary(scope: Scope, chosen: Chosen) -> tuple[pa.Table, list[dict[str, Any]]]:
    """As ``breaks`` and ``summary``, with all artifacts folded once. A limit shortens the breaks, never the sums."""
    with chosen_breaks(scope, replace(chosen, limit=None)) as connection:
        limit = "" if chosen.limit is None else f" LIMIT {chosen.limit:d}"
        listed = connection.sql(f"SELECT {_COLUMNS} FROM chosen ORDER BY place{limit}").to_arrow_table()
        return listed, _summed(connection, scope.config)


def _summed(connection: duckdb.DuckDBPyConnection, config: Config) -> list[dict[str, Any]]:
    """The summary of the table ``chosen``."""
    ages = " ".join(f"WHEN age_days < {days} THEN {literal(name)}" for days, name in AGES if days is not None)
    age_group = f"CASE {ages} ELSE {literal(AGES[-1][1])} END AS age"
    groups = f"SELECT status, {age_group}, min(age_days) AS youngest, count(*)"
    amount = amount_of(config)
    currency = None if amount is None else currency_of(config, columns_of(connection, "chosen"))
    rows = connection.execute(f"{groups} FROM chosen GROUP BY status, age ORDER BY status, youngest").fetchall()
    found = {(row[0], row[1]): {"status": row[0], "age": row[1], "artifacts": row[3], "amounts": {}} for row in rows}
    if amount is not None and currency is not None:
        total = f"CAST(sum({quoted(amount)}) AS VARCHAR), CAST(sum(abs({quoted(amount)})) AS VARCHAR)"
        query = f"SELECT status, {age_group}, {currency} AS currency, {total}"
        for status, age, name, net, gross in connection.execute(f"{query} FROM chosen GROUP BY ALL ORDER BY ALL").fetchall():
            if net is not None:
                found[status, age]["amounts"][name or ""] = {"net": net, "gross": gross}
    return list(found.values())


def by_status(store: ObjectStore, config: Config, state: State) -> list[tuple[str, str, int, Decimal | None]]:
    """All artifacts by status and currency: status ("" for none), currency, number of artifacts, and the sum of their amounts, None if
    there is no amount or its currency is not known. Reads every live record."""
    with table_of(store, config, state) as connection:
        amount = amount_of(config)
        currency = None if amount is None else currency_of(config, columns_of(connection, "artifacts"))
        total, group = ("NULL", "''") if currency is None else (f"CAST(sum({quoted(str(amount))}) AS VARCHAR)", currency)
        query = f"SELECT coalesce(status, ''), coalesce({group}, ''), count(*), {total} FROM artifacts GROUP BY ALL ORDER BY ALL"
        rows = connection.execute(query).fetchall()
    return [(status, name, count, None if money is None else Decimal(money)) for status, name, count, money in rows]


def matched_status(config: Config) -> str | None:
    """The status that is no break: MATCHED if the rules have it, else their first status."""
    names = [item.name for item in config.status]
    return "MATCHED" if "MATCHED" in names else names[0] if names else None


def amount_of(config: Config) -> str | None:
    """The column with the amount of a break: the first decimal that the condition of the matched status reads, derived values before
    measures; else the first derived value that is a decimal, else the first such measure."""
    derived = [item.name for item in config.derived if item.expression.type.kind == "decimal"]
    decimals = derived + [item.name for item in config.measures if item.type.kind == "decimal"]
    matched = matched_status(config)
    read = next((item.expression.columns for item in config.status if item.name == matched), frozenset())
    return next((name for name in decimals if name in read), decimals[0] if decimals else None)


_COLUMNS = "* EXCLUDE (place)"


class UnknownStatus(WrongUsage):
    """A status that no artifact can have, or, where user logic may set any, that none has. ``known``: those that there are."""

    def __init__(self, name: str, known: Collection[str]) -> None:
        self.name, self.known = name, sorted(known)
        super().__init__(f"--status {name}: no artifact can have this status; there are {', '.join(self.known)}")


@contextmanager
def chosen_breaks(scope: Scope, chosen: Chosen) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the table ``chosen``: the breaks, and their ``place`` in the order. Raises UnknownStatus."""
    config, form = scope.config, form_of(scope.config)
    by_rules = [item.name for item in config.status] if form.statuses is None else form.statuses
    statuses = {*by_rules, *scope.state.totals.get("statuses", {})}
    if form.statuses is not None:
        _refuse_unknown(chosen, statuses)
    with table_of(scope.store, config, scope.state, scope.last, scope.then) as connection, scratch_folder(scope.store) as scratch:
        if form.statuses is None:  # an artifact may have had a status then that none has now
            found = connection.execute("SELECT DISTINCT status FROM artifacts WHERE status IS NOT NULL").fetchall()
            _refuse_unknown(chosen, {*statuses, *(name for (name,) in found)})
        matched = matched_status(config)
        known = columns_of(connection, "artifacts")
        where = _where(config, chosen, known)
        connection.execute(f"""
            CREATE TEMP TABLE breaks AS SELECT * FROM artifacts
            WHERE status IS DISTINCT FROM {literal(matched) if matched else "NULL"} {where}""")
        _add_since(connection, scope, scratch)
        end = f"CAST({literal(scope.end.isoformat())} AS TIMESTAMPTZ)"
        # Days of 24 hours; an event that is dated later than the end has age 0.
        aged = f"SELECT breaks.*, since, greatest(0, CAST(floor(epoch({end} - since) / 86400) AS BIGINT)) AS age_days FROM breaks"
        old = "" if chosen.min_age is None else f"WHERE age_days >= {chosen.min_age:d}"
        order, limit = _order(chosen, [*known, "since", "age_days"]), "" if chosen.limit is None else f"LIMIT {chosen.limit:d}"
        connection.execute(f"""
            CREATE TEMP TABLE chosen AS
            SELECT *, row_number() OVER (ORDER BY {order}) AS place FROM ({aged} JOIN since_when USING (key)) {old}
            ORDER BY place {limit}""")
        yield connection


def _refuse_unknown(chosen: Chosen, known: Collection[str]) -> None:
    for name in chosen.status:
        if name not in known:
            raise UnknownStatus(name, known)


def _where(config: Config, chosen: Chosen, known: Sequence[str]) -> str:
    conditions = []
    if chosen.status:
        names = ", ".join(literal(name) for name in chosen.status)
        conditions.append(f"AND coalesce(status, '') IN ({names})")
    if chosen.min_amount is not None:
        amount = amount_of(config)
        if amount is None or amount not in known:
            raise WrongUsage(f"--min: {config.path.name} has no measure and no derived value that is a decimal amount")
        # An unknown amount, such as that of an artifact with two currencies, may be large.
        conditions.append(f"AND ({quoted(amount)} IS NULL OR abs({quoted(amount)}) >= {_exact(chosen.min_amount)})")
    return " ".join(conditions)


def _exact(text: str) -> str:
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or value < 0:
        raise WrongUsage(f"--min {text}: this is not an amount; write digits, such as 100 or 12.50")
    scale = max(0, -int(value.as_tuple().exponent))
    return f"CAST({literal(f'{value:f}')} AS DECIMAL(38,{scale}))"


def _order(chosen: Chosen, known: Sequence[str]) -> str:
    """The ORDER BY of the breaks."""
    if chosen.sort is None:
        return "status, age_days DESC, key"
    if chosen.sort not in known:
        raise WrongUsage(f"--sort {chosen.sort}: there is no such column; there are {', '.join(known)}")
    column = quoted(chosen.sort)
    return f"TRY_CAST({column} AS DOUBLE) IS NULL, abs(TRY_CAST({column} AS DOUBLE)) DESC, {column}, key"


def _add_since(connection: duckdb.DuckDBPyConnection, scope: Scope, scratch: Path) -> None:
    """Creates the table ``since_when``: key, and the time from which its age runs. Reads the times of events in the windows with breaks."""
    started = "SELECT key, CAST(first_window AS TIMESTAMPTZ) AS since FROM breaks"
    connection.execute("CREATE TEMP TABLE seen (key VARCHAR, since TIMESTAMPTZ, corrected BOOLEAN)")
    if scope.config.events.time is not None:
        first, last = connection.execute("SELECT min(first_window), max(last_window) FROM breaks").fetchall()[0]
        windows = [] if first is None else sorted(name for name in scope.state.windows if first <= name <= last)
        events = files_then(scope.store, scope.state, scratch)[1]
        for name in windows:
            corrections = _corrections(scope.store, scope.state, name)
            connection.execute(f"""
                INSERT INTO seen
                SELECT key, min(coalesce(CAST(time AS TIMESTAMPTZ), CAST({literal(name)} AS TIMESTAMPTZ))), file IN ({corrections})
                FROM {scan(events[name])} WHERE key IN (SELECT key FROM breaks)
                GROUP BY ALL""")
    connection.execute(f"""
        CREATE TEMP TABLE since_when AS
        SELECT key, coalesce(min(seen.since) FILTER (WHERE NOT corrected), min(seen.since), min(started.since)) AS since
        FROM ({started}) started LEFT JOIN seen USING (key) GROUP BY key""")


def _corrections(store: ObjectStore, state: State, window: str) -> str:
    """SQL list of the numbers of a window's files that hold corrections."""
    files = reduced.read(store, state.windows[window].folder).files
    return ", ".join(["-1", *(str(number) for number, file in enumerate(files) if str(file["name"]).startswith(CORRECTION))])
