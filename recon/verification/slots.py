"""The slots of records as Arrow arrays, for ``recon.verification.words``. The form: docs/format.md."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recon.model.form import Slot

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Words = npt.NDArray[np.uint64]

_LOW = np.uint64(0xFFFFFFFF)
_INSTANT = Slot("t", "timestamp")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAYS = [(datetime(year, month, day, tzinfo=UTC) - _EPOCH).days for year, month, day in ((1, 1, 1), (9999, 12, 31))]
FIRST_MINUTE = _DAYS[0] * 1440
"""The beginning of the year 1 in minutes since 1970."""
_DAY = 86_400_000_000
_BOUNDS = {"boolean": (0, 1), "date": (_DAYS[0], _DAYS[1]), "timestamp": (_DAYS[0] * _DAY, (_DAYS[1] + 1) * _DAY - 1)}
"""The least and the greatest number of a type."""


@dataclass
class Faults:
    """What is wrong with records. ``broken``: of each record, whether it can't be decoded. ``reasons``: record → the first fault found."""

    broken: Bools
    reasons: dict[int, str] = field(default_factory=dict)

    def add(self, rows: Ints, reason: str, broken: bool = False) -> None:
        for row in np.unique(rows).tolist():
            if broken and not self.broken[row]:
                self.reasons[row] = reason
                self.broken[row] = True
            self.reasons.setdefault(row, reason)


@dataclass
class Place:
    """The slots of many headers, contributions or blocks. ``of``: their records. ``at``: the word of the next slot of each; reading a slot
    moves it on."""

    of: Ints
    at: Ints


