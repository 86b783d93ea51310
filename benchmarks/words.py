"""Records as 64-bit words (decision 022): the form, encoded and decoded a column at a time, measured beside JSON lines.

    python benchmarks/words.py [--records 300000] [--out FILE]

Synthetic records of four sums and one derived value, 1 to 8 windows, 1 to 4 ids a window. Prints bytes a record and CPU seconds of
encoding, decoding and appending one window. Nothing in ``recon`` uses the form yet.
"""

from __future__ import annotations

import argparse
import json
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

WIDE, SUPPRESSED = 1, 2
HEADER = 2
"""Words before the values."""
FIXED = 2
"""Words of a contribution before its slots, without ``d``."""


@dataclass(frozen=True)
class Form:
    """How many slots: measures, then derived values. Every slot is a decimal or an integer."""

    measures: int
    derived: int

    @property
    def values(self) -> int:
        return self.measures + self.derived


@dataclass
class Columns:
    """Records as columns. ``low`` and ``high``: the two words of each value, of shape (rows, values); ``valid``: bits of those that are
    not null.

    Contributions (``c_…``) and ids are flat, in order of records; ``contributions`` and ``c_ids`` count them."""

    key: Sequence[bytes]
    status: Ints
    low: Ints
    high: Ints
    valid: Ints
    contributions: Ints
    c_window: Ints
    c_n: Ints
    c_d: Ints
    c_low: Ints
    c_high: Ints
    c_valid: Ints
    c_ids: Ints
    ids: Words


def ranges(starts: Ints, lengths: Ints) -> Ints:
    """Indices of the ranges that begin at ``starts``, one behind another: ones added up, with a jump where a range begins."""
    some = lengths > 0
    starts, lengths = starts[some], lengths[some]
    if not len(starts):
        return np.zeros(0, np.int64)
    steps = np.ones(int(lengths.sum()), np.int64)
    steps[0] = starts[0]
    steps[np.cumsum(lengths)[:-1]] = starts[1:] - (starts[:-1] + lengths[:-1] - 1)
    return np.cumsum(steps)


def before(lengths: Ints) -> Ints:
    """Where each of ranges of these lengths begins, the first at 0."""
    return np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64) if len(lengths) else np.zeros(0, np.int64)


def summed(values: Ints, counts: Ints) -> Ints:
    """Sums of ``counts`` neighbours each."""
    totals = np.concatenate([[0], np.cumsum(values)])
    ends = np.cumsum(counts)
    return totals[ends] - totals[ends - counts]


def encode(form: Form, rows: Columns) -> tuple[Words, Ints, Ints]:
    """The words of all records, and where each begins and how many words it has."""
    count, kept = len(rows.key), rows.contributions
    per_row = np.repeat(np.arange(count), kept)
    fits = (rows.low >> 63) == rows.high
    c_fits = (rows.c_low >> 63) == rows.c_high
    wide = (~fits).any(axis=1).astype(np.int64) | (summed((~c_fits).any(axis=1).astype(np.int64), kept) > 0)
    suppressed = (summed(rows.c_d, kept) > 0).astype(np.int64)
    key_bytes = np.fromiter(map(len, rows.key), np.int64, count)
    key_words = (key_bytes + 7) >> 3
    ids = summed(rows.c_ids, kept)
    stride = FIXED + suppressed + form.measures * (1 + wide)
    header = HEADER + form.values * (1 + wide)
    length = header + kept * stride + ids + key_words
    start = before(length)
    out = np.zeros(int(length.sum()), np.uint64)
    flags = WIDE * wide | SUPPRESSED * suppressed
    out[start] = (kept | ids << 32).view(np.uint64)
    out[start + 1] = (key_bytes | rows.status << 16 | flags << 24 | rows.valid << 32).view(np.uint64)
    _put_slots(out, start + HEADER, wide, rows.low, rows.high)
    at = np.repeat(start + header - before(kept) * stride, kept) + np.arange(len(per_row)) * stride[per_row]
    out[at] = (rows.c_window | rows.c_n << 32).view(np.uint64)
    out[at + 1] = (rows.c_ids | rows.c_valid << 32).view(np.uint64)
    held = np.flatnonzero(suppressed[per_row])
    out[at[held] + FIXED] = rows.c_d[held].view(np.uint64)
    _put_slots(out, at + FIXED + suppressed[per_row], wide[per_row], rows.c_low, rows.c_high)
    ids_at = start + header + kept * stride
    out[ranges(ids_at, ids)] = rows.ids
    out.view(np.uint8)[ranges((ids_at + ids) * 8, key_bytes)] = np.frombuffer(b"".join(rows.key), np.uint8)
    return out, start, length


def _put_slots(out: Words, at: Ints, wide: Ints, low: Ints, high: Ints) -> None:
    some = np.flatnonzero(wide)
    for slot in range(low.shape[1]):
        out[at + slot * (1 + wide)] = _word(low[:, slot])
        if len(some):
            out[at[some] + 2 * slot + 1] = _word(high[some, slot])


def _word(values: Ints) -> Words:
    return np.ascontiguousarray(values).view(np.uint64)


