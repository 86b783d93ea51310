"""Faults of a store that an alarm reports: windows in quarantine, and certificates that do not tie.

Each look reads the certificates of windows that changed since the last one, and some older ones, so that its cost does not grow with the
number of windows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from recon.config import Config
from recon.errors import Damaged
from recon.planning.due import due, peek
from recon.reading.caveats import waiting_caveats
from recon.state.certificates import read_certificate, ties
from recon.state.timeline import State
from recon.storage.port import ObjectStore

READ_MAX = 200
"""Windows that one look reads for the first time, about; and at most of those that did not tie, and of those without a certificate."""


@dataclass(frozen=True)
class Looked:
    """The certificates that were read so far: those of windows that a commit up to ``upto`` changed last, but for commits up to ``from_``.
    ``untied``: windows whose newest certificate does not tie or cannot be read. ``waiting``: changed windows without their certificate."""

    upto: int
    from_: int
    untied: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def of(kept: object, state: State) -> Looked:
        """From ``to_json``; at the beginning, and where it is of another store, nothing was read."""
        beginning = Looked(state.commit, state.commit)
        if not isinstance(kept, Mapping):
            return beginning
        try:
            found = Looked(int(kept["upto"]), int(kept["from_"]), tuple(map(str, kept["untied"])), tuple(map(str, kept["waiting"])))
        except (KeyError, TypeError, ValueError):
            return beginning
        return found if found.upto <= state.commit else beginning


def not_processed(store: ObjectStore, config: Config, state: State) -> int:
    """The number of closed windows that could not be processed: in quarantine, or with a manifest that cannot be read."""
    found = waiting_caveats(store, config, state, due(store, config, state, windows=peek(store, state)))
    return sum(len(caveat.windows) for caveat in found if caveat.kind in ("quarantined", "damaged"))


def look(store: ObjectStore, config: Config, state: State, before: Looked) -> Looked:
    """Reads the certificates of windows that changed since ``before``, then of older ones, the newest first, up to ``READ_MAX``; and
    again those that did not tie or were missing."""
    by_commit = sorted((window.commit, name) for name, window in state.windows.items())
    new = _some((pair for pair in by_commit if pair[0] > before.upto), READ_MAX)
    old = _some((pair for pair in reversed(by_commit) if pair[0] <= before.from_), READ_MAX - len(new))
    names = dict.fromkeys([*before.untied[:READ_MAX], *before.waiting[:READ_MAX], *(name for _, name in (*new, *old))])
    # Those that were not looked at are the first ones of the next look.
    untied, waiting = list(before.untied[READ_MAX:]), list(before.waiting[READ_MAX:])
    for name in names:
        tied = _ties(store, config, state, name) if name in state.windows else True
        (waiting if tied is None else untied if not tied else []).append(name)
    upto = new[-1][0] if len(new) >= READ_MAX else state.commit
    from_ = before.from_ if len(new) >= READ_MAX else old[-1][0] - 1 if old else 0
    return Looked(upto, from_, tuple(dict.fromkeys(untied)), tuple(dict.fromkeys(waiting)))


def _some(pairs: Iterable[tuple[int, str]], at_most: int) -> list[tuple[int, str]]:
    """The first pairs, at least ``at_most`` if there are so many, and all of the last one's commit; none for 0."""

    def cut() -> Iterator[tuple[int, str]]:
        last, number = 0, 0
        for commit, name in pairs:
            if number >= at_most and commit != last:
                return
            yield commit, name
            last, number = commit, number + 1

    return list(cut()) if at_most > 0 else []


def _ties(store: ObjectStore, config: Config, state: State, name: str) -> bool | None:
    """Whether the window's certificate ties; None if it is older than the commit that changed the window last."""
    try:
        certificate = read_certificate(store, config.grid.parse(name))
    except Damaged:
        return False
    if certificate is None or certificate["commit"] < state.windows[name].commit:
        return None
    return certificate["ties"] is True and not ties(certificate)
