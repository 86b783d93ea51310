"""What the doctor says of one thing that it has looked at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. ``needed``: the configuration asks for it. ``mend``: the one command, where it is not there."""

    name: str
    there: bool
    told: str
    needed: bool = False
    mend: str = ""
