"""User logic: names the likely cause of a break, which the vocabulary cannot say.

Two digits that were swapped by hand make a difference that divides by nine (81.00 for 18.00 is off by 63.00); a decimal point that
slipped makes one value ten times the other.
"""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc


def name_the_cause(table: pa.Table, stage: str) -> pa.Table:
    """After merge: fills ``cause`` of every BREAK; after reduce there is nothing to do. A row's result rests on that row alone."""
    if stage == "reduce":
        return table
    breaks = pc.equal(table.column("status"), "BREAK").to_pylist()
    rows = zip(breaks, table.column("m_billed").to_pylist(), table.column("m_paid").to_pylist(), strict=True)
    causes = [_cause(billed, paid) if broken else None for broken, billed, paid in rows]
    place = table.column_names.index("x_cause")
    return table.set_column(place, table.schema.field("x_cause"), pa.array(causes, pa.string()))


def _cause(billed: Decimal | None, paid: Decimal | None) -> str:
    if billed is None or paid is None:
        return "one side is missing"
    if billed == 10 * paid or paid == 10 * billed:
        return "decimal point slipped"
    if (billed - paid) % 9 == 0:
        return "two digits swapped"
    return "unexplained"
