"""An artifact's record: its stored form, one line of JSON, and its full form, which programs get.

Each batch reads and writes up to a million records, so the stored form is short: names of one letter, and no member without a value. See
docs/decisions/001-contributions-and-duplicates.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SHORT = {"key": "k", "status": "s", "measures": "m", "derived": "v", "contributions": "c", "withdrawn": "gone", "carried": "carried"}
"""Full name → name in a stored record, in the order of its members."""


def full(line: bytes | str, measures: Sequence[str] = (), derived: Sequence[str] = ()) -> dict[str, Any]:
    """A stored record with full names: key, status, measures, derived, contributions (w, n, d, u, ids, m), withdrawn, and
    ``carried`` if the record has carried-forward contributions. Each name in ``measures`` and ``derived`` is a member, None without value.

    Raises ValueError, KeyError or TypeError if ``line`` is no record."""
    short = json.loads(line)
    record = {
        "key": short["k"],
        "status": short.get("s"),
        "measures": named(short["m"], measures),
        "derived": named(short["v"], derived),
        "contributions": [_contribution(c, measures) for c in short["c"]],
        "withdrawn": short.get("gone", []),
    }
    if (block := short.get("carried")) is not None:
        record["carried"] = {**block, "m": named(block["m"], measures)}
    return record


def _contribution(short: Mapping[str, Any], measures: Sequence[str]) -> dict[str, Any]:
    """``u``, the set of currencies, is a member only if the rules name a currency column."""
    currencies = {"u": short["u"]} if "u" in short else {}
    return {"w": short["w"], "n": short["n"], "d": short["d"], **currencies, "ids": short.get("ids"), "m": named(short["m"], measures)}


def named(values: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """``values`` in the order of ``names``, None for names without a value; other members follow."""
    others = (name for name in values if name not in names)
    return {name: _chosen(values.get(name)) for name in (*names, *others)}


def _chosen(value: Any) -> Any:
    """A value of a first or last measure keeps only the value and its event's time."""
    return {"t": value["t"], "v": value["v"]} if isinstance(value, dict) else value


def stored(record: Mapping[str, Any]) -> str:
    """The stored line of a full record."""
    members = {name: value for name, value in record.items() if value is not None and (value or name != "withdrawn")}
    short = {SHORT[name]: _without_nulls(value) for name, value in members.items()}
    return json.dumps(short, ensure_ascii=False, separators=(",", ":")) + "\n"


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_nulls(member) for name, member in value.items() if member is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def key_of(line: bytes | str) -> tuple[str, bool]:
    """The key of a stored record, and whether any window still contributes to it. Raises like ``full``."""
    short = json.loads(line)
    return str(short["k"]), bool(short["c"]) or "carried" in short


@dataclass(frozen=True)
class RecordAddress:
    """The position of a record: ``length`` bytes at ``offset`` of ``part_file``. ``check``: checksum of its key and bytes, see Entries."""

    part_file: str
    offset: int
    length: int
    check: int
