"""Certify: one numbered certificate per window and change, from the figures that the timeline committed.

Belongs here: making and reading certificates, the watermark. Does not belong here: counting anything (reduce and merge have).

    rows in = accepted + duplicates + rejected, and the same for money, per currency
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from recon import stateless
from recon.config import Config
from recon.errors import Damaged
from recon.model import conflicts
from recon.model.totals import Totals
from recon.model.windows import name_of
from recon.storage import frontiers, layout
from recon.storage.port import AlreadyExists, ObjectStore
from recon.storage.sealing import digest_of
from recon.timeline import Held, State, committed_figures

_CERTIFIED = "certified"


def certify(
    store: ObjectStore,
    config: Config,
    state: State,
    windows: Iterable[str],
    progress: Callable[[int], None] = lambda windows: None,
) -> list[dict[str, Any]]:
    """Certifies each window (by name) whose newest certificate does not name the commit that last changed it. Returns the new ones.

    Certificates are numbered and never overwritten; running it again adds nothing."""
    made = []
    for name, held in committed_figures(store, state, windows).items():
        newest = read_certificate(store, config.grid.parse(name))
        if newest is None or newest["commit"] < held["commit"]:
            made += _put(store, config, name, held)
        progress(1)
    return made


def uncertified(store: ObjectStore, config: Config, state: State) -> list[str]:
    """Names of the windows that a commit changed after their newest certificate, in order of time.

    Costs the windows that changed since the commit up to which all are known to be certified; see ``note_certified``."""
    return [name for name in maybe_uncertified(store, state) if not is_certified(store, config, name, state.windows[name])]


def note_certified(store: ObjectStore, config: Config, state: State, at_most: int = 2_000) -> None:
    """Notes the newest commit up to which every window is certified, for whoever asks next. Looks at no more than ``at_most`` windows."""
    done, _ = frontiers.read(store, _CERTIFIED)
    upto = state.commit
    later = sorted((held.commit, name) for name, held in state.windows.items() if held.commit > done)
    for number, (commit, name) in enumerate(later):
        if number == at_most or not is_certified(store, config, name, state.windows[name]):
            upto = commit - 1
            break
    if upto > done:
        frontiers.advance(store, _CERTIFIED, upto)


def maybe_uncertified(store: ObjectStore, state: State) -> dict[str, int]:
    """Windows that changed after the commit up to which all are certified → the commit that changed them, in order of time.

    Some may have their certificate already: whoever takes them looks at those that it takes, see ``is_certified``."""
    done, _ = frontiers.read(store, _CERTIFIED)
    return dict(sorted((name, held.commit) for name, held in state.windows.items() if held.commit > done))


def is_certified(store: ObjectStore, config: Config, name: str, held: Held) -> bool:
    """Whether the window's newest certificate names the commit that changed it last."""
    newest = read_certificate(store, config.grid.parse(name))
    return newest is not None and newest["commit"] >= held.commit


def read_certificate(store: ObjectStore, window: datetime) -> dict[str, Any] | None:
    """The newest certificate of a window, None if it has none yet."""
    paths = list(store.list(layout.certificates(window)))
    return _certificate_of(paths[-1], store.get(paths[-1])) if paths else None


def read_certificates(store: ObjectStore, window: datetime) -> list[dict[str, Any]]:
    """All certificates of a window, oldest first."""
    return [_certificate_of(path, store.get(path)) for path in store.list(layout.certificates(window))]


def ties(certificate: Mapping[str, Any]) -> list[str]:
    """What in a certificate does not tie, in words; empty if all does."""
    arrived, accepted = Totals.from_json(certificate["in"]), Totals.from_json(certificate["accepted"])
    duplicates, rejected = Totals.from_json(certificate["duplicates"]), Totals.from_json(certificate["rejected"])
    return arrived.differences(accepted + duplicates + rejected)


def watermark_after(config: Config, state: State, closed: Mapping[str, bool]) -> str:
    """The newest window up to which every window of the grid is committed and closed, once ``closed`` (name → whether it is) is
    committed onto ``state``; "" if the first is not. It never moves back: nothing opens a closed window again."""
    last = state.watermark
    window = config.grid.after(config.grid.parse(last)) if last else config.grid.start
    while (name := name_of(window)) in closed or name in state.windows:
        if not (closed[name] if name in closed else state.windows[name].closed):
            break
        last, window = name, config.grid.after(window)
    return last