def decode(form: Form, words: Words, start: Ints) -> Columns:
    """The columns of the records that begin at ``start``."""
    kept, ids = _halves(words[start])
    rest, valid = _halves(words[start + 1])
    key_bytes, status, flags = rest & 0xFFFF, (rest >> 16) & 0xFF, rest >> 24
    wide, suppressed = flags & WIDE, (flags & SUPPRESSED) >> 1
    stride = FIXED + suppressed + form.measures * (1 + wide)
    header = HEADER + form.values * (1 + wide)
    low, high = _slots(words, start + HEADER, wide, form.values)
    per_row = np.repeat(np.arange(len(start)), kept)
    at = np.repeat(start + header - before(kept) * stride, kept) + np.arange(len(per_row)) * stride[per_row]
    window, n = _halves(words[at])
    c_ids, c_valid = _halves(words[at + 1])
    d = np.zeros(len(at), np.int64)
    held = np.flatnonzero(suppressed[per_row])
    d[held] = words[at[held] + FIXED].view(np.int64)
    c_low, c_high = _slots(words, at + FIXED + suppressed[per_row], wide[per_row], form.measures)
    ids_at = start + header + kept * stride
    text = words.view(np.uint8)[ranges((ids_at + ids) * 8, key_bytes)].tobytes()
    ends = np.cumsum(key_bytes).tolist()
    keys = [text[first:end] for first, end in zip([0, *ends], ends, strict=False)]
    return Columns(keys, status, low, high, valid, kept, window, n, d, c_low, c_high, c_valid, c_ids, words[ranges(ids_at, ids)])


def _halves(words: Words) -> tuple[Ints, Ints]:
    signed = words.view(np.int64)
    return signed & 0xFFFFFFFF, (signed >> 32) & 0xFFFFFFFF


def _slots(words: Words, at: Ints, wide: Ints, count: int) -> tuple[Ints, Ints]:
    low, high = np.empty((len(at), count), np.int64, order="F"), np.empty((len(at), count), np.int64, order="F")
    some = np.flatnonzero(wide)
    for slot in range(count):
        low[:, slot] = words[at + slot * (1 + wide)].view(np.int64)
        high[:, slot] = low[:, slot] >> 63
        high[some, slot] = words[at[some] + 2 * slot + 1].view(np.int64)
    return low, high


Judge = Callable[[Ints, Ints], tuple[Ints, Ints, Ints]]
"""Derived values, their bits and the status, of totals and their bits."""


def append(form: Form, words: Words, start: Ints, arriving: Columns, judge: Judge) -> tuple[Words, Ints, Ints]:
    """Puts one contribution of ``arriving`` behind those of each record, in which nothing is wide or suppressed: totals are added, the
    rest is copied. Raises OverflowError where a sum needs more than 64 bits."""
    kept, ids = _halves(words[start])
    rest, valid = _halves(words[start + 1])
    key_bytes, m = rest & 0xFFFF, form.measures
    key_words, stride, header = (key_bytes + 7) >> 3, FIXED + m, HEADER + form.values
    grown = stride + arriving.c_ids
    length = header + kept * stride + ids + key_words + grown
    to = before(length)
    out = np.empty(int(length.sum()), np.uint64)
    totals = np.empty((len(start), m), np.int64, order="F")
    for slot in range(m):
        old, new = words[start + HEADER + slot].view(np.int64), arriving.c_low[:, slot]
        total = old + new
        if (((old ^ total) & (new ^ total)) < 0).any():
            raise OverflowError("a sum needs more than 64 bits: take the general way")
        totals[:, slot] = total
        out[to + HEADER + slot] = total.view(np.uint64)
    valid = valid & ((1 << m) - 1) | arriving.c_valid
    derived, bits, status = judge(totals, valid)
    for slot in range(form.derived):
        out[to + HEADER + m + slot] = _word(derived[:, slot])
    out[to] = (kept + 1 | (ids + arriving.c_ids) << 32).view(np.uint64)
    out[to + 1] = (key_bytes | status << 16 | (valid | bits << m) << 32).view(np.uint64)
    at = to + header
    out[ranges(at, kept * stride)] = words[ranges(start + header, kept * stride)]
    at = at + kept * stride
    out[at] = (arriving.c_window | arriving.c_n << 32).view(np.uint64)
    out[at + 1] = (arriving.c_ids | arriving.c_valid << 32).view(np.uint64)
    for slot in range(m):
        out[at + FIXED + slot] = _word(arriving.c_low[:, slot])
    ids_at, at = start + header + kept * stride, at + stride
    out[ranges(at, ids)] = words[ranges(ids_at, ids)]
    out[ranges(at + ids, arriving.c_ids)] = arriving.ids
    out[ranges(at + ids + arriving.c_ids, key_words)] = words[ranges(ids_at + ids, key_words)]
    return out, to, length


