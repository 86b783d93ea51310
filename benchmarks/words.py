"""Records as words (decision 022): encoded, decoded and joined with a window by the column, without store, DuckDB and checks.

    python benchmarks/words.py [--records 300000] [--rounds 5] [--out FILE]

Synthetic records of four sums and one derived value, 1 to 8 windows, 1 to 4 ids a window. Prints bytes a record and CPU seconds, the least
of the rounds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from command_line import options, write_figures

from recon.model.form import Form, Slot
from recon.model.record import full
from recon.records.columns import Column, Rows
from recon.records.contributions import Contributions, joined, of_records, sharing_ids, totals
from recon.records.decode import Decoder, decode
from recon.records.encode import encode
from recon.records.ranges import Ints, before, summed

MEASURES = 4
FORM = Form(
    key=("order_id",),
    grid=("2026-11-01T00:00:00+00:00", 3600, ""),
    measures=tuple(Slot(f"billed{number}", "decimal(38,2)", "sum") for number in range(MEASURES)),
    derived=(Slot("balance", "decimal(38,2)"),),
    statuses=("MATCHED", "UNPAID"),
    currency=False,
    rules="",
)


def sample(count: int, seed: int, windows: int = 8) -> Rows:
    """Records of 1 to ``windows`` windows."""
    random = np.random.default_rng(seed)
    kept = random.integers(1, windows + 1, count)
    total = int(kept.sum())
    c_ids = random.integers(1, 5, total)
    values = [random.integers(-100_000, 100_000, total) for _ in range(MEASURES)]
    sums = [summed(value, kept) for value in values]
    return Rows(
        key=pa.array([b"ORDER-%010d" % number for number in range(count)], pa.large_binary()),
        status=random.integers(1, 3, count),
        slots=[column(total) for total in (*sums, sums[0] - sums[1])],
        kept=kept,
        window=np.arange(total) - np.repeat(before(kept), kept),
        n=c_ids.copy(),
        d=np.zeros(total, np.int64),
        c_slots=[column(value) for value in values],
        c_ids=c_ids,
        ids=random.integers(0, 1 << 63, int(c_ids.sum()), dtype=np.uint64),
        withdrawn=np.zeros(count, np.int64),
        gone=np.zeros(0, np.int64),
    )


def column(values: Ints) -> Column:
    """Values that fit 64 bits."""
    return Column(values, values >> 63, np.ones(len(values), bool))


def least_cpu_s(rounds: int, work: Callable[[], Any]) -> float:
    """CPU seconds of the fastest round."""
    took = []
    for _ in range(rounds):
        begun = time.process_time()
        work()
        took.append(time.process_time() - begun)
    return round(min(took), 3)


def main() -> None:
    asked = options(__doc__, records=300_000, rounds=5)
    rows, new = sample(asked.records, 1), sample(asked.records, 2, windows=1)
    words, start, length = encode(FORM, rows)
    number = np.arange(asked.records)
    arriving = Contributions(number, np.full(asked.records, 100), new.n, new.c_ids, new.ids, new.c_slots)

    def with_a_window() -> int:
        found = joined(of_records(Decoder(FORM, words, start), number).narrow(), arriving.narrow())
        sums, wide = totals(FORM, found, found.kept)
        if wide.any() or sharing_ids(found, asked.records).any():
            raise SystemExit("the sample has values beyond 64 bits, or ids that meet")
        kept = {"kept": found.kept, "window": found.window, "n": found.n, "d": np.zeros(len(found.n), np.int64)}
        listed = {"c_slots": found.slots, "c_ids": found.counts, "ids": found.ids}
        return 8 * len(encode(FORM, replace(rows, slots=[*sums, sums[0]], **kept, **listed))[0])

    few = 8 * int(length[:1000].sum())
    as_json = [
        full(FORM, words[first : first + size].tobytes()) for first, size in zip(start[:1000].tolist(), length.tolist(), strict=False)
    ]
    found = {
        "records": asked.records,
        "contributions": int(rows.kept.sum()),
        "ids": len(rows.ids),
        "bytes_a_record": round(8 * len(words) / asked.records, 1),
        "words_beside_json": round(few / sum(len(json.dumps(one, separators=(",", ":"))) for one in as_json), 2),
        "bytes_with_a_window": with_a_window(),
        "cpu_s": {
            "encode": least_cpu_s(asked.rounds, lambda: encode(FORM, rows)),
            "decode to Arrow": least_cpu_s(asked.rounds, lambda: decode(FORM, words, start)),
            "join with a window, and encode": least_cpu_s(asked.rounds, with_a_window),
        },
    }
    print(json.dumps(found, indent=1))
    write_figures(asked.out, found)


if __name__ == "__main__":
    main()
