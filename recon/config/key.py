"""The text of the key that a user asks for, cleaned like the keys of events."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from recon.errors import WrongUsage
from recon.model.cleaning import cleaned
from recon.model.key import key_text

if TYPE_CHECKING:
    from recon.config.model import Place


def key_asked(place: Place, values: Sequence[str]) -> str:
    """The text of a key, from one value per column or from the key's displayed text, cleaned as ``place`` says. Raises WrongUsage for a
    wrong number of values."""
    if len(values) == 1 and len(place.key) > 1:
        shown = values_in(values[0])
        if shown is None or len(shown) != len(place.key):
            return values[0]  # no key has this text
        values = shown
    if len(values) != len(place.key):
        raise WrongUsage(f"KEY: {len(values)} values were given; the key is {', '.join(place.key)}")
    return key_text([cleaned(value, place.cleaning.get(name, ())) for name, value in zip(place.key, values, strict=True)])


def values_in(text: str) -> list[str] | None:
    """The values in the text of a key of several columns; None if it is no such text."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, list) and all(isinstance(value, str) for value in found) else None
