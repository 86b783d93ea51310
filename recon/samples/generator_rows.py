"""Draws synthetic events: orders with invoices and payments, duplicates and bad rows.

Every order has one currency and one or more events, the first an invoice. An order with several events is matched (the invoice is the sum
of the payments), broken (the invoice differs by some cents) or unpaid (all events are invoices). A duplicate repeats the row of another
event, in the same window or in a later one within ``dedupe``; each event has at most one. A rejected row has its own event id and one
mistake.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Integers = npt.NDArray[np.int64]

CURRENCIES = ("EUR", "GBP", "USD")
STATUSES = ("MATCHED", "UNPAID", "BREAK")
TYPES = ("INVOICE", "PAYMENT")
INVOICE, PAYMENT = range(2)
DEDUPE_DAYS = 31
SHARE_UNPAID, SHARE_BROKEN = 0.08, 0.12  # of the orders with several events
CENTS_MAX = 500_000  # of one payment
# The mistakes that a row may have.
GOOD, TEXT_AMOUNT, LONG_AMOUNT, BAD_TIME, NO_KEY = range(5)


@dataclass(frozen=True)
class Orders:
    """The expected results, one entry per order: cents billed and paid, number of payments and of accepted events, index in CURRENCIES."""

    billed: Integers
    paid: Integers
    payments: Integers
    lines: Integers
    currency: Integers

    def statuses(self) -> Integers:
        """Each order's index in STATUSES, by the rules in recon.yaml."""
        import numpy as np

        matched = self.billed == self.paid
        found: Integers = np.where(matched, 0, np.where(self.payments == 0, 1, 2))
        return found


@dataclass(frozen=True)
class Rows:
    """Every row that lands: event number, order, type, cents, number of the window, seconds from the start of the grid.

    ``wrong``: the row's mistake, or GOOD. ``copy_of_window``: the window of the event that a duplicate repeats, else -1.
    """

    event: Integers
    order: Integers
    kind: Integers
    cents: Integers
    window: Integers
    second: Integers
    wrong: Integers
    copy_of_window: Integers

    def take(self, places: Integers) -> Rows:
        return Rows(**{name: column[places] for name, column in vars(self).items()})


def draw_events(draw: np.random.Generator, count: int, keys: int, windows: int, every_s: int) -> tuple[Rows, Orders]:
    """``count`` events of ``keys`` orders, sorted by order and window, and the expected results of the orders."""
    import numpy as np

    order = np.sort(np.concatenate([np.arange(keys), draw.integers(0, keys, count - keys)]))
    window = draw.integers(0, windows, count)
    window = window[np.lexsort((window, order))]
    firsts = np.searchsorted(order, np.arange(keys))
    sizes = np.diff(np.append(firsts, count))
    chance = draw.random(keys)
    all_invoices = (chance < SHARE_UNPAID) | (sizes == 1)
    broken = ~all_invoices & (chance < SHARE_UNPAID + SHARE_BROKEN)

    kind = np.where(all_invoices[order], INVOICE, PAYMENT)
    kind[firsts] = INVOICE
    cents = draw.integers(1, CENTS_MAX + 1, count)
    payments = np.where(kind == PAYMENT, cents, 0)
    paid = np.add.reduceat(payments, firsts)
    # Differs by 1 to 999 cents. At least one cent is billed, so where less is impossible it is more.
    off = draw.integers(1, 1000, keys) * np.where(draw.random(keys) < 0.5, -1, 1)
    billed_once = paid + np.where(broken, np.where(paid + off > 0, off, np.abs(off)), 0)
    settled = ~all_invoices
    cents[firsts[settled]] = billed_once[settled]

    billed = np.add.reduceat(np.where(kind == INVOICE, cents, 0), firsts)
    orders = Orders(billed, paid, np.add.reduceat((kind == PAYMENT).astype(np.int64), firsts), sizes, draw.integers(0, 3, keys))
    second = window * every_s + draw.integers(0, every_s, count)
    nothing = np.zeros(count, dtype=np.int64)
    return Rows(np.arange(count), order, kind, cents, window, second, nothing + GOOD, nothing - 1), orders


def draw_duplicates(draw: np.random.Generator, originals: Rows, count: int, windows: int, every: timedelta) -> Rows:
    """Repeats ``count`` events, about half of them in a later window that is at most DEDUPE_DAYS away."""
    import numpy as np

    chosen = originals.take(draw.choice(len(originals.event), count, replace=False))
    furthest = np.minimum(timedelta(days=DEDUPE_DAYS) // every, windows - 1 - chosen.window)
    later = np.where(draw.random(count) < 0.5, draw.integers(1, np.maximum(furthest, 1) + 1), 0)
    window = chosen.window + np.minimum(later, furthest)
    return Rows(**{**vars(chosen), "window": window, "copy_of_window": chosen.window})


def draw_rejects(draw: np.random.Generator, originals: Rows, count: int, first_event: int) -> Rows:
    """``count`` rows with a mistake, of orders and in windows that other events have too."""
    import numpy as np

    like = originals.take(draw.integers(0, len(originals.event), count))
    wrong = draw.integers(TEXT_AMOUNT, NO_KEY + 1, count)
    return Rows(**{**vars(like), "event": first_event + np.arange(count), "wrong": wrong})


def concatenated(parts: list[Rows]) -> Rows:
    import numpy as np

    return Rows(**{name: np.concatenate([vars(part)[name] for part in parts]) for name in vars(parts[0])})
