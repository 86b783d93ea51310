"""Certify: one numbered certificate per window and change, from the figures that the timeline committed.

Belongs here: making and reading certificates, the watermark. Does not belong here: counting anything (reduce and merge have).

    rows in = accepted + duplicates + rejected, and the same for money, per currency
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from recon import layout, stateless
from recon.config import Config
from recon.errors import Damaged
from recon.store import AlreadyExists, ObjectStore
from recon.timeline import State
from recon.totals import Totals
from recon.windows import name_of


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
    for name in windows:
        held = state.windows[name]
        newest = read_certificate(store, config.grid.parse(name))
        if newest is None or newest["commit"] < held["commit"]:
            made += _put(store, config, state, name, held)
        progress(1)
    return made


def uncertified(store: ObjectStore, config: Config, state: State) -> list[str]:
    """Names of the windows that a commit changed after their newest certificate, in order."""
    numbers = {path.split("/")[1]: path for path in store.list("certificates/")}  # the newest per window, as paths sort
    late = []
    for name, held in sorted(state.windows.items()):
        path = numbers.get(layout.folder_name(config.grid.parse(name)))
        if path is None or _read(store, path)["commit"] < held["commit"]:
            late.append(name)
    return late


def read_certificate(store: ObjectStore, window: datetime) -> dict[str, Any] | None:
    """The newest certificate of a window, None if it has none yet."""
    paths = list(store.list(layout.certificates(window)))
    return _read(store, paths[-1]) if paths else None


def read_certificates(store: ObjectStore, window: datetime) -> list[dict[str, Any]]:
    """All certificates of a window, oldest first."""
    return [_read(store, path) for path in store.list(layout.certificates(window))]


def ties(certificate: Mapping[str, Any]) -> list[str]:
    """What in a certificate does not tie, in words; empty if all does."""
    arrived, accepted = Totals.from_json(certificate["in"]), Totals.from_json(certificate["accepted"])
    duplicates, rejected = Totals.from_json(certificate["duplicates"]), Totals.from_json(certificate["rejected"])
    return arrived.differences(accepted + duplicates + rejected)


def watermark(config: Config, state: State) -> str | None:
    """The newest window up to which every window of the grid is committed and closed; None if the first is not."""
    window, last = config.grid.start, None
    while (held := state.windows.get(name_of(window))) is not None and held["closed"]:
        last, window = name_of(window), window + config.grid.every
    return last


def _read(store: ObjectStore, path: str) -> dict[str, Any]:
    try:
        certificate: dict[str, Any] = json.loads(store.get(path))
    except ValueError as error:
        raise Damaged(f"{path}: the certificate is damaged ({error}); restore it from a copy of the store") from None
    return certificate


def _put(store: ObjectStore, config: Config, state: State, name: str, held: Mapping[str, Any]) -> list[dict[str, Any]]:
    window = config.grid.parse(name)
    while True:
        earlier = read_certificates(store, window)
        if earlier and earlier[-1]["commit"] >= held["commit"]:
            return []  # another certified the same commit meanwhile
        number = len(earlier) + 1
        certificate = _certificate(store, config, state, name, held, number)
        try:
            store.put_new(layout.certificate(window, number), [json.dumps(certificate, indent=1).encode()])
            return [certificate]
        except AlreadyExists:
            continue


def _certificate(store: ObjectStore, config: Config, state: State, name: str, held: Mapping[str, Any], number: int) -> dict[str, Any]:
    within, earlier = Totals.from_json(held["duplicates"]), Totals.from_json(held["suppressed"])
    certificate = {
        "reconciliation": config.name,
        "window": name,
        "until": name_of(config.grid.parse(name) + config.grid.every),
        "revision": held["revision"],
        "number": number,
        "state": "CLOSED" if held["closed"] else "OPEN",
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
            },
            "merge": {"in": held["accepted"], "counted": held["counted"], "duplicates": held["suppressed"]},
        },
        "keys": held["keys"],
        "measures": held["measures"],
        "commit": held["commit"],
        "rules": state.rules,
        "changed_by": {"cause": held["cause"], "reason": held["reason"]},
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    certificate["ties"] = not ties(certificate)
    return certificate


def lag(config: Config, state: State, now: datetime) -> timedelta | None:
    """How far the watermark's end lies behind ``now``; None without a watermark."""
    held = watermark(config, state)
    return None if held is None else now - (config.grid.parse(held) + config.grid.every)
