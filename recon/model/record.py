"""The stored form of an artifact, one JSON line, and the full one that programs are shown.

The form is decided in docs/decisions/001-contributions-and-duplicates.md.

A million records are written, read and moved with each batch, so their form is short: names of a letter, and no member without a value.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SHORT = {"key": "k", "status": "s", "measures": "m", "derived": "v", "contributions": "c", "withdrawn": "gone", "carried": "carried"}
"""Full name → name in a stored record, in its order."""


def full(line: bytes | str, measures: Sequence[str] = (), derived: Sequence[str] = ()) -> dict[str, Any]:
    """A stored record with full names: key, status, measures, derived, contributions (w, n, d, u, ids, m), withdrawn, and
    ``carried`` where it has a block. What is named in ``measures`` and ``derived`` and has no value is None there.

    Raises ValueError, KeyError or TypeError for what is no record."""
    held = json.loads(line)
    record = {
        "key": held["k"],
        "status": held.get("s"),
        "measures": named(held["m"], measures),
        "derived": named(held["v"], derived),
        "contributions": [_contribution(c, measures) for c in held["c"]],
        "withdrawn": held.get("gone", []),
    }
    if (block := held.get("carried")) is not None:
        record["carried"] = {**block, "m": named(block["m"], measures)}
    return record


def _contribution(held: Mapping[str, Any], measures: Sequence[str]) -> dict[str, Any]:
    """With ``u``, the set of currencies, only where they are told apart."""
    currencies = {"u": held["u"]} if "u" in held else {}
    return {"w": held["w"], "n": held["n"], "d": held["d"], **currencies, "ids": held.get("ids"), "m": named(held["m"], measures)}


def named(held: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Members by name, in the order of ``names``; None for those that are not held."""
    others = (name for name in held if name not in names)
    return {name: _chosen(held.get(name)) for name in (*names, *others)}


def _chosen(value: Any) -> Any:
    """The value of a first or last with the time that it was chosen by."""
    return {"t": value["t"], "v": value["v"]} if isinstance(value, dict) else value


def stored(record: Mapping[str, Any]) -> str:
    """The line of a full record, as it is stored."""
    told = {name: value for name, value in record.items() if value is not None and (value or name != "withdrawn")}
    held = {SHORT[name]: _without_nothing(value) for name, value in told.items()}
    return json.dumps(held, ensure_ascii=False, separators=(",", ":")) + "\n"


def _without_nothing(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_nothing(held) for name, held in value.items() if held is not None}
    return [_without_nothing(held) for held in value] if isinstance(value, list) else value


def key_of(line: bytes | str) -> tuple[str, bool]:
    """The key of a stored record, and whether any window still contributes to it. Raises as ``full``."""
    held = json.loads(line)
    return str(held["k"]), bool(held["c"]) or "carried" in held


@dataclass(frozen=True)
class RecordAddress:
    """Where one record lies: ``length`` bytes from ``offset`` of ``part_file``; ``check``: see Entries."""

    part_file: str
    offset: int
    length: int
    check: int