def record_of(form: Form, data: bytes) -> dict[str, Any]:
    """One record by ``struct`` alone, as a client without numpy reads it. Values are scaled integers, None where null."""
    kept, ids, key_bytes, status, flags, valid = struct.unpack_from("<IIHBBI", data)
    at = 8 * HEADER

    def values(count: int, bits: int) -> list[int | None]:
        nonlocal at
        width = 16 if flags & WIDE else 8
        found = [int.from_bytes(data[at + width * slot : at + width * (slot + 1)], "little", signed=True) for slot in range(count)]
        at += width * count
        return [value if bits >> slot & 1 else None for slot, value in enumerate(found)]

    totals = values(form.values, valid)
    listed = []
    for _ in range(kept):
        window, n, held, bits = struct.unpack_from("<IIII", data, at)
        at += 8 * FIXED
        d = struct.unpack_from("<Q", data, at)[0] if flags & SUPPRESSED else 0
        at += 8 if flags & SUPPRESSED else 0
        listed.append({"window": window, "n": n, "d": d, "ids": held, "values": values(form.measures, bits)})
    for one in listed:
        one["ids"] = list(struct.unpack_from(f"<{one['ids']}Q", data, at))
        at += 8 * len(one["ids"])
    assert 8 * ids == sum(8 * len(one["ids"]) for one in listed)
    return {"key": data[at : at + key_bytes].decode(), "status": status, "values": totals, "contributions": listed}


@dataclass
class Clock:
    """CPU seconds by step; the least of the rounds."""

    least: dict[str, float] = field(default_factory=dict)

    def time(self, step: str, work: Callable[[], Any]) -> Any:
        begun = time.process_time()
        done = work()
        took = time.process_time() - begun
        self.least[step] = min(took, self.least.get(step, took))
        return done


def sample(form: Form, count: int, seed: int, windows: int = 8) -> Columns:
    """Synthetic records: 1 to ``windows`` windows each, 1 to 4 ids a window, sums of cents."""
    random = np.random.default_rng(seed)
    kept = random.integers(1, windows + 1, count)
    total = int(kept.sum())
    c_ids = random.integers(1, 5, total)
    low = np.asfortranarray(random.integers(-100_000, 100_000, (total, form.measures)))
    totals = np.column_stack([summed(np.ascontiguousarray(low[:, slot]), kept) for slot in range(form.measures)])
    values = np.asfortranarray(np.column_stack([totals, np.repeat(totals[:, :1] - totals[:, 1:2], form.derived, axis=1)]))
    every, all_m = (1 << form.values) - 1, (1 << form.measures) - 1
    return Columns(
        key=[b"ORDER-%010d" % number for number in range(count)],
        status=random.integers(1, 4, count),
        low=values,
        high=values >> 63,
        valid=np.full(count, every),
        contributions=kept,
        c_window=np.arange(total) - np.repeat(before(kept), kept),
        c_n=c_ids.copy(),
        c_d=np.zeros(total, np.int64),
        c_low=low,
        c_high=low >> 63,
        c_valid=np.full(total, all_m),
        c_ids=c_ids,
        ids=random.integers(0, 1 << 63, int(c_ids.sum()), dtype=np.uint64),
    )


def as_json(form: Form, words: Words, start: Ints, length: Ints) -> int:
    """Bytes of the same records as JSON lines in the short form of decision 001."""
    data, size = words.view(np.uint8), 0
    for first, count in zip(start.tolist(), length.tolist(), strict=True):
        one = record_of(form, data[8 * first : 8 * (first + count)].tobytes())
        listed = [
            {"w": "2026-11-01T00:00Z", "n": c["n"], "d": c["d"], "ids": c["ids"], "m": _members(c["values"])} for c in one["contributions"]
        ]
        held = {"k": one["key"], "s": "MATCHED", "m": _members(one["values"]), "v": {}, "c": listed}
        size += len(json.dumps(held, separators=(",", ":"))) + 1
    return size


def _members(values: Sequence[int]) -> dict[str, str]:
    return {f"billed{slot}": f"{value / 100:.2f}" for slot, value in enumerate(values)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    form, clock = Form(4, 1), Clock()
    rows = sample(form, asked.records, 1)
    arriving = sample(form, asked.records, 2, windows=1)
    arriving.c_window[:] = 100

    def judge(totals: Ints, valid: Ints) -> tuple[Ints, Ints, Ints]:
        balance = totals[:, 0] - totals[:, 1]
        return balance[:, None], np.ones(len(balance), np.int64), np.where(balance == 0, 1, 2)

    words, start, length = encode(form, rows)
    for _ in range(asked.rounds):
        clock.time("encode", lambda: encode(form, rows))
        clock.time("decode", lambda: decode(form, words, start))
        clock.time("append one window", lambda: append(form, words, start, arriving, judge))
    grown, _, _ = append(form, words, start, arriving, judge)
    few = min(10_000, asked.records)
    found = {
        "records": asked.records,
        "contributions": int(rows.contributions.sum()),
        "ids": len(rows.ids),
        "bytes_a_record": round(8 * len(words) / asked.records, 1),
        "bytes_a_record_as_json": round(as_json(form, words, start[:few], length[:few]) / few, 1),
        "cpu_s": {step: round(took, 3) for step, took in clock.least.items()},
        "bytes_appended": 8 * len(grown),
    }
    print(json.dumps(found, indent=1))
    if asked.out:
        asked.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
