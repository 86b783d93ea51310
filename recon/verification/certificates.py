"""Verifying certificates: numbered without gaps, tying, and each as the timeline has the commit that it names."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from recon.config import Config
from recon.errors import Damaged
from recon.model.conflicts import certified
from recon.model.totals import Totals
from recon.model.windows import name_of, parse_instant
from recon.state import reduced
from recon.state.certificates import ties
from recon.storage import layout
from recon.storage.numbered import number_of
from recon.storage.port import NotFound, ObjectStore
from recon.verification.chain import Chain
from recon.verification.findings import UNREADABLE, Findings, said
from recon.verification.timeline import History

if TYPE_CHECKING:
    from collections.abc import Callable

_WINDOW = re.compile(r"\d{4}-\d\d-\d\dT\d{4}Z\Z")
_FILE = re.compile(r"\d{6,}\.json\Z")
_COPY = "restore it from a copy of the store"
_ELSEWHERE = {"window", "number", "ties", "previous", "files"}
"""Members of a certificate that are checked by themselves."""


def check_certificates(
    store: ObjectStore, config: Config, history: History, findings: Findings, progress: Callable[[str, float], None]
) -> tuple[int, dict[str, Mapping[str, Any]]]:
    """Checks every certificate, and that every committed window has its own. Returns how many there are, and the newest per committed
    window if sound."""
    found: dict[str, list[str]] = {name: [] for name in history.windows}
    for path in store.list(layout.CERTIFICATES):
        folder, _, file = path.removeprefix(layout.CERTIFICATES).partition("/")
        if _WINDOW.match(folder) and _FILE.match(file):
            found.setdefault(layout.window_name(folder), []).append(path)
        else:
            findings.add(f"{path}: is no certificate: its name is not that of a window and a number; remove it")
    newest: dict[str, Mapping[str, Any]] = {}
    for done, (name, paths) in enumerate(sorted(found.items())):
        progress(name, done / len(found))
        held = history.windows.get(name)
        if held is not None and not paths:
            folder = layout.certificates(parse_instant(name, "window"))
            findings.add(f"{folder}: window {name} has no certificate of commit {held['commit']}; 'recon run' makes it")
        last = _check_window(store, config, name, paths, history, findings)
        if last is None or held is None:
            continue
        newest[name] = last
        if last["commit"] < held["commit"]:
            missing = layout.certificate(parse_instant(name, "window"), last["number"] + 1)
            findings.add(
                f"{missing}: window {name}: there is no certificate of commit "
                f"{held['commit']}, which changed the window since certificate {last['number']}; 'recon run' makes it"
            )
    return sum(map(len, found.values())), newest


def _check_window(
    store: ObjectStore, config: Config, name: str, paths: Sequence[str], history: History, findings: Findings
) -> Mapping[str, Any] | None:
    """Checks the certificates of one window. Returns the newest if it is sound."""
    sound: Mapping[str, Any] | None = None
    window, earlier, last = parse_instant(name, "window"), 0, number_of(max(paths, default=""))
    chain = Chain(findings, history.linked, f": window {name}")
    for number in range(1, last + 1):
        sound, path = None, layout.certificate(window, number)
        try:
            if path not in paths:
                raise Damaged(f"gone though number {last} exists")
            raw = store.get(path)
            certificate = json.loads(raw)
            wrong = _wrong(store, config, certificate, name, number, earlier, history)
            earlier = certificate["commit"]
        except UNREADABLE as error:
            chain.skip()
            findings.add(f"{path}: window {name}: the certificate cannot be read ({said(error)}); {_COPY}")
            continue
        chain.add(path, raw, certificate.get("previous"), has_seal=False)
        if wrong:
            findings.add(f"{path}: window {name}: the certificate is wrong ({'; '.join(wrong)}); {_COPY}")
        else:
            sound = certificate
    return sound


def _wrong(
    store: ObjectStore, config: Config, certificate: Mapping[str, Any], name: str, number: int, earlier: int, history: History
) -> list[str]:
    """What a certificate says that is not so. Raises one of UNREADABLE where it lacks a field."""
    wrong = [*ties(certificate)]
    if certificate["ties"] is not (not wrong):
        wrong.append(f"ties {certificate['ties']}")
    if certificate["window"] != name or certificate["number"] != number:
        wrong.append(f"it says window {certificate['window']}, number {certificate['number']}")
    commit = certificate["commit"]
    if commit <= earlier:
        wrong.append(f"it names commit {commit}, the one before it {earlier}")
    if commit > history.state.commit and history.whole:
        return [*wrong, f"it names commit {commit}, and the newest one is {history.state.commit}: the timeline has lost its newest entries"]
    held = history.changes.get(name, {}).get(commit)
    if held is None:
        # Where entries are lost, what they said cannot be asked any more.
        return wrong + ([f"commit {commit} did not change this window"] if history.whole else [])
    expected = as_certified(held)
    if "conflicts" not in held:  # earlier versions stated neither
        expected = {field: value for field, value in expected.items() if field not in ("conflicts", "unreadable", "unusual")}
    if history.linked or "entry" in certificate:
        expected |= _as_linked(store, config, name, held)
        wrong += [f"it says {field}, which no certificate says" for field in sorted({*certificate} - {*expected, *_ELSEWHERE})]
    differing = [field for field in expected if certificate[field] != expected[field]]
    return wrong + [f"{field} {_short(certificate[field])}, by commit {commit} {_short(expected[field])}" for field in differing]


def _as_linked(store: ObjectStore, config: Config, name: str, held: Mapping[str, Any]) -> dict[str, Any]:
    """What else a certificate states that is a function of its commit, in stores where it names the commit's entry."""
    until = config.grid.after(parse_instant(name, "window"))
    stated = {"reconciliation": config.name, "until": name_of(until), "entry": held["entry"], "rules": held["rules"], "time": held["time"]}
    try:
        return {**stated, "files": reduced.read(store, held["folder"]).files}
    except NotFound:
        return stated  # beyond retention.history, or named by the check of the stateless files


def as_certified(held: Mapping[str, Any]) -> dict[str, Any]:
    """A window's figures in the timeline as its certificate states them."""
    duplicates = Totals.from_json(held["duplicates"]) + Totals.from_json(held["suppressed"])
    return {
        "revision": held["revision"],
        "state": "CLOSED" if held["closed"] else "OPEN",
        **({"expected_files": held["expected"], "received_files": held["received"], "short": held["short"]} if "short" in held else {}),
        "in": held["arrived"],
        "accepted": held["counted"],
        "duplicates": duplicates.to_json(),
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
        "conflicts": certified(held),
        "unusual": held.get("unusual", {}),
        "keys": held["keys"],
        "measures": {name: total for name, total in held["measures"].items() if name not in held.get("amounts", ())},
        "commit": held["commit"],
        "changed_by": {"cause": held["cause"], "reason": held["reason"]},
    }


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:79] + "…"
