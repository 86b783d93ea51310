"""Reads certificates, and finds windows without one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from recon.config import Config
from recon.model.totals import Totals
from recon.model.windows import name_of
from recon.state.timeline import CommittedWindow, State
from recon.storage import documents, frontiers, layout, numbered
from recon.storage.port import ObjectStore

_CERTIFIED = "certified"


def uncertified(store: ObjectStore, config: Config, state: State) -> list[str]:
    """Names of the windows that a commit changed after their newest certificate, in order of time.

    Reads one certificate for each window that changed after the commit that ``note_certified`` recorded."""
    return [name for name in maybe_uncertified(store, state) if not is_certified(store, config, name, state.windows[name])]


def note_certified(store: ObjectStore, config: Config, state: State, at_most: int = 2_000) -> None:
    """Records the newest commit up to which every window is certified. Checks at most ``at_most`` windows."""
    done, _ = frontiers.read(store, _CERTIFIED)
    upto = state.commit
    later = sorted((window.commit, name) for name, window in state.windows.items() if window.commit > done)
    for number, (commit, name) in enumerate(later):
        if number == at_most or not is_certified(store, config, name, state.windows[name]):
            upto = commit - 1
            break
    if upto > done:
        frontiers.advance(store, _CERTIFIED, upto)


def maybe_uncertified(store: ObjectStore, state: State) -> dict[str, int]:
    """Windows that changed after the commit that ``note_certified`` recorded → the commit that changed them, in order of time.

    Some may have their certificate already: see ``is_certified``."""
    done, _ = frontiers.read(store, _CERTIFIED)
    return dict(sorted((name, window.commit) for name, window in state.windows.items() if window.commit > done))


def is_certified(store: ObjectStore, config: Config, name: str, window: CommittedWindow) -> bool:
    """Whether the window's newest certificate names the commit that changed it last."""
    newest = read_certificate(store, config.grid.parse(name))
    return newest is not None and newest["commit"] >= window.commit


def read_certificate(store: ObjectStore, window: datetime) -> dict[str, Any] | None:
    """The newest certificate of a window, None if it has none yet."""
    path = numbered.newest(store, layout.certificates(window))
    return certificate_of(path, store.get(path)) if path else None


def read_certificates(store: ObjectStore, window: datetime) -> list[dict[str, Any]]:
    """All certificates of a window, oldest first."""
    return [certificate_of(path, store.get(path)) for path in store.list(layout.certificates(window))]


def ties(certificate: Mapping[str, Any]) -> list[str]:
    """Differences between rows and money in and their parts, in words; empty if the certificate ties."""
    arrived, accepted = Totals.from_json(certificate["in"]), Totals.from_json(certificate["accepted"])
    duplicates, rejected = Totals.from_json(certificate["duplicates"]), Totals.from_json(certificate["rejected"])
    return arrived.differences(accepted + duplicates + rejected)


def watermark_after(config: Config, state: State, closed: Mapping[str, bool]) -> str:
    """The newest window up to which every window of the grid is committed and closed, once ``closed`` (name → whether it is) is
    committed onto ``state``; "" if the first is not. It never moves back, as closed windows stay closed."""
    last = state.watermark
    window = config.grid.after(config.grid.parse(last)) if last else config.grid.start
    while (name := name_of(window)) in closed or name in state.windows:
        if not (closed[name] if name in closed else state.windows[name].closed):
            break
        last, window = name, config.grid.after(window)
    return last


def lag(config: Config, state: State, now: datetime) -> timedelta | None:
    """The time from the end of the watermark to ``now``; None without a watermark."""
    return now - config.grid.after(config.grid.parse(state.watermark)) if state.watermark else None


def certificate_of(path: str, raw: bytes) -> dict[str, Any]:
    """A certificate from its bytes. Raises Damaged."""
    return documents.parsed(path, raw, dict[str, Any], documents.RESTORE)


def unreadable_of(certificates: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Control total → rejected rows without a readable amount, over several certificates; only controls with such rows."""
    found: Counter[str] = Counter()
    for certificate in certificates:
        found.update(certificate["stages"]["reduce"]["unreadable"])
    return {name: rows for name, rows in found.items() if rows}
