"""The text of a key that is asked for, cleaned as the rules clean it."""

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
    """The text of a key from one value a column, or from its text as it is shown, cleaned as the rules of ``place`` clean it. Raises
    WrongUsage for another number of values."""
    if len(values) == 1 and len(place.key) > 1:
        shown = _values_in(values[0])
        if len(shown) != len(place.key):
            return values[0]  # no key has this text
        values = shown
    if len(values) != len(place.key):
        raise WrongUsage(f"KEY: {len(values)} values were given; the key is {', '.join(place.key)}")
    return key_text([cleaned(value, place.cleaning.get(name, ())) for name, value in zip(place.key, values, strict=True)])


def _values_in(text: str) -> list[str]:
    """Those of a key's text; none where it is not one."""
    try:
        found = json.loads(text)
    except ValueError:
        return []
    return found if isinstance(found, list) and all(isinstance(value, str) for value in found) else []
