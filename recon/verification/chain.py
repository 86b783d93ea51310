"""Verifies chains: each object of a chain carries its seal and names the digest of the object before it.

The protocol: docs/decisions/018-chain.md.
"""

from __future__ import annotations

from recon.storage.documents import RESTORE
from recon.storage.sealing import SEAL, digest_of, seal_fits
from recon.verification.findings import Findings


class Chain:
    """Objects in their order. ``linked``: whether every object must name its predecessor. If not, only the objects after the first that
    does, since stores of format 3 had no links. ``of``: added to each finding after the path, such as ": window W"."""

    def __init__(self, findings: Findings, linked: bool, of: str = "") -> None:
        self._findings, self._linked, self._of = findings, linked, of
        self._before: tuple[str, str] | None = ("", "")

    def add(self, path: str, raw: bytes, previous: str | None, has_seal: bool = True) -> None:
        """Checks the next object. ``previous``: the digest that it names, None if it names none."""
        if previous is None and self._linked:
            self._findings.add(f"{path}{self._of}: it does not name the digest of the one before it: it was edited or forged; {RESTORE}")
        elif previous is not None:
            self._linked = True
            if self._before is not None and previous != self._before[1]:
                self._findings.add(self._broken(path, self._before[0]))
        if has_seal and self._linked and not seal_fits(raw):
            self._findings.add(f"{path}{self._of}: its {SEAL} does not fit, it was edited or damaged since it was written; {RESTORE}")
        self._before = (path, digest_of(raw))

    def skip(self) -> None:
        """Passes over the next object, which is gone or unreadable: the digest that its successor names cannot be compared."""
        self._before = None

    def _broken(self, path: str, before: str) -> str:
        if not before:
            return f"{path}{self._of}: it names one before it, which is gone; {RESTORE}"
        return (
            f"{path}{self._of}: it names another digest than {before} has: that one was edited, or one between them was removed; "
            "restore both from a copy of the store"
        )
