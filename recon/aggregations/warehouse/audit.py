"""A look at a table that was loaded: whether its keys are unique and not null, and whether each scope ties to its last load."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

from recon.aggregations.warehouse import statements
from recon.aggregations.warehouse.load import Session, has_ledger, place
from recon.aggregations.warehouse.port import RUN, SCOPE, Audit


def audit(session: Session, target: str, keys: Sequence[str]) -> Audit:
    """Reads the table once for each question."""
    target = place(session, target)
    entries = session.query(statements.last_loads(target)) if has_ledger(session) else []
    loads = {scope: (int(rows), json.loads(totals)) for scope, rows, totals in entries}
    columns = [str(column[0]) for column in session.query(statements.columns(target))]
    if SCOPE not in columns:
        return Audit(None, 0, 0, {scope: f"its {rows:,} rows are gone" for scope, (rows, _) in loads.items() if rows})
    summed = [name for name in columns if any(name in totals for _, totals in loads.values())]
    there = {row[0]: row[1:] for row in session.query(statements.totals_by_scope(target, summed))}
    untied = {scope: _difference(there.get(scope), loads.get(scope), summed) for scope in sorted({*there, *loads})}
    return Audit(
        sum(int(found[0]) for found in there.values()),
        int(session.query(statements.doubled_keys(target, keys))[0][0]),
        int(session.query(statements.null_keys(target, keys))[0][0]),
        {scope: difference for scope, difference in untied.items() if difference},
    )


def _difference(there: Sequence[Any] | None, load: tuple[int, dict[str, str]] | None, summed: Sequence[str]) -> str:
    """``there``: number of rows and sums of the columns ``summed``, in their order."""
    rows = int(there[0]) if there else 0
    if load is None:
        return f"{rows:,} rows that no load has put there"
    if rows != load[0]:
        return f"{rows:,} rows, its last load had {load[0]:,}"
    sums = dict(zip(summed, there[1:], strict=True)) if there else {}
    found = [
        f"{name} {sums[name] or 0}, its last load had {total}"
        for name, total in load[1].items()
        if name in sums and Decimal(sums[name] or 0) != Decimal(total)
    ]
    return "; ".join(found)


def rows(session: Session, target: str, scope: str, columns: Sequence[str]) -> Iterator[list[tuple[Any, ...]]]:
    """The rows of a scope, some at a time; none where there is no table."""
    target = place(session, target)
    if session.query(statements.columns(target)):
        yield from session.stream(statements.all_rows(target, scope, columns))


def sample(session: Session, target: str, scope: str, most: int) -> list[dict[str, Any]]:
    """The first rows of a scope, without Recon's own columns; none where there is no table."""
    target = place(session, target)
    columns = [str(name) for name, *_ in session.query(statements.columns(target)) if name not in (SCOPE, RUN)]
    if not columns:
        return []
    return [dict(zip(columns, row, strict=True)) for row in session.query(statements.first_rows(target, scope, columns, most))]
