"""One mutant."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """``new`` in place of ``old``. ``why``: what goes wrong then. ``tests``: below ``tests/``; one of them must fail."""

    module: str
    why: str
    old: str
    new: str
    tests: tuple[str, ...]
