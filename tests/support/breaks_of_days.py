"""A small site whose breaks are the input of an aggregation."""

from __future__ import annotations

from pathlib import Path

import recon
from recon.api import Reconciliation
from recon.model.windows import name_of

RECON = """
name: orders
store: ./store
key: [shop, order]
windows: {start: 2026-11-01T05:00Z, every: 1h}
events: {id: id, types: {amount: "decimal(18,2)"}}
measures:
  invoiced: {sum: amount, where: "kind = 'I'"}
  paid: {sum: amount, where: "kind = 'P'"}
derived: {open: "coalesce(invoiced, 0) - coalesce(paid, 0)"}
status:
  - {MATCHED: "open = 0"}
  - {UNPAID: "true"}
"""
DAILY = "breaks: {per: day}\n"
LOAD = """
source: day_breaks
keys: [day, shop, order, status]
measures: {open: {sum: open}, breaks: {count: "*"}, oldest: {max: age_days}}
target: breaks_by_day
"""
NEW_YORK = "2026-11-01T05:00Z"
"""The first window of a day in New York, which has 25 hours, since summer time ends; the grid begins with its second."""
DAY, NEXT = "2026-11-01T00:00Z", "2026-11-02T00:00Z"

FIRST = {0: "A,1,a1,I,10.00\nA,2,a2,I,5.25\n", 1: "A,2,a3,P,5.25\n"}


def site(folder: Path, recon_yaml: str = RECON.replace("T05:00Z, every: 1h", "T00:00Z, every: 12h"), breaks: str = DAILY) -> Reconciliation:
    for name, text in {"recon.yaml": recon_yaml, "sources/day_breaks.yaml": breaks, "aggregations/breaks.yaml": LOAD}.items():
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text(text)
    return recon.open(folder / "recon.yaml")


def land(r: Reconciliation, windows: range, rows: dict[int, str]) -> None:
    """Lands a file in each of the windows, counted from the grid's start: ``rows`` without a header, or none."""
    for number in windows:
        path = r.config.path.parent / f"w{number}.csv"
        path.write_text("shop,order,id,kind,amount\n" + rows.get(number, ""))
        r.land([path], name_of(r.config.grid.at(number)), close=True, again=True)
