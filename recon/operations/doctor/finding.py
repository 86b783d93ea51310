"""The result of one doctor check."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """``there``: whether the check passed; ``told``: its result. ``needed``: the configuration requires it. ``mend``: the command that
    fixes it."""

    name: str
    there: bool
    told: str
    needed: bool = False
    mend: str = ""
