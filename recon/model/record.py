"""An artifact's record: bytes of 64-bit words, read here by the standard library alone. Its form: docs/format.md.

A batch reads and writes up to a million records, by ``recon.records``; the functions here read one.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from recon.model.form import BLOCK, IDS_ABSENT, NEAR_BITS, SUPPRESSED, TEXT, WIDE, WITHDRAWN, WORD, Form, Slot

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HEADER = struct.Struct("<IIIHH")
"""Contributions, ids of all of them, bytes of the key, status, flags."""
_SHORTEST = 3 * WORD


def full(form: Form, data: bytes) -> dict[str, Any]:
    """A record as a dictionary: key, status, measures, derived, contributions (w, n, d, u, ids, m), withdrawn, and ``carried`` if it has
    contributions that are carried forward. Measures and derived values without a value are left out; decimals, dates and times are texts.

    Raises ValueError where ``data`` is no record of this form."""
    try:
        return _Reader(form, data).record()
    except (struct.error, IndexError, OverflowError) as error:
        raise ValueError(f"it is no record of its part-file's form ({error})") from None


def key_of(data: bytes) -> tuple[str, bool]:
    """The key of a record, and whether any window still contributes to it. Raises ValueError where ``data`` is no record."""
    if len(data) < _SHORTEST or len(data) % WORD:
        raise ValueError(f"a record is at least {_SHORTEST} bytes, and a multiple of {WORD}; these are {len(data)}")
    contributions, _, size, _, flags = _HEADER.unpack_from(data)
    start = len(data) - _padded(size)
    if start < _SHORTEST:
        raise ValueError(f"its key has {size} bytes, more than the record")
    return data[start : start + size].decode(), contributions > 0 or bool(flags & BLOCK)


def _padded(size: int) -> int:
    return -(-size // WORD) * WORD


class _Reader:
    """Reads one record from its first word to its last."""

    def __init__(self, form: Form, data: bytes) -> None:
        self._form, self._data = form, data
        self._contributions, self._ids, self._key_bytes, self._status, self._flags = _HEADER.unpack_from(data)
        self._at = _HEADER.size
        self._width = 2 if self._flags & WIDE else 1
        self._texts = b""

    def record(self) -> dict[str, Any]:
        # Texts lie behind the slots that refer to them, so places come first and values second.
        form, header = self._form, self._at
        self._at += WORD * (form.valid_words + self._width * len(form.slots))
        heads = [self._contribution_head() for _ in range(self._contributions)]
        ids = [None if count == IDS_ABSENT else list(self._take(f"<{count}Q")) for *_, count, _, _ in heads]
        if self._ids != sum(len(listed) for listed in ids if listed is not None):
            raise ValueError(f"its contributions have other ids than the {self._ids} of its header")
        if self._flags & TEXT:
            (size,) = self._take("<Q")
            self._texts = self._bytes(size)
        withdrawn = []
        if self._flags & WITHDRAWN:
            (count,) = self._take("<Q")
            raw = self._bytes(4 * count)
            withdrawn = [_name(minutes) for minutes in struct.unpack(f"<{count}i", raw)]
        block = self._block() if self._flags & BLOCK else None
        key = self._bytes(self._key_bytes).decode()
        if self._at != len(self._data):
            raise ValueError(f"it has {len(self._data)} bytes, {self._at} are expected")
        values, first = self._header_values(header), int(form.statuses is None)
        record: dict[str, Any] = {
            "key": key,
            "status": self._status_text(values),
            "measures": _present(form.measures, values[first : first + len(form.measures)]),
            "derived": _present(form.derived, values[first + len(form.measures) :]),
            "contributions": [
                {"w": _name(window), "n": n, "d": d, **self._measured(slots, bits, listed)}
                for (window, n, d, _, bits, slots), listed in zip(heads, ids, strict=True)
            ],
            "withdrawn": withdrawn,
        }
        if block is not None:
            record["carried"] = block
        return record

    def _contribution_head(self) -> tuple[int, int, int, int, int, int]:
        """Window, n, d, number of ids, bits of validity, place of the slots."""
        window, n, count, bits = self._take("<iIII")
        (d,) = self._take("<Q") if self._flags & SUPPRESSED else (0,)
        bits |= self._bits(self._form.far_words) << NEAR_BITS
        slots = self._at
        self._at += WORD * self._width * self._form.contribution_slots
        return window, n, d, count, bits, slots

    def _block(self) -> dict[str, Any]:
        first, last, windows, runs, n, d = self._take("<iiIIQQ")
        bits = self._bits(self._form.block_valid_words)
        slots = self._at
        self._at += WORD * self._width * self._form.contribution_slots
        listed = list(self._take(f"<{runs}Q"))
        measured = self._measured(slots, bits, None)
        del measured["ids"]
        return {"first": _name(first), "last": _name(last), "windows": windows, "runs": listed, "n": n, "d": d, **measured}

    def _measured(self, at: int, bits: int, ids: list[int] | None) -> dict[str, Any]:
        """``u``, ``ids`` and ``m`` of a contribution whose slots begin at ``at``."""
        step, found, measures = WORD * self._width, {}, {}
        if self._form.currency:
            found["u"] = _currencies(self._text(at))
            at += step
        for number, item in enumerate(self._form.measures):
            time = at
            at += step * item.is_timed
            if bits >> number & 1:
                value = self._value(item, at)
                measures[item.name] = {"t": _instant(self._number(time)), "v": value} if item.is_timed else value
            at += step
        return {**found, "ids": ids, "m": measures}

    def _header_values(self, at: int) -> list[Any]:
        bits = int.from_bytes(self._data[at : at + WORD * self._form.valid_words], "little")
        at += WORD * self._form.valid_words
        places = enumerate(self._form.slots)
        return [self._value(item, at + WORD * self._width * number) if bits >> number & 1 else None for number, item in places]

    def _status_text(self, values: Sequence[Any]) -> str | None:
        if self._form.statuses is None:
            return None if values[0] is None else str(values[0])
        return self._form.statuses[self._status - 1] if self._status else None

    def _value(self, item: Slot, at: int) -> Any:
        if item.type == "text":
            return self._text(at)
        number = self._number(at)
        if item.scale is not None:
            return _decimal(number, item.scale)
        if item.type == "boolean":
            return bool(number)
        if item.type == "date":
            return (date(1970, 1, 1) + timedelta(days=number)).isoformat()
        return _instant(number) if item.type == "timestamp" else number

    def _number(self, at: int) -> int:
        return int.from_bytes(self._data[at : at + WORD * self._width], "little", signed=True)

    def _text(self, at: int) -> str:
        start, size = struct.unpack_from("<II", self._data, at)
        if start + size > len(self._texts):
            raise ValueError("a text lies outside the record's texts")
        return self._texts[start : start + size].decode()

    def _bits(self, words: int) -> int:
        bits = int.from_bytes(self._data[self._at : self._at + WORD * words], "little")
        self._at += WORD * words
        return bits

    def _take(self, kinds: str) -> tuple[Any, ...]:
        found = struct.unpack_from(kinds, self._data, self._at)
        self._at += struct.calcsize(kinds)
        return found

    def _bytes(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._data):
            raise ValueError(f"a part of {size} bytes lies outside the record")
        found = self._data[self._at : end]
        self._at += _padded(size)
        return found


def _currencies(text: str) -> list[str]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise ValueError(f"its set of currencies is {text[:40]!r}")
    return found


def _present(items: Sequence[Slot], values: Sequence[Any]) -> dict[str, Any]:
    return {item.name: value for item, value in zip(items, values, strict=True) if value is not None}


def _name(minutes: int) -> str:
    """The name of the window that starts this many minutes after the beginning of 1970."""
    return (_EPOCH + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%MZ")


def _instant(microseconds: int) -> str:
    instant = _EPOCH + timedelta(microseconds=microseconds)
    return instant.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _decimal(number: int, scale: int) -> str:
    digits = str(abs(number)).zfill(scale + 1)
    text = f"{digits[:-scale]}.{digits[-scale:]}" if scale else digits
    return f"-{text}" if number < 0 else text


def named(values: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """``values`` in the order of ``names``, None for names without a value; other members follow."""
    others: Iterator[str] = (name for name in values if name not in names)
    return {name: values.get(name) for name in (*names, *others)}


@dataclass(frozen=True)
class RecordAddress:
    """The position of a record: ``length`` bytes at ``offset`` of ``part_file``. ``check``: checksum of its bytes, see Entries."""

    part_file: str
    offset: int
    length: int
    check: int
