"""Writes a page of HTML that needs no other file: no script, no font, nothing from a network."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from importlib.resources import files
from typing import Any


def page(template: str, values: Mapping[str, Any]) -> str:
    """The page of a template of this package, ``day.html``. Texts are escaped; a name that ``values`` lacks is an error."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"shown": _shown, "amount": _amount, "share": _share}
    return environment.from_string(files("recon.exports").joinpath(template).read_text(encoding="utf-8")).render(values)


def _shown(value: object) -> str:
    """A number with its digits in groups of three, a time in UTC; other values as they are, None as nothing."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(sep=" ", timespec="minutes").replace("+00:00", "Z")
    if isinstance(value, Decimal):
        return f"{value:,f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _amount(text: str | None) -> str:
    """An amount that is written in plain digits, as ``_shown``."""
    return "" if text is None else _shown(Decimal(text))


def _share(part: float | Decimal, whole: float | Decimal, of: float = 100) -> str:
    """``part`` of ``whole`` as a length on a scale of ``of``, for a bar."""
    return f"{of * float(part) / float(whole):.2f}" if whole else "0"
