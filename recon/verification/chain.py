"""Verifying chains: that each object of a chain bears its seal and names the digest of the one before it.

The protocol: docs/decisions/018-chain.md.
"""

from __future__ import annotations

from recon.storage.sealing import SEAL, digest_of, seal_fits
from recon.verification.findings import Findings

_COPY = "restore it from a copy of the store"


class Chain:
    """Objects in their order. ``linked``: whether each must name the one before it; else only those after the first that does, since stores
    of format 3 had no links. ``of``: what the findings say of each object, such as ": window W"."""

    def __init__(self, findings: Findings, linked: bool, of: str = "") -> None:
        self._findings, self._linked, self._of = findings, linked, of
        self._before: tuple[str, str] | None = ("", "")

    def add(self, path: str, raw: bytes, previous: str | None, has_seal: bool = True) -> None:
        """The next object; ``previous``: the digest that it names, None where it names none."""
        if previous is None and self._linked:
            self._findings.add(f"{path}{self._of}: it does not name the digest of the one before it: it was edited or forged; {_COPY}")
        elif previous is not None:
            self._linked = True
            if self._before is not None and previous != self._before[1]:
                self._findings.add(self._broken(path, self._before[0]))
        if has_seal and self._linked and not seal_fits(raw):
            self._findings.add(f"{path}{self._of}: its {SEAL} does not fit, it was edited or damaged since it was written; {_COPY}")
        self._before = (path, digest_of(raw))

    def skip(self) -> None:
        """The next object is gone or cannot be read: what its successor names cannot be compared."""
        self._before = None

    def _broken(self, path: str, before: str) -> str:
        if not before:
            return f"{path}{self._of}: it names one before it, which is gone; {_COPY}"
        return (
            f"{path}{self._of}: it names another digest than {before} has: that one was edited, or one between them was removed; "
            "restore both from a copy of the store"
        )