def _certificate_of(path: str, raw: bytes) -> dict[str, Any]:
    try:
        certificate: dict[str, Any] = json.loads(raw)
    except ValueError as error:
        raise Damaged(f"{path}: the certificate is damaged ({error}); restore it from a copy of the store") from None
    return certificate


def _put(store: ObjectStore, config: Config, name: str, held: Mapping[str, Any]) -> list[dict[str, Any]]:
    window = config.grid.parse(name)
    while True:
        earlier = list(store.list(layout.certificates(window)))
        newest = store.get(earlier[-1]) if earlier else b""
        if newest and _certificate_of(earlier[-1], newest)["commit"] >= held["commit"]:
            return []  # another certified the same commit meanwhile
        number = _number_of(earlier[-1]) + 1 if earlier else 1
        certificate = _certificate(store, config, name, held, number, digest_of(newest) if newest else "")
        try:
            store.put_new(layout.certificate(window, number), [json.dumps(certificate, indent=1).encode()])
            return [certificate]
        except AlreadyExists:
            continue


def _number_of(path: str) -> int:
    """By its name: one before it may be lost, and no number is given twice."""
    return int(path.rpartition("/")[2].removesuffix(".json"))


def _certificate(store: ObjectStore, config: Config, name: str, held: Mapping[str, Any], number: int, previous: str) -> dict[str, Any]:
    """A function of the commit and of the certificate before, so that whoever makes it, and whenever, makes the same bytes."""
    within, earlier = Totals.from_json(held["duplicates"]), Totals.from_json(held["suppressed"])
    certificate = {
        "reconciliation": config.name,
        "window": name,
        "until": name_of(config.grid.after(config.grid.parse(name))),
        "revision": held["revision"],
        "number": number,
        "state": "CLOSED" if held["closed"] else "OPEN",
        **completeness_of(held),
        "files": stateless.read(store, held["folder"]).files,
        "in": held["arrived"],
        "accepted": held["counted"],
        "duplicates": (within + earlier).to_json(),
        "rejected": held["rejected"],
        "stages": {
            "reduce": {
                "in": held["arrived"],
                "accepted": held["accepted"],
                "duplicates": held["duplicates"],
                "conflicting": held["conflicting"],
                "rejected": held["rejected"],
                "unreadable": held["unreadable"],
                **({"without_amount": held["without_amount"]} if "without_amount" in held else {}),
            },
            "merge": {"in": held["accepted"], "counted": held["counted"], "duplicates": held["suppressed"]},
        },
        "unreadable": held["unreadable"],
        "conflicts": conflicts.certified(held),
        "unusual": held.get("unusual", {}),
        "keys": held["keys"],
        "measures": measures_of(held),
        "commit": held["commit"],
        "entry": held["entry"],
        "rules": held["rules"],
        "changed_by": {"cause": held["cause"], "reason": held["reason"]},
        "time": held["time"],
        "previous": previous,
    }
    certificate["ties"] = not ties(certificate)
    return certificate


def completeness_of(held: Mapping[str, Any]) -> dict[str, Any]:
    """The files of a window as its certificate counts them: ``expected_files`` when it was closed (None: no number), ``received_files``,
    and whether it is ``short`` of some. Nothing for a window that was committed before this was counted."""
    if "short" not in held:
        return {}
    return {"expected_files": held["expected"], "received_files": held["received"], "short": held["short"]}


def measures_of(held: Mapping[str, Any]) -> dict[str, Any]:
    """The totals of a window's measures as its certificate states them. Where events have a currency, totals of amounts are left out: they
    would go over keys of several currencies."""
    return {name: total for name, total in held["measures"].items() if name not in held.get("amounts", ())}


def lag(config: Config, state: State, now: datetime) -> timedelta | None:
    """How far the watermark's end lies behind ``now``; None without a watermark."""
    return now - config.grid.after(config.grid.parse(state.watermark)) if state.watermark else None