class Slots:
    """Reads slots. For each record: ``row``, its number among the faults; ``wide``; ``text_at`` and ``text_bytes``, where its texts begin
    and how many bytes they have."""

    def __init__(self, words: Words, faults: Faults, row: Ints, wide: Bools, texts: tuple[Ints, Ints]) -> None:
        self._words, self._faults, self._row, self._wide = words, faults, row, wide
        self._text_at, self._text_bytes = texts
        self._has_wide = bool(wide.any())
        self.needs_two = np.zeros(len(row), bool)
        """For each record, whether a decimal needs two words."""
        self._texts: list[tuple[Ints, Ints, Ints, Ints]] = []

    def read(self, item: Slot, place: Place, valid: Bools) -> pa.Array:
        """The values of a slot of the header, or of a measure without a time."""
        low, high = self._next(place)
        self._check_null(place, valid, low, high)
        if item.type == "text":
            return self._text(place, valid, low, high)
        value, sign = low.view(np.int64), low.view(np.int64) >> 63
        if item.type.startswith("decimal"):
            return self._decimal(item, place, valid, low, high)
        least, greatest = _BOUNDS.get(item.type, (-(1 << 63), (1 << 63) - 1))
        fits = (high == sign) & (value >= least) & (value <= greatest)
        valid = self._kept(place, valid, fits, f"a value of the type {item.type} has the number of none")
        value = np.where(valid, value, 0)
        if item.type == "boolean":
            return pa.array(value == 1, mask=~valid)
        if item.type == "date":
            return pa.array(value.astype(np.int32), mask=~valid).cast(pa.date32())
        whole = pa.array(value, pa.int64(), mask=~valid)
        return whole.cast(pa.timestamp("us", "UTC")) if item.type == "timestamp" else whole

    def read_measure(self, item: Slot, place: Place, valid: Bools) -> pa.Array:
        """The values of a measure; first and last as structs of ``t`` and ``v``."""
        if not item.is_timed:
            return self.read(item, place, valid)
        time, value = self.read(_INSTANT, place, valid), self.read(item, place, valid)
        return pa.StructArray.from_arrays([time, value], ["t", "v"], mask=pa.array(~valid))

    def read_currencies(self, place: Place) -> pa.Array:
        """Sets of currencies as lists of texts. There are few different ones, so each of them is parsed once."""
        texts = self.read(Slot("u", "text"), place, np.ones(len(place.of), bool)).dictionary_encode()
        codes = texts.indices.fill_null(0).to_numpy()
        sets: list[list[str]] = []
        for code, text in enumerate(texts.dictionary.to_pylist()):
            found = _set_of(text)
            sets.append(found or [])
            if found is None or json.dumps(sorted(set(found)), ensure_ascii=False, separators=(",", ":")) != text:
                rows = self._row[place.of[codes == code]]
                self._faults.add(rows, "a set of currencies is not in its form", broken=found is None)
        return pa.array(sets or [[]], pa.list_(pa.string())).take(pa.array(codes))

    def text_of(self, start: Ints, size: Ints, of: Ints, valid: Bools) -> pa.Array:
        """The texts of ``size`` bytes from the bytes ``start`` on. A text that is not UTF-8 makes its record a broken one."""
        size = np.where(valid, size, 0)
        bounds = np.concatenate([[0], np.cumsum(size)])
        content = self._words.view(np.uint8)[ranges(start, size)]
        mask = pa.py_buffer(np.packbits(valid, bitorder="little"))
        found = pa.Array.from_buffers(pa.large_string(), len(size), [mask, pa.py_buffer(bounds), pa.py_buffer(content)])
        try:
            found.validate(full=True)
            return found
        except pa.ArrowInvalid:
            raw = found.view(pa.large_binary()).to_pylist()
            good = np.array([one is None or _is_text(one) for one in raw], bool)
            self._faults.add(self._row[of[~good]], "a text is not UTF-8", broken=True)
            return pa.array(
                [one.decode() if fine and one is not None else None for one, fine in zip(raw, good, strict=True)], pa.large_string()
            )

    def check_texts(self) -> None:
        """Checks that the texts lie one behind another, in the order of the slots that refer to them, and that there are no others."""
        at, of, offset, size = (np.concatenate([part[n] for part in self._texts] or [np.zeros(0, np.int64)]) for n in range(4))
        order = np.argsort(at)
        of, offset, size = of[order], offset[order], size[order]
        before = np.cumsum(size) - size
        first = np.searchsorted(of, of)
        total = np.bincount(of, size, len(self._row)).astype(np.int64)
        wrong = np.concatenate([of[offset != before - before[first]], np.flatnonzero(total != self._text_bytes)])
        self._faults.add(self._row[wrong], "its texts are not in the order of their slots")

    def _next(self, place: Place) -> tuple[Words, Ints]:
        """The lower word of each slot, and the upper one: in a narrow record the sign of the lower."""
        low = self._words[place.at]
        high = low.view(np.int64) >> 63
        if not self._has_wide:
            place.at = place.at + 1
            return low, high
        wide = self._wide[place.of]
        high[wide] = self._words[place.at[wide] + 1].view(np.int64)
        place.at = place.at + np.where(wide, 2, 1)
        return low, high

    def _check_null(self, place: Place, valid: Bools, low: Words, high: Ints) -> None:
        wrong = ~valid & ((low != 0) | (high != 0))
        if wrong.any():
            self._faults.add(self._row[place.of[wrong]], "the slot of a null is not 0")

    def _kept(self, place: Place, valid: Bools, fits: Bools, reason: str) -> Bools:
        """``valid`` without the values that do not fit; their records are broken."""
        wrong = valid & ~fits
        if wrong.any():
            self._faults.add(self._row[place.of[wrong]], reason, broken=True)
        return valid & fits

    def _decimal(self, item: Slot, place: Place, valid: Bools, low: Words, high: Ints) -> pa.Array:
        digits, scale = (int(text) for text in item.type.removeprefix("decimal(").removesuffix(")").split(","))
        value, fits, most = low.view(np.int64), np.ones(len(low), bool), 10**digits - 1
        large = high != value >> 63
        if digits < 19:
            fits = ~large & (value <= most) & (value >= -most)
        else:
            for row in np.flatnonzero(large & valid).tolist():
                fits[row] = -most <= (int(high[row]) << 64) + int(low[row]) <= most
        valid = self._kept(place, valid, fits, f"a value has more digits than {item.type}")
        self.needs_two[place.of[large & valid]] = True
        pairs = np.zeros((len(low), 2), np.int64)
        pairs[valid, 0], pairs[valid, 1] = value[valid], high[valid]
        mask = pa.py_buffer(np.packbits(valid, bitorder="little"))
        return pa.Array.from_buffers(pa.decimal128(digits, scale), len(low), [mask, pa.py_buffer(pairs)])

    def _text(self, place: Place, valid: Bools, low: Words, high: Ints) -> pa.Array:
        of, offset, size = place.of, (low & _LOW).astype(np.int64), (low >> np.uint64(32)).astype(np.int64)
        if self._has_wide:
            self._faults.add(self._row[of[self._wide[of] & (high != 0)]], "the second word of a text is not 0")
        valid = self._kept(place, valid, offset + size <= self._text_bytes[of], "a text lies outside the record's texts")
        width = np.where(self._wide[of], 2, 1)
        self._texts.append(((place.at - width)[valid], of[valid], offset[valid], size[valid]))
        return self.text_of(8 * self._text_at[of] + offset, size, of, valid)


def ranges(starts: Ints, lengths: Ints) -> Ints:
    """The numbers in the ranges of ``lengths`` from ``starts`` on, one range behind another."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))


def table_of(columns: Sequence[tuple[str, Any]]) -> pa.Table:
    return pa.table([array for _, array in columns], names=[name for name, _ in columns])


def _is_text(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _set_of(text: str | None) -> list[str] | None:
    """The members of a set of currencies; None if the text is none."""
    try:
        found = json.loads(text or "")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) and all(isinstance(one, str) for one in found) else None
