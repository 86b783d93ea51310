"""A reconciliation by days: payments of any day land and run in one range."""

from __future__ import annotations

from recon.api import Reconciliation

EVENTS = """\
name: orders
store: ./data
key: order_id
windows: {start: 2026-09-01T00:00Z, every: 1d}
events: {types: {amount: "decimal(18,2)"}, id: event_id, time: booked_at}
"""
"""Rules without measures."""
DAYS = (
    EVENTS
    + """\
measures: {paid: {sum: amount}, kind: {max: event_type}, lines: {count: "*"}}
control: {rows: {count: "*"}, amount: {sum: amount}}
"""
)


def window(day: int) -> str:
    return f"2026-{9 + (day - 1) // 30:02d}-{(day - 1) % 30 + 1:02d}T00:00Z"


def row(event_id: str, amount: str, key: str = "A", kind: str = "PAYMENT", booked: str = "2026-09-01T10:00:00Z") -> str:
    return f"{event_id},{key},{kind},{amount},{booked}"


def run(r: Reconciliation, *landed: tuple[int, list[str]], replace: str | None = None) -> list[str]:
    """Lands one file for each day and runs them in one range. Returns the windows that were counted again."""
    for number, (day, rows) in enumerate(landed):
        path = r.config.path.parent / f"d{day}-{len(rows)}-{number}-{'r' if replace else 'f'}.csv"
        path.write_text("\n".join(["event_id,order_id,event_type,amount,booked_at", *rows]) + "\n")
        r.land([path], window(day), close=True, replace=replace, again=True)
    return r.run().recounted
