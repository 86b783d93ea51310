"""A reconciliation with breaks, duplicates and certificates behind a service, for its look-ups."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from web_site import Served, serving

import recon
from recon.api import Reconciliation

FIRST, SECOND = "2026-11-01T00:00Z", "2026-11-01T01:00Z"
HEADER = "order_id,event_id,amount\n"
RULES = {
    "name": "orders",
    "store": "./data",
    "key": "order_id",
    "windows": {"start": FIRST, "every": "1h"},
    "events": {"types": {"amount": "decimal(18,2)"}, "id": "event_id"},
    "measures": {"balance": {"sum": "amount"}},
    "status": [{"MATCHED": "balance = 0"}, {"BREAK": "true"}],
    "service": {"owners": {"finance": {}}},
}


def landed(opened: Reconciliation, window: str, rows: str) -> None:
    """Lands rows in a window, closes it, and takes it through all stages."""
    file = opened.config.path.parent / f"{window[11:13]}-{len(rows)}.csv"
    file.write_text(HEADER + rows)
    opened.land([file], window=window, close=True)
    opened.run()


@contextmanager
def looked_up(folder: Path, **rules: object) -> Iterator[tuple[Served, Reconciliation]]:
    """A service with a reconciliation that has nothing yet. ``rules``: in place of some of RULES."""
    (folder / "recon.yaml").write_text(yaml.safe_dump({**RULES, **rules}))
    opened = recon.open(folder / "recon.yaml")
    with serving(folder) as url:
        yield Served(url, folder, opened.service()), opened
