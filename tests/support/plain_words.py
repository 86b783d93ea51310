"""A plain encoder of records, written from docs/format.md alone: the counterpart of ``recon.model.record.full`` in tests."""

from __future__ import annotations

import json
import struct
from datetime import UTC, date, datetime
from typing import Any

from recon.model.form import Form, Slot

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def encoded(form: Form, record: dict[str, Any]) -> bytes:
    """The bytes of a record, from the dictionary that ``full`` gives."""
    listed, block = record["contributions"], record.get("carried")
    texts = Texts()
    width = 2 if is_wide(form, record) else 1
    suppressed = any(part["d"] for part in listed)
    header = header_slots(form, record, width, texts)
    contributions = b"".join(contribution(form, part, width, suppressed, texts) for part in listed)
    carried = b"" if block is None else block_part(form, block, width, texts)
    ids = [one for part in listed for one in part["ids"] or ()]
    key, gone = record["key"].encode(), record["withdrawn"]
    flags = (width == 2) | 2 * suppressed | 4 * bool(texts.content) | 8 * bool(gone) | 16 * (block is not None)
    flags |= 32 * any(part["ids"] is None for part in listed)
    status = 0 if form.statuses is None or record["status"] is None else form.statuses.index(record["status"]) + 1
    return b"".join(
        (
            struct.pack("<IIIHH", len(listed), len(ids), len(key), status, flags),
            header,
            contributions,
            struct.pack(f"<{len(ids)}Q", *ids),
            struct.pack("<Q", len(texts.content)) + filled(bytes(texts.content)) if texts.content else b"",
            filled(struct.pack(f"<Q{len(gone)}i", len(gone), *map(minutes, gone))) if gone else b"",
            carried,
            filled(key),
        )
    )


class Texts:
    """The record's texts, in the order of the slots that refer to them."""

    def __init__(self) -> None:
        self.content = bytearray()

    def add(self, text: str, width: int) -> bytes:
        """The slot of a text."""
        raw, at = text.encode(), len(self.content)
        self.content += raw
        return struct.pack("<II", at, len(raw)) + bytes(8 * (width - 1))


def is_wide(form: Form, record: dict[str, Any]) -> bool:
    found = [(item, record["measures"].get(item.name)) for item in form.measures]
    found += [(item, record["derived"].get(item.name)) for item in form.derived]
    for part in [*record["contributions"], record.get("carried", {"m": {}})]:
        values = [(item, part["m"].get(item.name)) for item in form.measures]
        found += [(item, value and value["v"] if item.is_timed else value) for item, value in values]
    numbers = [number(item, value) for item, value in found if value is not None and item.type.startswith("decimal")]
    return any(not -(1 << 63) <= one < 1 << 63 for one in numbers)


def header_slots(form: Form, record: dict[str, Any], width: int, texts: Texts) -> bytes:
    """The words of validity and the slots of the header."""
    values = [] if form.statuses is not None else [(Slot("status", "text"), record["status"])]
    values += [(item, record["measures"].get(item.name)) for item in form.measures]
    values += [(item, record["derived"].get(item.name)) for item in form.derived]
    slots = b"".join(slot(item, value, width, texts) for item, value in values)
    return validity([value is not None for _, value in values], least=1) + slots


def contribution(form: Form, part: dict[str, Any], width: int, suppressed: bool, texts: Texts) -> bytes:
    valid = [item.name in part["m"] for item in form.measures]
    near = struct.unpack("<Q", validity(valid[:32], least=1))[0]
    ids = 4294967295 if part["ids"] is None else len(part["ids"])
    head = struct.pack("<iIII", minutes(part["w"]), part["n"], ids, near)
    head += struct.pack("<Q", part["d"]) if suppressed else b""
    return head + validity(valid[32:], least=0) + measure_slots(form, part, width, texts)


def block_part(form: Form, block: dict[str, Any], width: int, texts: Texts) -> bytes:
    runs = block["runs"]
    spans = (minutes(block["first"]), minutes(block["last"]), block["windows"], len(runs), block["n"], block["d"])
    valid = validity([item.name in block["m"] for item in form.measures], least=1)
    return struct.pack("<iiIIQQ", *spans) + valid + measure_slots(form, block, width, texts) + struct.pack(f"<{len(runs)}Q", *runs)


def measure_slots(form: Form, part: dict[str, Any], width: int, texts: Texts) -> bytes:
    """The slots of a contribution or block."""
    made = b""
    if form.currency:
        made = texts.add(json.dumps(part["u"], ensure_ascii=False, separators=(",", ":")), width)
    for item in form.measures:
        value = part["m"].get(item.name)
        if item.is_timed:
            made += slot(Slot("t", "timestamp"), value and value["t"], width, texts)
            value = value and value["v"]
        made += slot(item, value, width, texts)
    return made


def slot(item: Slot, value: Any, width: int, texts: Texts) -> bytes:
    if value is None:
        return bytes(8 * width)
    if item.type == "text":
        return texts.add(value, width)
    return number(item, value).to_bytes(8 * width, "little", signed=True)


def number(item: Slot, value: Any) -> int:
    if item.type == "timestamp":
        past = datetime.fromisoformat(value) - EPOCH
        return (past.days * 86_400 + past.seconds) * 1_000_000 + past.microseconds
    if item.type == "date":
        return (date.fromisoformat(value) - EPOCH.date()).days
    return int(value.replace(".", "")) if item.type.startswith("decimal") else int(value)


def minutes(name: str) -> int:
    past = datetime.fromisoformat(name) - EPOCH
    return past.days * 1440 + past.seconds // 60


def validity(valid: list[bool], least: int) -> bytes:
    words = max(least, -(-len(valid) // 64))
    return sum(1 << place for place, one in enumerate(valid) if one).to_bytes(8 * words, "little")


def filled(part: bytes) -> bytes:
    return part + bytes(-len(part) % 8)
