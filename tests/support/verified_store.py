"""A store that has everything that verification looks at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import recon
from recon.api import Reconciliation
from recon.state.committed import committed_figures

CONFIG = """
name: orders
store: ./data
key: order_id
windows: {start: 2026-11-01T00:00Z, every: 1h}
events:
  types: {amount: "decimal(18,2)", units: integer, due: date, urgent: boolean}
  id: event_id
  time: booked_at
  dedupe: 3h
measures:
  billed: {sum: amount, where: "event_type = 'INVOICE'"}
  paid: {sum: amount, where: "event_type = 'PAYMENT'"}
  lines: {count: "*"}
  units: {sum: units}
  smallest: {min: amount}
  due: {max: due}
  latest: {max: booked_at}
  opened: {first: event_type}
  closed_by: {last: amount}
derived:
  balance: coalesce(billed, 0) - coalesce(paid, 0)
  shown: concat('é ', opened)
status:
  - {MATCHED: "balance = 0"}
  - {UNPAID: "paid is null"}
  - {BREAK: "true"}
control: {rows: {count: "*"}, amount: {sum: amount, by: currency}}
"""

HEAD = "order_id,event_id,event_type,amount,units,due,urgent,currency,booked_at"


def window(hour: int) -> str:
    return f"2026-11-01T{hour:02}:00Z"


def row(order: str, event: str, kind: str, amount: str, hour: int, minute: int = 5, currency: str = "EUR") -> str:
    return f"{order},{event},{kind},{amount},3,2026-12-0{hour + 1},true,{currency},2026-11-01T{hour:02}:{minute:02}:00Z"


def land(r: Reconciliation, hour: int, name: str, rows: list[str], replace: str | None = None) -> None:
    file = r.config.path.parent / name
    file.write_text("\n".join([HEAD, *rows]) + "\n")
    r.land([file], window(hour), close=True, replace=replace, again=True)


def begin(folder: Path, config: str = CONFIG) -> Reconciliation:
    folder.mkdir(exist_ok=True)
    (folder / "recon.yaml").write_text(config)
    return recon.open(folder / "recon.yaml")


def make_history(r: Reconciliation) -> None:
    """Several windows in a run, late windows, duplicates in and across windows, a correction, a replay, a file taken back."""
    invoices = [row(f"A{n:03}", f"i{n}", "INVOICE", f"{100 + n}.25", 0, n % 60) for n in range(40)]
    land(
        r,
        0,
        "invoices.csv",
        [*invoices, invoices[3], row("A001", "i1", "INVOICE", "9.99", 0, 0), "X,i99,INVOICE,nan,,,,EUR,"],
    )
    land(r, 1, "one.csv", [row(f"A{n:03}", f"p{n}", "PAYMENT", f"{100 + n}.25", 1) for n in range(30)])
    # A006 and A007 come again within the horizon; without an id nothing is a duplicate.
    land(
        r,
        3,
        "three.csv",
        [*invoices[6:8], row("A006", "p6", "PAYMENT", "1", 3), *[row("B1", "", "INVOICE", "2", 3)] * 2],
    )
    r.run()
    # A late window: what came again in window 3 is now a duplicate of it, and not of window 0 only.
    land(
        r,
        2,
        "two.csv",
        [*invoices[6:7], row("C1", "c1", "INVOICE", "5", 2, currency="USD"), row("C2", "c2", "PAYMENT", "7", 2)],
    )
    # Beyond the horizon of window 0, within that of window 3.
    land(r, 6, "six.csv", [*invoices[6:9], row("W1", "w1", "INVOICE", "1", 6), row("W2", "w2", "INVOICE", "1", 6)])
    r.run()
    land(r, 1, "one-right.csv", [row(f"A{n:03}", f"p{n}", "PAYMENT", f"{90 + n}.25", 1) for n in range(5, 35)], "one.csv")
    r.run()
    land(r, 6, "more.csv", [row("W3", "w3", "PAYMENT", "3", 6)])
    r.run()
    r.unland("six.csv", window(6), "sent by mistake")
    r.replay(window(0), window(3), "to be sure")
    r.run()


def figures(r: Reconciliation) -> dict[str, dict[str, Any]]:
    """Window → its figures as the timeline holds them."""
    state = r.state()
    return committed_figures(r.store(), state, state.windows)
