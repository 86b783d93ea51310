"""Turns the two sides of the payments into events: `python prepare.py [--by-day]`.

Both source files have the same columns, so a `side` column is added, and the event id is made from side and unique_id: both
files have the same unique_id, and without the side the second file would be a duplicate of the first.
"""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

HERE = Path(__file__).parent
SIDES = ("origin", "destination")
FIRST_DAY = "2022-01-01"
WITHIN_53_BITS = 2**53


def exact_amounts(amounts: pa.Array) -> pa.Array:
    """Doubles of two decimals → decimal(18,2), its shortest text. ValueError names the first that has more."""
    doubles = amounts.to_numpy(zero_copy_only=False)
    finite = np.isfinite(doubles) & (np.abs(doubles * 100) < WITHIN_53_BITS)
    cents = np.rint(np.where(finite, doubles, 0) * 100).astype(np.int64)
    # Division rounds correctly, so a double equals cents / 100 exactly if those two decimals are what it was read from.
    wrong = np.flatnonzero(~finite | (cents / 100 != doubles))
    if len(wrong):
        found = float(doubles[wrong[0]])
        raise ValueError(f"row {wrong[0] + 1}: amount {found!r} is not one of two decimals; correct the source file")
    whole = pa.array(cents).cast(pa.decimal128(19, 0))
    return pc.multiply(whole, pa.scalar(Decimal("0.01"))).cast(pa.decimal128(18, 2))


def events_of(side: str, source: Path) -> pa.Table:
    """One side's file → events: ground_truth, event_id, side, transaction_date, amount decimal(18,2), memo."""
    rows = pq.read_table(source)
    try:
        amounts = exact_amounts(rows["amount"].combine_chunks())
    except ValueError as reason:
        raise ValueError(f"{source.name}, {reason}") from None
    return pa.table(
        {
            "ground_truth": rows["ground_truth"],
            "event_id": pc.binary_join_element_wise(side, rows["unique_id"].cast(pa.string()), "-"),
            "side": pa.repeat(side, len(rows)),
            "transaction_date": rows["transaction_date"],
            "amount": amounts,
            "memo": rows["memo"],
        }
    )


def prepare(source: Path, events: Path, by_day: bool = False) -> dict[str, list[Path]]:
    """Writes Parquet files below ``events``; returns them by the window (``2022-01-01T00:00Z``) to land them in.

    All in one window, that of 2022-01-01, or ``by_day`` each row in the window of its transaction_date.
    """
    files: dict[str, list[Path]] = {}
    for side in SIDES:
        table = events_of(side, source / f"{side}.parquet")
        days = table["transaction_date"].unique().sort() if by_day else [None]
        for day in days:
            rows = table if day is None else table.filter(pc.equal(table["transaction_date"], day))
            date = FIRST_DAY if day is None else str(day)
            path = events / date / f"{side}-{date}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(rows, path)
            files.setdefault(f"{date}T00:00Z", []).append(path)
    return dict(sorted(files.items()))


if __name__ == "__main__":
    for window, paths in prepare(HERE / "data", HERE / "events", by_day="--by-day" in sys.argv[1:]).items():
        print("recon land", *(path.relative_to(HERE) for path in paths), "--window", window, "--close")
