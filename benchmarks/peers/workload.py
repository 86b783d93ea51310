"""The workload: events of the windows that make the state, of those that wear it in, and of the batches that are measured.

Keys are numbered. *Base* windows hold every key of the state once. *Worn* windows hold half of the keys once more, so that the state is
left as long use leaves it: superseded copies of records, deleted rows. A *batch* has ``events`` events over ``keys`` keys, half of which
are new.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

WINDOW_KEYS = 2_000_000
START = datetime(2026, 1, 1, tzinfo=UTC)
_STEP = 982_451_653
"""A prime beyond any number of keys: multiples of it scatter over the keys without meeting."""

RULES = """\
name: orders
store: ./data
key: order_id
windows: {start: 2026-01-01T00:00Z, every: 1h}
events: {types: {amount: "decimal(18,2)"}, id: event_id, time: booked_at, dedupe: 31d}
measures:
  billed: {sum: amount, where: "event_type = 'INVOICE'"}
  paid: {sum: amount, where: "event_type = 'PAYMENT'"}
  refunded: {sum: amount, where: "event_type = 'REFUND'"}
  lines: {count: "*"}
derived: {balance: "coalesce(billed, 0) - coalesce(paid, 0) + coalesce(refunded, 0)"}
status: [{MATCHED: "balance = 0"}, {UNPAID: "paid is null"}, {BREAK: "true"}]
control: {rows: {count: "*"}, amount: {sum: amount, by: currency}}
"""
CONFIG = RULES + "retention: {grace: 1m}\nmemory_limit: 2GB\nthreads: 2\n"
MEASURES = ("billed", "paid", "refunded", "lines")


@dataclass(frozen=True)
class Window:
    """One window's events: ``count`` of them, over the keys that ``key`` (SQL of the event's number ``i``) gives."""

    number: int
    count: int
    key: str

    @property
    def name(self) -> str:
        return (START + timedelta(hours=self.number)).strftime("%Y-%m-%dT%H:%MZ")


@dataclass(frozen=True)
class Workload:
    """``state`` keys to begin with, then batches of ``events`` events with ``keys`` keys."""

    state: int
    events: int = 2_000_000
    keys: int = 659_571

    def base(self) -> Iterator[Window]:
        parts = -(-self.state // WINDOW_KEYS)
        for part in range(parts):
            yield Window(part, len(range(part, self.state, parts)), f"{part} + i * {parts}")

    def worn(self) -> Iterator[Window]:
        first, left, size = len(list(self.base())), self.state // 2, min(WINDOW_KEYS, self.state // 4)
        for number in range(-(-left // size)):
            yield Window(first + number, min(size, left - number * size), f"((i + {number * size}) * {_STEP}) % {self.state}")

    def batch(self, number: int) -> Window:
        """Batch ``number``, from 1 on: of its keys the even ones are new, the odd ones stand already."""
        new = self.keys // 2
        stands = self.state + (number - 1) * new
        first = len(list(self.base())) + len(list(self.worn()))
        place = f"(CASE WHEN i < {self.keys} THEN i ELSE hash(i) % {self.keys} END)::BIGINT"
        old = f"((k // 2 + {number * 7_919}) * {_STEP}) % {stands}"
        return Window(
            first + number - 1,
            self.events,
            f"(SELECT CASE WHEN k < {2 * new} AND k % 2 = 0 THEN {stands} + k // 2 ELSE {old} END FROM (SELECT {place} AS k))",
        )

    def known(self, batches: int) -> int:
        """Keys in the state after so many batches."""
        return self.state + batches * (self.keys // 2)


def key_of(number: int) -> str:
    return f"ORD-{number:010d}"


def write_events(window: Window, file: Path) -> None:
    """The events of a window as a Parquet file, in an order of their own."""
    with duckdb.connect(config={"threads": 2, "memory_limit": "4GB"}) as connection:
        connection.execute(f"""
            COPY (
                SELECT 'W{window.number}-' || lpad(CAST(i AS VARCHAR), 10, '0') AS event_id,
                       'ORD-' || lpad(CAST({window.key} AS VARCHAR), 10, '0') AS order_id,
                       ['INVOICE', 'INVOICE', 'PAYMENT', 'PAYMENT', 'REFUND'][1 + CAST(hash(i + {window.number}) % 5 AS INTEGER)] AS
                       event_type, (CAST(hash(i + 2) % 1000000 AS DECIMAL(18, 2)) / 100)::DECIMAL(18, 2) AS amount, ['EUR', 'USD',
                       'GBP'][1 + CAST(hash(i + 3) % 3 AS INTEGER)] AS currency, strftime(TIMESTAMP '{window.name[:16].replace("T", " ")}'
                       + to_seconds(CAST(hash(i + 4) % 3600 AS INTEGER)), '%Y-%m-%dT%H:%M:%SZ') AS booked_at FROM range({window.count})
                       t(i)
            ) TO '{file}' (FORMAT parquet)""")
